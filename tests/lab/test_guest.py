# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A virtual machine ends with the test that started it, however that test ended."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.lab.guest import ROOT, Guest

pytestmark = [pytest.mark.lab, pytest.mark.machine]

_STARTER = """
from tests.lab.guest import Guest

class Told(Guest):
    def _ask(self, *unused):
        print(self._process.pid, self._folder.name, flush=True)
        raise OSError

with Told():
    pass
"""


def running(group: int) -> list[str]:
    """Names of the processes of a process group that are not mere remains."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            name, rest = stat.read_text().split("(", 1)[1].rsplit(") ", 1)
        except OSError:
            continue
        state, _parent, pgrp = rest.split()[:3]
        if int(pgrp) == group and state != "Z":
            found.append(name)
    return found


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_nothing_is_left_of_a_killed_test() -> None:
    """Killed while the machine boots, when nothing in it could notice yet."""
    argv = [sys.executable, "-c", _STARTER]
    with subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, text=True) as starter:
        assert starter.stdout is not None
        group, folder = starter.stdout.readline().split()
        try:
            until(lambda: any(name.startswith("qemu") for name in running(int(group))))
        finally:
            starter.kill()
    until(lambda: not running(int(group)))
    until(lambda: not Path(folder).exists())


def test_nothing_is_left_of_a_failed_test() -> None:
    guest = Guest(boot_s=0)
    with pytest.raises(AssertionError, match="does not answer"), guest:
        pass
    assert running(guest._process.pid) == []
    assert not Path(guest._folder.name).exists()
