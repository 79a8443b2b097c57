# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This plugin util is PRIVATE to the collection. It can change at any time.
"""Which host needs attention first, and what the fleet's findings have in common."""

from __future__ import annotations

from typing import Any

from ansible_collections.netops.fleet.plugins.module_utils._diagnosis import model
from ansible_collections.netops.fleet.plugins.plugin_utils._fleet.schema import GRADES, SEVERITIES

MAX_CAUSES = 50
_MAX_TRACKED = 20_000
_MAX_NAMED = 200

#: A host that gave no evidence comes after certain trouble and before warnings: nobody knows what is wrong with it.
_SILENT = len(GRADES)


def finding_order(finding: dict[str, Any]) -> tuple[int, int, int, str, str]:
    """What breaks traffic for certain comes first."""
    return model.rank(finding["severity"], finding["grade"], finding["id"], finding["subject"])


def rank(status: str, findings: list[dict[str, Any]]) -> int:
    """0 is worst: critical by grade (0..2), no evidence (3), warning by grade (4..6), info (7..9), nothing (10)."""
    if status != "ok":
        return _SILENT
    if not findings:
        return 10
    severity, grade = min(finding_order(finding)[:2] for finding in findings)
    return grade if severity == 0 else 4 + 3 * (severity - 1) + grade


def counts(findings: list[dict[str, Any]]) -> dict[str, int]:
    """Findings by severity."""
    out = dict.fromkeys(SEVERITIES, 0)
    for finding in findings:
        out[finding["severity"]] += 1
    return out


class Causes:
    """The same finding about the same object on several hosts, told once. Bounded: beyond 20,000 different ones, not tracked."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, str, str, str], list[str]] = {}
        self._counts: dict[tuple[str, str, str, str], int] = {}
        self._summaries: dict[tuple[str, str, str, str], str] = {}
        self.full = False

    def add(self, host: str, findings: list[dict[str, Any]]) -> None:
        for finding in findings:
            key = (finding["id"], finding["subject"], finding["severity"], finding["grade"])
            if key not in self._found:
                if len(self._found) >= _MAX_TRACKED:
                    self.full = True
                    continue
                self._found[key], self._counts[key] = [], 0
                self._summaries[key] = finding["summary"][:500]
            self._counts[key] += 1
            if len(self._found[key]) < _MAX_NAMED:
                self._found[key].append(host)

    def top(self) -> list[dict[str, Any]]:
        """The worst and most frequent: {id, subject, severity, grade, summary (of the first host), count, hosts}."""
        keys = sorted(self._found, key=lambda key: (SEVERITIES.index(key[2]), GRADES.index(key[3]), -self._counts[key], key))
        return [
            {"id": key[0], "subject": key[1], "severity": key[2], "grade": key[3], **self._rest(key)} for key in keys[:MAX_CAUSES]
        ]

    def _rest(self, key: tuple[str, str, str, str]) -> dict[str, Any]:
        return {"summary": self._summaries[key], "count": self._counts[key], "hosts": self._found[key]}
