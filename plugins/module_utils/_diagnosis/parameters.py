# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""Kernel parameters that are wrong in themselves, whatever the peers have: the kernel took them and nobody meant them. (D30)"""

from __future__ import annotations

from ansible_collections.netops.fleet.plugins.module_utils._diagnosis.facts import Facts
from ansible_collections.netops.fleet.plugins.module_utils._diagnosis.model import Finding
from ansible_collections.netops.fleet.plugins.module_utils._kernel import parameters

#: Below these a host that serves or moves data suffers; kernels since 5.4 have more by themselves. (key, part, least, why)
_SMALL = (
    ("net.core.somaxconn", 0, 1024, "every accept queue is cut to it: short bursts of connections are dropped"),
    ("net.ipv4.tcp_rmem", 2, 1 << 20, "no receive window can be larger than about half of it"),
    ("net.ipv4.tcp_wmem", 2, 1 << 20, "no connection can have more than it in flight"),
)


def find(facts: Facts) -> list[Finding]:
    values = facts.section("sysctls")
    if not isinstance(values, dict):
        return []
    return _wrong(values) + _small(values)


def _wrong(values: dict[str, str]) -> list[Finding]:
    found = []
    for name, value in sorted(values.items()):
        told = _fault(name, str(value))
        if told is not None:
            why, better = told
            found.append(_finding(name, str(value), "warning", "proven", why, better))
    for text in parameters.conflicts({name: str(value) for name, value in values.items()}):
        name = text.split()[0].rstrip(",")
        found.append(_finding(name, str(values.get(name, "")), "warning", "proven", text, None))
    return found


def _fault(name: str, value: str) -> tuple[str, str | None] | None:
    """(what is wrong, a better value). Upper bounds are left out: newer kernels may know larger numbers."""
    known = parameters.key(name)
    words = value.split()
    if known is None or known.count != len(words) or not all(word.lstrip("-").isdigit() for word in words):
        return None
    numbers = [int(word) for word in words]
    if any(number < min(known.low, 1) for number in numbers):
        return f"{value} is below {known.low}", None
    if known.rising and sorted(numbers) != numbers:
        return f"{value} falls; minimum, default and maximum must rise", " ".join(map(str, sorted(numbers)))
    return None


def _small(values: dict[str, str]) -> list[Finding]:
    found = []
    for name, place, least, why in _SMALL:
        words = str(values.get(name, "")).split()
        if len(words) > place and words[place].isdigit() and int(words[place]) < least and _fault(name, " ".join(words)) is None:
            better = " ".join([*words[:place], str(65535 if place == 0 else 6 * (1 << 20)), *words[place + 1 :]])
            text = f"{words[place]} is less than {least}: {why}"
            found.append(_finding(name, " ".join(words), "info", "likely", text, better))
    return found


def _finding(name: str, value: str, severity: str, grade: str, why: str, better: str | None) -> Finding:
    fix = [f"# correct {name} where it is set: grep -r {name} /etc/sysctl.conf /etc/sysctl.d /usr/lib/sysctl.d"]
    if better is not None:
        fix.insert(0, f"sysctl -w {name}='{better}'")
    return Finding(
        id="kernel-parameter-wrong",
        grade=grade,
        severity=severity,
        subject=name,
        summary=f"{name}: {why}",
        evidence=[f"{name} is {value}"],
        fix=[*fix, "# for all parameters of a host: netops.fleet.sysctl_tuning with state planned"],
        requirement=["D30"],
        data={"name": name, "value": value},
    )
