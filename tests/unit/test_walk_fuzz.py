# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Nothing that is read makes a reader or the walk fall over, and what is not known never makes a verdict that is wrong."""

from __future__ import annotations

import copy
import json
import struct
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ansible_collections.netops.fleet.plugins.module_utils._firewall import (
    elements,
    ipset,
    iptables,
    model,
    nft,
    nft_json,
    nft_kernel,
    nft_text,
    walk,
)
from ansible_collections.netops.fleet.plugins.module_utils._firewall.packet import Packet
from tests.unit.hosts import match, ruleset

VERDICTS = ("accept", "drop", "reject", "unknown")
PACKETS = [
    Packet(4, 6, "192.0.2.1", "192.0.2.11", 49152, 1678, "eth0", "", smac="02:00:00:00:00:01"),
    Packet(6, 17, "2001:db8::1", "2001:db8::11", 49152, 53, "eth0", "", tcp_flags=None),
    Packet(4, 1, "192.0.2.1", "192.0.2.11", None, None, "eth0", "", tcp_flags=None, icmp_type=8, icmp_code=0),
    Packet(4, 6, None, "192.0.2.11", 49152, 22, "", None, own=True, local=False),
    Packet(4, 6),
]
TEXTS = """
ip saddr 192.0.2.0/24 tcp dport { 22, 80-90, 1678 } counter packets 3 bytes 180 drop comment "a b"
tcp dport 22 meter m size 65535 { ip saddr limit rate over 10/second } counter drop
numgen inc mod 3 offset 2 vmap { 2 : accept, 3 : drop, 4 : continue }
jhash ip saddr mod 4 seed 0x5 vmap { 0 : accept, 1-3 : continue }
reset tcp option sack-perm
exthdr hbh exists drop
meta hour "08:00"-"18:00" accept
ct state vmap { established : accept, related : accept, invalid : drop }
ct original ip daddr 192.0.2.11 ct status dnat accept
add @s { ip saddr limit rate 5/minute } counter accept
log prefix "x y" group 3 snaplen 20 queue-threshold 2 counter
queue flags bypass to 1-3
tproxy ip to :8080 meta mark set 0x00000001 accept
synproxy mss 1460 wscale 7 timestamp sack-perm
meta mark set ct mark & 0x000000ff | 0x00000010
dnat ip to tcp dport map { 22 : 192.0.2.9, 1678 : 192.0.2.8 }
dnat ip6 to [2001:db8::9]:80-90 random,persistent
snat ip prefix to ip saddr map { 192.0.2.0/24 : 198.51.100.0/24 }
masquerade to :1024-65535 fully-random
tcp flags & (fin | syn | rst | ack) == syn tcp flags ! urg accept
ip saddr . tcp dport @pairs iifname "eth*" goto other
fib saddr . iif oif missing drop
vlan id 5 ether saddr 02:00:00:00:00:01 accept
icmpv6 type { nd-neighbor-solicit, echo-request } ip6 hoplimit < 255 reject with icmpv6 type admin-prohibited
@nh,64,8 0x6 @th,16,16 80 accept
limit rate over 400/minute burst 5 packets quota over 5 mbytes used 3 bytes ct count over 3 drop
""".strip().split("\n")
LINES = """
-A INPUT -s 192.0.2.0/24 ! -i lo -p tcp -m multiport --dports 22,80:90 -m comment --comment "it's \\"x\\"" -j DROP
-A INPUT -m set ! --match-set bl src,dst -m recent --update --seconds 60 --name x --rsource -j REJECT --reject-with tcp-reset
-A INPUT -m conntrack --ctstate NEW,DNAT --ctorigdst 192.0.2.11 -j ACCEPT
-A PREROUTING -m rpfilter --validmark --invert -j DROP
-A INPUT -m hashlimit --hashlimit-upto 5/sec --hashlimit-burst 5 --hashlimit-mode srcip --hashlimit-name x -g OTHER
-A POSTROUTING -m owner ! --uid-owner 7 -j SNAT --to-source 192.0.2.9-192.0.2.12:1024-65535 --persistent
-A PREROUTING -j NETMAP --to 198.51.100.0/24
-A INPUT -m u32 --u32 "0x0=0x1" -m bpf --bytecode "1,6 0 0 0" -m string --string "-j DROP" --algo bm -j NFQUEUE --queue-num 3
-A INPUT -m tcp --tcp-flags ALL NONE -m ecn ! --ecn-tcp-cwr -m physdev ! --physdev-in br+ -j MARK --set-xmark 0x1/0x3
-A INPUT -f -m ttl --ttl-lt 3 -m length --length 0:100 -m tos ! --tos 0x10/0x3f -j CONNMARK --restore-mark --nfmask 0xff
""".strip().split("\n")
#: What nft -j prints, in the shapes of several versions.
OBJECTS: list[Any] = [
    {"match": {"op": "==", "left": {"payload": {"protocol": "tcp", "field": "dport"}}, "right": {"set": [{"range": [1, 9]}]}}},
    {"match": {"op": "in", "left": {"ct": {"key": "state"}}, "right": ["established", "related"]}},
    {"match": {"op": "==", "left": {"&": [{"meta": {"key": "mark"}}, {"|": [1, 2, 4]}]}, "right": 1}},
    {"match": {"op": "==", "left": {"payload": {"tunnel": "vxlan", "protocol": "ip", "field": "saddr"}}, "right": "192.0.2.1"}},
    {"match": {"op": "==", "left": {"fib": {"result": "check", "flags": ["saddr", "iif"]}}, "right": False}},
    {"vmap": {"key": {"numgen": {"mode": "inc", "mod": 2}}, "data": {"set": [[0, {"drop": None}], [1, {"jump": 1}]]}}},
    {"dnat": {"family": "ip", "addr": {"map": {"key": {"payload": {"protocol": "tcp", "field": "dport"}},
                                               "data": {"set": [[22, {"concat": ["192.0.2.9", 80]}]]}}}}},
    {"mangle": {"key": {"meta": {"key": "mark"}}, "value": {"^": [{"&": [{"ct": {"key": "mark"}}, 255]}, 1]}}},
    {"meter": {"key": {"payload": {"protocol": "ip", "field": "saddr"}}, "stmt": {"limit": {"rate": 1}}, "size": 9, "name": "m"}},
    {"set": {"op": "add", "elem": {"meta": {"key": "mark"}}, "set": "@s", "stmt": [{"limit": {"rate": 1}}]}},
    {"jump": {"target": "other"}}, {"xt": {"type": "match", "name": "set"}}, {"xt": {"type": "target", "name": "DNAT"}},
    {"reject": {"type": "icmpx", "expr": "port-unreachable"}}, {"synproxy": {"mss": 1460, "flags": "timestamp"}},
    {"accept": None},
]  # fmt: skip
WRONG = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.text(max_size=8) | st.just([]) | st.just({}) | st.just([[]])


