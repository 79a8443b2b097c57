# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every diagnostic capability has a fault that it is measured with, or a reason why it has none and a test in its place."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
ROWS = [f"D{number:02d}" for number in range(1, 35)]
#: Row -> (why no fault of two network namespaces shows it, the test that does).
ELSEWHERE = {
    "D05": ("captures are a result of their own: they make no finding", "tests/kernel/test_capture.py"),
    "D06": ("where on the way latency begins needs hops between host and target", "tests/kernel/test_net_probe.py"),
    "D12": ("a cluster's objects come from its API, and pods from a container runtime", "tests/kernel/test_kubernetes.py"),
    "D17": ("the report is made of findings, of faults and of healthy hosts alike", "tests/unit/test_report_page.py"),
    "D32": ("flows need Open vSwitch and its daemons", "tests/kernel/test_openvswitch.py"),
}


def covered() -> set[str]:
    files = (ROOT / "roles" / "drill" / "faults").glob("*.yml")
    return {row for path in files for row in yaml.safe_load(path.read_text(encoding="utf-8"))["rows"]}


@pytest.mark.parametrize("row", ROWS)
def test_a_row_has_a_fault_or_a_reason(row: str) -> None:
    assert row in covered() | set(ELSEWHERE)


@pytest.mark.parametrize("row", sorted(ELSEWHERE))
def test_what_has_no_fault_has_a_test(row: str) -> None:
    assert row in ROWS and (ROOT / ELSEWHERE[row][1]).is_file()


@pytest.mark.parametrize(
    "name", ["node-down", "latency", "packet-loss", "nft-drop-own-table", "dns-blocked-here", "clock-stepped"]
)
def test_what_a_drill_is_asked_for_is_fit_for_a_real_host(name: str) -> None:
    """And the page of the role names it."""
    fault = yaml.safe_load((ROOT / "roles" / "drill" / "faults" / f"{name}.yml").read_text(encoding="utf-8"))
    assert fault["drill"] is True and "W03" in fault["rows"] and fault["inject"] and fault["revert"]
    assert f"`{name}`" in (ROOT / "roles" / "drill" / "README.md").read_text(encoding="utf-8")
