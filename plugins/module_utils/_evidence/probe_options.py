# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""What the module net_probe takes, checked before anything is sent."""

from __future__ import annotations

import socket
from typing import Any
from urllib.parse import urlsplit

from ansible_collections.netops.fleet.plugins.module_utils._evidence import probes, probing

MAX_SECONDS = 600.0
_SHORTEST_SECRET = 8
_FAMILIES: dict[int | None, str] = {socket.AF_INET: "IPv4", socket.AF_INET6: "IPv6"}

_PROBE: dict[str, Any] = {
    "kind": {"type": "str", "required": True, "choices": list(probes.KINDS)},
    "target": {"type": "str"},
    "port": {"type": "int"},
    "url": {"type": "str"},
    "timeout": {"type": "float"},
    "source": {"type": "str"},
    "count": {"type": "int"},
    "interval": {"type": "float"},
    "tcp_port": {"type": "int"},
    "payload": {"type": "str"},
    "payload_hex": {"type": "str"},
    "expect_body": {"type": "str"},
    "expect_hex": {"type": "str"},
    "method": {"type": "str"},
    # Tokens: Ansible keeps what is marked so out of the host's log and out of results.
    "headers": {"type": "dict", "no_log": True},
    "body": {"type": "str", "no_log": True},
    # Not so this one: its numbers would be blotted out wherever they occur in the results.
    "json": {"type": "raw", "no_log": False},
    "expect_status": {"type": "list", "elements": "int"},
    "verify": {"type": "bool"},
    "ca_file": {"type": "path"},
    "server_name": {"type": "str"},
    "alpn": {"type": "list", "elements": "str"},
    "certificates": {"type": "bool"},
    "expires_within_days": {"type": "float"},
    "versions": {"type": "bool"},
    "servers": {"type": "list", "elements": "str"},
    "types": {"type": "list", "elements": "str"},
    "search": {"type": "bool"},
    "expect": {"type": "list", "elements": "str"},
    "max_offset_s": {"type": "float"},
    "way": {"type": "str"},
    "first_hop": {"type": "int"},
    "max_hops": {"type": "int"},
    "queries": {"type": "int"},
    "wait": {"type": "float"},
    "jump_ms": {"type": "float"},
    "min_mtu": {"type": "int"},
    "tries": {"type": "int"},
}
#: The argument spec of the module; its documentation stands in plugins/modules/net_probe.py.
ARGUMENTS: dict[str, Any] = {
    "probes": {"type": "list", "elements": "dict", "required": True, "options": _PROBE},
    "seconds": {"type": "float", "default": 30.0},
    "require": {"type": "bool", "default": False},
    "netns": {"type": "str"},
}


def secrets(values: set[str]) -> set[str]:
    """Of the values that Ansible would blot out wherever they occur in the result: those long enough to be a token.

    A header such as ``DNT: 1`` would else make every 1 of the result illegible.
    """
    return {value for value in values if len(value) >= _SHORTEST_SECRET}


def run(params: dict[str, Any]) -> dict[str, Any]:
    """``{probes, failed_probes, coverage}``. Raises ValueError for what cannot be asked."""
    wanted = [{key: value for key, value in probe.items() if value is not None} for probe in params["probes"]]
    if len(wanted) > probes.MAX_PROBES:
        raise ValueError(f"probes: {len(wanted)} of them; allowed are {probes.MAX_PROBES}. Split them over several tasks.")
    if not 0 < params["seconds"] <= MAX_SECONDS:
        raise ValueError(f"seconds is {params['seconds']:g}; allowed is more than 0 and at most {MAX_SECONDS:g}.")
    for number, probe in enumerate(wanted, 1):
        needed = ["url"] if probe["kind"] == "http" else ["target"]
        if probe["kind"] in ("tcp", "tls", "udp"):
            needed.append("port")
        missing = [name for name in needed if probe.get(name) in (None, "")]
        if missing:
            raise ValueError(f"probe {number} of kind {probe['kind']} lacks {' and '.join(missing)}.")
        wrong = _wrong_port(probe) or _wrong_source(probe)
        if wrong:
            raise ValueError(f"probe {number} of kind {probe['kind']}: {wrong}")
    section = probes.run(wanted, params["seconds"], explain=True)
    return {
        "probes": section.data,
        "failed_probes": [one for one in section.data if one["status"] != "ok"],
        "coverage": [gap.to_dict() for gap in section.gaps],
    }


def _wrong_port(probe: dict[str, Any]) -> str | None:
    """What is wrong with a port of the probe; None when nothing is."""
    for name, least in (("port", 1), ("tcp_port", 0)):
        port = probe.get(name, 1)
        if not least <= port <= probing.MAX_PORT:
            return f"{name} is {port}; allowed are {least} to {probing.MAX_PORT}."
    try:
        if "url" not in probe or urlsplit(probe["url"]).port != 0:
            return None
    except ValueError:
        pass
    shown = probing.redacted(probe["url"])
    return f"url is {shown}; allowed is http:// or https://, a host, and if need be a port from 1 to {probing.MAX_PORT}."


def _wrong_source(probe: dict[str, Any]) -> str | None:
    """What is wrong with the source of the probe; None when nothing is. The addresses of a name show only when it is asked."""
    source = probe.get("source")
    if not source:
        return None
    family = probing.family_of(source)
    if family is None or "%" in source:
        return f"source is {source[:100]!r}; allowed is an IP address of this host, without %."
    target = (urlsplit(probe["url"]).hostname if probe["kind"] == "http" else probe["target"]) or ""
    wanted = probing.family_of(target)
    if probe["kind"] in ("dns", "ntp") or wanted in (None, family):
        return None
    return f"source {source} is {_FAMILIES[family]}, but {target} is {_FAMILIES[wanted]}; allowed is a source of the same family."


def summary(result: dict[str, Any]) -> str:
    """One line for a failed task."""
    failed = result["failed_probes"]
    first = failed[0]
    more = f" ({len(failed)} of {len(result['probes'])} probes failed)" if len(result["probes"]) > 1 else ""
    return f"{first['kind']} {first['target']}: {first['status']}, {first['detail']}{more}"
