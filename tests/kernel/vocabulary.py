# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every word of the packet filters' languages, alone, against the kernel's own counters.

One chain per hook holds a rule for each condition, which does nothing but count; packets of every protocol are sent. What the
collection read of a rule says True, False or "may" about each packet, and the counter says what was so.

Run as ``python -m tests.kernel.vocabulary nft | iptables-nft | iptables-legacy | mixed``: prints
{refused: [rule], told: [[rule, packet, kernel, walk]]} as JSON; as ``targets-nft``, ``targets-legacy``, ``targets-statements``:
{told: [[target, result, ...]]}.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

from ansible_collections.netops.fleet.plugins.module_utils._diagnosis import world
from ansible_collections.netops.fleet.plugins.module_utils._firewall import matching, model
from tests.kernel import differential, words
from tests.kernel.words import IPSETS, NFT_SETS, Entry

#: hook -> where packets that meet it go
_GOALS = {
    "input": {4: "10.77.0.2", 6: "fd77::2"},
    "forward": {4: "10.78.0.5", 6: "fd78::5"},
    "output": {4: "10.78.0.5", 6: "fd78::5"},
}
_SENDERS = {4: ("10.77.0.1", "10.77.0.5", "10.91.2.3"), 6: ("fd77::1", "fd77::5", "fd91::3")}
_CHAINS = {"INPUT": "input", "FORWARD": "forward", "OUTPUT": "output"}


