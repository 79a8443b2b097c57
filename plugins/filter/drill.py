# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filters of the role drill: a fault of the library made fit for a host, and what the report of a diagnosis says of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleFilterError

#: Addresses and names that the files of the library are written with, and the option that stands for each on a real host.
_WRITTEN = {"10.77.0.2": "peer", "10.88.0.1": "peer", "1678": "port", "eth0": "link"}


def fault_plan(fault: dict[str, Any], port: int, peer: str = "", link: str = "") -> dict[str, Any]:
    """A fault file → ``{target, expect, inject, revert, environment}`` with the port, peer and link of the host."""
    if not fault.get("drill"):
        raise AnsibleFilterError("fault_plan: this fault needs its own world and is no drill; take one with drill: true")
    given = {"port": str(port), "peer": peer, "link": link}

    def fitted(text: str) -> str:
        for written, name in _WRITTEN.items():
            if written in text and given[name]:
                text = text.replace(written, given[name])
        return text

    target = fitted(str(fault.get("target") or ""))
    if target.count(":") and not peer:
        raise AnsibleFilterError("fault_plan: this fault is about a service elsewhere; say which in drill_peer")
    expect = dict(fault["expect"])
    if "subject" in expect:
        expect["subject"] = fitted(str(expect["subject"]))
        if not link:
            expect["subject"] = expect["subject"].replace("eth0", "*")
    environment = {"PORT": str(port), "PEER4" if ":" not in peer else "PEER6": peer}
    if link:
        environment["LINK"] = link
    return {
        "target": target,
        "expect": expect,
        "inject": fault["inject"],
        "revert": fault["revert"],
        "environment": {name: value for name, value in environment.items() if value},
    }


def fault_found(report: str, host: str, expect: dict[str, Any], began: float, ended: float) -> dict[str, Any]:
    """Path of report.json → ``{found, first, place, seconds, told}``; began, ended: Unix times of injection and report."""
    hosts = json.loads(Path(report).read_text(encoding="utf-8"))["hosts"]
    this = next((one for one in hosts if one["name"] == host), None)
    if this is None:
        raise AnsibleFilterError(f"fault_found: {host} is not in {report}")
    places = [
        place
        for place, one in enumerate(this["findings"], 1)
        if one["id"] == expect["id"] and fnmatchcase(one["subject"], expect.get("subject", "*"))
    ]
    return {
        "host": host,
        "found": bool(places),
        "first": places[:1] == [1],
        "place": places[0] if places else None,
        "seconds": round(float(ended) - float(began), 1) if places else None,
        "status": this["status"],
        "told": [f"{one['id']}: {one['summary']}" for one in this["findings"][:5]],
        "others": [one["name"] for one in hosts if one["name"] != host and one["findings"] and one["rank"] == 0],
    }


class FilterModule:
    """Named netops.fleet.fault_plan and netops.fleet.fault_found."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"fault_plan": fault_plan, "fault_found": fault_found}
