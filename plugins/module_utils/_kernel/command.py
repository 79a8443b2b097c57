# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""Run a tool of the host: no shell, fixed environment, bounded in time and output."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import time
from dataclasses import dataclass

# A login shell's PATH often lacks the sbin directories, where most network tools live.
SEARCH_PATH = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")

#: Output above this many bytes is cut; the result says so.
MAX_BYTES = 256 * 1024 * 1024


@dataclass
class Result:
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
    try:
        # AnsibleModule.run_command bounds neither time nor output, and this room knows nothing of Ansible.
        process = subprocess.Popen(  # pylint: disable=ansible-bad-function
            full,
            stdin=subprocess.PIPE if stdin else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environ,
            cwd="/",
            close_fds=True,
            start_new_session=True,
        )
    except OSError as error:
        return Result(full, -1, "", error.strerror or str(error))
    return _collect(process, full, timeout, max_bytes, stdin)


def _collect(process: subprocess.Popen[bytes], full: tuple[str, ...], timeout: float, max_bytes: int, stdin: bytes) -> Result:
    """Read both pipes until the end, the time limit or the size limit."""
    deadline = time.monotonic() + timeout
    chunks: dict[str, list[bytes]] = {"out": [], "err": []}
    size, truncated, late, pending = 0, False, False, memoryview(stdin)
    if process.stdout is None or process.stderr is None:
        raise AssertionError("the pipes that were asked for are there")
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ, "out")
        selector.register(process.stderr, selectors.EVENT_READ, "err")
        if process.stdin is not None:
            selector.register(process.stdin, selectors.EVENT_WRITE, "in")
        while selector.get_map():
            left = deadline - time.monotonic()
            if left <= 0 or truncated:
                late = left <= 0 and not truncated
                break
            for key, _events in selector.select(left):
                if key.data == "in":
                    try:
                        pending = pending[os.write(key.fd, pending[:65536]) :]
                    except BrokenPipeError:
                        pending = pending[:0]
                    if not pending and process.stdin is not None:
                        selector.unregister(process.stdin)
                        process.stdin.close()
                    continue
                data = os.read(key.fd, 262144)
                if not data:
                    selector.unregister(key.fileobj)
                    continue
                size += len(data)
                chunks[key.data].append(data)
                truncated = size > max_bytes
    if late or truncated:
        _end(process)
    else:
        try:
            process.wait(max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            late = True
            _end(process)
    for pipe in (process.stdout, process.stderr, process.stdin):
        if pipe is not None:
            pipe.close()
    out, err = (b"".join(chunks[name]).decode("utf-8", "replace") for name in ("out", "err"))
    return Result(full, -2 if late else process.returncode, out, err, truncated)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the tool and what it started: it leads a process group of its own."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()
