# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Facts about packet filters that tools get wrong, each shown on the real kernel, and what the reading and the walk make of it.

A verdict has a witness: a packet that arrives at a socket, or does not.
"""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest

from tests.kernel.conftest import Namespace

pytestmark = pytest.mark.kernel

_READ = """
import json
from ansible_collections.netops.fleet.plugins.module_utils._firewall import read
print(json.dumps(read.read(elements=True).data.to_dict()))
"""
_WALK = """
import json, sys
from ansible_collections.netops.fleet.plugins.module_utils._diagnosis import verdict, world
host = world.read(programs=False)
print(json.dumps(verdict.verdicts(json.loads(sys.argv[1]), host)))
"""
#: Notes which datagrams come to a socket, until a frame of another protocol comes in behind them: a queue keeps its order.
_RECEIVER = """
import json, socket
fence = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x88B5))
fence.bind(("vb", 0x88B5))
sock = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
sock.bind(("::", 1678))
print("ready", flush=True)
fence.recv(64)
sock.setblocking(False)
said = []
try:
    while True:
        said.append(sock.recv(64).decode())
except BlockingIOError:
    print(json.dumps(said), flush=True)
"""
_SENDER = """
import socket, sys
for source in sys.argv[1:]:
    sock = socket.socket(socket.AF_INET6 if ":" in source else socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind((source, 0))
    sock.sendto(source.encode(), ("fd77::2" if ":" in source else "10.77.0.2", 1678))
fence = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
fence.bind(("va", 0))
fence.send(bytes.fromhex("ffffffffffff") + bytes(6) + bytes.fromhex("88b5") + bytes(46))
"""
_WHEN = """
import subprocess, sys, time
deadline = time.monotonic() + 20
def there():
    return sys.argv[1] in subprocess.run(["nft", "list", "ruleset"], capture_output=True, text=True).stdout
while there() != (sys.argv[2] == "there"):
    assert time.monotonic() < deadline, sys.argv
    time.sleep(0.02)
"""
IPT, IPT6 = ["iptables-legacy-restore"], ["ip6tables-legacy-restore"]
NFT, IPSET = ["nft", "-f", "-"], ["ipset", "restore"]


def load(space: Namespace, argv: list[str], text: str) -> bool:
    return space.run(argv, input=text, check=False).returncode == 0


def ruleset(space: Namespace) -> dict[str, Any]:
    return dict(space.python_json(_READ))


def udp(*sources: str, **more: Any) -> list[dict[str, Any]]:
    goal = {"protocol": "udp", "destination_port": 1678, **more}
    return [{"source": one, "destination": "fd77::2" if ":" in one else "10.77.0.2", **goal} for one in sources]


def walk(space: Namespace, *sources: str, **more: Any) -> dict[str, str]:
    found = space.python_json(_WALK, json.dumps(udp(*sources, **more)))
    return {source: one["verdict"] for source, one in zip(sources, found)}


def arrive(pair: tuple[Namespace, Namespace], *sources: str) -> dict[str, str]:
    """What the kernel does with a datagram from each source."""
    left, right = pair
    for one in sources:
        width, more = ("128", ["nodad"]) if ":" in one else ("32", [])
        if one not in ("10.77.0.1", "fd77::1"):
            left.run(["ip", "addr", "replace", f"{one}/{width}", "dev", "va", *more])
            right.run(["ip", "route", "replace", f"{one}/{width}", "dev", "vb"])
    for side, link, other, ends in ((right, "vb", left, ("10.77.0.2", "fd77::2")), (left, "va", right, sources)):
        mac = side.json(["ip", "-j", "link", "show", "dev", link])[0]["address"]
        for end in ends:
            dev = "va" if other is left else "vb"
            other.run(["ip", "neigh", "replace", end, "lladdr", mac, "dev", dev, "nud", "permanent"])
    receiver = right.start_python(_RECEIVER)
    left.python(_SENDER, *sources)
    assert receiver.stdout is not None
    came = json.loads(receiver.stdout.readline())
    return {one: "accept" if one in came else "drop" for one in sources}


def agrees(pair: tuple[Namespace, Namespace], wanted: dict[str, str]) -> None:
    assert arrive(pair, *wanted) == wanted, "the kernel"
    assert walk(pair[1], *wanted) == wanted, "the walk"


A, B, C = "10.77.0.1", "10.1.0.1", "10.1.2.1"


# --- 1 to 3: what is one change, and what is not


def test_restore_is_one_change_for_each_table_only(pair: Any) -> None:
    text = "*filter\n-A INPUT -p udp --dport 1678 -j DROP\nCOMMIT\n*nat\n-A INPUT -j NOSUCH\nCOMMIT\n"
    assert not load(pair[1], IPT, text)
    agrees(pair, {A: "drop"})


def test_an_nft_file_is_one_change(pair: Any) -> None:
    table = "table inet {} {{\nchain i {{ type filter hook input priority 0;\nudp dport 1678 drop\n{}\n}}\n}}\n"
    assert not load(pair[1], NFT, table.format("a", "") + table.format("b", "jump nosuch"))
    assert ruleset(pair[1])["rules"] == []
    agrees(pair, {A: "accept"})


def test_noflush_replaces_a_named_chain_and_keeps_the_others(pair: Any) -> None:
    right = pair[1]
    old = "*filter\n:INPUT ACCEPT [0:0]\n:MINE - [0:0]\n:OTHER - [0:0]\n-A INPUT -j MINE\n-A INPUT -j OTHER\n"
    assert load(right, IPT, old + "-A MINE -p udp --dport 1678 -j DROP\n-A OTHER -s 10.1.0.1 -j DROP\nCOMMIT\n")
    agrees(pair, {A: "drop", B: "drop"})
    assert load(right, [*IPT, "--noflush"], "*filter\n:MINE - [0:0]\nCOMMIT\n")
    agrees(pair, {A: "accept", B: "drop"})
    assert load(right, [*IPT, "--noflush"], "*filter\n:INPUT DROP [0:0]\nCOMMIT\n")
    agrees(pair, {A: "drop", B: "drop"})
    before = ruleset(right)["rules"]
    assert not load(right, [*IPT, "--noflush"], "*filter\n:MINE - [0:0]\n-A MINE -j ACCEPT\n-A MINE -j NOSUCH\nCOMMIT\n")
    assert [one["text"] for one in ruleset(right)["rules"]] == [one["text"] for one in before]


def test_ipset_restore_is_not_one_change(pair: Any) -> None:
    assert not load(pair[1], IPSET, "create s hash:ip\nadd s 10.77.0.1\nadd s 10.77.0.1\nadd s 10.1.0.1\n")
    (found,) = ruleset(pair[1])["sets"]
    assert found["elements"] == ["10.77.0.1"]
    assert load(pair[1], IPT, "*filter\n-A INPUT -m set --match-set s src -j DROP\nCOMMIT\n")
    agrees(pair, {A: "drop", B: "accept"})


# --- 4 to 8: sets


def test_swap_takes_content_and_header_and_refuses_another_type(pair: Any) -> None:
    right = pair[1]
    assert load(
        right, IPSET, "create s hash:ip maxelem 16\nadd s 10.77.0.1\ncreate t hash:ip maxelem 99 timeout 600\nadd t 10.1.0.1\n"
    )
    assert load(right, IPSET, "create n hash:net\n")
    assert load(right, IPT, "*filter\n-A INPUT -m set --match-set s src -j DROP\nCOMMIT\n")
    agrees(pair, {A: "drop", B: "accept"})
    right.run(["ipset", "swap", "s", "t"])
    agrees(pair, {A: "accept", B: "drop"})
    now = {one["name"]: one for one in ruleset(right)["sets"]}
    assert (now["s"]["options"]["maxelem"], now["s"]["options"].get("timeout")) == (99, 600)
    assert right.run(["ipset", "swap", "s", "n"], check=False).returncode != 0
    assert right.run(["ipset", "destroy", "s"], check=False).returncode != 0
    agrees(pair, {A: "accept", B: "drop"})


def test_what_ipsets_cannot_hold(ns: Namespace) -> None:
    assert load(
        ns,
        IPSET,
        "create i hash:ip\nadd i 10.2.0.0/22\ncreate n hash:net\ncreate f hash:ip maxelem 2\nadd f 1.1.1.1\nadd f 2.2.2.2\n",
    )
    for name, entry in (("i", "0.0.0.0"), ("n", "0.0.0.0/0"), ("f", "3.3.3.3")):
        assert ns.run(["ipset", "add", name, entry], check=False).returncode != 0, entry
    counts = {one["name"]: one["count"] for one in ruleset(ns)["sets"]}
    assert counts == {"i": 1024, "n": 0, "f": 2}


def test_the_most_specific_network_of_an_ipset_decides(pair: Any) -> None:
    assert load(pair[1], IPSET, "create s hash:net\nadd s 10.0.0.0/8\nadd s 10.1.0.0/16 nomatch\nadd s 10.1.2.0/24\n")
    assert load(pair[1], IPT, "*filter\n-A INPUT -m set --match-set s src -j DROP\nCOMMIT\n")
    agrees(pair, {A: "drop", B: "accept", C: "drop"})


def _interval(flags: str, elements: str) -> str:
    return (
        f"table ip f {{\nset s {{ type ipv4_addr; flags interval; {flags} elements = {{ {elements} }}; }}\n"
        "chain i { type filter hook input priority 0;\nip saddr @s drop\n}\n}\n"
    )


def test_interval_sets_without_auto_merge_refuse_what_overlaps(pair: Any) -> None:
    assert not load(pair[1], NFT, _interval("", "10.0.0.0/8, 10.1.0.0/16"))
    assert load(pair[1], NFT, _interval("", "10.76.0.0/16, 10.77.0.0/16"))
    (found,) = ruleset(pair[1])["sets"]
    assert found["elements"] == [["prefix", "10.76.0.0", 16], ["prefix", "10.77.0.0", 16]]
    agrees(pair, {A: "drop", B: "accept"})


def test_auto_merge_shows_other_intervals_than_were_added(pair: Any) -> None:
    assert load(pair[1], NFT, _interval("auto-merge;", "10.0.0.0/8, 11.0.0.0/8, 10.1.0.0/16"))
    (found,) = ruleset(pair[1])["sets"]
    assert found["elements"] == [["prefix", "10.0.0.0", 7]]
    agrees(pair, {A: "drop", B: "drop", "12.1.0.1": "accept"})
    gone = pair[1].run(["nft", "delete", "element", "ip", "f", "s", "{ 10.1.0.0/16 }"], check=False)
    agrees(pair, {A: "drop", B: "drop" if gone.returncode else "accept"})


def test_a_set_without_intervals_refuses_networks(ns: Namespace) -> None:
    text = "table ip f {{\nset s {{ type ipv4_addr; elements = {{ {} }}; }}\n}}\n"
    assert not load(ns, NFT, text.format("10.0.0.0/8")) and load(ns, NFT, text.format("10.0.0.1"))


def test_concatenations_of_ranges_of_which_the_first_that_holds_decides(pair: Any) -> None:
    text = (
        "table ip f {\nmap m { type ipv4_addr . inet_service : verdict; flags interval;\n"
        "elements = { 10.77.0.0/16 . 1000-2000 : drop, 10.1.0.0/16 . 1678 : accept, 10.0.0.0/9 . 1-9 : drop }; }\n"
        "chain i { type filter hook input priority 0; policy drop;\nip saddr . udp dport vmap @m\n}\n}\n"
    )
    assert load(pair[1], NFT, text)
    agrees(pair, {A: "drop", B: "accept", "10.2.0.1": "drop"})


# --- 9 and 10: two variants of iptables


def test_neither_variant_shows_the_other_and_both_decide(pair: Any) -> None:
    right = pair[1]
    assert load(right, IPT, "*filter\n-A INPUT -s 10.77.0.1 -p udp --dport 1678 -j DROP\nCOMMIT\n")
    assert load(right, ["iptables-nft-restore"], "*filter\n-A INPUT -s 10.1.0.1 -p udp --dport 1678 -j DROP\nCOMMIT\n")
    assert "10.1.0.1" not in right.run(["iptables-legacy", "-S"]).stdout
    assert "10.77.0.1" not in right.run(["nft", "list", "ruleset"]).stdout
    agrees(pair, {A: "drop", B: "drop", C: "accept"})
    assert {one["backend"] for one in ruleset(right)["rules"]} == {"iptables-legacy", "iptables-nft"}


def test_reading_makes_no_legacy_table(ns: Namespace) -> None:
    assert load(ns, IPT, "*filter\n-A INPUT -j ACCEPT\nCOMMIT\n")
    names = "/proc/net/ip_tables_names"
    before = ns.run(["cat", names]).stdout
    ruleset(ns)
    assert ns.run(["cat", names]).stdout == before == "filter\n"


def test_what_nft_hides_of_iptables_is_read_and_paired_with_the_handles(pair: Any) -> None:
    right = pair[1]
    assert load(right, IPSET, "create s hash:ip\nadd s 10.77.0.1\n")
    text = "*filter\n-A INPUT -j LOG\n-A INPUT -p udp -m multiport --dports 53,1678 -m set --match-set s src -j DROP\nCOMMIT\n"
    assert load(right, ["iptables-nft-restore"], text)
    listed = right.json(["nft", "-j", "-a", "list", "table", "ip", "filter"])["nftables"]
    rules = [one["rule"] for one in listed if "rule" in one]
    assert '"name": "set"' in json.dumps(rules) and '"s"' not in json.dumps(rules), "the name of the set is lost"
    log, drop = [one for one in ruleset(right)["rules"] if one["chain"] == "INPUT"]
    assert (log["handle"], drop["handle"]) == tuple(one["handle"] for one in rules)
    assert {part.get("set") for part in drop["parts"]} >= {"s"}
    agrees(pair, {A: "drop", B: "accept"})


# --- 12 to 14


def test_iif_is_the_interface_and_iifname_its_name(pair: Any) -> None:
    left, right = pair
    for word, after in (("iif", "drop"), ("iifname", "accept")):
        right.run(["ip", "link", "set", "vb", "up"])
        assert load(
            right,
            NFT,
            f'flush ruleset\ntable inet f {{\nchain i {{ type filter hook input priority 0;\n{word} "vb" drop\n}}\n}}\n',
        )
        assert walk(right, A, interface="vb") == {A: "drop"}
        right.run(["ip", "link", "set", "vb", "down"])
        right.run(["ip", "link", "set", "vb", "name", "renamed"])
        right.run(["ip", "link", "set", "renamed", "up"])
        assert walk(right, A, interface="renamed") == {A: after}
        counted = right.run(["nft", "list", "ruleset"]).stdout
        assert ("renamed" in counted) == (word == "iif"), counted
        right.run(["ip", "link", "set", "renamed", "down"])
        right.run(["ip", "link", "set", "renamed", "name", "vb"])
    assert left.name


def test_elements_that_time_out_are_members_until_then(pair: Any) -> None:
    text = (
        "table ip f {\nset s { type ipv4_addr; flags timeout; elements = { 10.77.0.1 timeout 1h, 10.1.0.1 timeout 10ms }; }\n"
        "chain i { type filter hook input priority 0;\nip saddr @s drop\n}\n}\n"
    )
    right = pair[1]
    assert load(right, NFT, text)
    right.python(_WHEN, "10.1.0.1", "gone")
    agrees(pair, {A: "drop", B: "accept"})
    right.run(["nft", "add", "element", "ip", "f", "s", "{ 10.77.0.1 timeout 2h }"], check=False)
    agrees(pair, {A: "drop"})


def test_a_table_with_an_owner_is_read_like_any_other(pair: Any) -> None:
    right = pair[1]
    owner = subprocess.Popen(right.argv(["nft", "-i"]), stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    try:
        assert owner.stdin is not None
        owner.stdin.write("add table inet o { flags owner; }\nadd chain inet o i { type filter hook input priority 0; }\n")
        owner.stdin.write("add rule inet o i udp dport 1678 drop\n")
        owner.stdin.flush()
        right.python(_WHEN, "udp dport", "there")
        assert right.run(["nft", "delete", "table", "inet", "o"], check=False).returncode != 0
        agrees(pair, {A: "drop"})
    finally:
        owner.kill()
        owner.wait()


# --- pitfalls


def test_a_rule_between_two_of_one_verdict_cannot_be_jumped_over(pair: Any) -> None:
    rules = "*filter\n-A INPUT -s 10.1.0.1 -j DROP\n-A INPUT -s 10.1.0.0/16 -j ACCEPT\n-A INPUT -s 10.1.2.1 -j DROP\nCOMMIT\n"
    assert load(pair[1], IPT, rules)
    agrees(pair, {A: "accept", B: "drop", C: "accept"})


def test_negations_together_are_no_set(pair: Any) -> None:
    assert load(pair[1], IPT, "*filter\n-A INPUT ! -s 10.77.0.1 -j DROP\n-A INPUT ! -s 10.1.0.1 -j DROP\nCOMMIT\n")
    agrees(pair, {A: "drop", B: "drop", C: "drop"})


def test_return_and_goto_are_not_jump(pair: Any) -> None:
    rules = (
        "*filter\n:INPUT ACCEPT [0:0]\n:J - [0:0]\n:G - [0:0]\n-A INPUT -s 10.77.0.1 -j J\n-A INPUT -s 10.1.0.1 -g G\n"
        "-A INPUT -j DROP\n-A J -j RETURN\n-A G -p tcp -j DROP\nCOMMIT\n"
    )
    assert load(pair[1], IPT, rules)
    agrees(pair, {A: "drop", B: "accept", C: "drop"})


@pytest.mark.parametrize("how", ["icmp-port-unreachable", "icmp-admin-prohibited", "tcp-reset"])
def test_each_way_to_reject_is_kept(ns: Namespace, how: str) -> None:
    assert load(ns, IPT, f"*filter\n-A INPUT -p tcp -j REJECT --reject-with {how}\n-A INPUT -p tcp -j DROP\nCOMMIT\n")
    first, second = ruleset(ns)["rules"]
    assert first["verdict"]["kind"] == "reject" and how.split("-", 1)[1].split("-")[0] in first["verdict"]["detail"]
    assert second["verdict"] == {"kind": "drop"}


def test_sets_of_one_family_never_match_the_other(pair: Any) -> None:
    assert load(pair[1], IPSET, "create s hash:net family inet6\nadd s ::/1\nadd s 8000::/1\n")
    assert load(pair[1], IPSET, "create l list:set\nadd l s\n")
    assert not load(pair[1], IPT, "*filter\n-A INPUT -m set --match-set s src -j DROP\nCOMMIT\n")
    assert load(pair[1], IPT, "*filter\n-A INPUT -m set --match-set l src -j DROP\nCOMMIT\n")
    assert load(pair[1], IPT6, "*filter\n-A INPUT -p udp -m set --match-set s src -j DROP\nCOMMIT\n")
    agrees(pair, {A: "accept", "fd77::1": "drop"})


def test_a_rule_that_names_a_set_which_is_not_there_leaves_no_firewall(pair: Any) -> None:
    assert not load(pair[1], IPT, "*filter\n:INPUT DROP [0:0]\n-A INPUT -m set --match-set later src -j ACCEPT\nCOMMIT\n")
    assert ruleset(pair[1])["rules"] == []
    agrees(pair, {A: "accept"})


def test_a_new_rule_does_not_cut_a_connection_that_stands(pair: Any) -> None:
    right = pair[1]
    text = (
        "table inet f {\nchain i { type filter hook input priority 0;\nct state established accept\nudp dport 1678 drop\n}\n}\n"
    )
    assert load(right, NFT, text)
    said = right.python_json(_WALK, json.dumps(udp(A, state="established") + udp(A)))
    assert [one["verdict"] for one in said] == ["accept", "drop"]
    agrees(pair, {A: "drop"})


def test_an_address_that_nat_changed_is_what_later_rules_see(pair: Any) -> None:
    """What docker does: the packet for the host's own address is forwarded, and INPUT never sees it."""
    right = pair[1]
    rules = (
        "*nat\n-A PREROUTING -p udp --dport 1678 -j DNAT --to-destination 10.77.0.9\nCOMMIT\n"
        "*filter\n-A INPUT -p udp -s 10.77.0.1 -j DROP\n-A FORWARD -d 10.77.0.9 -s 10.1.0.1 -j DROP\nCOMMIT\n"
    )
    assert load(right, IPT, rules)
    right.run(["sysctl", "-qw", "net.ipv4.ip_forward=1"])
    right.run(["ip", "route", "replace", "10.1.0.1/32", "dev", "vb"])
    found = right.python_json(_WALK, json.dumps(udp(A, B)))
    assert [one["verdict"] for one in found] == ["accept", "drop"]
    assert found[0]["packet_after"]["daddr"] == "10.77.0.9" and "FORWARD" in found[1]["decided_by"]["where"]
    arrive(pair, A, B)
    counters = right.run(["iptables-legacy-save", "-c"]).stdout
    assert "[0:0] -A INPUT -s 10.77.0.1/32" in counters and "[0:0] -A FORWARD" not in counters
