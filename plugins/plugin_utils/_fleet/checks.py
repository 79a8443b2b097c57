# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This plugin util is PRIVATE to the collection. It can change at any time.
"""The columns of the fleet matrix: which findings and which sections of evidence belong to which check."""

from __future__ import annotations

from typing import Any

from ansible_collections.netops.fleet.plugins.plugin_utils._fleet.schema import SEVERITIES
from ansible_collections.netops.fleet.plugins.plugin_utils._fleet.text import clean

#: check -> (title, sections it is read from, words in a finding's id that belong to it). A finding goes to the first check
#: one of whose words is in its id, unless EXACT names it.
CHECKS: dict[str, tuple[str, tuple[str, ...], tuple[str, ...]]] = {
    "hooks": ("Hooks", ("hooks",), ("bpf", "hook", "xdp", "tcx", "tc")),
    "dns": ("DNS", ("names",), ("dns", "resolver", "name", "lookup")),
    "clock": ("Clock", ("clock",), ("clock", "time", "ntp")),
    "sysctls": ("Sysctls", ("sysctls",), ("sysctl",)),
    "neighbours": ("Neighbours", ("neighbours",), ("neighbour", "arp", "duplicate", "mac")),
    "firewall": ("Firewall", ("firewall", "conntrack"), ("firewall", "rule", "nft", "iptables", "conntrack", "ipset", "nat")),
    "listeners": (
        "Listeners",
        ("sockets", "services"),
        ("port", "listener", "listens", "accept", "connections", "service", "tls"),
    ),
    "probes": ("Probes", ("probes", "mesh"), ("mesh", "ping", "http", "target", "probe", "path", "hop", "unreachable")),
    "drops": (
        "Drops",
        ("drops", "drop_reasons", "capture"),
        ("drops", "capture", "queue", "ring", "softnet", "qdisc", "backlog", "overflow", "buffer"),
    ),
    "routes": ("Routes", ("routes", "policy_rules", "addresses"), ("route", "routing", "gateway", "address", "forwarding")),
    "links": (
        "Links",
        ("links", "interrupts", "tunnels", "physical", "configured", "kubernetes"),
        (
            "cni",
            "tunnel",
            "overlay",
            "ovs",
            "rdma",
            "ipsec",
            "optical",
            "link",
            "interface",
            "carrier",
            "mtu",
            "duplex",
            "speed",
            "bond",
            "vlan",
            "nic",
            "crc",
        ),
    ),
    "machine": (
        "Machine",
        ("machine", "kernel_log"),
        ("cpu", "memory", "oom", "disk", "mount", "descriptors", "raid", "gpu", "kernel", "throttled"),
    ),
    "peers": ("Peers", (), ("peer", "differs")),
}
EXACT = {
    "nic-drops": "drops",
    "network-policy-denies": "firewall",
    "resolver-differs": "dns",
    "service-off-node": "other",
    "hosts-file-overrides": "dns",
    "name-unresolved": "dns",
    "kernel-parameter-wrong": "sysctls",
    "service-throttled": "machine",
    "haproxy-server-down": "probes",
    "ceph-unhealthy": "machine",
    "gpu-link-narrow": "machine",
    "gpu-unreachable": "machine",
    "virtual-address-lost": "routes",
    "tcp-memory-pressure": "drops",
    "tcp-retransmits": "drops",
    "certificate-rejected": "probes",
    "certificate-expires": "probes",
}
#: The order in which the columns are shown.
ORDER = (
    "firewall",
    "hooks",
    "listeners",
    "routes",
    "neighbours",
    "links",
    "drops",
    "sysctls",
    "dns",
    "clock",
    "machine",
    "probes",
    "peers",
)
OTHER = "other"


def check_of(finding: dict[str, Any]) -> str:
    """The column of a finding: by the section its data names, else by the words of its id."""
    section = (finding.get("data") or {}).get("section")
    if isinstance(section, str):
        for name, (_title, sections, _words) in CHECKS.items():
            if section in sections:
                return name
    if finding["id"] in EXACT:
        return EXACT[finding["id"]]
    words = finding["id"].split("-")
    return next((name for name, (_title, _sections, known) in CHECKS.items() if any(word in known for word in words)), OTHER)


def matrix_row(
    findings: list[dict[str, Any]], coverage: list[dict[str, Any]] | None, peers: str | None
) -> dict[str, dict[str, Any]]:
    """One host's cells: check -> {state, findings, why}.

    state: critical, warning, info (the worst finding), ok, partial (checked with gaps), unchecked. coverage: None for a host
    without evidence. peers: why there is no peer evidence, None when there is.
    """
    found: dict[str, list[dict[str, Any]]] = {}
    for finding in findings:
        found.setdefault(check_of(finding), []).append(finding)
    status = {entry["section"]: entry for entry in coverage or []}
    row: dict[str, dict[str, Any]] = {}
    for name in (*ORDER, OTHER):
        own = found.get(name, [])
        if name == OTHER and not own:
            continue
        if own:
            worst = min(SEVERITIES.index(one["severity"]) for one in own)
            row[name] = {"state": SEVERITIES[worst], "findings": len(own), "why": clean(own[0]["summary"], 200)}
        elif name == "peers":
            row[name] = {"state": "unchecked" if coverage is None or peers else "ok", "findings": 0, "why": peers or ""}
        else:
            row[name] = _cell([status.get(section) for section in CHECKS[name][1]], CHECKS[name][1])
    return row


def _cell(entries: list[dict[str, Any] | None], sections: tuple[str, ...]) -> dict[str, Any]:
    """A check without findings: what was read decides whether that means "ok". A section that was not asked for is no gap."""
    read = [entry for entry in entries if entry is not None and entry["status"] in ("ok", "partial")]
    why = "; ".join(
        f"{clean(gap['what'], 80)}: {clean(gap['why'], 160)}"
        for entry in entries
        if entry is not None
        for gap in (entry.get("gaps") or [])[:3]
    )
    if not read or entries[0] not in read:  # the first section is what the check is about, the others add to it
        return {"state": "unchecked", "findings": 0, "why": why or f"not read: {', '.join(sections)}"}
    complete = all(entry is None or entry["status"] in ("ok", "skipped") for entry in entries)
    return {"state": "ok" if complete else "partial", "findings": 0, "why": why}


def title(check: str) -> str:
    """A column's heading."""
    return CHECKS[check][0] if check in CHECKS else "Other"
