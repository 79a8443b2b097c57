# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every Molecule scenario passes, and a scenario that only reads reports no change."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from tests import tools
from tests.lab.lab import Lab

SCENARIOS = sorted(path.parent.name for path in (tools.ROOT / "molecule").glob("*/molecule.yml"))
#: Scenarios of reboots, lost hosts and deadlines, which take a quarter of an hour.
LONG = ("firewall", "remediate", "tune")
READS_ONLY = ("diagnose",)


def test_there_are_scenarios() -> None:
    assert "diagnose" in SCENARIOS


@pytest.mark.lab
@pytest.mark.slow
@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.drill] if name in LONG else []) for name in SCENARIOS])
def test_scenario(name: str, tmp_path: Path) -> None:
    lab = f"m{os.getpid()}-{name}"[:31].rstrip("-").replace("_", "-")
    env = {
        "NETOPS_LAB": lab,
        "ANSIBLE_HOME": str(tmp_path / "ansible"),
        "MOLECULE_EPHEMERAL_DIRECTORY": str(tmp_path / "molecule"),
        "COLUMNS": "250",
    }
    try:
        output = tools.passes(["molecule", "test", "-s", name], env=env, timeout_s=1800 if name in LONG else 900)
    finally:
        Lab(lab).down()
    if name in READS_ONLY:
        converged = re.split(rf"{name} \S+ verify\]?:? Executing", re.split(rf"{name} \S+ converge\]?:? Executing", output)[1])[0]
        recap = re.findall(r"^\W*(\w\S*)\s+: ok=\d+\s+changed=(\d+)\s+unreachable=(\d+)\s+failed=(\d+)", converged, re.MULTILINE)
        assert recap, output
        assert {tuple(counts) for _host, *counts in recap} == {("0", "0", "0")}, converged
