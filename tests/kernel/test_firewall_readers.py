# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The firewall readers against the real kernel; nft, iptables-save, ipset and packets are the witnesses."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.kernel

COMMAND = "from ansible_collections.netops.fleet.plugins.module_utils._kernel import command\n"
READ = """
import json, sys
from ansible_collections.netops.fleet.plugins.module_utils._firewall import read
section = read.read(json.loads(sys.argv[1]))
print(json.dumps({**section.data.to_dict(), "gaps": [gap.to_dict() for gap in section.gaps]}))
"""

#: rule -> (parts, verdict), in a chain of table inet t that is hooked at input
NFT_RULES: list[tuple[str, list[dict[str, Any]], dict[str, Any] | None]] = [
    (
        "ct state established,related accept",
        [{"left": "ct state", "op": "bits", "values": ["established", "related"]}],
        {"kind": "accept"},
    ),
    ("ct state new accept", [{"left": "ct state", "op": "bits", "values": ["new"]}], {"kind": "accept"}),
    (
        "ct state { established, new } accept",
        [{"left": "ct state", "op": "in", "values": ["established", "new"]}],
        {"kind": "accept"},
    ),
    ("ct state != established drop", [{"left": "ct state", "op": "not in", "values": ["established"]}], {"kind": "drop"}),
    ("ct state ! established drop", [{"left": "ct state", "op": "not bits", "values": ["established"]}], {"kind": "drop"}),
    ("tcp flags syn drop", [{"left": "tcp flags", "op": "bits", "values": [2]}], {"kind": "drop"}),
    ("tcp flags == syn drop", [{"left": "tcp flags", "op": "in", "values": [2]}], {"kind": "drop"}),
    ("tcp flags != syn drop", [{"left": "tcp flags", "op": "not in", "values": [2]}], {"kind": "drop"}),
    ("tcp flags & (fin|syn) == syn drop", [{"left": "tcp flags", "op": "in", "values": [2], "mask": 3}], {"kind": "drop"}),
    (
        "tcp flags & (fin|syn|rst|ack) != syn drop",
        [{"left": "tcp flags", "op": "not in", "values": [2], "mask": 23}],
        {"kind": "drop"},
    ),
    ("tcp flags { syn, ack } drop", [{"left": "tcp flags", "op": "in", "values": [2, 16]}], {"kind": "drop"}),
    ("ip saddr @s accept", [{"left": "ip saddr", "op": "in", "set": "s"}], {"kind": "accept"}),
    ("ip saddr != @s accept", [{"left": "ip saddr", "op": "not in", "set": "s"}], {"kind": "accept"}),
    (
        "tcp dport { 80, 1000-2000 } accept",
        [{"left": "tcp dport", "op": "in", "values": [80, ["range", 1000, 2000]]}],
        {"kind": "accept"},
    ),
    ("ip saddr 10.0.0.0/8 accept", [{"left": "ip saddr", "op": "in", "values": [["prefix", "10.0.0.0", 8]]}], {"kind": "accept"}),
    (
        "ip saddr & 255.255.255.0 == 10.0.0.0 drop",
        [{"left": "ip saddr", "op": "in", "values": [["prefix", "10.0.0.0", 24]]}],
        {"kind": "drop"},
    ),
    (
        "ip daddr & 0.0.0.255 == 0.0.0.7 drop",
        [{"left": "ip daddr", "op": "in", "values": ["0.0.0.7"], "mask": 255}],
        {"kind": "drop"},
    ),
    (
        "ip saddr . tcp dport { 1.2.3.4 . 80, 10.0.0.0/8 . 90-99 } drop",
        [
            {
                "left": "ip saddr . tcp dport",
                "op": "in",
                "values": [["concat", "1.2.3.4", 80], ["concat", ["prefix", "10.0.0.0", 8], ["range", 90, 99]]],
            }
        ],
        {"kind": "drop"},
    ),
    ('iifname "eth*" drop', [{"left": "meta iifname", "op": "in", "values": ["eth*"]}], {"kind": "drop"}),
    ("iif lo accept", [{"left": "meta iif", "op": "in", "values": ["lo"]}], {"kind": "accept"}),
    ("meta l4proto { tcp, udp } accept", [{"left": "meta l4proto", "op": "in", "values": [6, 17]}], {"kind": "accept"}),
    ("ip protocol vrrp accept", [{"left": "ip protocol", "op": "in", "values": [112]}], {"kind": "accept"}),
    ("icmp type echo-request accept", [{"left": "icmp type", "op": "in", "values": [8]}], {"kind": "accept"}),
    ("icmpv6 type nd-neighbor-solicit accept", [{"left": "icmpv6 type", "op": "in", "values": [135]}], {"kind": "accept"}),
    ("ip dscp cs1 accept", [{"left": "ip dscp", "op": "in", "values": [8]}], {"kind": "accept"}),
    ("ip ttl < 5 drop", [{"left": "ip ttl", "op": "<", "values": [5]}], {"kind": "drop"}),
    ("meta mark & 0xff == 0x12 accept", [{"left": "meta mark", "op": "in", "values": [18], "mask": 255}], {"kind": "accept"}),
    ("fib daddr type local accept", [{"left": "fib daddr type", "op": "in", "values": ["local"]}], {"kind": "accept"}),
    ("fib saddr . iif oif missing drop", [{"left": "fib saddr . iif oif", "op": "in", "values": ["missing"]}], {"kind": "drop"}),
    ("meta nfproto ipv6 accept", [{"left": "meta nfproto", "op": "in", "values": ["ipv6"]}], {"kind": "accept"}),
    ("reject with icmp type host-unreachable", [], {"kind": "reject", "detail": "icmp host-unreachable"}),
    ("reject", [], {"kind": "reject", "detail": "icmpx port-unreachable"}),
    ("jump other", [], {"kind": "jump", "target": "other"}),
    ("goto other", [], {"kind": "goto", "target": "other"}),
    ("tcp dport 5 return", [{"left": "tcp dport", "op": "in", "values": [5]}], {"kind": "return"}),
    ("tcp dport vmap @m", [{"t": "vmap", "left": "tcp dport", "map": "m"}], None),
    (
        "ct state vmap { established : accept, invalid : drop }",
        [{"t": "vmap", "left": "ct state", "entries": [["invalid", {"kind": "drop"}], ["established", {"kind": "accept"}]]}],
        None,
    ),
    ("meta mark set 0x2", [{"t": "action", "name": "mark", "args": {"value": 2}}], None),
    ("notrack", [{"t": "action", "name": "notrack"}], None),
    ("limit rate 5/second accept", [{"t": "unknown", "why": "not static"}], {"kind": "accept"}),
    ("numgen random mod 10 0 accept", [{"t": "unknown", "why": "not static"}], {"kind": "accept"}),
    (
        "tcp option maxseg size 1-100 drop",
        [{"left": "tcp option maxseg size", "op": "in", "values": [["range", 1, 100]]}],
        {"kind": "drop"},
    ),
    ('log prefix "a b"', [{"t": "action", "name": "log", "args": {"prefix": "a b"}}], None),
    ("counter packets 5 bytes 10 drop", [], {"kind": "drop"}),
]

