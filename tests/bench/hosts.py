# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Throw-away network namespaces that look like hosts: addresses, routes, a service, and rule sets of a given size."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from tests.kernel.conftest import Namespace

#: Rules of an ordinary host.
ORDINARY = 200
#: A tenant's chain: this many rules behind one jump.
_TENANT = 20

_SERVICE = """
import selectors, socket, sys
waiting = selectors.DefaultSelector()
for port in map(int, sys.argv[1:]):
    listener = socket.create_server(("", port), backlog=128)
    waiting.register(listener, selectors.EVENT_READ)
print("ready", flush=True)
while True:
    for key, _ in waiting.select():
        key.fileobj.accept()[0].close()
"""

# Says NOERROR to everything. (RFC 1035, 4.1.1)
_RESOLVER = """
import socket
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(("0.0.0.0", 53))
print("ready", flush=True)
while True:
    question, client = server.recvfrom(4096)
    server.sendto(question[:2] + b"\\x81\\x80" + question[4:6] + bytes(6) + question[12:], client)
"""


def shares(rules: int) -> tuple[int, int, int]:
    """How a rule set of this size is made up: per-address rules, port rules, rules in chains that are jumped to."""
    tenants = rules // 5 // _TENANT * _TENANT
    ports = rules // 4
    return rules - tenants - ports - tenants // _TENANT - 2, ports, tenants


def _address(dice: random.Random) -> str:
    return f"10.{dice.randrange(64, 128)}.{dice.randrange(256)}.{dice.randrange(1, 255)}"


def nft_rules(rules: int) -> str:
    """A rule set for `nft -f` with exactly this many rules: blocked addresses, ports by network, tenants' chains."""
    dice = random.Random(rules)
    addresses, ports, tenants = shares(rules)
    chains = tenants // _TENANT
    lines = ["table inet filter {"]
    for number in range(chains):
        lines.append(f" chain tenant{number} {{")
        for _ in range(_TENANT):
            lines.append(f"  ip saddr {_address(dice)} tcp dport {dice.randrange(1024, 30000)} counter accept")
        lines.append(" }")
    lines += [" chain input {", "  type filter hook input priority 0; policy accept;"]
    lines += ["  ct state established,related accept", '  iifname "lo" accept']
    for _ in range(addresses):
        lines.append(f"  ip saddr {_address(dice)} counter drop")
    for _ in range(ports):
        low = dice.randrange(30000, 40000)
        lines.append(f"  ip saddr 10.{dice.randrange(64, 128)}.0.0/16 tcp dport {low}-{low + 9} counter accept")
    for number in range(chains):
        lines.append(f"  ip saddr 172.{16 + number % 16}.{number // 16}.0/24 jump tenant{number}")
    return "\n".join([*lines, " }", "}", ""])


def iptables_rules(rules: int) -> str:
    """The same mix for `iptables-nft-restore`."""
    dice = random.Random(rules)
    addresses, ports, tenants = shares(rules)
    chains = tenants // _TENANT
    lines = ["*filter", ":INPUT ACCEPT [0:0]", *(f":TENANT{number} - [0:0]" for number in range(chains))]
    lines += ["-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT", "-A INPUT -i lo -j ACCEPT"]
    for _ in range(addresses):
        lines.append(f"-A INPUT -s {_address(dice)}/32 -j DROP")
    for _ in range(ports):
        low = dice.randrange(30000, 40000)
        lines.append(f"-A INPUT -s 10.{dice.randrange(64, 128)}.0.0/16 -p tcp -m tcp --dport {low}:{low + 9} -j ACCEPT")
    for number in range(chains):
        lines.append(f"-A INPUT -s 172.{16 + number % 16}.{number // 16}.0/24 -j TENANT{number}")
    for number in range(chains):
        for _ in range(_TENANT):
            port = dice.randrange(1024, 30000)
            lines.append(f"-A TENANT{number} -s {_address(dice)}/32 -p tcp -m tcp --dport {port} -j ACCEPT")
    return "\n".join([*lines, "COMMIT", ""])


@contextmanager
def host() -> Iterator[Namespace]:
    """A host with a link to a gateway (192.0.2.11/24, 2001:db8::11/64 on eth0), some routes, and services on three ports."""
    with ExitStack() as stack:
        spaces = []
        for _ in range(2):
            space = Namespace()
            stack.callback(space.remove)
            spaces.append(space)
        inside, gateway = spaces
        inside.run(["ip", "link", "add", "eth0", "type", "veth", "peer", "name", "gw0", "netns", gateway.name])
        for space, link, number in ((inside, "eth0", 11), (gateway, "gw0", 1)):
            space.run(["ip", "address", "add", f"192.0.2.{number}/24", "dev", link])
            space.run(["ip", "-6", "address", "add", f"2001:db8::{number}/64", "dev", link, "nodad"])
            space.run(["ip", "link", "set", link, "up"])
        inside.run(["ip", "route", "add", "default", "via", "192.0.2.1"])
        inside.run(["ip", "-6", "route", "add", "default", "via", "2001:db8::1"])
        batch = "".join(f"route add 198.51.100.{number}/32 via 192.0.2.1\n" for number in range(1, 41))
        inside.run(["ip", "-batch", "-"], input=batch)
        gateway.start_python(_RESOLVER)
        inside.start_python(_SERVICE, "22", "1678", "9100")
        # What ip-netns(8) puts in the place of the machine's own file.
        resolver = Path("/etc/netns") / inside.name
        stack.callback(_remove, resolver)
        resolver.mkdir(parents=True)
        (resolver / "resolv.conf").write_text("nameserver 192.0.2.1\n")
        yield inside


def _remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    with suppress(OSError):  # others keep their files there
        folder.parent.rmdir()


def load_nft(space: Namespace, rules: int) -> None:
    space.run(["nft", "-f", "-"], input=nft_rules(rules), timeout=300)


def load_iptables(space: Namespace, rules: int) -> None:
    space.run(["iptables-nft-restore"], input=iptables_rules(rules), timeout=300)


def python() -> str:
    """The interpreter a host would use, not this environment's."""
    return shutil.which("python3", path="/usr/bin:/usr/local/bin") or "python3"
