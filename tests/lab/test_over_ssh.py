# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Drills and captures as they are used: the shipped playbooks, systemd hosts, SSH."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import tools
from tests.kernel.conftest import until
from tests.lab import faults
from tests.lab.lab import Host, Lab

pytestmark = pytest.mark.lab

BROKEN, WELL = "gpu01", "gpu02"


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab(f"ssh-{os.getpid()}", hosts=2) as made:
        yield made


def command(lab: Lab, playbook: str, **variables: object) -> list[str]:
    return ["ansible-playbook", "-i", str(lab.inventory), f"playbooks/{playbook}.yml", "-e", json.dumps(variables)]


ENVIRONMENT = {"ANSIBLE_CONFIG": str(tools.ROOT / "ansible.cfg")}


def rules(host: Host) -> str:
    return host.run("nft list ruleset").stdout


def test_a_drill_breaks_one_host_is_named_first_and_is_taken_back(lab: Lab, tmp_path: Path) -> None:
    argv = command(lab, "fault_drill", drill_fault="nft-drop-own-table", drill_host=BROKEN, drill_output=str(tmp_path))
    assert faults.connects(lab.hosts[WELL], lab.hosts[BROKEN].address)
    said = tools.passes(argv, env=ENVIRONMENT, timeout_s=300)
    assert '"first": true' in said, said
    report = json.loads((tmp_path / "latest" / "report.json").read_text())
    found = {host["name"]: [one["id"] for one in host["findings"]] for host in report["hosts"]}
    assert found[BROKEN][0] == "firewall-drops-target" and "firewall-drops-target" not in found[WELL], found
    assert "tenant_guard" not in rules(lab.hosts[BROKEN])
    assert faults.connects(lab.hosts[WELL], lab.hosts[BROKEN].address)


def test_a_host_whose_controller_is_gone_takes_the_fault_back_alone(lab: Lab, tmp_path: Path) -> None:
    argv = command(
        lab, "fault_drill", drill_fault="nft-drop-own-table", drill_host=BROKEN, drill_output=str(tmp_path), drill_window=60,
        drill_seconds=30,
    )  # fmt: skip
    tool = str(tools.BIN / argv[0])
    process = subprocess.Popen(
        [tool, *argv[1:]], cwd=tools.ROOT, env={**os.environ, **ENVIRONMENT}, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    try:
        # The table comes first, the rule that drops last.
        until(lambda: not faults.connects(lab.hosts[WELL], lab.hosts[BROKEN].address, timeout_s=1.5), 120)
        assert "tenant_guard" in rules(lab.hosts[BROKEN])
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    until(lambda: "tenant_guard" not in rules(lab.hosts[BROKEN]), 120)
    assert faults.connects(lab.hosts[WELL], lab.hosts[BROKEN].address)


def test_captures_of_two_hosts_cover_the_same_seconds_and_tell_who_did_not_answer(lab: Lab, tmp_path: Path) -> None:
    sender, deaf = lab.hosts[WELL], lab.hosts[BROKEN]
    faults.apply(deaf, "nft_drop")
    over = threading.Event()

    def knock() -> None:
        while not over.is_set():
            faults.connects(sender, deaf.address, timeout_s=0.5)

    knocking = threading.Thread(target=knock)
    knocking.start()
    try:
        argv = command(
            lab, "capture", capture_filter=f"tcp port {faults.PORT}", capture_seconds=6, capture_output=str(tmp_path / "captures")
        )
        said = tools.passes(argv, env=ENVIRONMENT, timeout_s=300)
    finally:
        over.set()
        knocking.join()
        faults.apply(deaf, "nft_drop", "revert")
    files = {path.stem: path for path in (tmp_path / "captures").rglob("*.pcap")}
    assert set(files) == {BROKEN, WELL}, said
    times: dict[str, set[float]] = {}
    for name, path in files.items():
        shown = subprocess.run(
            ["tcpdump", "-tt", "-n", "-r", str(path), f"tcp[tcpflags] & tcp-syn != 0 and dst host {deaf.address}"],
            capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip
        times[name] = {float(line.split()[0]) for line in shown.splitlines()}
        assert path.stat().st_mode & 0o077 == 0
    # One machine, one clock: the same packets are seen by both within a moment.
    both = [one for one in times[WELL] if any(abs(one - other) < 0.05 for other in times[BROKEN])]
    assert len(both) >= 3 and len(both) >= 0.8 * min(map(len, times.values())), times
    assert "no answer: " in said and f"to {deaf.address}:{faults.PORT}" in said, said
    for host in lab.hosts.values():
        assert host.run("pgrep -x tcpdump", check=False).returncode == 1
