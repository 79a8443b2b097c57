# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""Does a rule's part match a packet? True, False, or None: it may."""

from __future__ import annotations

import bisect
from typing import Any, Optional

from ansible_collections.netops.fleet.plugins.module_utils._firewall import model
from ansible_collections.netops.fleet.plugins.module_utils._firewall.packet import (
    ABSENT,
    Packet,
    address_number,
    field,
    fields_of,
    symbol,
)

Answer = Optional[bool]


def negate(answer: Answer) -> Answer:
    return None if answer is None else not answer


class Sets:
    """Membership of the named sets of a ruleset, each indexed once."""

    def __init__(self, sets: list[model.Set]) -> None:
        self._nft = {(one.family, one.table, one.name): one for one in sets if one.backend == model.NFT}
        self._ipset = {one.name: one for one in sets if one.backend == model.IPSET}
        self._indexes: dict[int, _Index] = {}

    def find(self, rule: model.Rule, name: str) -> model.Set | None:
        if rule.backend in (model.IPTABLES_NFT, model.IPTABLES_LEGACY):
            return self._ipset.get(name)
        return self._nft.get((rule.family, rule.table, name))

    def contains(self, rule: model.Rule, name: str, left: str, packet: Packet) -> Answer:
        """None when the set was not read, is not known, or the packet's field is not known."""
        found = self.find(rule, name)
        if found is None or found.elements is None:
            return None
        index = self._indexes.get(id(found))
        if index is None:
            index = self._indexes[id(found)] = _Index(left, found.elements)
        return index.contains(left, packet)


class _Index:
    """Elements of one set: single values in a hash, ranges sorted, concatenations in a list."""

    def __init__(self, left: str, elements: list[Any]) -> None:
        self.exact: set[object] = set()
        self.ranges: list[tuple[int, int]] = []
        self.denied: list[Any] = []
        self.others: list[Any] = []
        self.unclear = False
        for element in elements:
            if isinstance(element, list) and element[:1] == ["nomatch"]:
                self.denied.append(element[1])
            elif isinstance(element, list) and element[:1] == ["concat"]:
                self.others.append(element)
            else:
                self._add(left, element)
        self.ranges.sort()
        self.starts = [low for low, _high in self.ranges]
        # Ranges may overlap (an ipset's nested networks): the furthest end so far decides whether to look further back.
        self.reach: list[int] = []
        for _low, high in self.ranges:
            self.reach.append(max(high, self.reach[-1]) if self.reach else high)

    def _add(self, left: str, element: Any) -> None:
        bounds = bounds_of(left, element)
        if bounds is None:
            value = symbol(left, element) if not isinstance(element, list) else None
            if value is None:
                self.unclear = True
            elif isinstance(value, str) and value.endswith("*"):
                self.others.append(element)
            else:
                self.exact.add(value)
        elif bounds[0] == bounds[1]:
            self.exact.add(bounds[0])
        else:
            self.ranges.append(bounds)

    def contains(self, left: str, packet: Packet) -> Answer:
        if len(fields_of(left)) > 1:
            return self._concatenated(left, packet)
        value = field(packet, left)
        if value is ABSENT:
            return False
        if value is None:
            return None if (self.exact or self.ranges or self.others or self.unclear) else False
        if self.denied and isinstance(value, int):
            return self._most_specific(left, value)
        if value in self.exact:
            return True
        if isinstance(value, int) and self.ranges:
            at = bisect.bisect_right(self.starts, value) - 1
            if at >= 0 and self.reach[at] >= value:
                return True
        if any(element_matches(left, element, value) for element in self.others):
            return True
        return None if self.unclear else False

    def _concatenated(self, left: str, packet: Packet) -> Answer:
        answer: Answer = None if (self.unclear or self.exact or self.ranges) else False
        for element in self.denied:
            if _concat_matches(left, element, packet) is not False:
                return None
        for element in self.others:
            one = _concat_matches(left, element, packet)
            if one is True:
                return True
            if one is None:
                answer = None
        return answer

    def _most_specific(self, left: str, value: int) -> Answer:
        """ipset(8): of nested networks the most specific one decides, a "nomatch" one denies."""
        best: tuple[int, bool] | None = None
        candidates = [(low, high, True) for low, high in self.ranges if low <= value <= high]
        if value in self.exact:
            candidates.append((value, value, True))
        for element in self.denied:
            bounds = bounds_of(left, element)
            if bounds is None:
                return None
            if bounds[0] <= value <= bounds[1]:
                candidates.append((bounds[0], bounds[1], False))
        for low, high, positive in candidates:
            if best is None or high - low < best[0]:
                best = (high - low, positive)
        return bool(best and best[1])


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
        bits = (128 if ":" in element[1] else 32) - element[2]
        if bits < 0:
            return None
        low_end = base >> bits << bits
        return (low_end, low_end + (1 << bits) - 1)
    return None


