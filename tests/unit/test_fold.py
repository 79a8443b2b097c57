# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Folding rules into sets: what is folded, what is not and why, and that no packet's verdict changes."""

from __future__ import annotations

import pytest

from ansible_collections.netops.fleet.plugins.module_utils._firewall import certificate, fold
from ansible_collections.netops.fleet.plugins.module_utils._firewall.model import Rule
from tests.unit import firewall_chains as chains

QUIET = frozenset({"quiet"})


def run(rules: list[Rule], **options: object) -> fold.Folded:
    """Fold; the certificate must hold, whatever was folded."""
    folded = fold.fold(rules, quiet_chain=QUIET.__contains__, **options)  # type: ignore[arg-type]
    made, sets = chains.after(rules, folded)
    proof = certificate.certify(rules, made, sets, QUIET)
    assert proof.verdict == "equal", (proof, [rule.text for rule in rules], [rule.text for rule in made])
    places = sorted(place[1] for place in folded.places if place[0] == "kept")
    assert len(places) == len(set(places))
    return folded


def texts(rules: list[Rule], folded: fold.Folded) -> list[str]:
    return [rules[one.sources[0]].text if one.text is None else one.text for one in folded.after]


def addresses(count: int, rest: str, net: str = "10.1.0") -> list[str]:
    return [f"ip saddr {net}.{n + 1} {rest}" for n in range(count)]


def test_sources_become_one_named_set() -> None:
    rules = chains.nft(addresses(5, "tcp dport 22 counter packets 2 bytes 120 drop"))
    folded = run(rules)
    (made,) = folded.sets
    assert texts(rules, folded) == [f"ip saddr @{made.name} tcp dport 22 counter packets 10 bytes 600 drop"]
    assert made.type == "ipv4_addr" and not made.interval and next(one for one, _comment in made.elements) == "10.1.0.1"
    assert folded.places[3] == ("set", 0, made.name, "10.1.0.4")


def test_fewer_than_the_minimum_stay() -> None:
    assert not run(chains.nft(addresses(3, "drop"))).changed
    assert run(chains.nft(addresses(3, "drop")), minimum=3).changed


@pytest.mark.parametrize(
    ("rule", "kind"),
    [
        ("ip daddr 10.0.0.{n} accept", "ipv4_addr"),
        ("ip6 saddr fd00::{n} accept", "ipv6_addr"),
        ("ip saddr 10.{n}.0.0/16 accept", "ipv4_addr"),
        ("tcp dport 80{n} accept", "inet_service"),
        ("udp sport 80{n} accept", "inet_service"),
        ("tcp dport 8{n}-8{n}9 accept", "inet_service"),
    ],
)
def test_every_dimension_of_nft(rule: str, kind: str) -> None:
    rules = chains.nft(rule.replace("{n}", str(n)) for n in range(1, 7))
    folded = run(rules)
    assert len(folded.after) == 1 and folded.sets[0].type == kind
    assert folded.sets[0].interval == ("/" in rule or "-" in rule)


@pytest.mark.parametrize(
    ("rule", "kind", "wanted"),
    [
        ("-s 10.0.0.{n}/32 -j DROP", "hash:ip", "-A INPUT -m set --match-set {s} src -j DROP"),
        ("-d 10.{n}.0.0/16 -i eth0 -j DROP", "hash:net", "-A INPUT -i eth0 -m set --match-set {s} dst -j DROP"),
        (
            "-s 10.0.0.{n}/32 -p tcp -m tcp --dport 22 -j ACCEPT",
            "hash:ip",
            "-A INPUT -p tcp -m set --match-set {s} src -m tcp --dport 22 -j ACCEPT",
        ),
        ("-p tcp -m tcp --dport 8{n} -j DROP", "bitmap:port", "-A INPUT -p tcp -m tcp -m set --match-set {s} dst -j DROP"),
        (
            "-s 10.0.0.{n}/32 -p udp -m udp --dport 8{n} -j ACCEPT",
            "hash:ip,port",
            "-A INPUT -p udp -m set --match-set {s} src,dst -m udp -j ACCEPT",
        ),
    ],
)
def test_every_dimension_of_iptables(rule: str, kind: str, wanted: str) -> None:
    rules = chains.iptables_rules(rule.replace("{n}", str(n)) for n in range(1, 7))
    folded = run(rules)
    assert texts(rules, folded) == [wanted.replace("{s}", folded.sets[0].name)] and folded.sets[0].type == kind
    assert len(folded.sets[0].name) <= 31


