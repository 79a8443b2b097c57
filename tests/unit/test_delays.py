# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Round trips that are too long for their place, ways that take longer or lose packets from a hop on, which are traced."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.netops.fleet.plugins.action import host_evidence
from ansible_collections.netops.fleet.plugins.module_utils._diagnosis import collect, reach
from ansible_collections.netops.fleet.plugins.module_utils._diagnosis.facts import Facts
from ansible_collections.netops.fleet.plugins.module_utils._diagnosis.target import parse
from ansible_collections.netops.fleet.plugins.module_utils._evidence import probe_path
from ansible_collections.netops.fleet.plugins.module_utils._evidence.section import Section
from ansible_collections.netops.fleet.plugins.plugin_utils._fleet import symptoms

LINK = {"name": "eth0", "index": 2, "kind": "physical", "up": True}
OWN = {"link": "eth0", "family": 4, "address": "10.0.0.1", "prefix": 24, "scope": "global", "flags": []}


def ping(address: str, least: float, loss: float = 0.0) -> dict[str, Any]:
    rtt = {"min": least, "avg": least + 10, "max": least + 90}
    received = 3 - round(3 * loss / 100)
    told = {"sent": 3, "received": received, "loss_percent": loss, "rtt_ms": rtt, "address": address}
    return {"kind": "ping", "target": address, "status": "lossy" if loss else "ok", "detail": "", **told}


def path(target: str, *hops: tuple[str, list[float | None], bool], status: str = "") -> dict[str, Any]:
    """A path probe of (address, round trips, None for a lost one, is it the target) for each hop."""
    answers = [
        probe_path.Answer(number, address if took is not None else None, took, reached and took is not None)
        for number, (address, times, reached) in enumerate(hops, 1)
        for took in times
    ]
    return {"kind": "path", "target": target, "address": target, **probe_path.judge(answers, 10.0)}


def found(*probes: dict[str, Any]) -> list[Any]:
    return reach.find(Facts({"sections": {"probes": list(probes), "links": [LINK], "addresses": [OWN]}, "coverage": []}))


@pytest.mark.parametrize(
    ("probes", "slow"),
    [
        ([ping("10.0.0.2", 0.3)], {}),
        ([ping("10.0.0.2", 101.0)], {"10.0.0.2": "likely"}),
        ([ping("192.0.2.7", 101.0), ping("192.0.2.8", 0.3), ping("192.0.2.9", 0.3)], {}),
        ([ping("192.0.2.7", 790.0)], {"192.0.2.7": "likely"}),
        ([ping("10.0.0.2", 0.3), ping("10.0.0.3", 0.5), ping("10.0.0.4", 12.0)], {"10.0.0.4": "different"}),
        ([ping("10.0.0.2", 0.3), ping("10.0.0.3", 0.5), ping("10.0.0.4", 9.0)], {}),
        ([ping("10.0.0.2", 0.3), ping("10.0.0.4", 12.0)], {}),
        ([ping("10.0.0.2", 4.0), ping("10.0.0.3", 5.0), ping("10.0.0.4", 30.0)], {}),
        ([ping("10.0.0.1", 700.0)], {}),
    ],
)
def test_a_round_trip_is_slow_for_its_place(probes: list[dict[str, Any]], slow: dict[str, str]) -> None:
    told = [one for one in found(*probes) if one.id == "round-trip-slow"]
    assert {one.subject: one.grade for one in told} == slow
    assert {one.severity for one in told} <= {"warning"}


def test_a_slow_round_trip_shows_its_numbers_and_its_loss() -> None:
    (lost, slow) = found(ping("10.0.0.2", 150.0, 33.3))
    assert (lost.id, slow.id) == ("ping-unreachable", "round-trip-slow")
    assert slow.evidence == ["round trip min/avg/max 150/160/240 ms", "3 sent, 2 answered, 33.3 % lost"]
    assert "100 ms are too many within the subnet of eth0" in slow.summary


ROUTER = ("10.0.0.254", [0.4, 0.5, 0.6], False)


