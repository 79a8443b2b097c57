# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""playbooks/firewall.yml and firewall_drift.yml by fingerprint, against hosts that answer from a script. What hosts really are:
molecule/firewall."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.unit.test_rollout import HEALTH, Fleet, lost, says, well

MODULE = "firewall_consolidate"
ONE, TWO = "1" * 32, "2" * 32


def read(mark: str, **more: Any) -> dict[str, Any]:
    answer = {"fingerprint": mark, "marks": {"nft inet filter input": mark}, "whole": {}, "applied": "nothing", "left": []}
    return says(MODULE, **answer, planned=None, notes=[], **more)


def planned(mark: str, chains: int = 0, **more: Any) -> dict[str, Any]:
    return says(MODULE, changed=True, fingerprint=mark, path=f"/p/{mark}.json", summary={"chains": chains}, folded=[], **more)


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    return Fleet(tmp_path)


def report(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(next(folder.glob("tune-*/firewall.json")).read_text())
    return found


def test_one_plan_for_each_kind_and_one_host_of_each_kind_first(fleet: Fleet) -> None:
    listing = {"nft inet filter input": ["hook input priority 0 policy accept", "tcp dport 22 accept"]}
    odd = {"nft inet filter input": ["hook input priority 0 policy accept", "tcp dport 23 accept"]}
    one = fleet.host(well(), read(ONE), planned(ONE, listing=listing), well(), well())
    two = fleet.host(well(), read(ONE), well(), well())
    three = fleet.host(well(), read(ONE), well(), well())
    four = fleet.host(well(), read(TWO), planned(TWO, listing=odd), well(), well())
    status, output = fleet.run("firewall", firewall_sets_consolidate=True)
    assert status == 0, output
    assert fleet.asked(one) == fleet.asked(four) == [HEALTH, MODULE, MODULE, HEALTH, HEALTH], "read, planned"
    assert fleet.asked(two) == fleet.asked(three) == [HEALTH, MODULE, HEALTH, HEALTH], "read; the plan is that of the first"
    assert fleet.told()["batches"] == [[one], [four], [two, three]], "both kinds before the rest"
    found = report(fleet.folder / "out")
    assert [kind["hosts"] for kind in found["kinds"]] == [[one, two, three], [four]]
    assert f"{four} differs from 3 of 4 hosts of all: nft inet filter input" in output
    assert "lacks tcp dport 22 accept" in output and "has besides tcp dport 23 accept" in output


def test_a_host_that_is_lost_while_it_plans_leaves_the_others_to_plan_for_themselves(fleet: Fleet) -> None:
    one = fleet.host(well(), read(ONE), lost(MODULE), well(), planned(ONE), well())
    two = fleet.host(well(), read(ONE), well(), planned(ONE), well())
    status, output = fleet.run("firewall", firewall_sets_consolidate=True)
    assert status == 0, output
    assert fleet.asked(one).count(MODULE) == 3 and fleet.asked(two) == [HEALTH, MODULE, HEALTH, MODULE, HEALTH]


def test_a_host_without_an_answer_is_reported_and_plans_when_its_turn_comes(fleet: Fleet) -> None:
    one = fleet.host(well(), lost(MODULE), well(), planned(ONE), well())
    two = fleet.host(well(), read(ONE), planned(ONE), well(), well())
    status, output = fleet.run("firewall", firewall_sets_consolidate=True)
    assert status == 0, output
    assert report(fleet.folder / "out")["no_answer"] == {one: "it did not answer"}
    assert fleet.asked(two).count(MODULE) == 2 and fleet.asked(one).count(MODULE) == 2


def test_groups_alone_read_no_rules(fleet: Fleet) -> None:
    one = fleet.host(well(), well(), says("firewall_groups", changed=False), well())
    status, output = fleet.run("firewall", firewall_sets_groups=[{"name": "admins"}])
    assert status == 0, output
    assert fleet.asked(one) == [HEALTH, HEALTH, "firewall_groups", HEALTH]


def test_drift_reads_and_reports(fleet: Fleet) -> None:
    listing = {"nft inet filter input": ["no hook", "tcp dport 22 accept"]}
    fine = [fleet.host(read(ONE), read(ONE, listing=listing)) for _number in range(1)]
    fine += [fleet.host(read(ONE)) for _number in range(2)]
    odd = fleet.host(read(TWO), read(TWO, listing={}))
    gone = fleet.host(lost(MODULE))
    status, output = fleet.run("firewall_drift", firewall_sets_output=str(fleet.folder / "drift"))
    assert status == 0, output
    found = json.loads((fleet.folder / "drift" / "firewall.json").read_text())
    assert oct((fleet.folder / "drift" / "firewall.json").stat().st_mode & 0o777) == "0o600"
    (group,) = found["groups"]
    assert [one["host"] for one in group["different"]] == [odd] and list(found["no_answer"]) == [gone]
    assert found["groups"][0]["different"][0]["rules"]["nft inet filter input"]["chain"] == "missing"
    assert fleet.asked(fine[1]) == [MODULE] and fleet.asked(fine[0]) == [MODULE, MODULE] == fleet.asked(odd)
