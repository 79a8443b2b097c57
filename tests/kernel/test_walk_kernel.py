# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The walk against the kernel: real rules of every back end, real connections, and the printed fix carried out."""

from __future__ import annotations

from typing import Any

import pytest

pytestmark = pytest.mark.kernel

_SERVER = """
import socket, threading
servers = [socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=64) for port in (1678, 1679)]
def serve(server):
    while True:
        server.accept()[0].close()
threads = [threading.Thread(target=serve, args=(server,)) for server in servers]
for thread in threads:
    thread.start()
print("ready", flush=True)
"""

# A dropped SYN is asked again after a second: one that is not answered before was dropped.
_CLIENT = """
import json, socket, sys, threading
said = {}
def ask(address):
    sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
    sock.settimeout(0.7)
    try:
        sock.connect((address, 1678))
        said[address] = "accept"
    except TimeoutError:
        said[address] = "drop"
    except OSError:
        said[address] = "reject"
    sock.close()
threads = [threading.Thread(target=ask, args=(address,)) for address in sys.argv[1:]]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(json.dumps(said))
"""

_JUDGE = """
import json
from ansible_collections.netops.fleet.plugins.module_utils._diagnosis import collect, facts, firewall
params = {name: spec.get("default") for name, spec in collect.ARGUMENTS.items()}
peers = [{"host": "left", "address": "10.77.0.1"}, {"host": "left", "address": "fd77::1"}]
params.update(target="tcp/1678", window=0, peers=peers)
evidence = collect.collect(collect.Options.from_params(params))
walked = firewall.verdicts(facts.Facts(evidence))
print(json.dumps({
    "verdicts": {flow.packet.daddr: flow.decision.verdict for flow in walked.flows},
    "why": [flow.decision.why for flow in walked.flows],
    "findings": evidence["findings"],
    "coverage": [entry for entry in evidence["coverage"] if entry["section"] == "firewall"],
}))
"""

V4, V6 = "10.77.0.2", "fd77::2"

_INTO_BRIDGE = """
ip link add br0 type bridge
ip link set br0 up
ip addr flush dev vb scope global
ip link set vb master br0
ip addr add 10.77.0.2/24 dev br0
ip -6 addr add fd77::2/64 dev br0 nodad
"""

