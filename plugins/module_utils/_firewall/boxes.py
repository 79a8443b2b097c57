# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""Boxes of packets, for fold: which rules can match a packet in common. Pure.

A box says for some dimensions which numbers are possible; a dimension it does not name is not limited. It is never smaller than
what the rule matches. The certificate has an algebra of its own.
"""

from __future__ import annotations

import bisect
from typing import Optional

from ansible_collections.netops.fleet.plugins.module_utils._firewall.elements import bounds_of
from ansible_collections.netops.fleet.plugins.module_utils._firewall.model import Match, Rule

Spans = tuple[tuple[int, int], ...]
Box = dict[str, Spans]
Label = Optional[tuple[str, str]]

_STATES = ("invalid", "established", "related", "new", "untracked")
_PORTS = {"tcp": 6, "udp": 17, "udplite": 136, "sctp": 132, "dccp": 33}
_INTERFACES = ("meta iifname", "meta oifname")
_NAMES: dict[str, int] = {}
_TOP = {"ip": (1 << 32) - 1, "ip6": (1 << 128) - 1}


def box_of(rule: Rule) -> Box:
    box: Box = {}
    for part in rule.parts:
        if isinstance(part, Match):
            for dimension, spans in _limits(part):
                _limit(box, dimension, spans)
    return box


def _limit(box: Box, dimension: str, spans: Spans) -> None:
    known = box.get(dimension)
    box[dimension] = spans if known is None else _common(known, spans)


def _limits(part: Match) -> list[tuple[str, Spans]]:
    """What a condition says in numbers; what it says beyond is left out, which makes the box larger."""
    first, _space, second = part.left.partition(" ")
    found: list[tuple[str, Spans]] = []
    if " . " in part.left:
        return found
    spans = _spans(part)
    if first in ("ip", "ip6"):
        found.append(("family", ((4, 4) if first == "ip" else (6, 6),)))
        if second in ("saddr", "daddr") and spans is not None:
            found.append((part.left, spans if part.op == "in" else _without(spans, _TOP[first])))
    elif first in _PORTS:
        found.append(("protocol", ((_PORTS[first], _PORTS[first]),)))
        if second in ("sport", "dport") and spans is not None:
            found.append((second, spans if part.op == "in" else _without(spans, 65535)))
    elif spans is not None and part.left == "meta l4proto":
        found.append(("protocol", spans if part.op == "in" else _without(spans, 255)))
    elif spans is not None and (part.left in _INTERFACES or part.left == "ct state"):
        top = len(_STATES) - 1 if part.left == "ct state" else 1 << 62
        found.append((part.left, spans if not part.op.startswith("not") else _without(spans, top)))
    return found


def _spans(part: Match) -> Spans | None:
    """The numbers of a condition's elements; None when they are not all known."""
    if part.mask is not None or part.set is not None or not part.values:
        return None
    if part.left == "ct state":
        if part.op not in ("bits", "in", "not bits", "not in") or not set(part.values) <= set(_STATES):
            return None
        return _sorted([(at, at) for at in (_STATES.index(str(one)) for one in part.values)])
    if part.op not in ("in", "not in"):
        return None
    found = []
    for one in part.values:
        if part.left in _INTERFACES:
            if not isinstance(one, str) or one.endswith("*"):
                return None
            number = _NAMES.setdefault(one, len(_NAMES))
            found.append((number, number))
        else:
            bounds = bounds_of(part.left, one)
            if bounds is None:
                return None
            found.append(bounds)
    return _sorted(found)


def _sorted(spans: list[tuple[int, int]]) -> Spans:
    if len(spans) == 1:
        return (spans[0],)
    found: list[tuple[int, int]] = []
    for low, high in sorted(spans):
        if found and low <= found[-1][1] + 1:
            found[-1] = (found[-1][0], max(found[-1][1], high))
        else:
            found.append((low, high))
    return tuple(found)


def _without(spans: Spans, top: int) -> Spans:
    found, start = [], 0
    for low, high in spans:
        if low > start:
            found.append((start, low - 1))
        start = high + 1
    if start <= top:
        found.append((start, top))
    return tuple(found)


def _common(one: Spans, other: Spans) -> Spans:
    found = []
    for low, high in one:
        for low2, high2 in other:
            if low <= high2 and low2 <= high:
                found.append((max(low, low2), min(high, high2)))
    return tuple(found)


def meet(one: Box, other: Box) -> bool:
    """May a packet be in both?"""
    if len(other) < len(one):
        one, other = other, one
    for dimension, spans in one.items():
        against = other.get(dimension)
        if against is not None and not _touch(spans, against):
            return False
    return True


