# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files of networkd, NetworkManager, ifupdown, netplan and ifcfg, as their manuals print them, against links of the kernel."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.netops.fleet.plugins.module_utils._diagnosis import configured
from ansible_collections.netops.fleet.plugins.module_utils._diagnosis.facts import Facts
from ansible_collections.netops.fleet.plugins.module_utils._evidence import configured as reader
from ansible_collections.netops.fleet.plugins.module_utils._evidence import ifcfg
from tests.unit.hosts import healthy, link

LINKS = [link("lo", index=1, physical=False), link("eth0", index=2), link("eth1", index=3)]
INTERFACES = """
# The loopback network interface
auto lo
iface lo inet loopback
source interfaces.d/*

auto eth0
iface eth0 inet static
    address 192.0.2.11
    netmask 255.255.255.0
    gateway 192.0.2.1
    # address 192.0.2.99
iface eth0 inet6 static
    address 2001:DB8:0::11/64
allow-hotplug usb0
iface usb0 inet dhcp
"""
PROFILE = """
[connection]
id=lan
uuid=7a5a
type=ethernet
interface-name=eth0
[802-1x]
password=opensesame
[ipv4]
address1=192.0.2.11/24,192.0.2.1
address2=192.0.2.12/24
dns=192.0.2.53;
method=manual
[ipv6]
method=auto
"""


def files(root: Path, **content: str) -> None:
    for name, text in content.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def told(root: Path, *links: dict[str, Any]) -> list[tuple[str, str]]:
    data = reader.read(LINKS, str(root)).data
    evidence = healthy(configured=data, **({"links": [*links]} if links else {"links": LINKS}))
    return [(one.severity, one.summary) for one in configured.find(Facts(evidence))]


def test_ifupdown(tmp_path: Path) -> None:
    files(tmp_path, **{"etc/network/interfaces": INTERFACES})
    assert reader.read(LINKS, str(tmp_path)).data["links"] == [], "it never ran here"
    files(tmp_path, **{"run/network/ifstate": "lo=lo\neth0=eth0\n"})
    assert reader.read(LINKS, str(tmp_path)).data["links"] == [
        {"manager": "ifupdown", "file": "/etc/network/interfaces", "link": "eth0", "state": None, "dhcp4": False,
         "addresses": ["192.0.2.11/24", "2001:db8::11/64"]},
    ]  # fmt: skip
    assert told(tmp_path) == []
    files(tmp_path, **{"etc/network/interfaces.d/more": "auto ens3\niface ens3 inet dhcp\nauto eth1\niface eth1 inet dhcp\n"})
    said = told(tmp_path)
    assert [severity for severity, _summary in said] == ["warning", "warning"]
    assert "bring up ens3, and there is no such link" in said[0][1]
    assert "eth1 has no IPv4 address: nobody answered" in said[1][1]


def test_a_network_manager_profile_without_its_secrets(tmp_path: Path) -> None:
    files(
        tmp_path,
        **{
            "etc/NetworkManager/system-connections/lan.nmconnection": PROFILE,
            "etc/NetworkManager/system-connections/other.nmconnection": PROFILE.replace("7a5a", "0000").replace(
                "192.0.2", "10.9.9"
            ),
            "run/NetworkManager/devices/2": "[device]\nmanaged=full\nconnection-uuid=7a5a\n",
        },
    )
    data = reader.read(LINKS, str(tmp_path)).data
    assert [one["addresses"] for one in data["links"]] == [["192.0.2.11/24", "192.0.2.12/24"]]
    assert "opensesame" not in json.dumps(data)
    assert told(tmp_path) == [
        ("warning", "/etc/NetworkManager/system-connections/lan.nmconnection (NetworkManager) gives eth0 192.0.2.12/24: "
         "the kernel does not have it so."),
    ]  # fmt: skip


IFCFG = """
# static
DEVICE="eth0"
BOOTPROTO=none   # no DHCP
ONBOOT=yes
IPADDR=192.0.2.11
NETMASK=255.255.255.0
IPADDR2=198.51.100.7
PREFIX2='24'
IPV6INIT=yes
IPV6ADDR=2001:db8::11
WPA_PSK="open
"""