def test_rules_that_commute_may_stand_between() -> None:
    between = ["ip saddr 192.0.2.1 accept", "ip saddr 10.1.0.99 tcp dport 22 accept", "ip6 saddr fd00::1 accept"]
    between.append("tcp dport 80 drop")
    rules = chains.nft([one for pair in zip(addresses(4, "drop"), between) for one in pair])
    folded = run(rules)
    assert len(folded.sets) == 1 and len(folded.after) == 5


def test_a_rule_that_does_not_commute_splits_the_group() -> None:
    rules = chains.nft([*addresses(4, "drop"), "ip saddr 10.1.0.0/16 accept", *addresses(4, "drop", "10.1.5")])
    folded = run(rules)
    assert [len(one.elements) for one in folded.sets] == [4, 4]
    wide = chains.nft([*addresses(3, "drop"), "tcp dport 22 accept", *addresses(3, "drop", "10.1.5")])
    assert not run(wide).changed


def test_windows_are_stabbed_with_few_places() -> None:
    """Each rule may move between the accepts of its own network; one place serves all."""
    rules = chains.nft(
        ["ip saddr 10.1.0.0/24 accept", "ip saddr 10.2.0.5 drop", "ip saddr 10.1.0.5 drop", "ip saddr 10.3.0.5 drop",
         "ip saddr 10.2.0.0/24 accept", "ip saddr 10.4.0.5 drop"]
    )  # fmt: skip
    folded = run(rules)
    assert len(folded.sets) == 1 and len(folded.sets[0].elements) == 4 and len(folded.after) == 3


@pytest.mark.parametrize(
    ("rule", "why"),
    [
        ("limit rate 5/second accept", "not static"),
        ("meta mark set 0x1", "mark"),
        ("jump loud", "loud"),
        ('log prefix "a" ip saddr 10.9.9.9 drop', "before its last condition"),
        ("add @seen { ip saddr }", "set update"),
        ("counter name hits", ""),
        ("notrack", "notrack"),
        ("tcp dport vmap { 22 : accept, 80 : drop }", "verdict map"),
        ("queue num 0", "queue"),
    ],
)
def test_barriers_stay_and_are_listed(rule: str, why: str) -> None:
    rules = chains.nft([*addresses(4, "drop"), rule, *addresses(4, "drop", "10.1.5")])
    folded = run(rules)
    assert texts(rules, folded)[1] == rule
    if why:
        assert [(index, why in said) for index, said in folded.barriers] == [(4, True)]
        assert len(folded.sets) == 2
    else:
        assert folded.barriers == []


def test_rules_of_another_program_are_barriers() -> None:
    rules = chains.nft([*addresses(4, "drop"), "ip saddr 10.7.7.7 drop", *addresses(4, "drop", "10.1.5")])
    rules[4].owner = "docker"
    folded = run(rules)
    assert folded.barriers == [(4, "belongs to docker")] and len(folded.sets) == 2


def test_a_disjoint_log_or_quiet_jump_is_no_barrier() -> None:
    for rule in ('ip saddr 192.0.2.0/24 log prefix "x"', "ip saddr 192.0.2.0/24 jump quiet", "ip saddr 192.0.2.1 counter"):
        rules = chains.nft([*addresses(3, "drop"), rule, *addresses(3, "drop", "10.1.5")])
        assert len(run(rules).after) == 2
    for rule in ('log prefix "x"', "ip saddr 10.1.0.0/16 jump quiet"):
        rules = chains.nft([*addresses(3, "drop"), rule, *addresses(3, "drop", "10.1.5")])
        assert not run(rules).changed


@pytest.mark.parametrize(
    "rule",
    [
        "ip saddr != 10.1.0.{n} drop",
        "tcp flags {f} accept",
        "ct state {s} accept",
        "meta mark & 0x{n} == 0x1 accept",
        "ip saddr & 255.255.255.0 == 10.1.{n}.0 drop",
        'ip saddr 10.1.0.{n} log prefix "x" drop',
        "ip saddr 10.1.0.{n} limit rate 5/second accept",
        "ip saddr 10.1.0.{n} jump quiet",
        "tcp dport != 8{n} drop",
        "ip saddr @known{n} drop",
    ],
)
def test_never_folded(rule: str) -> None:
    """Negations, bit tests, masks, effects, sets of others: the shapes nft -o folds wrong are among them."""
    words = zip(range(1, 5), ("syn", "ack", "rst", "fin"), ("new", "established", "related", "invalid"))
    rules = chains.nft(rule.replace("{n}", str(n)).replace("{f}", flag).replace("{s}", state) for n, flag, state in words)
    assert not run(rules).changed


