# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who probes whom, and what is blamed: one fault planted into a generated matrix is named, and nothing else."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.netops.fleet.plugins.plugin_utils._fleet import mesh
from ansible_collections.netops.fleet.plugins.plugin_utils._fleet.mesh import Cell


def names(count: int) -> list[str]:
    return [f"gpu-{number:04d}" for number in range(count)]


@given(st.integers(1, 300), st.integers(0, 64), st.integers(0, 99))
@settings(max_examples=150, deadline=None)
def test_each_host_probes_and_is_probed_by_the_same_number(hosts: int, count: int, seed: int) -> None:
    ring = names(hosts)
    chosen = {host: mesh.select(ring, host, count, str(seed)) for host in ring}
    wanted = min(count, hosts - 1)
    assert all(len(set(some)) == len(some) == wanted and host not in some for host, some in chosen.items())
    probed = Counter(peer for some in chosen.values() for peer in some)
    assert all(probed[host] == wanted for host in ring)
    assert chosen == {host: mesh.select(ring, host, count, str(seed)) for host in ring}
    if wanted:
        assert chosen[ring[0]][0] == ring[1]  # the ring, so that no part of the fleet is cut off by the draw


def test_another_seed_is_another_selection() -> None:
    assert len({tuple(mesh.distances(1000, 8, str(seed))) for seed in range(20)}) > 15


class Fleet:
    """Hosts in racks of one size, probing each other as selected; what is bad is decided by ``broken``."""

    def __init__(self, hosts: int, rack: int, count: int, seed: int) -> None:
        self.ring = names(hosts)
        self.rack = {host: f"rack-{place // rack}" for place, host in enumerate(self.ring)}
        self.groups = {host: ["gpu-nodes", self.rack[host]] for host in self.ring}
        self.asked = [(host, peer) for host in self.ring for peer in mesh.select(self.ring, host, count, str(seed))]

    def members(self, rack: str) -> list[str]:
        return [host for host in self.ring if self.rack[host] == rack]

    def blame(self, broken: set[tuple[str, str]], silent: set[str] | None = None) -> list[mesh.Blame]:
        """silent: hosts that gave no evidence, so that only what others saw of them is known."""
        cells = [Cell(a, b, int((a, b) in broken)) for a, b in self.asked if a not in (silent or ())]
        return mesh.separate(cells, self.groups)


@st.composite
def fleets(draw: st.DrawFn, least: int = 4) -> Fleet:
    hosts = draw(st.one_of(st.integers(least, 40), st.integers(least, 1000)))
    return Fleet(hosts, draw(st.integers(2, 24)), draw(st.integers(3, 10)), draw(st.integers(0, 10_000)))


SMALLER = settings(max_examples=60, deadline=None)


@given(fleets(least=3))
@SMALLER
def test_nothing_is_blamed_where_nothing_fails(fleet: Fleet) -> None:
    assert fleet.blame(set()) == []


@given(fleets(least=3), st.data())
@SMALLER
def test_a_bad_host_is_named_and_nothing_else(fleet: Fleet, data: st.DataObject) -> None:
    bad = data.draw(st.sampled_from(fleet.ring))
    way = data.draw(st.sampled_from(["both", "in", "out"]))
    gone = way == "both" and data.draw(st.booleans())
    broken = {(a, b) for a, b in fleet.asked if (b == bad and way != "out") or (a == bad and way != "in")}
    found = fleet.blame(broken, {bad} if gone else None)
    assert [(one.kind, one.names, one.way) for one in found] == [("host", (bad,), way)]
    assert {(cell.source, cell.target) for cell in found[0].cells if cell.hits} == {
        pair for pair in broken if not (gone and pair[0] == bad)
    }


@given(fleets(), st.data())
@SMALLER
def test_a_bad_pair_is_named_and_nothing_else(fleet: Fleet, data: st.DataObject) -> None:
    a, b = data.draw(st.sampled_from(fleet.asked))
    both = data.draw(st.booleans())
    broken = {(a, b), (b, a)} if both else {(a, b)}
    found = fleet.blame(broken)
    assert [(one.kind, set(one.names)) for one in found] == [("pair", {a, b})]
    reverse = (b, a) in set(fleet.asked)
    assert found[0].way == ("out" if reverse and not both else "both")


@given(fleets(least=6), st.data())
@SMALLER
def test_a_bad_rack_is_named_and_nothing_else(fleet: Fleet, data: st.DataObject) -> None:
    racks = [rack for rack, size in Counter(fleet.rack.values()).items() if 2 <= size <= len(fleet.ring) - 2]
    if not racks:
        return
    bad = data.draw(st.sampled_from(racks))
    inside = set(fleet.members(bad))
    dead = data.draw(st.booleans())  # not only the way out of the rack, but its switch
    crossing = {(a, b) for a, b in fleet.asked if (a in inside) != (b in inside)}
    within = {(a, b) for a, b in fleet.asked if a in inside and b in inside}
    silent = inside if dead and data.draw(st.booleans()) else set()
    found = fleet.blame(crossing | (within if dead else set()), silent)
    assert len(found) == 1, found
    assert bad in found[0].names
    seen_from = {fleet.rack[b if a in inside else a] for a, b in crossing if a not in silent}
    if len(seen_from) > 1:  # else it may as well be the path between the two
        assert found[0].kind == "group"


