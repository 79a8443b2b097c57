# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Playbooks as the benches run them, and the module as it reaches a host."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.bench import measure
from tests.bench.options import CACHE, ROOT

HERE = Path(__file__).resolve().parent
PLAYS = HERE / "plays"
DIAGNOSE = ROOT / "playbooks" / "diagnose.yml"
REPORT = ROOT / "playbooks" / "report.yml"
_BIN = Path(sys.executable).parent


def environment(forks: int, more: Mapping[str, str] | None = None) -> dict[str, str]:
    """The checkout's own settings and nothing of the user's."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("ANSIBLE_", "PYTHON"))}
    env.update(
        PATH=f"{_BIN}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        LC_ALL="C.UTF-8",
        ANSIBLE_CONFIG=str(ROOT / "ansible.cfg"),
        ANSIBLE_FORKS=str(forks),
        ANSIBLE_CONNECTION_PLUGINS=str(HERE / "ansible" / "connection"),
        ANSIBLE_NOCOLOR="1",
        ANSIBLE_PIPELINING="1",
        **(more or {}),
    )
    return env


def play(
    playbook: Path,
    inventory: Path,
    *,
    forks: int,
    variables: Mapping[str, object] | None = None,
    more: Sequence[str] = (),
    env: Mapping[str, str] | None = None,
    check: bool = True,
    interval: float = 0.2,
    timeout: float = 3600,
) -> measure.Measured:
    """Run a playbook and measure the controller. Raises MeasureError when it fails."""
    argv = [str(_BIN / "ansible-playbook"), "-i", str(inventory), str(playbook), *more]
    if variables:
        argv += ["-e", json.dumps(variables)]
    return measure.run(
        argv, cwd=ROOT, env=environment(forks, env), check=check, watch_memory=True, interval=interval, timeout=timeout
    )


def payload(
    folder: Path, playbook: Path = DIAGNOSE, holds: str = "host_evidence", options: Mapping[str, object] | None = None
) -> Path:
    """What Ansible sends to a host for one module call (of a collection with window 0): a Python program, read from stdin.

    Returns a file in ``folder``. holds: the module's name, which must stand in it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    answers, found, output = folder / "no-answer", folder / f"{holds}.py", folder / "reports"
    answers.mkdir(exist_ok=True)
    (answers / "0.json").write_text('{"failed": true, "msg": "nobody is there"}')
    found.unlink(missing_ok=True)
    recorded = {"NETOPS_BENCH_ANSWERS": str(answers), "NETOPS_BENCH_PAYLOAD": str(found)}
    variables = {"diagnose_window": 0, "diagnose_output": str(output), **(options or {})}
    said = play(playbook, simulated(folder, 1), forks=1, variables=variables, env=recorded, check=False)
    shutil.rmtree(output, ignore_errors=True)
    if not found.exists() or holds.encode() not in found.read_bytes():
        raise measure.MeasureError(f"Ansible sent no module:\n{said.output}")
    return found


def simulated(folder: Path, hosts: int) -> Path:
    """An inventory of hosts that do not exist, in racks of 100, answered by the recorded connection."""
    lines = ["[all:vars]", "ansible_connection=recorded", "ansible_python_interpreter=/usr/bin/python3", ""]
    for rack, first in enumerate(range(1, hosts + 1, 100), 1):
        lines += [f"[rack{rack:02d}]", f"gpu[{first:05d}:{min(first + 99, hosts):05d}]", ""]
    lines += ["[gpu_nodes:children]", *(f"rack{rack:02d}" for rack in range(1, (hosts + 99) // 100 + 1))]
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{hosts}.ini"
    path.write_text("\n".join(lines) + "\n")
    return path


def scratch(section: str) -> Path:
    """An empty folder of a section."""
    folder = CACHE / section
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder
