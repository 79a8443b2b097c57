# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This plugin util is PRIVATE to the collection. It can change at any time.
"""Symptoms as a way into a diagnosis: the order in which causes are looked at, one answer or none. (D10 to D12, D16)"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from ansible_collections.netops.fleet.plugins.plugin_utils._fleet.text import clean


@dataclass(frozen=True)
class Step:
    """name: as shown. sections: evidence it is read from. ids: findings that answer it; a trailing ``-`` stands for all such."""

    name: str
    sections: tuple[str, ...]
    ids: tuple[str, ...]
    #: Looked at only where its evidence was asked for.
    optional: bool = False
    #: Ids of notes (severity info) that answer this step as well: what is no fault by itself and yet is what was asked.
    notes: tuple[str, ...] = ()

    def has(self, finding: dict[str, Any]) -> bool:
        """Is the finding, or what it brings about, an answer to this step?"""
        told = [finding["id"], *(str(one.get("id")) for one in (finding.get("data") or {}).get("consequences") or [])]
        return any(name == one or (one.endswith("-") and name.startswith(one)) for name in told for one in self.ids)

    def answered_by(self, finding: dict[str, Any]) -> bool:
        """Does the finding answer this step: by its severity, or as a note that says what was asked?"""
        return self.has(finding) and (finding["severity"] != "info" or _name(finding) in self.notes)


def _name(finding: dict[str, Any]) -> str:
    """The finding's id; of what a mesh says with its trouble: ``mesh-host-bad slow``."""
    trouble = (finding.get("data") or {}).get("trouble")
    return f"{finding['id']} {trouble}" if trouble else str(finding["id"])


_SEVERITIES = ("critical", "warning", "info")
#: Gaps that leave no cause out: who holds an object, a number that is not this host's alone, the end of a list that begins with
#: what is broken, a default that the system itself falls back to, settings beside the judged ones.
_HARMLESS = frozenset(
    {
        "drops.softnet.scope",
        "drops.socket",
        "hooks.owners",
        "hooks.pins",
        "links.driver",
        "mesh.clock",
        "names.nsswitch",
        "names.servers",
        "neighbours.ipv4.kept",
        "neighbours.ipv6.kept",
        "owners",
        "sockets.process",
        "sockets.udp.v6only",
        "sysctls.links",
    }
)

_LINK = Step("link", ("links",), ("interface-", "link-", "nic-fault", "optical-", "rdma-"))
_NEIGHBOURS = Step("neighbours", ("neighbours",), ("neighbour-", "address-duplicate", "mac-duplicate"))
_ROUTES = Step("routes", ("routes", "policy_rules"), ("route-", "reverse-path-", "forwarding-"))
_TUNNELS = Step("tunnels and overlays", ("tunnels", "links", "drops"), ("ipsec-", "tunnel-", "overlay-", "ovs-"))
_MTU = Step("MTU", ("links",), ("mtu-",))
_REACH = Step("reachability", ("probes",), ("ping-", "http-", "target-", "peer-", "certificate-", "hop-"))
_PATH = replace(_REACH, ids=(*_REACH.ids, "round-trip-", "path-"), notes=("path-latency-jump", "round-trip-slow"))
_MESH = Step("between the hosts", ("mesh",), ("mesh-",), optional=True)
#: A long round trip may be another site and is a note; who asks for latency is told.
_MESH_SLOW = replace(_MESH, notes=tuple(f"{name} slow" for name in ("mesh-host-bad", "mesh-pair-bad", "mesh-group-bad")))
_RULES = Step("packet filter", ("firewall",), ("firewall-", "rule-differs", "walk-probe-disagree", "nat-"))
_HOOKS = Step("hooks", ("hooks",), ("bpf-", "tc-filter-"))
_TRACKING = Step("connection tracking", ("conntrack",), ("conntrack-",))
_QUEUES = Step(
    "concurrency",
    ("sockets",),
    ("accept-", "syn-", "connections-", "ephemeral-", "descriptors-", "tcp-memory-", "port-"),
)
_DROPS = Step(
    "kernel drops",
    ("drops", "drop_reasons"),
    ("softnet-", "nic-drops", "qdisc-", "udp-", "tcp-", "conntrack-", "ipsec-", "ovs-datapath-"),
)
_CAPTURE = Step("capture", ("capture",), ("capture-",), optional=True, notes=("capture-retransmits",))
_HOST = Step(
    "host resources",
    ("machine", "kernel_log"),
    ("cpu-", "memory-", "oom-", "disk-", "mount-", "service-", "gpu-", "kernel-hangs", "raid-", "clock-", "thp-", "huge-"),
)
_SETTINGS = Step("kernel parameters", ("sysctls",), ("kernel-parameter-", "sysctl-"))
_RESOLVERS = Step("name servers", ("names",), ("resolver-",))
_NAMES = Step("names", ("names",), ("name-", "hosts-file-"))
_CLUSTER = Step("cluster network (CNI)", ("kubernetes",), ("cni-",))
_CLUSTER_DNS = Step("cluster DNS", ("kubernetes",), ("cluster-dns-",))
_POLICIES = Step("network policies", ("network_policies",), ("network-policy-",), optional=True)

