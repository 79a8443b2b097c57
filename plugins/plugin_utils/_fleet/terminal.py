# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This plugin util is PRIVATE to the collection. It can change at any time.
"""The summary on the terminal: answers, a table of hosts and checks, the first fixes, where the page is. Bounded width."""

from __future__ import annotations

from typing import Any

from ansible_collections.netops.fleet.plugins.plugin_utils._fleet import checks
from ansible_collections.netops.fleet.plugins.plugin_utils._fleet.report import Brief, Built
from ansible_collections.netops.fleet.plugins.plugin_utils._fleet.text import clean

#: Up to here every host has a line; in larger fleets only those with something to say.
ALL_HOSTS = 40
MAX_HOSTS = 60
MAX_ANSWERS = 20
MAX_FIXES = 6
_NAME, _LEAST_NAME = 28, 12

#: state -> (word for a log, sign for a terminal, colour)
_STATES = {
    "critical": ("CRIT", "✖", "red"),
    "warning": ("warn", "▲", "yellow"),
    "info": ("note", "●", "blue"),
    "ok": ("ok", "✓", "green"),
    "partial": ("ok~", "✓~", "green"),
    "unchecked": ("-", "·", "dark gray"),
}
_COLOURS = {"critical": "red", "warning": "yellow", "info": "blue", "blocked": "red", "unknown": "yellow", "open": "green"}
_SHORT = {
    "firewall": "fw",
    "hooks": "hooks",
    "listeners": "listen",
    "routes": "routes",
    "neighbours": "neigh",
    "links": "links",
    "drops": "drops",
    "sysctls": "sysctl",
    "dns": "dns",
    "clock": "clock",
    "machine": "machine",
    "probes": "probes",
    "peers": "peers",
    "other": "other",
}

#: One line: pieces of (text, colour or None).
Line = list["tuple[str, str | None]"]


def lines(built: Built, width: int, signs: bool) -> list[Line]:
    """The summary. width: columns to stay within. signs: the reader is a terminal, else words are written."""
    width = max(60, min(width, 140))
    out: list[Line] = []
    shown = [one for one in built.briefs if len(built.briefs) <= ALL_HOSTS or one.status != "ok" or any(one.counts.values())]
    out += _table(shown[:MAX_HOSTS], built.columns, width, signs)
    hidden = len(shown) - min(len(shown), MAX_HOSTS)
    if hidden:
        out.append([(f"and {hidden} more hosts with findings or without evidence", None)])
    if len(built.briefs) > len(shown):
        out.append([(f"{len(built.briefs) - len(shown)} more hosts without findings", "green")])
    out += _mesh(built.head["mesh"], width)
    out += _answers(built, width)
    out += _fixes(built.briefs, width)
    out += [[("", None)], _totals(built.head["totals"]), [("report: ", None), (built.html, None)]]
    return out


def _table(briefs: list[Brief], columns: list[str], width: int, signs: bool) -> list[Line]:
    if not briefs:
        return []
    columns, left_out = _room(briefs, columns, width - _LEAST_NAME - 2)
    heads = [_SHORT.get(column, column) for column in columns]
    name_width = min(_NAME, max(len(_name(one)) for one in briefs), width - 2 - _wide(columns))
    name_width = max(name_width, len("host"))
    head = " ".join(one.center(max(len(one), 4)) for one in heads)
    out: list[Line] = [[("host".ljust(name_width) + "  " + head, None)]]
    for brief in briefs:
        line: Line = [(_fit(_name(brief), name_width) + "  ", None)]
        if brief.status != "ok":
            line.append((_fit(f"{brief.status}: {brief.reason}", width - name_width - 2).rstrip(), "bright red"))
        else:
            for column, title in zip(columns, heads):
                state = brief.cells.get(column, "ok" if column == checks.OTHER else "unchecked")
                word, sign, colour = _STATES[state]
                line.append(((sign if signs else word).center(max(len(title), 4)) + " ", colour))
        out.append(line)
    return out + left_out


