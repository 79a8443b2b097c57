# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filters with actions on the target's way: the one that takes its packets is named, those that do not are no suspects."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.netops.fleet.plugins.module_utils._diagnosis.judge import judge
from tests.unit.hosts import healthy, link, listener

DROP = {"kind": "gact", "verdict": "drop", "else": None, "detail": None, "packets": 7}
OK = {**DROP, "verdict": "ok"}
ONWARD = {**DROP, "kind": "mirred", "verdict": "continue"}
THIRD = {**DROP, "verdict": "ok", "else": "drop", "detail": "one in about 3"}
PEDIT = {**DROP, "kind": "pedit", "verdict": "continue"}


def redirect(to: str) -> dict[str, Any]:
    return {**DROP, "kind": "mirred", "verdict": "redirect", "detail": f"redirect to egress of {to}", "to": to}


def port(number: int, field: str = "dport") -> list[dict[str, Any]]:
    return [{"field": "ip_proto", "value": "06", "mask": "ff"}, {"field": field, "value": f"{number:04x}", "mask": "ffff"}]


def entry(*actions: dict[str, Any], conditions: Any = None, order: int = 0, **more: Any) -> dict[str, Any]:
    """A filter as the census lists it."""
    at = {"direction": "ingress", "dev": "eth0", "protocol": "ip", "chain": 0, "kind": "flower", "can_drop": "yes"}
    at |= {"can_divert": "no", **more}
    tc = {
        "place": at["direction"], "priority": 10 + order, "protocol": at["protocol"], "handle": "0x1", "chain": at["chain"],
        "direct_action": False, "block": None, "classid": None, "reached": True, "match": "00", "understood": True,
        "conditions": conditions, "actions": list(actions),
    }  # fmt: skip
    return {
        "hook": "tc", "direction": at["direction"], "kind": at["kind"], "name": None, "id": None, "order": order, "owners": [],
        "interface": {"name": at["dev"], "index": 2, "class": at["dev"]}, "cgroup": None, "netfilter": None, "tc": tc,
        "can_drop": at["can_drop"], "can_divert": at["can_divert"], "drop_evidence": ["action gact drop"],
        "key": f"filter tc {order} {at['protocol']}", "detach": [f"tc filter del dev eth0 {at['direction']} pref {10 + order}"],
    }  # fmt: skip


def told(*hooks: dict[str, Any], **more: Any) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """(findings about filters, the answer) of a host that serves tcp/1678."""
    target = more.pop("target", None)
    made = healthy(hooks=list(hooks), **more)
    if target:
        made["target"] = target
    findings, answer = judge(made)
    assert answer is not None
    return [one for one in findings if one["id"] == "tc-filter-drops-target"], answer


def test_the_filter_that_drops_the_port_is_named_with_its_match_and_counter() -> None:
    both = [entry(DROP, conditions=port(1678)), entry(DROP, conditions=port(1678), order=1, protocol="ipv6")]
    (first, second), answer = told(*both)
    assert (first["subject"], first["grade"], first["severity"]) == (
        "tc filter eth0 ingress pref 10 flower 0x1",
        "proven",
        "critical",
    )
    assert "it matches: ip_proto 6, dport 1678 (protocol ip)" in first["evidence"]
    assert "its action gact counted 7 packets" in first["evidence"]
    assert first["fix"][-1] == "tc filter del dev eth0 ingress pref 10"
    assert second["severity"] == "warning", "IPv6 alone leaves the way that clients fall back to"
    assert answer["verdict"] == "blocked" and first["summary"] in answer["text"]
    assert next(one for one in answer["steps"] if one["step"] == "hooks")["result"] == "bad"


@pytest.mark.parametrize(
    "hooks",
    [
        [entry(DROP, conditions=port(22))],
        [entry(DROP, conditions=port(1678, "sport"))],
        [entry(DROP, conditions=port(1678), direction="egress")],
        [entry(OK, conditions=port(1678)), entry(DROP, conditions=[], order=1)],
        [entry(conditions=[]), entry(DROP, conditions=port(1678), order=1)],
        [entry(OK, conditions=port(1678))],
        [entry(DROP, conditions=[], protocol="arp")],
    ],
    ids=["port", "source port", "direction", "accepted before", "classified before", "accepts", "protocol"],
)
def test_a_filter_that_leaves_the_port_alone_is_no_suspect(hooks: list[dict[str, Any]]) -> None:
    found, answer = told(*hooks)
    assert found == []
    assert next(one for one in answer["steps"] if one["step"] == "hooks")["result"] == "ok", answer


