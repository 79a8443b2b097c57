# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The firewall readers with plain data: forms of other versions, rules no kernel here can hold, and damaged input."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.netops.fleet.plugins.module_utils._firewall import (
    ipset,
    iptables,
    iptables_parts,
    model,
    nft,
    nft_json,
    nft_text,
)
from ansible_collections.netops.fleet.plugins.module_utils._safety.owners import owner_of


def _payload(protocol: str, field: str) -> dict[str, Any]:
    return {"payload": {"protocol": protocol, "field": field}}


def _m(left: Any, right: Any, op: str = "==") -> dict[str, Any]:
    return {"match": {"op": op, "left": left, "right": right}}


FLAGS, STATE = _payload("tcp", "flags"), {"ct": {"key": "state"}}
FIN_SYN = {"left": "tcp flags", "op": "in", "values": [2], "mask": 3}


# The same rule as different versions print it, in JSON and in text, must be the same rule.
@pytest.mark.parametrize(
    ("forms", "wanted"),
    [
        # a single flag is a word in 1.1.4, a list elsewhere; masks are lists or nested or n-ary ors
        ([_m({"&": [FLAGS, ["fin", "syn"]]}, "syn"), _m({"&": [FLAGS, ["fin", "syn"]]}, ["syn"])], FIN_SYN),
        ([_m({"&": [FLAGS, {"|": ["fin", "syn"]}]}, "syn"), _m({"&": [FLAGS, {"|": [{"|": ["fin"]}, "syn"]}]}, "syn")], FIN_SYN),
        (["tcp flags & (fin | syn) == syn", "tcp flags & (fin|syn) == syn", "tcp flags syn / fin,syn"], FIN_SYN),
        (
            [
                _m({"&": [FLAGS, {"|": ["fin", "syn", "rst", "ack"]}]}, {"|": ["fin", "rst"]}),
                "tcp flags fin,rst / fin,syn,rst,ack",
            ],
            {"left": "tcp flags", "op": "in", "values": [5], "mask": 23},
        ),
        (
            [_m(STATE, "new", "in"), _m(STATE, ["new"], "in"), "ct state new"],
            {"left": "ct state", "op": "bits", "values": ["new"]},
        ),
        # the result of fib was called check in one version
        (
            [
                _m({"fib": {"result": result, "flags": flags}}, False)
                for result in ("oif", "check")
                for flags in (["saddr", "iif"],)
            ]
            + ["fib saddr . iif oif missing", "fib saddr . iif check missing"],
            {"left": "fib saddr . iif oif", "op": "in", "values": ["missing"]},
        ),
        (
            [_m({"fib": {"result": "type", "flags": "daddr"}}, "local"), "fib daddr type local"],
            {"left": "fib daddr type", "op": "in", "values": ["local"]},
        ),
        (
            [_m(_payload("ip", "protocol"), "icmp"), _m(_payload("ip", "protocol"), 1), "ip protocol icmp", "ip protocol 1"],
            {"left": "ip protocol", "op": "in", "values": [1]},
        ),
        (
            [_m({"meta": {"key": "mark"}}, 16), "meta mark 0x10", "meta mark 0x00000010", "mark 16"],
            {"left": "meta mark", "op": "in", "values": [16]},
        ),
        (
            [
                _m({"ct": {"key": "ip saddr", "dir": "original"}}, "10.0.0.1"),
                _m({"ct": {"key": "saddr", "dir": "original"}}, "10.0.0.1"),
                "ct original ip saddr 10.0.0.1",
            ],
            None,
        ),
        (
            [_m({"payload": {"base": "th", "offset": 16, "len": 16}}, 80), "@th,16,16 0x50", "@th,16,16 80"],
            {"left": "@th,16,16", "op": "in", "values": [80]},
        ),
        (['meta hour "10:00"-"12:00"', _m({"meta": {"key": "hour"}}, {"range": ["10:00", "12:00"]})], {"why": "not static"}),
    ],
)
def test_forms_of_one_rule_read_alike(forms: list[Any], wanted: dict[str, Any] | None) -> None:
    for form in forms:
        parsed = nft_text.read_rule(form, "inet") if isinstance(form, str) else nft_json.read_rule({"expr": [form]}, "inet")
        assert parsed.odd is None, form
        (part,) = [one.to_dict() for one in parsed.parts]
        for key, value in (wanted or {"op": "in", "values": ["10.0.0.1"]}).items():
            assert part[key] == value, form


