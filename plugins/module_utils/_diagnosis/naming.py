# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""Names as programs of this host get them, against what the name servers say. (D07)"""

from __future__ import annotations

from typing import Any

from ansible_collections.netops.fleet.plugins.module_utils._diagnosis.facts import Facts
from ansible_collections.netops.fleet.plugins.module_utils._diagnosis.model import Finding
from ansible_collections.netops.fleet.plugins.module_utils._firewall.fixes import word


def find(facts: Facts) -> list[Finding]:
    names: dict[str, Any] | None = facts.section("names")
    if not names:
        return []
    out = []
    for one in names.get("getaddrinfo") or []:
        said = [
            lookup
            for lookup in names.get("lookups") or []
            if lookup.get("name") == one["name"] or str(lookup.get("name")).startswith(f"{one['name']}.")
        ]
        if one.get("error"):
            out.append(_unresolved(one, said))
            continue
        answers = {str(answer) for lookup in said if lookup["status"] == "ok" for answer in lookup.get("answers") or []}
        lines = [line for line in names.get("hosts") or [] if line["name"] == one["name"]]
        if lines and answers and not answers & set(one.get("addresses") or []):
            out.append(_overridden(one, lines, answers))
    return out


def _unresolved(one: dict[str, Any], said: list[dict[str, Any]]) -> Finding:
    name = str(one["name"])
    lines = [f"{each['server']} for {each['name']} {each['type']}: {each['status']}" for each in said[:8]]
    known = sorted({str(each["server"]) for each in said if each["status"] == "ok" and each.get("answers")})
    hint = f"; {', '.join(known)} knows it, but the first server that answers decides" if known else ""
    return Finding(
        "name-unresolved",
        "proven",
        "critical",
        name,
        f"Programs of this host cannot resolve {name}: {one['error']}{hint}.",
        [f"getaddrinfo: {one['error']} after {one.get('ms', '?')} ms", *lines],
        [
            f"getent hosts {word(name)}",
            "# the wrong name server first in /etc/resolv.conf, a missing search domain, or a name that is not there?",
        ],
        ["D07"],
        {"name": name, "status": "no_name", "servers": sorted({str(each["server"]) for each in said})},
    )


def _overridden(one: dict[str, Any], lines: list[dict[str, Any]], answers: set[str]) -> Finding:
    name = str(one["name"])
    number = int(lines[0]["line"])
    return Finding(
        "hosts-file-overrides",
        "proven",
        "warning",
        name,
        f"/etc/hosts line {number} says {name} is {lines[0]['address']}; the name servers say {', '.join(sorted(answers))}.",
        [f"/etc/hosts:{line['line']}: {line['address']} {line['name']}" for line in lines[:4]]
        + [f"programs get {', '.join(one.get('addresses') or [])}"],
        [f"sed -i.bak {number}d /etc/hosts"],
        ["D07"],
        {"name": name, "lines": [line["line"] for line in lines]},
    )
