# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""What a set holds, as numbers: entries from text, what they cover, and how they read. Pure.

A member is one number, so that a million of them are quick to sort and compare. Its bits, from the left: address, prefix length
(8, where the type has prefixes), protocol (8) and port (16, both where the type has ports). A bitmap has the port alone.

Two sets are equal when they cover the same addresses, however that is written. Of nested prefixes the longest decides (ipset(8)).
"""

from __future__ import annotations

import ipaddress
import itertools
import operator
import re
import shlex
import socket
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial

#: IP protocols that have ports, by the names that ipset and nft know.
PROTOCOLS = {"tcp": 6, "udp": 17, "udplite": 136, "sctp": 132}
_PROTOCOL_NAMES = {number: name for name, number in PROTOCOLS.items()}
#: A range of single addresses or ports is written out; a larger one is a mistake, or needs a type with prefixes.
MAX_EXPANDED = 1 << 20
#: ipset's own limit for the comment of an entry.
MAX_COMMENT = 255
_ERRORS = 5


@dataclass(frozen=True)
class Kind:
    """A type of set. nets: its members are prefixes. ports: they have a protocol and a port. addresses: False for ports alone."""

    name: str
    nets: bool = False
    ports: bool = False
    addresses: bool = True


KINDS = {
    kind.name: kind
    for kind in (
        Kind("hash:ip"),
        Kind("hash:net", nets=True),
        Kind("hash:ip,port", ports=True),
        Kind("hash:net,port", nets=True, ports=True),
        Kind("bitmap:port", addresses=False),
    )
}


@dataclass(frozen=True)
class Extra:
    """What an entry says beside its address. timeout: seconds, None for the set's own; counters: packets and bytes."""

    nomatch: bool = False
    timeout: int | None = None
    comment: str = ""
    packets: int = 0
    bytes: int = 0


@dataclass
class Content:
    """members: sorted, each once. extras: of those that say more than their address."""

    kind: Kind
    width: int
    members: list[int] = field(default_factory=list)
    extras: dict[int, Extra] = field(default_factory=dict)

    def nomatch(self) -> set[int]:
        return {member for member, extra in self.extras.items() if extra.nomatch}


class ContentError(Exception):
    """Entries that are none; the message names up to five, and says what is allowed."""


def width_of(family: str) -> int:
    """Bits of an address of family inet or inet6."""
    return 128 if family == "inet6" else 32


def parse(lines: Sequence[str], kind: Kind, width: int, where: str = "entries") -> Content:
    """One entry a line: ``ADDRESS[/PREFIX]`` or ``FIRST-LAST``, ``,[PROTO:]PORT[-PORT]`` where the type has ports, then
    ``nomatch``, ``timeout SECONDS``, ``comment "TEXT"``. Empty lines and what follows a ``#`` are left out. Raises ContentError.
    """
    found = Content(kind, width)
    if kind.addresses and not kind.ports:
        quick = _quick(lines, width)
        if quick is not None:
            found.members = [number << 8 | width for number in quick] if kind.nets else quick
            return found
    members: dict[int, Extra] = {}
    errors: list[str] = []
    for place, line in enumerate(lines, 1):
        try:
            for member, extra in _entry(line, kind, width):
                before = members.get(member, extra)
                if before.nomatch != extra.nomatch:
                    raise ValueError("it is there a second time, once with nomatch and once without")
                if before != extra and before != _NOTHING and extra != _NOTHING:
                    raise ValueError("it is there a second time with another timeout or comment")
                members[member] = extra if before == _NOTHING else before
        except ValueError as error:
            errors.append(f"{where} {place}: {line.strip()[:80]!r}: {error}")
            if len(errors) == _ERRORS:
                errors.append("and perhaps more")
                break
    if errors:
        raise ContentError("; ".join(errors))
    found.members = sorted(members)
    found.extras = {member: extra for member, extra in members.items() if extra != _NOTHING}
    return found


_NOTHING = Extra()


def _quick(lines: Sequence[str], width: int) -> list[int] | None:
    """Lines that are all single addresses, as by far the most long lists are; None for any other."""
    family = socket.AF_INET if width == 32 else socket.AF_INET6
    try:
        packed = b"".join(map(partial(socket.inet_pton, family), lines))
    except (OSError, ValueError, UnicodeEncodeError):
        return None
    found = sorted(numbers(packed, width))
    if any(map(operator.eq, found, itertools.islice(found, 1, None))):
        found = sorted(set(found))
    return None if found[:1] == [0] else found