SKELETON = """
table inet t {
    set s { type ipv4_addr; flags interval; elements = { 10.0.0.0/8, 192.168.1.5-192.168.1.9 }; }
    set d { type ipv4_addr . inet_service; flags dynamic,timeout; timeout 10s; }
    map m { type inet_service : verdict; elements = { 80 : accept, 81 : jump other }; }
    chain other { ; }
    chain c { type filter hook input priority filter; policy drop; }
    chain n { type nat hook prerouting priority dstnat; }
}
table ip t { chain c { type filter hook output priority raw; }; }
table ip6 t { chain c { type filter hook forward priority security; }; }
table arp a { chain i { type filter hook input priority 0; }; }
table bridge b { chain f { type filter hook forward priority filter; }; }
table netdev d { chain i { type filter hook ingress device "lo" priority -500; }; }
"""
# nft wants each closing brace on a line of its own.
SKELETON = SKELETON.replace("; }", ";\n}").replace("{ ;", "{")


def read(ns: Any, elements: Any = False) -> dict[str, Any]:
    found = ns.python_json(READ, json.dumps(elements))
    assert isinstance(found, dict)
    return found


UDP = """
import json, socket, sys
receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
receiver.bind(("127.0.0.1", 0))
receiver.settimeout(1)
sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
arrived = 0
for number in range(int(sys.argv[1])):
    sender.sendto(b"x", receiver.getsockname())
    try:
        receiver.recv(9)
        arrived += 1
    except TimeoutError:
        pass
print(json.dumps(arrived))
"""