#: In the order of the guides this follows. port and pair are answered by the walk of their target.
FLOWS: dict[str, tuple[Step, ...]] = {
    "port": (),
    "pair": (),
    "latency": (_PATH, _MESH_SLOW, _LINK, _NEIGHBOURS, _MTU, _QUEUES, _CAPTURE, _DROPS, _HOST, _SETTINGS),
    "pods": (
        _LINK,
        _MESH,
        _ROUTES,
        _TUNNELS,
        _NEIGHBOURS,
        _MTU,
        _CLUSTER,
        _CLUSTER_DNS,
        _RESOLVERS,
        _POLICIES,
        _RULES,
        _HOOKS,
        _TRACKING,
    ),
    "dns": (_RESOLVERS, _NAMES, _CLUSTER_DNS, _RULES, _ROUTES, _NEIGHBOURS, _LINK),
    "firewall": (_RULES, _HOOKS, _POLICIES, _TRACKING, _ROUTES),
    "nic": (_LINK, _MESH, _DROPS, _MTU, _NEIGHBOURS, _SETTINGS),
    "loss": (_MESH, _DROPS, _CAPTURE, _HOOKS, _RULES, _ROUTES, _LINK, _QUEUES, _MTU, _HOST),
}


def answer(symptom: str, findings: list[dict[str, Any]], coverage: list[dict[str, Any]]) -> dict[str, Any] | None:
    """``{verdict, text, steps}`` as of an answer for a target; None for a symptom that a target answers.

    verdict: blocked, the first finding of the first step that has one is the answer; open, every step is excluded; unknown, some
    could not be told. findings: of one host, worst first.
    """
    flow = FLOWS.get(symptom)
    if not flow:
        return None
    known = {str(one["section"]): one for one in coverage}
    flow = tuple(step for step in flow if not step.optional or step.sections[0] in known)
    telling = [one for one in findings if any(step.answered_by(one) for step in flow)]
    steps = [_step(step, telling, known) for step in flow]
    # The worst finding is the answer; the order of the steps decides among those equally bad.
    answers = [(one, place) for place, step in enumerate(flow) for one in telling[:200] if step.answered_by(one)]
    if answers:
        worst = min(answers, key=lambda item: (_SEVERITIES.index(item[0]["severity"]), item[1], telling.index(item[0])))[0]
        return {"verdict": "blocked", "text": f"{symptom}: {clean(worst['summary'], 600)}", "steps": steps}
    excluded = ", ".join(step["step"] for step in steps if step["result"] == "ok")
    doubts = "; ".join(f"{step['step']}: {step['detail']}" for step in steps if step["result"] == "unknown")
    text = f"{symptom}: nothing found. Excluded: {excluded or 'nothing'}."
    if doubts:
        return {"verdict": "unknown", "text": f"{text} Could not be told: {doubts}", "steps": steps}
    return {"verdict": "open", "text": text, "steps": steps}


def _step(step: Step, findings: list[dict[str, Any]], known: dict[str, dict[str, Any]]) -> dict[str, Any]:
    told = next((one for one in findings if step.answered_by(one)), None)
    if told is not None:
        return {"step": step.name, "result": "bad", "detail": clean(told["summary"], 600)}
    gaps = []
    for section in step.sections:
        cover = known.get(section)
        if cover is None:
            gaps.append(f"{section} is not part of this evidence")
        elif cover["status"] == "failed" or (cover["status"] == "skipped" and section == step.sections[0]):
            why = next((str(gap.get("why")) for gap in cover.get("gaps") or []), cover["status"])
            gaps.append(f"{section}: {clean(why, 200)}")
        elif section == step.sections[0]:
            left = [gap for gap in cover.get("gaps") or [] if str(gap.get("what")) not in _HARMLESS]
            gaps += [clean(f"{gap.get('what')}: {gap.get('why')}", 200) for gap in left[:2]]
    if gaps:
        return {"step": step.name, "result": "unknown", "detail": "; ".join(gaps)}
    return {"step": step.name, "result": "ok", "detail": "nothing found"}
