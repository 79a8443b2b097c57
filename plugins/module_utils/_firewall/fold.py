# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""Rules of one chain → fewer rules and sets, with the same verdict for every packet. Pure. Design: docs/dev/firewall-sets.md.

A rule is seen as a box that holds every packet it can match, and maybe more. Rules commute when their boxes have no packet in
common, or when both end with the same verdict and do nothing else. What is not understood is a barrier: nothing moves across it.
"""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Union

from ansible_collections.netops.fleet.plugins.module_utils._firewall import fold_text
from ansible_collections.netops.fleet.plugins.module_utils._firewall.boxes import Box, Opponents, box_of, meet
from ansible_collections.netops.fleet.plugins.module_utils._firewall.fold_text import Shape
from ansible_collections.netops.fleet.plugins.module_utils._firewall.model import NFT, Action, Match, Rule

#: (kind, detail) of a verdict that ends the chain for a packet.
Label = tuple[str, str]
#: (numbers in each dimension, element, index of the rule)
_Row = tuple[tuple[tuple[int, int], ...], Any, int]
_ENDS = ("accept", "drop", "reject", "return")
#: Actions that change neither the packet nor what later rules see.
_QUIET = ("log", "counter")
#: Longest name an ipset may have (IPSET_MAXNAMELEN - 1).
_NAME = 31


@dataclass
class NewSet:
    """elements: (element, comment). dimension: saddr, daddr, sport, dport, or two of them."""

    name: str
    type: str
    dimension: tuple[str, ...]
    interval: bool
    elements: list[tuple[Any, str | None]] = field(default_factory=list)
    #: of the ports, where there are some
    protocol: int = 6


#: Where a rule is now: ("kept", i), ("set", i, name, element) or ("gone", i, why); i: index in after.
Place = tuple[Union[str, int], ...]


@dataclass
class After:
    """text: None for a rule that stays as it is. sources: indexes of the rules before."""

    text: str | None
    sources: list[int]
    packets: int | None = None
    bytes: int | None = None


@dataclass
class Folded:
    """Of one chain. barriers: (index, why). places: one for each rule before."""

    after: list[After]
    places: list[Place]
    sets: list[NewSet]
    barriers: list[tuple[int, str]]

    @property
    def changed(self) -> bool:
        return [one.sources for one in self.after] != [[index] for index in range(len(self.places))]


@dataclass
class _Item:
    """A rule while it is being folded. label: None for one that has an effect and commutes with what is disjoint only."""

    index: int
    rule: Rule
    box: Box
    label: Label | None
    shape: Shape | None
    position: float = 0.0


def label_of(rule: Rule) -> Label | None:
    verdict = rule.verdict
    if verdict is None or verdict.kind not in _ENDS:
        return None
    return verdict.kind, verdict.detail or ""


def barrier(rule: Rule, quiet_chain: Callable[[str], bool]) -> str:
    """Why nothing may move across this rule; "" when it may, by its box."""
    if rule.owner != "user":
        return f"belongs to {rule.owner}"
    acted = False
    for part in rule.parts:
        if isinstance(part, Match):
            if acted:
                return "acts before its last condition"
        elif isinstance(part, Action):
            if part.name not in _QUIET or part.terminal:
                return f"has an effect: {part.name}"
            acted = True
        else:
            return f"not understood or not static: {part.to_dict().get('text') or 'verdict map'}"[:200]
    verdict = rule.verdict
    if verdict is None or verdict.kind == "continue" or label_of(rule) is not None:
        return ""
    if verdict.kind in ("jump", "goto"):
        return "" if quiet_chain(verdict.target or "") else f"{verdict.kind} to {verdict.target}, which does more than filter"
    return f"ends with {verdict.kind}"


def fold(
    rules: list[Rule],
    *,
    quiet_chain: Callable[[str], bool] = lambda name: False,
    taken: frozenset[str] = frozenset(),
    minimum: int = 4,
    order: bool = False,
    prefix: str = "nf_",
) -> Folded:
    """rules: one chain, in order. quiet_chain: does a jump target only filter, log and count? taken: names of sets there are."""
    work = _Work(rules, quiet_chain, taken, max(2, minimum), prefix)
    for segment in work.segments:
        _one_segment(work, segment)
    return work.result(order)


class _Work:
    def __init__(
        self, rules: list[Rule], quiet_chain: Callable[[str], bool], taken: frozenset[str], minimum: int, prefix: str
    ) -> None:
        self.rules, self.minimum, self.prefix = rules, minimum, prefix
        self.taken = set(taken)
        self.sets: list[NewSet] = []
        self.barriers: list[tuple[int, str]] = []
        self.places: dict[int, Place] = {}
        self.made: list[tuple[float, After, list[_Item]]] = []
        self.items: dict[int, _Item] = {}
        self.gone: dict[int, tuple[int, str]] = {}
        #: runs of rules without a barrier between them
        self.segments: list[list[_Item]] = [[]]
        for index, rule in enumerate(rules):
            why = barrier(rule, quiet_chain)
            if why:
                self.barriers.append((index, why))
                self.segments.append([])
                continue
            acts = any(isinstance(part, Action) for part in rule.parts)
            label = None if acts else label_of(rule)
            item = _Item(index, rule, box_of(rule), label, fold_text.shape(rule) if label else None, float(index))
            self.items[index] = item
            self.segments[-1].append(item)

    def name(self, first: Shape, sides: tuple[str, ...], label: Label) -> str:
        rule = first.rule
        seed = "\n".join((rule.backend, rule.family, rule.table, rule.chain, *(fold_text.key(first, sides) or ())))
        short = {"saddr": "src", "daddr": "dst", "sport": "sport", "dport": "port"}
        for number in range(1 << 16):
            digest = hashlib.sha256(f"{seed}\n{number}".encode()).hexdigest()[:8]
            tail = f"{label[0]}_{'_'.join(short[side] for side in sides)}_{digest}"
            name = f"{self.prefix}{tail}"
            if len(name) > _NAME:
                name = f"{self.prefix}{digest}"[:_NAME]
            if name not in self.taken:
                self.taken.add(name)
                return name
        raise AssertionError("65,536 sets of one name")

    def result(self, order: bool) -> Folded:
        ordered: list[tuple[float, int, After, list[_Item]]] = [
            (position, min(after.sources), after, items) for position, after, items in self.made
        ]
        used = {source for _position, after, _items in self.made for source in after.sources} | set(self.gone)
        for index, rule in enumerate(self.rules):
            if index not in used:
                item = self.items.get(index)
                after = After(None, [index], rule.packets, rule.bytes)
                ordered.append((float(index), index, after, [item] if item is not None else []))
        ordered.sort(key=lambda one: one[:2])
        entries = [(after, items) for _position, _index, after, items in ordered]
        if order:
            _by_hits(entries)
        for place, (after, _items) in enumerate(entries):
            if after.text is None:
                self.places[after.sources[0]] = ("kept", place)
            else:
                for source in after.sources:
                    self.places[source] = (self.places[source][0], place, *self.places[source][2:])
        for index, (cover, why) in self.gone.items():
            self.places[index] = ("gone", self.places[cover][1], why)
        places = [self.places[index] for index in range(len(self.rules))]
        return Folded([after for after, _items in entries], places, self.sets, self.barriers)


def _one_segment(work: _Work, segment: list[_Item]) -> None:
    """Take out what says the same as an earlier rule, then fold group after group."""
    seen: dict[tuple[str, ...], int] = {}
    alive: list[_Item] = []
    for item in segment:
        if item.label is not None and item.shape is not None:
            said = tuple(item.shape.tokens)
            if said in seen:
                work.gone[item.index] = (seen[said], f"says the same as rule {seen[said] + 1} of the chain")
                continue
            seen[said] = item.index
        alive.append(item)
    if len(alive) < work.minimum:
        return
    opponents = Opponents([(item.index, item.label, item.box) for item in alive])
    items = {item.index: item for item in alive}
    bounds = (alive[0].index - 1.0, alive[-1].index + 1.0)
    for choices in (fold_text.SINGLES, fold_text.PAIRS):
        for sides, members in _groups(alive, choices, work):
            _fold_group(work, members, sides, opponents, items, bounds)
            alive = [item for item in alive if item.index not in work.places]


def _groups(alive: list[_Item], choices: tuple[tuple[str, ...], ...], work: _Work) -> Any:
    """Groups of rules that differ in one dimension, largest first; a rule folded meanwhile is in no further one."""
    groups: dict[tuple[int, tuple[str, ...]], list[_Item]] = {}
    for item in alive:
        if item.shape is None or item.index in work.places:
            continue
        for number, sides in enumerate(choices):
            found = fold_text.key(item.shape, sides)
            if found is not None:
                groups.setdefault((number, found), []).append(item)
    heap = [(-len(each), number, each[0].index, key) for (number, key), each in groups.items() if len(each) >= work.minimum]
    heapq.heapify(heap)
    while heap:
        size, number, first, key = heapq.heappop(heap)
        left = [item for item in groups[number, key] if item.index not in work.places]
        if len(left) < work.minimum:
            continue
        if len(left) < -size:
            groups[number, key] = left
            heapq.heappush(heap, (-len(left), number, first, key))
            continue
        yield choices[number], left


def _fold_group(
    work: _Work,
    members: list[_Item],
    sides: tuple[str, ...],
    opponents: Opponents,
    items: dict[int, _Item],
    bounds: tuple[float, float],
) -> None:
    """Stab the windows of the members with as few places as possible; each place with enough of them becomes a rule."""
    label = members[0].label
    if label is None:
        raise AssertionError("only rules with a label are folded")
    windows = []
    for item in members:
        low, high = opponents.window(item.index, label, item.box)
        windows.append((max(low, bounds[0]), min(high, bounds[1]), item))
    windows.sort(key=lambda one: (one[1], one[2].index))
    left = windows
    while left:
        end = left[0][1]
        inside = [one for one in left if one[0] < end]
        left = [one for one in left if one[0] >= end]
        if len(inside) < work.minimum:
            continue
        start = max(one[0] for one in inside)
        there = [one[2].position for one in inside if start < one[2].position < end]
        position = min(there) if there else (start + end) / 2
        if not start < position < end:
            continue  # no number between them: leave these rules where they are
        _make(work, sorted((one[2] for one in inside), key=lambda one: one.index), sides, label, position)
        for _low, _high, item in inside:
            item.position = position
            opponents.move(item.index, position)


def _make(work: _Work, members: list[_Item], sides: tuple[str, ...], label: Label, position: float) -> None:
    first = members[0].shape
    if first is None:
        raise AssertionError("only rules with a shape are folded")
    name = work.name(first, sides, label)
    rows: list[_Row] = []
    for item in members:
        if item.shape is None:
            raise AssertionError("only rules with a shape are folded")
        rows += [(spans, element, item.index) for element, spans in fold_text.members(item.shape, sides)]
    native = first.rule.backend == NFT
    made = NewSet(name, "", sides, any(low != high for spans, _e, _i in rows for low, high in spans))
    covers = _merge(made, rows, {item.index: item.rule.comment for item in members})
    made.type = fold_text.nft_type(first, sides) if native else _ipset_type(made)
    made.protocol = 17 if first.clauses[sides[-1]].left.startswith("udp ") else 6
    work.sets.append(made)
    total = [sum(getattr(item.rule, what) or 0 for item in members) for what in ("packets", "bytes")]
    counted = any(item.rule.packets is not None for item in members)
    packets, octets = (total[0], total[1]) if counted else (None, None)
    after = After(fold_text.written(first, sides, name, packets, octets), [one.index for one in members], packets, octets)
    for item in members:
        work.places[item.index] = ("set", 0, name, covers[item.index])
    work.made.append((position, after, members))


def _merge(
    made: NewSet, rows: list[tuple[tuple[tuple[int, int], ...], Any, int]], comments: dict[int, str | None]
) -> dict[int, str]:
    """Fill the set; an element inside another one is left out. Returns rule → element that holds it."""
    rows.sort(key=lambda row: (row[0][0][0], -row[0][0][1], row[0][1:], row[2]))
    covers: dict[int, str] = {}
    last: tuple[tuple[int, int], ...] = ()
    for spans, element, index in rows:
        inside = bool(last) and (last == spans or (len(spans) == 1 and last[0][0] <= spans[0][0] and spans[0][1] <= last[0][1]))
        if not inside:
            partial = bool(last) and len(spans) == 1 and spans[0][0] <= last[0][1]
            if partial:  # two ranges that overlap: sets of either kind want them apart
                element = _joined(made.elements[-1][0], element)
                comment = made.elements[-1][1] or comments[index]
                last = ((last[0][0], spans[0][1]),)
                made.elements[-1] = (element, comment)
            else:
                last = spans
                made.elements.append((element, comments[index]))
        covers.setdefault(index, fold_text.shown(made.elements[-1][0]))
    return covers


def _joined(one: Any, other: Any) -> list[Any]:
    """The range from the start of one to the end of the other; only ranges can overlap without one holding the other."""
    from ipaddress import ip_network

    def ends(element: Any) -> tuple[Any, Any]:
        if isinstance(element, list) and element[0] == "range":
            return element[1], element[2]
        if isinstance(element, list):
            net = ip_network(f"{element[1]}/{element[2]}", strict=False)
            return str(net[0]), str(net[-1])
        return element, element

    return ["range", ends(one)[0], ends(other)[1]]


def _ipset_type(made: NewSet) -> str:
    if len(made.dimension) > 1:
        return "hash:ip,port"
    if made.dimension[0] in ("sport", "dport"):
        return "bitmap:port"
    return "hash:net" if made.interval else "hash:ip"


def _by_hits(entries: list[tuple[After, list[_Item]]]) -> None:
    """Move busier rules up, past rules they commute with and no further."""
    if len(entries) > 2000:
        return
    for start in range(1, len(entries)):
        at = start
        while at and _may_pass(entries[at], entries[at - 1]):
            entries[at - 1], entries[at] = entries[at], entries[at - 1]
            at -= 1


def _may_pass(one: tuple[After, list[_Item]], ahead: tuple[After, list[_Item]]) -> bool:
    (after, items), (first, others) = one, ahead
    if not items or not others or (after.packets or 0) <= (first.packets or 0):
        return False
    if items[0].label is not None and items[0].label == others[0].label:
        return True
    return len(items) * len(others) <= 100_000 and not any(meet(mine.box, other.box) for mine in items for other in others)