def listed(ns: Any) -> dict[tuple[str, str, int], str]:
    """(family, table, handle) -> rule text of ``nft -a list ruleset``."""
    found, table = {}, ("", "")
    for line in ns.run(["nft", "-a", "list", "ruleset"]).stdout.splitlines():
        if line.startswith("table "):
            table = (line.split()[1], line.split()[2])
        rule = re.fullmatch(r"\t\t(.*) # handle (\d+)", line)
        if rule:
            found[(*table, int(rule[2]))] = rule[1]
    return found


def status(data: dict[str, Any]) -> dict[str, str]:
    return {one["name"]: one["status"] for one in data["backends"]}


def test_nft_rules_mean_what_they_say(ns: Any) -> None:
    ns.run(["nft", "-f", "-"], input=SKELETON)
    for rule, _parts, _verdict in NFT_RULES:
        ns.run(["nft", "add", "rule", "inet", "t", "c", *rule.split(" ")])
    data = read(ns)
    rules = [one for one in data["rules"] if one["chain"] == "c"]
    assert data["gaps"] == [] and status(data)["nft"] == "ok"
    assert len(rules) == len(NFT_RULES)
    for (text, parts, verdict), rule in zip(NFT_RULES, rules):
        assert rule.get("verdict") == verdict, text
        found = rule.get("parts", [])
        assert len(found) == len(parts), (text, found)
        for one, wanted in zip(found, parts):
            wanted = {"t": "match", **wanted}
            assert {key: one.get(key) for key in wanted} == wanted, text
    assert {(one["family"], one["table"], one["handle"]): one["text"] for one in data["rules"]} == listed(ns)
    last = rules[-1]
    assert (last["packets"], last["bytes"]) == (5, 10)


def test_every_family_hook_and_priority(ns: Any) -> None:
    ns.run(["nft", "-f", "-"], input=SKELETON)
    for rule in (
        "ip t c ip daddr 10.0.0.1 drop",
        "ip6 t c ip6 saddr fe80::/10 drop",
        "arp a i arp operation request drop",
        "bridge b f ether type arp drop",
        "netdev d i ip saddr 1.2.3.4 drop",
    ):
        ns.run(["nft", "add", "rule", *rule.split()])
    data = read(ns)
    seen = {(one["family"], one["name"]): (one.get("hook"), one.get("priority"), one.get("policy")) for one in data["chains"]}
    assert seen == {
        ("inet", "other"): (None, None, None),
        ("inet", "c"): ("input", 0, "drop"),
        ("inet", "n"): ("prerouting", -100, "accept"),
        ("ip", "c"): ("output", -300, "accept"),
        ("ip6", "c"): ("forward", 50, "accept"),
        ("arp", "i"): ("input", 0, "accept"),
        ("bridge", "f"): ("forward", -200, "accept"),
        ("netdev", "i"): ("ingress", -500, "accept"),
    }
    assert [one.get("devices") for one in data["chains"] if one["family"] == "netdev"] == [["lo"]]
    assert {one["family"]: one["parts"][-1]["values"] for one in data["rules"]} == {
        "ip": ["10.0.0.1"],
        "ip6": [["prefix", "fe80::", 10]],
        "arp": [1],
        "bridge": ["arp"],
        "netdev": ["1.2.3.4"],
    }
    assert data["gaps"] == []


