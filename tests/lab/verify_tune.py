# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What molecule/tune verifies, after the rollout went over four hosts twice. In order; each test leaves what the next one needs.

Run by the scenario, with NETOPS_LAB (the lab's name), NETOPS_SNAPSHOTS (taken before the rollout) and NETOPS_REPORTS.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.lab import tuning
from tests.lab.lab import Host, Lab

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
FILE = "/etc/sysctl.d/zz-netops-fleet.conf"
#: As in molecule/tune/converge.yml.
WANTED = {
    "tune_kernel_profile": "inference",
    "tune_kernel_rtt_ms": 0.2,
    "tune_kernel_link_mbit": 100000,
    "rollout_window": 0.5,
    "rollout_http": [f"http://127.0.0.1:{tuning.PROBE_PORT}/"],
    "rollout_http_timeout": 20,
    "tune_kernel_nofile": 2048,
    "tune_kernel_services": ["model-server"],
}

#: The same as WANTED, as the module's own options.
ASKED = {
    "profile": "inference", "rtt_ms": 0.2, "link_mbit": 100000, "limits": {"nofile": 2048, "services": ["model-server"]},
}  # fmt: skip


@pytest.fixture(scope="module")
def lab() -> Lab:
    return Lab.attach(os.environ["NETOPS_LAB"])


@pytest.fixture(scope="module")
def before(lab: Lab) -> dict[str, dict[str, Any]]:
    folder = Path(os.environ["NETOPS_SNAPSHOTS"])
    return {name: json.loads((folder / f"{name}.json").read_text()) for name in lab.hosts}


@pytest.fixture
def reports(tmp_path: Path) -> Path:
    return tmp_path / "reports"


def start(lab: Lab, *arguments: str, variables: dict[str, Any] | None = None) -> subprocess.Popen[str]:
    argv = [str(BIN / "ansible-playbook"), "-i", str(lab.inventory), *arguments]
    if variables is not None:
        argv += ["-e", json.dumps(variables)]
    environment = {**os.environ, "ANSIBLE_NOCOLOR": "1", "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(
        argv, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        start_new_session=True,
    )  # fmt: skip


def play(lab: Lab, *arguments: str, variables: dict[str, Any] | None = None) -> tuple[int, str]:
    process = start(lab, *arguments, variables=variables)
    output, _nothing = process.communicate(timeout=300)
    return process.returncode, output


def module(lab: Lab, host: str, name: str, **arguments: Any) -> dict[str, Any]:
    """One module, as ``ansible`` runs it; its whole answer."""
    argv = [str(BIN / "ansible"), "-i", str(lab.inventory), host, "-m", f"netops.fleet.{name}", "-a", json.dumps(arguments)]
    environment = {**os.environ, "ANSIBLE_NOCOLOR": "1", "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")}
    environment |= {"ANSIBLE_LOAD_CALLBACK_PLUGINS": "1", "ANSIBLE_STDOUT_CALLBACK": "ansible.builtin.minimal"}
    done = subprocess.run(argv, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)
    answer = re.search(r"=> (\{.*\})", done.stdout, re.DOTALL)
    assert answer, done.stdout + done.stderr
    found: dict[str, Any] = json.loads(answer.group(1))
    return {**found, "failed": "FAILED!" in done.stdout}


def value(host: Host, name: str) -> str:
    return " ".join(host.run(["sysctl", "-n", name]).stdout.split())


def snapshots(lab: Lab) -> dict[str, dict[str, Any]]:
    with ThreadPoolExecutor(max_workers=4) as pool:
        return dict(zip(lab.hosts, pool.map(tuning.snapshot, lab.hosts.values())))


def untouched(before: dict[str, dict[str, Any]], now: dict[str, dict[str, Any]]) -> dict[str, list[str]]:
    """Hosts that differ from the snapshot taken before, with the differences."""
    return {name: found for name in before if (found := tuning.differences(before[name], now[name]))}


