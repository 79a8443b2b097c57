# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""The certificate's comparison: two lists of entries, cell by cell. Pure. See certificate.py."""

from __future__ import annotations

import bisect
import socket
from dataclasses import dataclass
from typing import Any, Optional

Spans = tuple[tuple[int, int], ...]
Witness = dict[str, Any]
V4, V6 = (1 << 32) - 1, (1 << 128) - 1
#: Connection states as numbers of their dimension.
STATES = {"invalid": 0, "established": 1, "related": 2, "new": 3, "untracked": 4}
#: Names of interfaces as numbers of theirs.
WORDS: dict[str, int] = {}


class TooMuch(Exception):
    """The budget is spent."""


@dataclass
class Entry:
    """Packets with these numbers and all of these variables get this label. final: they go no further."""

    numbers: dict[str, Spans]
    variables: frozenset[str]
    label: str
    final: bool


class _Level:
    """What is left of entries once the dimensions before this one are decided, each different remainder once, by number."""

    def __init__(self) -> None:
        self.ids: dict[Any, int] = {}
        self.spans: list[Optional[Spans]] = []
        self.next: list[int] = []
        self.final: list[bool] = []
        self.always: list[bool] = []  # no condition left
        self.labels: list[str] = []


class Compare:
    """Two lists of entries. run() returns None when they are equal, else a packet."""

    def __init__(self, before: list[Entry], after: list[Entry], family: str, budget: int) -> None:
        borders: dict[str, set[int]] = {}
        for entry in (*before, *after):
            for name, spans in entry.numbers.items():
                borders.setdefault(name, set()).update(low for low, _high in spans)
        self.order = sorted(borders, key=lambda name: (-len(borders[name]), name))
        self.variables: list[str] = []
        self.cells = self.spent = 0
        self._budget = budget
        self._family = {"ip": (0, 0), "ip6": (1, 1)}.get(family, (0, 1))
        self._levels = [_Level() for _level in range(len(self.order) + 1)]
        self._rests: list[frozenset[str]] = []
        self._equal: set[tuple[int, tuple[int, ...], tuple[int, ...]]] = set()
        self._lists = [[self._number(entry) for entry in entries] for entries in (before, after)]

    def _number(self, entry: Entry) -> int:
        """Register an entry at every level, last first."""
        last = self._levels[-1]
        key: Any = (entry.variables, entry.label, entry.final)
        number = last.ids.setdefault(key, len(last.ids))
        if number == len(last.next):
            last.spans.append(None)
            last.next.append(-1)
            last.final.append(entry.final)
            last.always.append(not entry.variables)
            last.labels.append(entry.label)
            self._rests.append(entry.variables)
        for depth in range(len(self.order) - 1, -1, -1):
            level, spans = self._levels[depth], entry.numbers.get(self.order[depth])
            later, number = number, level.ids.setdefault((spans, number), len(level.ids))
            if number == len(level.next):
                level.spans.append(spans)
                level.next.append(later)
                level.final.append(entry.final)
                level.always.append(spans is None and self._levels[depth + 1].always[later])
                level.labels.append(entry.label)
        return number

    def run(self) -> Witness | None:
        return self._compare(0, *self._lists)

    def _spend(self, amount: int) -> None:
        self.spent += amount
        if self.spent > self._budget:
            raise TooMuch

    def _clean(self, depth: int, numbers: list[int]) -> list[int]:
        """Without what an entry before it decides already."""
        level = self._levels[depth]
        seen: set[int] = set()
        found: list[int] = []
        for number in numbers:
            if level.final[number]:
                if number in seen:
                    continue
                seen.add(number)
                found.append(number)
                if level.always[number]:
                    break
            else:
                found.append(number)
        return found

    def _compare(self, depth: int, one: list[int], other: list[int]) -> Witness | None:
        self._spend(len(one) + len(other) + 1)
        one, other = self._clean(depth, one), self._clean(depth, other)
        if one == other:
            return None
        start, end = 0, 0
        while start < min(len(one), len(other)) and one[start] == other[start]:
            start += 1
        while end < min(len(one), len(other)) - start and one[-1 - end] == other[-1 - end]:
            end += 1
        key = (depth, tuple(one), tuple(other))
        if key in self._equal:
            return None
        # Equal between what both have at their ends is equal; if not, the ends may still make it so.
        middle = one[start : len(one) - end], other[start : len(other) - end]
        witness = self._split(depth, *middle)
        if witness is not None and (start or end):
            witness = self._split(depth, one, other)
        if witness is None:
            self._equal.add(key)
        return witness

    def _split(self, depth: int, one: list[int], other: list[int]) -> Witness | None:
        if depth == len(self.order):
            return self._decide({}, one, other)
        level, name = self._levels[depth], self.order[depth]
        if all(level.spans[number] is None for number in (*one, *other)):
            return self._compare(depth + 1, [level.next[n] for n in one], [level.next[n] for n in other])
        sides = (_Side(level, one), _Side(level, other))
        borders: dict[int, list[tuple[int, int]]] = {}
        for which, side in enumerate(sides):
            side.register(which, borders)
        low, high = self._domain(name)
        points = sorted(borders)
        seen: set[Any] = set()
        at = low
        for number, point in enumerate([low, *points]):
            if number:
                for which, place in borders[point]:
                    sides[which].toggle(place)
                at = max(point, low)
            following = points[number] if number < len(points) else high + 1
            if following <= at or at > high:
                continue
            self._spend(1)
            key = (sides[0].key(), sides[1].key())
            if key in seen:
                continue
            seen.add(key)
            self.cells += 1
            witness = self._compare(depth + 1, sides[0].active(), sides[1].active())
            if witness is not None:
                witness[name] = _shown(name, at)
                return witness
        return None

    def _domain(self, name: str) -> tuple[int, int]:
        if name == "family":
            return self._family
        head, _space, tail = name.partition(" ")
        if tail in ("saddr", "daddr") and head in ("ip", "ip6"):
            return 0, V4 if head == "ip" else V6
        return -1, {"protocol": 255, "th sport": 65535, "th dport": 65535, "ct state": 4}.get(name, 1 << 64)

    def _decide(self, known: dict[str, bool], one: list[int], other: list[int]) -> Witness | None:
        """All numbers are decided; try the variables."""
        self._spend(len(one) + len(other) + 1)
        level = self._levels[-1]
        sides = []
        for numbers in (one, other):
            left = []
            for number in numbers:
                rest = self._rests[number]
                if any(known.get(variable) is False for variable in rest):
                    continue
                left.append(number)
                if level.final[number] and all(known.get(variable) for variable in rest):
                    break
            sides.append(left)
        if sides[0] == sides[1]:
            return None
        for numbers in sides:
            for number in numbers:
                for variable in self._rests[number]:
                    if variable not in known:
                        for value in (True, False):
                            witness = self._decide({**known, variable: value}, sides[0], sides[1])
                            if witness is not None:
                                return witness
                        return None
        self.cells += 1
        said = [" then ".join(level.labels[number] for number in numbers) or "goes on" for numbers in sides]
        if said[0] == said[1]:
            return None
        return {"before": said[0], "after": said[1], **known}