def test_two_halves_that_do_not_see_each_other_are_named_together() -> None:
    fleet = Fleet(20, 10, 19, 1)
    broken = {(a, b) for a, b in fleet.asked if fleet.rack[a] != fleet.rack[b]}
    assert [(one.kind, one.names) for one in fleet.blame(broken)] == [("between", ("rack-0", "rack-1"))]


def test_two_racks_that_reach_others_but_not_each_other() -> None:
    fleet = Fleet(60, 10, 12, 3)
    broken = {(a, b) for a, b in fleet.asked if {fleet.rack[a], fleet.rack[b]} == {"rack-1", "rack-4"}}
    assert [(one.kind, one.names) for one in fleet.blame(broken)] == [("between", ("rack-1", "rack-4"))]


@given(st.integers(0, 5000))
@settings(max_examples=30, deadline=None)
def test_several_faults_are_each_named(seed: int) -> None:
    chance = random.Random(seed)
    fleet = Fleet(400, 20, 8, seed)
    rack = f"rack-{chance.randrange(20)}"
    inside = set(fleet.members(rack))
    hosts = set(chance.sample([host for host in fleet.ring if host not in inside], 4))
    spared = inside | hosts
    pair = next((a, b) for a, b in chance.sample(fleet.asked, len(fleet.asked)) if a not in spared and b not in spared)
    broken = {(a, b) for a, b in fleet.asked if (a in inside) != (b in inside) or a in hosts or b in hosts or {a, b} == set(pair)}
    found = {(one.kind, frozenset(one.names)) for one in fleet.blame(broken)}
    assert found == {("group", frozenset({rack})), ("pair", frozenset(pair)), *(("host", frozenset({one})) for one in hosts)}


@given(st.sampled_from([4, 12, 100, 1000]), st.sampled_from([0.08, 0.3, 0.7]), st.integers(0, 5000))
@settings(max_examples=40, deadline=None)
def test_a_host_that_loses_some_packets_is_named(hosts: int, loss: float, seed: int) -> None:
    chance = random.Random(seed)
    fleet = Fleet(hosts, 10, 8, seed)
    bad = chance.choice(fleet.ring)
    # What is lost is drawn so that no draw is a lucky one: the property is about the separation, not about chance.
    cells = []
    for number, (a, b) in enumerate(pair for pair in fleet.asked if bad in pair):
        lost = int(10 * loss) + (1 if (number % 2) and loss < 0.1 else 0)
        cells.append(Cell(a, b, lost, 10))
    cells += [Cell(a, b, 0, 10) for a, b in fleet.asked if bad not in (a, b)]
    found = mesh.separate(cells, fleet.groups, mesh.SHARE)
    assert [(one.kind, one.names) for one in found] == [("host", (bad,))]


def test_a_lost_packet_here_and_there_is_nobody_s_fault() -> None:
    fleet = Fleet(200, 20, 8, 5)
    cells = [Cell(a, b, int(number % 97 == 0), 10) for number, (a, b) in enumerate(fleet.asked)]
    assert mesh.separate(cells, fleet.groups, mesh.SHARE) == []


def test_where_nobody_reaches_anybody_no_host_is_blamed() -> None:
    fleet = Fleet(12, 4, 8, 1)
    assert [one.kind for one in fleet.blame(set(fleet.asked))] == ["fleet"]


@pytest.mark.parametrize("hosts", [1, 2])
def test_two_hosts_are_a_pair_and_one_is_nothing(hosts: int) -> None:
    fleet = Fleet(hosts, 2, 8, 1)
    assert [one.kind for one in fleet.blame(set(fleet.asked))] == ["pair"] * (hosts - 1)


@given(st.lists(st.tuples(*[st.sampled_from(names(8))] * 2, st.integers(0, 3), st.integers(0, 3)), max_size=60), st.booleans())
@settings(max_examples=300, deadline=None)
def test_any_matrix_ends_and_explains_each_failure_at_most_once(rows: list[tuple[str, str, int, int]], share: bool) -> None:
    cells = list({(a, b): Cell(a, b, min(hits, tries), tries) for a, b, hits, tries in rows}.values())
    found = mesh.separate(cells, {name: [f"rack-{name[-1:] < '4'}"] for name in names(8)}, mesh.SHARE if share else mesh.YES_NO)
    told = [cell for one in found for cell in one.cells if cell.hits]
    assert len(told) == len(set(told))
    assert all(one.hits > 0 for one in found)
