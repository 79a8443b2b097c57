# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""playbooks/tune.yml against hosts that fail or are lost at each of its steps. What hosts really are: molecule/tune."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.unit.test_fleet_playbooks import ROOT, play

HEALTH = "host_health"


def well(mark: str = "0-0", **more: Any) -> dict[str, Any]:
    health = {"findings": [], "losses": {}, "probes": [], "gaps": [], "mark": mark, "unfinished": [], "waiting": [], **more}
    return {"module": HEALTH, "answer": {"health": health, "reasons": []}}


def says(module: str, **answer: Any) -> dict[str, Any]:
    return {"module": module, "answer": answer}


def fails(module: str, why: str = "no") -> dict[str, Any]:
    return says(module, failed=True, msg=why)


def lost(module: str) -> dict[str, Any]:
    return {"module": module, "lost": True}


CHANGE = says("sysctl_tuning", changed=True, change="1-1", confirm_within=None)
BACK = says(
    "change_journal", changed=True, steps=[{"kind": "sysctl", "name": "a", "verdict": "restore", "before": None, "after": None}]
)
#: What a host answers that is asked to confirm when its dead-man's timer was faster: no error, but nothing confirmed either.
NONE_WAITS = says("change_journal", changed=False, confirmed=[])
#: Preflight, baseline, change, gate.
GOOD = [well(), well(), CHANGE, well("1-1")]