def numbers(packed: bytes, width: int) -> Sequence[int]:
    """Addresses of ``width`` bits, joined in network order, as numbers."""
    if width == 32:
        found = array("I", packed)
        if found.itemsize == 4:
            if LITTLE:
                found.byteswap()
            return found
    size = width // 8
    return [int.from_bytes(packed[at : at + size], "big") for at in range(0, len(packed), size)]


LITTLE = array("H", [1]).tobytes()[0] == 1
_WORD = re.compile(r"""\A[^\s#"'\\]+\Z""")
_PORT = re.compile(r"\A([0-9]{1,5})(?:-([0-9]{1,5}))?\Z")


def _entry(line: str, kind: Kind, width: int) -> list[tuple[int, Extra]]:
    """Members of one line; none for an empty one. Raises ValueError."""
    line = line.strip()
    try:
        words = [line] if _WORD.match(line) else shlex.split(line, comments=True)
    except ValueError:
        raise ValueError("a quotation mark that is not closed") from None
    if not words:
        return []
    extra = _extra(words[1:])
    if extra.nomatch and not kind.nets:
        raise ValueError(f"nomatch is for types with prefixes, such as hash:net; this is {kind.name}")
    if not kind.addresses:
        return [(port, extra) for port in _ports(words[0])]
    address, comma, rest = words[0].partition(",")
    if bool(comma) != kind.ports:
        example = "192.0.2.1,tcp:80" if kind.ports else "192.0.2.1"
        raise ValueError(f"an entry of {kind.name} is like {example}")
    found = _networks(address, width) if kind.nets else _addresses(address, width)
    if not kind.ports:
        return [(member, extra) for member in found]
    protocol, colon, ports = rest.rpartition(":")
    number = PROTOCOLS.get(protocol) if colon else PROTOCOLS["tcp"]
    if number is None:
        raise ValueError(f"protocol {protocol!r}: allowed are {', '.join(PROTOCOLS)}")
    several = _ports(ports)
    return [(member << 24 | number << 16 | port, extra) for member in found for port in several]


def _extra(words: list[str]) -> Extra:
    nomatch, timeout, comment = False, None, ""
    at = 0
    while at < len(words):
        value = words[at + 1] if at + 1 < len(words) else None
        if words[at] == "nomatch":
            nomatch, at = True, at + 1
        elif words[at] == "timeout" and value is not None and value.isdigit() and int(value) <= 2147483:
            timeout, at = int(value), at + 2
        elif words[at] == "comment" and value is not None:
            if len(value.encode("utf-8")) > MAX_COMMENT or '"' in value or not value.isprintable():
                raise ValueError(f"a comment has at most {MAX_COMMENT} bytes, no quotation mark and no control character")
            comment, at = value, at + 2
        else:
            raise ValueError('after the address stand nomatch, timeout SECONDS (at most 2147483) and comment "TEXT"')
    return Extra(nomatch, timeout, comment)


def _ports(text: str) -> range:
    found = _PORT.match(text)
    low, high = (int(found[1]), int(found[2] or found[1])) if found else (0, -1)
    if found is None or low > high or high > 65535:
        raise ValueError("a port is a number from 0 to 65535, or a range such as 8000-8010")
    return range(low, high + 1)


def _bounds(text: str, width: int) -> tuple[int, int]:
    """First and last address of ``text``. Raises ValueError."""
    first, dash, last = text.partition("-")
    try:
        if dash:
            ends = (_number(first, width), _number(last, width))
            if ends[0] > ends[1]:
                raise ValueError
            return ends
        first, slash, length = text.partition("/")
        base = _number(first, width)
        if not slash:
            return base, base
        if not length.isdigit() or int(length) > width:
            raise ValueError
    except (OSError, ValueError):
        raise ValueError(f"not an IPv{4 if width == 32 else 6} address, prefix or range") from None
    rest = width - int(length)
    base = base >> rest << rest
    return base, base + (1 << rest) - 1


def _number(text: str, width: int) -> int:
    return int.from_bytes(socket.inet_pton(socket.AF_INET if width == 32 else socket.AF_INET6, text), "big")


def _addresses(text: str, width: int) -> range:
    low, high = _bounds(text, width)
    if high - low >= MAX_EXPANDED:
        raise ValueError(f"{high - low + 1} single addresses; use a type with prefixes, such as hash:net")
    if low == 0:
        raise ValueError("a set of addresses cannot hold the address of zeros")
    return range(low, high + 1)


