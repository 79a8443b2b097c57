# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The walk: verdicts, three-valued honesty, sets. That it agrees with the kernel is shown in tests/kernel/test_walk_kernel.py."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.netops.fleet.plugins.module_utils._firewall import fixes, model, walk
from ansible_collections.netops.fleet.plugins.module_utils._firewall.packet import Packet
from tests.unit.hosts import match, ruleset

ACCEPT, DROP = {"kind": "accept"}, {"kind": "drop"}
UNKNOWN_PART = {"t": "unknown", "text": "limit rate 3/second", "why": "not static"}


def packet(**more: Any) -> Packet:
    base = Packet(family=4, proto=6, saddr="192.0.2.1", daddr="192.0.2.11", sport=49152, dport=1678, iif="eth0", oif="")
    return base.changed(**more)


def incoming(section: dict[str, Any], **more: Any) -> walk.Decision:
    return walk.Walker(model.Ruleset.from_dict(section)).incoming(packet(**more))


def test_nothing_there_accepts() -> None:
    assert incoming(ruleset()).verdict == "accept"


def test_policy_drop_names_the_chain() -> None:
    found = incoming(ruleset(policy="drop"))
    assert (found.verdict, found.rule, found.chain.name if found.chain else None) == ("drop", None, "input")


def test_first_match_wins_and_is_named() -> None:
    section = ruleset(
        {"parts": [match("tcp dport", 22)], "verdict": ACCEPT},
        {"parts": [match("tcp dport", 1678)], "verdict": DROP},
        {"parts": [match("tcp dport", 1678)], "verdict": ACCEPT},
    )
    found = incoming(section)
    assert found.verdict == "drop" and found.rule is not None and found.rule.handle == 12
    assert fixes.delete(found.rule) == "nft delete rule inet filter input handle 12"


@pytest.mark.parametrize(
    ("condition", "hit"),
    [
        (match("tcp dport", ["range", 1000, 2000]), True),
        (match("tcp dport", ["range", 1000, 1677]), False),
        (match("tcp dport", 22, 80, 1678), True),
        (match("tcp dport", 1678, op="not in"), False),
        (match("ip saddr", ["prefix", "192.0.2.0", 25]), True),
        (match("ip saddr", ["prefix", "192.0.2.128", 25]), False),
        (match("ip saddr", "192.0.2.1", op="not in"), False),
        (match("ip6 saddr", ["prefix", "::", 0]), False),
        (match("udp dport", 1678), False),
        (match("th dport", 1678), True),
        (match("meta iifname", "eth*"), True),
        (match("meta iifname", "lo", op="not in"), True),
        (match("meta l4proto", "tcp"), True),
        (match("meta l4proto", 17), False),
        (match("ct state", "established", "related"), False),
        (match("ct state", "new", op="bits"), True),
        (match("tcp flags", 2, mask=0x17), True),
        (match("tcp flags", 0x10, op="bits"), False),
        (match("tcp dport", 1024, op="<"), False),
        (match("tcp dport", 1024, op=">="), True),
        (match("ip saddr . tcp dport", ["concat", "192.0.2.1", 1678]), True),
        (match("ip saddr . tcp dport", ["concat", ["prefix", "192.0.2.0", 24], ["range", 1, 100]]), False),
    ],
)
def test_conditions(condition: dict[str, Any], hit: bool) -> None:
    assert incoming(ruleset({"parts": [condition], "verdict": DROP})).verdict == ("drop" if hit else "accept")


def test_what_may_match_and_matters_is_unknown_and_named() -> None:
    found = incoming(ruleset({"parts": [match("tcp dport", 1678), UNKNOWN_PART], "verdict": DROP}))
    assert found.verdict == "unknown"
    assert found.why is not None and "handle 11" in found.why and "limit rate" in found.why


def test_what_may_match_and_changes_nothing_is_no_doubt() -> None:
    section = ruleset({"parts": [UNKNOWN_PART], "verdict": ACCEPT}, {"parts": [], "verdict": ACCEPT})
    assert incoming(section).verdict == "accept"


