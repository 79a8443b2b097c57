# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""Services far from their memory, GPU or NIC, or elsewhere than declared; huge pages unlike what was declared. (T08, T09, T10)"""

from __future__ import annotations

from typing import Any

from ansible_collections.netops.fleet.plugins.module_utils._diagnosis.facts import Facts
from ansible_collections.netops.fleet.plugins.module_utils._diagnosis.model import Finding
from ansible_collections.netops.fleet.plugins.module_utils._evidence import locality
from ansible_collections.netops.fleet.plugins.module_utils._kernel import cpulist


def find(facts: Facts) -> list[Finding]:
    found = facts.section("locality")
    if not isinstance(found, dict):
        return []
    return _services(facts, found) + _thp(found) + _pages(found)


def _services(facts: Facts, found: dict[str, Any]) -> list[Finding]:
    out = [finding for one in found["services"] if one.get("declared") for finding in _elsewhere(one)]
    return out + [_far(one) for one in locality.far(found, (facts.section("sockets") or {}).get("listeners") or [])]


def _elsewhere(one: dict[str, Any]) -> list[Finding]:
    declared = cpulist.parse_or_none(one["declared"]["cpus"].replace(" ", ","))
    if not declared or set(cpulist.parse(one["cpus"])) <= set(declared):
        return []
    return [
        _finding(
            one,
            "proven",
            f"{one['unit']} runs on the processors {one['cpus']}, declared are {cpulist.show(declared)}.",
            [
                f"Cpus_allowed_list of {one['process']} (pid {one['pid']}) is {one['cpus']}",
                f"{one['declared']['file']} declares {cpulist.show(declared)}",
            ],
            [f"systemctl restart {one['unit']}"],
        )
    ]


def _far(far: locality.Far) -> Finding:
    one = far.service
    if far.belongs == far.node:
        fix = f"# bind the memory of {one['unit']} too: service_placement with near: node:{far.node}, then restart it"
    else:
        what = " and ".join(kind for kind in far.kinds if kind != "memory")
        fix = f"# place {one['unit']} near its {what}: service_placement with near: node:{far.belongs}, then restart it"
    shown = f"Cpus_allowed_list of {one['process']} (pid {one['pid']}) is {one['cpus']}: node {far.node}"
    return _finding(one, "likely", f"{far.text}.", [shown, *far.lines], [fix])


def _finding(one: dict[str, Any], grade: str, summary: str, evidence: list[str], fix: list[str]) -> Finding:
    return Finding(
        id="service-off-node",
        grade=grade,
        severity="warning",
        subject=one["unit"],
        summary=summary,
        evidence=evidence,
        fix=fix,
        requirement=["T08", "T10"],
        data={"unit": one["unit"], "pid": one["pid"]},
    )


def _thp(found: dict[str, Any]) -> list[Finding]:
    declared, present = (found.get("declared") or {}).get("set") or {}, found.get("thp") or {}
    wrong = []
    for path, value in sorted(declared.items()):
        name = path.rpartition("/")[2]
        if path.startswith("/sys/kernel/mm/transparent_hugepage/") and name in present and present[name] != value:
            wrong.append((path, name, present[name], value))
    if not wrong:
        return []
    profile = found["declared"]["profile"]
    return [
        Finding(
            id="thp-against-profile",
            grade="proven",
            severity="warning",
            subject="transparent huge pages",
            summary="Transparent huge pages are not as declared"
            + ("" if profile == "own" else f" for the profile {profile}")
            + ": "
            + ", ".join(f"{name} is {now}, declared {value}" for _path, name, now, value in wrong)
            + ".",
            evidence=[f"{path} has {now}" for path, _name, now, _value in wrong]
            + ["netops-fleet-pages.service sets them at boot; something changed them since, or it did not run"],
            fix=[f"echo {value} > {path}" for path, _name, _now, value in wrong]
            + ["# find who sets them: grep -rs transparent_hugepage /etc/tuned /usr/lib/tuned /etc/tmpfiles.d /etc/rc.local"],
            requirement=["T09"],
        )
    ]


def _pages(found: dict[str, Any]) -> list[Finding]:
    present = {one["folder"]: one for one in found["pages"]}
    out = []
    for folder, wanted in sorted(((found.get("declared") or {}).get("pages") or {}).items()):
        pool = present.get(folder)
        if pool is None or pool["pages"] >= wanted:
            continue
        place = "this host" if pool["node"] is None else f"node {pool['node']}"
        out.append(
            Finding(
                id="huge-pages-short",
                grade="proven",
                severity="warning",
                subject=f"huge pages of {pool['size_kb']} kB on {place}",
                summary=f"{place} has {pool['pages']} huge pages of {pool['size_kb']} kB, {wanted} are declared.",
                evidence=[f"{folder}/nr_hugepages is {pool['pages']}", f"netops-fleet-pages.service declares {wanted}"],
                fix=[
                    "systemctl restart netops-fleet-pages.service",
                    "# still short: memory is fragmented; reboot, or reserve them on the kernel's command line",
                ],
                requirement=["T09"],
                data={"folder": folder, "pages": pool["pages"], "declared": wanted},
            )
        )
    return out