@st.composite
def mutated(draw: st.DrawFn, texts: list[str]) -> str:
    """A real line with words lost, doubled, swapped, replaced, or its end cut off."""
    words = draw(st.sampled_from(texts)).split(" ")
    for _turn in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(words) - 1))
        kind = draw(st.sampled_from(("lose", "double", "replace", "swap")))
        if kind == "lose" and len(words) > 1:
            del words[at]
        elif kind == "double":
            words.insert(at, words[at])
        elif kind == "swap":
            other = draw(st.integers(0, len(words) - 1))
            words[at], words[other] = words[other], words[at]
        else:
            words[at] = draw(
                st.text(max_size=8) | st.sampled_from(("!", "{", "}", "vmap", "set", "!=", ".", "@x", "-j", "0", "::"))
            )
    line = " ".join(words)
    return line[: draw(st.integers(0, len(line)))] if draw(st.booleans()) else line


def _broken(draw: st.DrawFn, value: Any) -> Any:
    """A value with one part somewhere in it replaced by something of another type."""
    if draw(st.integers(0, 4)) == 0 or not isinstance(value, (dict, list)) or not value:
        return draw(WRONG)
    if isinstance(value, dict):
        key = draw(st.sampled_from(sorted(value, key=str)))
        return {**value, key: _broken(draw, value[key])}
    at = draw(st.integers(0, len(value) - 1))
    return [*value[:at], _broken(draw, value[at]), *value[at + 1 :]]


@st.composite
def broken_objects(draw: st.DrawFn) -> list[Any]:
    some = [copy.deepcopy(one) for one in draw(st.lists(st.sampled_from(OBJECTS), max_size=4))]
    return [_broken(draw, one) if draw(st.booleans()) else one for one in some]


