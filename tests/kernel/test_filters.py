# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rules as objects of the journal: written in one step and put back, neighbours untouched. The tools' listings are witness."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.kernel.conftest import Namespace

pytestmark = pytest.mark.kernel

_RUN = """
import json, sys
from ansible_collections.netops.fleet.plugins.module_utils._safety import filters, objects
task = json.loads(sys.argv[1])
target = objects.Object(task["kind"], task["name"])
present = objects.capture(target)
if task["do"] == "put":
    before = filters.content_of(present)
    own = filters.own_of(before, task["content"])
    after = filters.state_of(task["content"], own)
    objects.put(target, after)
    now = objects.capture(target)
    print(json.dumps({"before": filters.state_of(before, own), "after": after, "took": objects.same(target, now, after)}))
else:
    known = {side: objects.same(target, present, task[side]) for side in ("before", "after")}
    objects.put(target, task["before"])
    print(json.dumps({"known": known, "took": objects.same(target, objects.capture(target), task["before"])}))
"""


def run(ns: Namespace, **task: Any) -> Any:
    import json

    return ns.python_json(_RUN, json.dumps(task))


def listed(ns: Namespace, *argv: str) -> str:
    return re.sub(
        r"\[\d+:\d+\] ?|# (Generated|Completed).*\n| packets \d+ bytes \d+| # handle \d+", "", ns.run(list(argv)).stdout
    )


RULES = """*filter
:INPUT ACCEPT [0:0]
:FORWARD DROP [0:0]
:DOCKER - [0:0]
-A INPUT -i lo -j ACCEPT
{more}
-A INPUT -j DOCKER
-A FORWARD -j DOCKER
-A DOCKER -d 172.17.0.2/32 -p tcp -m tcp --dport 80 -m comment --comment "it's \\"x\\"" -j ACCEPT
COMMIT
"""


@pytest.mark.parametrize("family", ["ip", "ip6"])
@pytest.mark.parametrize("backend", ["nft", "legacy"])
def test_iptables_there_and_back(ns: Namespace, backend: str, family: str) -> None:
    six = "6" if family == "ip6" else ""
    addresses = [f"fd00::{n}/128" if six else f"10.0.0.{n}/32" for n in range(1, 9)]
    ours = [f"-A INPUT -s {one} -j DROP" for one in addresses]
    text = RULES.replace("{more}", "\n".join(ours)).replace("172.17.0.2/32", "fd17::2/128" if six else "172.17.0.2/32")
    ns.run([f"ip{six}tables-{backend}-restore"], input=text)
    save = f"ip{six}tables-{backend}-save"
    original = listed(ns, save)
    new = f"[7:420] -A INPUT -s {addresses[0]} -p tcp -m tcp --dport 22 -j DROP"
    wanted = ["[0:0] -A INPUT -i lo -j ACCEPT", new, "[0:0] -A INPUT -j DOCKER"]
    name = f"iptables-{backend} {family} filter INPUT"
    done = run(ns, do="put", kind="iptables", name=name, content={"chains": {"INPUT": wanted}})
    assert done["took"]
    now = ns.run([save, "-c"]).stdout
    if (backend, family) != ("nft", "ip6"):  # ip6tables-nft-restore 1.8.9 takes counters and forgets them
        assert wanted[1] in now
    assert [line for line in listed(ns, save).splitlines() if "DOCKER" in line or line[0] == ":"] == [
        line for line in original.splitlines() if "DOCKER" in line or line[0] == ":"
    ]
    # Somebody else adds rules beside ours; they stay where they are.
    ns.run([f"ip{six}tables-{backend}", "-I", "INPUT", "1", "-p", "udp", "-j", "ACCEPT"])
    ns.run([f"ip{six}tables-{backend}", "-A", "INPUT", "-p", "icmp" if not six else "ipv6-icmp", "-j", "ACCEPT"])
    back = run(ns, do="back", kind="iptables", name=name, before=done["before"], after=done["after"])
    assert back == {"known": {"before": False, "after": True}, "took": True}
    last = "ipv6-icmp" if six else "icmp"
    kept = [
        line
        for line in listed(ns, save).splitlines()
        if line not in ("-A INPUT -p udp -j ACCEPT", f"-A INPUT -p {last} -j ACCEPT")
    ]
    assert kept == original.splitlines()
    lines = [line for line in listed(ns, save).splitlines() if line.startswith("-A INPUT")]
    assert lines[0] == "-A INPUT -p udp -j ACCEPT" and lines[-1] == f"-A INPUT -p {last} -j ACCEPT"


