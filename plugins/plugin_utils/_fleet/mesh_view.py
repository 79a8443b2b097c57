# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This plugin util is PRIVATE to the collection. It can change at any time.
"""The mesh of a run: every host's row joined, who is to blame for what, and how long packets take. (D01, D24, D33, D34)"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from ansible_collections.netops.fleet.plugins.module_utils._diagnosis.model import Finding
from ansible_collections.netops.fleet.plugins.plugin_utils._fleet import mesh
from ansible_collections.netops.fleet.plugins.plugin_utils._fleet.text import clean

MAX_CELLS = 64
#: Seconds a clock may be off (D22).
CLOCK_LIMIT = 5.0
#: A round trip is slow that takes so many times the usual one, and so many milliseconds more.
_SLOW_TIMES, _SLOW_MORE = 5.0, 0.5
_LINES, _MISSING = 12, 20
_REQUIREMENTS = ["D01", "D19", "D22", "D24", "D33", "D34"]

#: trouble -> (what happens to packets between the object and the others, rule of separation)
TROUBLES: dict[str, tuple[str, mesh.Rule]] = {
    "unreached": ("no answer, neither to ping nor over TCP", mesh.YES_NO),
    "large": ("full-size packets vanish, small ones arrive, and nobody says so", mesh.YES_NO),
    "loss": ("packets are lost", mesh.SHARE),
    "clock": (f"clocks are more than {CLOCK_LIMIT:.0f} s apart", mesh.YES_NO),
    "slow": ("round trips take much longer than between the others", mesh.YES_NO),
}
#: What a host says itself of the same trouble, about the address of one peer.
_SAME = {"unreached": ("neighbour-failed", "ping-unreachable"), "large": ("mtu-black-hole",), "loss": (), "clock": (), "slow": ()}
#: (trouble, kind of object) -> severity where it is not a warning.
_SEVERITY = {
    ("unreached", "host"): "critical",
    ("unreached", "pair"): "critical",
    ("unreached", "group"): "critical",
    ("large", "host"): "critical",
    ("large", "pair"): "critical",
    ("large", "group"): "critical",
    **{("slow", kind): "info" for kind in ("host", "pair", "group", "between", "fleet")},
    **{(trouble, "fleet"): "info" for trouble in ("unreached", "large", "loss", "clock")},
}
_FIX = {
    "unreached": ["# link, address and packet filter of this host: see its own findings; then the switch port"],
    "large": ["# compare the MTU along the way: ip link show, switch ports, tunnels; then ping -M do -s SIZE PEER"],
    "loss": ["# errors on the way: ethtool -S LINK, the switch port's counters, the cable; then a queue that overflows"],
    "clock": ["timedatectl set-ntp true", "# with chrony: chronyc makestep"],
    "slow": ["# another site? else look for a loaded link or a longer route: tracepath PEER"],
}


class Mesh:
    """First pass: every host's row. Bounded by 64 cells for each host."""

    def __init__(self, hosts: dict[str, list[str]]) -> None:
        self.hosts = hosts
        self._rows: dict[str, dict[str, dict[str, Any]]] = {}
        self._sent = [0, 0]
        self._told: dict[str, list[mesh.Blame]] | None = None

    def count(self, host: str, evidence: dict[str, Any]) -> None:
        """Take a host's row. Raises ValueError when it is none."""
        section = evidence["sections"].get("mesh")
        if not section:
            return
        row: dict[str, dict[str, Any]] = {}
        for one in (section.get("cells") or [])[:MAX_CELLS]:
            cell = _checked(one)
            if cell["peer"] in self.hosts and cell["peer"] != host:
                row[cell["peer"]] = cell
        self._rows[host] = row
        for place, name in enumerate(("packets", "bytes")):
            value = section.get(name)
            self._sent[place] += value if isinstance(value, int) and 0 <= value < 1 << 40 else 0

    @property
    def known(self) -> bool:
        return bool(self._rows)

    def cells(self) -> Iterable[tuple[str, dict[str, Any]]]:
        return ((host, cell) for host, row in self._rows.items() for cell in row.values())

    def blamed(self) -> dict[str, list[mesh.Blame]]:
        """By trouble; computed once, after the last row."""
        if self._told is None:
            usual = _quantiles([cell["rtt_ms"][0] for _host, cell in self.cells() if cell["rtt_ms"]])
            slow = max(_SLOW_TIMES * usual["p50"], usual["p50"] + _SLOW_MORE) if usual else math.inf
            self._told = {
                trouble: mesh.separate((_judged(trouble, host, cell, slow) for host, cell in self.cells()), self.hosts, rule)
                for trouble, (_what, rule) in TROUBLES.items()
            }
            self._known_already()
        return self._told

    def _known_already(self) -> None:
        """A host that is not reached, or far behind in time, is so in every other respect as well."""
        told = self._told or {}
        worse = {one.names for one in told["unreached"]}
        for trouble in ("large", "loss", "slow"):
            told[trouble] = [one for one in told[trouble] if one.names not in worse]

    def findings(self, host: str, own: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """The host's findings with those of the mesh; what it said itself of a peer that is to blame is told there."""
        found = [
            (trouble, one)
            for trouble, some in self.blamed().items()
            for one in some
            if one.kind == "fleet" or host in one.names or (one.kind in ("group", "between") and self._member(host, one))
        ]
        new = [_finding(trouble, one, self._seen(one)) for trouble, one in found]
        left = []
        for finding in own:
            trouble, about = self._about(host, finding)
            if about is None:
                left.append(finding)
                continue
            for line in (one for (kind, blame), one in zip(found, new) if kind == trouble and blame == about):
                line.evidence.append(f"{clean(host, 80)} itself: {clean(finding['summary'], 300)}")
        if any(one["id"] == "clock-offset" for one in left):
            new = [one for one in new if one.data["trouble"] != "clock" or one.id != "mesh-host-bad"]
        return left + [one.to_dict() for one in new]

    def _about(self, host: str, finding: dict[str, Any]) -> tuple[str, mesh.Blame | None]:
        """What is blamed for a finding about a peer: the peer itself, or the pair."""
        address = (finding.get("data") or {}).get("address")
        for trouble, ids in _SAME.items():
            if finding["id"] not in ids:
                continue
            for one in self.blamed()[trouble]:
                others = [name for name in one.names if name != host]
                peers = [cell for cell in (self._rows.get(host, {}).get(name) for name in others) if cell is not None]
                fits = one.kind == "host" or (one.kind == "pair" and host in one.names)
                if fits and others and any(cell["address"] == address for cell in peers):
                    return trouble, one
        return "", None

    def _member(self, host: str, blame: mesh.Blame) -> bool:
        return any(name in self.hosts.get(host, ()) for name in blame.names)

    def _seen(self, blame: mesh.Blame) -> list[str]:
        """The cells a blame rests on, failed ones first, as lines."""
        lines = []
        for one in blame.cells[:_LINES]:
            cell = self._rows[one.source][one.target]
            rtt = f", {cell['rtt_ms'][0]:g}/{cell['rtt_ms'][1]:g}/{cell['rtt_ms'][2]:g} ms" if cell["rtt_ms"] else ""
            large = f", {cell['large'][2]} of {cell['large'][1]} of {cell['large'][0]} bytes" if cell["large"][1] else ""
            clock = f", clock {cell['clock']:+.3f} s" if cell["clock"] is not None else ""
            detail = f" ({cell['detail']})" if one.hits and cell["detail"] else ""
            text = f"{one.source} → {one.target}: {cell['received']} of {cell['sent']} replies{rtt}{large}{clock}{detail}"
            lines.append(clean(text, 400))
        if len(blame.cells) > _LINES:
            lines.append(f"and {len(blame.cells) - _LINES} more")
        return lines

    def of(self, host: str) -> dict[str, Any] | None:
        """One host's part for the report: how it sees the others, and how they see it."""
        row = self._rows.get(host, {})
        seen = [one[host] for one in self._rows.values() if host in one]
        if not row and not seen:
            return None
        answered = sum(map(_answers, seen))
        text = f"{answered} of {len(seen)} peers reach it" if seen else "no peer probed it"
        rtt = _quantiles([cell["rtt_ms"][1] for cell in [*row.values(), *seen] if cell["rtt_ms"]])
        lost = _loss([*row.values(), *seen])
        if rtt:
            text += f"; round trip {rtt['p50']:g} ms, at most {rtt['max']:g} ms; {lost:g} % lost"
        return {
            "probes": len(row),
            "probed_by": len(seen),
            "reached_by": answered,
            "rtt_ms": rtt,
            "lost_percent": lost,
            "text": text,
        }

    def head(self, planned: int | None) -> dict[str, Any] | None:
        """The fleet's part of the report. planned: how many peers each host was to probe, where the run says so."""
        if not self.known:
            return None
        cells = [cell for _host, cell in self.cells()]
        each = min(planned, len(self.hosts) - 1) if planned else 0
        missing = sorted(host for host in self.hosts if host not in self._rows)
        clocks = [abs(cell["clock"]) for cell in cells if cell["clock"] is not None]
        blamed = [
            {"trouble": trouble, "kind": one.kind, "names": list(one.names), "way": one.way, "text": said(trouble, one)}
            for trouble, some in self.blamed().items()
            for one in some
        ]
        return {
            "hosts": len(self.hosts),
            "rows": len(self._rows),
            "pairs": len(cells),
            "unanswered": sum(1 for cell in cells if not _answers(cell)),
            "planned": max(each * len(self.hosts), len(cells)),
            "missing": missing[:_MISSING],
            "missing_hosts": len(missing),
            "packets": self._sent[0],
            "bytes": self._sent[1],
            "rtt_ms": _quantiles([cell["rtt_ms"][1] for cell in cells if cell["rtt_ms"]]),
            "lost_percent": _loss(cells),
            "clock_s": _quantiles(clocks),
            "groups": self._between_groups(),
            "blamed": blamed[:100],
        }

    def _between_groups(self) -> list[dict[str, Any]]:
        """Within and between groups, those that get no answer first, then the slow; groups that hold all hosts say nothing."""
        sizes: dict[str, int] = {}
        for own in self.hosts.values():
            for group in own:
                sizes[group] = sizes.get(group, 0) + 1
        smallest = {
            host: min((one for one in own if sizes[one] < len(self.hosts)), key=lambda one: (sizes[one], one), default=None)
            for host, own in self.hosts.items()
        }
        found: dict[tuple[str, str], list[dict[str, Any]]] = {}
        for host, cell in self.cells():
            one, other = smallest[host], smallest[cell["peer"]]
            if one is not None and other is not None:
                found.setdefault((min(one, other), max(one, other)), []).append(cell)
        rows: list[dict[str, Any]] = [
            {
                "groups": list(names),
                "pairs": len(cells),
                "answered": sum(map(_answers, cells)),
                "rtt_ms": _quantiles([cell["rtt_ms"][1] for cell in cells if cell["rtt_ms"]]),
                "lost_percent": _loss(cells),
            }
            for names, cells in found.items()
        ]
        return sorted(rows, key=_worst_first)[:20]


def _worst_first(row: dict[str, Any]) -> tuple[Any, ...]:
    return row["answered"] / row["pairs"], -row["rtt_ms"]["p50"] if row["rtt_ms"] else 0.0, row["groups"]


def _answers(cell: dict[str, Any]) -> bool:
    return bool(cell["received"]) or cell["status"] == "icmp_blocked"


def _checked(one: Any) -> dict[str, Any]:
    """A cell of the evidence with the parts that are used, of the types they are used as; raises ValueError."""
    try:
        large, clock, rtt = one["large"], one.get("clock"), one.get("rtt_ms")
        size = large.get("bytes")
        cell = {
            "peer": one["peer"],
            "address": str(one["address"])[:64],
            "status": str(one["status"])[:40],
            "detail": clean(one.get("detail") or "", 300),
            "sent": _number(one["sent"]),
            "received": min(_number(one["received"]), _number(one["sent"])),
            "rtt_ms": None if rtt is None else [float(_number(rtt[place])) for place in (0, 1, 2)],
            "large": (0 if size is None else _number(size), _number(large["sent"]), _number(large["received"])),
            "told": bool(large.get("told")),
            "clock": None if clock is None else float(_number(clock["offset_s"], signed=True)),
            "clock_error": 0.0 if clock is None else float(_number(clock["error_s"])),
        }
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        raise ValueError(f"mesh: {type(error).__name__}: {error}") from None
    if not isinstance(cell["peer"], str):
        raise ValueError("mesh: a peer is no name")
    return cell


def _number(value: Any, signed: bool = False) -> Any:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ValueError("mesh: a number is none")
    if value < 0 and not signed:
        raise ValueError("mesh: a number is negative")
    return value


def _judged(trouble: str, host: str, cell: dict[str, Any], slow: float) -> mesh.Cell:
    """One cell as the separation takes it; tries 0: it says nothing about this trouble."""
    hits, tries = 0, 0
    answered = cell["received"] > 0
    if trouble == "unreached" and cell["status"] != "error":
        hits, tries = int(cell["status"] in ("silent", "prohibited")), 1
    elif trouble == "large" and answered and cell["large"][1] >= 2:
        hits, tries = int(cell["large"][2] == 0 and not cell["told"]), 1
    elif trouble == "loss" and answered:
        hits, tries = cell["sent"] - cell["received"], cell["sent"]
    elif trouble == "clock" and cell["clock"] is not None:
        hits, tries = int(abs(cell["clock"]) - cell["clock_error"] > CLOCK_LIMIT), 1
    elif trouble == "slow" and cell["rtt_ms"]:
        hits, tries = int(cell["rtt_ms"][0] > slow), 1
    return mesh.Cell(host, cell["peer"], hits, tries)


def said(trouble: str, blame: mesh.Blame) -> str:
    """One sentence: who, what, of how many."""
    what = TROUBLES[trouble][0]
    names = [clean(name, 80) for name in blame.names]
    unit = "packets" if trouble == "loss" else "probes"
    tally = f"{blame.hits} of {blame.tries} {unit}"
    if blame.kind == "fleet":
        return f"Between nearly all hosts: {what} ({tally}); this is no matter of one host."
    if blame.kind == "pair":
        way = f"from {names[0]} to {names[1]} only" if blame.way == "out" else f"between {names[0]} and {names[1]}"
        return f"{way[0].upper()}{way[1:]}: {what} ({tally}), while both are well with the others."
    if blame.kind == "between":
        return f"Between the groups {names[0]} and {names[1]}: {what} ({tally}), while each is well within itself."
    if blame.kind == "group":
        return f"Between the group {names[0]} and the others{_direction(blame.way)}: {what} ({tally}). All its hosts share it."
    return f"Between {names[0]} and the others{_direction(blame.way)}: {what} ({tally}), while the others are well."


def _direction(way: str) -> str:
    return {"in": ", towards it only", "out": ", from it only"}.get(way, "")


def _finding(trouble: str, blame: mesh.Blame, lines: list[str]) -> Finding:
    names = [clean(name, 80) for name in blame.names]
    severity = _SEVERITY.get((trouble, blame.kind), "warning")
    if blame.kind == "host" and trouble == "unreached" and blame.way != "both":
        # It is there, and speaks: what lets nothing in by its own rules is no fault of the network.
        severity = "info" if blame.way == "in" else "warning"
    grade = "different" if trouble == "slow" else "likely" if trouble == "loss" or blame.kind == "fleet" else "proven"
    data: dict[str, Any] = {"trouble": trouble, "kind": blame.kind, "names": list(blame.names), "way": blame.way}
    data.update(hits=blame.hits, tries=blame.tries)
    if trouble == "clock":
        data["section"] = "clock"
    if blame.kind == "pair":
        subject = f"{names[0]} {'→' if blame.way == 'out' else '↔'} {names[1]}: {trouble}"
        return Finding("mesh-pair-bad", grade, severity, subject, said(trouble, blame), lines, _FIX[trouble], _REQUIREMENTS, data)
    if blame.kind == "host":
        subject = f"{names[0]}: {trouble}"
        return Finding("mesh-host-bad", grade, severity, subject, said(trouble, blame), lines, _FIX[trouble], _REQUIREMENTS, data)
    subject = f"{' ↔ '.join(names) or 'all hosts'}: {trouble}"
    fix = ["# what these hosts share: their switch, its uplink, a router or packet filter on the way", *_FIX[trouble][-1:]]
    return Finding("mesh-group-bad", grade, severity, subject, said(trouble, blame), lines, fix, _REQUIREMENTS, data)


def _loss(cells: list[dict[str, Any]]) -> float:
    """Percent of echo requests lost, of peers that answer some."""
    sent = sum(cell["sent"] for cell in cells if cell["received"])
    return round(100 * (1 - sum(cell["received"] for cell in cells) / sent), 2) if sent else 0.0


def _quantiles(values: list[float]) -> dict[str, float] | None:
    """p50, p90, p99 and max; None of nothing."""
    if not values:
        return None
    ranked = sorted(values)
    picked = {f"p{share}": ranked[min(len(ranked) - 1, math.ceil(share * len(ranked) / 100) - 1)] for share in (50, 90, 99)}
    return {name: round(value, 3) for name, value in {**picked, "max": ranked[-1]}.items()}
