# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts that wait longer for an address than the others do: told in the report as a note, unless they are a third or more."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.netops.fleet.plugins.plugin_utils._fleet import report
from tests.unit import evidence_samples as samples

FAR = "203.0.113.5"


def ping(milliseconds: Any, address: str = FAR) -> dict[str, Any]:
    rtt = {"min": milliseconds, "avg": milliseconds, "max": milliseconds}
    return {"kind": "ping", "target": address, "address": address, "status": "ok", "sent": 3, "received": 3, "rtt_ms": rtt}


def told(folder: Path, *milliseconds: Any) -> list[str]:
    """Names of hosts whose report says that they wait longer than the others."""
    fleet = {name: samples.sealed(one) for name, one in samples.fleet(len(milliseconds)).items()}
    for one, took in zip(fleet.values(), milliseconds):
        one["sections"]["probes"] = [ping(took)] if took is not None else []
    built = report.build(samples.run(folder, fleet, target=None))
    hosts = json.loads(Path(built.json).read_text(encoding="utf-8"))["hosts"]
    found = {one["name"]: [each for each in one["findings"] if each["id"] == "round-trip-slow"] for one in hosts}
    for name in (name for name, each in found.items() if each):
        (finding,) = found[name]
        assert (finding["severity"], finding["grade"], finding["subject"]) == ("info", "different", FAR)
    names = list(fleet)
    return [str(names.index(name)) for name in sorted(found) if found[name]]


@pytest.mark.parametrize(
    ("milliseconds", "slow"),
    [
        ((1.0, 1.2, 0.9, 80.0), ["3"]),
        ((1.0, 1.2, 0.9, 10.5), []),
        ((30.0, 31.0, 29.0, 45.0), []),
        ((1.0, 1.2, 80.0), []),
        ((1.0, 1.2, 0.9, 1.1, 80.0, 81.0), ["4", "5"]),
        ((1.0, 1.2, 0.9, 80.0, 81.0, 79.0), []),
        ((1.0, 1.2, 0.9, None, 80.0), ["4"]),
        ((1.0, 1.2, 0.9, "fast", 80.0), ["4"]),
        ((1.0, 1.2, 0.9, True, 80.0), ["4"]),
    ],
    ids=["one", "not by much", "not by times", "too few", "two of six", "two sites", "one did not ask", "nonsense", "no number"],
)
def test_who_waits_longer_is_told(tmp_path: Path, milliseconds: tuple[Any, ...], slow: list[str]) -> None:
    assert told(tmp_path, *milliseconds) == slow


def test_evidence_of_another_shape_does_not_end_the_report(tmp_path: Path) -> None:
    fleet = {name: samples.sealed(one) for name, one in samples.fleet(4).items()}
    for one in fleet.values():
        one["sections"]["probes"] = [{"kind": "ping", "target": FAR, "rtt_ms": "late"}]
    built = report.build(samples.run(tmp_path, fleet, target=None))
    assert len(json.loads(Path(built.json).read_text(encoding="utf-8"))["hosts"]) == 4
