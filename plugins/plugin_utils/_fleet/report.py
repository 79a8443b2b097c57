# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This plugin util is PRIVATE to the collection. It can change at any time.
"""From a run's folder to report.json, report.html and the terminal's summary, one host in memory at a time.

Three passes: envelopes (who answered), evidence (what is usual), and a spool file with the part of the evidence that is needed to
say who differs. Each host's record goes to a second spool file; report.json and the page are written from it, worst host first.
A few hundred bytes per host stay in memory.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import IO, Any

from ansible_collections.netops.fleet.plugins.plugin_utils._fleet import (
    captures,
    checks,
    cluster,
    differences,
    duplicates,
    mesh_view,
    overlays,
    pairs,
    peers,
    rank,
    round_trips,
    schema,
    store,
    symptoms,
    virtual,
)
from ansible_collections.netops.fleet.plugins.plugin_utils._fleet.text import clean, safe_name

#: evidence -> (findings, answer): single-host findings computed again from the sections.
Judge = Callable[[dict[str, Any]], "tuple[list[dict[str, Any]], dict[str, Any] | None]"]


@dataclass
class Brief:
    """What stays in memory of a host: enough for the terminal and for the order of the page."""

    name: str
    rank: int
    status: str
    reason: str
    verdict: str | None
    answer: str | None
    counts: dict[str, int]
    cells: dict[str, str]
    top: list[dict[str, Any]]
    offset: int = 0
    length: int = 0


@dataclass
class Built:
    """A finished report. head: everything of report.json but its hosts. json, html: paths."""

    head: dict[str, Any]
    briefs: list[Brief]
    json: str
    html: str
    columns: list[str] = field(default_factory=list)


def build(run: store.Run, min_peers: int = peers.MIN_PEERS, judge: Judge | None = None) -> Built:
    """Write report.json and report.html into the run's folder; raises OSError and store.StoreError."""
    hosts = store.names(run)
    comparison = peers.Comparison(hosts, _answered(run, hosts), min_peers)
    view, ends, crossed = (
        differences.PeerView(),
        pairs.Pairs(),
        (
            duplicates.Duplicates(),
            overlays.Overlays(),
            virtual.VirtualAddresses(),
            cluster.Cluster(store.read_cluster(run.folder), run.target, run.options),
            round_trips.RoundTrips(),
        ),
    )
    between = mesh_view.Mesh(hosts)
    kept = captures.Captures(run.folder, run.options)
    briefs: list[Brief] = []
    causes = rank.Causes()
    with tempfile.TemporaryFile(dir=run.folder) as light, tempfile.TemporaryFile(dir=run.folder) as spool:
        for stored in store.stream(run, hosts):
            if stored.evidence is not None and judge is not None:
                _rejudge(stored, judge)
            _count_mesh(between, stored)
            if stored.evidence is not None:
                comparison.count(stored.host, stored.evidence)
                view.count(stored.host, stored.evidence, hosts)
                ends.count(stored.host, stored.evidence)
                for table in crossed:
                    table.count(stored.host, stored.evidence)
                _lighten(stored)
            light.write(json.dumps(vars(stored), separators=(",", ":")).encode() + b"\n")
        light.seek(0)
        for line in light:
            stored = store.Stored(**json.loads(line))
            record = _record(stored, comparison, view, ends, crossed, between, kept, run)
            causes.add(stored.host, record["findings"])
            brief = _brief(record)
            packed = json.dumps(record, separators=(",", ":"), sort_keys=True).encode()
            brief.offset, brief.length = spool.tell(), len(packed)
            spool.write(packed)
            briefs.append(brief)
        briefs.sort(key=lambda one: (one.rank, -one.counts["critical"], -one.counts["warning"], one.name))
        head = _head(run, hosts, briefs, causes, comparison, between)
        head["notes"] += crossed[3].notes()
        columns = [*checks.ORDER, checks.OTHER]
        for optional in ("probes", checks.OTHER):  # shown only where something was probed, or fits nowhere else
            if not any(one.cells.get(optional, "unchecked") != "unchecked" for one in briefs):
                columns.remove(optional)
        built = Built(head, briefs, os.path.join(run.folder, "report.json"), os.path.join(run.folder, "report.html"), columns)
        with _replacing(built.json) as out:
            _write_json(out, head, briefs, spool)
        with _replacing(built.html) as out:
            from ansible_collections.netops.fleet.plugins.plugin_utils._fleet import page

            page.write(out, head, columns, lambda: _records(briefs, spool))
    return built


def _answered(run: store.Run, hosts: dict[str, list[str]]) -> set[str]:
    found = set()
    for host in hosts:
        try:
            if store.read_head(os.path.join(run.folder, safe_name(host) + store.SUFFIX))["status"] == "ok":
                found.add(host)
        except (OSError, ValueError, RecursionError):
            continue  # the next reading says why
    return found


#: The sections that findings about the fleet read. The others, the bulk of the evidence, are read once only.
_KEPT = ("addresses", "hooks", "links", "routes", "sockets", "tunnels")


