# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts sorted by the fingerprint of their rules, and what a fingerprint leaves out."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

from ansible_collections.netops.fleet.plugins.module_utils._firewall import fingerprint, iptables, nft_text
from ansible_collections.netops.fleet.plugins.module_utils._firewall.model import BackendState, Chain, Rule, Ruleset, Set
from ansible_collections.netops.fleet.plugins.plugin_utils._fleet import alike


def ruleset(*texts: str, table: str = "fence", chain: str = "input", policy: str = "accept") -> Ruleset:
    rules = []
    for line, text in enumerate(texts, 1):
        read = nft_text.read_rule(text, "ip")
        counts = {"packets": read.packets, "bytes": read.bytes}
        rules.append(Rule("nft", "ip", table, chain, line, text, read.parts, read.verdict, handle=line + 3, **counts))
    return Ruleset(chains=[Chain("nft", "ip", table, chain, "input", 0, policy, "filter")], rules=rules)


def joined(*parts: Ruleset) -> Ruleset:
    return Ruleset(
        chains=[one for part in parts for one in part.chains],
        rules=[one for part in parts for one in part.rules],
        sets=[one for part in parts for one in part.sets],
    )


RULES = [f"ip saddr 192.0.2.{number} counter packets {number} bytes 60 drop" for number in range(1, 9)]


def test_handles_counters_and_the_order_of_tables_are_no_difference() -> None:
    one = joined(ruleset(*RULES), ruleset("tcp dport 22 accept", table="other"))
    moved = [text.replace("packets ", "packets 7") for text in RULES]
    two = joined(ruleset("tcp dport 22 accept", table="other"), ruleset(*moved))
    for rule in two.rules:
        rule.handle = 900 + rule.line
    assert fingerprint.fingerprint(one) == fingerprint.fingerprint(two)


def test_what_follows_from_what_runs_on_the_host_is_no_difference() -> None:
    docker = ruleset("ip daddr 172.17.0.2 accept", table="docker", chain="DOCKER")
    docker.chains[0].owner = "docker"
    groups = ruleset("tcp dport 22 drop", table="netops_groups")
    idle = Ruleset(
        sets=[Set("ipset", "inet", "", "unused", "hash:ip"), Set("nft", "inet", "netops_groups", "admins", "ipv4_addr")]
    )
    plain = fingerprint.fingerprint(ruleset(*RULES))
    for other in (docker, groups, idle):
        assert fingerprint.fingerprint(joined(ruleset(*RULES), other)) == plain


def test_a_port_that_is_open_for_a_while_is_no_difference_but_a_plan_for_that_chain_is_for_its_own_host() -> None:
    opened = 'tcp dport 22 accept comment "netops.fleet opening tcp/22 from any until 1800000000"'
    plain, other = ruleset(*RULES), ruleset(opened, *RULES)
    other.rules[0].comment = "netops.fleet opening tcp/22 from any until 1800000000"
    assert fingerprint.fingerprint(plain) == fingerprint.fingerprint(other)
    assert fingerprint.texts(plain) == fingerprint.texts(other)
    assert fingerprint.whole(plain) == {} and list(fingerprint.whole(other)) != []


def test_every_difference_that_matters_to_a_plan_is_one() -> None:
    plain = ruleset(*RULES)
    named = joined(ruleset(*RULES, "ip saddr @own drop"), Ruleset(sets=[Set("nft", "ip", "fence", "own", "ipv4_addr")]))
    wider = joined(
        ruleset(*RULES, "ip saddr @own drop"), Ruleset(sets=[Set("nft", "ip", "fence", "own", "ipv4_addr", flags=["interval"])])
    )
    unread = replace(ruleset(*RULES), backends=[BackendState("iptables-legacy", "unread", "no permission")])
    others = {
        "a rule less": ruleset(*RULES[1:]),
        "another order": ruleset(*RULES[::-1]),
        "another verdict": ruleset(*RULES[:-1], RULES[-1].replace("drop", "accept")),
        "another policy": ruleset(*RULES, policy="drop"),
        "another table": ruleset(*RULES, table="fence2"),
        "a rule more in another chain": joined(plain, ruleset("tcp dport 22 accept", table="other")),
        "a set": named,
        "a set of another kind": wider,
        "a back end that was not read": unread,
        "a leftover of another plan": joined(plain, Ruleset(sets=[Set("ipset", "inet", "", "nf_drop_src_1", "hash:ip")])),
    }
    found = {name: fingerprint.fingerprint(one, (), "nf_") for name, one in {"plain": plain, **others}.items()}
    assert len(set(found.values())) == len(found), found


