# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""What the network serves, where it is installed: RDMA ports, haproxy, keepalived, Ceph, GPUs; null is what is not there.

haproxy is asked through its own socket, Ceph through its own tool, with the rights the host has. Sources: haproxy's
management.txt ("show stat"), keepalived.conf(5), docs.ceph.com (health checks)
"""

from __future__ import annotations

import csv
import glob
import json
import os
import re
import socket
import time
from typing import Any

from ansible_collections.netops.fleet.plugins.module_utils._evidence import configured, gpu, ovs, rdma
from ansible_collections.netops.fleet.plugins.module_utils._evidence.redact import redact
from ansible_collections.netops.fleet.plugins.module_utils._evidence.section import Section
from ansible_collections.netops.fleet.plugins.module_utils._kernel import command, procfs

_MOST, _MOST_BYTES, _SECONDS = 1024, 4 << 20, 3.0
_SOCKET = re.compile(r"^\s*stats\s+socket\s+(?:unix@)?(/\S+)", re.MULTILINE)
_TOKEN = re.compile(r'"[^"]*"|[{}]|[^\s{}]+')


def read(root: str = "/") -> Section:
    """Data: ``{rdma: [{device, port, state, physical, rate, layer}], haproxy: [{proxy, server, status, check, since_s}],
    keepalived: {running, instances: [{name, interface, router, addresses}]}, ceph: {status, checks: [{name, severity,
    text}]}, ovs, gpu}``, each null where it is not installed; ovs, gpu: see ovs.read, gpu.read. null in a network namespace that
    these are not about.
    """
    section = Section(None)
    try:
        if root == "/" and not configured.ours():
            return section
    except OSError as error:
        section.gap("installed", procfs.reason(error))
        return section
    section.data = {
        "rdma": rdma.ports(os.path.join(root, rdma.FOLDER.lstrip("/"))),
        "haproxy": _haproxy(section, root),
        "keepalived": _keepalived(root),
        "ceph": _ceph(section, root),
        "ovs": ovs.read(section, root),
        "gpu": gpu.read(section, root),
    }
    return section


def _haproxy(section: Section, root: str) -> list[dict[str, Any]] | None:
    files = [os.path.join(root, "etc/haproxy/haproxy.cfg"), *sorted(glob.glob(os.path.join(root, "etc/haproxy/conf.d/*.cfg")))]
    paths = {path for file in files[:64] for path in _SOCKET.findall(procfs.text_or_none(file, _MOST_BYTES) or "")}
    found: list[dict[str, Any]] | None = None
    for path in sorted(paths)[:8]:
        # A socket that is not there: haproxy is installed and does not run.
        if not os.path.exists(path):
            continue
        try:
            found = (found or []) + statistics(ask(path, b"show stat\n"))
        except OSError as error:
            section.gap("installed.haproxy", procfs.reason(error, path))
    return found


def ask(path: str, request: bytes) -> str:
    """The answer to one request over a Unix socket, until the other side closes. Raises OSError."""
    parts: list[bytes] = []
    size = 0
    deadline = time.monotonic() + _SECONDS
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(_SECONDS)
        sock.connect(path)
        sock.sendall(request)
        while size < _MOST_BYTES:
            sock.settimeout(max(0.01, deadline - time.monotonic()))
            data = sock.recv(1 << 16)
            if not data:
                break
            parts.append(data)
            size += len(data)
    return b"".join(parts).decode("utf-8", "replace")


def statistics(text: str) -> list[dict[str, Any]]:
    """Of haproxy's CSV: servers and, as server ``BACKEND``, what they stand behind. What is no CSV has none."""
    out: list[dict[str, Any]] = []
    try:
        rows = list(csv.DictReader(text.lstrip("# ").splitlines()))
    except csv.Error:
        return []
    for row in rows:
        if row.get("svname") in (None, "FRONTEND") or len(out) >= _MOST:
            continue
        check = " ".join(str(row.get(name) or "") for name in ("check_status", "check_code", "last_chk")).strip()
        out.append(
            {
                "proxy": str(row.get("pxname"))[:100],
                "server": str(row.get("svname"))[:100],
                "status": str(row.get("status") or "")[:40],
                "check": redact(check, 120),
                "since_s": procfs.decimal(str(row.get("lastchg") or "")),
            }
        )
    return out


def _keepalived(root: str) -> dict[str, Any] | None:
    text = procfs.text_or_none(os.path.join(root, "etc/keepalived/keepalived.conf"), _MOST_BYTES)
    if text is None:
        return None
    running = False
    for path in ("run/keepalived.pid", "run/keepalived/keepalived.pid"):
        pid = procfs.integer(os.path.join(root, path))
        running = running or bool(pid and (procfs.text_or_none(f"/proc/{pid}/comm", 64) or "").startswith("keepalived"))
    return {"running": running, "instances": instances(text)}


def instances(text: str) -> list[dict[str, Any]]:
    """VRRP instances of keepalived.conf: who they are and which addresses they move; passwords are passed over."""
    words = _TOKEN.findall(re.sub(r"[#!].*", "", text))
    out: list[dict[str, Any]] = []
    place: list[str] = []
    for at, this in enumerate(words):
        before = words[at - 1] if at else ""
        if this == "{":
            named = at > 1 and words[at - 2] == "vrrp_instance"
            if named:
                out.append({"name": before.strip('"'), "interface": None, "router": None, "addresses": []})
            place.append("vrrp_instance" if named else before)
        elif this == "}":
            place = place[:-1]
        elif place == ["vrrp_instance"] and before == "interface":
            out[-1]["interface"] = this
        elif place == ["vrrp_instance"] and before == "virtual_router_id":
            out[-1]["router"] = procfs.decimal(this)
        elif place == ["vrrp_instance", "virtual_ipaddress"]:
            address = configured.static(this)
            # Words behind an address (dev, label, scope) are none.
            if address and before not in ("label", "brd", "broadcast"):
                out[-1]["addresses"].append(address.partition("/")[0])
    return out[:256]


def _ceph(section: Section, root: str) -> dict[str, Any] | None:
    if root != "/" or not os.path.exists("/etc/ceph/ceph.conf") or command.find("ceph") is None:
        return None
    asked = command.run(["ceph", "--connect-timeout", "3", "health", "--format", "json"], timeout=8, max_bytes=1 << 20)
    if not asked.ok:
        section.gap("installed.ceph", redact(asked.why()))
        return None
    return health(asked.out)


def health(text: str) -> dict[str, Any] | None:
    """Of ``ceph health --format json``; checks that an operator muted are left out."""
    try:
        said = json.loads(text)
        checks = [
            {"name": str(name)[:64], "severity": str(one["severity"]), "text": redact(str(one["summary"]["message"]), 200)}
            for name, one in sorted(said.get("checks", {}).items())
            if not one.get("muted")
        ]
        return {"status": str(said["status"]), "checks": checks[:64]}
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