def test_a_dormant_table_filters_nothing(ns: Any) -> None:
    ns.run(
        ["nft", "-f", "-"],
        input="table inet z {\nflags dormant;\nchain c {\ntype filter hook input priority 0; policy drop;\n}\n}\n",
    )
    chains = read(ns)["chains"]
    assert [(one["name"], one.get("hook")) for one in chains] == [("c", None)]
    assert ns.python_json(UDP, "1") == 1


def test_set_members_are_read_only_when_asked_and_small(ns: Any) -> None:
    ns.run(["nft", "-f", "-"], input=SKELETON)
    ns.run(["ipset", "create", "few", "hash:ip,port", "comment"])
    ns.run(["ipset", "add", "few", "10.0.0.1,tcp:80", "comment", "a nomatch"])
    ns.run(["ipset", "create", "nets", "hash:net"])
    ns.run(["ipset", "restore"], input="add nets 10.0.0.0/8\nadd nets 10.1.0.0/16 nomatch\nadd nets 10.1.2.0/24\n")
    bulk = "".join(f"add many 10.{n >> 8}.{n & 255}.1\n" for n in range(5000))
    ns.run(["ipset", "restore"], input="create many hash:ip\n" + bulk)
    terse = read(ns)
    assert all(one.get("elements") is None for one in terse["sets"])
    assert {one["name"]: one.get("count") for one in terse["sets"] if one["backend"] == "ipset"} == {
        "few": 1,
        "nets": 3,
        "many": 5000,
    }
    assert terse["gaps"] == []
    data = read(ns, 100)
    sets = {one["name"]: one for one in data["sets"]}
    assert sets["s"]["elements"] == [["prefix", "10.0.0.0", 8], ["range", "192.168.1.5", "192.168.1.9"]]
    assert sets["m"]["elements"] == [["pair", 80, {"kind": "accept"}], ["pair", 81, {"kind": "jump", "target": "other"}]]
    assert sets["few"]["elements"] == [["concat", "10.0.0.1", 6, 80]]
    assert sorted(map(str, sets["nets"]["elements"])) == sorted(
        map(str, [["prefix", "10.0.0.0", 8], ["nomatch", ["prefix", "10.1.0.0", 16]], ["prefix", "10.1.2.0", 24]])
    )
    assert sets["many"].get("elements") is None
    assert [gap["what"] for gap in data["gaps"]] == ["firewall.ipset many"]
    small = read(ns, 1)
    assert {gap["what"] for gap in small["gaps"]} >= {"firewall.nft set inet t s", "firewall.nft set inet t m"}


def test_terse_reading_asks_for_no_member(ns: Any, tmp_path: Path) -> None:
    """The calls are watched: none may ask the kernel for elements."""
    ns.run(["nft", "-f", "-"], input=SKELETON)
    ns.run(["ipset", "create", "few", "hash:ip"])
    watch = COMMAND + "asked = []\nreal = command.run\n"
    watch += "command.run = lambda argv, **more: (asked.append(argv), real(argv, **more))[1]\n"
    watch += READ + "\nprint(json.dumps(asked))\n"
    asked = ns.python_json(watch, "false")
    assert ["ipset", "list", "-t"] in asked
    assert all("-t" in argv for argv in asked if argv[0] in ("nft", "ipset")), asked


IPTABLES = """*raw
:PREROUTING ACCEPT [0:0]
-A PREROUTING -p udp -m udp --dport 53 -j CT --notrack
COMMIT
*mangle
:PREROUTING ACCEPT [0:0]
-A PREROUTING -i eth+ -j MARK --set-xmark 0x10/0xff
COMMIT
*nat
:PREROUTING ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
-A PREROUTING -p tcp -m tcp --dport 80 -j DNAT --to-destination 10.0.0.9:8080
-A POSTROUTING -s 10.0.0.0/8 ! -o lo -j MASQUERADE
COMMIT
*filter
:INPUT DROP [0:0]
:FORWARD ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:DOCKER-USER - [0:0]
-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A INPUT -s 10.1.0.0/16 -p tcp -m tcp --dport 22 -m comment --comment "it's \\"quoted\\" <b>" -j ACCEPT
-A INPUT -p tcp -m multiport --dports 80,443,8000:8010 -j ACCEPT
-A INPUT -p tcp -m tcp --tcp-flags FIN,SYN,RST,ACK SYN -j ACCEPT
-A INPUT -p icmp -m icmp --icmp-type 8 -j ACCEPT
-A INPUT -m set --match-set blocked src -j DROP
-A INPUT -m set ! --match-set pairs src,dst -j ACCEPT
-A INPUT -m mark --mark 0x1/0xf -j ACCEPT
-A INPUT -m addrtype --dst-type LOCAL -j ACCEPT
-A INPUT -m limit --limit 5/min -j LOG --log-prefix "in: "
-A INPUT -m iprange --src-range 10.0.0.1-10.0.0.9 -j RETURN
-A INPUT -p tcp -j REJECT --reject-with tcp-reset
-A INPUT -g DOCKER-USER
-A FORWARD -j DOCKER-USER
-A DOCKER-USER -j RETURN
COMMIT
"""