def test_an_unread_back_end_makes_accept_unknown_but_not_drop() -> None:
    broken = {"backends": [{"name": "iptables-legacy", "status": "unread", "why": "iptables-legacy-save: not installed"}]}
    assert incoming(ruleset(**broken)).verdict == "unknown"
    assert incoming(ruleset({"parts": [], "verdict": DROP}, **broken)).verdict == "drop"


def _with_chain(section: dict[str, Any], name: str, *rules: dict[str, Any]) -> dict[str, Any]:
    section["chains"].append({"backend": "nft", "family": "inet", "table": "filter", "name": name})
    base = {"backend": "nft", "family": "inet", "table": "filter", "chain": name, "text": "rule"}
    section["rules"] += [{**base, "line": line, "handle": 100 + line, **rule} for line, rule in enumerate(rules, 1)]
    return section


def test_jump_returns_and_goto_does_not() -> None:
    jump = {"parts": [], "verdict": {"kind": "jump", "target": "more"}}
    goto = {"parts": [], "verdict": {"kind": "goto", "target": "more"}}
    last = {"parts": [], "verdict": ACCEPT}
    assert incoming(_with_chain(ruleset(jump, last, policy="drop"), "more")).verdict == "accept"
    assert incoming(_with_chain(ruleset(goto, last, policy="drop"), "more")).verdict == "drop"


def test_leaving_a_chain_early_that_may_happen_is_followed_both_ways() -> None:
    jump = {"parts": [], "verdict": {"kind": "jump", "target": "more"}}
    early = {"parts": [UNKNOWN_PART], "verdict": {"kind": "return"}}
    section = _with_chain(ruleset(jump, policy="drop"), "more", early, {"parts": [], "verdict": ACCEPT})
    assert incoming(section).verdict == "unknown"
    same = _with_chain(ruleset(jump, policy="accept"), "more", early, {"parts": [], "verdict": ACCEPT})
    assert incoming(same).verdict == "accept"


def test_verdict_map_by_port() -> None:
    vmap = {"t": "vmap", "left": "tcp dport", "entries": [[22, ACCEPT], [["range", 1600, 1700], DROP]]}
    found = incoming(ruleset({"parts": [vmap]}))
    assert found.verdict == "drop" and found.key == ["range", 1600, 1700]


def test_a_loop_of_jumps_ends() -> None:
    jump = {"parts": [], "verdict": {"kind": "jump", "target": "more"}}
    assert incoming(_with_chain(ruleset(jump), "more", jump)).verdict == "accept"


def test_an_earlier_hook_decides_first_and_accept_ends_only_its_chain() -> None:
    section = ruleset({"parts": [], "verdict": ACCEPT})
    raw = {
        "backend": "nft",
        "family": "ip",
        "table": "raw",
        "name": "pre",
        "hook": "prerouting",
        "priority": -300,
        "policy": "accept",
    }
    late = {
        "backend": "nft",
        "family": "inet",
        "table": "late",
        "name": "input",
        "hook": "input",
        "priority": 10,
        "policy": "drop",
    }
    section["chains"] += [raw, late]
    found = incoming(section)
    assert found.verdict == "drop" and found.chain is not None and found.chain.table == "late"
    assert [step.split(" (")[0] for step in found.path] == ["nft ip raw pre", "nft inet filter input", "nft inet late input"]


def test_before_connection_tracking_no_packet_is_new() -> None:
    section = ruleset()
    section["chains"] = [
        {"backend": "nft", "family": "ip", "table": "raw", "name": "pre", "hook": "prerouting", "priority": -300}
    ]
    base = {"backend": "nft", "family": "ip", "table": "raw", "chain": "pre", "line": 1, "text": "rule", "verdict": DROP}
    section["rules"] = [{**base, "parts": [match("ct state", "new")]}]
    assert incoming(section).verdict == "accept"