def _rejudge(stored: store.Stored, judge: Judge) -> None:
    """Replace the host's findings and answer by those of this version of the collection."""
    evidence = stored.evidence or {}
    try:
        evidence["findings"], evidence["answer"] = judge(evidence)
        problems = schema.finding_problems(evidence["findings"], evidence["answer"])
    except Exception as error:  # what a host sent may break any judgement; one host must not end the report
        problems = [f"{type(error).__name__}: {error}"]
    if problems:
        stored.status, stored.evidence = "invalid", None
        stored.reason = clean(f"the evidence could not be judged: {problems[0]}", 500)


def _count_mesh(between: mesh_view.Mesh, stored: store.Stored) -> None:
    """Take the host's row of the mesh; what is none makes the evidence invalid, as any other part would."""
    if stored.evidence is None:
        return
    try:
        between.count(stored.host, stored.evidence)
    except ValueError as error:
        stored.status, stored.evidence, stored.reason = (
            "invalid",
            None,
            clean(f"the evidence could not be compared: {error}", 500),
        )


def _lighten(stored: store.Stored) -> None:
    """Keep of the evidence what the second pass needs."""
    evidence = stored.evidence or {}
    sections = {name: evidence["sections"].get(name) for name in _KEPT}
    stored.evidence = {**evidence, "sections": sections}


def _record(
    stored: store.Stored,
    comparison: peers.Comparison,
    view: differences.PeerView,
    ends: pairs.Pairs,
    crossed: tuple[duplicates.Duplicates, overlays.Overlays, virtual.VirtualAddresses, cluster.Cluster, round_trips.RoundTrips],
    between: mesh_view.Mesh,
    kept: captures.Captures,
    run: store.Run,
) -> dict[str, Any]:
    """One host of report.json."""
    evidence = stored.evidence
    findings: list[dict[str, Any]] = []
    answer: dict[str, Any] | None = None
    if evidence is not None:
        findings, answer = evidence["findings"], evidence.get("answer")
    seen = view.seen.get(stored.host)
    peer: dict[str, Any] = {
        "group": None,
        "hosts": 0,
        "note": "no evidence of this host",
        "deviations": 0,
        "seen": None
        if seen is None
        else {"probes": seen.total, "statuses": dict(sorted(seen.counts.items())), "text": seen.line()},
    }
    if evidence is not None:
        try:
            deviations = comparison.deviations(stored.host, evidence)
            if stored.file and any(one.kind == "rule" and one.usual is None for one in deviations):
                # To say how an extra rule is removed, its handle is needed: rare enough to read the file again.
                full = store.read_file(os.path.join(run.folder, stored.file), stored.host, checked=True).evidence
                evidence["sections"]["firewall"] = (full or evidence)["sections"].get("firewall")
            found = differences.fleet_findings(
                stored.host, evidence, findings, answer, deviations, comparison, seen, stored.envelope.get("clock"), view.reaching
            )
            found += [one.to_dict() for table in crossed for one in table.findings(stored.host, evidence)]
            target = shown_target(evidence.get("target"))
            answer = differences.fleet_answer(answer, found, seen, target)
            answer, found = pairs.join(ends.of(stored.host), target or "", differences.listens(evidence), answer, found)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            # Parts of sections that the schema leaves open are not of the shape the comparison reads.
            stored.status = "invalid"
            stored.reason = clean(f"the evidence could not be compared: {type(error).__name__}: {error}", 500)
            evidence, findings, answer = None, [], None
        else:
            findings = found
            peer.update(
                group=comparison.group(stored.host),
                hosts=comparison.members(stored.host),
                note=comparison.note(stored.host),
                deviations=len(deviations),
            )
    meshed = between.of(stored.host)
    if meshed is not None:
        findings = between.findings(stored.host, findings)
        if evidence is None:
            stored.reason = clean("; ".join(part for part in (stored.reason, meshed["text"]) if part), 500)
    covered, shown = kept.of(stored.host)
    if evidence is not None and covered is not None:
        findings = [*findings, *(one.to_dict() for one in shown)]
        evidence["coverage"] += [covered]
    findings = sorted(findings, key=rank.finding_order)
    if evidence is not None:
        policies = crossed[3].coverage()
        evidence["coverage"] += [policies] if policies else []
        answer = symptoms.answer(str(run.options.get("symptom") or ""), findings, evidence["coverage"]) or answer
    if stored.envelope.get("peers_skipped"):
        skipped = [clean(name, 100) for name in stored.envelope["peers_skipped"][:10]]
        peer["note"] += f"; not probed, no address known: {', '.join(skipped)}"
    no_peers = None if peer["group"] else peer["note"]
    coverage = None if evidence is None else evidence["coverage"]
    return {
        "name": stored.host,
        "groups": stored.groups,
        "status": stored.status,
        "reason": stored.reason,
        "rank": rank.rank(stored.status, findings),
        "answer": answer,
        "findings": findings,
        "checks": checks.matrix_row(findings, coverage, no_peers),
        "coverage": coverage or [],
        "peers": peer,
        "mesh": meshed,
        "clock": stored.envelope.get("clock"),
        "host": {} if evidence is None else evidence["host"],
        "window": None if evidence is None else evidence["window"],
        "file": stored.file,
    }