@pytest.mark.parametrize(
    ("rule", "verdict", "actions"),
    [
        ("queue num 1-3 bypass", {"kind": "queue", "detail": "1-3"}, []),
        ("queue flags bypass to 0", {"kind": "queue", "detail": "0"}, []),
        (
            "ip daddr 10.0.0.1 dnat ip to 10.0.0.2:8080 random",
            None,
            [("dnat", {"family": "ip", "addr": "10.0.0.2", "port": 8080, "flags": ["random"]})],
        ),
        ("dnat ip6 to [fd00::1]:80", None, [("dnat", {"family": "ip6", "addr": "fd00::1", "port": 80})]),
        ("dnat to fd00::1", None, [("dnat", {"addr": "fd00::1"})]),
        (
            "snat ip to 1.2.3.4-1.2.3.9:1-100",
            None,
            [("snat", {"family": "ip", "addr": ["range", "1.2.3.4", "1.2.3.9"], "port": ["range", 1, 100]})],
        ),
        ("redirect to :8081", None, [("redirect", {"port": 8081})]),
        ("masquerade random,persistent", None, [("masquerade", {"flags": ["random", "persistent"]})]),
        ("meta mark set ct mark", None, [("mark", {"from": "ct mark", "from_mask": 0xFFFFFFFF, "xor": 0})]),
        ("ct mark set ct mark | 0x10", None, [("ct mark", {"from": "ct mark", "from_mask": 0xFFFFFFEF, "xor": 16})]),
        ("flow add @f", None, [("flow add", {"flowtable": "f"})]),
        (
            "synproxy mss 1460 wscale 7 timestamp sack-perm",
            None,
            [("synproxy", {"mss": 1460, "wscale": 7, "flags": ["timestamp", "sack-perm"]})],
        ),
    ],
)
def test_statements_in_text(rule: str, verdict: Any, actions: Any) -> None:
    parsed = nft_text.read_rule(rule, "inet")
    assert parsed.odd is None
    assert (parsed.verdict.to_dict() if parsed.verdict else None) == verdict
    assert [(one.name, one.args) for one in parsed.parts if isinstance(one, model.Action)] == actions


@pytest.mark.parametrize(
    ("rule", "kind"),
    [
        ("frobnicate 5 drop", "drop"),
        ("ip saddr 10.0.0.1 newthing 5", "unknown"),
        ("meta strange { 1, 2 } jump c2", "jump"),
        ("tcp dport", "unknown"),
    ],
)
def test_text_beyond_the_grammar_is_unknown_and_keeps_its_verdict(rule: str, kind: str) -> None:
    parsed = nft_text.read_rule(f'{rule} comment "why not"', "ip")
    assert parsed.odd and parsed.comment == "why not"
    assert isinstance(parsed.parts[-1], model.Unknown)
    assert parsed.verdict is not None and parsed.verdict.kind == kind


def test_an_unread_json_statement_may_do_anything() -> None:
    parsed = nft_json.read_rule({"expr": [{"frobnicate": {"x": 1}}, {"accept": None}]}, "ip")
    assert parsed.verdict is not None and parsed.verdict.kind == "unknown"
    parsed = nft_json.read_rule({"expr": [_m({"strange": {"x": 1}}, 5), {"accept": None}]}, "ip")
    assert parsed.verdict is not None and parsed.verdict.kind == "accept" and isinstance(parsed.parts[0], model.Unknown)
    assert nft_json.read_rule({"handle": 4}, "ip").parts == []
    assert nft_json.read_rule({"expr": [], "comment": "a\ud800b"}, "ip").comment == "a?b"


def test_xt_of_a_table_read_through_nft() -> None:
    expressions = [{"xt": {"type": "match", "name": "recent"}}, {"xt": {"type": "target", "name": "LOG"}}]
    parsed = nft_json.read_rule({"expr": expressions}, "ip")
    assert isinstance(parsed.parts[0], model.Unknown) and parsed.verdict is None
    parsed = nft_json.read_rule({"expr": [{"xt": {"type": "target", "name": "FOREIGN"}}]}, "ip")
    assert parsed.verdict is not None and parsed.verdict.kind == "unknown"


