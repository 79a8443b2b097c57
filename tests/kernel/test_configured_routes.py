# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Routes of configuration files against the kernel's tables: what is lost is told, and the printed commands bring it back."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.netops.fleet.plugins.module_utils._diagnosis import configured_routes
from ansible_collections.netops.fleet.plugins.module_utils._diagnosis.facts import Facts
from ansible_collections.netops.fleet.plugins.module_utils._diagnosis.model import Finding
from tests.kernel.conftest import Namespace, until
from tests.unit.hosts import healthy

pytestmark = pytest.mark.kernel

READ = """
import json, sys
from ansible_collections.netops.fleet.plugins.module_utils._evidence import addresses, configured, links, routes
found = {"links": links.read().data, "addresses": addresses.read().data, "routes": routes.read().data}
section = configured.read(found["links"], sys.argv[1])
found["configured"] = section.data
print(json.dumps({"sections": found, "gaps": [gap.why for gap in section.gaps]}))
"""
NETWORK = """[Match]
Name=eth0
[Network]
Address=10.78.0.1/24
Address=fd78::1/64
Gateway=10.78.0.2
Gateway=_dhcp4
Gateway=fd78::2
[Route]
Destination=10.1.2.3/16
Gateway=10.78.0.3
Metric=50
PreferredSource=10.78.0.1
MTUBytes=1400
[Route]
Destination=10.2.0.1
Gateway=10.79.0.9
GatewayOnLink=yes
[Route]
Destination=10.3.0.0/16
[Route]
Destination=10.4.0.0/16
Type=blackhole
[Route]
Destination=10.5.0.0/16
Gateway=10.78.0.4
Table=1000
[Route]
Destination=10.6.0.0/16
MultiPathRoute=10.78.0.5@eth0 10
MultiPathRoute=10.78.0.6
[Route]
Destination=fd79::/32
Gateway=fe80::5
Metric=7
[Route]
Destination=10.7.0.0/16
Gateway=fe80::6
[Route]
Destination=fd80::/16
Type=unreachable
[Route]
Gateway=_ipv6ra
Destination=fd81::/16
"""
INTERFACES = """auto eth0
iface eth0 inet static
  address 10.78.0.1/24
  gateway 10.78.0.2
  up ip route add 10.1.0.0/16 via 10.78.0.3 dev $IFACE metric 50 || true
  post-up /sbin/ip -4 r replace 10.2.0.1 via 10.79.0.9 dev "$IFACE" onlink 2>/dev/null; \\
     ip route add blackhole 10.4.0.0/16
  up route add -net 10.8.0.0 netmask 255.255.0.0 gw 10.78.0.4
  up route add -host 10.9.0.1 gw 10.78.0.4 metric 3 dev eth0
  up ip rule add from 10.78.0.1 table 1000
  up iptables -A INPUT -j ACCEPT
  down ip route del 10.1.0.0/16
iface eth0 inet6 static
  address fd78::1/64
  gateway fd78::2
  up ip -6 route add fd79::/32 via fe80::5 dev eth0 metric 7
"""
PROFILE = """[connection]
uuid=7a5a
[ipv4]
address1=10.78.0.1/24,10.78.0.2
method=manual
route1=10.1.0.0/16,10.78.0.3,50
route1_options=mtu=1400,src=10.78.0.1
route2=10.2.0.1/32,10.79.0.9
route2_options=onlink=true,table=1000
route3=10.3.0.0/16
[ipv6]
method=manual
address1=fd78::1/64
gateway=fd78::2
route1=fd79::/32,fe80::5,7
"""
#: systemd-networkd with files and notes in a folder of its own. It waits for udev unless /sys can only be read.
DAEMON = """
mount --make-rprivate /; mount -o remount,bind,ro /sys
mkdir -p "$1"/run/systemd/netif "$1"/run/systemd/network "$1"/etc/systemd/network
chown systemd-network: "$1"/run/systemd/netif
mount --bind "$1"/run/systemd /run/systemd; mount --bind "$1"/etc/systemd/network /etc/systemd/network
exec /lib/systemd/systemd-networkd
"""
FILES = {
    "systemd-networkd": {
        "etc/systemd/network/20-lan.network": NETWORK,
        "run/systemd/netif/links/{index}": "ADMIN_STATE=configured\nNETWORK_FILE=/etc/systemd/network/20-lan.network\n",
    },
    "ifupdown": {"etc/network/interfaces": INTERFACES, "run/network/ifstate": "lo=lo\neth0=eth0\n"},
    "NetworkManager": {
        "etc/NetworkManager/system-connections/lan.nmconnection": PROFILE,
        "run/NetworkManager/devices/{index}": "[device]\nconnection-uuid=7a5a\n",
    },
    "initscripts": {
        "run/lock/subsys/network": "",
        "etc/sysconfig/network-scripts/ifcfg-eth0": "DEVICE=eth0\nIPADDR=10.78.0.1\nPREFIX=24\nGATEWAY=10.78.0.2\n",
        "etc/sysconfig/network-scripts/route-eth0": "ADDRESS0=10.1.0.0\nNETMASK0=255.255.0.0\nGATEWAY0=10.78.0.3\nMETRIC0=50\n",
        "etc/sysconfig/network-scripts/route6-eth0": "# IPv6\nfd79::/32 via fe80::5 dev eth0 metric 7\n",
    },
    "wicked": {
        "run/wicked/here": "",
        "etc/sysconfig/network/ifcfg-eth0": "STARTMODE=auto\nIPADDR=10.78.0.1/24\n",
        "etc/sysconfig/network/ifroute-eth0": "10.1.0.0/16 10.78.0.3 - - unicast metric 50\n10.4.0.0 - 255.255.0.0 - blackhole\n",
        "etc/sysconfig/network/routes": "default 10.78.0.2 - -\nfd79::/32 fe80::5 - eth0\n",
    },
}


