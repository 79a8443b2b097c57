# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""playbooks/drill.yml with the commands it ships, on systemd hosts with a real keepalived and model servers.

What is measured is the address that moves between two hosts; how the kernel balances behind it is the virtual machine's to show.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.netops.fleet.plugins.module_utils._lvs import keepalived
from tests.lab.lab import Host, Lab
from tests.tools import BIN, ROOT

pytestmark = [pytest.mark.lab, pytest.mark.drill]

MARK = "/run/netops-fleet-lvs-drill"
WEIGHT = "/run/drill-weight"


def until(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline, "the awaited condition did not come true"
        time.sleep(0.2)


def holds(host: Host, address: str) -> bool:
    return address in host.run(f"ip -o address show to {address}").stdout


def active(host: Host, unit: str) -> bool:
    return host.run(f"systemctl is-active {unit}", check=False).stdout.strip() == "active"


def play(argv: list[str], environ: dict[str, str]) -> tuple[int, str]:
    done = subprocess.run(
        argv, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, stdin=subprocess.DEVNULL, timeout=600,
        check=False,
    )  # fmt: skip
    return done.returncode, done.stdout


class Pair:
    """Two directors with one address, each with a model server; the controller is the client."""

    def __init__(self, fleet: Lab) -> None:
        assert fleet.net is not None
        self.fleet = fleet
        self.first, self.second = fleet.hosts.values()
        self.vip = fleet.net.address(200)[0]

    def start(self) -> None:
        for host, priority in ((self.first, 120), (self.second, 100)):
            text = keepalived.configuration(
                {
                    "router_id": host.name,
                    "vrrp": [
                        {"name": "VI_1", "interface": "eth0", "id": 80, "priority": priority, "advertise": 0.2, "preempt": True,
                         "addresses": [f"{self.vip}/32"]}
                    ],
                }
            )  # fmt: skip
            host.run("mkdir -p /etc/keepalived; cat > /etc/keepalived/keepalived.conf", input=text.encode())
            host.run("systemctl start keepalived")
        until(lambda: holds(self.first, self.vip) and not holds(self.second, self.vip))

    def stop(self) -> None:
        for host in (self.first, self.second):
            host.run(
                f"systemctl stop keepalived; rm -f /etc/keepalived/keepalived.conf {MARK} {WEIGHT}*; systemctl start model-server"
            )

    def command(self, folder: Path, **variables: Any) -> tuple[list[str], dict[str, str]]:
        """ansible-playbook and its environment."""
        me = {
            "ansible_connection": "local",
            "ansible_python_interpreter": "/usr/bin/python3",
            "ansible_async_dir": str(folder / "async"),
        }
        extra = {
            "all": {
                "children": {
                    "directors": {"hosts": {self.first.name: {}, self.second.name: {}}},
                    "clients": {"hosts": {"me": me}},
                }
            }
        }
        (folder / "clients.yml").write_text(json.dumps(extra))
        words = {
            "drill_client": "me", "lvs_drill_address": self.vip, "lvs_drill_port": 1678, "lvs_drill_before": 2,
            "lvs_drill_hold": 5, "lvs_drill_after": 6, "lvs_drill_timeout": 1, "lvs_drill_streams": 0,
            "lvs_drill_budget": {"gap_s": 60}, **variables,
        }  # fmt: skip
        argv = [str(BIN / "ansible-playbook"), "-i", str(self.fleet.inventory), "-i", str(folder / "clients.yml")]
        environ = {
            **os.environ,
            "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
            "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".collections"),
            "ANSIBLE_NOCOLOR": "1",
            "HOME": str(folder),
        }
        return [*argv, str(ROOT / "playbooks" / "drill.yml"), "-e", json.dumps(words)], environ

    def drill(self, folder: Path, **variables: Any) -> tuple[int, str, dict[str, Any]]:
        """(status, what was printed, the report that was printed as JSON)."""
        status, said = play(*self.command(folder, **variables))
        found = re.search(r'\{\n +"lvs_drill_report".*?\n\}', said, re.DOTALL)
        assert found, said[-6000:]
        report: dict[str, Any] = json.loads(found[0])["lvs_drill_report"]
        print("FIGURE " + json.dumps({"drill": report}))
        return status, said, report


@pytest.fixture(scope="module")
def pair(fleet: Lab) -> Iterator[Pair]:
    made = Pair(fleet)
    try:
        made.start()
        yield made
    finally:
        made.stop()


def as_before(pair: Pair) -> None:
    """Every drill ends with this."""
    for host in (pair.first, pair.second):
        assert host.run(f"test ! -e {MARK}; echo $?").stdout == "0\n"
        assert active(host, "model-server") and active(host, "keepalived")
    until(lambda: holds(pair.first, pair.vip) and not holds(pair.second, pair.vip))


@pytest.mark.parametrize("scenario", ["kill_director", "planned_switch"])
def test_the_other_director_takes_over(pair: Pair, tmp_path: Path, scenario: str) -> None:
    status, said, report = pair.drill(tmp_path, lvs_drill_scenario=scenario)
    assert status == 0, said[-3000:]
    assert (report["scenario"], report["target"]) == (scenario, pair.first.name)
    assert {"gap_s", "refused", "reset", "timeout", "failed", "fault_s"} <= set(report) and report["gap_s"] > 0
    phases = {phase: sorted(name.split('"')[7] for name in found) for phase, found in report["distribution"].items()}
    assert phases["before"] == [pair.first.name] and pair.second.name in phases["during"] and phases["after"]
    as_before(pair)


def test_reload_is_not_noticed(pair: Pair, tmp_path: Path) -> None:
    status, said, report = pair.drill(tmp_path, lvs_drill_scenario="reload", lvs_drill_budget={"failed": 0, "gap_s": 60})
    assert status == 0 and report["failed"] == 0, said[-3000:]
    as_before(pair)


def test_a_dead_backend_is_over_budget_and_comes_back(pair: Pair, tmp_path: Path) -> None:
    """Asked at its own address: nobody takes over, so the gap is the fault's length and the budget is exceeded."""
    status, said, report = pair.drill(
        tmp_path, lvs_drill_scenario="kill_backend", lvs_drill_target=pair.second.name, lvs_drill_address=pair.second.address,
        lvs_drill_budget={"gap_s": 2},
    )  # fmt: skip
    assert status != 0 and "over budget: gap_s" in said
    assert report["gap_s"] >= 5 and report["refused"] > 0 and not report["within_budget"]
    assert report["distribution"]["after"]
    as_before(pair)


def test_drain_writes_the_weight_and_puts_it_back(pair: Pair, tmp_path: Path) -> None:
    pair.first.run(f"echo 4 > {WEIGHT}; echo 4 > {WEIGHT}.target; rm -f {WEIGHT}.seen")
    loop = f"for _ in $(seq 200); do cat {WEIGHT} >> {WEIGHT}.seen; sleep 0.2; done"
    pair.first.run(f"setsid --fork sh -c '{loop}' > /dev/null 2>&1 < /dev/null")
    status, said, report = pair.drill(tmp_path, lvs_drill_scenario="drain", lvs_drill_weight_file=WEIGHT)
    assert status == 0 and report["failed"] == 0, said[-3000:]
    seen = pair.first.run(f"uniq {WEIGHT}.seen").stdout.split()
    assert seen == ["4", "-1", "4"]
    as_before(pair)


def test_a_killed_controller_leaves_no_fault_behind(pair: Pair, tmp_path: Path) -> None:
    """The host reverts alone, and a second drill is refused while the first one's fault is there."""
    wish = {
        "lvs_drill_scenario": "kill_backend", "lvs_drill_target": pair.second.name, "lvs_drill_address": pair.second.address,
        "lvs_drill_hold": 15, "lvs_drill_grace": 1,
    }  # fmt: skip
    argv, environ = pair.command(tmp_path, **wish)
    with (tmp_path / "log").open("wb") as log:
        running = subprocess.Popen(argv, env=environ, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True)
    try:
        until(lambda: not active(pair.second, "model-server"))
    finally:
        os.killpg(running.pid, signal.SIGKILL)
        running.wait()
    argv, environ = pair.command(tmp_path, **wish)
    status, said = play(argv, environ)
    assert status != 0 and "Refuse while another drill is on" in said.split("fatal:")[0].rsplit("TASK", 1)[1], said
    until(lambda: active(pair.second, "model-server"))
    as_before(pair)