#: (name, commands as stdin of a tool, wanted verdict per address)
NFT = ["nft", "-f", "-"]
CASES: list[tuple[str, list[tuple[list[str], str]], str, str]] = [
    ("nothing", [], "accept", "accept"),
    (
        "inet input drop by port",
        [(NFT, "table inet f { chain i { type filter hook input priority 0; tcp dport 1678 counter drop; } }")],
        "drop",
        "drop",
    ),
    ("ip only", [(NFT, "table ip f { chain i { type filter hook input priority 0; tcp dport 1678 drop; } }")], "drop", "accept"),
    (
        "reject with reset",
        [(NFT, "table inet f { chain i { type filter hook input priority 0; tcp dport 1678 reject with tcp reset; } }")],
        "reject",
        "reject",
    ),
    (
        "policy drop, stateful, other ports open",
        [
            (
                NFT,
                "table inet f { chain i { type filter hook input priority 0; policy drop; "
                "ct state vmap { established : accept, related : accept, invalid : drop }\n iif lo accept\n"
                "icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept\n tcp dport { 22, 80 } accept; } }",
            )
        ],
        "drop",
        "drop",
    ),
    (
        "policy drop, port open",
        [
            (
                NFT,
                "table inet f { chain i { type filter hook input priority 0; policy drop; "
                "ct state established,related accept\n icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept\n"
                "tcp dport 1600-1700 accept; } }",
            )
        ],
        "accept",
        "accept",
    ),
    (
        "verdict map into a chain",
        [
            (
                NFT,
                "table inet f { chain bad { counter drop; }\n chain i { type filter hook input priority 0; "
                "tcp dport vmap { 22 : accept, 1000-2000 : jump bad }; } }",
            )
        ],
        "drop",
        "drop",
    ),
    (
        "named verdict map",
        [
            (
                NFT,
                "table inet f { map m { type inet_service : verdict; elements = { 1678 : drop } }\n"
                "chain i { type filter hook input priority 0; tcp dport vmap @m; } }",
            )
        ],
        "drop",
        "drop",
    ),
    (
        "named interval set of senders",
        [
            (
                NFT,
                "table inet f { set s { type ipv4_addr; flags interval; elements = { 10.77.0.0/29, 192.0.2.1 } }\n"
                "chain i { type filter hook input priority 0; ip saddr @s tcp dport 1678 drop; } }",
            )
        ],
        "drop",
        "accept",
    ),
    (
        "concatenation",
        [
            (
                NFT,
                "table ip f { set s { type ipv4_addr . inet_service; elements = { 10.77.0.1 . 1678 } }\n"
                "chain i { type filter hook input priority 0; ip saddr . tcp dport @s drop; } }",
            )
        ],
        "drop",
        "accept",
    ),
    (
        "goto does not come back",
        [
            (
                NFT,
                "table inet f { chain side { tcp dport 22 accept; }\n chain i { type filter hook input priority 0; policy drop; "
                "icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept\n goto side\n accept; } }",
            )
        ],
        "drop",
        "drop",
    ),
    (
        "jump comes back",
        [
            (
                NFT,
                "table inet f { chain side { tcp dport 22 accept\n return; }\n"
                "chain i { type filter hook input priority 0; policy drop; jump side\n accept; } }",
            )
        ],
        "accept",
        "accept",
    ),
    (
        "an accept does not stop a later chain",
        [
            (
                NFT,
                "table inet a { chain i { type filter hook input priority -10; tcp dport 1678 accept; } }\n"
                "table inet b { chain i { type filter hook input priority 10; tcp dport 1678 drop; } }",
            )
        ],
        "drop",
        "drop",
    ),
    (
        "raw prerouting",
        [(NFT, "table ip r { chain p { type filter hook prerouting priority raw; tcp dport 1678 drop; } }")],
        "drop",
        "accept",
    ),
    (
        "netdev ingress",
        [(NFT, "table netdev n { chain g { type filter hook ingress device vb priority 0; tcp dport 1678 drop; } }")],
        "drop",
        "drop",
    ),
    (
        "netdev ingress of another interface",
        [(NFT, "table netdev n { chain g { type filter hook ingress device lo priority 0; tcp dport 1678 drop; } }")],
        "accept",
        "accept",
    ),
    (
        "redirect in prerouting moves the port past the rule",
        [
            (
                NFT,
                "table inet n { chain p { type nat hook prerouting priority dstnat; tcp dport 1678 redirect to :1679; }\n"
                "chain i { type filter hook input priority 0; tcp dport 1679 reject with tcp reset; } }",
            )
        ],
        "reject",
        "reject",
    ),
    (
        "redirect, and a policy: the fix names the port the packet has by then",
        [
            (
                NFT,
                "table inet n { chain p { type nat hook prerouting priority dstnat; tcp dport 1678 redirect to :1679; }\n"
                "chain i { type filter hook input priority 0; policy drop; "
                "icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept; } }",
            )
        ],
        "drop",
        "drop",
    ),
    (
        "accepts for forwarded ports and replies do not let others in",
        [
            (
                NFT,
                "table inet f { chain p { type filter hook prerouting priority 10; "
                "meta nfproto ipv6 fib saddr . mark . iif oif missing drop; }\n"
                "chain i { type filter hook input priority 10; ct state { established, related } accept\n"
                "ct status dnat accept\n meta l4proto ipv6-icmp accept\n tcp dport 22 accept\n"
                "meta l4proto tcp reject with tcp reset; } }",
            )
        ],
        "reject",
        "reject",
    ),
    (
        "the way back is asked, and there is one",
        [
            (
                NFT,
                "table inet f { chain p { type filter hook prerouting priority raw; fib saddr . iif oif missing drop; } }",
            )
        ],
        "accept",
        "accept",
    ),
    (
        "bridge table under the interface with the address",
        [
            (["sh", "-es"], _INTO_BRIDGE),
            (NFT, "table bridge b { chain i { type filter hook input priority 0; tcp dport 1678 counter drop; } }"),
        ],
        "drop",
        "drop",
    ),
    (
        "ingress of the only port of the bridge with the address",
        [
            (["sh", "-es"], _INTO_BRIDGE),
            (NFT, "table netdev n { chain g { type filter hook ingress device vb priority 0; tcp dport 1678 drop; } }"),
        ],
        "drop",
        "drop",
    ),
    (
        "SYN by flags mask",
        [(NFT, "table inet f { chain i { type filter hook input priority 0; tcp flags & (fin|syn|rst|ack) == syn drop; } }")],
        "drop",
        "drop",
    ),
    (
        "mark set early, dropped late",
        [
            (
                NFT,
                "table inet f { chain p { type filter hook prerouting priority mangle; tcp dport 1678 meta mark set 0x7; }\n"
                "chain i { type filter hook input priority 0; meta mark 0x7 drop; } }",
            )
        ],
        "drop",
        "drop",
    ),
    (
        "iptables-nft",
        [(["iptables-nft-restore"], "*filter\n:INPUT ACCEPT [0:0]\n-A INPUT -p tcp -m tcp --dport 1678 -j DROP\nCOMMIT\n")],
        "drop",
        "accept",
    ),
    (
        "iptables-nft, user chain and multiport, both families",
        [
            (
                [tool],
                "*filter\n:INPUT ACCEPT [0:0]\n:MINE - [0:0]\n-A INPUT -p tcp -j MINE\n"
                '-A MINE -p tcp -m multiport --dports 22,1600:1700 -m comment --comment "two words" '
                "-j REJECT --reject-with tcp-reset\nCOMMIT\n",
            )
            for tool in ("iptables-nft-restore", "ip6tables-nft-restore")
        ],
        "reject",
        "reject",
    ),
    (
        "iptables-legacy",
        [
            (
                ["iptables-legacy-restore"],
                "*filter\n:INPUT ACCEPT [0:0]\n-A INPUT -i vb -p tcp -m tcp --dport 1678 -j DROP\nCOMMIT\n",
            )
        ],
        "drop",
        "accept",
    ),
    (
        "ip6tables-legacy mangle",
        [
            (
                ["ip6tables-legacy-restore"],
                "*mangle\n:PREROUTING ACCEPT [0:0]\n-A PREROUTING -p tcp -m tcp --dport 1678 -j DROP\nCOMMIT\n",
            )
        ],
        "accept",
        "drop",
    ),
    (
        "ipset with nomatch in iptables-legacy",
        [
            (["ipset", "restore"], "create bl hash:net\nadd bl 10.77.0.0/16\nadd bl 10.77.0.0/24 nomatch\n"),
            (["iptables-legacy-restore"], "*filter\n:INPUT ACCEPT [0:0]\n-A INPUT -m set --match-set bl src -j DROP\nCOMMIT\n"),
        ],
        "accept",
        "accept",
    ),
    (
        "ipset hash:ip,port in iptables-nft",
        [
            (["ipset", "restore"], "create bl hash:ip,port\nadd bl 10.77.0.1,tcp:1678\n"),
            (["iptables-nft-restore"], "*filter\n:INPUT ACCEPT [0:0]\n-A INPUT -m set --match-set bl src,dst -j DROP\nCOMMIT\n"),
        ],
        "drop",
        "accept",
    ),
    (
        "two rules in the way, legacy and nft",
        [
            (["iptables-legacy-restore"], "*filter\n:INPUT ACCEPT [0:0]\n-A INPUT -p tcp -m tcp --dport 1678 -j DROP\nCOMMIT\n"),
            (NFT, "table inet f { chain i { type filter hook input priority 10; tcp dport 1678 drop; } }"),
        ],
        "drop",
        "drop",
    ),
]


