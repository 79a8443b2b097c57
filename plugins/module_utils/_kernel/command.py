# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""Run a tool of the host: no shell, fixed environment, bounded in time and output."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import time
from typing import NamedTuple

# A login shell's PATH often lacks the sbin directories, where most network tools live.
SEARCH_PATH = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")

#: Output above this many bytes is cut; the result says so.
MAX_BYTES = 256 * 1024 * 1024
_SECONDS_TO_END = 1.0


class Result(NamedTuple):
    """What a tool said.

    rc: exit status; -1 when it could not be started, -2 when it ran past its time.
    out, err: text, undecodable bytes replaced. truncated: output was cut at ``max_bytes``.
    """

    argv: tuple[str, ...]
    rc: int
    out: str
    err: str
    truncated: bool = False

    @property
    def ok(self) -> bool:
        return self.rc == 0 and not self.truncated

    def why(self) -> str:
        """One line that says why this is not a full answer."""
        name = os.path.basename(self.argv[0])
        if self.rc == -1:
            return f"{name}: {self.err}"
        if self.rc == -2:
            return f"{name}: no answer in time"
        if self.truncated:
            return f"{name}: more output than is read"
        text = " ".join(self.err.split())[:200]
        return f"{name}: exit status {self.rc}" + (f": {text}" if text else "")


def find(name: str) -> str | None:
    """The absolute path of tool ``name``, or None. PATH of the caller is not trusted."""
    for folder in SEARCH_PATH:
        path = os.path.join(folder, name)
        if os.path.isfile(path) and os.access(path, os.X_OK):
            return path
    return None


def run(argv: list[str], timeout: float = 20.0, max_bytes: int = MAX_BYTES, stdin: bytes = b"") -> Result:
    """Run ``argv`` (argv[0] a bare name or an absolute path); ``timeout`` in seconds.

    Never raises for a missing, failing or hanging tool: read ``Result.rc``.
    """
    path = argv[0] if os.path.isabs(argv[0]) else find(argv[0])
    full = (path or argv[0], *argv[1:])
    if path is None:
        return Result(full, -1, "", "not installed")
    environ = {"PATH": ":".join(SEARCH_PATH), "LC_ALL": "C", "LANG": "C", "HOME": "/", "TERM": "dumb"}
    # Files in memory instead of pipes: a tool that writes megabytes in small pieces is not woken for, piece by piece.
    files = [_memory_file(name) for name in ("in", "out", "err")]
    try:
        if stdin:
            os.write(files[0], stdin)
            os.lseek(files[0], 0, os.SEEK_SET)
        # AnsibleModule.run_command bounds neither time nor output, and this room knows nothing of Ansible.
        process = subprocess.Popen(  # pylint: disable=ansible-bad-function
            full,
            stdin=files[0] if stdin else subprocess.DEVNULL,
            stdout=files[1],
            stderr=files[2],
            env=environ,
            cwd="/",
            close_fds=True,
            start_new_session=True,
        )
        late, truncated = _wait(process, files[1:], timeout, max_bytes)
        out, err = (_content(one, max_bytes) for one in files[1:])
    except OSError as error:
        return Result(full, -1, "", error.strerror or str(error))
    finally:
        for one in files:
            os.close(one)
    ended = process.returncode is not None and not late
    return Result(full, process.returncode if ended else -2, out, err, truncated)


def _memory_file(name: str) -> int:
    try:
        return os.memfd_create(f"netops_fleet_{name}")
    except (AttributeError, OSError):  # a Python without it, or a sandbox that forbids it
        import tempfile

        descriptor, path = tempfile.mkstemp(prefix="netops_fleet_")
        os.unlink(path)
        return descriptor


def _content(descriptor: int, max_bytes: int) -> str:
    size = min(os.fstat(descriptor).st_size, max_bytes)
    return os.pread(descriptor, size, 0).decode("utf-8", "replace") if size else ""


def _wait(process: subprocess.Popen[bytes], outputs: list[int], timeout: float, max_bytes: int) -> tuple[bool, bool]:
    """Wait for the end, the time limit or the size limit; returns (ran past its time, wrote too much)."""
    deadline = time.monotonic() + timeout
    try:
        ended = os.pidfd_open(process.pid)
    except (AttributeError, OSError):  # Linux before 5.3
        ended = -1
    try:
        while process.poll() is None:
            if sum(os.fstat(one).st_size for one in outputs) > max_bytes:
                _end(process)
                return False, True
            left = deadline - time.monotonic()
            if left <= 0:
                _end(process)
                return True, False
            pause = min(left, 0.05)
            if ended >= 0:
                select.select([ended], [], [], pause)
            else:
                time.sleep(min(pause, 0.005))
    finally:
        if ended >= 0:
            os.close(ended)
    return False, sum(os.fstat(one).st_size for one in outputs) > max_bytes


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the tool and what it started: it leads a process group of its own.

    One that waits in the kernel for a device that hangs ends only once the kernel lets go of it: it is left behind.
    """
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    try:
        process.wait(_SECONDS_TO_END)
    except subprocess.TimeoutExpired:
        pass