@pytest.mark.parametrize(("saddr", "inside"), [("10.0.0.1", True), ("10.1.0.1", False), ("10.1.2.1", True), ("11.0.0.1", False)])
def test_nomatch_most_specific_network_wins(saddr: str, inside: bool) -> None:
    elements = [["prefix", "10.0.0.0", 8], ["nomatch", ["prefix", "10.1.0.0", 16]], ["prefix", "10.1.2.0", 24]]
    one = {"backend": "ipset", "family": "inet", "table": "", "name": "bl", "type": "hash:net", "elements": elements}
    section = ruleset(sets=[one])
    section["chains"] = [
        {
            "backend": "iptables-legacy",
            "family": "ip",
            "table": "filter",
            "name": "INPUT",
            "hook": "input",
            "priority": 0,
            "policy": "accept",
        }
    ]
    rule = {"backend": "iptables-legacy", "family": "ip", "table": "filter", "chain": "INPUT", "line": 1}
    text = "-A INPUT -m set --match-set bl src -j DROP"
    section["rules"] = [
        {**rule, "text": text, "parts": [{"t": "match", "left": "ip saddr", "op": "in", "set": "bl"}], "verdict": DROP}
    ]
    found = incoming(section, saddr=saddr)
    assert found.verdict == ("drop" if inside else "accept")
    if found.rule is not None:
        assert fixes.delete(found.rule) == "iptables-legacy -t filter -D INPUT -m set --match-set bl src -j DROP"


def test_a_set_that_was_not_read_is_doubt() -> None:
    one = {"backend": "nft", "family": "inet", "table": "filter", "name": "bl", "type": "ipv4_addr"}
    rule = {"parts": [{"t": "match", "left": "ip saddr", "op": "in", "set": "bl"}], "verdict": DROP}
    assert incoming(ruleset(rule, sets=[one])).verdict == "unknown"
    assert incoming(ruleset(rule, sets=[{**one, "elements": []}])).verdict == "accept"


@pytest.mark.parametrize(
    ("args", "mark"),
    [
        ({"value": 7}, 7),
        ({"value": 0x10, "mask": 0xF0}, 0x15),
        ({"from": "meta mark", "from_mask": 0xF, "xor": 0x100}, 0x105),
        ({"from": "ct mark"}, 0),
        ({"expression": "jhash ip saddr mod 2"}, None),
    ],
)
def test_marks(args: dict[str, Any], mark: int | None) -> None:
    setting = {"parts": [{"t": "action", "name": "mark", "args": args}]}
    asking = {"parts": [match("meta mark", mark or 0)], "verdict": DROP}
    assert incoming(ruleset(setting, asking), mark=5).verdict == ("unknown" if mark is None else "drop")


def test_a_target_that_is_not_understood_is_doubt() -> None:
    found = incoming(ruleset({"parts": [], "verdict": {"kind": "unknown", "detail": "target FOO"}}))
    assert found.verdict == "unknown" and "target FOO" in str(found.why)


def test_what_a_shell_would_read_otherwise_is_deleted_by_line() -> None:
    text = "-A INPUT -m comment --comment " + chr(34) + "it" + chr(92) + "'s" + chr(34) + " -j DROP"
    rule = model.Rule("iptables-nft", "ip6", "filter", "INPUT", 4, text)
    assert fixes.delete(rule) == "ip6tables-nft -t filter -D INPUT 4"


def test_a_comment_never_becomes_a_command() -> None:
    rule = model.Rule("nft", "inet", "fi; rm -rf /", "in$(id)", 1, "rule", handle=3)
    assert fixes.delete(rule) == "nft delete rule inet 'fi; rm -rf /' 'in$(id)' handle 3"
    control = model.Rule("iptables-legacy", "ip", "filter", "INPUT", 4, "-A INPUT -m comment --comment \x1b[2J -j DROP")
    assert fixes.delete(control) == "iptables-legacy -t filter -D INPUT 4"


def _act(name: str, args: dict[str, Any], terminal: bool = False) -> dict[str, Any]:
    return {"t": "action", "name": name, "args": args, "terminal": terminal}