@pytest.fixture
def served(pair: Any, wait_until: Any) -> Any:
    """(client namespace, server namespace): tcp/1678 is served on both families."""
    left, right = pair
    right.start_python(_SERVER)
    # A new link needs a moment before neighbour discovery works.
    wait_until(lambda: set(_connect(left).values()) == {"accept"})
    return left, right


def _lines(text: str) -> str:
    """nft wants a line's end behind each block that is written in one line here."""
    return text.replace("; }", ";\n}\n").replace("} }", "}\n}\n")


def _connect(left: Any) -> dict[str, str]:
    said: dict[str, str] = left.python_json(_CLIENT, V4, V6)
    return said


@pytest.mark.parametrize(("commands", "want4", "want6"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_verdict_and_fix_agree_with_the_kernel(
    served: Any, commands: list[tuple[list[str], str]], want4: str, want6: str
) -> None:
    left, right = served
    for argv, text in commands:
        right.run(argv, input=_lines(text))
    real = _connect(left)
    assert real == {V4: want4, V6: want6}, "the case itself is not what it says"
    told = right.python_json(_JUDGE)
    assert told["verdicts"] == real, told
    stopping = [one for one in told["findings"] if one["id"] == "firewall-drops-target"]
    assert bool(stopping) == ((want4, want6) != ("accept", "accept"))
    # Each finding is complete in itself: a rule that stands behind two others is named by both, and removed once.
    for line in dict.fromkeys(line for finding in stopping for line in finding["fix"]):
        right.run(["sh", "-c", line])
    assert _connect(left) == {V4: "accept", V6: "accept"}, stopping


def test_a_rule_without_static_meaning_is_not_guessed(served: Any) -> None:
    _left, right = served
    rule = "tcp dport 1678 limit rate 1/minute drop"
    right.run(NFT, input=_lines(f"table inet f {{ chain i {{ type filter hook input priority 0; {rule}; }} }}"))
    told = right.python_json(_JUDGE)
    assert set(told["verdicts"].values()) == {"unknown"}
    assert all("limit rate 1/minute" in why for why in told["why"]), told["why"]
    assert not [one for one in told["findings"] if one["id"] == "firewall-drops-target"]
