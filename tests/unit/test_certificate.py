# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The certificate refuses what is wrong: right folds are made wrong in every way that came to mind, and none may be called equal.

A mutation counts when a packet shows that it is wrong; the judge of that packet is the matching of packet_verdict.
"""

from __future__ import annotations

import copy
import dataclasses
import random
from collections import Counter
from collections.abc import Callable

import pytest

from ansible_collections.netops.fleet.plugins.module_utils._firewall import certificate, fold
from ansible_collections.netops.fleet.plugins.module_utils._firewall.model import Action, Match, Rule, Set, Unknown, Verdict
from tests.unit import firewall_chains as chains

QUIET = frozenset({"quiet"})
#: (rules after, their sets, where) → whether anything was mutated
Mutation = Callable[[list[Rule], list[Set], random.Random], bool]


def some(r: random.Random, rules: list[Rule], wanted: Callable[[Rule], bool]) -> Rule | None:
    """One of the rules, made a copy of its own."""
    places = [at for at, rule in enumerate(rules) if wanted(rule)]
    if not places:
        return None
    at = r.choice(places)
    rules[at] = copy.deepcopy(rules[at])
    return rules[at]


def match_of(rule: Rule, wanted: Callable[[Match], bool]) -> Match | None:
    return next((part for part in rule.parts if isinstance(part, Match) and wanted(part)), None)


def folded(rule: Rule) -> bool:
    return match_of(rule, lambda part: part.set is not None) is not None


def member_lost(rules: list[Rule], sets: list[Set], r: random.Random) -> bool:
    one = r.choice(sets)
    assert one.elements is not None
    one.elements = [each for each in one.elements if each is not one.elements[r.randrange(len(one.elements))]]
    return True


def member_added(rules: list[Rule], sets: list[Set], r: random.Random) -> bool:
    one = r.choice(sets)
    assert one.elements is not None
    first = one.elements[0]
    six = "ipv6" in one.type or one.family in ("inet6", "ip6")
    address = "fd00::3" if six else "10.0.0.3"
    if one.type in ("bitmap:port", "inet_service"):
        fresh: object = 79
    elif isinstance(first, list) and first[0] == "concat":
        fresh = ["concat", address, *first[2:]]
    else:
        fresh = address
    one.elements = [*one.elements, fresh]
    return True


def member_widened(rules: list[Rule], sets: list[Set], r: random.Random) -> bool:
    one = r.choice(sets)
    assert one.elements is not None
    at = r.randrange(len(one.elements))
    element = one.elements[at]
    if isinstance(element, list) and element[0] == "prefix":
        one.elements[at] = ["prefix", element[1], element[2] - 8]
    elif isinstance(element, str):
        one.elements[at] = ["prefix", element, 125 if ":" in element else 29]
    elif isinstance(element, int):
        one.elements[at] = ["range", element - 1, element + 1]
    else:
        return False
    return True


def range_cut(rules: list[Rule], sets: list[Set], r: random.Random) -> bool:
    for one in sets:
        for at, element in enumerate(one.elements or []):
            if isinstance(element, list) and element[0] == "range" and one.elements is not None:
                one.elements[at] = ["range", element[1], element[2] - 1]
                return True
    return False


def verdict_changed(rules: list[Rule], sets: list[Set], r: random.Random) -> bool:
    rule = some(r, rules, lambda rule: rule.verdict is not None and folded(rule))
    if rule is None or rule.verdict is None:
        return False
    rule.verdict = Verdict("accept" if rule.verdict.kind != "accept" else "drop")
    return True


def answer_changed(rules: list[Rule], sets: list[Set], r: random.Random) -> bool:
    rule = some(r, rules, lambda rule: rule.verdict is not None and rule.verdict.kind == "reject")
    if rule is None:
        return False
    rule.verdict = Verdict("reject", None, "icmp host-prohibited")
    return True


def condition_lost(rules: list[Rule], sets: list[Set], r: random.Random) -> bool:
    rule = some(r, rules, lambda rule: folded(rule) and sum(isinstance(part, Match) for part in rule.parts) > 1)
    if rule is None:
        return False
    lost = match_of(rule, lambda part: part.set is None)
    rule.parts = [part for part in rule.parts if part is not lost]
    return lost is not None


def set_lost(rules: list[Rule], sets: list[Set], r: random.Random) -> bool:
    rule = some(r, rules, folded)
    if rule is None:
        return False
    rule.parts = [part for part in rule.parts if not (isinstance(part, Match) and part.set is not None)]
    return True


def negated(rules: list[Rule], sets: list[Set], r: random.Random) -> bool:
    rule = some(r, rules, folded)
    part = None if rule is None else match_of(rule, lambda part: part.set is not None)
    if part is None:
        return False
    part.op = "not in"
    return True


def side_changed(rules: list[Rule], sets: list[Set], r: random.Random) -> bool:
    rule = some(r, rules, folded)
    part = None if rule is None else match_of(rule, lambda part: part.set is not None)
    if part is None:
        return False
    swapped = {"saddr": "daddr", "daddr": "saddr", "sport": "dport", "dport": "sport"}
    part.left = " ".join(swapped.get(word, word) for word in part.left.split(" "))
    return True


def protocol_changed(rules: list[Rule], sets: list[Set], r: random.Random) -> bool:
    rule = some(r, rules, lambda rule: match_of(rule, lambda part: "tcp" in part.left or part.values == [6]) is not None)
    part = None if rule is None else match_of(rule, lambda part: "tcp" in part.left or part.values == [6])
    if part is None:
        return False
    part.left = part.left.replace("tcp", "udp")
    part.values = [17] if part.values == [6] else part.values
    return True


def rule_lost(rules: list[Rule], sets: list[Set], r: random.Random) -> bool:
    del rules[r.randrange(len(rules))]
    return True


def folded_rule_moved_to_the_front(rules: list[Rule], sets: list[Set], r: random.Random) -> bool:
    at = r.choice([at for at, rule in enumerate(rules) if folded(rule)])
    rules.insert(0, rules.pop(at))
    return at > 0


def folded_rule_moved_to_the_end(rules: list[Rule], sets: list[Set], r: random.Random) -> bool:
    at = r.choice([at for at, rule in enumerate(rules) if folded(rule)])
    rules.append(rules.pop(at))
    return True


def neighbours_exchanged(rules: list[Rule], sets: list[Set], r: random.Random) -> bool:
    at = r.randrange(len(rules) - 1)
    rules[at], rules[at + 1] = rules[at + 1], rules[at]
    return True


def barrier_moved(rules: list[Rule], sets: list[Set], r: random.Random) -> bool:
    acts = [at for at, rule in enumerate(rules) if any(isinstance(part, (Action, Unknown)) for part in rule.parts)]
    if not acts:
        return False
    rule = rules.pop(r.choice(acts))
    rules.insert(r.randrange(len(rules) + 1), rule)
    return True


def effect_lost(rules: list[Rule], sets: list[Set], r: random.Random) -> bool:
    rule = some(r, rules, lambda rule: any(isinstance(part, (Action, Unknown)) for part in rule.parts))
    if rule is None:
        return False
    rule.parts = [part for part in rule.parts if isinstance(part, Match)]
    return True


def state_lost(rules: list[Rule], sets: list[Set], r: random.Random) -> bool:
    rule = some(r, rules, lambda rule: match_of(rule, lambda part: part.left == "ct state") is not None)
    if rule is None:
        return False
    rule.parts = [part for part in rule.parts if not (isinstance(part, Match) and part.left == "ct state")]
    return True


def bit_test_made_exact(rules: list[Rule], sets: list[Set], r: random.Random) -> bool:
    """As nft -o does with tcp flags."""
    rule = some(r, rules, lambda rule: match_of(rule, lambda part: part.left == "tcp flags") is not None)
    part = None if rule is None else match_of(rule, lambda part: part.left == "tcp flags")
    if part is None:
        return False
    part.op, part.mask = "in", None
    return True


def sets_exchanged(rules: list[Rule], sets: list[Set], r: random.Random) -> bool:
    if len(sets) < 2:
        return False
    one, other = r.sample(sets, 2)
    one.elements, other.elements = other.elements, one.elements
    return one.type == other.type


def rules_united(rules: list[Rule], sets: list[Set], r: random.Random) -> bool:
    """Two folded rules made one, the other's members with it."""
    places = [at for at, rule in enumerate(rules) if folded(rule)]
    if len(places) < 2:
        return False
    first, second = (next(part for part in rules[at].parts if isinstance(part, Match) and part.set) for at in places[:2])
    one, other = (next(each for each in sets if each.name == part.set) for part in (first, second))
    if one.type != other.type or first.left != second.left or rules[places[0]].verdict == rules[places[1]].verdict:
        return False
    one.elements = [*(one.elements or []), *(other.elements or [])]
    del rules[places[1]]
    return True


