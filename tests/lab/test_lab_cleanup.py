# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""`down` leaves nothing, whenever `up` was killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab import engine, image, network
from tests.lab.lab import Lab

pytestmark = pytest.mark.lab

ROOT = Path(__file__).resolve().parents[2]
NAME = f"k{os.getpid()}"


def traces() -> list[str]:
    """What other tools still see of the lab, by its name. The lab's own code is not asked."""
    net = network.Net(NAME, 0)
    mark = f"{engine.PREFIX}-{NAME}"
    found = []
    for line in subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True).stdout.splitlines():
        if line.split()[0] == mark:
            found.append(f"namespace {line}")
    for line in subprocess.run(["ip", "-o", "link"], capture_output=True, text=True, check=True).stdout.splitlines():
        if net.controller_link in line:
            found.append(f"link {line}")
    for path in Path("/proc").glob("[0-9]*"):
        try:
            line = (path / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            groups = (path / "cgroup").read_text()
        except OSError:
            continue
        if int(path.name) != os.getpid() and (f"{mark}-" in line or f"/{mark}/" in groups):
            found.append(f"process {path.name} {line}")
    storage = str(engine.CACHE / "storage")
    containers = engine.podman("ps", "--all", "--format", "{{.Names}}").stdout.decode().split()
    found += [f"container {name}" for name in containers if name.startswith(mark)]
    if not containers:  # another lab's containers have mounts in the same storage
        found += [f"mount {line}" for line in Path("/proc/self/mounts").read_text().splitlines() if f"{storage}/overlay/" in line]
    found += [f"cgroup {path}" for path in Path("/sys/fs/cgroup").glob(f"*/{mark}")]
    found += [f"folder {path}" for path in (engine.CACHE / "labs" / NAME, engine.RUN / NAME) if path.exists()]
    return found


def lab_cli(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tests.lab", *arguments], cwd=ROOT, capture_output=True, text=True, stdin=subprocess.DEVNULL
    )


@pytest.fixture(autouse=True)
def _removed() -> Iterator[None]:
    image.ensure()  # not while a test counts seconds of a boot
    yield
    Lab(NAME).down()


@pytest.mark.parametrize("moment", ["state file written", "first container there", "first host up"])
def test_down_after_a_boot_that_was_killed(moment: str) -> None:
    boot = subprocess.Popen(
        [sys.executable, "-m", "tests.lab", "up", "--name", NAME, "--hosts", "3"],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert boot.stderr is not None
    if moment == "first host up":
        for line in boot.stderr:
            if " is up (" in line:
                break
        else:
            pytest.fail("the boot ended before a host was up")
    else:
        sign = engine.CACHE / "labs" / NAME / ("state.json" if moment == "state file written" else "hosts.yml")
        while not (sign.exists() and (moment == "state file written" or Lab(NAME)._containers())):
            assert boot.poll() is None, "the boot ended too early"
            time.sleep(0.01)
    boot.send_signal(signal.SIGKILL)
    boot.wait()
    boot.stderr.close()
    assert traces() != []

    done = lab_cli("down", "--name", NAME)
    assert done.returncode == 0, done.stderr
    assert traces() == []


def test_down_is_idempotent_and_needs_no_lab() -> None:
    for _ in range(2):
        done = lab_cli("down", "--name", NAME)
        assert done.returncode == 0, done.stderr
    assert traces() == []


def test_a_boot_that_fails_takes_everything_away(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_arguments: object) -> None:
        raise engine.LabError("no wires today")

    monkeypatch.setattr(network, "connect", refuse)
    with pytest.raises(engine.LabError, match="no wires today"):
        Lab(NAME, hosts=2).up()
    assert traces() == []


def test_two_labs_live_side_by_side() -> None:
    with Lab(NAME, hosts=1) as one, Lab(f"{NAME}-b", hosts=1) as two:
        assert one.net is not None and two.net is not None
        assert not one.net.v4.overlaps(two.net.v4)
        for lab in (one, two):
            assert lab.hosts["gpu01"].run("hostname").stdout.strip() == "gpu01"
        other = two.hosts["gpu01"].address
        assert one.hosts["gpu01"].run(["ping", "-c1", "-W1", other], check=False).returncode != 0
    assert traces() == []
