# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The kernel before and after firewall_consolidate: random rules, the same packets, before, after, and once it was taken back.

The rules are those of the comparison of packet_verdict, with runs of rules that differ in an address or a port among them. Rules
with a state of their own (limit, quota) or by chance are left out, because the second packet meets another one.

Run as ``python -m tests.kernel.fold_differential FIRST COUNT PACKETS``; prints one JSON list.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ansible_collections.netops.fleet.plugins.module_utils._firewall import apply
from ansible_collections.netops.fleet.plugins.module_utils._firewall.consolidate import PlanError
from ansible_collections.netops.fleet.plugins.module_utils._safety import act
from tests.kernel import consolidate, differential, rulesets

_ADDRESS = re.compile(r"(?<![\w.:])(?:\d+\.\d+\.\d+\.\d+|fd[0-9a-f:]+|2001:db8::[0-9a-f]*)(?:/\d+)?(?![\w.:/-])")
_PORT = re.compile(r"(dport )(\d+)(?![\d-])|(--dport )(\d+)(?![\d:])")

#: Rules that decide otherwise the second time, or by chance.
_STATEFUL = ("limit", "quota", "numgen", "@seen", "ct count", "statistic", "connlimit", "recent", "hashlimit", "meter", "jhash")


class Maker(rulesets.Maker):
    """One random case in which many rules have brothers."""

    def brothers(self, rule: str, form: str) -> str:
        if any(word in rule for word in _STATEFUL):
            return "counter" if form == "nft" else rule[: rule.index(" ", 3)] + " -j RETURN"
        if "{" in rule or "@" in rule or not self.chance(0.5):
            return rule
        found = [rule]
        for _ in range(self.r.randint(1, 6)):
            if self.chance(0.7):
                other = _ADDRESS.sub(lambda hit: self.like(hit[0], form), rule, count=1)
            else:
                other = _PORT.sub(lambda hit: f"{hit[1] or hit[3]}{self.one((*rulesets.PORTS, 2500, 81, 82))}", rule, count=1)
            found.append(other)
        return "\n".join(found)

    def like(self, text: str, form: str) -> str:
        family = 6 if ":" in text else 4
        pool = (*rulesets.SADDR[family], *rulesets.DADDR[family], *rulesets.PREFIXES[family])
        return str(self.one(pool))

    def nft_match(self, table: str, hook: str | None) -> str:
        return self.settled(lambda: super(Maker, self).nft_match(table, hook))

    def ipt_match(self, family: int, chain: str, sets: list[tuple[str, str]], *more: Any) -> str:
        return self.settled(lambda: super(Maker, self).ipt_match(family, chain, sets, *more))

    @staticmethod
    def settled(make: Callable[[], str]) -> str:
        while True:
            found = make()
            if not any(word in found for word in _STATEFUL):
                return found

    def nft_rule(self, table: str, hook: str | None, chains: list[str], nat: bool = False) -> str:
        return self.brothers(super().nft_rule(table, hook, chains, nat), "nft")

    def ipt_rule(self, table: str, chain: str, family: int, users: list[str], sets: list[tuple[str, str]]) -> str:
        return self.brothers(super().ipt_rule(table, chain, family, users, sets), "iptables")


def _outcome(seen: dict[str, Any]) -> dict[str, Any]:
    """Where a packet came out and as what; its own port and number left out, which differ from round to round."""
    kept: dict[str, Any] = {"answer": seen["answer"], "error": seen["error"]}
    for place in ("local", "left", "right"):
        kept[place] = None if seen[place] is None else {key: seen[place].get(key) for key in ("saddr", "daddr", "dport")}
    return kept


def _round(net: differential.Net, packets: list[dict[str, Any]], number: int) -> list[dict[str, Any]]:
    found = []
    for at, spec in enumerate(packets):
        net.fence()
        spec = {**spec, "sport": 30000 + 1000 * number + at}  # rules of the generator know ports near 20000
        spec["from"] = spec["saddr"] or ("0.0.0.0" if spec["family"] == 4 else "fd78::2")
        found.append(_outcome(net.send(spec, (number + 1) << 24 | at)))
    return found


