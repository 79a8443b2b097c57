# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""Named groups of addresses → one table of nftables: a set for each group, a few rules in a chain of its own. Pure.

The chain only takes away: a port that a group names is for the groups that name it, and what is blocked is blocked. Whatever
other rules of the host refuse stays refused; nothing of theirs is touched.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.netops.fleet.plugins.module_utils._firewall import set_content, set_nft
from ansible_collections.netops.fleet.plugins.module_utils._firewall.set_content import Content, ContentError
from ansible_collections.netops.fleet.plugins.module_utils._firewall.set_plan import SetsError, Wanted

TABLE = "netops_groups"
_NAME = re.compile(r"\A[A-Za-z][A-Za-z0-9_-]{0,27}\Z")
#: With 4 or 6 behind they are words of nft, which it takes for no name of a set.
_WORDS = {"ip": "ip6", "icmpv": "icmpv6"}
_PORT = re.compile(r"\A(tcp|udp|sctp)/([0-9]{1,5})(?:-([0-9]{1,5}))?\Z")
#: Before the host's own filter chains (0), behind NAT of destinations (-100).
_PRIORITY = -5


@dataclass
class Group:
    """ports: (protocol, first, last). block: its addresses are refused, everywhere where no port is named.

    An allowed group without ports may reach every port that another group names.
    """

    name: str
    block: bool
    ports: list[tuple[str, int, int]]
    contents: dict[int, Content] = field(default_factory=dict)

    def holds(self, address: str) -> bool:
        found = ipaddress.ip_address(address)
        content = self.contents.get(found.max_prefixlen)
        runs = set_content.covered(content).get(0, []) if content is not None else []
        return any(low <= int(found) <= high for low, high in runs)

    def names(self, protocol: str, port: int) -> bool:
        return any(one == protocol and low <= port <= high for one, low, high in self.ports)


def parse(given: list[dict[str, Any]]) -> list[Group]:
    """Raises SetsError that names the group, what was found and what is allowed."""
    groups: list[Group] = []
    for one in given:
        name = str(one["name"])
        if not _NAME.match(name):
            raise SetsError(
                f"group {name[:40]!r}: a name has letters, digits, - and _, starts with a letter, and has at most 28 characters"
            )
        if name in _WORDS:
            raise SetsError(
                f"group {name}: nft has a word {_WORDS[name]} of its own, which would be the name of a set of the group; "
                f"every name but {' and '.join(_WORDS)} is allowed, such as {name}-hosts"
            )
        if any(name == other.name for other in groups):
            raise SetsError(f"group {name} is there twice")
        group = Group(name, one["action"] == "block", [_port(name, text) for text in one.get("ports") or []])
        for width in (32, 128):
            lines = [line for line in one.get("addresses") or [] if (":" in line.split("#")[0].split(" ")[0]) == (width == 128)]
            try:
                content = set_content.parse(lines, set_content.KINDS["hash:net"], width, f"addresses of group {name},")
            except ContentError as error:
                raise SetsError(str(error)) from None
            if any(extra.timeout is not None for extra in content.extras.values()):
                raise SetsError(f"group {name}: addresses that end by themselves are for the module ipset")
            if content.members:
                group.contents[width] = content
        groups.append(group)
    if not any(group.ports or group.block for group in groups):
        raise SetsError("no group names a port and none blocks: there is nothing to do")
    return groups


def _port(name: str, text: str) -> tuple[str, int, int]:
    found = _PORT.match(str(text))
    low, high = (int(found[2]), int(found[3] or found[2])) if found else (0, -1)
    if found is None or not 0 < low <= high <= 65535:
        raise SetsError(f"group {name}: port {text!r}; a port is like tcp/22 or udp/8000-8010")
    return found[1], low, high


def text(groups: list[Group]) -> str:
    """The table, as nft reads it."""
    lines = [f"table inet {TABLE} {{"]
    for group in groups:
        for width, content in sorted(group.contents.items()):
            wanted = Wanted(_set(group, width), content)
            lines += [f"set {wanted.name} {{", set_nft.definition(wanted)]
            found = ", ".join(value + more for value, more, _lasting in set_nft.elements(content, wanted))
            lines += [f"elements = {{ {found} }}" if found else "", "}"]
    lines += ["chain input {", f"type filter hook input priority {_PRIORITY}; policy accept;"]
    lines += ['iifname "lo" accept', "ct state established,related accept"]
    for group in groups:
        if group.block:
            lines += _rules(group, _ports(group.ports) if group.ports else [""], "counter drop")
    named = [port for group in groups if not group.block for port in group.ports]
    for group in groups:
        if not group.block and named:
            lines += _rules(group, _ports(group.ports or named), "accept")
    lines += [f'{match}counter drop comment "no group"' for match in _ports(named)]
    return "\n".join([*(line for line in lines if line), "}", "}"]) + "\n"


def _set(group: Group, width: int) -> str:
    return f"{group.name}{4 if width == 32 else 6}"


def _ports(ports: list[tuple[str, int, int]]) -> list[str]:
    """A match for each protocol."""
    found = []
    for protocol in sorted({one[0] for one in ports}):
        numbers = sorted({(low, high) for one, low, high in ports if one == protocol})
        merged: list[tuple[int, int]] = []
        for low, high in numbers:
            if merged and low <= merged[-1][1] + 1:
                merged[-1] = (merged[-1][0], max(high, merged[-1][1]))
            else:
                merged.append((low, high))
        shown = ", ".join(str(low) if low == high else f"{low}-{high}" for low, high in merged)
        found.append(f"{protocol} dport {{ {shown} }} ")
    return found


def _rules(group: Group, matches: list[str], verdict: str) -> list[str]:
    return [
        f'{match}{"ip" if width == 32 else "ip6"} saddr @{_set(group, width)} {verdict} comment "group {group.name}"'
        for match in matches
        for width in sorted(group.contents)
    ]


def refused(groups: list[Group], source: str, port: int, protocol: str = "tcp") -> str:
    """Why a new connection from ``source`` to the port would be refused by these groups; '' when it would not."""
    for group in groups:
        if group.block and group.holds(source) and (not group.ports or group.names(protocol, port)):
            return f"group {group.name} blocks {source}"
    allowed = [group for group in groups if not group.block]
    if not any(group.names(protocol, port) for group in allowed):
        return ""
    if any(group.holds(source) and (not group.ports or group.names(protocol, port)) for group in allowed):
        return ""
    names = ", ".join(group.name for group in allowed if not group.ports or group.names(protocol, port))
    return f"{protocol}/{port} is for {names}, and {source} is in none of them"
