# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Routing decisions, the rule index, and the options of a packet, with plain data."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.netops.fleet.plugins.module_utils._diagnosis import letpass, verdict, world
from ansible_collections.netops.fleet.plugins.module_utils._firewall import index, matching, model, walk
from ansible_collections.netops.fleet.plugins.module_utils._firewall.packet import Packet
from ansible_collections.netops.fleet.plugins.module_utils._firewall.routing import Router
from tests.unit.hosts import ruleset

LINKS = [{"name": "eth0", "index": 2}, {"name": "eth1", "index": 3}]
ADDRESSES = [
    {"link": "eth0", "family": 4, "address": "192.0.2.11", "prefix": 24, "scope": "global", "flags": []},
    {"link": "eth1", "family": 4, "address": "198.51.100.1", "prefix": 24, "scope": "global", "flags": []},
]


def route(dst: str, dev: str | None = "eth0", table: int = 254, kind: str = "unicast", **more: Any) -> dict[str, Any]:
    return {"family": 4, "table": table, "type": kind, "dst": dst, "dev": dev, "via": None, "metric": 0, "nexthops": [], **more}


ROUTES = [
    route("192.0.2.11/32", table=255, kind="local"),
    route("198.51.100.1/32", "eth1", table=255, kind="local"),
    route("192.0.2.0/24"),
    route("198.51.100.0/24", "eth1"),
    route("default", via="192.0.2.254"),
]
RULES = [
    {"family": 4, "priority": 0, "action": "lookup", "table": 255},
    {"family": 4, "priority": 32766, "action": "lookup", "table": 254},
]
ON = {"forwarding": 1, "rp_filter": 0, "accept_local": 0, "route_localnet": 0}


def router(routes: list[dict[str, Any]], rules: list[dict[str, Any]], **switches: int) -> Router:
    each = {**ON, **switches}
    values = {"all": {**ON, "rp_filter": 0}, "eth0": each, "eth1": each}
    return Router(LINKS, ADDRESSES, ROUTES + routes, RULES + rules, {"ipv4": values})


def packet(daddr: str, saddr: str = "192.0.2.1", iif: str = "eth0", **more: Any) -> Packet:
    return Packet(4, 6, saddr, daddr, 49152, 1678, iif, "", **more)


@pytest.mark.parametrize(
    ("daddr", "saddr", "routes", "rules", "switches", "goal", "words"),
    [
        ("192.0.2.11", "192.0.2.1", [], [], {}, "local", ""),
        ("198.51.100.9", "192.0.2.1", [], [], {}, "forward", ""),
        ("198.51.100.9", "192.0.2.1", [], [], {"forwarding": 0}, "drop", "forwarding is 0"),
        ("198.51.100.9", "192.0.2.1", [route("198.51.100.0/28", None, kind="blackhole")], [], {}, "drop", "blackhole by route"),
        ("198.51.100.9", "192.0.2.1", [route("198.51.100.9/32", None, kind="prohibit")], [], {}, "reject", "prohibit"),
        ("198.51.100.9", "198.51.100.7", [], [], {"rp_filter": 1}, "drop", "rp_filter is 1"),
        ("198.51.100.9", "198.51.100.7", [], [], {"rp_filter": 2}, "forward", ""),
        ("192.0.2.11", "198.51.100.1", [], [], {}, "drop", "address of this host"),
        ("127.0.0.1", "192.0.2.1", [], [], {}, "drop", "route_localnet"),
        ("198.51.100.9", "192.0.2.1", [], [{"family": 4, "priority": 5, "action": "unreachable", "from": "192.0.2.0/24"}], {},
         "reject", "policy rule"),
        ("198.51.100.9", "192.0.2.1", [], [{"family": 4, "priority": 5, "action": "prohibit", "fwmark": 7}], {}, "forward", ""),
        ("198.51.100.9", "192.0.2.1", [], [{"family": 4, "priority": 5, "action": "prohibit", "fwmark": 7, "not": True}], {},
         "reject", "prohibit"),
    ],
)  # fmt: skip
def test_routing_decisions(
    daddr: str, saddr: str, routes: list[Any], rules: list[Any], switches: dict[str, int], goal: str, words: str
) -> None:
    made, _found, why = router(routes, rules, **switches).arriving(packet(daddr, saddr))
    assert made == goal and words in why, (made, why)


def test_what_was_not_read_is_not_guessed() -> None:
    empty = Router(LINKS, ADDRESSES, ROUTES, RULES, {})
    assert empty.arriving(packet("198.51.100.9"))[0] == "unknown"
    cut = Router(LINKS, ADDRESSES, ROUTES[:3], RULES, {"ipv4": {"all": ON, "eth0": ON}}, {4: "too many routes"})
    assert cut.lookup(packet("203.0.113.1"), "203.0.113.1", None, "eth0", None, 0).kind == "unknown"


def test_the_switch_that_drops_is_named_and_mended() -> None:
    walker = walk.Walker(model.Ruleset.from_dict(ruleset()), router([], [], rp_filter=1))
    asked = packet("198.51.100.1", "198.51.100.7")
    decision = walker.incoming(asked)
    assert decision.verdict == "drop" and decision.object is not None and decision.object["kind"] == "sysctl"
    fix = letpass.commands(lambda without: walker.incoming(asked, without), asked, decision)
    assert fix[0] == "sysctl -w net.ipv4.conf.eth0.rp_filter=2"


