# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab's wires: one namespace per lab holds a bridge; each host and the controller hang on it with a veth pair.

The controller's end has addresses of the lab's subnet in the machine's own namespace and nothing routes between the two, so
labs reach neither each other nor the outside. 198.18.0.0/15 is the range for tests between networks (RFC 2544).
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
from collections.abc import Iterable
from dataclasses import dataclass

from tests.lab import engine

_RANGE = ipaddress.ip_network("198.18.0.0/15")
FIRST_HOST = 11


@dataclass(frozen=True)
class Net:
    """Addresses of one lab. number: which /24 of the range it is."""

    lab: str
    number: int

    @property
    def namespace(self) -> str:
        return f"{engine.PREFIX}-{self.lab}"

    @property
    def controller_link(self) -> str:
        """Interface names have 15 characters at most, labs' names may be longer."""
        return engine.PREFIX + hashlib.sha256(self.lab.encode()).hexdigest()[:10]

    @property
    def v4(self) -> ipaddress.IPv4Network:
        return ipaddress.IPv4Network((int(_RANGE.network_address) + self.number * 256, 24))

    @property
    def v6(self) -> ipaddress.IPv6Network:
        unique = hashlib.sha256(engine.LABEL.encode()).digest()[:5]
        return ipaddress.IPv6Network((b"\xfd" + unique + self.number.to_bytes(2, "big") + b"\0" * 8, 64))

    def address(self, last: int) -> tuple[str, str]:
        return str(self.v4[last]), str(self.v6[last])

    @property
    def controller(self) -> tuple[str, str]:
        return self.address(1)

    @property
    def gateway(self) -> tuple[str, str]:
        """The hosts' default route; it answers pings and forwards nothing."""
        return self.address(254)


def free_number(taken: Iterable[int]) -> int:
    """The lowest subnet that no lab and no route of this machine uses. Raises LabError."""
    used = set(taken)
    for route in json.loads(engine.run(["ip", "-j", "-4", "route", "show", "table", "all"]).stdout or b"[]"):
        try:
            net = ipaddress.IPv4Network(route["dst"])
        except (KeyError, ValueError):
            continue
        if net.prefixlen >= 8 and net.overlaps(_RANGE):
            for number in range(512):
                if net.overlaps(Net("", number).v4):
                    used.add(number)
    for number in range(512):
        if number not in used:
            return number
    raise engine.LabError(f"no free subnet in {_RANGE}: see `python -m tests.lab status`")


def build(net: Net) -> None:
    """Namespace, bridge and the controller's wire."""
    name, link = net.namespace, net.controller_link
    engine.run(["ip", "netns", "add", name])
    engine.run(["ip", "link", "add", link, "type", "veth", "peer", "name", "c0", "netns", name])
    batch = [
        "link set lo up",
        "link add br0 type bridge forward_delay 0 mcast_snooping 0",
        "link set br0 up",
        "link set c0 master br0 up",
        f"addr add {net.gateway[0]}/{net.v4.prefixlen} dev br0",
        f"addr add {net.gateway[1]}/{net.v6.prefixlen} dev br0 nodad",
    ]
    engine.run(["ip", "-n", name, "-batch", "-"], input="\n".join(batch).encode())
    # A new namespace may inherit the machine's forwarding; a lab's packets end here.
    off = ["net.ipv4.conf.all.forwarding", "net.ipv6.conf.all.forwarding", "net.ipv6.conf.br0.accept_ra"]
    engine.run(["ip", "netns", "exec", name, "sh", "-c", "".join(f"echo 0 >/proc/sys/{n.replace('.', '/')};" for n in off)])
    batch = [
        f"addr add {net.controller[0]}/{net.v4.prefixlen} dev {link}",
        f"addr add {net.controller[1]}/{net.v6.prefixlen} dev {link} nodad",
        f"link set {link} up",
    ]
    engine.run(["ip", "-batch", "-"], input="\n".join(batch).encode())


def connect(net: Net, port: str, pid: int, last: int) -> None:
    """Wire the container whose first process is pid to the bridge, as its eth0."""
    v4, v6 = net.address(last)
    add = [
        f"link add {port} type veth peer name eth0 netns {pid}",
        f"link set {port} master br0 up",
    ]
    engine.run(["ip", "-n", net.namespace, "-batch", "-"], input="\n".join(add).encode())
    inside = [
        "link set lo up",
        f"addr add {v4}/{net.v4.prefixlen} brd + dev eth0",
        f"addr add {v6}/{net.v6.prefixlen} dev eth0 nodad",
        "link set eth0 up",
        f"route add default via {net.gateway[0]}",
        f"-6 route add default via {net.gateway[1]} dev eth0",
    ]
    for line in inside:
        engine.run(["nsenter", "-t", str(pid), "-n", "ip", *line.split()])


def remove(net: Net) -> None:
    """Take all wires of the lab away; nothing there is no error."""
    engine.run(["ip", "link", "del", net.controller_link], check=False)
    engine.run(["ip", "netns", "del", net.namespace], check=False)


def left(net: Net) -> list[str]:
    """What of the lab's wires is still there."""
    found = []
    if engine.run(["ip", "link", "show", net.controller_link], check=False).returncode == 0:
        found.append(f"link {net.controller_link}")
    names = engine.run(["ip", "netns", "list"]).stdout.decode().split()
    if net.namespace in names:
        found.append(f"network namespace {net.namespace}")
    return found