@pytest.mark.parametrize("variant", ["nft", "legacy"])
def test_iptables_in_both_variants(ns: Any, variant: str) -> None:
    ns.run(["ipset", "create", "blocked", "hash:ip"])
    ns.run(["ipset", "create", "pairs", "hash:ip,port"])
    ns.run([f"iptables-{variant}-restore"], input=IPTABLES)
    backend = f"iptables-{variant}"
    data = read(ns)
    assert data["gaps"] == []
    assert status(data)[backend] == "ok"
    assert status(data)["iptables-legacy" if variant == "nft" else "iptables-nft"] == "absent"
    saved = ns.run([f"iptables-{variant}-save"]).stdout
    wanted = {line for line in saved.splitlines() if line.startswith("-A ")}
    assert {one["text"] for one in data["rules"]} == wanted
    assert len(wanted) == 19
    hooks = {(one["table"], one["name"]): (one.get("hook"), one.get("priority"), one.get("policy")) for one in data["chains"]}
    assert hooks["filter", "INPUT"] == ("input", 0, "drop")
    assert hooks["raw", "PREROUTING"] == ("prerouting", -300, "accept")
    assert hooks["nat", "POSTROUTING"] == ("postrouting", 100, "accept")
    assert hooks["filter", "DOCKER-USER"] == (None, None, None)
    by_line = {(one["table"], one["chain"], one["line"]): one for one in data["rules"]}

    def parts(line: int, table: str = "filter", chain: str = "INPUT") -> list[dict[str, Any]]:
        return [{key: value for key, value in one.items() if key != "t"} for one in by_line[table, chain, line].get("parts", [])]

    assert parts(1) == [{"left": "ct state", "op": "bits", "values": ["related", "established"]}]
    assert by_line["filter", "INPUT", 2]["comment"] == 'it\'s "quoted" <b>'
    assert {"left": "ip saddr", "op": "in", "values": [["prefix", "10.1.0.0", 16]]} in parts(2)
    assert parts(3)[1] == {"left": "th dport", "op": "in", "values": [80, 443, ["range", 8000, 8010]]}
    assert parts(4)[1] == {"left": "tcp flags", "op": "in", "values": [2], "mask": 23}
    assert parts(5)[1] == {"left": "icmp type", "op": "in", "values": [8]}
    assert parts(6) == [{"left": "ip saddr", "op": "in", "set": "blocked"}]
    assert parts(7) == [{"left": "ip saddr . meta l4proto . th dport", "op": "not in", "set": "pairs"}]
    assert parts(8) == [{"left": "meta mark", "op": "in", "values": [1], "mask": 15}]
    assert parts(9) == [{"left": "fib daddr type", "op": "in", "values": ["local"]}]
    assert parts(10)[0]["why"] == "not static" and parts(10)[1]["name"] == "log"
    assert by_line["filter", "INPUT", 12]["verdict"] == {"kind": "reject", "detail": "tcp reset"}
    assert by_line["filter", "INPUT", 13]["verdict"] == {"kind": "goto", "target": "DOCKER-USER"}
    assert by_line["filter", "FORWARD", 1]["verdict"] == {"kind": "jump", "target": "DOCKER-USER"}
    assert by_line["filter", "DOCKER-USER", 1]["owner"] == "docker"
    assert parts(1, "nat", "PREROUTING")[-1]["args"] == {"addr": "10.0.0.9", "port": 8080}
    assert parts(1, "mangle", "PREROUTING")[-1]["args"] == {"value": 16, "mask": 255}
    assert parts(1, "raw", "PREROUTING")[-1]["name"] == "notrack"
    if variant == "nft":
        kernel = {handle for (_family, _table, handle) in listed(ns)}
        assert kernel and {one["handle"] for one in data["rules"] if one["table"] == "filter"} <= kernel
        # The handle is that of the very rule: deleting by it removes the line.
        victim = by_line["filter", "INPUT", 3]
        ns.run(["nft", "delete", "rule", "ip", "filter", "INPUT", "handle", str(victim["handle"])])
        assert victim["text"] not in ns.run(["iptables-nft-save"]).stdout
    else:
        assert all("handle" not in one for one in data["rules"])
        quoted, plain = by_line["filter", "INPUT", 2]["text"], by_line["filter", "INPUT", 4]["text"]
        ns.run(["iptables-legacy-restore", "--noflush"], input=f"*filter\n-D {quoted[3:]}\nCOMMIT\n")
        ns.run(["sh", "-c", f"iptables-legacy -t filter -D {plain[3:]}"])
        left = ns.run(["iptables-legacy-save"]).stdout
        assert quoted not in left and plain not in left and by_line["filter", "INPUT", 5]["text"] in left


