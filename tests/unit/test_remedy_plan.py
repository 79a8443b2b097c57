# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a remediation plans to remove, with plain data; that it works is shown in tests/kernel and in the scenario "remediate"."""

from __future__ import annotations

from typing import Any

from ansible_collections.netops.fleet.plugins.module_utils._diagnosis import remedy, world
from ansible_collections.netops.fleet.plugins.module_utils._firewall import model
from ansible_collections.netops.fleet.plugins.module_utils._firewall.packet import Packet
from tests.unit.hosts import match, ruleset

PACKET = Packet(4, 6, "192.0.2.1", "192.0.2.11", 49152, 1678, "eth0", "")


def hook(name: str, order: int, can_drop: str = "yes") -> dict[str, Any]:
    """One program of a service on the way in."""
    owner = {"pid": 9, "process": "agent", "unit": "agent.service"}
    return {
        "hook": "tcx", "direction": "ingress", "interface": {"name": "eth0"}, "name": name, "id": 7 + order, "order": order,
        "can_drop": can_drop, "can_divert": "no", "owners": [owner], "drop_evidence": ["returns 2 (TC_ACT_SHOT)"],
        "detach": ["systemctl stop agent.service", f"bpftool link detach id {order}"],
    }  # fmt: skip


def host(*hooks: dict[str, Any], firewall: dict[str, Any] | None = None) -> world.Host:
    return world.Host(model.Ruleset.from_dict(firewall or ruleset()), None, list(hooks))


def test_a_program_that_only_may_drop_is_named_and_not_planned() -> None:
    plan = remedy.plan(host(hook("guard", 0)), PACKET)
    assert plan.steps == [] and "agent.service" in plan.obstacle and "suspected programs" in plan.obstacle


def test_suspected_programs_of_one_service_are_one_step_with_a_way_back() -> None:
    plan = remedy.plan(host(hook("guard", 0), hook("second", 1), hook("count", 2, can_drop="no")), PACKET, suspected=True)
    (step,) = plan.steps
    assert step.do == [["systemctl", "disable", "--now", "agent.service"]]
    assert step.undo == [["systemctl", "enable", "--now", "agent.service"]]
    assert step.note.startswith("suspected: ") and not plan.obstacle and plan.verdict["verdict"] == "unknown"


def test_a_rule_behind_a_suspected_program_goes_with_it() -> None:
    rule = {"parts": [match("tcp dport", 1678)], "verdict": {"kind": "drop"}}
    alone = remedy.plan(host(hook("guard", 0), firewall=ruleset(rule)), PACKET)
    assert [step.by["kind"] for step in alone.steps] == ["rule"] and "suspected programs" in alone.obstacle
    both = remedy.plan(host(hook("guard", 0), firewall=ruleset(rule)), PACKET, suspected=True)
    assert [step.by["kind"] for step in both.steps] == ["rule", "hook"] and not both.obstacle


def test_a_doubt_that_is_no_program_stays_an_obstacle() -> None:
    limit = {"t": "unknown", "text": "limit rate 1/second", "why": "not static"}
    rule = {"parts": [limit], "verdict": {"kind": "drop"}}
    plan = remedy.plan(host(hook("guard", 0), firewall=ruleset(rule)), PACKET, suspected=True)
    assert plan.steps == [] and plan.obstacle


def test_the_id_tells_what_is_removed() -> None:
    first = remedy.plan(host(hook("guard", 0)), PACKET, suspected=True)
    assert first.id == remedy.plan(host(hook("guard", 0)), PACKET, suspected=True).id
    assert first.id != remedy.plan(host(), PACKET, suspected=True).id