MUTATIONS: tuple[Mutation, ...] = (
    member_lost, member_added, member_widened, range_cut, verdict_changed, answer_changed, condition_lost, set_lost, negated,
    side_changed, protocol_changed, rule_lost, folded_rule_moved_to_the_front, folded_rule_moved_to_the_end,
    neighbours_exchanged, barrier_moved, effect_lost, state_lost, bit_test_made_exact, sets_exchanged, rules_united,
)  # fmt: skip


#: What random chains seldom hold.
RARE = [
    *(f"ip saddr 10.0.0.{n} tcp flags syn drop" for n in (1, 2, 9)),
    *(f"tcp dport {one} accept" for one in ("20-80", "1000-1500", "443", "1678")),
    "ct state related tcp dport 53 reject",
    'ip saddr 10.0.1.1 log prefix "x"',
    *(f"ip daddr {one} ct state new drop" for one in ("10.0.0.9", "10.0.1.0/24", "192.0.2.0/24")),
]


def test_wrong_folds_are_refused() -> None:
    """More than 200 that a packet proves wrong; at least one of each way."""
    wrong: Counter[str] = Counter()
    replayed = 0
    for seed in range(100):
        maker = chains.Maker(1000 + seed)
        before = maker.chain(maker.r.randint(20, 40)) if seed % 3 else chains.nft(RARE, "ip")
        result = fold.fold(before, quiet_chain=QUIET.__contains__, minimum=2)
        if not result.sets:
            continue
        packets = [maker.packet(before) for _ in range(60)]
        for mutation in maker.r.sample(MUTATIONS, 7):
            after, sets = chains.after(before, result)
            after, sets = list(after), copy.deepcopy(sets)
            if not mutation(after, sets, maker.r):
                continue
            if all(chains.trace(before, [], packet) == chains.trace(after, sets, packet) for packet in packets):
                continue
            proof = certificate.certify(before, after, sets, QUIET)
            assert proof.verdict == "different", (seed, mutation.__name__, proof)
            wrong[mutation.__name__] += 1
            packet = chains.packet_of(proof.witness, before[0].family) if proof.witness else None
            if packet is not None and chains.trace(before, [], packet) != chains.trace(after, sets, packet):
                replayed += 1
    assert sum(wrong.values()) >= 200, wrong
    assert set(wrong) == {one.__name__ for one in MUTATIONS}, {one.__name__ for one in MUTATIONS} - set(wrong)
    assert replayed >= 100, "packets that a certificate names show the difference to another judge too"