LISTING = """table inet t { # handle 1
	set s { # handle 7
		typeof ip saddr . tcp dport
		flags interval
		comment "what for"
		elements = { 10.0.0.0/8 . 5 }
	}

	# Warning: table ip nat is managed by iptables-nft, do not touch!
	chain c { # handle 2
		comment "of the chain"
		type filter hook input priority filter; policy drop;
		tcp dport 5 accept comment "drop # handle 9" # handle 3
		drop # handle 4
	}
}
"""


def test_a_listing_is_taken_apart_by_handle() -> None:
    table = nft.parse_listing(LISTING)["inet", "t"]
    assert table.whole and not table.odd
    assert table.rules == {"c": [(3, 'tcp dport 5 accept comment "drop # handle 9"'), (4, "drop")]}
    made = model.Set(model.NFT, "inet", "t", "s", "")
    nft.describe(made, table.sets["s"])
    assert made.type == "ip saddr . tcp dport" and made.comment == "what for"
    objects = [{"set": {"name": "s", "elem": [{"concat": [{"prefix": {"addr": "10.0.0.0", "len": 8}}, 5]}]}}]
    assert nft.parse_members(objects, "set", made) == [["concat", ["prefix", "10.0.0.0", 8], 5]]
    assert not nft.parse_listing(LISTING[:-4])["inet", "t"].whole
    # a line break in a comment cannot smuggle a rule in: the table is marked and read again as JSON
    assert nft.parse_listing(LISTING.replace('"drop # handle 9"', '"\n\t\tdrop"'))["inet", "t"].odd


def test_a_catch_all_of_a_map_comes_last() -> None:
    made = model.Set(model.NFT, "ip", "t", "m", "ipv4_addr", map="verdict")
    objects = [
        {"map": {"name": "m", "elem": [["*", {"drop": None}], [{"elem": {"val": "10.0.0.1", "counter": {}}}, {"accept": None}]]}}
    ]
    assert nft.parse_members(objects, "map", made) == [
        ["pair", "10.0.0.1", {"kind": "accept"}],
        ["pair", ["prefix", "0.0.0.0", 0], {"kind": "drop"}],
    ]


def _iptables(line: str, family: str = "ip", table: str = "filter", sets: dict[str, str] | None = None) -> model.Rule:
    saved = iptables.parse_save(
        f"*{table}\n:INPUT ACCEPT [1:2]\n:other - [0:0]\n[3:4] {line}\nCOMMIT\n", model.IPTABLES_LEGACY, family, sets
    )
    assert saved.complete and not saved.odd
    (rule,) = saved.rules
    assert rule.text == line and (rule.packets, rule.bytes) == (3, 4)
    return rule


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("-A INPUT ! -s 10.0.0.1/32 -j DROP", ["ip saddr", "not in", ["10.0.0.1"], None]),
        ("-A INPUT -s 10.0.0.1/255.0.0.255 -j DROP", ["ip saddr", "in", ["10.0.0.1"], 0xFF0000FF]),
        ("-A INPUT ! -i eth+ -j DROP", ["meta iifname", "not in", ["eth*"], None]),
        ("-A INPUT ! -p tcp -j DROP", ["meta l4proto", "not in", [6], None]),
        ("-A INPUT -p 253 -j DROP", ["meta l4proto", "in", [253], None]),
        ("-A INPUT -m tcp ! --sport 1024:65535 -j DROP", ["tcp sport", "not in", [["range", 1024, 65535]], None]),
        ("-A INPUT -m tcp ! --tcp-flags SYN,ACK SYN -j DROP", ["tcp flags", "not in", [2], 18]),
        ("-A INPUT -m state --state NEW -j DROP", ["ct state", "bits", ["new"], None]),
        ("-A INPUT -m conntrack ! --ctstate INVALID -j DROP", ["ct state", "not bits", ["invalid"], None]),
        ("-A INPUT -m conntrack --ctstate DNAT -j DROP", ["ct state . ct status", "any in", ["dnat"], None]),
        (
            "-A INPUT -m conntrack ! --ctstate NEW,DNAT -j DROP",
            ["ct state . ct status", "not any in", ["new", "dnat"], None],
        ),
        ("-A INPUT -m multiport --ports 80,90:99 -j DROP", ["th sport . th dport", "any in", [80, ["range", 90, 99]], None]),
        ("-A INPUT -m icmp ! --icmp-type 3/1 -j DROP", ["icmp type . icmp code", "not in", [["concat", 3, 1]], None]),
        ("-A INPUT -m conntrack --ctorigdstport 80 -j DROP", ["ct original proto-dst", "in", [80], None]),
        ("-A INPUT -m conntrack --ctdir REPLY -j DROP", ["ct direction", "in", ["reply"], None]),
        ("-A INPUT -m connmark ! --mark 0x1 -j DROP", ["ct mark", "not in", [1], None]),
        ("-A INPUT -m pkttype --pkt-type unicast -j DROP", ["meta pkttype", "in", ["host"], None]),
        ("-A INPUT -m mac --mac-source AA:BB:CC:DD:EE:FF -j DROP", ["ether saddr", "in", ["aa:bb:cc:dd:ee:ff"], None]),
        ("-A INPUT -m owner --uid-owner 0-99 -j DROP", ["meta skuid", "in", [["range", 0, 99]], None]),
        ("-A INPUT -m length --length 100: -j DROP", ["meta length", "in", [["range", 100, 65535]], None]),
        ("-A INPUT -m ttl --ttl-gt 5 -j DROP", ["ip ttl", ">", [5], None]),
        ("-A INPUT -m dscp --dscp 0x2e -j DROP", ["ip dscp", "in", [46], None]),
        ("-A INPUT -m tos --tos 0x10/0x3f -j DROP", ["@nh,8,8", "in", [16], 63]),
        ("-A INPUT -f -j DROP", ["ip frag-off", "not in", [0], 0x1FFF]),
        ("-A INPUT -m addrtype --src-type LOCAL --limit-iface-in -j DROP", ["fib saddr . iif type", "in", ["local"], None]),
    ],
)
def test_iptables_matches(line: str, wanted: list[Any]) -> None:
    rule = _iptables(line)
    (part,) = rule.parts
    assert isinstance(part, model.Match)
    assert [part.left, part.op, part.values, part.mask] == wanted
    assert rule.verdict == model.Verdict("drop")


