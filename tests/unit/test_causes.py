# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ranking: consequences go to their cause, other findings stay, and the lowest layer comes first."""

from __future__ import annotations

from typing import Any

from ansible_collections.netops.fleet.plugins.module_utils._diagnosis import causes
from ansible_collections.netops.fleet.plugins.module_utils._diagnosis.facts import Facts
from ansible_collections.netops.fleet.plugins.module_utils._diagnosis.model import Finding, order
from tests.unit.hosts import healthy


def finding(name: str, severity: str = "critical", subject: str = "it", grade: str = "proven", **data: Any) -> Finding:
    return Finding(name, grade, severity, subject, f"{name} of {subject}", data=data)


def attached(found: list[Finding], **sections: Any) -> list[Finding]:
    evidence = healthy(**sections)
    evidence["target"] = {"proto": "tcp", "port": 443, "address": "203.0.113.5"}
    return sorted(causes.attach(Facts(evidence), found), key=order)


def test_a_pile_behind_a_rule_is_told_with_the_rule() -> None:
    rule, probe = (
        finding("firewall-drops-target", "warning"),
        finding("target-unreachable", status="timeout", address="203.0.113.5"),
    )
    pile = finding("connections-piled-up", "warning", "60 in SYN_SENT", state="SYN_SENT", port="tcp/443")
    other = finding("connections-piled-up", "warning", "70 in SYN_SENT", state="SYN_SENT", port="tcp/80")
    left = attached([rule, probe, pile, other])
    assert [one.subject for one in left] == ["it", "70 in SYN_SENT"]
    assert left[0].severity == "critical", "as bad as what it brings about"
    assert {one["id"] for one in left[0].data["consequences"]} == {"target-unreachable", "connections-piled-up"}
    assert any(line.startswith("consequence: connections-piled-up") for line in left[0].evidence)


def test_what_lies_behind_a_dead_link_is_its_consequence_and_what_does_not_is_none() -> None:
    link = finding("interface-no-carrier", "warning", "eth0", link="eth0")
    behind = [
        finding("neighbour-failed", dev="eth0", role="default gateway", address="192.0.2.1"),
        finding("resolver-dead", address="198.51.100.53"),
        finding("http-probe-failed", status="timeout", address="198.51.100.7"),
    ]
    own = [finding("http-probe-failed", subject="wrong", status="wrong_body"), finding("port-not-listening")]
    left = attached([*behind, link, *own])
    assert [one.id for one in left] == ["interface-no-carrier", "port-not-listening", "http-probe-failed"]
    assert len(left[0].data["consequences"]) == 3


def test_a_dead_gateway_does_not_explain_what_is_in_the_own_subnet() -> None:
    gateway = finding("neighbour-failed", dev="eth0", role="default gateway", address="192.0.2.1")
    near, far = (
        finding("resolver-dead", subject="near", address="192.0.2.53"),
        finding("resolver-dead", subject="far", address="9.9.9.9"),
    )
    assert [one.subject for one in attached([gateway, near, far])] == ["it", "near"]


def test_one_cause_is_enough() -> None:
    """A consequence of two causes is told once, with the deeper one."""
    link = finding("interface-no-carrier", "warning", "eth0", link="eth0")
    rule = finding("firewall-drops-target")
    probe = finding("target-unreachable", status="timeout", address="203.0.113.5")
    left = attached([rule, probe, link])
    assert [one.id for one in left] == ["interface-no-carrier", "firewall-drops-target"]
    assert "consequences" not in rule.data


def test_frames_lost_at_a_tunnel_without_its_address_are_its_consequence_and_those_of_other_links_are_none() -> None:
    tunnel = finding("tunnel-local-missing", "warning", "vx0", "likely", link="vx0")
    lost, elsewhere = (finding("nic-drops", "warning", link, link=link) for link in ("vx0", "eth0"))
    left = attached([lost, elsewhere, tunnel])
    assert [(one.id, one.subject) for one in left] == [("nic-drops", "eth0"), ("tunnel-local-missing", "vx0")]
    assert left[1].data["consequences"] == [{"id": "nic-drops", "subject": "vx0"}]