class _Side:
    """One list along one dimension: entries that are limited in it come and go, the others are always there."""

    def __init__(self, level: _Level, numbers: list[int]) -> None:
        self._level, self._numbers = level, numbers
        self._wide = [place for place, number in enumerate(numbers) if level.spans[number] is None]
        self._active: list[int] = []
        #: where the run of wide entries with one final label begins, for each wide entry
        self._run: list[int] = []
        for at, place in enumerate(self._wide):
            same = at > 0 and self._label(place) is not None and self._label(place) == self._label(self._wide[at - 1])
            self._run.append(self._run[at - 1] if same else at)

    def _label(self, place: int) -> str | None:
        number = self._numbers[place]
        return self._level.labels[number] if self._level.final[number] else None

    def register(self, which: int, borders: dict[int, list[tuple[int, int]]]) -> None:
        for place, number in enumerate(self._numbers):
            for low, high in self._level.spans[number] or ():
                borders.setdefault(low, []).append((which, place))
                borders.setdefault(high + 1, []).append((which, place))

    def toggle(self, place: int) -> None:
        at = bisect.bisect_left(self._active, place)
        if at < len(self._active) and self._active[at] == place:
            del self._active[at]
        else:
            self._active.insert(at, place)

    def key(self) -> tuple[Any, ...]:
        """Equal keys stand for lists that decide alike. Entries of one final label among their like have no order."""
        if not self._active:
            return ()
        label = self._label(self._active[0])
        alike = label is not None and all(self._label(place) == label for place in self._active[1:])
        found = [(self._slot(place, alike), self._level.next[self._numbers[place]]) for place in self._active]
        return tuple(sorted(set(found))) if alike else tuple(found)

    def _slot(self, place: int, alike: bool) -> int:
        at = bisect.bisect_left(self._wide, place)
        if not alike:
            return at
        label = self._label(place)
        if at > 0 and self._label(self._wide[at - 1]) == label:
            return self._run[at - 1]
        return at

    def active(self) -> list[int]:
        """What is left of the entries that cover the present interval, in order."""
        places = sorted([*self._wide, *self._active]) if self._active else self._wide
        return [self._level.next[self._numbers[place]] for place in places]


def _shown(name: str, value: int) -> Any:
    if name in ("ip saddr", "ip daddr"):
        return socket.inet_ntop(socket.AF_INET, value.to_bytes(4, "big"))
    if name in ("ip6 saddr", "ip6 daddr"):
        return socket.inet_ntop(socket.AF_INET6, value.to_bytes(16, "big"))
    if name == "family":
        return 6 if value else 4
    if name == "ct state":
        return next((word for word, number in STATES.items() if number == value), "none")
    if name in ("meta iifname", "meta oifname"):
        return next((word for word, number in WORDS.items() if number == value), "another")
    return "none" if value < 0 else value