def _networks(text: str, width: int) -> list[int]:
    """Prefixes as (base << 8 | length); length 0 is written as two, because no set can hold it."""
    low, high = _bounds(text, width)
    return [base << 8 | length for base, length in prefixes(low, high, width)]


def prefixes(low: int, high: int, width: int) -> list[tuple[int, int]]:
    """The fewest prefixes that cover low to high, none of length 0."""
    found = []
    while low <= high:
        size = min((low & -low).bit_length() - 1 if low else width - 1, (high - low + 1).bit_length() - 1, width - 1)
        found.append((low, width - size))
        low += 1 << size
    return found


# --- what is covered


def covered(content: Content) -> dict[int, list[tuple[int, int]]]:
    """(protocol << 16 | port) → disjoint intervals of addresses, in order, adjacent ones joined. Key 0 where there are no ports;
    of a bitmap of ports the intervals are of ports."""
    kind, width = content.kind, content.width
    if not kind.nets:
        points: dict[int, list[tuple[int, int]]] = {}
        for member in content.members:
            cell, value = (member & 0xFFFFFF, member >> 24) if kind.ports else (0, member)
            runs = points.setdefault(cell, [])
            if runs and runs[-1][1] + 1 == value:
                runs[-1] = (runs[-1][0], value)
            else:
                runs.append((value, value))
        return points
    excepted = content.nomatch()
    cells: dict[int, list[tuple[int, int, bool]]] = {}
    for member in content.members:
        cell, net = (member & 0xFFFFFF, member >> 24) if kind.ports else (0, member)
        base = net >> 8
        cells.setdefault(cell, []).append((base, base + (1 << (width - (net & 0xFF))) - 1, member not in excepted))
    found = {cell: _longest(nets) for cell, nets in cells.items()}
    return {cell: runs for cell, runs in found.items() if runs}


def _longest(nets: list[tuple[int, int, bool]]) -> list[tuple[int, int]]:
    """Sorted by base, wider first: the innermost decides."""
    runs: list[tuple[int, int]] = []
    open_nets: list[tuple[int, bool]] = []
    at = 0

    def until(end: int, inside: bool) -> None:
        nonlocal at
        if inside and at <= end:
            if runs and runs[-1][1] + 1 >= at:
                runs[-1] = (runs[-1][0], end)
            else:
                runs.append((at, end))
        at = max(at, end + 1)

    for low, high, inside in nets:
        while open_nets and open_nets[-1][0] < low:
            until(*open_nets.pop())
        if open_nets:
            until(low - 1, open_nets[-1][1])
        at = low
        open_nets.append((high, inside))
    while open_nets:
        until(*open_nets.pop())
    return runs


def same(one: Content, other: Content) -> bool:
    """Do they cover the same?"""
    if one.kind.nets != other.kind.nets or one.kind.ports != other.kind.ports or one.width != other.width:
        return False
    if one.members == other.members and one.nomatch() == other.nomatch():
        return True
    # Other single addresses are another set; only prefixes can be written in more than one way.
    return one.kind.nets and covered(one) == covered(other)


# --- text


def text_of(member: int, content: Content) -> str:
    """As ipset writes it, without what else the entry says."""
    kind = content.kind
    if not kind.addresses:
        return str(member)
    cell, value = (member & 0xFFFFFF, member >> 24) if kind.ports else (0, member)
    length = value & 0xFF if kind.nets else content.width
    number = value >> 8 if kind.nets else value
    text = str(ipaddress.IPv4Address(number) if content.width == 32 else ipaddress.IPv6Address(number))
    text += f"/{length}" if length != content.width else ""
    if kind.ports:
        protocol = cell >> 16
        text += f",{_PROTOCOL_NAMES.get(protocol, str(protocol))}:{cell & 0xFFFF}"
    return text


def line_of(member: int, content: Content) -> str:
    """The whole entry, as parse() and ipset read it."""
    extra = content.extras.get(member, _NOTHING)
    text = text_of(member, content)
    text += f" timeout {extra.timeout}" if extra.timeout is not None else ""
    text += f' comment "{extra.comment}"' if extra.comment else ""
    return text + (" nomatch" if extra.nomatch else "")


def lines_of(members: Iterable[int], content: Content) -> list[str]:
    return [line_of(member, content) for member in members]