def _listing() -> str:
    text = ""
    for argv in (["nft", "list", "ruleset"], ["iptables-legacy-save"], ["ip6tables-legacy-save"]):
        text += subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    return re.sub(r"\bcounter packets \d+ bytes \d+", "counter", consolidate.plain(text))


def case(seed: int, packets: int) -> dict[str, Any]:
    """{seed, result: same | nothing | refused | wrong, before, after: rules of the chains that changed}."""
    made = Maker(seed).make(packets)
    net = differential.Net()
    try:
        net.open()
        for name, value in made.sysctls.items():
            differential._write(name.replace(".", "/"), value)
        for argv, text in made.commands:
            refused, _text = net.load(list(argv), text)
            if refused:
                return {"seed": seed, "result": "refused", "why": refused[:300]}
        with tempfile.TemporaryDirectory() as folder:
            return _consolidated(seed, net, made.packets, Path(folder) / "state")
    finally:
        net.close()


def _rounds(
    net: differential.Net, packets: list[dict[str, Any]], params: dict[str, Any], path: str, folder: Path, first: int = 0
) -> list[tuple[dict[str, Any], ...]]:
    """What became of each packet before, after, and after the way back."""
    root = str(folder.parent / "root")
    before = _round(net, packets, first)
    done = apply.run({**params, "state": "applied", "path": path}, False, str(folder), root)
    after = _round(net, packets, first + 1)
    act.run({"state": "rolled_back", "change": done["change"], "owner": None, "force": False}, False, str(folder))
    return list(zip(before, after, _round(net, packets, first + 2)))


def _consolidated(seed: int, net: differential.Net, packets: list[dict[str, Any]], folder: Path) -> dict[str, Any]:
    params = {**consolidate.DEFAULTS, "minimum": 2, "order": seed % 3 == 0}
    planned = apply.run(params, False, str(folder), str(folder.parent / "root"))
    found = {"seed": seed, "notes": planned["notes"], **planned["summary"]}
    if not planned["summary"]["sets"] and planned["summary"]["rules_before"] == planned["summary"]["rules_after"]:
        return {**found, "result": "nothing"}
    _round(net, packets, 9)  # what packets leave behind (connections, marks of theirs) is there before the first look
    listing = _listing()
    rounds = _rounds(net, packets, params, planned["path"], folder)
    wrong = [at for at, seen in enumerate(rounds) if not seen[0] == seen[1] == seen[2]]
    if wrong and all({**seen[0], "answer": 0} == {**seen[1], "answer": 0} == {**seen[2], "answer": 0} for seen in rounds):
        # The kernel answers for a missing route five times in a row and then once a second (ip_error): ask those again, later.
        time.sleep(6)
        some = [packets[at] for at in wrong]
        rounds = _rounds(net, some[:1], params, planned["path"], folder, 3)
        wrong, packets = [at for at, seen in enumerate(rounds) if not seen[0] == seen[1] == seen[2]], some
    if wrong:
        return {**found, "result": "wrong", "packet": packets[wrong[0]], "seen": rounds[wrong[0]]}
    if _listing() != listing:
        return {**found, "result": "wrong", "why": "the rules are not as they were", "seen": [listing, _listing()]}
    return {**found, "result": "same"}


def main(first: int, count: int, packets: int) -> None:
    home = os.open("/proc/self/ns/net", os.O_RDONLY)
    os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[0]})
    results = []
    try:
        for seed in range(first, first + count):
            try:
                results.append(case(seed, packets))
            except PlanError as error:
                results.append({"seed": seed, "result": "refused", "why": str(error)})
            except Exception as error:
                results.append({"seed": seed, "result": "wrong", "why": f"{type(error).__name__}: {error}"})
            differential._libc.setns(home, 0x40000000)
    finally:
        differential.remove_ends()
    print(json.dumps(results))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:4]))
