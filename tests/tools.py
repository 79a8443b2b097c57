# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Running the checkers and the lab's scenarios from pytest, so that one run and one last line cover everything."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CACHE = ROOT / ".cache"
#: The scripts of the environment that runs the tests.
BIN = Path(sys.executable).parent


def run(
    argv: Sequence[str], *, cwd: Path = ROOT, env: Mapping[str, str] | None = None, timeout_s: float = 1800
) -> subprocess.CompletedProcess[str]:
    """Run a tool of this environment; its output, stderr included, is in stdout. A tool that hangs is ended with its children."""
    merged = {**os.environ, "LC_ALL": "C.UTF-8", "NO_COLOR": "1", **(env or {})}
    process = subprocess.Popen(
        [str(BIN / argv[0]) if (BIN / argv[0]).exists() else argv[0], *argv[1:]],
        cwd=cwd,
        env=merged,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=timeout_s)
    except BaseException:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
        raise
    return subprocess.CompletedProcess(list(argv), process.returncode, output, "")


def passes(argv: Sequence[str], *, cwd: Path = ROOT, env: Mapping[str, str] | None = None, timeout_s: float = 1800) -> str:
    """The tool must end with status 0; its output is returned, or shown as the failure."""
    done = run(argv, cwd=cwd, env=env, timeout_s=timeout_s)
    assert done.returncode == 0, f"{' '.join(argv)} ended with status {done.returncode}:\n{done.stdout[-12000:]}"
    return done.stdout


def shipped_files() -> list[Path]:
    """Files of the working tree that git knows or would add, relative to the root."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return [Path(name) for name in sorted(set(listed.stdout.split("\0"))) if name and (ROOT / name).exists()]
