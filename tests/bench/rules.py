# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Cost of one collection on the host, against the raw tools that read the same, in the same network namespace.

The module runs as Ansible runs it: the payload Ansible sends, into Python's stdin, with window 0. The references write JSON
to nowhere: `nft -j list ruleset` alone, and together with the `ip -j` family and `ss`.
"""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path

from tests.bench import ansible_runs, hosts, measure
from tests.bench.figures import Figure
from tests.bench.options import Options
from tests.kernel.conftest import Namespace

LARGE = 10_000
_RULES = "nft -j list ruleset"
_TOOLS = (
    _RULES,
    "ip -j -d -s link show",
    "ip -j address show",
    "ip -j -4 route show table all",
    "ip -j -6 route show table all",
    "ip -j rule show",
    "ip -j neighbour show",
    "ss -H -n -l -t -u -p",
    "ss -H -n -t -a",
)


def run(options: Options) -> list[Figure]:
    folder = ansible_runs.scratch("rules")
    payload = ansible_runs.payload(folder)
    ping = ansible_runs.payload(folder, ansible_runs.PLAYS / "ping.yml", "ping")
    options.say(f"what is sent: {payload.stat().st_size // 1024} KiB; for ansible.builtin.ping {ping.stat().st_size // 1024} KiB")
    figures: list[Figure] = []
    cases: tuple[tuple[str, int, Callable[[Namespace, int], None]], ...] = (
        ("nft", LARGE, hosts.load_nft),
        ("iptables-nft", LARGE, hosts.load_iptables),
        ("nft", hosts.ORDINARY, hosts.load_nft),
    )
    for backend, rules, load in cases:
        options.say(f"{rules} {backend} rules")
        with hosts.host() as space:
            load(space, rules)
            _same_rules(space, payload, rules)
            inside = space.argv([])
            once = measure.alternate(
                {
                    "module": partial(_module, inside, payload),
                    "tools": partial(_shell, inside, "; ".join(f"{tool} >/dev/null" for tool in _TOOLS)),
                    "nft": partial(_shell, inside, f"{_RULES} >/dev/null"),
                    "ping": partial(_module, inside, ping),
                },
                options.rounds,
                options.say,
            )
            peak = measure.run([*inside, hosts.python(), "-"], input=payload, watch_memory=True, interval=0.02)
        figures += _figures(f"{rules} {backend} rules", once, peak, rules == LARGE)
    shutil.rmtree(folder)
    return figures


def _module(inside: list[str], payload: Path) -> measure.Measured:
    return measure.run([*inside, hosts.python(), "-"], input=payload)


def _shell(inside: list[str], line: str) -> measure.Measured:
    return measure.run([*inside, "sh", "-ec", line])


def _same_rules(space: Namespace, payload: Path, rules: int) -> None:
    """Both sides must have read all rules, or their times mean nothing."""
    listed = json.loads(space.run(["nft", "-j", "list", "ruleset"], timeout=300).stdout)
    by_tool = sum(1 for each in listed["nftables"] if "rule" in each)
    with open(payload, "rb") as source:
        done = subprocess.run(space.argv([hosts.python(), "-"]), stdin=source, capture_output=True, check=False)
    answer = json.loads(done.stdout or b'{"msg": "no output"}')
    if "evidence" not in answer:
        raise measure.MeasureError(f"the module failed: {str(answer)[:1000]} {done.stderr.decode(errors='replace')[-2000:]}")
    evidence = json.loads(zlib.decompress(base64.b64decode(answer["evidence"]), 31))
    firewall = evidence["sections"].get("firewall") or {}
    by_module = len(firewall.get("rules") or ())
    if not by_tool == by_module == rules:
        cover = [one for one in evidence["coverage"] if one["section"] == "firewall"]
        raise measure.MeasureError(f"rules loaded {rules}, listed by nft {by_tool}, in the evidence {by_module}: {cover}")


def _figures(name: str, once: dict[str, measure.Measured], peak: measure.Measured, large: bool) -> list[Figure]:
    module, tools = once["module"], once["tools"]
    limit = 1.5 if large else None
    figures = [] if large else [Figure(f"{name}: wall", module.wall, at_most=1.0)]
    return [
        *figures,
        Figure(f"{name}: wall", module.wall, "s", tools.wall, "nft -j, ip -j, ss", limit),
        Figure(f"{name}: CPU", module.cpu, "s", tools.cpu, "nft -j, ip -j, ss", limit),
        Figure(f"{name}: wall", module.wall, "s", once["nft"].wall, "nft -j list ruleset"),
        Figure(f"{name}: CPU", module.cpu, "s", once["ping"].cpu, "ansible.builtin.ping"),
        Figure(f"{name}: peak memory", peak.memory / 2**20, "MiB"),
    ]
