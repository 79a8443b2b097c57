# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""Do two lists of rules give every packet the same verdict? An exact answer, or "could not tell". Pure.

Nothing here is shared with fold: neither the reading of conditions nor the algebra. A condition on a number (address, port,
protocol, mark, interface, connection state) is a set of numbers of one dimension; any other condition is a variable that is
true or false on its own. Both lists are split along one dimension after the other into the intervals between all their
borders, and compared where every condition is decided. More packets are looked at than there are (variables may contradict
each other), so "equal" holds for all real ones.
Design: docs/dev/firewall-sets.md.
"""

from __future__ import annotations

import bisect
import json
import re
import socket
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Optional

from ansible_collections.netops.fleet.plugins.module_utils._firewall.model import (
    NFT,
    Action,
    Match,
    Rule,
    Set,
    Unknown,
    VerdictMap,
)

EQUAL, DIFFERENT, UNKNOWN = "equal", "different", "unknown"
#: Cells and list members looked at before the answer is "could not tell".
BUDGET = 60_000_000

Spans = tuple[tuple[int, int], ...]
Witness = dict[str, Any]
_FINAL = {"accept", "drop", "reject", "return"}
_NOISELESS = {"log", "counter"}
_STATES = {"invalid": 0, "established": 1, "related": 2, "new": 3, "untracked": 4}
_TRANSPORT = {"tcp": 6, "udp": 17, "dccp": 33, "sctp": 132, "udplite": 136}
_V4, _V6 = (1 << 32) - 1, (1 << 128) - 1
_COUNTS = re.compile(r"\bpackets \d+ bytes \d+")


class _TooMuch(Exception):
    """The budget is spent."""


@dataclass
class Certificate:
    """verdict: equal, different (witness: a packet that shows it) or unknown (why). cells: places compared."""

    verdict: str
    why: str = ""
    witness: Witness | None = None
    cells: int = 0
    dimensions: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if value not in (None, "")}


def certify(
    before: list[Rule], after: list[Rule], sets: Iterable[Set] = (), quiet: frozenset[str] = frozenset(), budget: int = BUDGET
) -> Certificate:
    """Compare two lists for one chain. sets: those that the rules after name and that are looked into (a set not given is
    a variable). quiet: chains of which it is known that they only filter, log and count (see :func:`quiet_chains`)."""
    known = {one.name: one for one in sets}
    family = next((rule.family for rule in (*before, *after)), "inet")
    try:
        parts = [_segments(rules, known, quiet) for rules in (before, after)]
    except ValueError as error:
        return Certificate(UNKNOWN, str(error))
    (first, cuts), (second, others) = parts
    if cuts != others:
        at = next((n for n, (one, other) in enumerate(zip(cuts, others)) if one != other), min(len(cuts), len(others)))
        said = [one[at][:200] if at < len(one) else "(none)" for one in (cuts, others)]
        return Certificate(DIFFERENT, f"rules with an effect are not the same: before {said[0]}, after {said[1]}")
    result = Certificate(EQUAL)
    names: dict[str, None] = {}
    for one, other in zip(first, second):
        compare = _Compare(one, other, family, budget)
        try:
            witness = compare.run()
        except _TooMuch:
            return Certificate(UNKNOWN, f"more than {budget} places to compare", cells=result.cells + compare.cells)
        except RecursionError:
            return Certificate(UNKNOWN, "conditions too deep to compare")
        budget -= compare.spent
        result.cells += compare.cells
        names.update(dict.fromkeys(compare.order))
        if witness is not None:
            result.verdict, result.witness = DIFFERENT, witness
            result.why = f"before: {witness.pop('before')}, after: {witness.pop('after')}"
            break
    result.dimensions = list(names)
    return result


def quiet_chains(rules: Iterable[Rule]) -> frozenset[str]:
    """Chains (of one table) whose rules, and those of the chains they jump to, only look at packets, log and count."""
    loud: set[str] = set()
    jumps: dict[str, set[str]] = {}
    names: set[str] = set()
    for rule in rules:
        names.add(rule.chain)
        verdict = rule.verdict
        if verdict is not None and verdict.kind in ("jump", "goto"):
            jumps.setdefault(rule.chain, set()).add(verdict.target or "")
        elif verdict is not None and verdict.kind not in (*_FINAL, "continue"):
            loud.add(rule.chain)
        for part in rule.parts:
            if isinstance(part, VerdictMap) or (isinstance(part, Action) and (part.terminal or part.name not in _NOISELESS)):
                loud.add(rule.chain)
        if rule.owner != "user":
            loud.add(rule.chain)
    while True:
        more = {chain for chain, targets in jumps.items() if chain not in loud and targets & loud}
        if not more:
            return frozenset(names - loud)
        loud |= more


# --- rules as entries


@dataclass
class _Entry:
    """Packets with these numbers and all of these variables get this label. final: they go no further."""

    numbers: dict[str, Spans]
    variables: frozenset[str]
    label: str
    final: bool


def _segments(rules: list[Rule], known: dict[str, Set], quiet: frozenset[str]) -> tuple[list[list[_Entry]], list[str]]:
    """Entries between the rules that may do more than decide, and those rules as text."""
    segments: list[list[_Entry]] = [[]]
    cuts: list[str] = []
    for rule in rules:
        if _simple(rule, quiet):
            segments[-1] += _entries(rule, known)
        else:
            cuts.append(_identity(rule))
            segments.append([])
    return segments, cuts


def _identity(rule: Rule) -> str:
    verdict = None if rule.verdict is None else rule.verdict.to_dict()
    text = _COUNTS.sub("packets", rule.text)
    return json.dumps([text, [part.to_dict() for part in rule.parts], verdict], sort_keys=True)


def _simple(rule: Rule, quiet: frozenset[str]) -> bool:
    """Conditions first, then at most something that leaves packet and chain as they are, then a known end."""
    acted = False
    for part in rule.parts:
        if isinstance(part, Action):
            acted = True
            if part.terminal or part.name not in _NOISELESS:
                return False
        elif isinstance(part, (Unknown, VerdictMap)) or acted:
            return False
    if rule.verdict is None or rule.verdict.kind in _FINAL or rule.verdict.kind == "continue":
        return True
    return rule.verdict.kind in ("jump", "goto") and rule.verdict.target in quiet


def _entries(rule: Rule, known: dict[str, Set]) -> list[_Entry]:
    actions = [part.to_dict() for part in rule.parts if isinstance(part, Action)]
    verdict = rule.verdict
    final = verdict is not None and verdict.kind in (*_FINAL, "goto")
    if not actions and (verdict is None or verdict.kind == "continue"):
        return []  # it only counts
    words = [] if verdict is None else [verdict.kind, verdict.target or "", verdict.detail or ""]
    label = json.dumps([words, actions]) if actions else " ".join(word for word in words if word)
    boxes: list[tuple[dict[str, Spans], frozenset[str]]] = [({}, frozenset())]
    for part in rule.parts:
        if not isinstance(part, Match):
            continue
        choices = _choices(part, rule, known)
        boxes = [
            (numbers, variables | more)
            for given, variables in boxes
            for limits, more in choices
            for numbers in [_both(given, limits)]
            if numbers is not None
        ]
    if not final and len(boxes) > 1:
        raise ValueError(f"{rule.where()}: an effect behind a set of pairs")
    return [_Entry(numbers, variables, label, final) for numbers, variables in boxes]


def _both(given: dict[str, Spans], limits: dict[str, Spans]) -> dict[str, Spans] | None:
    """Packets in both; None when there are none."""
    found = dict(given)
    for name, spans in limits.items():
        if name in found:
            spans = _cut(found[name], spans)
            if not spans:
                return None
        found[name] = spans
    return found if all(found.values()) else None


def _cut(one: Spans, other: Spans) -> Spans:
    found, a, b = [], 0, 0
    while a < len(one) and b < len(other):
        low, high = max(one[a][0], other[b][0]), min(one[a][1], other[b][1])
        if low <= high:
            found.append((low, high))
        if one[a][1] < other[b][1]:
            a += 1
        else:
            b += 1
    return tuple(found)


def _choices(part: Match, rule: Rule, known: dict[str, Set]) -> list[tuple[dict[str, Spans], frozenset[str]]]:
    """A condition as one box, or (a set of concatenations) as several of which one must hold."""
    names = part.left.split(" . ")
    values = part.values
    more: dict[str, Spans] = {}
    if part.set is not None:
        content = known.get(part.set)
        if content is None or content.elements is None or part.mask is not None or part.op != "in":
            return [_variable(part)]
        if content.backend != NFT:
            wanted = {"ip": "inet", "ip6": "inet6"}[rule.family]
            if content.family not in ("", wanted):
                return []
            if content.type == "bitmap:port":
                more["protocol"] = ((6, 6), (17, 17))
        values = content.elements
    if values is None:
        return [_variable(part)]
    if len(names) == 1:
        numbers = _numbers(names[0], part, values)
        if numbers is None:
            return [_variable(part)]
        joined = _both(numbers, more)
        return [] if joined is None else [(joined, frozenset())]
    if part.op != "in" or part.mask is not None:
        return [_variable(part)]
    found: list[tuple[dict[str, Spans], frozenset[str]]] = []
    for value in values:
        if not (isinstance(value, list) and value[:1] == ["concat"] and len(value) == len(names) + 1):
            return [_variable(part)]
        box: dict[str, Spans] | None = {}
        for name, one in zip(names, value[1:]):
            numbers = _numbers(name, Match(name, "in", [one]), [one])
            if numbers is None:
                return [_variable(part)]
            box = None if box is None else _both(box, numbers)
        if box is not None:
            found.append((box, frozenset()))
    return found


def _variable(part: Match) -> tuple[dict[str, Spans], frozenset[str]]:
    return {}, frozenset((json.dumps(part.to_dict(), sort_keys=True),))


def _numbers(left: str, part: Match, values: list[Any]) -> dict[str, Spans] | None:
    """The condition in numbers, with what it says about family and protocol; None when it is not about numbers."""
    if part.mask is not None:
        return None
    if left == "ct state":
        if not all(isinstance(one, str) and one in _STATES for one in values):
            return None
        if part.op not in ("in", "bits", "not in", "not bits"):
            return None
    elif part.op not in ("in", "not in", "<", ">", "<=", ">="):
        return None
    name, top, limits = _dimension(left)
    spans: list[tuple[int, int]] = []
    for one in values:
        found = _interval(left, one)
        if found is None:
            return None
        spans.append(found)
    if part.op in ("<", ">", "<=", ">="):
        value = spans[0][0]
        chosen = {"<": (0, value - 1), "<=": (0, value), ">": (value + 1, top), ">=": (value, top)}[part.op]
        limits[name] = (chosen,) if chosen[0] <= chosen[1] else ()
    else:
        joined = _union(spans)
        limits[name] = _complement(joined, top) if part.op.startswith("not") else joined
    return limits


def _dimension(left: str) -> tuple[str, int, dict[str, Spans]]:
    """Name of the dimension, its largest number, what the selector implies. A packet without the field has -1 there."""
    head, _space, tail = left.partition(" ")
    if head == "ip" and tail in ("saddr", "daddr"):
        return left, _V4, {"family": ((0, 0),)}
    if head == "ip6" and tail in ("saddr", "daddr"):
        return left, _V6, {"family": ((1, 1),)}
    if head in _TRANSPORT and tail in ("sport", "dport"):
        return f"th {tail}", 65535, {"protocol": ((_TRANSPORT[head], _TRANSPORT[head]),)}
    if left in ("th sport", "th dport"):
        return left, 65535, {}
    if left == "meta l4proto":
        return "protocol", 255, {}
    if left == "ct state":
        return left, len(_STATES) - 1, {}
    return left, 1 << 64, {}


_WORDS: dict[str, int] = {}


def _interval(left: str, value: Any) -> tuple[int, int] | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return None if left.endswith("addr") else (value, value)
    if isinstance(value, str):
        if left == "ct state":
            return (_STATES[value], _STATES[value])
        if left in ("meta iifname", "meta oifname"):
            if value.endswith("*"):
                return None
            number = _WORDS.setdefault(value, len(_WORDS))
            return (number, number)
        number = _address(left, value)
        return None if number < 0 else (number, number)
    if isinstance(value, list) and len(value) == 3 and value[0] == "range":
        low, high = _interval(left, value[1]), _interval(left, value[2])
        return None if low is None or high is None or high[1] < low[0] else (low[0], high[1])
    if isinstance(value, list) and len(value) == 3 and value[0] == "prefix" and isinstance(value[1], str):
        number = _address(left, value[1])
        free = (32 if left.startswith("ip ") else 128) - int(value[2])
        if number < 0 or free < 0:
            return None
        return (number >> free) << free, number | ((1 << free) - 1)
    return None


def _address(left: str, text: str) -> int:
    """-1 when it is no address of the selector's family."""
    if left not in ("ip saddr", "ip daddr", "ip6 saddr", "ip6 daddr"):
        return -1
    try:
        return int.from_bytes(socket.inet_pton(socket.AF_INET if left[2] == " " else socket.AF_INET6, text), "big")
    except OSError:
        return -1