@pytest.mark.parametrize(
    "match",
    [
        "recent --rcheck --name x --rsource",
        "limit --limit 1/sec",
        "hashlimit --hashlimit-upto 1/sec --hashlimit-name x",
        "statistic --mode random --probability 0.5",
        'string --string "a -j ACCEPT" --algo bm',
        "u32 --u32 0x0=0x1",
        "time --datestop 2038-01-19T03:14:07",
        "quota --quota 5",
        "connlimit --connlimit-above 5",
        "bpf --bytecode 1,6",
        "physdev --physdev-frobs eth0",
        "rpfilter --accept-local",
        "policy --dir in --pol ipsec",
        "frobnicate ! --really",
        "set --match-set unheard src",
        "set --match-set ipports src,dst --packets-gt 5",
        "conntrack --ctexpire 5",
        "conntrack --ctstate INVALID --ctproto 6",
        "icmp ! --icmp-type any",
        "socket --transparent",
        "osf --genre Linux",
    ],
)
def test_iptables_matches_that_are_unknown(match: str) -> None:
    rule = _iptables(f"-A INPUT -s 10.0.0.0/8 -m {match} -j DROP", sets={"ipports": "hash:ip,port"})
    assert [type(part) for part in rule.parts] == [model.Match, model.Unknown]
    assert rule.verdict == model.Verdict("drop")
    assert isinstance(rule.parts[1], model.Unknown) and rule.parts[1].text == f"-m {match}"


@pytest.mark.parametrize(
    ("kind", "sides", "left"),
    [
        ("hash:ip", "src", "ip saddr"),
        ("hash:net", "dst", "ip daddr"),
        ("hash:ip,port", "src,dst", "ip saddr . meta l4proto . th dport"),
        ("hash:ip,port,net", "src,dst,dst", "ip saddr . meta l4proto . th dport . ip daddr"),
        ("hash:net,iface", "src,src", "ip saddr . meta iifname"),
        ("hash:net,net", "src,dst", "ip saddr . ip daddr"),
        ("hash:ip,mark", "src,src", "ip saddr . meta mark"),
        ("hash:mac", "src", "ether saddr"),
        ("bitmap:port", "dst", "th dport"),
        ("list:set", "src", "ipset src"),
        ("hash:ip,port", "src", None),
    ],
)
def test_what_an_ipset_is_asked(kind: str, sides: str, left: str | None) -> None:
    rule = _iptables(f"-A INPUT -m set --match-set x {sides} -j DROP", sets={"x": kind})
    (part,) = rule.parts
    assert (part.left if isinstance(part, model.Match) else None) == left