@pytest.mark.parametrize("variant", ["nft", "legacy"])
def test_ip6tables_in_both_variants(ns: Any, variant: str) -> None:
    text = (
        "*filter\n:INPUT ACCEPT [0:0]\n:FORWARD ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n"
        "-A INPUT -s fd00::/8 -p ipv6-icmp -m icmp6 --icmpv6-type 128 -j ACCEPT\n"
        "-A INPUT -p tcp -m hl --hl-lt 5 -j REJECT --reject-with icmp6-adm-prohibited\nCOMMIT\n"
    )
    ns.run([f"ip6tables-{variant}-restore"], input=text)
    data = read(ns)
    assert status(data)[f"ip6tables-{variant}"] == "ok" and status(data)[f"iptables-{variant}"] == "absent"
    assert [one["text"] for one in data["rules"]] == [
        line for line in ns.run([f"ip6tables-{variant}-save"]).stdout.splitlines() if line.startswith("-A")
    ]
    first, second = data["rules"]
    assert [part["values"] for part in first["parts"]] == [[["prefix", "fd00::", 8]], [58], [128]]
    assert second["verdict"] == {"kind": "reject", "detail": "icmpv6 admin-prohibited"}
    assert second["parts"][1] == {"t": "match", "left": "ip6 hoplimit", "op": "<", "values": [5]}


def test_a_table_of_iptables_with_rules_of_nft_is_read_through_nft(ns: Any) -> None:
    ns.run(["iptables-nft", "-A", "INPUT", "-p", "tcp", "-m", "recent", "--set", "-j", "DROP"])
    ns.run(["nft", "add", "rule", "ip", "filter", "INPUT", "ct", "state", "new", "accept"])
    data = read(ns)
    assert [one["backend"] for one in data["rules"]] == ["nft", "nft"]
    assert any(part["t"] == "unknown" for part in data["rules"][0]["parts"])
    assert data["rules"][0]["verdict"] == {"kind": "drop"}
    assert data["rules"][1]["parts"] == [{"t": "match", "left": "ct state", "op": "bits", "values": ["new"]}]


def test_counters_follow_packets(ns: Any) -> None:
    ns.run(
        ["nft", "-f", "-"],
        input="table inet t {\nchain c {\ntype filter hook input priority 0;\nmeta l4proto udp counter\n}\n}\n",
    )
    ns.run(["iptables-nft", "-A", "INPUT", "-p", "udp", "-j", "ACCEPT"])
    ns.run(["iptables-legacy", "-A", "INPUT", "-p", "udp", "-j", "ACCEPT"])
    assert ns.python_json(UDP, "3") == 3
    rules = read(ns)["rules"]
    assert {one["backend"]: one["packets"] for one in rules} == {"nft": 3, "iptables-nft": 3, "iptables-legacy": 3}
    assert {one["backend"]: one["parts"][-1]["values"] for one in rules} == {
        "nft": [17],
        "iptables-nft": [17],
        "iptables-legacy": [17],
    }