def rollout(folder: Path) -> dict[str, Any]:
    found = sorted(folder.glob("tune-*/rollout.json"))
    assert found, f"no rollout.json in {folder}"
    loaded: dict[str, Any] = json.loads(found[-1].read_text())
    return loaded


def roll_back(lab: Lab, before: dict[str, dict[str, Any]]) -> None:
    status, output = play(lab, "playbooks/rollback.yml")
    assert status == 0, output
    assert untouched(before, snapshots(lab)) == {}


def test_the_canary_came_first_then_a_tenth_then_the_rest(lab: Lab) -> None:
    runs = sorted(Path(os.environ["NETOPS_REPORTS"]).glob("tune-*/rollout.json"))
    first = json.loads(runs[0].read_text())
    assert first["batches"] == [["gpu01"], ["gpu02"], ["gpu03", "gpu04"]]
    assert set(first["hosts"].values()) == {"new"}
    times = {}
    for host in lab.hosts.values():
        line = host.run("head -1 /var/lib/netops.fleet/journal.jsonl").stdout
        times[host.name] = json.loads(line)["time"]
    assert times["gpu01"] < times["gpu02"] < min(times["gpu03"], times["gpu04"])
    again = json.loads(runs[1].read_text())
    assert set(again["hosts"].values()) == {"unchanged"}


def test_the_kernel_has_the_values_and_the_service_its_limit(lab: Lab) -> None:
    for host in lab.hosts.values():
        assert value(host, "net.core.somaxconn") == "65535"
        assert value(host, "net.ipv4.tcp_tw_reuse") == "1"
        assert value(host, "net.ipv4.tcp_fin_timeout") == "30"
        assert host.run("systemctl show -P LimitNOFILE model-server").stdout.strip() == "2048"
    # The service that runs has its old limit and backlog until it is restarted: both are told.
    host = lab.hosts["gpu01"]
    told = module(lab, "gpu01", "sysctl_tuning", **ASKED, state="planned")
    pid = host.run("systemctl show -P MainPID model-server").stdout.strip()
    assert f"restart model-server to get nofile 2048: pid {pid} runs with 1024" in told["restart"]
    shown = host.run("ss -Hltn sport = :1678").stdout.split()
    assert {one["backlog"] for one in told["old_backlogs"] if one["port"] == 1678} == {int(shown[2])}


def test_a_reboot_keeps_the_values_and_the_foreign_file_wins_where_it_was_said(lab: Lab) -> None:
    told = {name: module(lab, name, "sysctl_tuning", **ASKED, state="planned") for name in ("gpu02", "gpu04")}
    assert told["gpu02"]["overridden"] == []
    foreign = told["gpu04"]["overridden"]
    assert len(foreign) == 1 and f"{tuning.FOREIGN} line 2 sets 1024, not 65535" in foreign[0]
    with ThreadPoolExecutor(max_workers=2) as pool:
        list(pool.map(tuning.reboot, [lab.hosts[name] for name in told]))
    for name, answer in told.items():
        applied = [item for item in answer["plan"] if item["action"] != "skip"]
        assert len(applied) > 20
        for item in applied:
            assert value(lab.hosts[name], item["key"]) == item["boot"]["value"], f"{name}: {item['key']}"
    assert value(lab.hosts["gpu04"], "net.core.somaxconn") == "1024"
    assert value(lab.hosts["gpu02"], "net.core.somaxconn") == "65535"


def test_rollback_shows_first_and_then_equals_the_snapshot(lab: Lab, before: dict[str, dict[str, Any]]) -> None:
    tuned = snapshots(lab)
    status, output = play(lab, "playbooks/rollback.yml", "--check", "--diff")
    assert status == 0 and re.search(r"\+sysctl net\.core\.somaxconn = 4096", output), output
    assert untouched(tuned, snapshots(lab)) == {}
    # gpu04 booted with the foreign value: that is not this collection's any more.
    lab.hosts["gpu04"].run("sysctl -qw net.core.somaxconn=65535")
    roll_back(lab, before)


