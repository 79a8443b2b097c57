# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""Services as systemd sees them: those that were asked for, the one behind the target, and those a network host lives on."""

from __future__ import annotations

import json
import os
import re
import time
from typing import Any

from ansible_collections.netops.fleet.plugins.module_utils._evidence import configured
from ansible_collections.netops.fleet.plugins.module_utils._evidence.redact import redact
from ansible_collections.netops.fleet.plugins.module_utils._evidence.section import Section
from ansible_collections.netops.fleet.plugins.module_utils._kernel import command, procfs

_NAMES = """
ssh sshd nginx apache2 httpd haproxy keepalived envoy rabbitmq-server etcd kubelet kube-apiserver containerd docker crio
chrony chronyd ntpd systemd-timesyncd systemd-resolved systemd-networkd NetworkManager networking named unbound dnsmasq
nftables firewalld ufw openvswitch-switch openvswitch ovs-vswitchd frr bird strongswan rdma opensm nvidia-fabricmanager
nvidia-persistenced slurmd munge rpcbind nfs-server
"""
#: Looked at wherever they are installed.
TABLE = tuple(f"{name}.service" for name in _NAMES.split())
#: Units whose errors are read, lines of each, and seconds that an error counts.
MOST, LINES, RECENT = 16, 10, 3600
_WANTED = "Id,LoadState,ActiveState,SubState,Result,NRestarts,ExecMainStatus,StateChangeTimestampMonotonic"
_UNIT = re.compile(r"\A[A-Za-z0-9:_.@\\-]{1,255}\Z")
_TYPES = (".service", ".socket", ".timer", ".target", ".mount", ".path", ".slice", ".scope")


def full(name: str) -> str:
    """The unit's whole name: ``nginx`` is ``nginx.service``."""
    return name if name.endswith(_TYPES) else f"{name}.service"


def read(named: list[str], serving: list[str]) -> Section:
    """Data: ``{units: [{unit, why, load, active, sub, result, restarts, status, changed_ago_s, errors: [{ago_s, text}]}]}``.

    named: units that were asked for. serving: units that listen on the target. why: named, target or table. errors: of the last
    hour, redacted, of units that are named, serve the target, or do not run; of those that ended their last lines. null where
    systemd does not run, or is another's.
    """
    try:
        if not os.path.isdir("/run/systemd/system") or not configured.ours():
            return Section(None)
    except OSError as error:
        section = Section(None)
        section.gap("services", procfs.reason(error))
        return section
    section = Section({"units": []})
    strange = [name for name in named if not _UNIT.match(name)]
    if strange:
        section.gap("services", f"no names of units: {', '.join(redact(name, 40) for name in strange[:4])}")
    wishes = {name: "target" for name in serving if _UNIT.match(name)}
    wishes.update({full(name): "named" for name in named if _UNIT.match(name)})
    reasons = {**{name: "table" for name in TABLE if name not in wishes}, **wishes}
    asked = command.run(["systemctl", "show", "--no-pager", "-p", _WANTED, "--", *reasons], timeout=8, max_bytes=1 << 20)
    if not asked.ok:
        section.gap("services", asked.why())
        return section
    section.data["units"] = units(asked.out, reasons, time.clock_gettime(time.CLOCK_MONOTONIC))
    wanted = [one for one in section.data["units"] if one["why"] != "table" or failed(one)]
    for one in wanted[:MOST]:
        one["errors"] = _errors(section, one["unit"], failed(one))
    return section


def failed(unit: dict[str, Any]) -> bool:
    """Given up by systemd, or started again and again."""
    return bool(unit["active"] == "failed" or (unit["sub"] == "auto-restart" and unit["restarts"] >= 3))


def units(text: str, reasons: dict[str, str], now: float) -> list[dict[str, Any]]:
    """Of ``systemctl show`` for these units, in their order: blocks of KEY=value. Of the table only what is installed."""
    found: dict[str, dict[str, Any]] = {}
    for block, why in zip(text.strip("\n").split("\n\n"), reasons.values()):
        given = {key: value for key, equals, value in (line.partition("=") for line in block.splitlines()) if equals}
        name = given.get("Id", "")
        # Two names may be one unit, as ssh and sshd: the better reason counts, which is the later one.
        if not name or (why == "table" and given.get("LoadState") != "loaded"):
            continue
        changed = procfs.decimal(given.get("StateChangeTimestampMonotonic", "")) or 0
        found[name] = {
            "unit": name,
            "why": why,
            "load": given.get("LoadState"),
            "active": given.get("ActiveState"),
            "sub": given.get("SubState"),
            "result": given.get("Result"),
            "restarts": procfs.decimal(given.get("NRestarts", "")) or 0,
            "status": procfs.decimal(given.get("ExecMainStatus", "")),
            "changed_ago_s": round(max(0.0, now - changed / 1e6), 1) if changed else None,
            "errors": [],
        }
    return list(found.values())


def _errors(section: Section, unit: str, ended: bool) -> list[dict[str, Any]]:
    """Of one that ended, its last lines: most programs say why on their standard output, which has no priority."""
    words = ["journalctl", "-u", unit, f"--since=-{RECENT}s", "-n", str(LINES), "-o", "json", "--no-pager", "-q"]
    if not ended:
        words += ["-p", "err"]
    asked = command.run(words, timeout=8, max_bytes=1 << 20)
    if not asked.ok:
        section.gap("services.journal", f"{unit}: {asked.why()}")
        return []
    return errors(asked.out, time.time())


def errors(text: str, now: float) -> list[dict[str, Any]]:
    """Of journalctl's JSON lines; a message of other bytes than text comes as numbers."""
    out: list[dict[str, Any]] = []
    for line in text.splitlines():
        try:
            entry = json.loads(line)
            said, stamp = entry.get("MESSAGE"), int(entry["__REALTIME_TIMESTAMP"])
            if isinstance(said, list):
                said = bytes(said).decode("utf-8", "replace")
        except (ValueError, KeyError, TypeError, AttributeError):
            continue
        if isinstance(said, str) and said:
            out.append({"ago_s": round(max(0.0, now - stamp / 1e6), 1), "text": redact(said)})
    return out[-LINES:]