def test_deleting_by_the_handle_lets_the_packet_pass(ns: Any) -> None:
    ns.run(
        ["nft", "-f", "-"],
        input="table inet t {\nchain c {\ntype filter hook input priority 0;\ntcp dport 9 accept\nip protocol udp drop\n}\n}\n",
    )
    assert ns.python_json(UDP, "1") == 0
    (rule,) = [one for one in read(ns)["rules"] if one["verdict"] == {"kind": "drop"}]
    ns.run(["nft", "delete", "rule", "inet", "t", "c", "handle", str(rule["handle"])])
    assert ns.python_json(UDP, "1") == 1


@pytest.mark.alone  # a test beside this one may have the kernel load a module, or use one
def test_an_untouched_namespace_has_nothing_and_stays_so(ns: Any) -> None:
    look = ["sh", "-c", "nft list ruleset; ipset list -n; cat /proc/net/ip_tables_names /proc/net/ip6_tables_names"]
    before = ns.run(look, check=False).stdout
    modules = Path("/proc/modules").read_text() if os.path.exists("/proc/modules") else ""
    data = read(ns, True)
    assert {name: one for name, one in status(data).items() if name != "ipset"} == {
        "nft": "absent",
        "iptables-nft": "absent",
        "ip6tables-nft": "absent",
        "iptables-legacy": "absent",
        "ip6tables-legacy": "absent",
    }
    assert data["rules"] == data["chains"] == data["sets"] == data["gaps"] == []
    assert ns.run(look, check=False).stdout == before == ""
    assert (Path("/proc/modules").read_text() if os.path.exists("/proc/modules") else "") == modules


def test_reading_leaves_rules_as_they_are(ns: Any) -> None:
    ns.run(["nft", "-f", "-"], input=SKELETON)
    ns.run(["iptables-nft-restore"], input="*filter\n:INPUT ACCEPT [0:0]\n-A INPUT -p tcp -j ACCEPT\nCOMMIT\n")
    ns.run(["iptables-legacy", "-t", "mangle", "-A", "INPUT", "-j", "ACCEPT"])
    look = [
        "sh",
        "-c",
        "nft -a list ruleset; iptables-legacy-save -t mangle | grep -v '^#'; sort /proc/net/ip*_tables_names",
    ]
    before = ns.run(look).stdout
    assert status(read(ns, True))["iptables-legacy"] == "ok"
    assert ns.run(look).stdout == before


def test_a_missing_tool_is_unread_not_absent(ns: Any) -> None:
    ns.run(["nft", "-f", "-"], input=SKELETON)
    ns.run(["iptables-legacy", "-A", "INPUT", "-j", "DROP"])
    blind = COMMAND + "command.SEARCH_PATH = ('/nonexistent',)\n"
    data = ns.python_json(blind + READ, "false")
    found = {one["name"]: one for one in data["backends"]}
    assert found["nft"]["status"] == "unread" and "nft is not installed" in found["nft"]["why"]
    assert found["iptables-legacy"]["status"] == "unread" and "filter" in found["iptables-legacy"]["why"]
    assert found["ip6tables-legacy"]["status"] == found["ipset"]["status"] == "absent"
    ns.run(["ipset", "create", "unseen", "hash:ip"])
    again = {one["name"]: one for one in ns.python_json(blind + READ, "false")["backends"]}
    assert again["ipset"]["status"] == "unread" and "unseen" in again["ipset"]["why"]
    assert {gap["what"] for gap in data["gaps"]} >= {"firewall.nft", "firewall.iptables-legacy"}