def test_check_mode_touches_nothing(lab: Lab, before: dict[str, dict[str, Any]], reports: Path) -> None:
    folders = {name: host.run("ls -A /var/lib/netops.fleet").stdout for name, host in lab.hosts.items()}
    variables = {**WANTED, "rollout_output": str(reports)}
    status, output = play(lab, "playbooks/tune.yml", "--check", "--diff", variables=variables)
    assert status == 0, output
    assert "+net.core.somaxconn = 65535" in output and f"+++ after: {FILE}" in output
    assert untouched(before, snapshots(lab)) == {}
    assert {name: host.run("ls -A /var/lib/netops.fleet").stdout for name, host in lab.hosts.items()} == folders


def test_a_failing_gate_rolls_its_batch_back_and_stops(lab: Lab, before: dict[str, dict[str, Any]], reports: Path) -> None:
    lab.hosts["gpu02"].run("touch /etc/fails-when-tuned")
    try:
        variables = {**WANTED, "rollout_output": str(reports), "tune_batches": [1, 2, 1]}
        status, output = play(lab, "playbooks/tune.yml", variables=variables)
    finally:
        lab.hosts["gpu02"].run("rm /etc/fails-when-tuned")
    assert status != 0
    told = rollout(reports)
    assert told["hosts"] == {"gpu01": "new", "gpu02": "rolled back", "gpu03": "rolled back", "gpu04": "waiting"}
    assert list(told["reasons"]) == ["gpu02"] and "does not answer as it should" in told["reasons"]["gpu02"]
    assert "1 of 4 hosts failed" in told["stopped"] and told["stopped"] in output
    assert sorted(untouched(before, snapshots(lab))) == ["gpu01"]
    roll_back(lab, before)


def test_a_failure_within_the_fleets_budget_costs_one_host_only(
    lab: Lab, before: dict[str, dict[str, Any]], reports: Path
) -> None:
    for name in ("gpu01", "gpu03"):
        lab.hosts[name].run("touch /etc/fails-when-tuned")
    try:
        variables = {**WANTED, "rollout_output": str(reports), "tune_batches": [1, 1, 1, 1], "rollout_budget": 1}
        status, output = play(lab, "playbooks/tune.yml", variables=variables)
    finally:
        for name in ("gpu01", "gpu03"):
            lab.hosts[name].run("rm /etc/fails-when-tuned")
    # One failure in a batch of one is all of it: the budget is the fleet's, so the run goes on until the second.
    assert status != 0
    told = rollout(reports)
    assert told["hosts"] == {"gpu01": "rolled back", "gpu02": "new", "gpu03": "rolled back", "gpu04": "waiting"}, output
    assert sorted(untouched(before, snapshots(lab))) == ["gpu02"]
    roll_back(lab, before)


def test_a_sick_fleet_is_not_touched(lab: Lab, before: dict[str, dict[str, Any]], reports: Path) -> None:
    lab.hosts["gpu03"].run("systemctl stop probe.service")
    try:
        status, output = play(lab, "playbooks/tune.yml", variables={**WANTED, "rollout_output": str(reports)})
        assert status != 0 and "Nothing was touched" in output
        told = rollout(reports)
        assert told["batches"] == [] and told["hosts"]["gpu03"] == "sick"
    finally:
        lab.hosts["gpu03"].run("systemctl start probe.service")
    assert untouched(before, snapshots(lab)) == {}


def test_a_host_that_is_down_counts_and_the_rest_goes_on_within_the_budget(
    lab: Lab, before: dict[str, dict[str, Any]], reports: Path
) -> None:
    """With a key that can cut hosts off, so that the others are confirmed too."""
    tuning.power_off(lab.hosts["gpu03"])
    try:
        settings = {"net.ipv4.conf.all.arp_ignore": 1}
        variables = {**WANTED, "rollout_output": str(reports), "rollout_budget": 1, "tune_kernel_settings": settings}
        _status, output = play(lab, "playbooks/tune.yml", variables=variables)
    finally:
        tuning.reboot(lab.hosts["gpu03"])
    told = rollout(reports)
    assert told["hosts"] == {"gpu01": "new", "gpu02": "new", "gpu03": "unreachable", "gpu04": "new"}, output
    assert list(told["reasons"]) == ["gpu03"] and told["stopped"] == ""
    for name in ("gpu01", "gpu02", "gpu04"):
        assert value(lab.hosts[name], "net.ipv4.conf.all.arp_ignore") == "1"
        assert "netops-fleet" not in lab.hosts[name].run("systemctl list-timers --all --no-legend").stdout
    roll_back(lab, before)