@pytest.mark.parametrize(
    ("target", "verdict", "action"),
    [
        ("-j REJECT --reject-with icmp-admin-prohibited", {"kind": "reject", "detail": "icmp admin-prohibited"}, None),
        ("-j REJECT", {"kind": "reject", "detail": "icmp port-unreachable"}, None),
        ("-j NFQUEUE --queue-balance 0:3 --queue-bypass", {"kind": "queue", "detail": "0-3"}, None),
        ("-j other", {"kind": "jump", "target": "other"}, None),
        ("-g other", {"kind": "goto", "target": "other"}, None),
        ("-j MARK --set-xmark 0x1/0xffffffff", None, ("mark", {"value": 1})),
        ("-j MARK --and-mark 0xf", None, ("mark", {"value": 0, "mask": 0xFFFFFFF0})),
        (
            "-j CONNMARK --restore-mark --nfmask 0xff --ctmask 0xf",
            None,
            ("mark", {"from": "ct mark", "from_mask": 15, "mask": 255}),
        ),
        (
            "-j SNAT --to-source 1.2.3.4-1.2.3.9:10-20 --random",
            None,
            ("snat", {"addr": ["range", "1.2.3.4", "1.2.3.9"], "port": ["range", 10, 20], "flags": ["random"]}),
        ),
        ("-j DNAT --to-destination [fd00::1]:80", None, ("dnat", {"addr": "fd00::1", "port": 80})),
        ("-j REDIRECT --to-ports 80", None, ("redirect", {"port": 80})),
        ("-j NFLOG --nflog-group 3", None, ("log", {"nflog-group": "3"})),
        ("-j TCPMSS --clamp-mss-to-pmtu", None, ("tcpmss", {"clamp-mss-to-pmtu": ""})),
        ("-j NOTRACK", None, ("notrack", {})),
        ("-j FOREIGN --option 5", {"kind": "unknown", "detail": "FOREIGN --option 5"}, None),
        (
            "-j TPROXY --on-port 8 --on-ip 0.0.0.0 --tproxy-mark 0x1/0x1",
            {"kind": "unknown", "detail": "TPROXY --on-port 8 --on-ip 0.0.0.0 --tproxy-mark 0x1/0x1"},
            ("tproxy", {"port": 8}),
        ),
    ],
)
def test_iptables_targets(target: str, verdict: Any, action: Any) -> None:
    rule = _iptables(f"-A INPUT {target}")
    assert (rule.verdict.to_dict() if rule.verdict else None) == verdict
    actions = [(part.name, part.args) for part in rule.parts if isinstance(part, model.Action)]
    assert actions == ([action] if action else [])
    assert all(
        part.terminal == (part.name in ("snat", "dnat", "redirect")) for part in rule.parts if isinstance(part, model.Action)
    )


def test_a_comment_cannot_pretend_to_be_a_target() -> None:
    rule = _iptables('-A INPUT -m comment --comment "-j ACCEPT \\"x\\" -m tcp" -j DROP')
    assert rule.comment == '-j ACCEPT "x" -m tcp' and rule.verdict == model.Verdict("drop") and rule.parts == []


@pytest.mark.parametrize(
    ("kind", "text", "element"),
    [
        ("hash:ip", "10.0.0.1", "10.0.0.1"),
        ("hash:net", "10.0.0.0/8", ["prefix", "10.0.0.0", 8]),
        ("bitmap:ip", "10.0.0.1-10.0.0.9", ["range", "10.0.0.1", "10.0.0.9"]),
        ("hash:ip,port", "fd00::1,udp:53", ["concat", "fd00::1", 17, 53]),
        ("hash:net,iface", "10.0.0.0/8,eth0", ["concat", ["prefix", "10.0.0.0", 8], "eth0"]),
        ("hash:ip,mark", "10.0.0.1,0x00000010", ["concat", "10.0.0.1", 16]),
        ("bitmap:port", "80", 80),
        ("list:set", "other", "other"),
    ],
)
def test_ipset_members(kind: str, text: str, element: Any) -> None:
    assert ipset.member(kind, text) == element