def _brief(record: dict[str, Any]) -> Brief:
    answer = record["answer"] or {}
    top = [
        {key: finding[key] for key in ("id", "severity", "grade", "summary")}
        | {"fix": [clean(line, 300) for line in finding["fix"][:3]]}
        for finding in record["findings"][:2]
    ]
    return Brief(
        record["name"],
        record["rank"],
        record["status"],
        clean(record["reason"], 300),
        answer.get("verdict"),
        clean(answer["text"], 300) if answer else None,
        rank.counts(record["findings"]),
        {name: cell["state"] for name, cell in record["checks"].items()},
        [{**one, "summary": clean(one["summary"], 300)} for one in top],
    )


def _head(
    run: store.Run,
    hosts: dict[str, list[str]],
    briefs: list[Brief],
    causes: rank.Causes,
    comparison: peers.Comparison,
    between: mesh_view.Mesh,
) -> dict[str, Any]:
    statuses: dict[str, int] = {}
    findings = dict.fromkeys(schema.SEVERITIES, 0)
    verdicts: dict[str, int] = {}
    for brief in briefs:
        statuses[brief.status] = statuses.get(brief.status, 0) + 1
        for severity, count in brief.counts.items():
            findings[severity] += count
        if brief.verdict is not None:
            verdicts[brief.verdict] = verdicts.get(brief.verdict, 0) + 1
    with_findings = sum(1 for one in briefs if any(one.counts.values()))
    without = sum(1 for one in briefs if one.status == "ok" and not any(one.counts.values()))
    asked = run.options.get("mesh_peers")
    return {
        "schema": schema.SCHEMA,
        "run": {
            "id": run.id,
            "started": run.started,
            "target": run.target,
            "target_text": shown_target(run.target),
            "symptom": _symptom(run),
            "collection": run.collection,
            "options": run.options,
        },
        "totals": {
            "hosts": len(hosts),
            "statuses": dict(sorted(statuses.items())),
            "findings": findings,
            "hosts_with_findings": with_findings,
            "hosts_without_findings": without,
            "answers": dict(sorted(verdicts.items())),
        },
        "groups": [
            {"name": name, "hosts": size, "compared": comparison.compared(name)}
            for name, size in sorted(comparison.sizes.items())
        ],
        "mesh": between.head(asked if isinstance(asked, int) else None),
        "causes": causes.top(),
        "notes": _notes(causes, comparison),
    }


def _symptom(run: store.Run) -> str | None:
    """The symptom that the run's answers are about, where no target answers it."""
    symptom = run.options.get("symptom")
    return str(symptom) if symptoms.FLOWS.get(str(symptom)) else None


def _notes(causes: rank.Causes, comparison: peers.Comparison) -> list[str]:
    notes = []
    if comparison.full:
        notes.append(f"only the first {peers.MAX_ENTRIES} different objects of the fleet were compared")
    if causes.full:
        notes.append("there are more different findings than are tracked; the list of common findings is not complete")
    return notes


def shown_target(target: dict[str, Any] | None) -> str | None:
    """``tcp/1678``, ``tcp/[2001:db8::7]:443``."""
    if target is None:
        return None
    proto, port, address = clean(target.get("proto"), 16), clean(target.get("port"), 8), target.get("address")
    if not address:
        return f"{proto}/{port}"
    shown = clean(address, 64)
    return f"{proto}/[{shown}]:{port}" if ":" in shown else f"{proto}/{shown}:{port}"


def _records(briefs: list[Brief], spool: IO[bytes]) -> Iterator[dict[str, Any]]:
    for brief in briefs:
        spool.seek(brief.offset)
        record: dict[str, Any] = json.loads(spool.read(brief.length))
        yield record


def _write_json(out: IO[str], head: dict[str, Any], briefs: list[Brief], spool: IO[bytes]) -> None:
    """One host a line: fit for jq, for diff, and for streaming."""
    out.write(json.dumps(head, indent=1, sort_keys=True)[:-2])
    out.write(',\n "hosts": [')
    for index, brief in enumerate(briefs):
        spool.seek(brief.offset)
        out.write(("," if index else "") + "\n" + spool.read(brief.length).decode())
    out.write("\n ]\n}\n")


class _replacing:
    """Write a text file of mode 0600 and put it in place when all of it is there."""

    def __init__(self, path: str) -> None:
        self.path = path
        folder, name = os.path.split(path)
        self.temporary = os.path.join(folder, f".{name}.{os.getpid()}.part")

    def __enter__(self) -> IO[str]:
        descriptor = os.open(self.temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        self.stream = os.fdopen(descriptor, "w", encoding="utf-8", newline="\n")
        return self.stream

    def __exit__(self, kind: object, value: object, trace: object) -> None:
        self.stream.close()
        if kind is None:
            os.replace(self.temporary, self.path)
        else:
            os.unlink(self.temporary)
