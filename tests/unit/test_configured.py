# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files of networkd, NetworkManager, ifupdown and netplan, as their manuals print them, against links of the kernel."""

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
