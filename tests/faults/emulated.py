# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Faults that need another kernel than this machine's, or a machine of their own: run in a virtual machine, by emulation."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

from tests.faults import runner
from tests.lab import guest

ROOT = Path(__file__).resolve().parents[2]
#: Emulated, a diagnosis takes half a minute.
_PATIENCE, _SECONDS = 8, 900


def run(entries: list[runner.Entry]) -> list[runner.Outcome]:
    """Outcomes in the order of the entries, all from one machine; raises RuntimeError with what it said when one is missing."""
    words = [sys.executable, "-m", "tests.faults.in_guest", *(one.name for one in entries)]
    lines = f"cd {shlex.quote(str(ROOT))}; ip link set lo up; TEST_PATIENCE={_PATIENCE} exec {shlex.join(words)}"
    vng = Path(sys.executable).parent / "vng"
    argv = [str(vng), "--run", guest.kernel(), "--disable-kvm", "--cpus", "2", "--memory", "1G"]
    argv += ["--exec", f"sh -c {shlex.quote(lines)}"]
    environ = {**os.environ, "PATH": f"{vng.parent}:{os.environ['PATH']}"}
    said, why = _said(argv, environ)
    outcomes = {}
    for line in said.splitlines():
        if line.startswith("OUTCOME "):
            outcome = runner.Outcome(**json.loads(line[len("OUTCOME ") :]))
            outcomes[outcome.name] = outcome
    missing = [one.name for one in entries if one.name not in outcomes]
    if missing:
        raise RuntimeError(f"no outcome of {', '.join(missing)}\n{said[-3000:]}\n{why[-3000:]}")
    return [outcomes[one.name] for one in entries]


def _said(argv: list[str], environ: dict[str, str]) -> tuple[str, str]:
    """(output, errors). A machine that takes too long is ended with all that vng started for it."""
    process = subprocess.Popen(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environ,
        start_new_session=True,
    )
    try:
        return process.communicate(timeout=_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        said, why = process.communicate()
        return said, f"{why}\nstopped after {_SECONDS} s"
