# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Role placement in the rollout of playbooks/tune.yml: a canary, a host that fails and returns alone, and the way back."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.lab.lab import Host, Lab

pytestmark = pytest.mark.lab

ROOT = Path(__file__).resolve().parents[2]
UNIT = "placed.service"
DROP_IN = f"/etc/systemd/system/{UNIT}.d/zz-netops-fleet-placement.conf"
#: Starts only where nothing says it is broken.
TEXT = "[Service]\nExecStartPre=/usr/bin/test ! -e /run/broken\nExecStart=/usr/bin/sleep infinity\n"


def play(lab: Lab, playbook: str, tmp_path: Path, **variables: Any) -> tuple[int, str]:
    """The rollout's report goes below tmp_path."""
    argv = [str(Path(sys.executable).parent / "ansible-playbook"), "-i", str(lab.inventory), f"playbooks/{playbook}.yml"]
    argv += ["-e", json.dumps({"rollout_output": str(tmp_path), "rollout_worst": "none", "rollout_window": 0.2, **variables})]
    environment = {**os.environ, "ANSIBLE_NOCOLOR": "1", "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")}
    done = subprocess.run(argv, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300)
    return done.returncode, done.stdout + done.stderr


def run(host: Host, *argv: str) -> str:
    return host.run(list(argv)).stdout.strip()


def allowed(host: Host) -> str:
    pid = run(host, "systemctl", "show", "-p", "MainPID", "--value", UNIT)
    return run(host, "awk", "/Cpus_allowed_list/ {print $2}", f"/proc/{pid}/status")


def placed(host: Host) -> bool:
    return run(host, "sh", "-c", f"test -e {DROP_IN} && echo yes || echo no") == "yes"


@pytest.fixture
def hosts(fleet: Lab) -> Iterator[list[Host]]:
    found = [fleet.hosts[name] for name in sorted(fleet.hosts)]
    for host in found:
        run(host, "sh", "-c", f"printf '{TEXT}' > /etc/systemd/system/{UNIT}; systemctl daemon-reload; systemctl start {UNIT}")
    yield found
    for host in found:
        script = f"rm -rf /run/broken {Path(DROP_IN).parent}; systemctl stop {UNIT}; rm /etc/systemd/system/{UNIT}"
        run(host, "sh", "-c", f"{script}; systemctl daemon-reload; systemctl reset-failed; rm -rf /var/lib/netops.fleet")


def test_the_canary_is_placed_a_broken_host_returns_and_the_fleet_goes_back(
    fleet: Lab, hosts: list[Host], tmp_path: Path
) -> None:
    wanted = {
        "rollout_roles": ["netops.fleet.placement"],
        "placement_services": [{"name": "placed", "cpus": "0", "policy": "keep"}],
        "placement_restart": True,
    }
    everywhere = allowed(hosts[0])
    assert everywhere != "0"
    run(hosts[1], "touch", "/run/broken")
    status, output = play(fleet, "tune", tmp_path, tune_batches=[1, 1], **wanted)
    assert status != 0 and "It did not take and is taken back" in output, output
    assert placed(hosts[0]) and allowed(hosts[0]) == "0"
    assert not placed(hosts[1])
    (report,) = tmp_path.glob("tune-*/rollout.json")
    assert {name: one for name, one in json.loads(report.read_text())["hosts"].items() if one != "new"} == {
        sorted(fleet.hosts)[1]: "failed"
    }
    # The second host mended: the rollout goes on, and changes nothing where it was.
    run(hosts[1], "sh", "-c", f"rm /run/broken; systemctl reset-failed {UNIT}; systemctl start {UNIT}")
    before = run(hosts[0], "systemctl", "show", "-p", "MainPID", UNIT)
    status, output = play(fleet, "tune", tmp_path / "again", tune_batches=[1, 1], **wanted)
    assert status == 0, output
    assert [allowed(host) for host in hosts] == ["0", "0"]
    assert run(hosts[0], "systemctl", "show", "-p", "MainPID", UNIT) == before
    status, output = play(fleet, "rollback", tmp_path)
    assert status == 0, output
    assert not any(placed(host) for host in hosts) and {allowed(host) for host in hosts} == {everywhere}
