# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A cell of the fleet matrix is "ok" only when what it is about was read."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.netops.fleet.plugins.plugin_utils._fleet import checks


def entry(section: str, status: str) -> dict[str, Any]:
    gaps = [] if status == "ok" else [{"what": section, "why": "not permitted"}]
    return {"section": section, "status": status, "gaps": gaps}


@pytest.mark.parametrize(
    ("firewall", "conntrack", "state"),
    [
        ("ok", "ok", "ok"),
        ("ok", "failed", "partial"),
        ("partial", "ok", "partial"),
        ("failed", "ok", "unchecked"),
        ("skipped", "ok", "unchecked"),
        (None, "ok", "unchecked"),
    ],
)
def test_the_firewall_is_unchecked_where_its_rules_were_not_read(firewall: str | None, conntrack: str, state: str) -> None:
    coverage = [entry("conntrack", conntrack)] + ([entry("firewall", firewall)] if firewall else [])
    cell = checks.matrix_row([], coverage, None)["firewall"]
    assert cell["state"] == state
    if firewall in ("failed", "partial"):
        assert "not permitted" in cell["why"]
