# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Walks of listeners and of pairs, and both ends joined; that they agree with real connections is shown in tests/kernel."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.netops.fleet.plugins.module_utils._diagnosis import exposure, pairs
from ansible_collections.netops.fleet.plugins.module_utils._diagnosis.facts import Facts
from ansible_collections.netops.fleet.plugins.plugin_utils._fleet import pairs as joined
from tests.unit import hosts
from tests.unit.evidence_samples import drop_rule

_SWITCHES = {"forwarding": 0, "rp_filter": 0, "accept_local": 0, "route_localnet": 0, "src_valid_mark": 0}


def _route(dst: str, dev: str = "eth0", table: int = 254, kind: str = "unicast", **more: Any) -> dict[str, Any]:
    return {"family": 4, "table": table, "type": kind, "dst": dst, "dev": dev, "via": None, "metric": 0, "nexthops": [], **more}


def evidence(firewall: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    """A host with one address, 192.0.2.11, a default route, and a listener on every address."""
    found = hosts.healthy(
        addresses=[{"link": "eth0", "family": 4, "address": "192.0.2.11", "prefix": 24, "scope": "global", "flags": []}],
        routes=[
            _route("192.0.2.11/32", table=255, kind="local"),
            _route("192.0.2.0/24"),
            _route("default", via="192.0.2.1"),
        ],
        policy_rules=[{"family": 4, "priority": 0, "action": "lookup", "table": 255, "from": None, "to": None},
                      {"family": 4, "priority": 9, "action": "lookup", "table": 254, "from": None, "to": None}],
        switches={"ipv4": {"all": _SWITCHES, "eth0": _SWITCHES}, "ipv6": {}},
        firewall=firewall or hosts.ruleset(),
    )  # fmt: skip
    return {**found, **more}


PEERS = [{"host": "gpu-03", "address": "192.0.2.13"}]


def test_every_listener_against_each_class_of_senders() -> None:
    table = exposure.table(Facts(evidence(peers=PEERS)))
    assert {(one["port"], one["from"], one["verdict"]) for one in table} == {
        (1678, "peer", "accept"), (1678, "neighbour", "accept"), (1678, "beyond the gateway", "accept"),
    }  # fmt: skip


def test_a_rule_for_one_class_of_senders_shows_in_that_class_only() -> None:
    near = hosts.match("ip saddr", ["prefix", "192.0.2.0", 24], op="not in")
    section = hosts.ruleset({"parts": [near, hosts.match("tcp dport", 1678)], "verdict": {"kind": "drop"}})
    table = exposure.table(Facts(evidence(section)))
    assert {one["from"]: (one["verdict"], one["by"]) for one in table} == {
        "neighbour": ("accept", None),
        "beyond the gateway": ("drop", "nft inet filter input handle 11"),
    }


def test_a_listener_on_loopback_is_for_nobody_else() -> None:
    local = evidence()
    local["sections"]["sockets"]["listeners"] = [hosts.listener(address="127.0.0.1", family=4)]
    assert exposure.table(Facts(local)) == []


def test_without_routes_there_is_no_table() -> None:
    blind = evidence()
    blind["sections"]["routes"] = None
    assert exposure.table(Facts(blind)) == []


def test_the_receiver_names_its_rule() -> None:
    (one,) = pairs.table(Facts(evidence(drop_rule(), peers=PEERS, pair="receiver")))
    assert (one["peer"], one["way"], one["address"], one["verdict"]) == ("gpu-03", "in", "192.0.2.11", "drop")
    assert one["by"] == "nft inet lab input handle 11" and one["fix"] == ["nft delete rule inet lab input handle 11"]


def test_the_sender_names_its_rule_and_its_own_service_is_not_blamed() -> None:
    section = drop_rule()
    section["chains"][0]["hook"] = "output"
    said = evidence(section, peers=PEERS, pair="sender")
    said["sections"]["pairs"] = pairs.table(Facts(said))
    (one,) = said["sections"]["pairs"]
    assert (one["way"], one["address"], one["source"], one["verdict"]) == ("out", "192.0.2.13", "192.0.2.11", "drop")
    (finding,) = pairs.find(Facts(said))
    assert finding.grade == "proven" and "On the way out" in finding.summary and "gpu-03 (192.0.2.13)" in finding.summary


def test_a_program_that_may_drop_is_told_with_its_owner() -> None:
    hook = {
        "hook": "tcx", "direction": "ingress", "interface": {"name": "eth0"}, "name": "guard", "id": 7, "can_drop": "yes",
        "owners": [{"pid": 9, "process": "agent", "unit": "agent.service"}], "order": 0,
    }  # fmt: skip
    said = evidence(peers=PEERS, pair="receiver")
    said["sections"]["hooks"] = [hook]
    (one,) = pairs.table(Facts(said))
    assert one["verdict"] == "unknown" and "guard (program 7; agent pid 9, agent.service)" in one["why"]


@pytest.mark.parametrize("more", [{}, {"pair": "receiver", "target": None}, {"pair": "neither"}])
def test_who_is_in_no_pair_has_no_table(more: dict[str, Any]) -> None:
    assert pairs.table(Facts(evidence(**{"peers": PEERS, **more}))) == []


def _end(way: str, verdict: str, **more: Any) -> dict[str, Any]:
    return {"peer": "b" if way == "out" else "a", "way": way, "address": "192.0.2.11", "verdict": verdict, **more}


def _joined(there: dict[str, Any], here: dict[str, Any] | None, probe: str | None, listens: bool = True) -> Any:
    view = joined.Pairs()
    probes = [] if probe is None else [{"kind": "tcp", "peer": "b", "target": "192.0.2.11:1678", "status": probe}]
    view.count("a", {"pair": "sender", "sections": {"pairs": [there], "probes": probes}})
    view.count("b", {"pair": "receiver", "sections": {"pairs": [here] if here else []}})
    answer, findings = joined.join(view.of("b"), "tcp/1678", listens, {"verdict": "open", "text": "Fine.", "steps": []}, [])
    (step,) = answer["steps"]
    return step["result"], answer["verdict"], step["detail"], [(one["id"], one["severity"]) for one in findings]


@pytest.mark.parametrize(
    ("there", "here", "probe", "listens", "result", "verdict", "words", "finding"),
    [
        ("accept", "accept", "ok", True, "ok", "open", "the probe agrees: ok", None),
        ("accept", "accept", "refused", False, "ok", "open", "the probe agrees: refused", None),
        ("accept", "accept", "timeout", True, "unknown", "unknown", "they disagree", "critical"),
        ("accept", "accept", "refused", True, "unknown", "unknown", "they disagree", "critical"),
        ("accept", "drop", "timeout", True, "bad", "blocked", "X here drops it, and the probe agrees: timeout", None),
        ("drop", "accept", "timeout", True, "bad", "blocked", "X on a drops it, and the probe agrees: timeout", None),
        ("accept", "reject", "refused", True, "bad", "blocked", "the probe agrees: refused", None),
        ("accept", "drop", "ok", True, "unknown", "unknown", "they disagree", "warning"),
        ("unknown", "accept", "ok", True, "ok", "open", "the probe settles it: on a: W", None),
        ("accept", "unknown", "timeout", True, "unknown", "unknown", "here: W; the probe says timeout", None),
        ("accept", "drop", None, True, "bad", "blocked", "no probe was made", None),
        ("accept", "accept", None, True, "ok", "open", "no probe was made", None),
    ],
)  # fmt: skip
def test_both_ends_and_the_probe(
    there: str, here: str, probe: str | None, listens: bool, result: str, verdict: str, words: str, finding: str | None
) -> None:
    ends = [
        _end(way, said, by="X" if said in ("drop", "reject") else None, why="W" if said == "unknown" else None)
        for way, said in (("out", there), ("in", here))
    ]
    told = _joined(ends[0], ends[1], probe, listens)
    assert told[:2] == (result, verdict) and words in told[2]
    assert told[3] == ([] if finding is None else [("walk-probe-disagree", finding)])


def test_an_end_that_did_not_answer_is_no_pass() -> None:
    assert _joined(_end("out", "accept"), None, "timeout")[2].endswith("no walk here; the probe says timeout")


@pytest.mark.parametrize("broken", [None, 3, [], [{}], [{"peer": 3, "way": "in", "address": None, "verdict": []}]])
def test_what_a_host_sends_is_not_trusted(broken: Any) -> None:
    view = joined.Pairs()
    view.count("b", {"pair": "receiver", "sections": {"pairs": broken, "probes": None}})
    assert view.of("b") == []
