# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Evidence of a healthy host, to be broken by tests one part at a time."""

from __future__ import annotations

import copy
from typing import Any


def listener(port: int = 1678, address: str = "::", family: int = 6, **more: Any) -> dict[str, Any]:
    return {
        "proto": "tcp",
        "family": family,
        "address": address,
        "port": port,
        "inode": 4711,
        "uid": 0,
        "pid": 812,
        "process": "python3",
        "unit": "model-server.service",
        "backlog": 128,
        "queue": 0,
        "v6only": False,
        **more,
    }


def link(name: str = "eth0", **more: Any) -> dict[str, Any]:
    base = {"name": name, "index": 2, "kind": None, "mtu": 1500, "up": True, "carrier": True, "operstate": "up", "master": None}
    return {
        **base,
        "peer_index": None,
        "physical": True,
        "driver": "mlx5_core",
        "qlen": 1000,
        "qdisc": "fq",
        "carrier_changes": 1,
        **more,
    }


_HEALTHY: dict[str, Any] = {
    "schema": 1,
    "collector": {"version": "0.1.0", "python": "3.11.2", "uid": 0},
    "host": {"hostname": "gpu-01", "kernel": "6.1.0", "machine": "x86_64", "uptime_s": 1000.0, "container": False, "netns": 1},
    "window": {"start": 1.0, "seconds": 2.0},
    "target": {"proto": "tcp", "port": 1678, "address": None},
    "peers": [],
    "coverage": [],
    "sections": {
        "links": [link("lo", index=1, physical=False, driver=None, qdisc="noqueue"), link()],
        "addresses": [
            {"link": "lo", "family": 4, "address": "127.0.0.1", "prefix": 8, "scope": "host", "flags": []},
            {"link": "eth0", "family": 4, "address": "192.0.2.11", "prefix": 24, "scope": "global", "flags": []},
            {"link": "eth0", "family": 6, "address": "2001:db8::11", "prefix": 64, "scope": "global", "flags": []},
        ],
        "routes": [
            {"family": 4, "table": "main", "type": "unicast", "dst": "default", "via": "192.0.2.1", "dev": "eth0", "flags": []},
        ],
        "policy_rules": [],
        "neighbours": [{"family": 4, "dev": "eth0", "address": "192.0.2.1", "mac": "02:00:00:00:00:01", "state": "reachable"}],
        "sockets": {"listeners": [listener()], "states": {"tcp": {"ESTABLISHED": 3}}, "ports": {}, "udp_drops": {}},
        "drops": {"seconds": 2.0, "reset": False, "layers": {}},
        "drop_reasons": None,
        "sysctls": {
            "net.core.somaxconn": "4096",
            "net.core.netdev_max_backlog": "1000",
            "net.ipv4.ip_local_port_range": "32768 60999",
        },
        "conntrack": {"count": 10, "max": 65536, "buckets": 65536, "stat": {}},
        "names": {
            "servers": ["127.0.0.53"],
            "search": [],
            "options": {},
            "source": "/etc/resolv.conf",
            "lookups": [{"server": "127.0.0.53", "name": ".", "type": "NS", "status": "ok", "answers": [], "ms": 1.0}],
            "getaddrinfo": [],
        },
        "clock": {"time": 1.0, "synchronised": True, "servers": []},
        "hooks": [],
        "firewall": {"backends": [{"name": "nft", "status": "ok"}], "chains": [], "rules": [], "sets": []},
        "probes": [],
    },
    "objects": {},
    "findings": [],
    "answer": None,
}


def healthy(**sections: Any) -> dict[str, Any]:
    """A healthy host's evidence with some sections replaced."""
    evidence = copy.deepcopy(_HEALTHY)
    evidence["sections"].update(sections)
    return evidence


def ruleset(*rules: dict[str, Any], policy: str = "accept", **more: Any) -> dict[str, Any]:
    """A firewall section: one inet filter input chain with these rules (dicts of parts and verdict)."""
    base = {"backend": "nft", "family": "inet", "table": "filter", "chain": "input"}
    chain = {**{key: base[key] for key in ("backend", "family", "table")}, "name": "input", "hook": "input", "priority": 0}
    made = [{**base, "line": line, "handle": 10 + line, "text": "rule", **rule} for line, rule in enumerate(rules, 1)]
    return {
        "backends": [{"name": "nft", "status": "ok"}],
        "chains": [{**chain, "policy": policy, "type": "filter"}],
        "rules": made,
        "sets": [],
        **more,
    }


def match(left: str, *values: Any, op: str = "in", **more: Any) -> dict[str, Any]:
    return {"t": "match", "left": left, "op": op, "values": list(values), **more}
