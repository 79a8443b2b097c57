# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Throw-away network namespaces for tests against the real kernel. Everything made here is gone after the test."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
_COUNTER = itertools.count(1)
#: How many times as long as usual things may take: a machine that is emulated is slow, not broken.
PATIENCE = float(os.environ.get("TEST_PATIENCE", "1"))


def environment(*more: Path) -> dict[str, str]:
    """For interpreters that find the collection, and modules in the folders ``more``.

    Tests start many: what these import is compiled once, beside the tree. Those of a bench compile it each time, as a host's do.
    """
    folders = os.pathsep.join(map(str, (ROOT / ".collections", *more)))
    compiled = {"PYTHONPYCACHEPREFIX": str(ROOT / ".cache" / "bytecode"), "PYTHONDONTWRITEBYTECODE": ""}
    ways = compiled if "PYTEST_VERSION" in os.environ else {"PYTHONDONTWRITEBYTECODE": "1"}
    return {**os.environ, "PYTHONPATH": folders, **ways}


class Namespace:
    """A network namespace with ``lo`` up; processes started with ``start`` end with it."""

    def __init__(self) -> None:
        self.name = f"nf-{os.getpid()}-{next(_COUNTER)}"
        self._started: list[subprocess.Popen[str]] = []
        subprocess.run(["ip", "netns", "add", self.name], check=True)
        self.run(["ip", "link", "set", "lo", "up"])

    def argv(self, argv: list[str]) -> list[str]:
        return ["ip", "netns", "exec", self.name, *argv]

    def run(
        self,
        argv: list[str],
        check: bool = True,
        input: str | None = None,
        timeout: float = 60,
        env: dict[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command inside; text in and out."""
        done = subprocess.run(
            self.argv(argv), capture_output=True, text=True, input=input, timeout=timeout * PATIENCE, env=env, check=False
        )
        if check and done.returncode:
            raise AssertionError(f"{argv}: exit status {done.returncode}\n{done.stdout}\n{done.stderr}")
        return done

    def json(self, argv: list[str]) -> Any:
        """What a command printed, read as JSON."""
        return json.loads(self.run(argv).stdout or "[]")

    def python(self, code: str, *args: str, check: bool = True, timeout: float = 60) -> subprocess.CompletedProcess[str]:
        """Run Python code inside, in a fresh interpreter that finds the collection; ``args`` become sys.argv[1:]."""
        return self.run([sys.executable, "-c", code, *args], check=check, timeout=timeout, env=self.environment())

    def python_json(self, code: str, *args: str, timeout: float = 60) -> Any:
        """As ``python``; the JSON value printed on the last line."""
        return json.loads(self.python(code, *args, timeout=timeout).stdout.splitlines()[-1])

    @staticmethod
    def environment() -> dict[str, str]:
        return environment()

    def start(self, argv: list[str], ready: str | None = None) -> subprocess.Popen[str]:
        """Start a process inside that ends with the test; with ``ready``, wait until it prints that line."""
        process = subprocess.Popen(
            self.argv(argv),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=self.environment(),
            start_new_session=True,
        )
        self._started.append(process)
        if ready is not None:
            assert process.stdout is not None
            for line in process.stdout:
                if line.strip() == ready:
                    break
            else:
                raise AssertionError(f"{argv} ended before it said {ready!r}")
        return process

    def start_python(self, code: str, *args: str, ready: str | None = "ready") -> subprocess.Popen[str]:
        return self.start([sys.executable, "-u", "-c", code, *args], ready)

    def remove(self) -> None:
        for process in self._started:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    try:
                        pipe.close()
                    except OSError:
                        pass  # what was buffered for a dead process
        subprocess.run(["ip", "netns", "del", self.name], check=False)


def until(condition: Callable[[], Any], seconds: float = 20) -> Any:
    """Wait for a condition; returns its first true value, fails after ``seconds``."""
    deadline = time.monotonic() + seconds * PATIENCE
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, "the awaited condition did not come true"
        time.sleep(0.02)


@pytest.fixture
def make_ns() -> Iterator[Callable[[], Namespace]]:
    """Makes as many namespaces as a test needs."""
    made: list[Namespace] = []

    def make() -> Namespace:
        made.append(Namespace())
        return made[-1]

    yield make
    for namespace in made:
        namespace.remove()


@pytest.fixture
def ns(make_ns: Callable[[], Namespace]) -> Namespace:
    return make_ns()


@pytest.fixture
def wait_until() -> Callable[..., Any]:
    return until


@pytest.fixture
def pair(make_ns: Callable[[], Namespace]) -> tuple[Namespace, Namespace]:
    """Two namespaces joined by a veth: 10.77.0.1/24, fd77::1/64 on ``va`` and 10.77.0.2/24, fd77::2/64 on ``vb``."""
    left, right = make_ns(), make_ns()
    left.run(["ip", "link", "add", "va", "type", "veth", "peer", "name", "vb", "netns", right.name])
    for namespace, link, number in ((left, "va", 1), (right, "vb", 2)):
        namespace.run(["ip", "addr", "add", f"10.77.0.{number}/24", "dev", link])
        namespace.run(["ip", "-6", "addr", "add", f"fd77::{number}/64", "dev", link, "nodad"])
        namespace.run(["ip", "link", "set", link, "up"])
    return left, right