def walked(parsed: list[nft_text.Parsed], backend: str = model.NFT, hook: str = "input") -> None:
    family = "inet" if backend == model.NFT else "ip"
    chains = [model.Chain(backend, family, "t", "c", hook, 0, "accept", "nat" if hook == "prerouting" else "filter")]
    chains.append(model.Chain(backend, family, "t", "other"))
    rules = [
        model.Rule(backend, family, "t", chain, line, "text", one.parts, one.verdict, line)
        for chain in ("c", "other")
        for line, one in enumerate(parsed, 1)
    ]
    sets = [model.Set(model.NFT, family, "t", "s", "ipv4_addr", elements=["192.0.2.1"])]
    read = model.Ruleset.from_dict(json.loads(json.dumps(model.Ruleset([], chains, rules, sets).to_dict())))
    for packet in PACKETS:
        for decision in (walk.Walker(read).incoming(packet), walk.Walker(read).outgoing(packet)):
            assert decision.verdict in VERDICTS
            json.dumps([one.to_dict() for one in decision.possible])


@settings(max_examples=150)
@given(st.lists(mutated(TEXTS), max_size=4), st.sampled_from(("input", "prerouting")))
def test_mutated_rules_of_nft(texts: list[str], hook: str) -> None:
    walked([nft_text.read_rule(one, "inet") for one in texts], hook=hook)


@settings(max_examples=150)
@given(broken_objects(), st.sampled_from(("input", "prerouting")))
@example([{"mangle": {"key": {"meta": {"key": "mark"}}, "value": {}}}], "input")
@example([{"vmap": {"key": {"meta": {"key": "mark"}}, "data": {"set": [[1, {}]]}}}], "input")
def test_json_with_parts_of_another_type(objects: list[Any], hook: str) -> None:
    walked([nft_json.read_rule({"expr": objects}, "inet")], hook=hook)


@settings(max_examples=150)
@given(st.lists(mutated(LINES), max_size=4), st.sampled_from(("input", "prerouting")))
def test_mutated_rules_of_iptables(lines: list[str], hook: str) -> None:
    text = "*filter\n:INPUT ACCEPT [0:0]\n:OTHER - [0:0]\n" + "\n".join(lines) + "\nCOMMIT\n"
    saved = iptables.parse_save(text, model.IPTABLES_LEGACY, "ip", {"bl": "hash:ip,port"})
    parsed = [nft_text.Parsed(one.parts, one.verdict) for one in saved.rules]
    walked(parsed, model.IPTABLES_LEGACY, hook)


@given(mutated(["add s 192.0.2.1,tcp:80 timeout 5 nomatch", 'add s 10.0.0.0/8,icmp:8/0 comment "x y"', "add s ::/0,udp:1-5"]))
def test_mutated_members_of_an_ipset(line: str) -> None:
    made = model.Set(model.IPSET, "inet", "", "s", "hash:net,port")
    members, _odd = ipset.parse_save(line, made)
    made.elements = members
    part = model.Match("ip saddr . meta l4proto . th dport", "in", None, "s")
    rule = model.Rule(model.IPTABLES_LEGACY, "ip", "t", "c", 1, "x", [part], model.Verdict("drop"))
    chain = model.Chain(model.IPTABLES_LEGACY, "ip", "t", "c", "input", 0, "accept", "filter")
    for packet in PACKETS:
        assert walk.Walker(model.Ruleset([], [chain], [rule], [made])).incoming(packet).verdict in VERDICTS


