# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One fault, or one healthy host, from its file to what the diagnosis says of it. The files' form: docs/dev/faults.md."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import yaml

from tests.faults.world import World
from tests.kernel.conftest import PATIENCE

ROOT = Path(__file__).resolve().parents[2]
#: They ship with the collection: the same files are what a drill injects.
FAULTS = ROOT / "roles" / "drill" / "faults"
HEALTHY = Path(__file__).resolve().parent / "healthy"
_KEYS = {
    "summary", "rows", "drill", "guest", "fleet", "cgroup", "target", "ask", "window", "setup", "during", "inject", "revert",
    "peer", "traffic", "symptom", "expect", "also", "substituted",
}  # fmt: skip


#: Counted for all namespaces together: what else the machine does meanwhile is no part of the world.
_OF_THE_MACHINE = ("softnet-drops",)


class CorpusError(Exception):
    """A file is not of the form, or its fault does not do what it says."""


@dataclass
class Entry:
    """A file: its name, and what is in it."""

    name: str
    data: dict[str, Any]

    def __getitem__(self, key: str) -> Any:
        return self.data.get(key)


@dataclass
class Outcome:
    """What the diagnosis said. seconds: one reading of the host, its window included. stray: findings that are not true of it."""

    name: str
    seconds: float
    findings: list[dict[str, Any]]
    first: bool = True
    stray: list[dict[str, Any]] = field(default_factory=list)
    after: list[dict[str, Any]] = field(default_factory=list)

    def told(self) -> str:
        return "; ".join(f"{one['id']} [{one['subject']}] {one['summary']}" for one in self.findings) or "nothing"


def load(folder: Path) -> list[Entry]:
    """Raises CorpusError for a file of another form."""
    entries = []
    for path in sorted(folder.glob("*.yml")):
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
        strange = set(data) - _KEYS
        if strange or not data.get("summary") or not isinstance(data.get("rows"), list):
            raise CorpusError(
                f"{path}: {', '.join(sorted(strange)) or 'no summary or no rows'}; allowed are {', '.join(sorted(_KEYS))}"
            )
        entries.append(Entry(path.stem, data))
    return entries


def in_guest(entry: Entry) -> bool:
    """Is this fault tried in a virtual machine with a distribution's kernel? (tests/lab/test_guest_faults.py)"""
    return bool(entry["guest"])


def is_expected(finding: dict[str, Any], expect: dict[str, Any]) -> bool:
    return bool(finding["id"] == expect["id"] and fnmatchcase(finding["subject"], str(expect.get("subject", "*"))))


def run(entry: Entry, make: Callable[[bool, int], World] = World) -> Outcome:
    """Inject, see the symptom, diagnose, take back, see that the symptom is gone and the diagnosis silent."""
    own_resolver = any("stop_resolver" in (entry[phase] or {}) for phase in ("setup", "during"))
    with make(own_resolver, int(entry["fleet"] or 0)) as world:
        if entry["cgroup"]:
            world.host.confine()
        if entry["setup"]:
            _setup(world, entry["setup"])
        _symptom(world, entry, works=True, when="before the fault")
        if entry["during"]:
            _setup(world, entry["during"])
        peer = entry["peer"] or {}
        if peer.get("inject"):
            world.peer.shell(peer["inject"])
        if entry["inject"]:
            world.host.shell(entry["inject"])
        traffic = _traffic(world, entry)
        _symptom(world, entry, works=False, when="during the fault")
        findings, seconds = _diagnose(world, entry)
        outcome = Outcome(entry.name, seconds, findings)
        expect = entry["expect"]
        outcome.first = bool(outcome.findings) and is_expected(outcome.findings[0], expect)
        known = [expect, *({"id": name} for name in entry["also"] or [])]
        outcome.stray = [one for one in outcome.findings if not any(is_expected(one, each) for each in known)]
        for process in traffic:
            process.terminate()
            process.wait()
        if entry["revert"]:
            world.host.shell(entry["revert"])
        if peer.get("revert"):
            world.peer.shell(peer["revert"])
        if entry["revert"] or peer.get("revert"):
            _symptom(world, entry, works=True, when="after it was taken back")
            outcome.after = _diagnose(world, entry)[0]
        return outcome


def run_healthy(entry: Entry) -> Outcome:
    with World(fleet=int(entry["fleet"] or 0)) as world:
        if entry["setup"]:
            _setup(world, entry["setup"])
        _symptom(world, entry, works=True, when="on the healthy host")
        traffic = _traffic(world, entry)
        findings, seconds = _diagnose(world, entry)
        for process in traffic:
            process.terminate()
            process.wait()
        return Outcome(entry.name, seconds, findings, stray=list(findings))


def _diagnose(world: World, entry: Entry) -> tuple[list[dict[str, Any]], float]:
    """(findings of the host, seconds): by itself, or compared with the rest of a fleet."""
    asked = (entry["target"], entry["ask"] or {}, float(entry["window"] or 0))
    begun = time.monotonic()
    if entry["fleet"]:
        with tempfile.TemporaryDirectory() as folder:
            findings = world.report(*asked, Path(folder))
        seconds = time.monotonic() - begun
    else:
        evidence, seconds = world.collect(*asked)
        findings = evidence["findings"]
    return [one for one in findings if one["id"] not in _OF_THE_MACHINE], seconds


def _setup(world: World, steps: dict[str, Any]) -> None:
    """``{stop: true}`` ends the model server; host, peer: shell lines; host_serves, peer_serves: services that go on."""
    if steps.get("stop"):
        world.server.terminate()
        world.server.wait()
    if steps.get("stop_resolver"):
        world.resolver.terminate()
        world.resolver.wait()
    for place in world.others:
        place.shell(steps.get("others") or ":")
    for side, place in (("host", world.host), ("peer", world.peer)):
        if steps.get(side):
            place.shell(steps[side])
        for service in steps.get(f"{side}_serves") or []:
            place.background(f"exec $SERVE {service}")


def _traffic(world: World, entry: Entry) -> list[Any]:
    started = []
    for one in entry["traffic"] or []:
        place = world.host if one["at"] == "host" else world.peer
        started.append(
            place.background(f"exec $ASK {one['run']}")
            if one.get("ready")
            else place.start(["sh", "-c", f"exec $ASK {one['run']}"])
        )
    return started


def _symptom(world: World, entry: Entry, works: bool, when: str) -> None:
    """The witness must see the traffic work, or fail. It is asked for a while: queues fill and empty, neighbours are found."""
    symptom = entry["symptom"]
    if not symptom:
        return
    place = world.host if symptom["at"] == "host" else world.peer
    deadline = time.monotonic() + 8 * PATIENCE
    while (place.shell(f"exec $ASK {symptom['run']}", check=False).returncode == 0) != works:
        if time.monotonic() > deadline:
            raise CorpusError(f"{entry.name}: {when} the traffic ({symptom['run']}) {'fails' if works else 'works'}")
