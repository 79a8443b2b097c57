# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Drills that need a distribution's kernel or a clock, by the playbook: found, and gone afterwards as the machine tells it."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.lab.guest import ROOT, Guest
from tests.tools import BIN

pytestmark = [pytest.mark.lab, pytest.mark.machine, pytest.mark.drill]

_HOST, _PEER = "drilled", "drill-peer"
_WORLD = f"""
ip netns add {_HOST}; ip netns add {_PEER}
ip -n {_HOST} link add eth0 type veth peer name eth0 netns {_PEER}
for ns in {_HOST} {_PEER}; do ip -n $ns link set lo up; ip -n $ns link set eth0 up; done
ip -n {_HOST} addr add 10.66.0.1/24 dev eth0; ip -n {_PEER} addr add 10.66.0.2/24 dev eth0
ip -n {_HOST} route add default via 10.66.0.2
"""
_GONE = f"for ns in {_HOST} {_PEER}; do ip netns del $ns || true; done"
_WEB = """
import http.server
http.server.ThreadingHTTPServer(("10.66.0.1", 1678), http.server.SimpleHTTPRequestHandler).serve_forever()
"""


@pytest.fixture(scope="module")
def world(guest: Guest) -> Iterator[Guest]:
    guest.sh(_WORLD)
    server = guest.spawn(_WEB, netns=_HOST)
    yield guest
    guest.end(server)
    guest.sh(_GONE)


def drill(guest: Guest, folder: Path, fault: str) -> dict[str, Any]:
    """``drill_report`` of the playbook, which must succeed."""
    variables = {
        "ansible_connection": "guest",
        "ansible_python_interpreter": "/usr/bin/python3",
        "ansible_remote_tmp": "/tmp/ansible",
    }
    inventory = {"all": {"vars": variables, "hosts": {_HOST: {"guest_netns": _HOST}}}}
    (folder / "inventory.yml").write_text(yaml.safe_dump(inventory), encoding="utf-8")
    environ = {
        **os.environ,
        "GUEST_PORT": str(guest.port),
        "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
        "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".collections"),
        "ANSIBLE_CONNECTION_PLUGINS": str(ROOT / "tests" / "lab" / "connection"),
        "ANSIBLE_PIPELINING": "1",
        "ANSIBLE_NOCOLOR": "1",
        "HOME": str(folder),
    }
    given = {
        "drill_fault": fault,
        "drill_host": _HOST,
        "drill_seconds": 900,
        "drill_output": str(folder / "out"),
        "drill_window": 0,
    }
    argv = [str(BIN / "ansible-playbook"), "-i", str(folder / "inventory.yml"), str(ROOT / "playbooks" / "fault_drill.yml")]
    argv += ["-e", json.dumps({**given, "diagnose_timeout": 900, "drill_enforce": False})]
    done = subprocess.run(argv, env=environ, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=1800, check=False)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    (run,) = [path.parent for path in (folder / "out").glob("*/run.json") if not path.parent.is_symlink()]
    (record,) = json.loads((run / "report.json").read_text(encoding="utf-8"))["hosts"]
    found: dict[str, Any] = record
    return found


def test_latency(world: Guest, tmp_path: Path) -> None:
    record = drill(world, tmp_path, "latency")
    first = record["findings"][0]
    assert (first["id"], first["subject"]) == ("link-impaired", "netem eth0 root"), record["findings"]
    assert "netem" not in world.sh("tc qdisc show dev eth0", netns=_HOST), "taken back"


def test_clock_stepped(world: Guest, tmp_path: Path) -> None:
    """Found by the controller's own clock. Afterwards the host's is as before, and what passed meanwhile is counted."""

    def clocks() -> tuple[float, float]:
        """The host's clock minus this machine's, which an emulated one may lag behind, and minus the time since its boot."""
        now, booted = world.call("import time; result = [time.time(), time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)]")
        return float(now) - time.time(), float(booted)

    offset, before = clocks()
    record = drill(world, tmp_path, "clock-stepped")
    (found,) = [one for one in record["findings"] if one["id"] == "clock-offset"]
    assert "behind the controller's" in found["summary"] and found["data"]["high"] < offset - 55
    assert abs(clocks()[1] - before) < 2


def test_a_filter_of_tc(world: Guest, tmp_path: Path) -> None:
    record = drill(world, tmp_path, "tc-action-drop")
    first = record["findings"][0]
    assert first["id"] == "tc-filter-drops-target" and first["subject"].startswith("tc filter eth0 ingress pref 10 flower")
    assert "clsact" not in world.sh("tc qdisc show dev eth0", netns=_HOST), "taken back"
