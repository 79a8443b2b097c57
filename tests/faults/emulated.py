# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Faults that need another kernel than this machine's, or a machine of their own: run in a virtual machine, by emulation."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path

from tests.faults import runner
from tests.lab.guest import Guest

ROOT = Path(__file__).resolve().parents[2]
#: Emulated, on a busy machine, a diagnosis takes a minute.
_PATIENCE, _SECONDS = 8, 900


def run(entries: list[runner.Entry]) -> list[runner.Outcome]:
    """Outcomes in the order of the entries, all from one machine; raises RuntimeError with what it said when one is missing."""
    words = [sys.executable, "-m", "tests.faults.in_guest", *(one.name for one in entries)]
    with Guest() as machine:
        lines = f"cd {shlex.quote(str(ROOT))}; TEST_PATIENCE={_PATIENCE} exec {shlex.join(words)}"
        done = machine.run(["sh", "-ec", lines], check=False, timeout=_SECONDS)
    outcomes = {}
    for line in done.out.splitlines():
        if line.startswith("OUTCOME "):
            outcome = runner.Outcome(**json.loads(line[len("OUTCOME ") :]))
            outcomes[outcome.name] = outcome
    missing = [one.name for one in entries if one.name not in outcomes]
    if missing:
        raise RuntimeError(f"no outcome of {', '.join(missing)}\n{done.out[-3000:]}\n{done.err[-3000:]}")
    return [outcomes[one.name] for one in entries]