def equal(before: list[str], after: list[str], family: str = "inet") -> certificate.Certificate:
    return certificate.certify(chains.nft(before, family), chains.nft(after, family), (), QUIET)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (["tcp flags syn accept", "tcp flags ack accept"], ["tcp flags { syn, ack } accept"]),
        (["ct status dnat accept", "ct status snat accept"], ["ct status { dnat, snat } accept"]),
        (["ip saddr != 10.0.0.1 drop", "ip saddr != 10.0.0.2 drop"], ["ip saddr != { 10.0.0.1, 10.0.0.2 } drop"]),
        (["ip saddr 10.0.0.0/24 drop", "ip saddr 10.0.0.0/16 accept"],
         ["ip saddr 10.0.0.0/16 accept", "ip saddr 10.0.0.0/24 drop"]),
        (["ip saddr 10.0.0.1 drop", "ip6 saddr fd00::1 drop"], ["ip saddr 10.0.0.1 drop"]),
        (["tcp dport 22 drop"], ["th dport 22 drop"]),
        (["tcp dport 22 drop"], ["tcp dport 22-23 drop"]),
        (["log", "drop"], ["drop", "log"]),
        (["jump quiet", "drop"], ["drop"]),
        (["jump loud", "drop"], ["drop"]),
        (["limit rate 5/second accept", "tcp dport 22 drop"], ["tcp dport 22 drop", "limit rate 5/second accept"]),
        (["drop"], []),
        ([], ["ip saddr 10.0.0.1 drop"]),
        (["tcp dport != 22 drop"], ["drop"]),
        (["meta mark 1 drop"], ["meta mark 2 drop"]),
        (["ct state new drop"], ["ct state new,related drop"]),
        (['iifname "eth0" drop'], ['iifname "eth1" drop']),
        (["reject with icmp host-unreachable"], ["drop"]),
    ],
)  # fmt: skip
def test_different(before: list[str], after: list[str]) -> None:
    assert equal(before, after).verdict == "different"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (["ip saddr 10.0.0.0/25 drop", "ip saddr 10.0.0.128/25 drop"], ["ip saddr 10.0.0.0/24 drop"]),
        (["ip saddr 10.0.0.1 drop", "ip saddr 10.0.0.0/8 drop"], ["ip saddr 10.0.0.0/8 drop"]),
        (["tcp dport 22 accept", "udp dport 22 drop"], ["udp dport 22 drop", "tcp dport 22 accept"]),
        (["accept", "ip saddr 10.0.0.1 drop"], ["accept"]),
        (["tcp dport 22 accept", "tcp dport != 22 accept", "meta l4proto tcp accept"], ["meta l4proto tcp accept"]),
        (["ip saddr 0.0.0.0/1 drop", "ip saddr 128.0.0.0/1 drop", "ip6 saddr ::/0 drop"], ["drop"]),
        (["ip saddr != 10.0.0.1 drop", "ip saddr != 10.0.0.2 drop"], ["ip saddr 0.0.0.0/0 drop"]),
        (["ct state established accept", "ct state new drop"], ["ct state new drop", "ct state established accept"]),
        (["counter", "tcp flags syn drop"], ["tcp flags syn drop", "counter"]),
        (["ip saddr . tcp dport { 10.0.0.1 . 22, 10.0.0.2 . 80 } accept"],
         ["ip saddr 10.0.0.1 tcp dport 22 accept", "ip saddr 10.0.0.2 tcp dport 80 accept"]),
    ],
)  # fmt: skip
def test_equal(before: list[str], after: list[str]) -> None:
    proof = equal(before, after)
    assert proof.verdict == "equal", proof


