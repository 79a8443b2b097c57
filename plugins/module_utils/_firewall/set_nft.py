# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""Sets as named sets of nftables: read, and written with their definition in one transaction.

An interval set holds disjoint intervals, so nested prefixes and nomatch are worked out here and nft never has to merge. Elements
that say more than their address (comment, timeout) must not overlap: nothing could tell which of them holds.
"""

from __future__ import annotations

import re
import socket
from functools import partial
from typing import Any

from ansible_collections.netops.fleet.plugins.module_utils._firewall import nft_kernel, set_content, set_plan
from ansible_collections.netops.fleet.plugins.module_utils._firewall.model import Action
from ansible_collections.netops.fleet.plugins.module_utils._firewall.set_content import Content, ContentError, Extra
from ansible_collections.netops.fleet.plugins.module_utils._firewall.set_plan import Plan, Present, SetsError, Wanted
from ansible_collections.netops.fleet.plugins.module_utils._kernel import command
from ansible_collections.netops.fleet.plugins.module_utils._safety import nft_state
from ansible_collections.netops.fleet.plugins.module_utils._safety.change import Difference
from ansible_collections.netops.fleet.plugins.module_utils._safety.objects import Object
from ansible_collections.netops.fleet.plugins.module_utils._safety.owners import owner_of

_ADDRESS = {32: "ipv4_addr", 128: "ipv6_addr"}
_NO_LIMIT = 0xFFFFFFFF
_NOTHING = Extra()


class NftSet:
    """Implements sets.Backend for sets of one table."""

    name = "nft"

    def __init__(self, family: str, table: str) -> None:
        self.family = family
        self.table = table

    @classmethod
    def of(cls, table: str) -> NftSet:
        """table: ``FAMILY NAME``. Raises SetsError."""
        family, _blank, name = table.partition(" ")
        if family not in ("ip", "ip6", "inet", "arp", "bridge", "netdev") or not name.replace("_", "").replace("-", "").isalnum():
            raise SetsError(f"table is {table[:60]!r}; with backend: nft it is a family and a name, such as 'inet filter'")
        owner = owner_of(name, "")
        if owner != "user":
            raise SetsError(f"table {table} belongs to {owner}, which writes it anew by itself; use a table of your own")
        return cls(family, name)

    def target(self, name: str) -> Object:
        return Object("nftset", f"{self.family} {self.table} {name}")

    def check(self, wanted: Wanted) -> None:
        if not wanted.name.replace("_", "").replace("-", "").isalnum() or wanted.name[0].isdigit():
            raise SetsError(
                f"name is {wanted.name!r}; the name of an nft set has letters, digits, - and _, and starts with a letter"
            )
        stays = [extra for extra in wanted.content.extras.values() if extra.timeout == 0]
        if wanted.timeout == 0 or stays:
            raise SetsError(f"{wanted.name}: in an nft set with timeouts every entry ends: timeout 0 is for backend: ipset")
        if command.find("nft") is None:
            raise SetsError("nft is not installed, and backend: nft needs it")
        elements(wanted.content, wanted)

    def read(self, wanted: Wanted) -> Present | None:
        free, why = nft_kernel.available()
        if free is None:
            raise OSError(1, why)
        told = nft_state.listed_set(self.target(wanted.name).name) if free else None
        if told is None:
            return None
        found = present(told, wanted)
        # nft does not list this flag.
        for one in nft_kernel.Kernel().sets():
            if (one.family, one.table, one.name) == (self.family, self.table, wanted.name) and "dynamic" in one.flags:
                found.foreign = "rules that add to it (flags dynamic)"
        return found

    def change(self, wanted: Wanted, before: Present | None, made: Plan) -> list[Difference]:
        target = self.target(wanted.name)
        found = elements(made.content, wanted)
        place = f"{self.family} {self.table} {wanted.name}"
        lines = [f"add table {self.family} {self.table}", f"add set {place} {{ {definition(wanted)} }}"]
        if before is not None:
            # A definition cannot be changed; nft refuses all of it while a rule names the set.
            again = before.state["flags"] != _flags(wanted) or _header_differs(before, wanted)
            lines[:0] = [f"delete set {place}"] if again else [f"flush set {place}"]
        if found:
            lines.append(f"add element {place} {{ " + ",\n ".join(text + more for text, more, _lasting in found) + " }")
        after = nft_state.set_digest(
            _types(wanted),
            _flags(wanted),
            wanted.timeout,
            wanted.counters,
            [lasting for _text, _more, lasting in found if wanted.timeout is None],
        )
        writer = partial(nft_state.transaction, "\n".join(lines) + "\n")
        return [Difference(target, nft_state.capture_set(target.name), {"digest": after}, cuts=True, write=writer)]

    def boot_text(self, wanted: Wanted) -> str:
        place = f"{self.family} {self.table} {wanted.name}"
        lines = [f"add table {self.family} {self.table}", f"add set {place} {{ {definition(wanted)} }}", f"flush set {place}"]
        found = elements(wanted.content, wanted)
        if found:
            lines.append(f"add element {place} {{ " + ",\n ".join(text + more for text, more, _lasting in found) + " }")
        return "\n".join(lines) + "\n"

    def left(self, wanted: Wanted, made: Plan) -> list[str]:
        found = self.read(wanted)
        if found is None:
            return ["it is not there"]
        return set_plan.plan(found, wanted, 0).reasons

    def absent(self, wanted: Wanted, present: Present) -> Difference:
        named = self._named_by(wanted.name)
        if named:
            raise SetsError(f"{wanted.name} is named by {named}; remove that first")
        target = self.target(wanted.name)
        return Difference(target, nft_state.capture_set(target.name), None, cuts=True)

    def _named_by(self, name: str) -> str:
        """Where the first rule that names the set stands; empty when none does."""
        from ansible_collections.netops.fleet.plugins.module_utils._firewall import read

        said = re.compile(rf"@{re.escape(name)}(?![\w-])")
        found = (rule for rule in read.read(tables=[(self.family, self.table)]).data.rules if said.search(rule.text))
        return next((str(rule.where()) for rule in found), "")

    def writer(self, name: str) -> str:
        # Late: the reader of rules is large.
        from ansible_collections.netops.fleet.plugins.module_utils._firewall import read

        for rule in read.read(tables=[(self.family, self.table)]).data.rules:
            if any(
                isinstance(part, Action) and part.name == "set update" and part.args.get("set") == name for part in rule.parts
            ):
                return str(rule.where())
        return ""


def definition(wanted: Wanted) -> str:
    words = [f"type {' . '.join(_types(wanted))}"]
    flags = _flags(wanted)
    if flags:
        words.append(f"flags {','.join(flags)}")
    if wanted.timeout is not None:
        words.append(f"timeout {wanted.timeout}s")
    if wanted.maxelem is not None:
        words.append(f"size {wanted.maxelem}")
    if wanted.counters:
        words.append("counter")
    return "; ".join(words) + ";"


def _types(wanted: Wanted) -> list[str]:
    if not wanted.kind.addresses:
        return ["inet_service"]
    return [_ADDRESS[wanted.content.width], *(["inet_proto", "inet_service"] if wanted.kind.ports else [])]


def _flags(wanted: Wanted) -> list[str]:
    return (["interval"] if wanted.kind.nets else []) + (["timeout"] if wanted.timeout is not None else [])


def _header_differs(present: Present, wanted: Wanted) -> bool:
    return (
        present.timeout != wanted.timeout
        or present.counters != wanted.counters
        or (wanted.maxelem is not None and present.maxelem != wanted.maxelem)
    )


# --- elements


def elements(content: Content, wanted: Wanted) -> list[tuple[str, str, str]]:
    """(value in nft's words, what it says beside, value and comment), one for each element.

    Raises SetsError where entries that say more than their address overlap.
    """
    kind, width = content.kind, content.width
    says_more = wanted.counters or any(extra != _NOTHING and not extra.nomatch for extra in content.extras.values())
    spans: list[tuple[int, int, int, Extra]]
    if says_more or not kind.nets:
        if content.nomatch() or (kind.nets and _overlap(content)):
            raise SetsError(
                f"{wanted.name}: entries with a comment, timeout or counter must not overlap in an nft set, and none can "
                "be nomatch; leave those out, or use backend: ipset"
            )
        spans = [(*_span(member, content), content.extras.get(member, _NOTHING)) for member in content.members]
    else:
        runs = set_content.covered(content)
        spans = [(low, high, cell, _NOTHING) for cell, several in sorted(runs.items()) for low, high in several]
    found = []
    for low, high, cell, extra in spans:
        text = _text(low, high, width) if kind.addresses else str(low)
        if kind.ports:
            text += f" . {_PROTOCOLS[cell >> 16]} . {cell & 0xFFFF}"
        found.append((text, _more(extra, wanted), f"{text} {extra.comment}".rstrip()))
    return found


_PROTOCOLS = {number: name for name, number in set_content.PROTOCOLS.items()}


def _span(member: int, content: Content) -> tuple[int, int, int]:
    cell, value = (member & 0xFFFFFF, member >> 24) if content.kind.ports else (0, member)
    if not content.kind.nets:
        return value, value, cell
    base = value >> 8
    return base, base + (1 << (content.width - (value & 0xFF))) - 1, cell


def _overlap(content: Content) -> bool:
    ends: dict[int, int] = {}
    for member in content.members:
        low, high, cell = _span(member, content)
        if low <= ends.get(cell, -1):
            return True
        ends[cell] = high
    return False


def _text(low: int, high: int, width: int) -> str:
    first = _address(low, width)
    if high == low:
        return first
    size = high - low + 1
    if size & (size - 1) == 0 and low % size == 0:
        return f"{first}/{width - size.bit_length() + 1}"
    return f"{first}-{_address(high, width)}"


def _address(number: int, width: int) -> str:
    return socket.inet_ntop(socket.AF_INET if width == 32 else socket.AF_INET6, number.to_bytes(width // 8, "big"))


def _more(extra: Extra, wanted: Wanted) -> str:
    # In this order: nft takes no other.
    text = f" counter packets {extra.packets} bytes {extra.bytes}" if wanted.counters else ""
    if extra.timeout is not None:
        text += f" timeout {max(extra.timeout, wanted.timeout or 0)}s expires {extra.timeout}s"
    return text + (f' comment "{extra.comment}"' if extra.comment else "")


# --- reading


def present(told: dict[str, Any], wanted: Wanted) -> Present:
    """Of a set as nft lists it. Raises SetsError for one that this module does not make."""
    types: list[Any] = [told["type"]] if isinstance(told["type"], str) else list(told["type"])
    flags = told.get("flags") or []
    flags = [flags] if isinstance(flags, str) else flags
    kept = [flag for flag in ("interval", "timeout") if flag in flags]
    kind = _kind(types, "interval" in kept)
    width = 128 if "ipv6_addr" in types else 32 if "ipv4_addr" in types else wanted.content.width
    found = Present(kind or " . ".join(map(str, types)), width, None, timeout=told.get("timeout"))
    found.timeout = (told.get("timeout") or 0) if "timeout" in kept else None
    found.counters = any("counter" in one for one in told.get("stmt") or [] if isinstance(one, dict))
    found.comments = True
    found.maxelem = told.get("size", _NO_LIMIT)
    found.references = 1  # nft does not tell
    found.state = {"flags": kept}
    if kind == wanted.kind.name and width == wanted.content.width:
        try:
            found.content = _content(told.get("elem") or [], wanted, found)
        except (ContentError, ValueError, KeyError, TypeError) as error:
            raise SetsError(f"{wanted.name}: an element that is not understood: {error}") from None
    return found


def _kind(types: list[Any], interval: bool) -> str:
    if types == ["inet_service"]:
        return "" if interval else "bitmap:port"
    if len(types) == 1 and types[0] in _ADDRESS.values():
        return "hash:net" if interval else "hash:ip"
    if len(types) == 3 and types[0] in _ADDRESS.values() and types[1:] == ["inet_proto", "inet_service"]:
        return "hash:net,port" if interval else "hash:ip,port"
    return ""


def _content(told: list[Any], wanted: Wanted, found: Present) -> Content:
    lines, counted = [], {}
    for one in told:
        more = one["elem"] if isinstance(one, dict) and "elem" in one else {"val": one}
        line = _line(more["val"])
        if found.timeout is not None:
            line += f" timeout {more.get('expires', more.get('timeout', found.timeout)) or 1}"
        if more.get("comment"):
            line += f' comment "{more["comment"]}"'
        if "counter" in more:
            counted[line] = more["counter"]
        lines.append(line)
    content = set_content.parse(lines, wanted.kind, wanted.content.width, "element")
    for line, counter in counted.items():
        for member in set_content.parse([line], wanted.kind, wanted.content.width).members:
            before = content.extras.get(member, _NOTHING)
            content.extras[member] = Extra(False, before.timeout, before.comment, int(counter["packets"]), int(counter["bytes"]))
    return content


def _line(value: Any) -> str:
    """An element as an entry."""
    text = nft_state.value_text(value)
    address, *rest = text.split(" . ")
    if not rest:
        return text
    number = set_content.PROTOCOLS.get(rest[0], 0) or int(rest[0])
    return f"{address},{_PROTOCOLS[number]}:{rest[1]}"