def test_nested_prefixes_of_one_verdict_are_absorbed() -> None:
    rules = chains.nft(f"ip saddr {one} drop" for one in ("10.0.0.0/8", "10.1.0.0/16", "10.1.2.3", "192.0.2.1", "10.0.0.0/9"))
    folded = run(rules)
    assert [one for one, _comment in folded.sets[0].elements] == [["prefix", "10.0.0.0", 8], "192.0.2.1"]
    assert folded.places[2] == ("set", 0, folded.sets[0].name, "10.0.0.0/8")


def test_nested_prefixes_of_two_verdicts_keep_their_order() -> None:
    """nft -o makes a map of it that cannot be loaded."""
    pairs = (("10.0.0.0/24", "drop"), ("10.0.0.0/16", "accept"), ("10.5.0.0/24", "drop"), ("10.5.0.0/16", "accept"))
    rules = chains.nft(f"ip saddr {net} {verdict}" for net, verdict in pairs)
    folded = run(rules, minimum=2)
    said = texts(rules, folded)
    assert len(said) == 2 and said[0].endswith("drop") and said[1].endswith("accept")


def test_ranges_that_overlap_become_one() -> None:
    rules = chains.nft(f"tcp dport {one} accept" for one in ("100-200", "150-300", "400", "300-310"))
    assert [one for one, _c in run(rules).sets[0].elements] == [["range", 100, 310], 400]


def test_the_same_rule_twice_is_taken_out() -> None:
    twice = 'ip saddr 10.0.0.1 drop comment "again"'
    rules = chains.nft(["ip saddr 10.0.0.1 drop", "tcp dport 80 accept", twice, "udp dport 53 accept"])
    folded = run(rules)
    assert len(folded.after) == 3 and folded.places[2] == ("gone", 0, "says the same as rule 1 of the chain")


def test_comments_go_into_the_set() -> None:
    rules = chains.nft(f'ip saddr 10.0.0.{n} drop comment "ticket {n}"' for n in range(1, 6))
    folded = run(rules)
    assert [comment for _one, comment in folded.sets[0].elements] == [f"ticket {n}" for n in range(1, 6)]
    assert "comment" not in str(folded.after[0].text)


def test_reject_with_another_answer_is_another_verdict() -> None:
    kinds = ("host-unreachable", "admin-prohibited")
    rules = chains.nft(f"ip saddr 10.0.0.{n} reject with icmp {kind}" for n in range(1, 5) for kind in kinds)
    folded = run(rules)
    assert len(folded.sets) == 2 and [one.rsplit(" ", 1)[1] for one in texts(rules, folded)] == list(kinds)


def test_what_an_ipset_cannot_hold_stays() -> None:
    kept = ("0.0.0.0/32", "10.0.0.1/32", "10.0.0.2/32", "10.0.0.3/32", "10.0.0.4/32")
    rules = chains.iptables_rules(f"-s {one} -j DROP" for one in kept)
    folded = run(rules)
    assert "-A INPUT -s 0.0.0.0/32 -j DROP" in texts(rules, folded) and len(folded.sets[0].elements) == 4


def test_order_by_hits_moves_only_past_what_commutes() -> None:
    rules = chains.nft(
        ["tcp dport 22 counter packets 1 bytes 60 accept", "ip saddr 10.0.0.0/8 counter packets 2 bytes 60 drop",
         "tcp dport 443 counter packets 90 bytes 60 accept", "udp dport 53 counter packets 95 bytes 60 drop"]
    )  # fmt: skip
    said = texts(rules, run(rules, order=True))
    assert [one[:9] for one in said] == ["udp dport", "tcp dport", "ip saddr ", "tcp dport"] and "443" in said[3]


@pytest.mark.parametrize("seed", range(150))
def test_random_chains(seed: int) -> None:
    """The certificate holds, and a judge that shares nothing with it sees the same."""
    maker = chains.Maker(seed)
    rules = maker.chain(maker.r.randint(8, 60))
    folded = run(rules, minimum=2, order=seed % 3 == 0)
    made, sets = chains.after(rules, folded)
    for _ in range(120):
        packet = maker.packet(rules)
        assert chains.trace(rules, [], packet) == chains.trace(made, sets, packet), packet


def test_random_chains_are_folded_at_all() -> None:
    before = after = 0
    for seed in range(60):
        maker = chains.Maker(seed)
        rules = maker.chain(60)
        before, after = before + len(rules), after + len(fold.fold(rules, minimum=2).after)
    assert after < before * 0.7, (before, after)