def test_ipset_headers() -> None:
    text = (
        "Name: a\nType: hash:ip\nRevision: 5\nHeader: family inet hashsize 1024 maxelem 65536 timeout 60 counters comment "
        "bucketsize 12 initval 0x1\n"
        "Size in memory: 200\nReferences: 1\nNumber of entries: 7\n\nName: crowdsec-blacklists\nType: list:set\nHeader: size 8\n"
    )
    (first, second), odd = ipset.parse_list(text)
    assert odd == [] and (first.count, first.family, first.options["maxelem"], first.options["timeout"]) == (7, "inet", 65536, 60)
    assert first.flags == ["timeout", "counters", "comment"]
    assert second.count is None and second.owner == "crowdsec"


@pytest.mark.parametrize(
    ("table", "chain", "comment", "owner"),
    [
        ("nat", "DOCKER", None, "docker"),
        ("filter", "DOCKER-USER", None, "docker"),
        ("docker-bridges", "filter-FORWARD", None, "docker"),
        ("kube-proxy", "services", None, "kube-proxy"),
        ("nat", "KUBE-SERVICES", None, "kube-proxy"),
        ("filter", "INPUT", "kubernetes health check", "kube-proxy"),
        ("filter", "cali-INPUT", None, "calico"),
        ("filter", "INPUT", "cali:Cz_u1IQiXIMmKD4c", "calico"),
        ("mangle", "CILIUM_PRE_mangle", None, "cilium"),
        ("nat", "CNI-HOSTPORT-DNAT", None, "cni"),
        ("firewalld", "filter_INPUT", None, "firewalld"),
        ("filter", "IN_public_allow", None, "firewalld"),
        ("filter", "ufw-before-input", None, "ufw"),
        ("filter", "ufw6-user-input", None, "ufw"),
        ("f2b-table", "f2b-chain", None, "fail2ban"),
        ("filter", "f2b-sshd", None, "fail2ban"),
        ("filter", "LIBVIRT_FWI", None, "libvirt"),
        ("netavark", "INPUT", None, "netavark"),
        ("nat", "NETAVARK-HOSTPORT-DNAT", None, "netavark"),
        ("incus", "fwd.incusbr0", None, "incus"),
        ("lxd", "fwd.lxdbr0", None, "lxd"),
        ("crowdsec", "crowdsec-chain", None, "crowdsec"),
        ("filter", "ts-input", None, "tailscale"),
        ("filter", "INPUT", None, "user"),
        ("filter", "DOCKERISH", "about docker", "user"),
        ("filter", "IN", None, "user"),
    ],
)
def test_owners(table: str, chain: str, comment: str | None, owner: str) -> None:
    assert owner_of(table, chain, comment, "ip") == owner


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=8)
    | st.sampled_from(["@s", "*", "10.0.0.1", "syn", "==", "in", "ip", "saddr"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "match",
                    "op",
                    "left",
                    "right",
                    "payload",
                    "protocol",
                    "field",
                    "meta",
                    "ct",
                    "key",
                    "set",
                    "vmap",
                    "data",
                    "concat",
                    "range",
                    "prefix",
                ]
                + [
                    "addr",
                    "len",
                    "elem",
                    "val",
                    "&",
                    "|",
                    "^",
                    "mangle",
                    "value",
                    "xt",
                    "type",
                    "name",
                    "dnat",
                    "jump",
                    "target",
                    "fib",
                    "flags",
                    "result",
                ]
                + [
                    "counter",
                    "log",
                    "queue",
                    "num",
                    "reject",
                    "limit",
                    "numgen",
                    "accept",
                    "map",
                    "base",
                    "offset",
                    "dir",
                    "flow",
                    "fwd",
                    "synproxy",
                    "stmt",
                ]
            ),
            inner,
            max_size=3,
        )
    ),
    max_leaves=12,
)