@pytest.mark.parametrize(
    "before",
    [
        entry(DROP, conditions=None),
        entry(PEDIT, conditions=[]),
        entry(DROP, kind="bpf", conditions=None),
        entry({**DROP, "verdict": "goto chain 3"}, conditions=[]),
    ],
    ids=["not understood", "changes the packet", "program", "another chain"],
)
def test_what_comes_before_and_is_not_understood_leaves_a_doubt(before: dict[str, Any]) -> None:
    found, answer = told(before, entry(DROP, conditions=port(1678), order=1))
    assert found == [] and answer["verdict"] == "unknown"
    assert next(one for one in answer["steps"] if one["step"] == "hooks")["result"] == "unknown"


@pytest.mark.parametrize(("packets", "told_of"), [(0, False), (7, True)])
def test_behind_a_program_of_tcx_a_filter_that_never_counted_leaves_a_doubt(packets: int, told_of: bool) -> None:
    """Such a program may pass packets on for good: then no filter sees them."""
    program = {
        "hook": "tcx", "direction": "ingress", "kind": "bpf", "name": "first", "id": 7, "order": 0, "owners": [], "cgroup": None,
        "interface": {"name": "eth0", "index": 2, "class": "eth0"}, "can_drop": "no", "can_divert": "no", "tc": None,
        "netfilter": None, "drop_evidence": [], "key": "bpf tcx ingress eth0", "detach": [],
    }  # fmt: skip
    found, answer = told(program, entry({**DROP, "packets": packets}, conditions=port(1678)))
    assert [one["grade"] for one in found] == (["likely"] if told_of else [])
    assert answer["verdict"] == ("blocked" if told_of else "unknown")
    elsewhere = {**program, "interface": {"name": "eth1", "index": 3, "class": "eth1"}}
    assert told(elsewhere, entry({**DROP, "packets": packets}, conditions=port(1678)))[0][0]["grade"] == "proven"


def test_on_another_link_it_stops_others() -> None:
    found, answer = told(entry(DROP, conditions=port(1678), dev="eth7"))
    assert found == [] and answer["verdict"] == "unknown", "whoever comes in there would be stopped"


def test_one_that_only_looks_before_changes_nothing() -> None:
    assert told(entry(ONWARD, conditions=[]), entry(DROP, conditions=port(1678), order=1))[0]


def test_answers_are_taken_too() -> None:
    (found,), answer = told(entry(DROP, conditions=port(1678, "sport"), direction="egress"))
    assert "drops answers of tcp/1678" in found["summary"] and answer["verdict"] == "blocked"


def test_a_part_is_a_warning() -> None:
    (found,), answer = told(entry(THIRD, conditions=port(1678)))
    assert (found["grade"], found["severity"]) == ("likely", "warning") and "one in about 3" in found["summary"]
    assert answer["verdict"] == "unknown"


def test_elsewhere_is_likely_and_a_shaper_is_no_fault() -> None:
    (found,), answer = told(entry(redirect("dead0"), conditions=port(1678), can_drop="no", can_divert="yes"))
    assert (found["grade"], found["severity"]) == ("likely", "critical") and "redirect to egress of dead0" in found["summary"]
    assert answer["text"].startswith("tcp/1678 is blocked here: likely: ")
    links = [link(), link("ifb0", index=9, kind="ifb")]
    assert told(entry(redirect("ifb0"), conditions=[], can_drop="no", can_divert="yes"), links=links)[0] == []


def test_below_a_vlan_packets_are_of_another_protocol() -> None:
    addresses = [{"link": "eth0.5", "family": 4, "address": "192.0.2.11", "prefix": 24, "scope": "global", "flags": []}]
    links = [link(), link("eth0.5", index=5, kind="vlan", peer_index=2)]
    assert told(entry(DROP, conditions=port(1678)), links=links, addresses=addresses)[0] == []


def test_towards_a_target_elsewhere_and_back() -> None:
    target = {"proto": "tcp", "port": 443, "address": "203.0.113.5"}
    routes = [{"family": 4, "table": 254, "type": "unicast", "dst": "default", "via": "192.0.2.1", "dev": "eth0", "flags": []}]
    rules = [{"family": 4, "priority": 32766, "table": 254, "action": "lookup", "src": None, "dst": None}]
    probe = {"kind": "tcp", "target": "203.0.113.5:443", "peer": None, "address": "203.0.113.5", "status": "timeout"}
    out = entry(DROP, conditions=port(443), direction="egress")
    back = entry(DROP, conditions=port(443, "sport"))
    world = {
        "target": target,
        "routes": routes,
        "policy_rules": rules,
        "switches": {},
        "sockets": {"listeners": [listener()], "states": {}},
    }
    for hook, what in ((out, "packets for"), (back, "answers of")):
        (found,), answer = told(hook, probes=[probe], **world)
        assert f"drops {what} tcp/203.0.113.5:443" in found["summary"] and answer["verdict"] == "blocked"
        assert {"id": "target-unreachable", "subject": "tcp/203.0.113.5:443"} in found["data"]["consequences"]
    assert told(out, probes=[{**probe, "status": "ok"}], **world)[0] == [], "the probe got there"