def test_ifcfg_files_of_red_hat(tmp_path: Path) -> None:
    folder = "etc/sysconfig/network-scripts"
    files(tmp_path, **{f"{folder}/ifcfg-eth0": IFCFG, f"{folder}/ifcfg-lo": "DEVICE=lo\nIPADDR=127.0.0.1\n"})
    assert reader.read(LINKS, str(tmp_path)).data["links"] == [], "no service that reads them is at work"
    files(tmp_path, **{"run/lock/subsys/network": ""})
    assert reader.read(LINKS, str(tmp_path)).data["links"] == [
        {"manager": "initscripts", "file": f"/{folder}/ifcfg-eth0", "link": "eth0", "state": None, "dhcp4": False,
         "addresses": ["192.0.2.11/24", "198.51.100.7/24", "2001:db8::11/64"]},
    ]  # fmt: skip
    where = f"/{folder}/ifcfg-eth0 (initscripts) gives eth0"
    assert told(tmp_path) == [("warning", f"{where} 198.51.100.7/24: the kernel does not have it so.")]
    files(
        tmp_path,
        **{
            f"{folder}/ifcfg-eth0": IFCFG.replace("IPADDR2=198.51.100.7\n", "").replace("255.255.255.0", "255.255.0.0"),
            f"{folder}/ifcfg-eth0:1": "DEVICE=eth0:1\nONPARENT=yes\nIPADDR=10.9.9.9\n",
            f"{folder}/ifcfg-eth1": "DEVICE=eth1\nBOOTPROTO=dhcp\n",
            f"{folder}/ifcfg-eth1.rpmsave": "DEVICE=eth1\nIPADDR=10.8.8.8\n",
            f"{folder}/ifcfg-ens3": "DEVICE=ens3\nBOOTPROTO=dhcp\nONBOOT=yes\n",
            f"{folder}/ifcfg-ens4": "DEVICE=ens4\nBOOTPROTO=dhcp\nONBOOT=no\n",
        },
    )
    said = [summary for _severity, summary in told(tmp_path)]
    assert len(said) == 3
    assert "bring up ens3, and there is no such link" in said[0]
    assert "gives eth0 10.9.9.9/8, 192.0.2.11/16, in the kernel /24" in said[1]
    assert "eth1 has no IPv4 address: nobody answered" in said[2]


def test_an_ifcfg_file_that_network_manager_reads(tmp_path: Path) -> None:
    path = "etc/sysconfig/network-scripts/ifcfg-lan"
    files(
        tmp_path,
        **{
            path: IFCFG.replace('DEVICE="eth0"', "NAME=lan\nUUID=7a5a"),
            "run/NetworkManager/devices/2": "[device]\nconnection-uuid=7a5a\n",
            "run/lock/subsys/network": "",
            "etc/sysconfig/network-scripts/ifcfg-eth0": "DEVICE=eth0\nIPADDR=10.9.9.9\n",
        },
    )
    found = reader.read(LINKS, str(tmp_path)).data["links"]
    assert [(one["manager"], one["file"], one["link"]) for one in found] == [("NetworkManager", f"/{path}", "eth0")]


def test_ifcfg_files_of_suse(tmp_path: Path) -> None:
    folder = "etc/sysconfig/network"
    text = "STARTMODE='auto'\nBOOTPROTO='static'\nIPADDR='192.0.2.11/24'\nIPADDR_b='198.51.100.7'\nPREFIXLEN_b='25'\n"
    files(
        tmp_path,
        **{
            f"{folder}/ifcfg-eth0": text,
            f"{folder}/ifcfg-eth1": "STARTMODE='auto'\nBOOTPROTO='dhcp6'\n",
            f"{folder}/ifcfg-ens3": "BOOTPROTO='dhcp'\n",
        },
    )
    assert told(tmp_path) == [], "wicked does not run"
    (tmp_path / "run/wicked").mkdir(parents=True)
    assert told(tmp_path) == [
        ("warning", f"/{folder}/ifcfg-eth0 (wicked) gives eth0 198.51.100.7/25: the kernel does not have it so.")
    ]