@given(JSON)
def test_any_json_reads_without_a_crash(value: Any) -> None:
    for rule in (value, {"expr": value}, {"expr": [value]}):
        parsed = nft_json.read_rule(rule, "inet")
        json.dumps([part.to_dict() for part in parsed.parts])
        for part in parsed.parts:
            assert model.part_from_dict(json.loads(json.dumps(part.to_dict()))).to_dict() == json.loads(
                json.dumps(part.to_dict())
            )
    made = model.Set(model.NFT, "ip", "t", "s", "ipv4_addr . inet_service", map="verdict")
    nft.parse_members([value, {"map": {"name": "s", "elem": value}}], "map", made)
    nft.parse_members([{"set": {"name": "s", "elem": value}}], "set", made)
    nft.rule_objects([value])


WORDS = st.lists(
    st.sampled_from(
        [
            "ip",
            "saddr",
            "daddr",
            "tcp",
            "dport",
            "sport",
            "flags",
            "ct",
            "state",
            "mark",
            "count",
            "original",
            "meta",
            "iifname",
            "oifname",
            "@s",
            "@m",
            "{",
            "}",
            ",",
            ".",
            ":",
            "10.0.0.1",
            "10.0.0.0/8",
            "80",
            "1-2",
            "==",
            "!=",
            "&",
            "(",
            ")",
            "/",
            "|",
            "!",
            "<",
            "vmap",
            "map",
            "set",
            "drop",
            "accept",
            "jump",
            "c",
            "limit",
            "rate",
            "over",
            "5/second",
            "burst",
            "quota",
            "dnat",
            "to",
            "snat",
            "queue",
            "num",
            "reject",
            "with",
            "icmp",
            "type",
            "fib",
            "oif",
            "log",
            "prefix",
            '"x"',
            "comment",
            '"a',
            'b"',
            "numgen",
            "-A",
            "INPUT",
            "-s",
            "-d",
            "-p",
            "-m",
            "-j",
            "-g",
            "--dport",
            "--match-set",
            "src",
            "!",
            "--ctstate",
            "NEW",
            "DNAT",
            "--to-destination",
            "MARK",
            "--set-xmark",
            "0x1/0x2",
            "[1:2]",
            "tcp-reset",
            "-i",
            "+",
        ]
    )
    | st.text(max_size=6),
    max_size=14,
)


@given(WORDS, st.integers(0, 200))
def test_any_text_reads_without_a_crash(words: list[str], cut: int) -> None:
    text = " ".join(words)[:cut] if cut else " ".join(words)
    parsed = nft_text.read_rule(text, "inet")
    json.dumps([part.to_dict() for part in parsed.parts])
    if parsed.odd:
        assert any(isinstance(part, model.Unknown) for part in parsed.parts)
        assert parsed.verdict is not None
    for body in (text, f"*filter\n:INPUT DROP [0:0]\n-A INPUT {text}\nCOMMIT\n"):
        saved = iptables.parse_save(body, model.IPTABLES_NFT, "ip", {"x": "hash:ip"})
        json.dumps([rule.to_dict() for rule in saved.rules])
    nft.parse_listing(text)
    nft.parse_listing(LISTING[:cut] + text + LISTING[cut:])
    nft.parse_json(text)
    ipset.parse_list(text)
    ipset.parse_save(f"add x {text}", model.Set(model.IPSET, "inet", "", "x", "hash:ip,port"))


@given(st.text(max_size=300))
def test_a_cut_save_is_noticed(text: str) -> None:
    whole = "*filter\n:INPUT ACCEPT [0:0]\n-A INPUT -j DROP\nCOMMIT\n"
    assert iptables.parse_save(whole, model.IPTABLES_NFT, "ip").complete
    assert not iptables.parse_save(whole[: -len("COMMIT\n")], model.IPTABLES_NFT, "ip").complete
    saved = iptables.parse_save(text, model.IPTABLES_NFT, "ip")
    assert all(line for line in saved.odd)


def test_a_ruleset_survives_its_json() -> None:
    rule = _iptables("-A INPUT -p tcp -m tcp --dport 22 -m limit --limit 1/sec -j LOG --log-prefix x")
    ruleset = model.Ruleset(
        [model.BackendState("nft", "ok")], [], [rule], [model.Set(model.NFT, "ip", "t", "s", "ipv4_addr", elements=["10.0.0.1"])]
    )
    assert model.Ruleset.from_dict(json.loads(json.dumps(ruleset.to_dict()))) == ruleset


def test_the_flag_names_of_a_save() -> None:
    assert (iptables_parts._flags("ALL"), iptables_parts._flags("NONE"), iptables_parts._flags("SYN,ACK")) == (63, 0, 18)
