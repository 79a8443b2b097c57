# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This plugin util is PRIVATE to the collection. It can change at any time.
"""Captures that belong to a diagnosis: kept in its run, read as findings of their host. (D05, D11)"""

from __future__ import annotations

import binascii
import json
import os
from typing import Any

from ansible_collections.netops.fleet.plugins.module_utils._diagnosis.model import Finding
from ansible_collections.netops.fleet.plugins.plugin_utils._fleet import captured, store
from ansible_collections.netops.fleet.plugins.plugin_utils._fleet.text import clean, safe_name

SECTION, FOLDER = "capture", "captures"
#: So many segments sent again are no accident any more; from this share of them on they slow a connection down.
_AGAIN, _BAD_SHARE = 5, 0.02
#: A SYN that was sent once may be answered after the capture ended.
_SYNS = 2


class NoCapture(ValueError):
    """What a host sent back is no capture; the message says why."""


def expression(target: dict[str, Any] | None) -> str:
    """Which packets a diagnosis captures, as pcap-filter(7): those of its target, else TCP and ICMP.

    target: ``{proto, port, address}`` as run.json has it. ICMP errors about the target are packets of their own.
    """
    if not target:
        return "tcp or icmp or icmp6"
    service = f"{target['proto']} port {int(target['port'])}"
    if target.get("address"):
        service = f"({service} and host {target['address']})"
    return f"{service} or icmp or icmp6"


def keep(folder: str, host: str, packed: Any) -> tuple[str, dict[str, Any]]:
    """Write HOST.pcap and HOST.txt, from base64 as the module answers; (path of the former, what it shows).

    folder: exists, mode 0700. Raises NoCapture and OSError.
    """
    if not isinstance(packed, str) or len(packed) > store.MAX_RECEIVED * 4 // 3 + 4:
        raise NoCapture("the host's answer holds no capture, or one of more than 16 MiB")
    try:
        data = binascii.a2b_base64(packed.encode("ascii"), strict_mode=True)
    except (ValueError, UnicodeError):
        raise NoCapture("the host's answer is not base64") from None
    summary = captured.summary(data)
    file = os.path.join(folder, safe_name(host) + ".pcap")
    store.write_atomic(file, data)
    text = "\n".join([f"{clean(host, 200)}:", *summary["lines"]]) + "\n"
    store.write_atomic(file[: -len("pcap")] + "txt", text.encode())
    return file, summary


def note(run: str, host: str, summary: dict[str, Any] | None, failed: str = "") -> None:
    """Write for the report what a capture of the run showed, or why there is none."""
    data = {"host": host, "failed": failed, "summary": summary}
    store.write_atomic(_path(run, host), json.dumps(data, sort_keys=True).encode() + b"\n")


def made(run: str) -> str:
    """The folder of a run's captures, made for its owner alone."""
    folder = os.path.join(run, FOLDER)
    os.makedirs(folder, mode=0o700, exist_ok=True)
    return folder


def _path(run: str, host: str) -> str:
    return os.path.join(run, FOLDER, safe_name(host) + ".json")


class Captures:
    """What the run's captures say of each host; nothing where none were asked for."""

    def __init__(self, run: str, options: dict[str, Any]) -> None:
        # A variable of some hosts alone is not in the run's options.
        self._run, self._everywhere, self._any = run, bool(options.get("capture")), os.path.isdir(os.path.join(run, FOLDER))

    def of(self, host: str) -> tuple[dict[str, Any] | None, list[Finding]]:
        """(entry of the coverage or None, findings)"""
        if not self._everywhere and not self._any:
            return None, []
        try:
            with open(_path(self._run, host), encoding="utf-8") as stream:
                told = json.load(stream)
            if told["failed"]:
                return _cover("failed", [str(told["failed"])]), []
            summary = told["summary"]
            return _cover("partial" if summary["problems"] else "ok", summary["problems"]), find(summary)
        except FileNotFoundError:
            return (_cover("failed", ["nothing was captured on this host"]) if self._everywhere else None), []
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            return _cover("failed", [f"what was captured cannot be read: {error}"]), []


def _cover(status: str, problems: list[str]) -> dict[str, Any]:
    gaps = [{"what": SECTION, "why": clean(one, 300)} for one in problems[:10]]
    return {"section": SECTION, "status": status, "seconds": 0.0, "gaps": gaps}


def find(summary: dict[str, Any]) -> list[Finding]:
    """Findings of what ``captured.summary`` gave: connections without an answer, segments that are sent again."""
    return _unanswered(summary) + _again(summary)


def _unanswered(summary: dict[str, Any]) -> list[Finding]:
    silent = [one for one in summary["unanswered"] if one["syns"] >= _SYNS]
    if not silent:
        return []
    first = silent[0]
    place = f"{first['to']} port {first['port']}"
    why = f" ({first['why']})" if first["why"] else ""
    return [
        Finding(
            "capture-unanswered",
            "proven",
            "warning",
            clean(place, 100),
            clean(f"{first['syns']} SYN from {first['from']} to {place} got no answer while packets were captured{why}.", 400),
            _lines(summary, "no answer: "),
            ["# the packet filter and the hooks of the side that does not answer come next: diagnose it with the same target"],
            ["D05", "D11"],
            {"address": str(first["to"]), "port": first["port"], "section": SECTION},
        )
    ]


def _again(summary: dict[str, Any]) -> list[Finding]:
    again = [one for one in summary["retransmits"] if one["again"] >= _AGAIN]
    if not again:
        return []
    worst = max(again, key=lambda one: one["again"] / max(1, one["sent"]))
    share = worst["again"] / max(1, worst["sent"])
    way = f"from {worst['from']} to {worst['to']} (port {worst['port']})"
    return [
        Finding(
            "capture-retransmits",
            "proven",
            "warning" if share >= _BAD_SHARE else "info",
            clean(f"{worst['from']} to {worst['to']} port {worst['port']}", 100),
            clean(f"{worst['again']} of {worst['sent']} segments {way} were sent again while packets were captured.", 400),
            _lines(summary, "sent again: "),
            ["# lost on the way there, or the answer on the way back: capture on both ends with the role netops.fleet.capture"],
            ["D05", "D11"],
            {"address": str(worst["to"]), "port": worst["port"], "section": SECTION},
        )
    ]


def _lines(summary: dict[str, Any], start: str) -> list[str]:
    head = f"{summary['packets']} packets in {summary['seconds']} s, {summary['connections']} TCP connections"
    return [head, *(clean(line, 300) for line in summary["lines"] if line.startswith(start))][:12]
