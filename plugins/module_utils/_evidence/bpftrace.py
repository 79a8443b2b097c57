# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""Run a bpftrace script for as long as a window is open. It ends with this process, whatever ends that.

The programs it loads live as long as it does: nothing is pinned.
"""

from __future__ import annotations

import ctypes
import os
import re
import select
import signal
import subprocess
import tempfile
import time

from ansible_collections.netops.fleet.plugins.module_utils._evidence import tracing
from ansible_collections.netops.fleet.plugins.module_utils._kernel import command, tracefs

#: Bytes of output that are kept, and seconds until the programs are loaded.
MAX_OUTPUT, START_SECONDS = 64 << 20, 60.0
#: Entries of a script's map.
MAX_KEYS = 16384
_READY = "netops-fleet-ready"
_LOST = re.compile(r"Lost (\d+) events")
_PR_SET_PDEATHSIG = 1


def cannot() -> str | None:
    """Why it cannot be used here; None when it can."""
    if command.find("bpftrace") is None:
        return "bpftrace is not installed"
    if not os.path.exists("/sys/kernel/btf/vmlinux"):
        return "this kernel has no BTF, without which bpftrace does not know its structures"
    return tracing.cannot()


def run(script: str, told: tracing.Signal, form: str = "text") -> tuple[list[str], int, float] | None:
    """For a tracing child: (lines printed, events lost, seconds); None when the parent is gone. Raises OSError."""
    path = command.find("bpftrace")
    if path is None:
        raise OSError(2, "bpftrace is not installed")
    if tracefs.mounted() is None:
        tracefs.mount_privately()
    libc = ctypes.CDLL(None)

    def dies_with_us() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)

    with tempfile.TemporaryFile() as output:
        # Own process group and limits; the script is an argument of its own, never a line for a shell.
        process = subprocess.Popen(  # pylint: disable=ansible-bad-function,subprocess-popen-preexec-fn
            [path, "-B", "line", "-f", form, "-e", f'BEGIN {{ printf("{_READY}\\n"); }}\n{script}'],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={
                "PATH": ":".join(command.SEARCH_PATH),
                "LC_ALL": "C",
                "BPFTRACE_MAX_STRLEN": "64",
                "BPFTRACE_MAP_KEYS_MAX": str(MAX_KEYS),
            },
            cwd="/",
            preexec_fn=dies_with_us,
        )
        try:
            if not _started(process, output.fileno(), told):
                return None
            told.ready()
            if not _wait(told, process, output.fileno()):
                return None
            seconds = time.monotonic() - told.started
            process.send_signal(signal.SIGINT)
            process.wait(20)
        except subprocess.TimeoutExpired:
            pass
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()
        text = os.pread(output.fileno(), MAX_OUTPUT, 0).decode("utf-8", "replace")
    lost = sum(int(number) for number in _LOST.findall(text))
    return text.splitlines(), lost, seconds


def _started(process: subprocess.Popen[bytes], output: int, told: tracing.Signal) -> bool:
    """Wait until the programs are attached. False when the parent is gone; raises OSError when it will not start."""
    deadline = time.monotonic() + START_SECONDS
    while True:
        text = os.pread(output, 1 << 16, 0).decode("utf-8", "replace")
        if _READY in text:
            return True
        if process.poll() is not None:
            lines = [line for line in text.splitlines() if line.strip() and "RLIMIT_MEMLOCK" not in line]
            raise OSError(5, f"bpftrace ended: {lines[0][:200] if lines else 'without a word'}")
        if time.monotonic() > deadline:
            raise OSError(110, f"bpftrace did not start within {START_SECONDS:.0f} s")
        if select.select([told.fileno()], [], [], 0.05)[0]:
            return False


def _wait(told: tracing.Signal, process: subprocess.Popen[bytes], output: int) -> bool:
    """Wait for the parent; ends the script early when it writes too much. False when the parent is gone."""
    while True:
        if select.select([told.fileno()], [], [], 0.2)[0]:
            return told.wait(0)
        if process.poll() is not None:
            raise OSError(5, "bpftrace ended during the window")
        if os.fstat(output).st_size > MAX_OUTPUT:
            process.send_signal(signal.SIGINT)
            return told.wait()