class Fleet:
    def __init__(self, folder: Path) -> None:
        self.folder, self.scripts = folder, folder / "scripts"
        self.scripts.mkdir()
        self.names: list[str] = []

    def host(self, *script: dict[str, Any]) -> str:
        name = f"gpu{len(self.names) + 1:02}"
        (self.scripts / f"{name}.json").write_text(json.dumps(script))
        self.names.append(name)
        return name

    def tune(self, *arguments: str, environment: dict[str, str] | None = None, **variables: Any) -> tuple[int, str]:
        return self.run("tune", *arguments, environment=environment, **variables)

    def run(self, playbook: str, *arguments: str, environment: dict[str, str] | None = None, **variables: Any) -> tuple[int, str]:
        inventory = self.folder / "hosts.json"
        hosts = {
            name: {"ansible_connection": "scripted", "ansible_python_interpreter": "/usr/bin/python3"} for name in self.names
        }
        inventory.write_text(json.dumps({"all": {"hosts": hosts}}))
        given = {"rollout_output": str(self.folder / "out"), **variables}
        done = play(
            *("-i", str(inventory), f"playbooks/{playbook}.yml", "-e", json.dumps(given), *arguments),
            home=self.folder,
            ANSIBLE_CONNECTION_PLUGINS=str(ROOT / "tests" / "unit" / "connection"),
            SCRIPTED=str(self.scripts),
            ANSIBLE_PIPELINING="1",
            **(environment or {}),
        )
        return done.returncode, done.stdout + done.stderr

    def told(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(next((self.folder / "out").glob("tune-*/rollout.json")).read_text())
        return found

    def asked(self, name: str) -> list[str]:
        path = self.scripts / f"{name}.log"
        return path.read_text().split() if path.exists() else []


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    return Fleet(tmp_path)


def test_all_well(fleet: Fleet) -> None:
    """One module more for a host whose change waits for its confirmation, none for the others."""
    one = fleet.host(*GOOD[:3], well("1-1", waiting=["1-1"]), says("change_journal", changed=True, confirmed=["1-1"]))
    two = fleet.host(well(), well(), says("sysctl_tuning", changed=False), well())
    status, output = fleet.tune()
    assert status == 0, output
    assert fleet.told()["hosts"] == {one: "new", two: "unchanged"} and fleet.told()["reasons"] == {}
    assert fleet.told()["batches"] == [[one], [two]]
    assert fleet.asked(one) == [HEALTH, HEALTH, "sysctl_tuning", HEALTH, "change_journal"]
    assert fleet.asked(two) == [HEALTH, HEALTH, "sysctl_tuning", HEALTH]


#: step → (what the canary answers, its state, whether it is rolled back)
FAILURES = {
    "preflight lost": ([lost(HEALTH)], "unreachable", False),
    "preflight sick": ([fails(HEALTH)], "sick", False),
    "baseline lost": ([well(), lost(HEALTH)], "unreachable", False),
    "baseline sick": ([well(), fails(HEALTH)], "sick", False),
    "change lost": ([well(), well(), lost("sysctl_tuning"), well("1-1"), BACK], "rolled back", True),
    "change lost and the host too": (
        [well(), well(), lost("sysctl_tuning"), lost(HEALTH), lost("change_journal")], "unreachable", True,
    ),
    "change failed": ([well(), well(), fails("sysctl_tuning"), says("change_journal", steps=[])], "unchanged", True),
    "gate lost": ([*GOOD[:3], lost(HEALTH), BACK], "rolled back", True),
    "gate failed": ([*GOOD[:3], fails(HEALTH, "worse"), BACK], "rolled back", True),
    "way back failed": ([*GOOD[:3], fails(HEALTH), fails("change_journal", "stuck")], "failed", True),
    "confirmation lost": ([*GOOD[:3], well("1-1", waiting=["1-1"]), lost("change_journal")], "unreachable", False),
    "confirmation failed": ([*GOOD[:3], well("1-1", waiting=["1-1"]), fails("change_journal"), BACK], "rolled back", True),
    "confirmation late": (
        [*GOOD[:3], well("1-1", waiting=["1-1"]), NONE_WAITS, says("change_journal", steps=[])], "unchanged", True,
    ),
    "confirmation late for the first": (
        [*GOOD[:3], well("1-2", waiting=["1-1", "1-2"]), says("change_journal", changed=True, confirmed=["1-2"]), BACK],
        "rolled back", True,
    ),
}  # fmt: skip


def test_hosts_that_fail_or_are_lost_at_each_step(fleet: Fleet) -> None:
    """Each is the whole of its batch: the rollout still judges, takes back, and goes on within its budget."""
    names = {step: fleet.host(*script) for step, (script, _state, _back) in FAILURES.items()}
    well_one = fleet.host(*GOOD)
    status, output = fleet.tune(rollout_budget=len(names), tune_batches=[1])
    assert status == 0, output
    told = fleet.told()
    assert told["hosts"] == {**{names[step]: state for step, (_script, state, _back) in FAILURES.items()}, well_one: "new"}, (
        output
    )
    assert sorted(told["reasons"]) == sorted(names.values()) and told["stopped"] == ""
    for step, (_script, _state, back) in FAILURES.items():
        assert (fleet.asked(names[step]).count("change_journal") - ("confirmation" in step) > 0) is back, step
        assert re.search(rf"^{names[step]}: .+", output, re.MULTILINE), "the report names the host and the reason"


def test_a_change_that_waits_no_longer_when_it_is_to_be_confirmed_was_taken_back(fleet: Fleet) -> None:
    one = fleet.host(*FAILURES["confirmation late"][0])
    status, output = fleet.tune()
    assert status != 0, output
    assert fleet.told()["reasons"] == {one: "its change was taken back before it could be confirmed"}


def test_a_host_that_took_its_change_back_before_the_gate_is_not_new(fleet: Fleet) -> None:
    """It answers again, and as well as before: as before is what it is."""
    armed = says("sysctl_tuning", changed=True, change="1-1", confirm_within=20)
    one = fleet.host(well(), well(), armed, well("1-1", waiting=[]), says("change_journal", changed=False, steps=[]))
    status, output = fleet.tune()
    assert status != 0, output
    assert fleet.told()["hosts"] == {one: "unchanged"}
    assert "took the change back before it could be confirmed" in fleet.told()["reasons"][one]


@pytest.mark.parametrize("step", ["gate failed", "change lost and the host too", "confirmation late"])
def test_without_a_budget_the_same_stops_the_rollout_with_a_report(fleet: Fleet, step: str) -> None:
    script, state, _back = FAILURES[step]
    canary, other = fleet.host(*script), fleet.host(*GOOD)
    status, output = fleet.tune()
    assert status != 0
    told = fleet.told()
    assert told["hosts"] == {canary: state, other: "waiting"}, (told, output)
    assert "1 of 2 hosts failed" in told["stopped"] and told["stopped"] in output
    assert "sysctl_tuning" not in fleet.asked(other)


def test_the_rest_of_the_batch_goes_back_too(fleet: Fleet) -> None:
    one = fleet.host(*GOOD, BACK)
    two = fleet.host(*GOOD[:3], fails(HEALTH, "worse"), BACK)
    three = fleet.host(well(), well(), says("sysctl_tuning", changed=False), well())
    four = fleet.host(*GOOD)
    status, output = fleet.tune(tune_batches=[3, 1])
    assert status != 0
    assert fleet.told()["hosts"] == {one: "rolled back", two: "rolled back", three: "unchanged", four: "waiting"}, output
    assert "change_journal" not in fleet.asked(three)


def test_several_roles_are_one_change(fleet: Fleet, tmp_path: Path) -> None:
    """The second role's failure takes the first one's change back too; where each is well the gate looks once."""
    collection = tmp_path / "collections" / "ansible_collections" / "example" / "site"
    (collection / "roles" / "other" / "tasks").mkdir(parents=True)
    (collection / "roles" / "other" / "tasks" / "change.yml").write_text(
        "- name: Change something else\n  netops.fleet.sysctl_tuning:\n    settings: {}\n  register: __other_change\n"
    )
    one = fleet.host(well(), well(), CHANGE, fails("sysctl_tuning", "the second"), BACK)
    two = fleet.host(well(), well(), says("sysctl_tuning", changed=False), CHANGE, well("1-1"))
    roles = ["netops.fleet.tune_kernel", "example.site.other"]
    paths = f"{tmp_path / 'collections'}:{ROOT / '.collections'}"
    status, output = fleet.tune(rollout_roles=roles, rollout_budget=1, environment={"ANSIBLE_COLLECTIONS_PATH": paths})
    assert status == 0, output
    assert fleet.told()["hosts"] == {one: "rolled back", two: "new"}, output
    assert "the second" in fleet.told()["reasons"][one]
    assert fleet.asked(two) == [HEALTH, HEALTH, "sysctl_tuning", "sysctl_tuning", HEALTH]


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"rollout_roles": "tune_kernel"}, "it takes a list of full names, such as netops.fleet.tune_kernel"),
        ({"rollout_roles": ["netops.fleet.diagnose"]}, "netops.fleet.diagnose is no role with an entry point change"),
        ({"rollout_budget": "half"}, "it takes a number of hosts, such as 2, or a percentage such as 5%"),
    ],
)
def test_wrong_options_end_the_run_before_any_host_is_changed(fleet: Fleet, variables: dict[str, Any], said: str) -> None:
    name = fleet.host(*GOOD)
    status, output = fleet.tune(**variables)
    assert status != 0 and said in " ".join(output.split())
    assert fleet.asked(name) == [HEALTH]
