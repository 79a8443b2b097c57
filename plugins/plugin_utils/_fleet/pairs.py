# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This plugin util is PRIVATE to the collection. It can change at any time.
"""Both ends of a pair joined with the probe from the one to the other: the sender's walk, the receiver's walk, the connection.

Walk and probe that agree prove each other; where they disagree, that is a finding with both evidences. What a walk could not tell
(a program that may drop, a rate limit) is settled by a probe that gets through.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ansible_collections.netops.fleet.plugins.module_utils._diagnosis.model import Finding
from ansible_collections.netops.fleet.plugins.plugin_utils._fleet.text import clean

_MOST = 512
_STOPS = ("drop", "reject")
#: What a probe says when the packet did not get there, or the answer did not come back.
_LOST = ("timeout", "unreachable", "prohibited")


@dataclass
class Pair:
    """One sender and one address of the receiver. there, here: the walks of sender and receiver; probe: what it said."""

    sender: str
    address: str
    there: dict[str, Any] | None = None
    here: dict[str, Any] | None = None
    probe: str | None = None

    def walks(self) -> tuple[str, str]:
        """(accept | drop | reject | unknown | elsewhere, in words); a walk that is missing could not be made."""
        if self.there is not None and self.there.get("to"):
            return "elsewhere", f"on {clean(self.sender, 100)} a rule sends it to {clean(self.there['to'], 100)} instead"
        ends = ((f"on {clean(self.sender, 100)}", self.there), ("here", self.here))
        for where, one in ends:
            if one is not None and one["verdict"] in _STOPS:
                return str(
                    one["verdict"]
                ), f"{clean(one.get('by') or 'what could not be named', 300)} {where} {one['verdict']}s it"
        for where, one in ends:
            if one is None:
                return "unknown", f"no walk {where}"
            if one["verdict"] != "accept":
                return "unknown", f"{where}: {clean(one.get('why') or 'not told', 300)}"
        return "accept", "both ends let it pass"

    def lines(self) -> list[str]:
        """Both evidences."""
        found = []
        for where, one in ((f"walk on {clean(self.sender, 100)}", self.there), ("walk here", self.here)):
            said = (
                "not made"
                if one is None
                else clean(" ".join(str(one[key]) for key in ("verdict", "by", "why", "to") if one.get(key)), 400)
            )
            found.append(f"{where}, to {clean(self.address, 100)}: {said}")
        found.append(f"probe from {clean(self.sender, 100)}: {clean(self.probe or 'not made', 60)}")
        return found


@dataclass
class Pairs:
    """First pass: walks and probes of every host, by receiver."""

    _out: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    _in: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    _probes: dict[str, list[tuple[str, str, str]]] = field(default_factory=dict)

    def count(self, host: str, evidence: dict[str, Any]) -> None:
        role, listed = evidence.get("pair"), evidence["sections"].get("pairs")
        for one in (listed or [])[:_MOST] if isinstance(listed, list) else []:
            if not all(isinstance(one.get(key), str) for key in ("peer", "way", "address", "verdict")):
                continue
            if role == "sender" and one["way"] == "out":
                self._out[one["peer"], one["address"]] = one
            elif role == "receiver" and one["way"] == "in":
                self._in.setdefault(host, []).append(one)
        if role == "sender":
            for probe in (evidence["sections"].get("probes") or [])[:_MOST]:
                peer, status, goal = probe.get("peer"), probe.get("status"), probe.get("target")
                if probe.get("kind") not in ("tcp", "udp"):
                    continue  # another question, about the way and not the target
                if isinstance(peer, str) and isinstance(status, str) and isinstance(goal, str):
                    address = goal.rpartition(":")[0].strip("[]")
                    self._probes.setdefault(peer, []).append((host, address, status))

    def of(self, host: str) -> list[Pair]:
        """The pairs in which this host is tried."""
        found = []
        for sender, address, status in self._probes.get(host, []):
            here = next((one for one in self._in.get(host, []) if one["peer"] == sender and one["address"] == address), None)
            found.append(Pair(sender, address, self._out.get((host, address)), here, status))
        return found or self._unprobed(host)

    def _unprobed(self, host: str) -> list[Pair]:
        """Of protocols whose silence says nothing: the walks alone."""
        ends = [(address, one) for (peer, address), one in self._out.items() if peer == host]
        found = []
        for address, there in ends:
            here = next((one for one in self._in.get(host, []) if one["address"] == address), None)
            if here is not None:
                found.append(Pair(here["peer"], address, there, here))
        return found


def join(
    pairs: list[Pair], target: str, listens: bool, answer: dict[str, Any] | None, findings: list[dict[str, Any]]
) -> tuple[dict[str, Any] | None, list[dict[str, Any]]]:
    """The host's answer and findings with what its pairs say. listens: a socket waits for the target here."""
    for pair in pairs:
        verdict, words = pair.walks()
        lost = pair.probe in _LOST or (pair.probe in ("refused", "reset") and listens)
        sender = clean(pair.sender, 100)
        agree = verdict != "unknown" and (verdict in _STOPS) == (lost or pair.probe in ("refused", "reset"))
        agree = agree or (verdict == "accept" and not lost)
        if pair.probe is None:
            text, result = f"{words}; no probe was made", {"accept": "ok", "unknown": "unknown"}.get(verdict, "bad")
        elif verdict == "elsewhere":
            text, result = f"{words}; the probe says {pair.probe}", "unknown"
            for one in findings:
                if one["id"] in ("peer-cannot-connect", "walk-probe-disagree"):
                    one["evidence"] += pair.lines()
        elif verdict == "unknown":
            text = f"the probe settles it: {words}" if pair.probe == "ok" else f"{words}; the probe says {pair.probe}"
            result = "ok" if pair.probe == "ok" else "unknown"
        elif agree:
            text, result = f"{words}, and the probe agrees: {pair.probe}", "bad" if verdict in _STOPS else "ok"
        else:
            text, result = f"{words}, and the probe says {pair.probe}: they disagree", "unknown"
            findings = _disagree(pair, target, words, findings)
        answer = _answered(answer, f"{sender} → {clean(pair.address, 100)}: {clean(text, 600)}", result, target)
    return answer, findings