@pytest.fixture
def host(make_ns: Callable[[], Namespace]) -> Namespace:
    made = make_ns()
    for line in (
        "ip link add eth0 type veth peer name far0",
        "ip link set far0 up",
        "ip link set eth0 up",
        "ip addr add 10.78.0.1/24 dev eth0",
        "ip addr add fd78::1/64 dev eth0 nodad",
    ):
        made.run(line.split())
    return made


def judged(host: Namespace, root: Path) -> list[Finding]:
    told: dict[str, Any] = host.python_json(READ, str(root))
    assert told["gaps"] == []
    return configured_routes.find(Facts(healthy(**told["sections"])))


def lost(found: list[Finding]) -> list[str]:
    return [line for one in found for line in one.evidence]


@pytest.mark.parametrize("manager", FILES)
def test_lost_routes_come_back_by_the_printed_commands(host: Namespace, tmp_path: Path, manager: str) -> None:
    index = next(link["index"] for link in host.python_json(READ, str(tmp_path))["sections"]["links"] if link["name"] == "eth0")
    for name, text in FILES[manager].items():
        path = tmp_path / name.format(index=index)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

    found = judged(host, tmp_path)
    assert found and {(one.id, one.subject, one.data["manager"]) for one in found} == {("route-config-differs", "eth0", manager)}
    assert any(": default via 10.78.0.2" in line for line in lost(found)), lost(found)
    for line in [line for one in found for line in one.fix if line.startswith("ip ")]:
        done = subprocess.run(host.argv(["sh", "-euc", line]), capture_output=True, text=True, timeout=20, check=False)
        assert done.returncode == 0, (line, done.stderr)
    assert judged(host, tmp_path) == []

    # One that is changed by hand is told with what is there instead; the command puts it back in its place.
    host.run(["ip", "route", "replace", "default", "via", "10.78.0.99"])
    (found,) = [one for one in judged(host, tmp_path) if any("default" in line for line in one.evidence)]
    assert lost([found])[0].endswith("in the kernel: default via 10.78.0.99 dev eth0")
    host.run(found.fix[0].split())
    assert judged(host, tmp_path) == []

    # What the link cannot have is told by the link's own findings.
    host.run(["ip", "link", "set", "far0", "down"])
    host.run(["ip", "route", "flush", "table", "main"])
    assert judged(host, tmp_path) == []


def test_what_networkd_itself_made_of_its_files(host: Namespace, tmp_path: Path) -> None:
    host.run(["ip", "addr", "flush", "dev", "eth0"])
    host.run(["ip", "link", "set", "eth0", "down"])
    for name, text in {
        # Without what only a DHCP server or a router tells: the link would wait for it.
        "20-lan.network": NETWORK.replace("Gateway=_dhcp4\n", "").replace("[Network]\n", "[Network]\nIPv6AcceptRA=no\n"),
        "20-lan.network.d/far.conf": "[Route]\nDestination=10.90.0.0/16\nGateway=10.78.0.8\n",
        "20-lan.network.d/off.txt": "[Route]\nDestination=10.91.0.0/16\nGateway=10.78.0.8\n",
    }.items():
        path = tmp_path / "etc/systemd/network" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.partition("[Route]\nGateway=_ipv6ra")[0], encoding="utf-8")
    host.start(["unshare", "--mount", "sh", "-euc", DAEMON, "sh", str(tmp_path)])
    notes = tmp_path / "run/systemd/netif/links"
    until(lambda: any("ADMIN_STATE=configured" in path.read_text(encoding="utf-8") for path in notes.glob("[0-9]*")))
    kept = host.python_json(READ, str(tmp_path))["sections"]["configured"]["routes"]
    assert len(kept) == NETWORK.count("[Route]") - 1 + 2 + 1 and judged(host, tmp_path) == []

    # By hand: a route of each kind goes. networkd does not put them back.
    for route in ("default via 10.78.0.2", "blackhole 10.4.0.0/16", "10.5.0.0/16 table 1000", "10.6.0.0/16", "10.90.0.0/16"):
        host.run(["ip", "route", "del", *route.split()])
    host.run(["ip", "-6", "route", "del", "fd79::/32", "via", "fe80::5", "dev", "eth0"])
    found = judged(host, tmp_path)
    assert [(one.data["file"].rpartition("/")[2], len(one.evidence)) for one in found] == [("20-lan.network", 5), ("far.conf", 1)]
    for one in found:
        for line in one.fix[: len(one.evidence)]:
            host.run(line.split())
    assert judged(host, tmp_path) == []
