# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""Services that do not run, are started again and again, or log errors while they run. (D28)"""

from __future__ import annotations

from typing import Any

from ansible_collections.netops.fleet.plugins.module_utils._diagnosis.facts import Facts
from ansible_collections.netops.fleet.plugins.module_utils._diagnosis.model import Finding
from ansible_collections.netops.fleet.plugins.module_utils._evidence.services import failed
from ansible_collections.netops.fleet.plugins.module_utils._firewall.fixes import word


def find(facts: Facts) -> list[Finding]:
    out = []
    for one in (facts.section("services") or {}).get("units") or []:
        wanted = one["why"] in ("named", "target")
        if failed(one):
            again = one["sub"] == "auto-restart"
            how = f"is started again and again ({one['restarts']} times)" if again else f"failed ({one.get('result')})"
            out.append(_failed(one, f"{one['unit']} {how}.", "critical" if wanted else "warning"))
        elif one["why"] == "named" and one["load"] == "not-found":
            out.append(_failed(one, f"{one['unit']} was asked for, and there is no such unit on this host.", "warning"))
        elif one["why"] == "named" and one["active"] == "inactive":
            out.append(_failed(one, f"{one['unit']} does not run.", "critical"))
        elif wanted and one["errors"]:
            out.append(_errors(one))
    return out


def _failed(one: dict[str, Any], summary: str, severity: str) -> Finding:
    ago = f", for {one['changed_ago_s']:.0f} s" if one.get("changed_ago_s") is not None else ""
    status = f", exit status {one['status']}" if one.get("status") else ""
    return Finding(
        "service-failed",
        "proven",
        severity,
        one["unit"],
        summary,
        [f"systemd: {one['load']}, {one['active']} ({one['sub']}){ago}, result {one.get('result')}{status}", *_lines(one)],
        [f"journalctl -u {word(one['unit'])} -n 50", f"# mend what it says, then: systemctl restart {word(one['unit'])}"],
        ["D28"],
        {"unit": one["unit"]},
    )


def _errors(one: dict[str, Any]) -> Finding:
    return Finding(
        "service-errors",
        "likely",
        "info",
        one["unit"],
        f"{one['unit']} runs, and logged errors within the last hour, the last one: {one['errors'][-1]['text']}",
        _lines(one),
        [f"journalctl -u {word(one['unit'])} -p err --since=-1h"],
        ["D28"],
        {"unit": one["unit"]},
    )


def _lines(one: dict[str, Any]) -> list[str]:
    return [f"{error['ago_s']:.0f} s ago: {error['text']}" for error in one["errors"]]
