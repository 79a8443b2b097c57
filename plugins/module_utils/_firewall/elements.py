# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""Does an element hold a value, and which of many elements do? Each collection is indexed once.

Answers are three-valued: True, False, or None where the packet's field or the element is not known.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable
from typing import Any, Optional

from ansible_collections.netops.fleet.plugins.module_utils._firewall.packet import (
    ABSENT,
    Packet,
    address_number,
    field,
    fields_of,
    symbol,
)

Answer = Optional[bool]
_ADDRESSES = frozenset({"ip saddr", "ip daddr", "ip6 saddr", "ip6 daddr"})
_NAMES = frozenset({"meta iifname", "meta oifname", "meta iif", "meta oif"})


def bounds_of(left: str, element: Any) -> tuple[int, int] | None:
    """First and last number an element covers; None when it is no number or range of numbers."""
    if isinstance(element, bool):
        return None
    if isinstance(element, int):
        return (element, element)
    if isinstance(element, str):
        number = symbol(left, element)
        return (number, number) if isinstance(number, int) else None
    if isinstance(element, list) and len(element) == 3 and element[0] == "range":
        low, high = bounds_of(left, element[1]), bounds_of(left, element[2])
        return None if low is None or high is None else (low[0], high[1])
    if isinstance(element, list) and len(element) == 3 and element[0] == "prefix" and isinstance(element[2], int):
        if not isinstance(element[1], str):
            return None
        base = address_number(element[1])
        if base is None:
            return None
        width = 128 if ":" in element[1] else 32
        bits = width - element[2]
        if not 0 <= bits <= width:
            return None
        low_end = base >> bits << bits
        return (low_end, low_end + (1 << bits) - 1)
    return None


def element_matches(left: str, element: Any, value: object) -> Answer:
    """One element against a known value."""
    if left[:4] == "fib " and left[-3:] == "oif":
        return _route_found(element, value)
    if left[:7] == "exthdr " and element in (0, 1):
        return value == ("exists" if element else "missing")
    if isinstance(element, str) and isinstance(value, str):
        if left in _NAMES and element.endswith("*"):
            return bool(value.startswith(element[:-1]))
        return element == value
    bounds = bounds_of(left, element)
    if bounds is not None and isinstance(value, int):
        return bounds[0] <= value <= bounds[1]
    if isinstance(element, list) or isinstance(element, str) != isinstance(value, str):
        return None  # a symbol this page does not know
    return bool(element == value)


def _route_found(element: Any, value: object) -> Answer:
    """``fib ... oif`` against ``missing``, ``exists`` or a name; value: the interface, "" for none."""
    if not isinstance(value, str):
        return None
    if element in ("missing", 0, "0", False):
        return value == ""
    if element in ("exists", 1, True):
        return value != ""
    return element.strip('"') == value if isinstance(element, str) else None


def concat_matches(left: str, element: Any, packet: Packet) -> Answer:
    """A concatenation, field by field."""
    fields = fields_of(left)
    parts = element[1:] if isinstance(element, list) and element[:1] == ["concat"] else [element]
    if len(parts) != len(fields):
        return None
    answer: Answer = True
    for name, part in zip(fields, parts):
        value = field(packet, name)
        if value is ABSENT:
            return False
        one = None if value is None else element_matches(name, part, value)
        if one is False:
            return False
        if one is None:
            answer = None
    return answer