def test_an_ifcfg_file_that_cannot_be_read_is_a_gap(tmp_path: Path) -> None:
    (tmp_path / "etc/sysconfig/network-scripts/ifcfg-eth0").mkdir(parents=True)
    assert [gap.what for gap in reader.read(LINKS, str(tmp_path)).gaps] == ["configured.ifcfg"]


def networkd(root: Path, text: str, *dropins: str, state: str = "configured") -> None:
    names = {f"etc/systemd/network/20-lan.network.d/{number}.conf": one for number, one in enumerate(dropins)}
    noted = f'NETWORK_FILE_DROPINS="{" ".join("/" + name for name in names)}"\n' if names else ""
    noted += f"ADMIN_STATE={state}\nNETWORK_FILE=/etc/systemd/network/20-lan.network\n"
    files(root, **{"etc/systemd/network/20-lan.network": text, "run/systemd/netif/links/2": noted, **names})


@pytest.mark.parametrize(
    ("text", "dropins", "wrong"),
    [
        ("[Network]\nAddress=192.0.2.11/24\nDHCP=no\n", (), None),
        ("[Network]\nAddress=192.0.2.11/16\n", (), "192.0.2.11/16, in the kernel /24"),
        ("[Network]\nAddress=198.51.100.1/24\n", ("[Network]\nAddress=\nAddress=192.0.2.11/24\n",), None),
        ("[Address]\nAddress=198.51.100.1/24\nLabel=x\n", (), "198.51.100.1/24"),
        ("# [Network]\nnonsense\n[Network\nAddress=198.51.100.1/24\n", (), None),
    ],
)
def test_networkd(tmp_path: Path, text: str, dropins: tuple[str, ...], wrong: str | None) -> None:
    networkd(tmp_path, text, *dropins)
    said = told(tmp_path)
    assert (len(said) == 1 and wrong in said[0][1]) if wrong else said == []
    networkd(tmp_path, text, *dropins, state="unmanaged")
    assert told(tmp_path) == []


def test_drop_ins_that_networkd_does_not_note(tmp_path: Path) -> None:
    networkd(tmp_path, "[Network]\nAddress=198.51.100.1/24\n")
    assert len(told(tmp_path)) == 1
    files(tmp_path, **{"usr/lib/systemd/network/20-lan.network.d/50-own.conf": "[Network]\nAddress=\nAddress=192.0.2.11/24\n"})
    assert told(tmp_path) == []
    # One of the same name in /etc is read in its place; what ends otherwise is none.
    files(tmp_path, **{"etc/systemd/network/20-lan.network.d/50-own.conf": "[Network]\nAddress=203.0.113.1/24\n"})
    files(tmp_path, **{"etc/systemd/network/20-lan.network.d/60-own.off": "[Network]\nAddress=\n"})
    assert "198.51.100.1/24, 203.0.113.1/24" in told(tmp_path)[0][1]


def test_a_link_that_is_off_and_one_without_a_cable(tmp_path: Path) -> None:
    networkd(tmp_path, "[Network]\nAddress=198.51.100.1/24\n")
    assert "eth0 is switched off" in told(tmp_path, link("eth0", up=False, carrier=None))[0][1]
    assert told(tmp_path, link("eth0", carrier=False)) == []


def test_netplan_that_was_not_applied(tmp_path: Path) -> None:
    files(tmp_path, **{"etc/netplan/50-lan.yaml": "network: {}\n", "run/systemd/network/10-netplan-eth0.network": ""})
    os.utime(tmp_path / "run/systemd/network/10-netplan-eth0.network", (1000, 1000))
    os.utime(tmp_path / "etc/netplan/50-lan.yaml", (900, 900))
    assert told(tmp_path) == []
    os.utime(tmp_path / "etc/netplan/50-lan.yaml", (1060, 1060))
    assert told(tmp_path) == [
        ("info", "/etc/netplan/50-lan.yaml was changed after netplan last ran: what it says is not in force yet.")
    ]


@given(st.text(alphabet="[]=\n autoifaceaddress12./:#\\", max_size=300))
def test_whatever_the_files_say_nothing_breaks(text: str) -> None:
    reader.interfaces(text)
    reader.networkd(text)
    reader.keyfile(text)
    reader.static(text)
    ifcfg.addresses(ifcfg.variables(text), "PREFIX")