def test_a_rule_in_one_table_is_not_the_same_rule_in_another() -> None:
    empty, full = ruleset(), ruleset("tcp dport 22 accept")
    other_empty, other_full = ruleset(table="g"), ruleset("tcp dport 22 accept", table="g")
    assert fingerprint.fingerprint(joined(empty, other_full)) != fingerprint.fingerprint(joined(full, other_empty))


def test_only_the_chains_asked_for_are_compared() -> None:
    save = "*filter\n:INPUT ACCEPT [0:0]\n:FORWARD ACCEPT [0:0]\n-A INPUT -s 192.0.2.1/32 -j DROP\n{}COMMIT\n"
    one, two = (
        Ruleset(chains=read.chains, rules=read.rules)
        for read in (
            iptables.parse_save(save.format(text), "iptables-legacy", "ip")
            for text in ("-A FORWARD -o eth1 -j ACCEPT\n", "-A FORWARD -o eth2 -j ACCEPT\n")
        )
    )
    assert fingerprint.fingerprint(one) != fingerprint.fingerprint(two)
    assert fingerprint.fingerprint(one, ["filter/INPUT"]) == fingerprint.fingerprint(two, ["filter/INPUT"])


def test_what_docker_writes_into_forward_is_no_difference_but_a_plan_that_changes_forward_is_for_its_own_host() -> None:
    save = "*filter\n:INPUT ACCEPT [0:0]\n:FORWARD ACCEPT [0:0]\n:DOCKER - [0:0]\n-A INPUT -s 192.0.2.1/32 -j DROP\n{}COMMIT\n"
    bridge = "-A FORWARD -o {0} -j DOCKER\n-A FORWARD -i {0} ! -o {0} -j ACCEPT\n-A FORWARD -s 192.0.2.2/32 -j DROP\n"
    hosts = []
    for name in ("br-0123456789ab", "br-fedcba987654", "br-0123456789ab"):
        read = iptables.parse_save(save.format(bridge.format(name)), "iptables-legacy", "ip")
        found = Ruleset(chains=read.chains, rules=read.rules)
        hosts.append(alike.host(f"h{len(hosts)}", [], {**answer(found), "whole": fingerprint.whole(found)}))
    assert len({one.fingerprint for one in hosts}) == 1
    assert alike.served(hosts, "h0", {"folded": ["iptables-legacy ip filter INPUT"]}) == ["h0", "h1", "h2"]
    assert alike.served(hosts, "h0", {"folded": ["iptables-legacy ip filter FORWARD"]}) == ["h0", "h2"]


# --- the controller's side


def answer(rules: Ruleset, **more: Any) -> dict[str, Any]:
    return {
        "fingerprint": fingerprint.fingerprint(rules), "marks": fingerprint.marks(rules), "applied": "nothing", "left": [],
        "planned": None, "listing": fingerprint.texts(rules), **more,
    }  # fmt: skip


def fleet(answers: dict[str, dict[str, Any] | None], groups: list[str] | None = None) -> list[alike.Host]:
    return [alike.host(name, ["gpu-nodes"] if groups is None else groups, one) for name, one in answers.items()]


