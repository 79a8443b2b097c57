# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run as root in the virtual machine, ``python -m tests.faults.in_guest NAME ...``: a line ``OUTCOME {json}`` for each fault.

Starting an interpreter takes seconds by emulation, so the world here is one process that forks: witnesses, servers and the
collector are those of the other world, called in a child that has entered the namespace. All files are the machine's.
"""

from __future__ import annotations

import ctypes
import dataclasses
import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / ".collections"))

from ansible_collections.netops.fleet.plugins.module_utils._diagnosis import collect
from tests.faults import ask, runner, services, world

_CLONE_NEWNET = 0x40000000
_READY = b"ready\n"


class Child:
    """A process in a namespace that runs a function; ``returncode`` and ``stdout`` once it ended, as subprocess has them."""

    def __init__(self, namespace: str, work: Callable[[], Any], environment: dict[str, str]) -> None:
        self._out, end = os.pipe()
        self.returncode: int | None = None
        self.stdout = b""
        self.pid = os.fork()
        if self.pid:
            os.close(end)
            return
        status = 1
        try:
            os.close(self._out)
            os.dup2(end, 1)
            descriptor = os.open(f"/run/netns/{namespace}", os.O_RDONLY)
            if ctypes.CDLL(None, use_errno=True).setns(descriptor, _CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "setns")
            os.environ.update(environment)
            status = 0 if work() in (True, None) else 1
        finally:
            sys.stdout.flush()
            os._exit(status)

    def until_ready(self) -> None:
        while not self.stdout.endswith(_READY):
            more = os.read(self._out, 4096)
            if not more:
                raise AssertionError(f"it ended before it was ready: {self.stdout!r}")
            self.stdout += more

    def wait(self) -> int:
        if self.returncode is None:
            while more := os.read(self._out, 65536):
                self.stdout += more
            self.returncode = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
            os.close(self._out)
        return self.returncode

    def terminate(self) -> None:
        os.kill(self.pid, 9)


class ForkedPlace(world.Place):
    """As Place, without files of its own: what is known by name is called, what is a shell line is run."""

    def __init__(self) -> None:
        self.name = f"nf-{os.getpid()}-{len(_PLACES)}"
        self._children: list[Child] = []
        _PLACES.append(self)
        subprocess.run(["ip", "netns", "add", self.name], check=True)
        subprocess.run(["ip", "-n", self.name, "link", "set", "lo", "up"], check=True)

    def call(self, work: Callable[[], Any]) -> Child:
        return Child(self.name, work, {name: value for name, value in self.environment().items() if name in world.ENVIRONMENT})

    def argv(self, argv: list[str]) -> list[str]:
        return ["ip", "netns", "exec", self.name, *argv]

    def shell(self, lines: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        question = _words(lines, "exec $ASK ")
        if not question:
            return super().shell(lines, check)
        status = self.call(lambda: ask.QUESTIONS[question[0]](*question[1:])).wait()
        return subprocess.CompletedProcess(question, status, "", "")

    def serve(self, *service: str) -> Any:
        child = self.call(lambda: services.SERVICES[service[0]](*service[1:]))
        self._children.append(child)
        child.until_ready()
        return child

    def background(self, lines: str) -> Any:
        return self.serve(*_words(lines, "exec $SERVE "))

    def remove(self) -> None:
        for child in self._children:
            child.terminate()
            child.wait()
        subprocess.run(["ip", "netns", "del", self.name], check=False)


_PLACES: list[ForkedPlace] = []


def _words(lines: str, start: str) -> list[str]:
    """Words of a call of ask.py or services.py, with the variables of fault files; [] for other lines."""
    if not lines.startswith(start):
        return []
    words = shlex.split(lines[len(start) :])
    return [world.ENVIRONMENT.get(one[1:], one) if one.startswith("$") else one for one in words]


class ForkedWorld(world.World):
    """The world of a fault without a fleet."""

    def _place(self) -> world.Place:
        self.places.append(ForkedPlace())
        return self.places[-1]

    def collect(
        self, target: str | None, ask: dict[str, Any], window: float, place: world.Place | None = None
    ) -> tuple[dict[str, Any], float]:
        params = self.parameters(target, ask, window)

        def work() -> None:
            begun = time.monotonic()
            evidence = collect.collect(collect.Options.from_params(params))
            print(json.dumps([evidence, time.monotonic() - begun]))

        assert isinstance(self.host, ForkedPlace)
        child = self.host.call(work)
        assert child.wait() == 0, child.stdout[-2000:]
        evidence, seconds = json.loads(child.stdout.splitlines()[-1])
        return evidence, seconds


def main(names: list[str]) -> None:
    """A machine at rest whose resolver is that of the world, for all namespaces: it is thrown away afterwards."""
    subprocess.run(["sh", "-euc", world.PREPARE], check=True, stdin=subprocess.DEVNULL)
    entries = {one.name: one for one in runner.load(runner.FAULTS)}
    # Once here: what is imported only when it is needed would be imported by every child again.
    collect.collect(collect.Options.from_params(ForkedWorld.parameters("tcp/1", {"peers": [], "probe_timeout": 0.1}, 0.0)))
    for name in names:
        outcome = runner.run(entries[name], ForkedWorld)
        print("OUTCOME " + json.dumps(dataclasses.asdict(outcome)), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
