# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The index of a long chain leaves out no rule that may match, and most of those that cannot."""

from __future__ import annotations

import random

from ansible_collections.netops.fleet.plugins.module_utils._firewall import index, matching, model
from ansible_collections.netops.fleet.plugins.module_utils._firewall.packet import Packet

_PREFIXES = (["prefix", "10.0.0.0", 8], ["prefix", "10.0.1.0", 24], ["range", "10.0.0.3", "10.0.0.9"])


def _condition(r: random.Random) -> model.Match:
    kind = r.randrange(8)
    if kind < 3:
        values: list[model.Element] = [
            r.choice((f"10.0.{r.randrange(3)}.{r.randrange(9)}", *_PREFIXES)) for _ in range(r.randrange(1, 4))
        ]
        return model.Match(r.choice(("ip saddr", "ip daddr")), r.choice(("in", "in", "not in")), values)
    if kind < 6:
        ports: list[model.Element] = [
            r.choice((r.randrange(40), ["range", 3, 9], ["range", 5, 500])) for _ in range(r.randrange(1, 12))
        ]
        return model.Match(r.choice(("tcp dport", "udp dport", "tcp sport")), "in", ports)
    if kind == 6:
        return model.Match("meta iifname", "in", [r.choice(("eth0", "eth1", "eth*"))])
    return model.Match("meta l4proto", "in", [r.choice((6, 17))])


def _rule(r: random.Random, line: int) -> model.Rule:
    parts: list[model.Part] = [_condition(r) for _ in range(r.randrange(4))]
    if r.random() < 0.1:
        parts.insert(0, model.Unknown("limit"))
    if r.random() < 0.1:
        parts.insert(0, model.Action("mark", {"value": 1}))
    return model.Rule("nft", "ip", "t", "c", line, "", parts, model.Verdict("drop"))


def test_no_rule_that_may_match_is_left_out() -> None:
    sets = matching.Sets([])
    for seed in range(60):
        r = random.Random(seed)
        # Of some chains most rules share their address, or their port, and crowd under one key.
        shared = [model.Match("ip saddr", "in", [_PREFIXES[0]]), model.Match("tcp dport", "in", [5, 6]), None][seed % 3]
        rules = [_rule(r, line) for line in range(r.choice((30, 120)))]
        for rule in rules:
            if shared is not None and r.random() < 0.8:
                rule.parts.append(shared)
        found = index.RuleIndex(rules)
        for _packet in range(30):
            sport, dport = r.choice((None, r.randrange(40))), r.choice((None, r.randrange(40)))
            saddr = r.choice((None, f"10.0.{r.randrange(3)}.{r.randrange(9)}"))
            packet = Packet(
                4, r.choice((6, 17, 1)), saddr, f"10.0.{r.randrange(3)}.2", sport, dport, r.choice((None, "eth0", "lo"))
            )
            after = r.choice((-1, 5, 20))
            places = found.candidates(packet, after)
            assert places == sorted(set(places)) and all(place > after for place in places)
            for place in range(after + 1, len(rules)):
                conditions = [part for part in rules[place].parts if isinstance(part, model.Match)]
                answers = [matching.matches(part, rules[place], packet, sets) for part in conditions]
                acts = any(isinstance(part, model.Action) for part in rules[place].parts)
                if acts or False not in answers:
                    assert place in places, (seed, rules[place], packet)


def test_rules_of_one_address_each_cost_a_look_up() -> None:
    rules = [
        model.Rule("nft", "ip", "t", "c", n, "", [model.Match("ip saddr", "in", [f"10.{n >> 8}.{n & 255}.1"])])
        for n in range(2000)
    ]
    assert index.RuleIndex(rules).candidates(Packet(4, 6, "10.1.2.1", "10.0.0.1", 5, 5, "eth0")) == [258]


def test_rules_that_share_their_network_are_found_by_their_port() -> None:
    network = model.Match("ip saddr", "in", [["prefix", "10.0.0.0", 8]])
    rules = [model.Rule("nft", "ip", "t", "c", n, "", [network, model.Match("tcp dport", "in", [n])]) for n in range(2000)]
    assert index.RuleIndex(rules).candidates(Packet(4, 6, "10.1.2.1", "10.0.0.1", 5, 77, "eth0")) == [77]