_VALUES = st.one_of(
    st.sampled_from(["192.0.2.1", "192.0.2.2", "198.51.100.7"]),
    st.tuples(st.just("prefix"), st.sampled_from(["192.0.2.0", "0.0.0.0"]), st.integers(0, 32)).map(list),
)
_PORTS = st.one_of(st.integers(1, 5), st.tuples(st.integers(1, 3), st.integers(3, 20)).map(lambda pair: ["range", *pair]))
_PARTS = st.one_of(
    st.tuples(
        st.sampled_from(["ip saddr", "ip daddr"]), st.sampled_from(["in", "not in"]), st.lists(_VALUES, min_size=1, max_size=3)
    ),
    st.tuples(
        st.sampled_from(["tcp dport", "udp dport"]), st.sampled_from(["in", "not in"]), st.lists(_PORTS, min_size=1, max_size=3)
    ),
    st.tuples(st.just("meta iifname"), st.just("in"), st.lists(st.sampled_from(["eth0", "eth*", "lo"]), min_size=1, max_size=2)),
)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.lists(_PARTS, max_size=3), min_size=index.SHORT, max_size=60),
    st.sampled_from(["192.0.2.1", "198.51.100.7", None]),
    st.integers(1, 6),
)
def test_the_index_leaves_out_only_what_cannot_match(rules: list[list[Any]], saddr: str | None, port: int) -> None:
    made = [
        model.Rule("nft", "ip", "t", "c", line, "rule", [model.Match(left, op, values) for left, op, values in parts])
        for line, parts in enumerate(rules)
    ]
    asked = packet("192.0.2.2").changed(saddr=saddr, dport=port)
    kept = set(index.RuleIndex(made).candidates(asked))
    sets = matching.Sets([])
    for place, rule in enumerate(made):
        answers = [matching.matches(part, rule, asked, sets) for part in rule.parts if isinstance(part, model.Match)]
        assert place in kept or False in answers, rule


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"destination": "host.example"}, "no IP address"),
        ({"destination": "192.0.2.11"}, "destination_port is missing"),
        ({"destination": "192.0.2.11", "source": "2001:db8::1", "destination_port": 1}, "one family"),
        ({"destination": "192.0.2.11", "protocol": "foo"}, "protocol 'foo'"),
        ({"destination": "192.0.2.11", "protocol": "icmp", "destination_port": 3}, "allowed are"),
        ({"destination": "192.0.2.11", "protocol": "icmp", "icmp_type": "ping"}, "icmp_type"),
        ({"destination": "192.0.2.11", "destination_port": 1, "interface": "eth9"}, "eth9"),
    ],
)
def test_options_that_are_wrong_are_named(options: dict[str, Any], words: str) -> None:
    host = world.Host(model.Ruleset(), None, [], [], {"links": LINKS, "addresses": ADDRESSES})
    with pytest.raises(verdict.PacketError, match=words):
        verdict.packet_of(options, host)


def test_a_program_that_may_drop_makes_doubt_and_one_that_drops_all_decides() -> None:
    entry = {"hook": "tcx", "direction": "ingress", "interface": {"name": "eth0"}, "kind": "bpf", "name": "guard", "id": 7,
             "can_drop": "unknown", "can_divert": "no", "drop_evidence": ["computed"], "owners": [], "order": 0}  # fmt: skip
    rules = model.Ruleset.from_dict(ruleset())
    found = walk.Walker(rules, router([], []), [entry]).incoming(packet("192.0.2.11"))
    assert found.verdict == "unknown" and "guard" in str(found.why)
    elsewhere = {**entry, "interface": {"name": "eth1"}}
    assert walk.Walker(rules, router([], []), [elsewhere]).incoming(packet("192.0.2.11")).verdict == "accept"
    tc = {"chain": 0, "protocol": "all", "reached": True, "conditions": [], "actions": [{"kind": "gact", "verdict": "drop"}]}
    everything = {
        **entry,
        "hook": "tc",
        "kind": "matchall",
        "id": None,
        "can_drop": "yes",
        "tc": tc,
        "detach": ["tc filter del x"],
    }
    walker = walk.Walker(rules, router([], []), [everything])
    asked = packet("192.0.2.11")
    decision = walker.incoming(asked)
    assert decision.verdict == "drop"
    assert letpass.commands(lambda without: walker.incoming(asked, without), asked, decision) == ["tc filter del x"]
    assert walker.incoming(asked.changed(iif=None)).verdict == "unknown", "it may come in elsewhere"
    for conditions, goal in (([{"field": "dport", "value": "0016", "mask": "ffff"}], "accept"), (None, "unknown")):
        other = {**everything, "tc": {**tc, "conditions": conditions}}
        assert walk.Walker(rules, router([], []), [other]).incoming(asked).verdict == goal


@pytest.mark.parametrize(("divert", "rule", "verdict"), [
    ("no", True, "drop"), ("no", False, "unknown"), ("yes", True, "unknown"), ("yes", False, "unknown"),
])  # fmt: skip
def test_a_program_that_may_drop_what_a_rule_drops_leaves_no_doubt(divert: str, rule: bool, verdict: str) -> None:
    hook = {"hook": "tcx", "direction": "ingress", "name": "guard", "id": 7, "can_drop": "yes", "can_divert": divert, "order": 0}
    section = ruleset({"parts": [], "verdict": {"kind": "drop"}}) if rule else ruleset()
    found = walk.Walker(model.Ruleset.from_dict(section), hooks=[hook]).incoming(packet("192.0.2.11"))
    assert found.verdict == verdict and [one.hook for one in found.possible] == [hook]
