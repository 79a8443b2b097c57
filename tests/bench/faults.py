# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The diagnosis as a doctor is measured: recall with the cause first, precision, false alarms, time to the answer."""

from __future__ import annotations

import statistics

from tests.bench.figures import Figure
from tests.bench.options import Options
from tests.faults import emulated, runner


def run(options: Options) -> list[Figure]:
    entries = runner.load(runner.FAULTS)
    faults = [_outcome(options, entry) for entry in entries if not runner.in_guest(entry)]
    times = sorted(one.seconds for one in faults)
    # By emulation, where times mean nothing.
    for outcome in emulated.run([entry for entry in entries if runner.in_guest(entry)]):
        faults.append(outcome)
        options.say(f"{_told(outcome)}, in a virtual machine: {outcome.told()}")
    healthy = []
    for entry in runner.load(runner.HEALTHY):
        healthy.append(runner.run_healthy(entry))
        options.say(f"healthy {entry.name}: {healthy[-1].told()}")
    first = sum(one.first for one in faults)
    told = sum(len(one.findings) for one in faults)
    stray = sum(len(one.stray) for one in faults)
    alarms = sum(len(one.stray) for one in healthy) + sum(len(one.after) for one in faults)
    return [
        Figure("faults injected", len(faults), ""),
        Figure("causes not told first, of 100 faults", 100 * (len(faults) - first) / len(faults), "%", at_most=5.0),
        Figure("findings that are not true, of 100 told", 100 * stray / max(1, told), "%", at_most=5.0),
        Figure(f"false alarms: {len(healthy)} healthy hosts, {len(faults)} mended ones", alarms, "", at_most=0),
        Figure("time to the answer on a host, median", statistics.median(times), "s"),
        Figure("time to the answer on a host, longest", times[-1], "s"),
    ]


def _outcome(options: Options, entry: runner.Entry) -> runner.Outcome:
    try:
        outcome = runner.run(entry)
    except (AssertionError, runner.CorpusError) as error:
        raise RuntimeError(f"{entry.name}: {error}") from error
    options.say(f"{_told(outcome)}, {outcome.seconds:.2f} s: {outcome.told()}")
    return outcome


def _told(outcome: runner.Outcome) -> str:
    return f"{outcome.name}: {'cause first' if outcome.first else 'MISSED'}, {len(outcome.stray)} stray"
