# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The controller's cost of large fleets: the real playbook over hosts that answer at once with recorded evidence."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from tests.bench import ansible_runs, answers, measure
from tests.bench.figures import Figure
from tests.bench.options import Options

FORKS = 10
#: Up to this size, evidence is also registered as a structure: it takes gigabytes beyond.
REGISTERED = 1000
#: Up to this size, rounds are repeated.
REPEATED = 1000
_MIB = 2**20


def run(options: Options) -> list[Figure]:
    folder = ansible_runs.scratch("scale")
    packed, plain, plain_size, packed_size = answers.write(folder)
    options.say(f"evidence per host: {plain_size // 1000} KB, packed {packed_size // 1000} KB, {answers.VARIANTS} variants")
    pong = folder / "pong"
    pong.mkdir()
    (pong / "0.json").write_text('{"ping": "pong"}')
    figures: list[Figure] = []
    for hosts in sorted(set(options.hosts)):
        figures += _fleet(options, folder, hosts, packed, plain, pong)
    shutil.rmtree(folder)
    return figures


def _fleet(options: Options, folder: Path, hosts: int, packed: Path, plain: Path, pong: Path) -> list[Figure]:
    inventory, reports = ansible_runs.simulated(folder, hosts), folder / f"reports-{hosts}"

    def measured(playbook: Path, recorded: Path, **variables: object) -> measure.Measured:
        env = {"NETOPS_BENCH_ANSWERS": str(recorded)}
        return ansible_runs.play(playbook, inventory, forks=FORKS, variables=variables, env=env)

    def diagnose() -> measure.Measured:
        shutil.rmtree(reports, ignore_errors=True)
        options_given = {"diagnose_window": 0, "diagnose_target": "tcp/1678", "diagnose_output": str(reports)}
        found = measured(ansible_runs.DIAGNOSE, packed, **options_given)
        files = len(list((reports / "latest").glob("*.evidence.gz")))
        if files != hosts or not (reports / "latest" / "report.html").exists():
            raise measure.MeasureError(f"{files} of {hosts} hosts have an evidence file:\n{found.output}")
        return found

    def report() -> measure.Measured:
        chosen = {"report_run": str(reports / "latest"), "report_rejudge": False}
        return measured(ansible_runs.REPORT, pong, **chosen)

    kinds: dict[str, Callable[[], measure.Measured]] = {
        "ping": lambda: measured(ansible_runs.PLAYS / "ping.yml", pong),
        "diagnose": diagnose,
    }
    options.say(f"{hosts} hosts")
    rounds = min(options.rounds, 2) if hosts <= REPEATED else 1
    found = measure.alternate(kinds, rounds, options.say)
    found["report"] = report()
    options.say(f"{hosts} hosts: report alone {found['report'].wall:.1f} s")
    ping, whole = found["ping"], found["diagnose"]
    name = f"{hosts} hosts, simulated"
    figures = [
        Figure(f"{name}: diagnose, wall", whole.wall, "s", ping.wall, "ping task"),
        Figure(f"{name}: diagnose, CPU", whole.cpu, "s", ping.cpu, "ping task"),
        Figure(f"{name}: diagnose, CPU without report", whole.cpu - found["report"].cpu, "s", ping.cpu, "ping task"),
        Figure(f"{name}: diagnose, peak memory", whole.memory / _MIB, "MiB", ping.memory / _MIB, "ping task"),
        Figure(f"{name}: diagnose, largest process", whole.largest / _MIB, "MiB", ping.largest / _MIB, "ping task"),
        Figure(f"{name}: report alone, wall", found["report"].wall, "s"),
        Figure(f"{name}: report alone, CPU", found["report"].cpu, "s"),
        Figure(f"{name}: report alone, peak memory", found["report"].memory / _MIB, "MiB"),
    ]
    if hosts <= REGISTERED:
        kept = measured(ansible_runs.PLAYS / "register.yml", plain)
        options.say(f"{hosts} hosts: evidence registered as a structure {kept.wall:.1f} s")
        figures += [
            Figure(f"{name}: diagnose, wall", whole.wall, "s", kept.wall, "registered structure"),
            Figure(f"{name}: diagnose, CPU", whole.cpu, "s", kept.cpu, "registered structure"),
            Figure(f"{name}: diagnose, peak memory", whole.memory / _MIB, "MiB", kept.memory / _MIB, "registered structure"),
        ]
    shutil.rmtree(reports)
    return figures