def _touch(one: Spans, other: Spans) -> bool:
    for low, high in one:
        for low2, high2 in other:
            if low <= high2 and low2 <= high:
                return True
    return False


class _Kind:
    """Rules of one label whose boxes name the same dimensions."""

    def __init__(self) -> None:
        self.boxes: dict[int, Box] = {}
        self._indexes: dict[str, _Lookup] = {}
        self.distinct: dict[str, int] = {}

    def lookup(self, dimension: str) -> _Lookup:
        found = self._indexes.get(dimension)
        if found is None:
            found = self._indexes[dimension] = _Lookup([(index, box[dimension]) for index, box in self.boxes.items()])
        return found


class _Lookup:
    """Which rules cover a number of a dimension?"""

    def __init__(self, rows: list[tuple[int, Spans]]) -> None:
        self._points: dict[int, list[int]] = {}
        ranges: list[tuple[int, int, int]] = []
        for index, spans in rows:
            for low, high in spans:
                if low == high:
                    self._points.setdefault(low, []).append(index)
                else:
                    ranges.append((low, high, index))
        ranges.sort()
        self._ranges = ranges
        self._keys = sorted(self._points)
        self._starts = [one[0] for one in ranges]
        self._reach: list[int] = []
        for _low, high, _index in ranges:
            self._reach.append(max(high, self._reach[-1]) if self._reach else high)

    def find(self, spans: Spans) -> set[int]:
        found: set[int] = set()
        for low, high in spans:
            if low == high:
                found.update(self._points.get(low, ()))
            else:
                for at in range(bisect.bisect_left(self._keys, low), bisect.bisect_right(self._keys, high)):
                    found.update(self._points[self._keys[at]])
            at = bisect.bisect_right(self._starts, high) - 1
            while at >= 0 and self._reach[at] >= low:
                if self._ranges[at][1] >= low:
                    found.add(self._ranges[at][2])
                at -= 1
        return found


class Opponents:
    """All rules of a segment, to be asked which are the nearest before and behind that a rule does not commute with."""

    def __init__(self, rows: list[tuple[int, Label, Box]]) -> None:
        self._position = {index: float(index) for index, _label, _box in rows}
        self._kinds: dict[tuple[Label, tuple[str, ...]], _Kind] = {}
        for index, label, box in rows:
            kind = self._kinds.setdefault((label, tuple(sorted(box))), _Kind())
            kind.boxes[index] = box
        self._orders: dict[tuple[Label, tuple[str, ...]], list[tuple[float, int]]] = {}
        for kind in self._kinds.values():
            names = next(iter(kind.boxes.values()))
            kind.distinct = {name: len({box[name] for box in kind.boxes.values()}) for name in names}

    def move(self, index: int, position: float) -> None:
        self._position[index] = position
        self._orders.clear()

    def window(self, index: int, label: Label, box: Box) -> tuple[float, float]:
        """The open interval of places this rule can be at."""
        here = self._position[index]
        low, high = float("-inf"), float("inf")
        for (other, names), kind in self._kinds.items():
            if other is not None and other == label:
                continue
            common = [name for name in names if name in box]
            if common:
                best = max(common, key=kind.distinct.__getitem__)
                found = kind.lookup(best).find(box[best])
                if len(found) <= 256:
                    for one in found:
                        if one != index and meet(kind.boxes[one], box):
                            there = self._position[one]
                            if there < here:
                                low = max(low, there)
                            else:
                                high = min(high, there)
                    continue
            low, high = self._near((other, names), kind, box, here, index, low, high)
        return low, high

    def _near(
        self, key: tuple[Label, tuple[str, ...]], kind: _Kind, box: Box, here: float, index: int, low: float, high: float
    ) -> tuple[float, float]:
        """Look outwards from the rule's own place: where many conflict, the nearest is near."""
        order = self._orders.get(key)
        if order is None:
            order = self._orders[key] = sorted((self._position[one], one) for one in kind.boxes)
        middle = bisect.bisect_left(order, (here, -1))
        for steps, limit in ((range(middle - 1, -1, -1), low), (range(middle, len(order)), high)):
            for at in steps:
                there, one = order[at]
                if one == index:
                    continue
                if (steps.step < 0 and there <= limit) or (steps.step > 0 and there >= limit):
                    break
                if meet(kind.boxes[one], box):
                    if steps.step < 0:
                        low = there
                    else:
                        high = there
                    break
        return low, high
