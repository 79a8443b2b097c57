# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""A finding: which object is wrong, how sure that is, what shows it, what mends it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

#: proven: the object decides the failing packet, or a probe shows it. likely: the evidence agrees.
#: different: only unlike its peers.
GRADES = ("proven", "likely", "different")
#: critical: traffic fails now. warning: traffic suffers, or will. info: worth knowing.
SEVERITIES = ("critical", "warning", "info")


@dataclass
class Finding:
    """One finding; the same shape in evidence files, report.json and the page.

    id: stable name, documented in docs/findings/<id>.md. subject: the object, as the admin would name it.
    evidence: lines, each a fact that was read. fix: commands, to be run as root on the host, or sentences starting with ``#``.
    requirement: ids of the capability it serves. data: machine-readable parts of the subject (handle, program id, owner pid).
    """

    id: str
    grade: str
    severity: str
    subject: str
    summary: str
    evidence: list[str] = field(default_factory=list)
    fix: list[str] = field(default_factory=list)
    requirement: list[str] = field(default_factory=list)
    data: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.grade not in GRADES:
            raise ValueError(f"finding {self.id}: grade {self.grade!r} is none of {', '.join(GRADES)}")
        if self.severity not in SEVERITIES:
            raise ValueError(f"finding {self.id}: severity {self.severity!r} is none of {', '.join(SEVERITIES)}")

    def to_dict(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "grade": self.grade,
            "severity": self.severity,
            "subject": self.subject,
            "summary": self.summary,
            "evidence": list(self.evidence),
            "fix": list(self.fix),
            "requirement": list(self.requirement),
            "data": dict(self.data),
        }


#: What can be the cause of what stands below it, the lowest layer first. Among findings equally bad, this order counts.
LAYERS = (
    "gpu-error",
    "gpu-unreachable",
    "gpu-ecc-errors",
    "gpu-link-narrow",
    "oom-killed",
    "nic-fault",
    "interface-no-carrier",
    "optical-power",
    "rdma-errors",
    "link-flapping",
    "link-half-duplex",
    "link-slow",
    "link-impaired",
    "interface-no-address",
    "interface-config-differs",
    "cni-not-configured",
    "cni-plugin-missing",
    "cni-interface-down",
    "cni-agent-missing",
    "cni-pod-unrouted",
    "mac-duplicate",
    "address-duplicate",
    "neighbour-failed",
    "route-config-differs",
    "route-refuses",
    "route-missing",
    "route-detour",
    "ipsec-drops",
    "tunnel-inside-itself",
    "tunnel-local-missing",
    "ovs-not-applied",
    "ovs-bridge-empty",
    "ovs-flow-drops",
    "ovs-port-broken",
    "ovs-tunnel-down",
    "ovs-datapath-overloaded",
    "overlay-peer-dead",
    "overlay-peer-mismatch",
    "tunnel-mtu-too-large",
    "forwarding-off",
    "nat-source-missing",
    "tc-filter-drops-target",
    "firewall-drops-target",
    "firewall-drops-answers",
    "firewall-drops-outgoing",
    "firewall-limits-target",
    "network-policy-denies",
    "bpf-program-refuses",
    "bpf-program-foreign",
    "mtu-black-hole",
    "mesh-group-bad",
    "mesh-host-bad",
    "mesh-pair-bad",
    "conntrack-nearly-full",
    "ephemeral-ports-exhausted",
    "syn-queue-overflow",
    "service-failed",
    "port-not-listening",
    "port-listens-elsewhere",
    "descriptors-exhausted",
    "accept-queue-overflow",
    "cluster-dns-dead",
    "resolver-dead",
    "resolver-fails",
)
_PLACE = {name: place for place, name in enumerate(LAYERS)}


def rank(severity: str, grade: str, name: str, subject: str) -> tuple[int, int, int, str, str]:
    """Sort key: what breaks traffic for certain comes first, of those the lowest layer."""
    return (SEVERITIES.index(severity), GRADES.index(grade), _PLACE.get(name, len(LAYERS)), name, subject)


def order(finding: Finding) -> tuple[int, int, int, str, str]:
    return rank(finding.severity, finding.grade, finding.id, finding.subject)
