# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""python -m tests.bench [section ...]: measure, print one table, write .cache/bench/results.json.

A report, not a gate: a ratio that is missed is printed and ends with status 0. Status 1 means that a section broke.
A section is a module here with ``def run(options) -> list[Figure]``; add its name to SECTIONS.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import signal
import sys
import time
import traceback
from collections.abc import Sequence
from types import FrameType

from tests.bench.figures import Figure, table
from tests.bench.options import CACHE, ROOT, Options

#: In the order they run; the long ones last.
SECTIONS = (
    "readonly",
    "rules",
    "verdict",
    "consolidate",
    "sets",
    "tuning",
    "placement",
    "faults",
    "mesh",
    "watch",
    "lvs",
    "irq",
    "fleet",
    "scale",
)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description="Measure against references of the same run.")
    parser.add_argument("sections", nargs="*", metavar="section", help=f"which to run (default: all): {', '.join(SECTIONS)}")
    parser.add_argument("--hosts", type=int, action="append", help="size of a simulated fleet, may be repeated (1000, 5000)")
    parser.add_argument("--rounds", type=int, default=5, help="A/B rounds (default: 5)")
    chosen = parser.parse_args(arguments)
    unknown = sorted(set(chosen.sections) - set(SECTIONS))
    if unknown:
        parser.error(f"no section {', '.join(unknown)}; there are {', '.join(SECTIONS)}")
    if chosen.rounds < 1 or any(number < 2 for number in chosen.hosts or ()):
        parser.error("--rounds must be at least 1, --hosts at least 2")
    if os.geteuid() != 0:
        parser.error("root is needed: namespaces and containers are made")
    sys.path.insert(0, str(ROOT / ".collections"))
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _stop)

    started = time.time()
    results: dict[str, list[Figure]] = {}
    broken: list[str] = []
    for name in SECTIONS:
        if chosen.sections and name not in chosen.sections:
            continue
        options = Options(tuple(chosen.hosts or Options.hosts), chosen.rounds, name)
        options.say("begins")
        begun = time.monotonic()
        try:
            results[name] = importlib.import_module(f"tests.bench.{name}").run(options)
        except Exception:
            traceback.print_exc()
            broken.append(name)
            options.say("BROKE")
        else:
            options.say(f"done in {time.monotonic() - begun:.0f} s")
        _write(started, results, broken)
    print()
    print(table([one for figures in results.values() for one in figures]))
    missed = [one for figures in results.values() for one in figures if one.met is False]
    print(f"\n{len(missed)} wanted values missed; {os.cpu_count()} CPUs, Linux {platform.release()}; {CACHE / 'results.json'}")
    if broken:
        print(f"sections that broke: {', '.join(broken)}")
    return 1 if broken else 0


def _stop(number: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + number)  # so that namespaces and labs are taken away


def _write(started: float, results: dict[str, list[Figure]], broken: list[str]) -> None:
    import ansible.release

    CACHE.mkdir(parents=True, exist_ok=True)
    data = {
        "started": round(started),
        "machine": {
            "cpus": os.cpu_count(),
            "kernel": platform.release(),
            "python": platform.python_version(),
            "ansible": ansible.release.__version__,
        },
        "sections": {name: [one.to_dict() for one in figures] for name, figures in results.items()},
        "broken": broken,
    }
    fresh = CACHE / "results.json.new"
    fresh.write_text(json.dumps(data, indent=1) + "\n")
    fresh.replace(CACHE / "results.json")


if __name__ == "__main__":
    sys.exit(main())
