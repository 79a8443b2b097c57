# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This plugin util is PRIVATE to the collection. It can change at any time.
"""Round trips of several hosts to one address: the few for which it takes far longer than for the others. (D06, D11)"""

from __future__ import annotations

import statistics
from typing import Any

from ansible_collections.netops.fleet.plugins.module_utils._diagnosis import delays
from ansible_collections.netops.fleet.plugins.module_utils._diagnosis.model import Finding
from ansible_collections.netops.fleet.plugins.module_utils._firewall.fixes import word
from ansible_collections.netops.fleet.plugins.plugin_utils._fleet.text import clean

_MOST, _PER_HOST = 4096, 64
#: So many other hosts must have pinged the address; of all, at most this share may be slow.
_OTHERS, _SHARE = 3, 1 / 3


class RoundTrips:
    """First pass: the fastest reply that each host got from each address. Second pass: hosts that wait far longer."""

    def __init__(self) -> None:
        self._seen: dict[str, dict[str, float]] = {}
        self._of: dict[str, list[str]] = {}
        self._judged: dict[str, tuple[float, set[str]]] = {}

    def count(self, host: str, evidence: dict[str, Any]) -> None:
        for address, least in _pinged(evidence).items():
            if address in self._seen or len(self._seen) < _MOST:
                self._seen.setdefault(address, {})[host] = least
                self._of.setdefault(host, []).append(address)

    def findings(self, host: str, evidence: dict[str, Any]) -> list[Finding]:
        told = {(one.get("data") or {}).get("address") for one in evidence["findings"] if one["id"] == "round-trip-slow"}
        out = []
        for address in sorted(self._of.get(host, [])):
            usual, slow = self._slow(address)
            if host in slow and address not in told:
                out.append(_finding(address, self._seen[address][host], usual, len(self._seen[address]) - 1))
        return out

    def _slow(self, address: str) -> tuple[float, set[str]]:
        """(median in milliseconds, hosts that wait far longer), judged once; none where hosts are few, or the slow ones many."""
        if address not in self._judged:
            seen = self._seen[address]
            usual = statistics.median(seen.values())
            slow = {name for name, least in seen.items() if delays.unlike(least, usual)}
            fits = len(seen) > _OTHERS and len(slow) <= _SHARE * len(seen)
            self._judged[address] = (usual, slow if fits else set())
        return self._judged[address]


def _pinged(evidence: dict[str, Any]) -> dict[str, float]:
    """Address -> milliseconds of the fastest reply, of hosts' own answers: nothing of it is trusted."""
    found: dict[str, float] = {}
    for one in (evidence["sections"].get("probes") or [])[:_PER_HOST]:
        rtt = one.get("rtt_ms")
        least = rtt.get("min") if isinstance(rtt, dict) else None
        if one.get("kind") == "ping" and isinstance(least, (int, float)) and not isinstance(least, bool):
            found[str(one.get("address") or one.get("target"))[:100]] = float(least)
    return found


def _finding(address: str, least: float, usual: float, others: int) -> Finding:
    shown = clean(address, 60)
    return Finding(
        "round-trip-slow",
        "different",
        "info",
        shown,
        f"Round trips to {shown} take at least {least:g} ms from here, and {usual:g} ms is the median of the hosts that asked.",
        [f"fastest reply here {least:g} ms; median of the fastest replies, {others} other hosts among them, {usual:g} ms"],
        [
            f"tracepath -n {word(shown)}",
            "# another site? then it is the distance; else compare the way with that of another host",
        ],
        ["D06", "D11"],
        {"address": shown, "section": "probes"},
    )
