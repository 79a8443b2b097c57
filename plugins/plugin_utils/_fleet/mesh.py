# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This plugin util is PRIVATE to the collection. It can change at any time.
"""Who probes whom, and what a matrix of probes says: a bad host, a bad pair, a bad group of hosts (a rack). Pure.

The selection is a ring with chords: the same seeded distances for every host, so that each host probes, and is probed by, the
same number of others, and no host needs to know the whole table.

Separation is greedy: of all objects that explain failures, the one that explains most is blamed, what it explains is set aside,
and the rest is looked at again. Failures that no host and no group explains are those of pairs.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

#: Objects blamed at most for one kind of trouble; what is left then is counted, not named.
MAX_BLAMED = 200
#: Hosts a host must fail with before it is the host, where it has so many peers.
_FEW = 3
_MAX_GROUPS = 6


def distances(hosts: int, count: int, seed: str) -> list[int]:
    """How far along the sorted circle of ``hosts`` each host's ``count`` peers are: the next one, and random others.

    All others where that is no more than ``count``. Distances beyond half the circle would be pairs asked twice: they come last.
    """
    if hosts - 1 <= count:
        return list(range(1, hosts))
    if count < 1:
        return []
    half = list(range(2, hosts // 2 + 1))
    wanted = count - 1
    chosen = random.Random(f"netops.fleet mesh {seed}")  # noqa: S311  a choice of peers, not a secret
    picked = chosen.sample(half, min(wanted, len(half)))
    if len(picked) < wanted:
        rest = [one for one in range(2, hosts) if one not in picked]
        picked += chosen.sample(rest, wanted - len(picked))
    return [1, *sorted(picked)]


def select(ring: Sequence[str], host: str, count: int, seed: str) -> list[str]:
    """The peers of one host. ring: every host, sorted."""
    place = ring.index(host)
    return [ring[(place + one) % len(ring)] for one in distances(len(ring), count, seed)]


@dataclass(frozen=True)
class Cell:
    """What one host saw of another: ``hits`` of ``tries`` failed. tries is 0 where it could not be told."""

    source: str
    target: str
    hits: int
    tries: int = 1


@dataclass(frozen=True)
class Rule:
    """floor: share of failures above which an object is bad. quorum: share of a group's hosts that must be bad with it.

    spread: share of an object's partners that must see failures. pair: failures of a pair that are no chance.
    """

    floor: float = 0.5
    quorum: float = 1.0
    spread: float = 0.5
    pair: int = 1


#: A probe fails or not: reached, a large packet arrived, slow, clock off.
YES_NO = Rule()
#: Some packets of many are lost. A bad host of which each tenth packet is lost has peers that saw no loss by chance.
SHARE = Rule(floor=0.02, quorum=0.8, spread=0.25, pair=3)


@dataclass(frozen=True)
class Blame:
    """kind: host, group, between (two groups), pair, fleet. way: both, in (towards it only), out (from it only).

    names: one name, or two of a pair or of groups. hits, tries: the failures it explains. cells: those probes, failed ones first.
    """

    kind: str
    names: tuple[str, ...]
    way: str
    hits: int
    tries: int
    cells: tuple[Cell, ...]


def separate(cells: Iterable[Cell], groups: dict[str, list[str]], rule: Rule = YES_NO) -> list[Blame]:
    """The objects that explain the failures, the one that explains most first. groups: of each host, the smallest six count."""
    matrix = _Matrix([cell for cell in cells if cell.tries > 0 and cell.source != cell.target], groups, rule)
    blamed: list[Blame] = []
    while len(blamed) < MAX_BLAMED and any(cell.hits for cell in matrix.cells):
        found = matrix.best()
        if found is None:
            break
        blamed.append(found)
        matrix.remove(found)
    return blamed + matrix.pairs()[: MAX_BLAMED - len(blamed)]


class _Matrix:
    """The cells that nothing explains yet."""

    def __init__(self, cells: list[Cell], groups: dict[str, list[str]], rule: Rule) -> None:
        self.cells, self.rule = cells, rule
        self.hosts = {name for cell in cells for name in (cell.source, cell.target)}
        sizes = Counter(group for host in self.hosts for group in set(groups.get(host, ())))
        self.groups = {
            host: sorted(
                {one for one in groups.get(host, ()) if 2 <= sizes[one] < len(self.hosts)}, key=lambda one: (sizes[one], one)
            )[:_MAX_GROUPS]
            for host in self.hosts
        }
        self.sizes = sizes

    def remove(self, found: Blame) -> None:
        gone = set(found.cells)
        self.cells = [cell for cell in self.cells if cell not in gone]

    def best(self) -> Blame | None:
        """What explains most; of equals a group before its hosts, because one cause is likelier than several."""
        hosts = self._hosts()
        groups = self._groups()
        if hosts and not groups and len(self.hosts) >= _FEW and len({one.names for one in hosts}) >= 0.8 * len(self.hosts):
            hits, tries = sum(cell.hits for cell in self.cells), sum(cell.tries for cell in self.cells)
            return Blame("fleet", (), "both", hits, tries, _failed_first(self.cells))
        found = [*groups, *hosts]
        return min(found, key=lambda one: (-one.hits, one.kind not in ("between", "group"), one.names), default=None)

    def _bad(self, cells: list[Cell]) -> bool:
        tries = sum(cell.tries for cell in cells)
        return tries > 0 and sum(cell.hits for cell in cells) / tries > self.rule.floor

    def _ways(self, into: list[Cell], out: list[Cell]) -> str | None:
        """In which direction these cells are bad; a direction without cells says nothing against the other."""
        bad_in, bad_out = self._bad(into), self._bad(out)
        if bad_in and bad_out:
            return "both"
        if bad_in:
            return "in" if out else "both"
        if bad_out:
            return "out" if into else "both"
        return None

    def _hosts(self) -> list[Blame]:
        into: dict[str, list[Cell]] = {}
        out: dict[str, list[Cell]] = {}
        suspects = {name for cell in self.cells if cell.hits for name in (cell.source, cell.target)}
        for cell in self.cells:
            into.setdefault(cell.target, []).append(cell)
            out.setdefault(cell.source, []).append(cell)
        found = []
        for host in suspects:
            way = self._ways(into.get(host, []), out.get(host, []))
            if way is None:
                continue
            own = [*(into.get(host, []) if way != "out" else []), *(out.get(host, []) if way != "in" else [])]
            partners = {cell.source if cell.target == host else cell.target for cell in own}
            seeing = {cell.source if cell.target == host else cell.target for cell in own if cell.hits}
            if len(seeing) < max(2, min(_FEW, len(partners))) or len(seeing) < self.rule.spread * len(partners):
                continue
            found.append(_blame("host", (host,), way, own))
        return found

    def _groups(self) -> list[Blame]:
        suspects = Counter(
            group for cell in self.cells if cell.hits for group in {*self.groups[cell.source], *self.groups[cell.target]}
        )
        found = [one for one in (self._group(name) for name, _count in suspects.most_common(200)) if one is not None]
        out: list[Blame] = []
        # Two halves of a fleet, each cut off from the other: neither is the bad one, what is between them is.
        by_cells: dict[frozenset[Cell], list[Blame]] = {}
        for one in found:
            by_cells.setdefault(frozenset(cell for cell in one.cells if cell.hits), []).append(one)
        for same in by_cells.values():
            if len(same) > 1:
                first, second = sorted(same, key=lambda one: (self.sizes[one.names[0]], one.names))[:2]
                members = [{host for host in self.hosts if one.names[0] in self.groups[host]} for one in (first, second)]
                if not members[0] & members[1]:
                    out.append(
                        Blame("between", (first.names[0], second.names[0]), first.way, first.hits, first.tries, first.cells)
                    )
                    continue
                out.append(first)
            else:
                out += same
        return out + self._between(found)

    def _group(self, name: str) -> Blame | None:
        inside = {host for host in self.hosts if name in self.groups[host]}
        into = [cell for cell in self.cells if cell.target in inside and cell.source not in inside]
        out = [cell for cell in self.cells if cell.source in inside and cell.target not in inside]
        way = self._ways(into, out)
        if way is None:
            return None
        crossing = [*(into if way != "out" else []), *(out if way != "in" else [])]
        if not self._whole(inside, crossing):
            return None
        outside = {name for cell in crossing if cell.hits for name in (cell.source, cell.target)} - inside
        if len(outside) < 2:
            return None
        rest = [cell for cell in self.cells if cell.source not in inside and cell.target not in inside]
        if self._bad(rest) or (not rest and len(inside) > len(self.hosts) / 2):
            return None  # the others do not reach each other either
        within = [cell for cell in self.cells if cell.source in inside and cell.target in inside]
        return _blame("group", (name,), way, [*crossing, *(within if self._bad(within) else [])])

    def _whole(self, members: set[str], cells: list[Cell]) -> bool:
        """Whether the failures are those of the group's hosts together: all of them, or as many as the rule wants."""
        own: dict[str, list[Cell]] = {}
        for cell in cells:
            for name in {cell.source, cell.target} & members:
                own.setdefault(name, []).append(cell)
        bad = sum(1 for some in own.values() if self._bad(some))
        return bad >= 2 and bad >= self.rule.quorum * len(own)

    def _between(self, blamed: list[Blame]) -> list[Blame]:
        """Two groups that do not reach each other while each reaches others."""
        known = {one.names[0] for one in blamed}
        counted = Counter(
            (min(one, other), max(one, other))
            for cell in self.cells
            if cell.hits
            for one in self.groups[cell.source]
            for other in self.groups[cell.target]
            if one != other
        )
        found = []
        for (one, other), _count in counted.most_common(50):
            if one in known or other in known:
                continue
            left = {host for host in self.hosts if one in self.groups[host]}
            right = {host for host in self.hosts if other in self.groups[host]}
            if left & right:
                continue
            into = [cell for cell in self.cells if cell.source in left and cell.target in right]
            out = [cell for cell in self.cells if cell.source in right and cell.target in left]
            way = self._ways(into, out)
            crossing = [*into, *out]
            either = left | right
            if self._bad([cell for cell in self.cells if (cell.source in either) != (cell.target in either)]):
                continue  # they do not reach others either
            if way is not None and self._whole(left, crossing) and self._whole(right, crossing):
                found.append(_blame("between", (one, other), "both", crossing))
        return found

    def pairs(self) -> list[Blame]:
        """What is left, by pair; a direction is named only where the other one was tried and is good."""
        both: dict[tuple[str, str], list[Cell]] = {}
        for cell in self.cells:
            both.setdefault((min(cell.source, cell.target), max(cell.source, cell.target)), []).append(cell)
        found = []
        for names, cells in both.items():
            failed = [cell for cell in cells if cell.hits and cell.hits >= min(self.rule.pair, cell.tries)]
            if not failed:
                continue
            ways = {(cell.source, cell.target) for cell in failed}
            one_way = len(ways) == 1 and len({(cell.source, cell.target) for cell in cells}) == 2
            source, target = (failed[0].source, failed[0].target) if one_way else names
            found.append(_blame("pair", (source, target), "out" if one_way else "both", failed))
        return sorted(found, key=lambda one: (-one.hits, one.names))


def _blame(kind: str, names: tuple[str, ...], way: str, cells: list[Cell]) -> Blame:
    return Blame(kind, names, way, sum(cell.hits for cell in cells), sum(cell.tries for cell in cells), _failed_first(cells))


def _failed_first(cells: list[Cell]) -> tuple[Cell, ...]:
    return tuple(sorted(cells, key=lambda cell: (-cell.hits, cell.source, cell.target)))