def test_a_host_that_is_lost_in_the_middle_of_its_batch(lab: Lab, before: dict[str, dict[str, Any]], reports: Path) -> None:
    """Its power goes as its batch is about to be changed: it is lost, the others go on; back again, rollback.yml leads home."""
    variables = {**WANTED, "tune_batches": [1, 3], "rollout_output": str(reports), "rollout_budget": 1, "rollout_timeout": 30}
    process = start(lab, "playbooks/tune.yml", variables=variables)
    assert process.stdout is not None
    said, seen = [], 0
    for line in process.stdout:
        said.append(line)
        seen += bool(re.match(r"TASK \[.*Take a baseline", line))
        if seen == 2 and re.match(r"TASK \[.*Tune the kernel", line):
            tuning.power_off(lab.hosts["gpu03"])
            seen = 3
    process.stdout.close()
    process.wait(timeout=60)
    tuning.reboot(lab.hosts["gpu03"])
    told = rollout(reports)
    assert told["hosts"] == {"gpu01": "new", "gpu02": "new", "gpu03": told["hosts"]["gpu03"], "gpu04": "new"}, "".join(said)
    assert told["hosts"]["gpu03"] in ("unreachable", "failed") and list(told["reasons"]) == ["gpu03"]
    assert told["stopped"] == ""
    roll_back(lab, before)


CUTS = {"settings": {"net.ipv4.conf.all.arp_ignore": 1}}