def test_the_hop_from_which_on_it_takes_longer_is_named() -> None:
    far, target = ("192.0.2.1", [130.0, 131.0, 132.0], False), ("192.0.2.7", [130.5, 131.0, 133.0], True)
    (one,) = found(path("192.0.2.7", ROUTER, far, target))
    assert (one.id, one.severity, one.data["hop"]) == ("path-latency-jump", "warning", 2)
    assert (
        one.summary
        == "The way to 192.0.2.7 takes 129.6 ms longer from hop 2 (192.0.2.1) on; hop 1 (10.0.0.254) answers within 0.4 ms."
    )
    assert one.evidence[1] == "hop 2 192.0.2.1: 3 of 3 answered, 130/131/132 ms"


def test_a_small_step_is_a_note_and_silent_hops_before_it_are_said() -> None:
    (one,) = found(path("192.0.2.7", ROUTER, ("", [None, None, None], False), ("192.0.2.7", [20.0, 21.0, 22.0], True)))
    assert (one.id, one.severity, one.data["hop"]) == ("path-latency-jump", "info", 3)
    assert "1 hop(s) before hop 3 are silent: it may be any of them" in one.evidence
    assert any("this hop is the target" in line for line in one.evidence)


def test_a_router_that_only_answers_slowly_or_seldom_is_no_finding() -> None:
    lazy = ("192.0.2.1", [300.0, None, None], False)
    assert found(path("192.0.2.7", ROUTER, lazy, ("192.0.2.7", [0.9, 0.9, 0.9], True))) == []


def test_where_loss_begins_and_where_the_way_ends() -> None:
    middle, silent = ("192.0.2.1", [0.5, None, 0.5], False), ("", [None, None, None], False)
    (one,) = found(path("192.0.2.7", ROUTER, middle, ("192.0.2.7", [0.9, None, 0.9], True)))
    assert (one.id, one.severity, one.grade, one.data["hop"]) == ("path-loss", "warning", "likely", 2)
    assert one.summary == "33.3 % of the packets to 192.0.2.7 are lost, from hop 2 on."
    ended = path("192.0.2.7", ROUTER, silent, silent)
    (one,) = found(ended)
    assert one.summary == "The way to 192.0.2.7 ends: silence behind hop 1 (10.0.0.254)."
    # It answers otherwise: then a packet filter swallows the probes of the way.
    assert found(ended, ping("192.0.2.7", 0.5)) == []
    # Silent from the first hop on: there is no hop to name.
    assert found(path("192.0.2.7", silent, silent)) == []


def kinds(**options: Any) -> list[tuple[str, str, Any]]:
    planned = collect._paths(collect.Options(**options))
    return [(one["way"], one["target"], one.get("port")) for one in planned]


def test_ways_are_traced_for_latency_only_and_no_more_than_four() -> None:
    addresses = [f"10.0.0.{number}" for number in range(2, 9)]
    assert kinds(ping=addresses) == [] and kinds(ping=addresses, symptom="loss") == []
    assert kinds(ping=addresses, symptom="latency") == [("icmp", one, None) for one in addresses[:4]]
    target = parse("tcp/192.0.2.7:443")
    wanted = [("tcp", "192.0.2.7", 443), ("icmp", "10.0.0.2", None)]
    assert kinds(ping=["10.0.0.2", "192.0.2.7"], target=target, symptom="latency") == wanted
    assert kinds(target=parse("udp/192.0.2.7:53"), symptom="latency") == [("icmp", "192.0.2.7", None)]
    assert kinds(target=parse("tcp/1678"), symptom="latency") == []


def test_a_probe_that_could_not_be_made_is_a_gap() -> None:
    tried = [
        {"kind": "path", "target": "10.0.0.2", "status": "prohibited", "detail": "operation not permitted"},
        {"kind": "ping", "target": "10.0.0.2", "status": "error", "detail": "no such device"},
        {"kind": "path", "target": "10.0.0.3", "status": "timeout", "detail": "silence behind hop 1"},
    ]
    section = collect._probed(Section(tried), [None])
    assert [(gap.what, gap.why) for gap in section.gaps] == [
        ("probes.path", "10.0.0.2: operation not permitted"),
        ("probes.ping", "10.0.0.2: no such device"),
    ]


def test_the_symptom_reaches_the_host() -> None:
    assert tuple(symptoms.FLOWS) == collect.SYMPTOMS
    assert "symptom" in host_evidence._FROM_VARIABLES
    given = {name: spec.get("default") for name, spec in collect.ARGUMENTS.items()}
    assert collect.Options.from_params({**given, "symptom": "latency"}).symptom == "latency"
    assert collect.Options.from_params(given).symptom is None