@given(st.binary(max_size=120))
def test_any_bytes_from_the_kernel(data: bytes) -> None:
    nft_kernel._rule_head(data)
    kernel = nft_kernel.Kernel()
    whole = bytes([2, 0, 0, 0]) + data
    kernel._dump = (
        lambda *_arguments: [  # type: ignore[method-assign]
            (one[0], nft_kernel.netlink.attributes(one, 4)) for one in (whole, whole[:5], whole[: len(data) // 2 + 4])
        ]
    )
    for question in (kernel.tables, kernel.chains, kernel.sets):
        question()


# --- large


def test_a_rule_of_a_megabyte_and_rules_nested_deeply() -> None:
    members = ", ".join(f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}" for n in range(70_000))
    parsed = nft_text.read_rule(f"ip saddr {{ {members} }} drop", "inet")
    assert not parsed.odd and isinstance(parsed.parts[0], model.Match) and len(parsed.parts[0].values or []) == 70_000
    walked([parsed])
    deep: Any = {"accept": None}
    for _turn in range(5_000):
        deep = {"&": [deep, 1]}
    assert nft_json.read_rule({"expr": [{"match": {"left": deep, "op": "==", "right": 1}}]}, "inet").odd
    objects, why = nft.parse_json('{"nftables": ' + "[" * 100_000)
    assert objects is None and why


# --- what is not known


_CONDITIONS = st.sampled_from(
    [
        match("tcp dport", 1678), match("tcp dport", 22), match("ip saddr", ["prefix", "192.0.2.0", 24]), match("udp dport", 53),
        match("ct state", "new", op="bits"), match("meta mark", 1), match("meta mark", 0), match("meta iifname", "eth0"),
    ]
)  # fmt: skip
_ENDS = st.sampled_from(["accept", "drop", "reject", "return", "continue", "jump", "goto", "mark", "nothing"])
_UNKNOWN = {"t": "unknown", "text": "limit rate 1/second", "why": "not static"}


def _rule(parts: list[dict[str, Any]], end: str) -> dict[str, Any]:
    if end == "mark":
        return {"parts": [*parts, {"t": "action", "name": "mark", "args": {"value": 1}}]}
    verdict = {"kind": end, "target": "other"} if end in ("jump", "goto") else {"kind": end}
    return {"parts": parts, **({} if end == "nothing" else {"verdict": verdict})}


@st.composite
def small_rulesets(draw: st.DrawFn) -> tuple[list[tuple[list[Any], str]], int, str]:
    """Rules (conditions, end), the place from where they are those of the chain jumped to, and the policy."""
    rules = draw(st.lists(st.tuples(st.lists(_CONDITIONS, max_size=2), _ENDS), min_size=1, max_size=7))
    return rules, draw(st.integers(0, len(rules))), draw(st.sampled_from(("accept", "drop")))


def _verdict(rules: list[tuple[list[Any], str] | None], jumped: int, policy: str) -> str:
    section = ruleset(*[_rule(*one) for one in rules[:jumped] if one is not None], policy=policy)
    section["chains"].append({"backend": "nft", "family": "inet", "table": "filter", "name": "other"})
    base = {"backend": "nft", "family": "inet", "table": "filter", "chain": "other", "text": "rule"}
    # A chain that jumps to itself cannot be loaded.
    there = [one for one in rules[jumped:] if one is not None and one[1] not in ("jump", "goto")]
    section["rules"] += [{**base, "line": line, "handle": 100 + line, **_rule(*one)} for line, one in enumerate(there, 1)]
    return walk.Walker(model.Ruleset.from_dict(section)).incoming(PACKETS[0]).verdict


@settings(max_examples=400)
@given(small_rulesets(), st.integers(0, 6))
def test_what_may_match_gives_no_verdict_that_one_of_both_ways_does_not(case: Any, at: int) -> None:
    rules, jumped, policy = case
    at %= len(rules)
    conditions, end = rules[at]
    doubtful = [*rules[:at], ([*conditions, _UNKNOWN], end), *rules[at + 1 :]]
    with_it, without = _verdict(rules, jumped, policy), _verdict([*rules[:at], None, *rules[at + 1 :]], jumped, policy)
    said = _verdict(doubtful, jumped, policy)
    if said == "unknown":
        assert "unknown" not in (with_it, without)
    else:
        assert said == with_it == without


@pytest.mark.parametrize("length", [0, 3, 4, 7])
def test_messages_that_end_too_early(length: int) -> None:
    assert nft_kernel._rule_head(struct.pack("=HHI", 400, 1, 7)[:length]) == ("", "", 0)


@pytest.mark.parametrize("length", [-1, 33, -(2**40), 2**40])
def test_a_network_of_no_possible_length_is_not_computed(length: int) -> None:
    assert elements.bounds_of("ip saddr", ["prefix", "10.0.0.0", length]) is None


def test_chains_that_lead_back_to_themselves_end() -> None:
    """The kernel takes no such rules; followed to its depth, this would be 5 to the 16th walks."""
    walked([nft_text.read_rule("jump other", "inet") for _number in range(5)])
