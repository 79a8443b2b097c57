# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Advice about the packet filter: only where it is certain, and only where no target was asked for."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.netops.fleet.plugins.module_utils._diagnosis.judge import judge
from tests.unit.hosts import healthy, match, ruleset

ACCEPT, DROP = {"kind": "accept"}, {"kind": "drop"}
STATE = {"parts": [match("ct state", "established", "related")], "verdict": ACCEPT}


def ids(firewall: dict[str, Any], target: bool = False) -> list[str]:
    evidence = healthy(firewall=firewall)
    if not target:
        evidence["target"] = None
    return sorted(one["id"] for one in judge(evidence)[0] if "F03" in one["requirement"])


def rule(*parts: dict[str, Any], verdict: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    return {"parts": list(parts), "verdict": verdict or ACCEPT, **more}


SSH, WEB = match("tcp dport", 22), match("tcp dport", 80)
UNREAD = {"t": "unknown", "text": "limit rate 5/second", "why": "not static"}
LEGACY = {"backend": "iptables-legacy", "family": "ip", "table": "filter", "chain": "INPUT"}


@pytest.mark.parametrize(
    ("firewall", "expected"),
    [
        (ruleset(), []),
        (ruleset(STATE, rule(SSH), policy="drop"), []),
        (ruleset(rule(SSH), policy="drop"), ["firewall-not-stateful"]),
        (ruleset(rule(match("ip saddr", "192.0.2.10"), verdict=DROP)), []),
        (ruleset(rule(match("meta l4proto", 1), verdict=DROP)), ["firewall-blocks-path-mtu"]),
        (ruleset(rule(match("meta l4proto", 58), verdict=DROP)), ["firewall-blocks-path-mtu"]),
        (ruleset(STATE, rule(match("meta l4proto", 1), verdict=DROP)), []),
        (ruleset(STATE, rule(), policy="drop"), ["firewall-accepts-all"]),
        (ruleset(rule()), []),
        (ruleset(rule(), rule(SSH, verdict=DROP)), ["firewall-accepts-all"]),
        (ruleset(rule(UNREAD), rule(SSH, verdict=DROP)), []),
        (ruleset(rule(owner="docker"), rule(SSH, verdict=DROP)), []),
        (ruleset(rule(SSH), rule(match("ip saddr", "192.0.2.9"), SSH, verdict=DROP)), ["firewall-rule-shadowed"]),
        (ruleset(rule(match("ip saddr", "192.0.2.9"), SSH), rule(SSH, verdict=DROP)), []),
        (ruleset(rule(SSH, UNREAD), rule(match("ip saddr", "192.0.2.9"), SSH, verdict=DROP)), []),
        (ruleset(rule(SSH, verdict={"kind": "jump", "target": "x"}), rule(SSH, verdict=DROP)), []),
        (ruleset(rule(SSH), rule(WEB, verdict=DROP)), []),
        (ruleset(rule(SSH), rule(WEB, verdict=DROP, **LEGACY)), ["firewall-mixed-backends"]),
    ],
)
def test_advice(firewall: dict[str, Any], expected: list[str]) -> None:
    assert ids(firewall) == expected
    assert ids(firewall, target=True) == []
