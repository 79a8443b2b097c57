# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""Is a host as well as it was? Findings, losses per second and probes, before and after a change. Comparing is pure. (T11)"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ansible_collections.netops.fleet.plugins.module_utils._diagnosis.model import SEVERITIES

#: Losses that a change of parameters can bring, and the counters that tell: (layer, counter); None: all of the layer.
LOSSES: dict[str, tuple[tuple[str, str | None], ...]] = {
    "retransmits": (("tcp", "RetransSegs"),),
    "overflows": (("tcp", "ListenOverflows"), ("tcp", "ListenDrops")),
    "drops": (("nic", None), ("softnet", None), ("qdisc", None), ("socket", None), ("udp", None)),
}
#: How much more per second than before is still well, and by which factor a busy host may vary.
ALLOW = {"retransmits": 50.0, "overflows": 0.5, "drops": 100.0}
_FACTOR = 2.0
_MOST_FINDINGS = 200

_ALLOW_SPEC: dict[str, Any] = {name: {"type": "float", "default": value} for name, value in ALLOW.items()}
#: The argument spec of the module; its documentation stands in plugins/modules/host_health.py.
ARGUMENTS: dict[str, Any] = {
    "baseline": {"type": "dict"},
    "window": {"type": "float", "default": 2.0},
    "worst": {"type": "str", "choices": [*SEVERITIES, "none"], "default": "critical"},
    "http": {"type": "list", "elements": "str", "default": []},
    "allow": {"type": "dict", "default": {}, "options": _ALLOW_SPEC},
    "timeout": {"type": "float", "default": 2.0},
}


def of(evidence: dict[str, Any]) -> dict[str, Any]:
    """What is compared, from evidence (docs/dev/foundation.md): ``{findings, losses, probes, gaps}``.

    findings: ``[[severity, id, subject]]``. losses: name → per second. probes: ``[[url, ok, detail]]``.
    """
    sections = evidence.get("sections") or {}
    drops = sections.get("drops") or {}
    seconds = float(drops.get("seconds") or 0)
    layers = drops.get("layers") or {}
    losses = {}
    for name, counters in LOSSES.items():
        total = 0
        for layer, counter in counters:
            found = layers.get(layer) or {}
            for key, value in found.items():
                if counter is None or key == counter:
                    total += int((value or {}).get("delta") or 0)
        losses[name] = round(total / seconds, 3) if seconds > 0 else 0.0
    probes = [
        [str(one.get("target")), one.get("status") == "ok", str(one.get("detail") or one.get("status"))[:200]]
        for one in sections.get("probes") or []
        if one.get("kind") == "http"
    ]
    findings = [[one["severity"], one["id"], one["subject"]] for one in evidence.get("findings") or []]
    gaps = [cover["section"] for cover in evidence.get("coverage") or [] if cover.get("status") == "failed"]
    return {"findings": findings[:_MOST_FINDINGS], "losses": losses, "probes": probes, "gaps": gaps}


def sick(health: dict[str, Any], worst: str, wanted: Iterable[str] = ()) -> list[str]:
    """Why a host must not be changed: findings as bad as ``worst``, probes that fail before anything is done."""
    reasons = []
    if worst != "none":
        bad = SEVERITIES[: SEVERITIES.index(worst) + 1]
        reasons += [f"{severity} finding: {name}: {subject}" for severity, name, subject in health["findings"] if severity in bad]
    return reasons + failing(health, wanted)


def failing(health: dict[str, Any], wanted: Iterable[str] = ()) -> list[str]:
    reasons = [f"{url} does not answer as it should: {detail}" for url, ok, detail in health["probes"] if not ok]
    asked = {url for url, _ok, _detail in health["probes"]}
    return reasons + [f"{url} was not probed" for url in wanted if url not in asked]


def worse(
    before: dict[str, Any], now: dict[str, Any], allow: dict[str, float] | None = None, wanted: Iterable[str] = ()
) -> list[str]:
    """What is worse than in the baseline, one sentence each. Findings of severity info do not count."""
    allow = {**ALLOW, **(allow or {})}
    known = {(name, subject) for _severity, name, subject in before.get("findings") or []}
    reasons = [
        f"new {severity} finding: {name}: {subject}"
        for severity, name, subject in now["findings"]
        if severity != "info" and (name, subject) not in known
    ]
    for name, rate in now["losses"].items():
        was = float((before.get("losses") or {}).get(name) or 0.0)
        limit = was * _FACTOR + float(allow.get(name, 0.0))
        if rate > limit:
            reasons.append(f"{name}: {rate:g} per second, {was:g} before; allowed are {limit:g}")
    cut_short = set(now.get("unfinished") or []) - set(before.get("unfinished") or [])
    reasons += [f"change {change} was cut short, or is still under way" for change in sorted(cut_short)]
    return reasons + failing(now, wanted)


def run(params: dict[str, Any]) -> dict[str, Any]:
    """Collect and compare: ``{health, reasons}``. With a baseline reasons say what is worse, else what is wrong already."""
    from ansible_collections.netops.fleet.plugins.module_utils._diagnosis import collect

    options = collect.Options(
        window=float(params["window"]),
        http=[
            {"url": url, "method": "GET", "json": None, "headers": {}, "status": None, "contains": None, "validate_certs": True}
            for url in params["http"]
        ],
        probe_timeout=float(params["timeout"]),
    )
    health = {**of(collect.collect(options)), **_changes()}
    baseline = params.get("baseline")
    if baseline:
        reasons = worse(baseline, health, params.get("allow") or {}, params["http"])
    else:
        reasons = sick(health, params["worst"], params["http"])
    return {"health": health, "reasons": reasons}


def _changes() -> dict[str, Any]:
    """``{mark, unfinished, waiting}``: where the host's journal of changes stands. mark is None where it may not be read.

    waiting: changes that the dead-man's timer takes back unless they are confirmed.
    """
    from ansible_collections.netops.fleet.plugins.module_utils._safety import deadman, journal

    try:
        found = journal.Journal()
        waiting = deadman.armed(journal.FOLDER) or {}
    except (journal.JournalError, OSError):
        return {"mark": None, "unfinished": [], "waiting": []}
    unfinished = [change.id for change in found.unfinished()]
    return {"mark": found.mark(), "unfinished": unfinished, "waiting": list(waiting.get("changes") or [])}