BY_PORT = {"left": "tcp dport", "entries": [[22, 1], [1678, 2]]}


@pytest.mark.parametrize(("args", "dport", "mark"), [(BY_PORT, 1678, 2), (BY_PORT, 22, 1), (BY_PORT, 80, 5)])
def test_a_map_gives_the_mark_and_a_key_that_is_not_in_it_ends_the_rule(args: dict[str, Any], dport: int, mark: int) -> None:
    setting = {"parts": [_act("mark", {"value": args})]}
    asking = {"parts": [match("meta mark", mark)], "verdict": DROP}
    assert incoming(ruleset(setting, asking), mark=5, dport=dport).verdict == "drop"


def _nat(*parts: dict[str, Any], hook: str = "prerouting", **more: Any) -> dict[str, Any]:
    section = ruleset({"parts": list(parts)}, **more)
    section["chains"][0].update(hook=hook, type="nat", priority=-100 if hook == "prerouting" else 100)
    return section


@pytest.mark.parametrize(("dport", "goal"), [(1678, ("192.0.2.9", 80)), (22, ("192.0.2.8", 22)), (53, ("192.0.2.11", 53))])
def test_a_map_gives_the_new_destination(dport: int, goal: tuple[str, int]) -> None:
    entries = [[22, "192.0.2.8"], [1678, ["concat", "192.0.2.9", 80]]]
    found = incoming(_nat(_act("dnat", {"addr": {"left": "tcp dport", "entries": entries}}, True)), dport=dport).packet
    assert found is not None and (found.daddr, found.dport) == goal


def test_a_named_map_that_was_not_read_leaves_the_destination_open() -> None:
    found = incoming(_nat(_act("dnat", {"addr": {"left": "tcp dport", "map": "goals"}}, True)))
    assert found.verdict == "unknown" and found.packet is not None and found.packet.daddr is None
    elements = [["pair", 1678, "192.0.2.9"]]
    one = {"backend": "nft", "family": "inet", "table": "filter", "name": "goals", "type": "inet_service", "map": "ipv4_addr"}
    read = _nat(_act("dnat", {"addr": {"left": "tcp dport", "map": "goals"}}, True), sets=[{**one, "elements": elements}])
    packet = incoming(read).packet
    assert packet is not None and packet.daddr == "192.0.2.9"


@pytest.mark.parametrize(
    ("hook", "saddr", "daddr"), [("prerouting", "192.0.2.1", "10.7.0.11"), ("input", "10.7.0.1", "192.0.2.11")]
)
def test_netmap_changes_the_network_only(hook: str, saddr: str, daddr: str) -> None:
    section = _nat(_act("netmap", {"to": ["prefix", "10.7.0.0", 24]}, True), hook=hook)
    found = incoming(section, local=True).packet
    assert found is not None and (found.saddr, found.daddr) == (saddr, daddr)


def test_a_certain_drop_tells_what_may_drop_before() -> None:
    early = {"parts": [UNKNOWN_PART], "verdict": DROP}
    found = incoming(ruleset(early, {"parts": [match("tcp dport", 1678)], "verdict": DROP}))
    assert found.verdict == "drop" and found.rule is not None and found.rule.handle == 12
    assert [one.name() for one in found.possible] == ["nft inet filter input handle 11"]


@pytest.mark.parametrize(("condition", "hit"), [
    (match("ether saddr", "02:00:00:00:00:01"), True),
    (match("ether saddr", "02:00:00:00:00:02", op="not in"), True),
    (match("exthdr hbh", 1), False),
    (match("physdev is-bridged", 1), False),
    (match("physdev in", "eth0", op="not in"), True),
    (match("igmp type", "membership-query"), False),
])  # fmt: skip
def test_fields_that_few_rules_ask_for(condition: dict[str, Any], hit: bool) -> None:
    found = incoming(ruleset({"parts": [condition], "verdict": DROP}), smac="02:00:00:00:00:01")
    assert found.verdict == ("drop" if hit else "accept")