def packets(hook: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for family in (4, 6):
        echo = differential.ICMP if family == 4 else differential.ICMPV6
        for place, (proto, sport, dport, flags, tos) in enumerate(
            (
                (differential.TCP, 20000, 1678, 0x02, 0),
                (differential.TCP, 1678, 20001, 0xC2, 0x03),
                (differential.TCP, 80, 443, 0x12, 0xB8),
                (differential.TCP, 20002, 22, 0x10, 0),
                (differential.UDP, 20003, 1678, 0, 0x20),
                (differential.UDP, 53, 20004, 0, 0),
                (differential.SCTP, 20005, 1678, 0, 0),
                (echo, 20006, 0, 0, 0x08),
            )
        ):
            if hook == "output" and (proto == differential.SCTP or flags not in (0, 2)):
                continue
            found.append(
                {
                    "way": "out" if hook == "output" else "in", "family": family, "proto": proto,
                    "saddr": None if hook == "output" else _SENDERS[family][place % 3], "daddr": _GOALS[hook][family],
                    "sport": sport, "dport": dport, "flags": flags, "tos": 0 if hook == "output" else tos,
                    "mark": (0, 1, 0x12)[place % 3] if hook == "output" else 0,
                }
            )  # fmt: skip
    return found


def _load_nft(net: differential.Net) -> list[str]:
    """Load what this kernel and this nft take; returns the rules that they refuse."""
    refused = []
    for hook in _GOALS:
        # Behind everything else of its hook, so that each rule sees the packet as it ends.
        head = f"table inet t_{hook} {{\n{NFT_SETS}\nchain c {{ type filter hook {hook} priority 300; }}\n}}\n"
        net.must("nft", "-f", "-", text=head)

        def command(some: list[str], hook: str = hook) -> tuple[list[str], str]:
            return ["nft", "-f", "-"], "".join(f"add rule inet t_{hook} c {one} counter\n" for one in some)

        refused += _load(words.nft(hook), command, net)
    return refused


def _load_iptables(net: differential.Net, variant: str) -> list[str]:
    refused = []
    for word, number in (("iptables", 4), ("ip6tables", 6)):
        net.load(["ipset", "-exist", "restore"], IPSETS[number])
        rules = [f"-A {chain} {rule}" for chain, hook in _CHAINS.items() for rule in words.iptables(number, hook)]
        refused += _load(rules, _restore(f"{word}-{variant}-restore", "filter"), net)
    return refused


def _restore(tool: str, table: str) -> Callable[[list[str]], tuple[list[str], str]]:
    return lambda some: ([tool, "--noflush"], "\n".join([f"*{table}", *some, "COMMIT", ""]))


def _load(rules: list[str], command: Callable[[list[str]], tuple[list[str], str]], net: differential.Net) -> list[str]:
    """All at once, or the halves each by itself: not every tool names the line that the kernel refused."""
    argv, text = command(rules)
    if net.run(argv, text).returncode == 0:
        return []
    if len(rules) == 1:
        return rules
    half = len(rules) // 2
    return _load(rules[:half], command, net) + _load(rules[half:], command, net)


def _answer(rule: model.Rule, decision: Any, sets: matching.Sets) -> bool | None:
    answer: bool | None = True
    for part in rule.parts:
        one: bool | None = None
        if isinstance(part, model.Match):
            one = matching.matches(part, rule, decision.packet, sets)
        elif isinstance(part, model.Action):
            continue
        if one is False:
            return False
        answer = answer if one else None
    return answer


def run(name: str) -> dict[str, Any]:
    net = differential.Net()
    refused: list[str] = []
    told: list[list[Any]] = []
    try:
        net.open()
        refused = _load_nft(net) if name == "nft" else _load_iptables(net, "legacy" if name == "iptables-legacy" else "nft")
        if name == "mixed":  # a rule of nft in a table of iptables: it can only be read through nft, which hides much
            for family in ("ip", "ip6"):
                for chain in _CHAINS:
                    net.must("nft", f"add rule {family} filter {chain} ct state {{ new, established }} counter")
        host = world.read(programs=False)
        walker = host.walker()
        rules = {differential.place_of(rule): rule for rule in host.ruleset.rules}
        after = differential.counters()
        for hook in _GOALS:
            for number, spec in enumerate(packets(hook)):
                spec["from"] = spec["saddr"] or ("10.78.0.2" if spec["family"] == 4 else "fd78::2")
                decision = (walker.incoming if spec["way"] == "in" else walker.outgoing)(differential.as_packet(spec))
                before = after
                seen = net.send(spec, 0x02000000 + number + 64 * len(hook))
                after = differential.counters()
                place = "local" if hook == "input" else "right"
                assert seen[place], (hook, spec, seen)
                for key, rule in rules.items():
                    if hook not in (rule.table.partition("_")[2], rule.chain.lower()) or key not in after:
                        continue
                    if rule.family not in ("inet", "ip" if spec["family"] == 4 else "ip6"):
                        continue
                    hit = after[key] - before.get(key, 0)
                    assert hit in (0, 1), (rule.text, hit)
                    told.append([rule.text, f"{hook} {spec}", bool(hit), _answer(rule, decision, walker.chains.sets)])
    finally:
        net.close()
    return {"refused": refused, "told": told, "gaps": [gap.to_dict() for gap in host.gaps]}


def _load_targets(net: differential.Net, variant: str) -> list[Entry]:
    loaded: list[Entry] = []
    for number, word in ((4, "iptables"), (6, "ip6tables")):
        net.load(["ipset", "-exist", "restore"], IPSETS[number])
        for table in ("raw", "mangle", "filter"):
            wanted = {"\n".join(one.rules): one for one in words.targets() if (one.family, one.table) == (number, table)}
            refused = _load(list(wanted), _restore(f"{word}-{variant}-restore", table), net)
            loaded += [one for text, one in wanted.items() if text not in refused]
    return loaded


def _load_statements(net: differential.Net) -> list[Entry]:
    refused, _text = net.load(["nft", "-f", "-"], f"table inet words {{\n{words.STATEMENT_CHAINS}}}\n")
    assert not refused, refused
    wanted = {"\n".join(one.rules): one for one in words.statements()}
    left_out = _load(list(wanted), lambda some: (["nft", "-f", "-"], "\n".join([*some, ""])), net)
    return [one for text, one in wanted.items() if text not in left_out]


def run_targets(variant: str) -> dict[str, Any]:
    """Every target, or statement of nft, that this kernel has, on a port of its own, with what stands behind it."""
    net = differential.Net()
    told: list[list[Any]] = []
    try:
        net.open()
        loaded = _load_statements(net) if variant == "statements" else _load_targets(net, variant)
        host = world.read(programs=False)
        walker = host.walker()
        after = differential.counters()
        for entry in loaded:
            goal = "forward" if entry.chain == "FORWARD" else "input"
            spec: dict[str, Any] = {
                "way": "in", "family": entry.family, "proto": differential.TCP if entry.tcp else differential.UDP, "sport": 20000,
                "saddr": _SENDERS[entry.family][1], "daddr": _GOALS[goal][entry.family], "dport": entry.port,
                "flags": 0xC2 if entry.target == "ECN" else 0x02, "tos": 0xB8, "mark": 0,
            }  # fmt: skip
            decision = walker.incoming(differential.as_packet(spec))
            before = after
            seen = net.send(spec, 0x03000000 + entry.port)
            after = differential.counters()
            hits = {place for place, count in after.items() if count > before.get(place, 0)}
            if entry.target in ("TEE", "dup"):
                seen["left"] = None  # the copy
            told.append(
                [entry.target, differential.judge(spec, decision, seen, hits), entry.rules, decision.verdict, decision.why]
            )
    finally:
        net.close()
    return {"told": told}


def main(name: str) -> None:
    home = os.open("/proc/self/ns/net", os.O_RDONLY)
    try:
        print(json.dumps(run_targets(name.partition("-")[2]) if name.startswith("targets-") else run(name)))
    finally:
        differential._libc.setns(home, 0x40000000)
        for one in differential._ENDS:
            subprocess.run(["ip", "netns", "del", one], check=False)


if __name__ == "__main__":
    main(sys.argv[1])