def until(condition: Any, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the awaited condition did not come true"
        time.sleep(0.2)


def test_a_change_that_nobody_confirms_is_taken_back_by_the_host(lab: Lab, before: dict[str, dict[str, Any]]) -> None:
    host = lab.hosts["gpu01"]
    done = module(lab, "gpu01", "sysctl_tuning", **CUTS, deadman=10)
    assert done["confirm_within"] == 10 and value(host, "net.ipv4.conf.all.arp_ignore") == "1"
    until(lambda: value(host, "net.ipv4.conf.all.arp_ignore") == "0")
    until(lambda: tuning.differences(before["gpu01"], tuning.snapshot(host)) == [])
    late = module(lab, "gpu01", "change_journal", state="confirmed", change=done["change"])
    assert late["failed"] and "not in force any more" in late["msg"]


def test_a_confirmed_change_stays(lab: Lab, before: dict[str, dict[str, Any]]) -> None:
    host = lab.hosts["gpu01"]
    done = module(lab, "gpu01", "sysctl_tuning", **CUTS, deadman=10)
    assert module(lab, "gpu01", "change_journal", state="confirmed", change=done["change"])["confirmed"] == [done["change"]]
    assert "netops-fleet" not in host.run("systemctl list-timers --all --no-legend").stdout
    # The timer would have fired by now.
    started = float(host.run("cut -d' ' -f1 /proc/uptime").stdout)
    until(lambda: float(host.run("cut -d' ' -f1 /proc/uptime").stdout) > started + 12)
    assert value(host, "net.ipv4.conf.all.arp_ignore") == "1"
    assert module(lab, "gpu01", "sysctl_tuning", state="absent")["changed"] is True
    assert tuning.differences(before["gpu01"], tuning.snapshot(host)) == []


def test_a_reboot_counts_as_not_confirmed(lab: Lab, before: dict[str, dict[str, Any]]) -> None:
    host = lab.hosts["gpu01"]
    module(lab, "gpu01", "sysctl_tuning", **CUTS, deadman=3600)
    assert host.run(f"cat {FILE}").stdout.count("arp_ignore") == 1
    tuning.reboot(host)
    assert value(host, "net.ipv4.conf.all.arp_ignore") == "0"
    assert tuning.differences(before["gpu01"], tuning.snapshot(host)) == []


def test_the_journals_own_command_works_without_ansible(lab: Lab, before: dict[str, dict[str, Any]]) -> None:
    host = lab.hosts["gpu01"]
    module(lab, "gpu01", "sysctl_tuning", profile="inference")
    shown = host.run("python3 /var/lib/netops.fleet/journal.pyz show").stdout
    assert "sysctl net.core.somaxconn: 4096 -> 65535" in shown
    host.run("python3 /var/lib/netops.fleet/journal.pyz rollback")
    assert tuning.differences(before["gpu01"], tuning.snapshot(host)) == []


def test_adaptive_buffers_run_by_a_timer_and_show_their_decisions(lab: Lab, before: dict[str, dict[str, Any]]) -> None:
    host = lab.hosts["gpu01"]
    asked = {"profile": "inference", "adapt": True, "adapt_window": 0.2, "adapt_interval": 10}
    module(lab, "gpu01", "sysctl_tuning", **asked)
    assert host.run("systemctl is-enabled netops-fleet-adapt.timer").stdout.strip() == "enabled"
    host.run("systemctl start netops-fleet-adapt.service")
    said = host.run("journalctl -u netops-fleet-adapt.service -o cat --no-pager").stdout
    assert re.search(r"load 0\.\d\d, memory \d+% free", said)
    told = module(lab, "gpu01", "sysctl_tuning", **asked)
    decisions = told["ansible_facts"]["netops_fleet_adapt"]["decisions"]
    assert {one["key"] for one in decisions} == {"net.ipv4.tcp_rmem", "net.ipv4.tcp_wmem"} and len(decisions) >= 6
    assert module(lab, "gpu01", "sysctl_tuning", state="absent")["changed"] is True
    assert tuning.differences(before["gpu01"], tuning.snapshot(host)) == []


TASKS = (
    "Look at the host before anything is changed", "Begin the rollout", "Open the batch", "Take a baseline", "Tune the kernel",
    "Open a new connection", "Check that the host is as well as before", "Judge the batch",
    "Return hosts to what they were", "Confirm the change", "Close the batch",
)  # fmt: skip


@pytest.fixture(scope="module")
def new(lab: Lab, before: dict[str, dict[str, Any]], tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What the hosts are when the rollout went over two of them."""
    variables = {**WANTED, "tune_batches": [2], "rollout_output": str(tmp_path_factory.mktemp("reports"))}
    status, said = play(lab, "playbooks/tune.yml", "-l", "gpu01,gpu02", variables=variables)
    assert status == 0, said
    found = snapshots(lab)
    roll_back(lab, before)
    return found


@pytest.mark.parametrize("task", TASKS)
def test_killing_the_controller_at_any_task_leaves_hosts_old_or_new(
    lab: Lab, before: dict[str, dict[str, Any]], new: dict[str, dict[str, Any]], reports: Path, task: str
) -> None:
    variables = {**WANTED, "tune_batches": [2], "rollout_output": str(reports)}
    process = start(lab, "playbooks/tune.yml", "-l", "gpu01,gpu02", variables=variables)
    assert process.stdout is not None
    reached = False
    for line in process.stdout:
        if line.startswith("TASK [") and line.split(" : ")[-1].split("]")[0] == task:
            reached = True
            break
    os.killpg(process.pid, signal.SIGKILL)
    process.stdout.close()
    process.wait()
    assert reached, f"the play has no task {task!r}"
    for name in ("gpu01", "gpu02"):
        # A module that was under way goes on to its end: wait for it, as the next one would.
        until(lambda host=lab.hosts[name]: host.run("pgrep -fx /usr/bin/python3; true").stdout.strip() == "")
    now = snapshots(lab)
    for name in ("gpu01", "gpu02"):
        old, tuned = tuning.differences(before[name], now[name]), tuning.differences(new[name], now[name])
        assert not old or not tuned, f"{name} is neither old nor new: {old} / {tuned}"
    roll_back(lab, before)
