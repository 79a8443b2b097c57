# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fleets made of evidence: six healthy hosts, faults put into some of them, and the run's folder as the controller writes it."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path
from typing import Any

from ansible_collections.netops.fleet.plugins.module_utils._diagnosis.judge import judge
from ansible_collections.netops.fleet.plugins.module_utils._diagnosis.objects import objects
from ansible_collections.netops.fleet.plugins.plugin_utils._fleet import store
from tests.unit import hosts

TARGET = {"proto": "tcp", "port": 1678, "address": None}
SECTIONS = (
    *("links", "addresses", "routes", "policy_rules", "neighbours", "sockets", "drops", "drop_reasons"),
    *("sysctls", "conntrack", "names", "clock", "hooks", "firewall", "probes"),
)
STARTED = 1_795_251_858.0


def hook(name: str = "count_syn", order: int = 0, can_drop: str = "no", **more: Any) -> dict[str, Any]:
    """One program on the packet path, as the host reports it."""
    tag = f"5a1f0000{order:08x}"
    return {
        "key": f"bpf tcx ingress eth0 sched_cls {name} {tag}",
        "hook": "tcx",
        "direction": "ingress",
        "scope": "netns",
        "interface": {"name": "eth0", "index": 2, "class": "eth0"},
        "cgroup": None,
        "order": order,
        "kind": "bpf",
        "prog_type": "sched_cls",
        "name": name,
        "tag": tag,
        "id": 40 + order,
        "link_id": 70 + order,
        "can_drop": can_drop,
        "drop_evidence": ["returns 2 (TC_ACT_SHOT)"] if can_drop == "yes" else [],
        "owners": [
            {"pid": 977, "process": "netsec-agent", "exe": "python3.11", "unit": "netsec-agent.service", "uid": 0, "via": "link"}
        ],
        "detach": ["systemctl stop netsec-agent.service", f"bpftool link detach id {70 + order}"],
        **more,
    }


def drop_rule(comment: str | None = None) -> dict[str, Any]:
    """A firewall section with one nft rule that drops the target."""
    text = "tcp dport 1678 drop" + (f' comment "{comment}"' if comment else "")
    rule = {
        "parts": [hosts.match("tcp dport", 1678)],
        "verdict": {"kind": "drop"},
        "text": text,
        "table": "lab",
        "comment": comment,
    }
    section = hosts.ruleset(rule)
    section["chains"][0]["table"] = "lab"
    return section


def host(number: int, **sections: Any) -> dict[str, Any]:
    """A healthy host of the fleet: own name, own addresses, everything else as on its peers."""
    evidence = hosts.healthy(**sections)
    evidence["host"]["hostname"] = f"gpu-{number:02d}"
    for address in evidence["sections"]["addresses"]:
        address["address"] = (
            address["address"].replace("192.0.2.11", f"192.0.2.{10 + number}").replace("::11", f"::{10 + number:x}")
        )
    evidence["coverage"] = [{"section": name, "status": "ok", "seconds": 0.01, "gaps": []} for name in SECTIONS]
    return evidence


def sealed(evidence: dict[str, Any]) -> dict[str, Any]:
    """Objects, findings and answer computed as the host computes them."""
    evidence["objects"] = objects(evidence)
    evidence["findings"], evidence["answer"] = judge(evidence)
    return evidence


def fleet(count: int = 6) -> dict[str, dict[str, Any]]:
    """Healthy hosts gpu-01 .. gpu-nn; not sealed, so that a test can break them first."""
    return {f"gpu-{number:02d}": host(number) for number in range(1, count + 1)}


def probe(peer: str, status: str = "ok") -> dict[str, Any]:
    """One host's attempt to reach the target on a peer."""
    return {"kind": "tcp", "peer": peer, "target": f"{peer}:1678", "from": "", "status": status, "detail": "", "ms": 1.0}


def packed(evidence: Any) -> bytes:
    """The bytes a host would send."""
    return gzip.compress(json.dumps(evidence).encode(), mtime=0)


def put(
    folder: Path,
    name: str,
    received: bytes | None,
    status: str = "ok",
    reason: str = "",
    groups: tuple[str, ...] = ("gpu-nodes",),
    clock: tuple[float, float] | None = (-0.02, 0.03),
) -> str:
    """Write one evidence file the way the controller does."""
    head = store.envelope(
        name, list(groups), status, reason=reason, started=STARTED, finished=STARTED + 3, clock=clock if status == "ok" else None
    )
    return store.write_evidence(str(folder), head, received)


def run(
    folder: Path,
    evidence: dict[str, dict[str, Any]],
    other: dict[str, tuple[str, str]] | None = None,
    groups: dict[str, list[str]] | None = None,
    target: dict[str, Any] | None = TARGET,
) -> store.Run:
    """A run's folder. other: hosts without evidence -> (status, reason); status "no answer" leaves no file."""
    os.chmod(folder, 0o700)
    known = {name: (groups or {}).get(name, ["gpu-nodes"]) for name in [*evidence, *(other or {})]}
    made = store.Run(str(folder), "20261121T090418Z", STARTED, target, known, {"window": 2.0})
    store.write_run(made)
    for name, one in evidence.items():
        put(folder, name, packed(one), groups=tuple(known[name]))
    for name, (status, reason) in (other or {}).items():
        if status != "no answer":
            put(folder, name, None, status, reason, groups=tuple(known[name]))
    return made


def broken_fleet() -> dict[str, dict[str, Any]]:
    """Six hosts: gpu-02 drops by an nft rule, gpu-03 by a BPF program its peers do not have, gpu-05 listens on loopback only."""
    made = fleet()
    made["gpu-02"]["sections"]["firewall"] = drop_rule("blocked by change 4711")
    made["gpu-03"]["sections"]["hooks"] = [hook(f"count_{number}", number) for number in range(3)] + [
        hook("drop_syn", 3, can_drop="yes"),
        hook("trace_syn", 4),
    ]
    made["gpu-05"]["sections"]["sockets"]["listeners"] = [hosts.listener(address="127.0.0.1", family=4)]
    made["gpu-06"]["sections"]["sysctls"]["net.core.somaxconn"] = "2048"
    blocked = {"gpu-02": "timeout", "gpu-03": "timeout", "gpu-05": "refused"}
    names = sorted(made)
    for place, name in enumerate(names):
        ring = names[place + 1 :] + names[:place]
        made[name]["sections"]["probes"] = [probe(peer, blocked.get(peer, "ok")) for peer in ring[:3]]
    made["gpu-04"]["coverage"][-3] = {
        "section": "hooks",
        "status": "partial",
        "seconds": 0.1,
        "gaps": [{"what": "hooks.cgroup", "why": "the cgroup file system is not mounted here"}],
    }
    return {name: sealed(one) for name, one in made.items()}
