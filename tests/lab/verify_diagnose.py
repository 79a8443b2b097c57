# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What molecule/diagnose verifies: each claim of report.json against another tool, each fix against a real connection.

Run by the scenario, with NETOPS_LAB (the lab's name) and NETOPS_REPORTS (where the runs were written).
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

from tests.lab import faults
from tests.lab.lab import Host, Lab

HEALTHY = ("gpu05", "gpu06")
BROKEN = {"gpu01": "nft_drop", "gpu02": "bpf_syn_drop", "gpu03": "iptables_legacy_drop", "gpu04": "loopback_only"}


@pytest.fixture(scope="module")
def lab() -> Lab:
    return Lab.attach(os.environ["NETOPS_LAB"])


@pytest.fixture(scope="module")
def report() -> dict[str, Any]:
    found = sorted(Path(os.environ["NETOPS_REPORTS"]).glob("**/report.json"), key=lambda path: path.stat().st_mtime)
    assert found, "the diagnosis wrote no report.json"
    loaded: dict[str, Any] = json.loads(found[-1].read_text())
    return loaded


def findings(report: dict[str, Any], host: str) -> list[dict[str, Any]]:
    record = next(each for each in report["hosts"] if each["name"] == host)
    assert record["status"] == "ok", f"{host}: {record['status']}: {record['reason']}"
    found: list[dict[str, Any]] = record["findings"]
    return found


def text(finding: dict[str, Any]) -> str:
    return json.dumps(finding, ensure_ascii=False)


def culprit(report: dict[str, Any], host: str, *wanted: str) -> dict[str, Any]:
    """The finding whose subject is the object at fault: it names everything wanted (regular expressions)."""
    serious = [each for each in findings(report, host) if each["severity"] != "info" and each["grade"] != "different"]
    named = [each for each in serious if all(re.search(pattern, text(each)) for pattern in wanted)]
    assert named, f"{host}: none of {[each['subject'] for each in serious]} names all of {wanted}"
    return named[0]


def answer(report: dict[str, Any], host: str) -> str:
    """The one line that an operator reads first."""
    record = next(each for each in report["hosts"] if each["name"] == host)
    return str(record["answer"]["text"])


def mended(lab: Lab, host: Host, finding: dict[str, Any]) -> None:
    """Run the finding's commands as printed; the port answers afterwards and did not before."""
    source = lab.hosts[HEALTHY[0]]
    assert not faults.connects(source, host.address)
    commands = [line for line in finding["fix"] if not line.lstrip().startswith("#")]
    assert commands, f"{host.name}: no command in {finding['fix']}"
    for line in commands:
        host.run(line)
    assert faults.connects(source, host.address), f"{host.name}: still closed after {commands}"


@pytest.mark.parametrize("name", BROKEN)
def test_the_port_is_closed_on_a_broken_host(lab: Lab, name: str) -> None:
    assert not faults.connects(lab.hosts[HEALTHY[0]], lab.hosts[name].address, timeout_s=1.5)


@pytest.mark.parametrize("name", HEALTHY)
def test_the_port_is_open_on_a_healthy_host(lab: Lab, name: str) -> None:
    source = next(host for host in lab.hosts.values() if host.name not in (name, *BROKEN))
    assert faults.connects(source, lab.hosts[name].address)
    assert faults.connects(source, lab.hosts[name].address6)


@pytest.mark.parametrize("name", HEALTHY)
def test_a_healthy_host_has_no_finding(report: dict[str, Any], name: str) -> None:
    assert findings(report, name) == []


def test_every_host_is_in_the_report(lab: Lab, report: dict[str, Any]) -> None:
    assert sorted(each["name"] for each in report["hosts"]) == sorted(lab.hosts)


def test_the_nft_rule_is_named_by_its_handle(lab: Lab, report: dict[str, Any]) -> None:
    host = lab.hosts["gpu01"]
    assert "DROP" not in host.run("iptables-save; iptables-legacy-save", check=False).stdout
    rules = [each["rule"] for each in json.loads(host.run("nft -a -j list ruleset").stdout)["nftables"] if "rule" in each]
    handle = next(rule["handle"] for rule in rules if any("drop" in part for part in rule["expr"]))
    finding = culprit(report, "gpu01", r"tenant_guard", r"inbound", rf"handle\D{{1,4}}{handle}\b")
    assert finding["grade"] == "proven"
    assert re.search(rf"tenant_guard inbound handle {handle}\b", answer(report, "gpu01"))
    mended(lab, host, finding)
    left = [each["rule"] for each in json.loads(host.run("nft -a -j list ruleset").stdout)["nftables"] if "rule" in each]
    assert [rule["handle"] for rule in left] == [rule["handle"] for rule in rules if rule["handle"] != handle]


def test_the_bpf_program_is_named_with_its_owner(lab: Lab, report: dict[str, Any]) -> None:
    host = lab.hosts["gpu02"]
    pid = host.run("systemctl show -P MainPID netsec-agent.service").stdout.strip()
    number = faults.programs_of(host, "netsec-agent.service")["nsa_syn_guard"]
    finding = culprit(report, "gpu02", r"nsa_syn_guard", r"netsec-agent", rf"\b{pid}\b", rf"\b{number}\b")
    assert re.search(r"nsa_syn_guard.*netsec-agent", answer(report, "gpu02"))
    mended(lab, host, finding)


def test_the_legacy_rule_is_named(lab: Lab, report: dict[str, Any]) -> None:
    host = lab.hosts["gpu03"]
    assert host.run("nft list ruleset").stdout == ""
    assert f"--dport {faults.PORT} -j DROP" in host.run("iptables-legacy-save").stdout
    finding = culprit(report, "gpu03", r"INPUT", rf"{faults.PORT}", r"DROP", r"legacy")
    assert finding["grade"] == "proven"
    assert re.search(r"iptables-legacy filter INPUT line 1\b", answer(report, "gpu03"))
    mended(lab, host, finding)
    assert "DROP" not in host.run("iptables-legacy-save").stdout


def test_the_listener_on_loopback_is_named(lab: Lab, report: dict[str, Any]) -> None:
    host = lab.hosts["gpu04"]
    assert f"127.0.0.1:{faults.PORT}" in host.run("ss -Hltn").stdout
    finding = culprit(report, "gpu04", r"127\.0\.0\.1", rf"{faults.PORT}", r"model-server")
    # Where a service listens is its own configuration: the advice names the unit.
    assert "model-server.service" in " ".join(finding["fix"])
    assert f"127.0.0.1:{faults.PORT}" in answer(report, "gpu04")