def _union(spans: list[tuple[int, int]]) -> Spans:
    spans.sort()
    found: list[tuple[int, int]] = []
    for low, high in spans:
        if found and low <= found[-1][1] + 1:
            if high > found[-1][1]:
                found[-1] = (found[-1][0], high)
        else:
            found.append((low, high))
    return tuple(found)


def _complement(spans: Spans, top: int) -> Spans:
    found, at = [], 0
    for low, high in spans:
        if at < low:
            found.append((at, low - 1))
        at = high + 1
    if at <= top:
        found.append((at, top))
    return tuple(found)


# --- the comparison


class _Level:
    """What is left of entries once the dimensions before this one are decided, each different remainder once, by number."""

    def __init__(self) -> None:
        self.ids: dict[Any, int] = {}
        self.spans: list[Optional[Spans]] = []
        self.next: list[int] = []
        self.final: list[bool] = []
        self.always: list[bool] = []  # no condition left
        self.labels: list[str] = []


class _Compare:
    """Two lists of entries. run() returns None when they are equal, else a packet."""

    def __init__(self, before: list[_Entry], after: list[_Entry], family: str, budget: int) -> None:
        borders: dict[str, set[int]] = {}
        for entry in (*before, *after):
            for name, spans in entry.numbers.items():
                borders.setdefault(name, set()).update(low for low, _high in spans)
        self.order = sorted(borders, key=lambda name: (-len(borders[name]), name))
        self.variables: list[str] = []
        self.cells = self.spent = 0
        self._budget = budget
        self._family = {"ip": (0, 0), "ip6": (1, 1)}.get(family, (0, 1))
        self._levels = [_Level() for _ in range(len(self.order) + 1)]
        self._rests: list[frozenset[str]] = []
        self._equal: set[tuple[int, tuple[int, ...], tuple[int, ...]]] = set()
        self._lists = [[self._number(entry) for entry in entries] for entries in (before, after)]

    def _number(self, entry: _Entry) -> int:
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
            raise _TooMuch

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
            return 0, _V4 if head == "ip" else _V6
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
        return next((word for word, number in _STATES.items() if number == value), "none")
    if name in ("meta iifname", "meta oifname"):
        return next((word for word, number in _WORDS.items() if number == value), "another")
    return "none" if value < 0 else value
