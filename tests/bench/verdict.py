# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The walk: agreement with the kernel over thousands of random cases, and what a verdict costs over a long ruleset."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

from tests.bench.figures import Figure
from tests.bench.measure import MeasureError
from tests.bench.options import ROOT, Options
from tests.kernel.conftest import Namespace

#: Seeds, none of which a test runs; each makes a ruleset and sends PACKETS packets.
FIRST, SEEDS, BATCH, PACKETS = 110_000, 700, 50, 8
RULES, MANY, MEMBERS, TURNS = 10_000, 1_000, 100_000, 3

_COST = """
import json, sys, time
from ansible_collections.netops.fleet.plugins.module_utils._diagnosis import world
from ansible_collections.netops.fleet.plugins.module_utils._firewall import read, walk
from ansible_collections.netops.fleet.plugins.module_utils._firewall.packet import Packet
begun = time.perf_counter()
rules = read.read(elements=True, max_elements=1000000).data
read_s = time.perf_counter() - begun
def packet(n):
    return Packet(4, 6, f"10.{n >> 8 & 255}.{n & 255}.9", "10.77.0.2", 49152, 1678, "lo", "")
walker = walk.Walker(rules)
begun = time.perf_counter()
first = walker.incoming(packet(70000))
one_s = time.perf_counter() - begun
begun = time.perf_counter()
for n in range(int(sys.argv[1])):
    walker.incoming(packet(n))
many_s = time.perf_counter() - begun
print(json.dumps({"rules": len(rules.rules), "read": read_s, "one": one_s, "many": many_s, "verdict": first.verdict}))
"""


def run(options: Options) -> list[Figure]:
    return [*_agreement(options), *_cost(options)]


def _agreement(options: Options) -> list[Figure]:
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / '.collections'}:{ROOT}", "PYTHONDONTWRITEBYTECODE": "1"}
    agree = wrong = unknown = refused = 0
    begun = time.monotonic()
    for first in range(FIRST, FIRST + SEEDS, BATCH):
        argv = [sys.executable, "-m", "tests.kernel.differential", str(first), str(BATCH), str(PACKETS)]
        done = subprocess.run(argv, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise MeasureError(done.stderr[-2000:])
        for one in json.loads(done.stdout):
            result = one["result"]
            agree, unknown, refused = (
                agree + (result == "agree"),
                unknown + (result == "unknown"),
                refused + (result == "refused"),
            )
            if result not in ("agree", "unknown", "refused"):
                wrong += 1
                options.say(f"WRONG: seed {one['seed']} packet {one['packet']}: {result}")
        options.say(
            f"{agree} agree, {wrong} wrong, {unknown} unknown, {refused} rulesets refused ({time.monotonic() - begun:.0f} s)"
        )
    cases = agree + wrong + unknown
    return [
        Figure("verdicts compared with the kernel", cases, ""),
        Figure("verdicts that agree", agree, ""),
        Figure("verdicts that are wrong", wrong, "", at_most=0),
        Figure("verdicts that are unknown, of 100", 100 * unknown / max(1, cases), "%", at_most=5.0),
    ]


def _cost(options: Options) -> list[Figure]:
    figures: list[Figure] = []
    for name, text, rules in (("linear rules", _linear(), RULES + 1), ("members of one set", _members(), 1)):
        space = Namespace()
        try:
            space.run(["nft", "-f", "-"], input=text, timeout=300)
            listings, turns = [], []
            for _turn in range(TURNS):
                begun = time.monotonic()
                space.run(["nft", "-j", "list", "ruleset"], timeout=300)
                listings.append(time.monotonic() - begun)
                turns.append(space.python_json(_COST, str(MANY), timeout=300))
        finally:
            space.remove()
        if any(one["rules"] != rules or one["verdict"] != "accept" for one in turns):
            raise MeasureError(f"{name}: {turns}")
        # The quickest of some turns is the work itself; the others are the work and the machine's other business.
        listing = min(listings)
        found = {key: min(one[key] for one in turns) for key in ("read", "one", "many")}
        shown = f"{RULES} {name}" if rules > 1 else f"{MEMBERS} {name}"
        options.say(f"{shown}: {found}")
        figures += [
            Figure(f"{shown}: reading", found["read"], "s", listing, "nft -j list ruleset", 1.0 if rules > 1 else None),
            Figure(f"{shown}: one verdict, first", found["one"], "s", at_most=0.1 if rules > 1 else None),
            Figure(f"{shown}: {MANY} more verdicts", found["many"], "s", found["one"], "one verdict", 5.0 if rules > 1 else None),
        ]
    return figures


def _linear() -> str:
    lines = [f"ip saddr 10.{n >> 8 & 255}.{n & 255}.{n % 7 + 1} tcp dport {1000 + n % 3000} counter drop" for n in range(RULES)]
    return "table inet f {\nchain i { type filter hook input priority 0;\n" + "\n".join(lines) + "\ncounter accept\n}\n}\n"


def _members() -> str:
    members = ", ".join(f"11.{n >> 16 & 255}.{n >> 8 & 255}.{n & 255}" for n in range(MEMBERS))
    return (
        f"table inet f {{\nset s {{ type ipv4_addr; elements = {{ {members} }}; }}\n"
        "chain i { type filter hook input priority 0;\nip saddr @s drop\n}\n}\n"
    )
