# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A distribution's own kernel in a virtual machine, for features that the machine's kernel may lack.

It boots by emulation, with this machine's files to read and memory to write to. Requests go through a port on 127.0.0.1.
"""

from __future__ import annotations

import base64
import contextlib
import glob
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.lab import guest_agent

ROOT = Path(__file__).resolve().parents[2]

#: Ends the machine with whoever started it, however that ended: its standard input closes then.
_WATCHER = """
import os, shutil, signal, sys
sys.stdin.buffer.read()
try:
    os.killpg(int(sys.argv[1]), signal.SIGKILL)
except ProcessLookupError:
    pass
shutil.rmtree(sys.argv[2], ignore_errors=True)
"""

#: The machine's files once more, kept in the guest's memory once read: without that a Python takes seconds to start.
_FILES = [
    "-fsdev", "local,id=files,path=/,security_model=none,readonly=on,multidevs=remap",
    "-device", "virtio-9p-pci,fsdev=files,mount_tag=files",
]  # fmt: skip
_CACHED = (
    "mkdir -p /run/files && mount -t 9p -o ro,trans=virtio,version=9p2000.L,cache=loose,msize=512000 files /run/files"
    f" && mount --bind /run/files/usr /usr && mount --bind /run/files{ROOT} {ROOT}"
)


def kernel() -> str:
    """The newest kernel under /boot that has its modules."""
    found = sorted(path for path in glob.glob("/boot/vmlinuz-*") if os.path.isdir(f"/lib/modules/{path.split('vmlinuz-', 1)[1]}"))
    assert found, "no distribution kernel under /boot: make test installs one (linux-image-amd64, linux-image-arm64)"
    return found[-1]


class Answer:
    """What a command in the guest said."""

    def __init__(self, said: dict[str, Any]) -> None:
        self.rc: int = said["rc"]
        self.out: str = said["out"]
        self.err: str = said["err"]


class Guest:
    """Use as a context manager. ``cpus`` and ``memory`` as qemu takes them."""

    def __init__(self, cpus: int = 2, memory: str = "1500M", boot_s: float = 900) -> None:
        self._cpus, self._memory, self._boot_s = cpus, memory, boot_s
        self._folder = tempfile.TemporaryDirectory(prefix="nf-guest-")
        self.port = 0

    def __enter__(self) -> Guest:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self._log = Path(self._folder.name) / "log"
        environ = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                self._command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environ, start_new_session=True
            )
        watch = [sys.executable, "-c", _WATCHER, str(self._process.pid), self._folder.name]
        self._watcher = subprocess.Popen(watch, stdin=subprocess.PIPE, start_new_session=True)
        deadline = time.monotonic() + self._boot_s
        try:
            while True:
                with contextlib.suppress(OSError, ValueError):
                    if self._ask({"op": "exec", "argv": ["true"]}, 5)["rc"] == 0:
                        return self
                assert self._process.poll() is None, f"the guest ended\n{self._said()}"
                assert time.monotonic() < deadline, f"the guest does not answer\n{self._said()}"
                time.sleep(0.5)
        except BaseException:
            self.__exit__()
            raise

    def _network(self) -> list[str]:
        """The way in, as qemu takes it."""
        forward = f"hostfwd=tcp:127.0.0.1:{self.port}-10.0.2.15:{guest_agent.PORT}"
        return ["-netdev", f"user,id=agent,restrict=on,{forward}", "-device", "virtio-net-pci,netdev=agent"]

    def _command(self) -> list[str]:
        """What starts the machine."""
        script = f"{_CACHED}; exec /usr/bin/python3 {ROOT}/tests/lab/guest_agent.py {ROOT}/.collections"
        return [
            str(Path(sys.executable).parent / "vng"), "--run", kernel(), "--disable-kvm", "--disable-microvm",
            "--append", "mitigations=off",
            "--cpus", str(self._cpus), "--memory", self._memory,
            "--overlay-rwdir=/etc", "--overlay-rwdir=/var", f"--qemu-opts={' '.join(_FILES + self._network())}", "--exec", script,
        ]  # fmt: skip

    def __exit__(self, *_unused: object) -> None:
        self._watcher.communicate()  # closes its standard input, and waits until it has done its work
        self._process.wait()
        self._folder.cleanup()

    def _said(self) -> str:
        return self._log.read_text(errors="replace")[-3000:]

    def _ask(self, request: dict[str, Any], timeout: float) -> dict[str, Any]:
        with socket.create_connection(("127.0.0.1", self.port), 5) as connection:
            connection.settimeout(timeout)
            connection.sendall(json.dumps(request).encode() + b"\n")
            with connection.makefile("rb") as stream:
                answer: dict[str, Any] = json.loads(stream.readline())
        assert "error" not in answer, answer["error"]
        return answer

    def run(self, argv: list[str], netns: str = "", check: bool = True, stdin: str = "", timeout: float = 120) -> Answer:
        """Run a command; with ``netns`` inside that namespace."""
        text = base64.b64encode(stdin.encode()).decode()
        answer = Answer(self._ask({"op": "exec", "argv": argv, "netns": netns, "stdin": text, "timeout": timeout}, timeout + 30))
        assert not check or answer.rc == 0, f"{argv} in {netns or 'the guest'}: status {answer.rc}\n{answer.out}\n{answer.err}"
        return answer

    def sh(self, script: str, netns: str = "", check: bool = True) -> str:
        return self.run(["sh", "-ec", script], netns, check).out

    def call(self, code: str, *args: Any, netns: str = "", timeout: float = 180) -> Any:
        """Run Python code that finds the collection; ``args`` is its list of arguments, ``result`` what it returns."""
        return self._ask({"op": "call", "code": code, "args": list(args), "netns": netns}, timeout)["result"]

    def load(self, *modules: str) -> None:
        """Import once what many calls need: each runs in a fork of its own, which would import it again."""
        self._ask({"op": "load", "names": list(modules)}, 120)

    def start(self, argv: list[str], netns: str = "", log: str = "/tmp/started.log") -> int:
        """Start a process that goes on; returns its pid."""
        pid: int = self._ask({"op": "start", "argv": argv, "netns": netns, "log": log}, 60)["pid"]
        return pid

    def spawn(self, code: str, *args: Any, netns: str = "", log: str = "/tmp/started.log") -> int:
        """Like ``start`` for Python code, at once; ``args`` is its list of arguments."""
        request = {"op": "spawn", "code": code, "args": list(args), "netns": netns, "log": log}
        pid: int = self._ask(request, 60)["pid"]
        return pid

    def end(self, pid: int, how: int = signal.SIGTERM, timeout: float = 30) -> Any:
        """End what ``start`` began; its exit status, None when it would not end."""
        return self._ask({"op": "end", "pid": pid, "signal": int(how), "timeout": timeout}, timeout + 30)["rc"]
