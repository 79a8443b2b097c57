# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One host cannot reach the others: the playbook with ``diagnose_from`` on systemd hosts over SSH, against real connections."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import tools
from tests.lab import faults
from tests.lab.lab import Lab

pytestmark = pytest.mark.lab

SENDER, OPEN, DROPPED, GUARDED = "gpu01", "gpu02", "gpu03", "gpu04"


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab(f"pairs-{os.getpid()}", hosts=4) as made:
        faults.apply(made.hosts[DROPPED], "nft_drop")
        faults.apply(made.hosts[GUARDED], "bpf_syn_drop")
        yield made


def told(lab: Lab, folder: Path) -> dict[str, dict[str, Any]]:
    """The hosts of report.json."""
    argv = ["ansible-playbook", "-i", str(lab.inventory), "playbooks/diagnose.yml", "-e", f"diagnose_output={folder}",
            "-e", "diagnose_target=tcp/1678", "-e", f"diagnose_from={SENDER}"]  # fmt: skip
    tools.passes(argv, env={"ANSIBLE_CONFIG": str(tools.ROOT / "ansible.cfg")}, timeout_s=300)
    report = json.loads((folder / "latest" / "report.json").read_text())
    hosts = {host["name"]: host for host in report["hosts"]}
    assert all(host["status"] == "ok" for host in hosts.values()), hosts
    return hosts


def pair(host: dict[str, Any]) -> tuple[str, str]:
    """The step that joins both ends and the connection; one for each address that was tried agrees with the others."""
    steps = [one for one in host["answer"]["steps"] if one["step"] == "pair"]
    assert steps and len({one["result"] for one in steps}) == 1, host["answer"]
    return steps[0]["result"], steps[0]["detail"]


def test_walks_and_connections_agree(lab: Lab, tmp_path: Path) -> None:
    source = lab.hosts[SENDER]
    reached = {name: faults.connects(source, lab.hosts[name].address, timeout_s=1.5) for name in (OPEN, DROPPED, GUARDED)}
    assert reached == {OPEN: True, DROPPED: False, GUARDED: False}
    hosts = told(lab, tmp_path)
    result, detail = pair(hosts[OPEN])
    assert result == "ok" and "both ends let it pass, and the probe agrees" in detail
    assert hosts[OPEN]["findings"] == [] and hosts[SENDER]["findings"] == []

    result, detail = pair(hosts[DROPPED])
    assert result == "bad" and hosts[DROPPED]["answer"]["verdict"] == "blocked" and "the probe agrees" in detail
    rules = json.loads(lab.hosts[DROPPED].run("nft -a -j list ruleset").stdout)["nftables"]
    (handle,) = [one["rule"]["handle"] for one in rules if "rule" in one and {"drop": None} in one["rule"]["expr"]]
    assert f"tenant_guard inbound handle {handle}" in detail
    proven = [one for one in hosts[DROPPED]["findings"] if one["id"] == "firewall-drops-target"]
    assert [one["grade"] for one in proven] == ["proven"] and f"handle {handle}" in proven[0]["subject"]

    result, detail = pair(hosts[GUARDED])
    assert result != "ok" and "nsa_syn_guard" in detail
    assert any("nsa_syn_guard" in one["subject"] for one in hosts[GUARDED]["findings"])


def test_a_disagreement_is_a_finding_with_both_evidences(lab: Lab, tmp_path: Path) -> None:
    """A proxy beside the sender answers in the name of a host whose rule drops: the connection is made, the walk says no."""
    source = lab.hosts[SENDER]
    faults.apply(source, "proxied_sender")
    try:
        assert faults.connects(source, lab.hosts[DROPPED].address)
        hosts = told(lab, tmp_path)
    finally:
        faults.apply(source, "proxied_sender", "revert")
    (found,) = [one for one in hosts[DROPPED]["findings"] if one["id"] == "walk-probe-disagree"]
    said = "\n".join(found["evidence"])
    assert "tenant_guard" in said and SENDER in said and ": ok" in said
    assert not faults.connects(source, lab.hosts[DROPPED].address, timeout_s=1.5)
