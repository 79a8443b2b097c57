# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A diagnosis of real hosts over SSH, against one ping task over the same hosts, and against twenty ordinary tasks.

Same forks, pipelining, and connections that are open already; window 0. The controller's cost is that of ansible-playbook with
all it starts; the hosts' cost is what the kernel accounted to their control groups while the play ran.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

from tests.bench import ansible_runs, measure
from tests.bench.figures import Figure
from tests.bench.options import Options
from tests.lab import engine
from tests.lab.lab import Lab

HOSTS, FORKS = 20, 10
_MIB = 2**20


def run(options: Options) -> list[Figure]:
    folder = ansible_runs.scratch("fleet")
    rounds = min(options.rounds, 3)
    with Lab("bench", hosts=HOSTS) as lab:
        account = _account("bench")
        first = next(iter(lab.hosts))
        on_hosts: dict[str, list[float]] = {"ping": [], "diagnose": []}

        def ping(*more: str) -> measure.Measured:
            return ansible_runs.play(ansible_runs.PLAYS / "ping.yml", lab.inventory, forks=FORKS, more=more, interval=0.1)

        def diagnose(*more: str) -> measure.Measured:
            variables = {"diagnose_window": 0, "diagnose_target": "tcp/1678", "diagnose_output": str(folder)}
            found = ansible_runs.play(
                ansible_runs.DIAGNOSE, lab.inventory, forks=FORKS, variables=variables, more=more, interval=0.1
            )
            statuses = json.loads((folder / "latest" / "report.json").read_text())["totals"]["statuses"]
            if statuses != {"ok": 1 if more else HOSTS}:
                raise measure.MeasureError(f"not all hosts answered: {statuses}\n{found.output}")
            return found

        def accounted(kind: str, play: Callable[[], measure.Measured]) -> Callable[[], measure.Measured]:
            def measured() -> measure.Measured:
                before = account()
                found = play()
                on_hosts[kind].append(account() - before)
                return found

            return measured

        options.say("opening the connections")
        ping()
        all_hosts = measure.alternate(
            {"ping": accounted("ping", ping), "diagnose": accounted("diagnose", diagnose)}, rounds, options.say
        )
        one_host = measure.alternate(
            {"ping": lambda: ping("--limit", first), "diagnose": lambda: diagnose("--limit", first)}, rounds, options.say
        )
        options.say("twenty ordinary tasks")
        tasks = ansible_runs.play(ansible_runs.PLAYS / "twenty_tasks.yml", lab.inventory, forks=FORKS)
        options.say(f"twenty ordinary tasks: {tasks.wall:.1f} s")
    shutil.rmtree(folder)
    ping_hosts, diagnose_hosts = (sorted(on_hosts[kind])[rounds // 2] for kind in ("ping", "diagnose"))
    ping_all, diagnose_all = all_hosts["ping"], all_hosts["diagnose"]
    growth = {kind: (all_hosts[kind].memory - one_host[kind].memory) / (HOSTS - 1) / _MIB for kind in ("ping", "diagnose")}
    name = f"{HOSTS} hosts, ssh"
    return [
        Figure(f"{name}: controller CPU per host", diagnose_all.cpu / HOSTS, "s", ping_all.cpu / HOSTS, "ping task", 1.5),
        Figure(
            f"{name}: controller CPU per further host",
            (diagnose_all.cpu - one_host["diagnose"].cpu) / (HOSTS - 1),
            "s",
            (ping_all.cpu - one_host["ping"].cpu) / (HOSTS - 1),
            "ping task",
        ),
        Figure(f"{name}: hosts' CPU per host", diagnose_hosts / HOSTS, "s", ping_hosts / HOSTS, "ping task", 3.0),
        Figure(f"{name}: controller memory per further host", growth["diagnose"], "MiB", growth["ping"], "ping task", 1.2),
        Figure(f"{name}: controller memory", diagnose_all.memory / _MIB, "MiB", ping_all.memory / _MIB, "ping task"),
        Figure(f"{name}: wall", diagnose_all.wall, "s", ping_all.wall, "ping task"),
        Figure(f"{name}: wall", diagnose_all.wall, "s", tasks.wall, "20 tasks", 0.1),
        Figure(f"{name}: controller CPU", diagnose_all.cpu, "s", tasks.cpu, "20 tasks"),
    ]


def _account(lab: str) -> Callable[[], float]:
    """Reads the CPU seconds that all hosts of a lab have used, from whichever kind of control group keeps them."""
    found: list[Path] = []
    with open("/proc/self/mountinfo") as mounts:
        for line in mounts:
            fields = line.split()
            if fields[fields.index("-") + 1] in ("cgroup", "cgroup2"):
                found.append(Path(fields[4]) / f"{engine.PREFIX}-{lab}")
    for path in found:
        usage = path / "cpuacct.usage"
        if usage.exists():
            return lambda: int(usage.read_text()) / 1e9
    for path in found:
        stat = path / "cpu.stat"
        if stat.exists() and "usage_usec" in stat.read_text():
            return lambda: int(dict(line.split() for line in stat.read_text().splitlines())["usage_usec"]) / 1e6
    raise measure.MeasureError(f"no control group accounts the CPU of lab {lab}; looked in {', '.join(map(str, found))}")