def test_iptables_chain_comes_and_goes(ns: Namespace) -> None:
    ns.run(["iptables-nft", "-A", "INPUT", "-j", "ACCEPT"])
    name = "iptables-nft ip filter OWN INPUT"
    content = {"chains": {"OWN": ["-A OWN -s 10.0.0.1/32 -j DROP"], "INPUT": ["-A INPUT -j OWN", "-A INPUT -j ACCEPT"]}}
    done = run(ns, do="put", kind="iptables", name=name, content=content)
    assert done["took"] and "-A INPUT -j OWN" in listed(ns, "iptables-nft-save")
    assert run(ns, do="back", kind="iptables", name=name, before=done["before"], after=done["after"])["took"]
    assert "OWN" not in listed(ns, "iptables-nft-save")


NFT = """table inet guard {
\tset known { type ipv4_addr; elements = { 192.0.2.1 } }
\tchain other { ip saddr 10.9.9.9 drop comment "theirs"; }
\tchain input {
\t\ttype filter hook input priority 0; policy accept;
\t\tct state established,related accept
MORE
\t\tjump other
\t}
}
"""


def test_nft_there_and_back(ns: Namespace) -> None:
    drops = [f'ip saddr 10.0.0.{n} counter packets {n} bytes {n} drop comment "t {n}"' for n in range(1, 9)]
    ns.run(["nft", "-f", "-"], input=NFT.replace("MORE", "\n".join(f"\t\t{one}" for one in drops)))
    original = listed(ns, "nft", "list", "ruleset")
    sets = {
        "one": {
            "type": "ipv4_addr",
            "interval": True,
            "elements": [["10.0.0.0/30", "it"], ["10.0.0.9-10.0.0.12", None], ["10.7.0.0", None]],
        },
        "pairs": {"type": "ipv4_addr . inet_service", "interval": False, "elements": [["10.0.0.1 . 22", None]]},
    }
    wanted = [
        "ct state established,related accept",
        "ip saddr @one counter packets 36 bytes 36 drop",
        "ip saddr . tcp dport @pairs accept",
        "jump other",
    ]
    name = "inet guard input @one @pairs"
    done = run(ns, do="put", kind="nft", name=name, content={"chains": {"input": wanted}, "sets": sets})
    assert done["took"]
    now = ns.run(["nft", "list", "chain", "inet", "guard", "input"]).stdout
    assert "ip saddr @one counter packets 36 bytes 36 drop" in now and "10.0.0.1 " not in now
    assert 'drop comment "theirs"' in listed(ns, "nft", "list", "ruleset")
    ns.run(["nft", "insert", "rule", "inet", "guard", "input", "udp", "dport", "53", "accept"])
    back = run(ns, do="back", kind="nft", name=name, before=done["before"], after=done["after"])
    assert back == {"known": {"before": False, "after": True}, "took": True}
    assert listed(ns, "nft", "list", "ruleset").replace("\t\tudp dport 53 accept\n", "") == original


def test_a_text_that_nft_refuses_changes_nothing(ns: Namespace) -> None:
    ns.run(["nft", "-f", "-"], input=NFT.replace("MORE", ""))
    original = listed(ns, "nft", "list", "ruleset")
    wanted = {"chains": {"input": ["ip saddr 10.0.0.1 drop", "ip saddr nonsense drop"]}, "sets": {}}
    with pytest.raises(AssertionError, match="nonsense"):
        run(ns, do="put", kind="nft", name="inet guard input", content=wanted)
    assert listed(ns, "nft", "list", "ruleset") == original
