# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""The host as the walk sees it: packet filter, routes, switches and programs, from the running kernel or from evidence."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.netops.fleet.plugins.module_utils._diagnosis.facts import Facts
from ansible_collections.netops.fleet.plugins.module_utils._evidence.section import Gap
from ansible_collections.netops.fleet.plugins.module_utils._firewall import model
from ansible_collections.netops.fleet.plugins.module_utils._firewall.routing import Router
from ansible_collections.netops.fleet.plugins.module_utils._firewall.walk import Runner, Walker


@dataclass
class Host:
    """One network namespace. hooks: None when programs were not read. gaps: what could not be told."""

    ruleset: model.Ruleset
    router: Router | None
    hooks: list[dict[str, Any]] | None
    gaps: list[Gap] = field(default_factory=list)
    sections: dict[str, Any] = field(default_factory=dict)

    def walker(self, run: Runner | None = None) -> Walker:
        return Walker(self.ruleset, self.router, self.hooks, run)


def _kernel(release: str) -> tuple[int, int] | None:
    numbers = release.split("-")[0].split(".")
    return (int(numbers[0]), int(numbers[1])) if len(numbers) > 1 and all(one.isdigit() for one in numbers[:2]) else None


def read(elements: int = 1_000_000, programs: bool = True, where: list[str] | None = None, timeout: float = 30.0) -> Host:
    """Read the namespace this process is in. elements: members of sets with at most so many. where: see hooks.read."""
    from ansible_collections.netops.fleet.plugins.module_utils._evidence import addresses, hooks, links, routes, switches
    from ansible_collections.netops.fleet.plugins.module_utils._firewall import read as firewall

    rules = firewall.read(elements=True, max_elements=elements, timeout=timeout)
    parts = {
        "links": links.read(),
        "addresses": addresses.read(),
        "routes": routes.read(),
        "policy_rules": routes.read_rules(),
        "switches": switches.read(),
    }
    gaps = list(rules.gaps)
    for section in parts.values():
        gaps += section.gaps
    census = None
    if programs:
        found = hooks.read(where=where)
        gaps += found.gaps
        census = found.data
    sections = {name: section.data for name, section in parts.items()}
    incomplete = _incomplete(gap for section in (parts["routes"], parts["policy_rules"]) for gap in section.gaps)
    router = Router(
        sections["links"] or [],
        sections["addresses"] or [],
        sections["routes"] or [],
        sections["policy_rules"] or [],
        sections["switches"] or {},
        incomplete,
        _kernel(os.uname().release),
    )
    return Host(rules.data, router, census, gaps, sections)


def _incomplete(gaps: Any) -> dict[int, str]:
    found: dict[int, str] = {}
    for gap in gaps:
        for family in (4, 6):
            if gap.what in ("routes", f"routes.ipv{family}", "routes.nexthops", f"policy_rules.ipv{family}"):
                found.setdefault(family, gap.why)
    return found


def router_of(facts: Facts) -> Router | None:
    """The routes of saved evidence; None when they, the addresses or the switches are not in it."""
    if not all(facts.known(name) for name in ("links", "addresses", "routes", "policy_rules", "switches")):
        return None
    gaps = [Gap(one["what"], one["why"]) for name in ("routes", "policy_rules") for one in facts.gaps(name)]
    return Router(
        facts.items("links"),
        facts.items("addresses"),
        facts.items("routes"),
        facts.items("policy_rules"),
        facts.section("switches"),
        _incomplete(gaps),
        _kernel(str((facts.evidence.get("host") or {}).get("kernel") or "")),
    )