def element_matches(left: str, element: Any, value: object) -> Answer:
    """One element against a known value."""
    if isinstance(element, str) and isinstance(value, str):
        if left in ("meta iifname", "meta oifname", "meta iif", "meta oif") and element.endswith("*"):
            return bool(value.startswith(element[:-1]))
        return element == value
    bounds = bounds_of(left, element)
    if bounds is not None and isinstance(value, int):
        return bounds[0] <= value <= bounds[1]
    if isinstance(element, list) or isinstance(element, str) != isinstance(value, str):
        return None  # a symbol this page does not know
    return bool(element == value)


def _concat_matches(left: str, element: Any, packet: Packet) -> Answer:
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


def matches(match: model.Match, rule: model.Rule, packet: Packet, sets: Sets) -> Answer:
    """Does this condition hold for the packet?"""
    if match.set is not None:
        answer = sets.contains(rule, match.set, match.left, packet) if match.mask is None else None
        if _missing(match.left, packet):
            return False if rule.backend == model.NFT else negate_if(match.op, answer)
        return negate_if(match.op, answer)
    values = match.values or []
    if len(fields_of(match.left)) > 1:
        if _missing(match.left, packet):
            return False
        return negate_if(match.op, _any(_concat_matches(match.left, one, packet) for one in values))
    value = field(packet, match.left)
    if value is ABSENT:
        # nft puts a protocol condition of its own before a payload field: without the field the rule ends here.
        return False
    if value is None:
        return None
    if match.mask is not None:
        if not isinstance(value, int):
            return None
        value &= match.mask
    if match.op in ("in", "not in"):
        return negate_if(match.op, _any(element_matches(match.left, one, value) for one in values))
    if match.op in ("bits", "not bits"):
        return negate_if(match.op, _any(_bit(match.left, one, value) for one in values))
    if match.op in ("<", ">", "<=", ">=") and isinstance(value, int) and values:
        bounds = bounds_of(match.left, values[0])
        if bounds is None:
            return None
        limit = bounds[0]
        return bool({"<": value < limit, ">": value > limit, "<=": value <= limit, ">=": value >= limit}[match.op])
    return None


def _missing(left: str, packet: Packet) -> bool:
    return any(field(packet, name) is ABSENT for name in fields_of(left))


def negate_if(operator: str, answer: Answer) -> Answer:
    return negate(answer) if operator.startswith("not") else answer


def _any(answers: Any) -> Answer:
    found: Answer = False
    for one in answers:
        if one is True:
            return True
        if one is None:
            found = None
    return found


def _bit(left: str, element: Any, value: object) -> Answer:
    """``left & element`` is not zero. States of a connection are names: one is set at a time."""
    bits = symbol(left, element)
    if isinstance(bits, int) and isinstance(value, int):
        return bool(value & bits)
    if isinstance(element, str) and isinstance(value, str):
        return element == value
    return None


def key_of(
    vmap: model.VerdictMap, entries: list[tuple[Any, model.Verdict]], packet: Packet
) -> tuple[Answer, model.Verdict | None, Any]:
    """Which entry of a verdict map the packet hits: (True, verdict, key), (False, None, None), or (None, None, None)."""
    concatenated = len(fields_of(vmap.left)) > 1
    value = None if concatenated else field(packet, vmap.left)
    if value is ABSENT or (concatenated and _missing(vmap.left, packet)):
        return False, None, None
    if not concatenated and value is None:
        return None, None, None
    unclear = False
    for key, verdict in entries:
        one = _concat_matches(vmap.left, key, packet) if concatenated else element_matches(vmap.left, key, value)
        if one is True:
            return True, verdict, key
        unclear = unclear or one is None
    return (None if unclear else False), None, None