def _room(briefs: list[Brief], columns: list[str], width: int) -> tuple[list[str], list[Line]]:
    """The columns that fit, and lines that name the others: those without findings go first, so that no trouble is unseen."""
    kept = list(columns)
    troubled = {name for one in briefs for name, state in one.cells.items() if state in _COLOURS}
    for column in sorted(columns, key=lambda one: (one in troubled, -columns.index(one))):
        if _wide(kept) <= width:
            break
        kept.remove(column)
    out: list[Line] = []
    for some, why in ((troubled, "with findings, see the report"), (set(columns) - troubled, "no findings")):
        missing = [_SHORT.get(column, column) for column in columns if column in some and column not in kept]
        if missing:
            out.append([(f"no room for {', '.join(missing)} ({why})", None)])
    return kept, out


def _wide(columns: list[str]) -> int:
    return sum(max(len(_SHORT.get(column, column)), 4) + 1 for column in columns)


def _mesh(mesh: dict[str, Any] | None, width: int) -> list[Line]:
    """How long packets take between the hosts, and who or what stands out."""
    if mesh is None:
        return []
    text = f"between the hosts: {mesh['pairs']} of {mesh['planned']} pairs probed"
    if mesh["rtt_ms"]:
        text += ", round trip {p50:g} ms (p50), {p99:g} ms (p99), {max:g} ms (max)".format(**mesh["rtt_ms"])
        text += f", {mesh['lost_percent']:g} % lost"
    out: list[Line] = [[("", None)], [(text, None)]]
    out += [[("  " + _fit(clean(one["text"], 400), width * 2).rstrip(), "yellow")] for one in mesh["blamed"][:MAX_FIXES]]
    if len(mesh["blamed"]) > MAX_FIXES:
        out.append([(f"  and {len(mesh['blamed']) - MAX_FIXES} more in the report", None)])
    return out


def _answers(built: Built, width: int) -> list[Line]:
    run = built.head["run"]
    target = run["symptom"] or run["target_text"]
    told = [one for one in built.briefs if one.verdict is not None]
    if target is None or not told:
        return []
    out: list[Line] = [[("", None)]]
    some = told if len(told) <= MAX_ANSWERS else [one for one in told if one.verdict != "open"][:MAX_ANSWERS]
    for one in some:
        prefix = f"{_name(one)[:_NAME]}: "
        out.append([(prefix, None), (_fit(one.answer or "", width * 2 - len(prefix)).rstrip(), _COLOURS.get(one.verdict or ""))])
    if len(told) > len(some):
        counts: dict[str, int] = {}
        for one in told:
            counts[str(one.verdict)] = counts.get(str(one.verdict), 0) + 1
        said = ", ".join(f"{verdict} on {number}" for verdict, number in sorted(counts.items()))
        out.append([(f"{target} in all: {said}", None)])
    return out


def _fixes(briefs: list[Brief], width: int) -> list[Line]:
    """The commands of the worst findings; identical ones of several hosts once."""
    found: dict[tuple[str, ...], tuple[dict[str, Any], list[str]]] = {}
    for brief in briefs:
        for finding in brief.top:
            if finding["severity"] == "info" or not finding["fix"]:
                continue
            key = (finding["id"], *finding["fix"])
            found.setdefault(key, (finding, []))[1].append(_name(brief))
    out: list[Line] = []
    for finding, names in list(found.values())[:MAX_FIXES]:
        who = ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
        out.append([("", None)])
        out.append(
            [
                (f"{finding['severity']} ({finding['grade']}) ", _COLOURS[finding["severity"]]),
                (_fit(f"on {who}", width).rstrip(), None),
            ]
        )
        out.append([("  " + _fit(finding["summary"], width * 2).rstrip(), None)])
        out += [[("    " + line, "cyan")] for line in finding["fix"]]
    if len(found) > MAX_FIXES:
        out.append([(f"and {len(found) - MAX_FIXES} more findings with a fix in the report", None)])
    return out


def _totals(totals: dict[str, Any]) -> Line:
    silent = totals["hosts"] - totals["statuses"].get("ok", 0)
    hosts = "1 host" if totals["hosts"] == 1 else f"{totals['hosts']} hosts"
    line: Line = [(f"{hosts}: {totals['hosts_without_findings']} without findings", None)]
    if silent:
        line.append((f", {silent} without evidence", "bright red"))
    for severity, number in totals["findings"].items():
        if number:
            line.append((f", {number} {severity}", _COLOURS[severity]))
    return line


def _name(brief: Brief) -> str:
    return clean(brief.name, 60) or "(no name)"


def _fit(text: str, width: int) -> str:
    return text[: max(width - 1, 0)] + "…" if len(text) > width else text.ljust(width)