def _answered(answer: dict[str, Any] | None, detail: str, result: str, target: str) -> dict[str, Any] | None:
    if answer is None:
        return None
    steps = [*answer.get("steps", []), {"step": "pair", "result": result, "detail": detail}]
    if result == "bad" and answer["verdict"] != "blocked":
        return {"verdict": "blocked", "text": f"{target} is blocked: {detail}", "steps": steps}
    if result == "unknown" and answer["verdict"] == "open":
        return {"verdict": "unknown", "text": f"{answer['text']} {detail}", "steps": steps}
    return {**answer, "text": f"{answer['text']} {detail}.", "steps": steps}


def _disagree(pair: Pair, target: str, words: str, findings: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One finding instead of what either side alone would say."""
    left = [one for one in findings if one["id"] not in ("peer-cannot-connect", "walk-probe-disagree")]
    lost = pair.walks()[0] == "accept"
    sender = clean(pair.sender, 100)
    summary = f"{sender} → {target} at {clean(pair.address, 100)}: {words}, and the probe says {clean(pair.probe, 60)}"
    fix = (
        "# it is lost between the two: a switch, a filter of the cloud, a host that is not in the play; capture on both ends"
        if lost
        else "# diagnose again: rules that changed between the two look like this; or somebody else answers for this host"
    )
    return [
        *left,
        Finding(
            "walk-probe-disagree",
            "proven" if lost else "likely",
            "critical" if lost else "warning",
            f"{sender} → {target}",
            summary,
            pair.lines(),
            [fix],
            ["D10", "D33"],
            {"sender": sender, "address": clean(pair.address, 100)},
        ).to_dict(),
    ]