class Index:
    """Elements of one set or map: single values in a hash, ranges sorted, concatenations hashed on their single values.

    Each element has its place (0-based) in what was given; ``find`` gives the first that holds the packet's value.
    """

    def __init__(self, left: str, elements: Iterable[Any]) -> None:
        self._left = left
        self._concatenated = len(fields_of(left)) > 1
        self._addresses = left in _ADDRESSES
        self._exact: dict[object, int] = {}
        ranges: list[tuple[int, int, int]] = []
        self._others: list[tuple[Any, int]] = []
        #: single-valued fields of a concatenation -> their values -> elements
        self._hashed: dict[tuple[int, ...], dict[tuple[object, ...], list[tuple[Any, int]]]] = {}
        self._unclear: list[int] = []
        self._count = 0
        for place, element in enumerate(elements):
            self._count += 1
            if self._concatenated:
                self._add_concat(element, place)
            else:
                self._add(element, place, ranges)
        ranges.sort()
        self._ranges = ranges
        self._starts = [one[0] for one in ranges]
        # Ranges may overlap (an ipset's nested networks): the furthest end so far decides whether to look further back.
        self._reach: list[int] = []
        for _low, high, _place in ranges:
            self._reach.append(max(high, self._reach[-1]) if self._reach else high)

    def _add(self, element: Any, place: int, ranges: list[tuple[int, int, int]]) -> None:
        if self._addresses and isinstance(element, str):
            number = address_number.__wrapped__(element)  # each is asked for once: the cache would only be turned over
            if number is not None:
                self._exact.setdefault(number, place)
                return
        bounds = bounds_of(self._left, element)
        if bounds is None:
            if isinstance(element, str) and not element.endswith("*") and self._left[:4] != "fib ":
                self._exact.setdefault(element, place)
            else:
                self._others.append((element, place))
        elif bounds[0] == bounds[1]:
            self._exact.setdefault(bounds[0], place)
        else:
            ranges.append((*bounds, place))

    def _add_concat(self, element: Any, place: int) -> None:
        names = fields_of(self._left)
        parts = element[1:] if isinstance(element, list) and element[:1] == ["concat"] else []
        if len(parts) != len(names):
            self._unclear.append(place)
            return
        single: list[int] = []
        values: list[object] = []
        for at, (name, part) in enumerate(zip(names, parts)):
            bounds = bounds_of(name, part)
            if bounds is not None and bounds[0] == bounds[1]:
                single.append(at)
                values.append(bounds[0])
            elif bounds is None and isinstance(part, str) and not part.endswith("*"):
                single.append(at)
                values.append(part)
        self._hashed.setdefault(tuple(single), {}).setdefault(tuple(values), []).append((element, place))

    def find(self, packet: Packet) -> tuple[Answer, int]:
        """(True, place of the first element that holds), (False, -1), or (None, -1): one may."""
        if self._concatenated:
            return self._find_concat(packet)
        value = field(packet, self._left)
        if value is ABSENT:
            return False, -1
        if value is None:
            return (None if self._count else False), -1
        best = self._exact.get(value, -1)
        for place in self._covering(value):
            best = place if best < 0 else min(best, place)
        unclear = bool(self._unclear)
        for element, place in self._others:
            one = element_matches(self._left, element, value)
            if one is True:
                best = place if best < 0 else min(best, place)
            unclear = unclear or one is None
        if best >= 0:
            return True, best
        return (None if unclear else False), -1

    def _covering(self, value: object) -> list[int]:
        """Places of the ranges that hold a number."""
        if not isinstance(value, int) or not self._ranges:
            return []
        found = []
        at = bisect.bisect_right(self._starts, value) - 1
        while at >= 0 and self._reach[at] >= value:
            if self._ranges[at][1] >= value:
                found.append(self._ranges[at][2])
            at -= 1
        return found

    def all_covering(self, packet: Packet) -> tuple[Answer, list[int]]:
        """Places of all elements that hold; (None, []) when that cannot be told."""
        if self._concatenated:
            return self._concat_places(packet)
        value = field(packet, self._left)
        if value is ABSENT:
            return False, []
        if value is None or self._others or self._unclear:
            return None, []
        found = self._covering(value)
        if value in self._exact:
            found.append(self._exact[value])
        return bool(found), found

    def _concat_places(self, packet: Packet) -> tuple[Answer, list[int]]:
        names = fields_of(self._left)
        values = [field(packet, name) for name in names]
        if ABSENT in values:
            return False, []
        unclear = bool(self._unclear)
        found: list[int] = []
        for single, table in self._hashed.items():
            if any(values[at] is None for at in single):
                candidates = [one for group in table.values() for one in group]
            else:
                candidates = table.get(tuple(values[at] for at in single), [])
            for element, place in candidates:
                one = concat_matches(self._left, element, packet)
                if one is True:
                    found.append(place)
                unclear = unclear or one is None
        return (None if unclear else bool(found)), found

    def _find_concat(self, packet: Packet) -> tuple[Answer, int]:
        answer, found = self._concat_places(packet)
        return (True, min(found)) if found else (answer, -1)


class Nested:
    """An ipset with networks or "nomatch" members: the most specific network decides (ipset(8)).

    Of several dimensions that are networks the first is looked through first. options: the set's header.
    """

    def __init__(self, left: str, elements: list[Any]) -> None:
        positive: list[Any] = []
        self._deny: list[bool] = []
        for element in elements:
            denied = isinstance(element, list) and element[:1] == ["nomatch"]
            positive.append(element[1] if denied else element)
            self._deny.append(denied)
        self._elements = positive
        self._denies = any(self._deny)
        self._index = Index(left, positive)

    def contains(self, packet: Packet, nomatch: bool = False) -> Answer:
        """nomatch: does a "nomatch" member decide?"""
        if nomatch and not self._denies:
            return False
        answer, found = self._index.all_covering(packet)
        if not found:
            return answer
        if answer is None:
            # One that may match may also be the more specific one.
            return None if self._denies else True
        best = max(found, key=lambda place: _lengths(self._elements[place]))
        return self._deny[best] is nomatch


class OnInterfaces:
    """An ipset of type hash:net,iface: the most specific network that it has with any interface decides, for all interfaces."""

    def __init__(self, left: str, elements: list[Any]) -> None:
        self._net, self._name = fields_of(left)
        self._nets: list[Any] = []
        self._names: list[Any] = []
        self._deny: list[bool] = []
        for element in elements:
            denied = element[:1] == ["nomatch"]
            _word, net, name = element[1] if denied else element
            self._nets.append(net)
            self._names.append(name)
            self._deny.append(denied)
        self._index = Index(self._net, self._nets)

    def contains(self, packet: Packet, nomatch: bool = False) -> Answer:
        answer, found = self._index.all_covering(packet)
        if answer is None or not found:
            return answer
        name = field(packet, self._name)
        longest = max(_length(self._nets[place]) for place in found)
        for place in found:
            if _length(self._nets[place]) != longest:
                continue
            one = None if name is None else name is not ABSENT and element_matches(self._name, self._names[place], name)
            if one is None:
                return None
            if one:
                return self._deny[place] is nomatch
        return False


def _lengths(element: Any) -> list[int]:
    parts = element[1:] if isinstance(element, list) and element[:1] == ["concat"] else [element]
    return [_length(one) for one in parts]


def _length(part: Any) -> int:
    """Length of a network; a single address is the longest."""
    if isinstance(part, list) and part[:1] == ["prefix"] and isinstance(part[2], int):
        return part[2]
    return 128


def any_of(answers: Iterable[Answer]) -> Answer:
    found: Answer = False
    for one in answers:
        if one is True:
            return True
        if one is None:
            found = None
    return found


def negate(answer: Answer) -> Answer:
    return None if answer is None else not answer


#: Anonymous sets with more members than this get an index.
LINEAR = 6
