# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""Limits of open files: what services and logins get at their next start, and which running processes still have the old ones.

systemd services do not see limits.conf, and logins do not see drop-ins: both are written. With a limit above fs.nr_open a
service does not start, so it is refused. (T05; systemd.exec(5), limits.conf(5), pam_limits(8))
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from ansible_collections.netops.fleet.plugins.module_utils._safety.change import Difference
from ansible_collections.netops.fleet.plugins.module_utils._safety.objects import Object, file_state, same

PAM = "/etc/security/limits.d/90-netops-fleet.conf"
DROP_IN = "50-netops-fleet.conf"
_UNIT = re.compile(r"[A-Za-z0-9:_.@\\-]+\.(?:service|socket|scope)\Z")


def unit_name(name: str) -> str:
    """``nginx`` → ``nginx.service``. Raises ValueError for what is no unit of processes."""
    full = name if "." in name.rpartition("@")[2] and _UNIT.match(name) else f"{name}.service"
    if not _UNIT.match(full) or "/" in full:
        raise ValueError(f"limits: {name!r} is no systemd service; names look like nginx or nginx.service")
    return full


def drop_in(unit: str) -> str:
    return f"/etc/systemd/system/{unit}.d/{DROP_IN}"


def wanted_files(nofile: int | None, services: Iterable[str], pam: bool) -> dict[str, str]:
    """path → content."""
    files: dict[str, str] = {}
    if nofile is None:
        return files
    for service in services:
        files[drop_in(unit_name(service))] = f"# Written by netops.fleet (sysctl_tuning).\n[Service]\nLimitNOFILE={nofile}\n"
    if pam:
        lines = [f"{who} {kind} nofile {nofile}\n" for who in ("*", "root") for kind in ("soft", "hard")]
        files[PAM] = "# Written by netops.fleet (sysctl_tuning); logins only, services have drop-ins.\n" + "".join(lines)
    return files


def check(nofile: int | None, nr_open: int | None) -> str | None:
    if nofile is None:
        return None
    if nofile < 1024:
        return f"limits.nofile is {nofile}; below 1024 programs break"
    if nr_open is not None and nofile > nr_open:
        return f"limits.nofile {nofile} is above fs.nr_open {nr_open}: services with it would not start; raise fs.nr_open first"
    return None


def changes(wanted: Mapping[str, str], present: Mapping[str, dict[str, Any] | None]) -> list[Difference]:
    """present: path → state of every own file, wanted or not."""
    found = [Difference(Object("file", path), present.get(path), file_state(wanted[path])) for path in sorted(wanted)]
    return [one for one in found if not same(one.target, one.before, one.after)]


def old_backlogs(listeners: Iterable[Mapping[str, Any]], was: int | None, wanted: int | None) -> list[dict[str, Any]]:
    """Listening sockets that keep a smaller queue than ``wanted``: a socket keeps the backlog it was opened with.

    was: somaxconn before the collection touched it. ``[{process, pid, unit, address, port, backlog, text}]``.
    """
    if wanted is None:
        return []
    found = []
    for one in listeners:
        backlog = one.get("backlog")
        if one.get("proto") != "tcp" or backlog is None or backlog >= wanted:
            continue
        who = str(one.get("process") or "a process that could not be seen")
        unit = one.get("unit")
        name = str(unit).rpartition(".")[0] if unit and str(unit).endswith(".service") else who
        text = f"restart {name} to get backlog {wanted}: it listens with {backlog} on port {one.get('port')}"
        if was is None or backlog != was:
            text += "; that is its own backlog: raise it in its configuration first"
        found.append(
            {
                "process": one.get("process"),
                "pid": one.get("pid"),
                "unit": unit,
                "address": one.get("address"),
                "port": one.get("port"),
                "backlog": backlog,
                "text": text,
            }
        )
    return found


def old_limits(processes: Iterable[Mapping[str, Any]], wanted: int | None) -> list[dict[str, Any]]:
    """processes: ``{pid, process, unit, nofile}``, nofile = soft limit. Those below ``wanted``, with what to do."""
    found = []
    for one in processes:
        limit = one.get("nofile")
        if wanted is None or limit is None or limit >= wanted:
            continue
        unit = one.get("unit")
        name = str(unit).rpartition(".")[0] if unit and str(unit).endswith(".service") else str(one.get("process"))
        text = f"restart {name} to get nofile {wanted}: pid {one.get('pid')} runs with {limit}"
        found.append({**one, "text": text})
    return found


def soft_nofile(content: str) -> int | None:
    """The soft limit of open files from /proc/PID/limits."""
    for line in content.splitlines():
        if line.startswith("Max open files"):
            word = line[len("Max open files") :].split()[0]
            return (1 << 63) - 1 if word == "unlimited" else int(word) if word.isdigit() else None
    return None