def test_the_witness_is_the_packet() -> None:
    proof = equal(["ip saddr 10.1.2.3 tcp dport 22 drop"], [])
    assert proof.witness is not None and proof.witness["ip saddr"] == "10.1.2.3" and proof.witness["th dport"] == 22
    assert proof.why == "before: drop, after: goes on"


def test_too_much_is_no_certificate() -> None:
    before = chains.nft([f"ip saddr 10.0.{n}.0/24 drop" for n in range(50)])
    proof = certificate.certify(before, before[:-1], (), budget=20)
    assert proof.verdict == "unknown" and "20 places" in proof.why


def test_a_set_nobody_described_is_a_variable() -> None:
    rules = chains.nft(["ip saddr @known drop", "ip saddr 10.0.0.1 accept"])
    assert certificate.certify(rules, rules[::-1]).verdict == "different"
    assert certificate.certify(rules, rules).verdict == "equal"


def test_an_ipset_of_another_family_holds_nothing() -> None:
    rules = chains.iptables_rules(["-s 10.0.0.1/32 -j DROP"])
    after = chains.iptables_rules(["-m set --match-set one src -j DROP"], types={"one": "hash:ip"})
    for family, verdict in (("inet", "equal"), ("inet6", "different")):
        one = Set("ipset", family, "", "one", "hash:ip", elements=["10.0.0.1"])
        assert certificate.certify(rules, after, [one]).verdict == verdict


def test_rules_that_jump_to_what_is_loud_are_not_looked_past() -> None:
    rules = [
        *chains.nft(["ip saddr 10.0.0.1 drop"], chain="quiet"),
        *chains.nft(["jump deeper"], chain="middle"),
        *chains.nft(["meta mark set 0x1"], chain="deeper"),
    ]
    assert certificate.quiet_chains(rules) == {"quiet"}


def test_certificates_are_data() -> None:
    proof = equal(["drop"], ["accept"])
    assert set(proof.to_dict()) <= {field.name for field in dataclasses.fields(certificate.Certificate)}