def test_one_hanging_table_does_not_hide_the_others(ns: Any, tmp_path: Path) -> None:
    ns.run(["nft", "-f", "-"], input=SKELETON)
    ns.run(["nft", "add", "rule", "ip", "t", "c", "drop"])
    fake = tmp_path / "nft"
    fake.write_text('#!/bin/sh\ncase "$*" in *ruleset*) exit 1;; *"table inet t"*) exit 139;; esac\nexec /usr/sbin/nft "$@"\n')
    fake.chmod(0o755)
    first = COMMAND + f"command.SEARCH_PATH = ({str(tmp_path)!r}, *command.SEARCH_PATH)\n"
    data = ns.python_json(first + READ, "false")
    state = next(one for one in data["backends"] if one["name"] == "nft")
    assert state["status"] == "unread" and "table inet t" in state["why"]
    assert [gap["what"] for gap in data["gaps"]] == ["firewall.nft table inet t"]
    assert [(one["family"], one["text"]) for one in data["rules"]] == [("ip", "drop")]


def test_module_reads_another_namespace(ns: Any) -> None:
    import subprocess
    import sys

    ns.run(["nft", "-f", "-"], input=SKELETON)
    ns.run(["iptables-legacy", "-A", "INPUT", "-j", "ACCEPT"])
    args = json.dumps({"ANSIBLE_MODULE_ARGS": {"netns": ns.name, "elements": 10, "_ansible_check_mode": True}})
    done = subprocess.run(
        [sys.executable, "-m", "ansible_collections.netops.fleet.plugins.modules.nft_rule_facts"],
        input=args,
        capture_output=True,
        text=True,
        env=ns.environment(),
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    answer = json.loads(done.stdout)
    facts = answer["ansible_facts"]["nft_rule_facts"]
    assert not answer.get("changed") and answer["coverage"] == []
    assert {one["name"] for one in facts["chains"]} >= {"c", "other", "INPUT"}
    assert {one["name"]: one["status"] for one in facts["backends"]}["iptables-legacy"] == "ok"
    bad = subprocess.run(
        [sys.executable, "-m", "ansible_collections.netops.fleet.plugins.modules.nft_rule_facts"],
        input=json.dumps({"ANSIBLE_MODULE_ARGS": {"netns": "no-such-namespace"}}),
        capture_output=True,
        text=True,
        env=ns.environment(),
        check=False,
    )
    assert json.loads(bad.stdout)["failed"] and "no-such-namespace" in json.loads(bad.stdout)["msg"]


BOTH = """
import json, sys
from ansible_collections.netops.fleet.plugins.module_utils._firewall import nft, nft_json, nft_text
from ansible_collections.netops.fleet.plugins.module_utils._kernel import command
text = nft.parse_listing(command.run(["nft", "-a", "-t", "list", "table", "inet", "t"]).out)["inet", "t"]
objects, _why = nft.parse_json(command.run(["nft", "-j", "-a", "-t", "list", "table", "inet", "t"]).out)
rules = nft.rule_objects(objects)

def shown(parsed):
    # An Unknown says the same in other words; so does what is put into a set.
    parts = [{**part.to_dict(), "text": ""} if part.to_dict()["t"] == "unknown" else part.to_dict() for part in parsed.parts]
    return [parts, parsed.verdict.to_dict() if parsed.verdict else None, parsed.packets, parsed.comment]

answers = []
for handle, line in text.rules["c"]:
    first, second = nft_text.read_rule(line, "inet"), nft_json.read_rule(rules[handle], "inet")
    answers.append([line, first.odd, second.odd, shown(first), shown(second)])
print(json.dumps(answers))
"""


def test_text_and_json_of_a_rule_are_read_alike(ns: Any) -> None:
    ns.run(["nft", "-f", "-"], input=SKELETON)
    for rule, _parts, _verdict in NFT_RULES:
        ns.run(["nft", "add", "rule", "inet", "t", "c", *rule.split(" ")])
    answers = ns.python_json(BOTH)
    assert len(answers) == len(NFT_RULES)
    both = [one for one in answers if one[1] is None]
    assert len(both) >= len(NFT_RULES) - 2  # what text cannot: numgen, tcp option
    for line, _odd, other, first, second in both:
        assert other is None and first == second, line