def test_one_host_of_each_kind_plans_and_the_odd_one_is_named_with_its_rules() -> None:
    usual, odd = ruleset(*RULES), ruleset(*RULES[:-1], "ip saddr 198.51.100.7 drop")
    answers = {"a": answer(usual), "b": answer(odd), "c": answer(usual), "d": answer(usual), "e": None}
    hosts = fleet(answers)
    first = alike.makers(hosts)
    assert first == {answers["a"]["fingerprint"]: "a", answers["b"]["fingerprint"]: "b"}  # type: ignore[index]
    assert set(alike.compared(alike.grouped(hosts))) == set(first)
    report = alike.report(hosts, {mark: alike.listing(answers[name]) or {} for mark, name in first.items()})
    assert [kind["hosts"] for kind in report["kinds"]] == [["a", "c", "d"], ["b"]]
    (group,) = report["groups"]
    assert (group["answered"], group["same"]) == (4, 3)
    (different,) = group["different"]
    assert different["host"] == "b" and different["chains"] == ["nft ip fence input"]
    told = different["rules"]["nft ip fence input"]
    assert told["lacks"] == ["ip saddr 192.0.2.8 counter drop"] and told["besides"] == ["ip saddr 198.51.100.7 drop"]
    text = "\n".join(alike.lines(report))
    assert "b differs from 3 of 4 hosts of gpu-nodes: nft ip fence input" in text
    assert "nft ip fence input: lacks ip saddr 192.0.2.8 counter drop" in text and "e: could not tell, because it did not" in text


def test_another_order_alone_is_said() -> None:
    found = alike.rules({"x": ["head", "a", "b"]}, {"x": ["head", "b", "a"]})
    assert found["x"]["order"] and not found["x"]["lacks"] and not found["x"]["besides"]


def test_without_a_majority_or_with_too_few_nobody_is_the_odd_one() -> None:
    one, two = answer(ruleset(*RULES)), answer(ruleset(*RULES[1:]))
    split = alike.report(fleet({"a": one, "b": two, "c": one, "d": two}), {})
    assert split["groups"][0]["majority"] is None and split["groups"][0]["different"] == []
    assert alike.report(fleet({"a": one, "b": two}), {})["groups"] == []
    assert alike.compared(alike.grouped(fleet({"a": one, "b": one, "c": one}))) == []


def test_moved_and_what_still_stands() -> None:
    now = answer(ruleset(*RULES))
    mark = now["fingerprint"]
    hosts = fleet(
        {
            "as planned": {**now, "planned": mark},
            "moved": {**now, "planned": "0" * 32},
            "applied": {**now, "planned": "0" * 32, "applied": "stands"},
            "touched": {**now, "planned": "0" * 32, "applied": "changed", "left": ["iptables x"]},
            "never planned": now,
        }
    )
    report = alike.report(hosts, {})
    assert report["moved"] == ["moved"]
    assert report["applied"] == {"stands": ["applied"], "changed": {"touched": ["iptables x"]}}


def test_answers_that_are_no_answers() -> None:
    """Hosts are not trusted: whatever one of them says, it is only its own row."""
    noise = random.Random(7)
    shapes: list[Any] = [None, [], {}, "\x1b[2J", 7, "../../etc", {"a": [1]}]
    for _round in range(300):
        given = {key: noise.choice(shapes) for key in ("fingerprint", "marks", "applied", "left", "planned", "listing", "failed")}
        hosts = [*fleet({"a": answer(ruleset(*RULES))}), alike.host("b", ["gpu-nodes"], given)]
        assert hosts[1].fingerprint is None and hosts[1].why
        alike.listing(given)
        assert "\x1b" not in "\n".join(alike.lines(alike.report(hosts, {})))
    sure = alike.host("b", [], {**answer(ruleset(*RULES)), "marks": {"\x1b": "\x1b"}, "left": ["\x1b"], "applied": "changed"})
    assert "\x1b" not in "\n".join(alike.lines(alike.report([sure], {})))
