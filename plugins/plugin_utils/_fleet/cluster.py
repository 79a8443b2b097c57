# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This plugin util is PRIVATE to the collection. It can change at any time.
"""A Kubernetes cluster as its API shows it: what is kept of it, and which policy denies the traffic asked about. (D12)"""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Callable
from typing import Any

from ansible_collections.netops.fleet.plugins.module_utils._diagnosis.facts import shown_address
from ansible_collections.netops.fleet.plugins.module_utils._diagnosis.model import Finding
from ansible_collections.netops.fleet.plugins.plugin_utils._fleet import network_policy as policy
from ansible_collections.netops.fleet.plugins.plugin_utils._fleet.text import clean

SECTION = "network_policies"
_MOST_PODS, _MOST_POLICIES, _MOST_LINES = 100_000, 20_000, 12
_NAME = r"[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?"
_POD = re.compile(rf"\A({_NAME})/({_NAME})\Z")
_POD_PORT = re.compile(rf"\A({_NAME})/({_NAME})/(tcp|udp|sctp)/([0-9]{{1,5}})\Z")
#: Kinds that say no connection can be judged without them.
_NEEDED = (("policies", "networking.k8s.io/v1", "NetworkPolicy"), ("pods", "v1", "Pod"))
_WANTED = (("namespaces", "v1", "Namespace"), ("nodes", "v1", "Node"))
#: Policies of other kinds: that there are any is said, what they say is not judged.
_OTHERS = (
    ("policy.networking.k8s.io/v1alpha1", "AdminNetworkPolicy"),
    ("policy.networking.k8s.io/v1alpha1", "BaselineAdminNetworkPolicy"),
    ("policy.networking.k8s.io/v1alpha2", "ClusterNetworkPolicy"),
    ("cilium.io/v2", "CiliumNetworkPolicy"),
    ("cilium.io/v2", "CiliumClusterwideNetworkPolicy"),
    ("crd.projectcalico.org/v1", "NetworkPolicy"),
    ("crd.projectcalico.org/v1", "GlobalNetworkPolicy"),
)

#: (api version, kind) -> the objects, or None where the API has no such kind; raises ClusterError.
Reader = Callable[[str, str], "list[dict[str, Any]] | None"]


class ClusterError(Exception):
    """The API, or what is needed to ask it, is not there: why, and what to do."""


def is_pod(text: str) -> bool:
    """``namespace/pod``."""
    return _POD.match(text) is not None


def pod_port(text: str) -> tuple[str, str, str, int] | None:
    """``namespace/pod/tcp/8000`` in parts."""
    found = _POD_PORT.match(text)
    if found is None or not 0 < int(found[4]) < 65536:
        return None
    return found[1], found[2], found[3], int(found[4])


def read(ask: Reader) -> dict[str, Any]:
    """The cluster, reduced to what policies ask of it: no environment, no command, no annotation of a pod is kept."""
    out: dict[str, Any] = {
        "status": "ok",
        "gaps": [],
        "policies": [],
        "pods": [],
        "namespaces": None,
        "nodes": None,
        "others": [],
    }
    try:
        policies, pods = (ask(version, kind) or [] for _name, version, kind in _NEEDED)
    except ClusterError as error:
        out["status"] = "failed"
        out["gaps"].append({"what": "NetworkPolicy", "why": clean(error, 600)})
        return out
    if len(policies) > _MOST_POLICIES or len(pods) > _MOST_PODS:
        why = f"{len(policies)} policies and {len(pods)} pods; at most {_MOST_POLICIES} and {_MOST_PODS} are judged"
        return {**out, "status": "failed", "gaps": [{"what": "NetworkPolicy", "why": why}]}
    out["policies"] = [
        {"metadata": {key: str(one["metadata"].get(key)) for key in ("namespace", "name")}, "spec": one.get("spec") or {}}
        for one in policies
    ]
    out["pods"] = [policy.pod(one) for one in pods]
    for name, version, kind in _WANTED:
        try:
            found = ask(version, kind) or []
        except ClusterError as error:
            out["status"] = "partial"
            out["gaps"].append({"what": kind, "why": clean(error, 600)})
            continue
        out[name] = {str(one["metadata"]["name"]): _kept(kind, one) for one in found}
    for version, kind in _OTHERS:
        try:
            others = ask(version, kind)
        except ClusterError as error:
            out["status"] = "partial"
            out["gaps"].append({"what": f"{kind} of {version}", "why": clean(error, 600)})
            continue
        if others:
            out["others"].append({"kind": f"{kind} of {version}", "count": len(others)})
    return out


def _kept(kind: str, one: dict[str, Any]) -> Any:
    if kind == "Namespace":
        return {str(key): str(value) for key, value in (one["metadata"].get("labels") or {}).items()}
    return [str(entry["address"]) for entry in (one.get("status") or {}).get("addresses") or [] if entry["type"] != "Hostname"]


class Cluster:
    """The traffic asked about, judged by the cluster's policies. First pass: who of the hosts is which node. Second: findings."""

    def __init__(self, kept: dict[str, Any] | None, target: dict[str, Any] | None, options: dict[str, Any]) -> None:
        self._kept = kept
        self._gaps: list[dict[str, str]] = list((kept or {}).get("gaps") or [])
        self._hosts: dict[str, tuple[tuple[str, ...], str | None]] = {}
        self._unenforced: set[str] = set()
        self._receiver: policy.End | None = None
        self._sender: policy.End | None = None
        self._proto, self._port = "TCP", 0
        if kept is not None and kept["status"] != "failed":
            self._ask(target, str(options.get("pod") or ""), str(options.get("from_pod") or ""))
            for other in kept["others"]:
                self._gap(other["kind"], f"{other['count']} exist and are not judged; they may allow or deny what is said here")

    def _gap(self, what: str, why: str) -> None:
        self._gaps.append({"what": what, "why": clean(why, 600)})

    def _ask(self, target: dict[str, Any] | None, wanted: str, sender: str) -> None:
        asked = pod_port(wanted)
        if asked is not None:
            self._receiver = self._named(asked[0], asked[1])
            self._proto, self._port = asked[2].upper(), asked[3]
        elif target is not None and target.get("address"):
            self._receiver = self._addressed(str(target["address"]))
            self._proto, self._port = str(target["proto"]).upper(), int(target["port"])
        else:
            self._gap(
                "NetworkPolicy", "no traffic was asked about; give diagnose_pod, or diagnose_target with the address of a pod"
            )
        if sender:
            namespace, _slash, name = sender.partition("/")
            self._sender = self._named(namespace, name)
            if self._sender is None:
                self._receiver = None

    def _named(self, namespace: str, name: str) -> policy.End | None:
        for one in (self._kept or {})["pods"]:
            if (one["namespace"], one["name"]) == (namespace, name):
                if not one["finished"]:
                    return policy.End(tuple(one["addresses"]), one)
                self._gap(f"pod {namespace}/{name}", "it has finished: nothing is sent to or from it")
                return None
        self._gap(f"pod {namespace}/{name}", "the cluster has no such pod; kubectl get pods -A shows which there are")
        return None

    def _addressed(self, address: str) -> policy.End:
        """A pod, a node or something outside. An address in the host's network is the node's."""
        for one in (self._kept or {})["pods"]:
            if address in one["addresses"] and not one["finished"] and not one["host_network"]:
                return policy.End((address,), one)
        for node, addresses in ((self._kept or {})["nodes"] or {}).items():
            if address in addresses:
                return policy.End((address,), None, node)
        if self._sender is None:
            self._gap(
                "NetworkPolicy", f"{clean(address, 60)} is no pod's address; for a Service name one of its pods with diagnose_pod"
            )
        return policy.End((address,))

    def count(self, host: str, evidence: dict[str, Any]) -> None:
        if self._kept is None or self._receiver is None:
            return
        addresses = tuple(str(one["address"]) for one in evidence["sections"].get("addresses") or [] if one["link"] != "lo")
        names = {host, str(evidence["host"].get("hostname"))}
        nodes = self._kept["nodes"] or {}
        node = next((name for name, own in nodes.items() if name in names or set(own) & set(addresses)), None)
        self._hosts[host] = (addresses, node)
        if node and (evidence["sections"].get("kubernetes") or {}).get("network") == "flannel":
            self._unenforced.add(node)

    def _home(self) -> str | None:
        """The host whose finding it is: the node of the receiving pod, of the sending one, or the first."""
        for end in (self._receiver, self._sender):
            node = end.pod["node"] if end is not None and end.pod is not None else None
            found = next((host for host, (_addresses, own) in self._hosts.items() if node and own == node), None)
            if found is not None:
                return found
        return next(iter(self._hosts), None)

    def findings(self, host: str, evidence: dict[str, Any]) -> list[Finding]:
        if self._kept is None or self._receiver is None or host not in self._hosts:
            return []
        # A target's address is tried by every host itself; a pod that was named is asked about once.
        sender = self._sender
        own = sender is None and evidence.get("target") is not None and bool(evidence["target"].get("address"))
        own = own and evidence["target"]["address"] in self._receiver.addresses
        if own:
            if self._kept["nodes"] is None:
                return []  # a node may do what others may not
            addresses, node = self._hosts[host]
            family = ipaddress.ip_address(self._receiver.addresses[0]).version
            same = tuple(one for one in addresses if ipaddress.ip_address(one.split("%")[0]).version == family)
            sender = policy.End(same, None, node)
        elif host != self._home():
            return []
        asked = policy.Question(sender, self._receiver, self._proto, self._port)
        if own and _answered(evidence):
            return []
        judged = policy.sides(self._kept["policies"], self._kept["namespaces"], asked)
        failed = own and any(one["id"] == "target-unreachable" for one in evidence["findings"])
        return [self._denies(side, asked, failed) for side in judged if side.allowed is False]

    def _denies(self, side: policy.Side, asked: policy.Question, failed: bool) -> Finding:
        own = asked.receiver.pod if side.direction == "Ingress" else (asked.sender.pod if asked.sender else None)
        if own is None:
            raise ValueError("only a pod is selected by a policy")
        flannel = own["node"] in self._unenforced
        traffic = f"{asked.protocol.lower()}/{asked.port}"
        who = "anything" if asked.sender is None else asked.sender.name
        named = ", ".join(side.policies[:4]) + (f" and {len(side.policies) - 4} more" if len(side.policies) > 4 else "")
        kind = "NetworkPolicy" if len(side.policies) == 1 else "NetworkPolicies"
        lines = [f"{side.pod} is selected for {side.direction.lower()} by {named}; none lets {traffic} pass"]
        lines += side.why[:_MOST_LINES]
        lines += [f"not judged: {one['count']} {one['kind']}" for one in (self._kept or {})["others"]]
        if flannel:
            lines.append("flannel alone enforces no NetworkPolicy: where nothing else does, this is not in the way")
        if failed:
            lines.append("and this host cannot reach it")
        return Finding(
            "network-policy-denies",
            "proven" if failed and not flannel else "likely",
            "info" if flannel else "critical",
            f"{kind} {clean(named, 200)}",
            f"{kind} {clean(named, 200)} {'lets' if len(side.policies) == 1 else 'let'} no {traffic} pass from {clean(who, 120)} "
            f"to {clean(asked.receiver.name, 120)} ({side.direction.lower()}).",
            [clean(line, 600) for line in lines],
            _fix(side, asked, own),
            ["D12"],
            {
                "policies": side.policies[:20],
                "direction": side.direction,
                "pod": f"{own['namespace']}/{own['name']}",
                "protocol": asked.protocol,
                "port": asked.port,
            },
        )

    def coverage(self) -> dict[str, Any] | None:
        """What the report says was looked at; None where no cluster was asked for."""
        if self._kept is None:
            return None
        judged = self._kept["status"] != "failed" and self._receiver is not None
        status = "failed" if not judged else "partial" if self._gaps else "ok"
        return {"section": SECTION, "status": status, "seconds": 0.0, "gaps": self._gaps[:20]}

    def notes(self) -> list[str]:
        return [f"network policies: {clean(one['what'], 80)}: {one['why']}" for one in self._gaps[:10]]


def _answered(evidence: dict[str, Any]) -> bool:
    """Did the target answer this host? Silence is none, though a datagram may have arrived."""
    target = evidence["target"]
    place = shown_address(target["address"], target.get("port"))
    probes = evidence["sections"].get("probes") or []
    asked = [one for one in probes if one.get("kind") == target["proto"] and one.get("target") == place and not one.get("peer")]
    return any(one.get("status") == "ok" for one in asked)


def _fix(side: policy.Side, asked: policy.Question, own: dict[str, Any]) -> list[str]:
    """A policy that adds what is missing: policies only ever add up."""
    word = side.direction.lower()
    other = asked.sender if side.direction == "Ingress" else asked.receiver
    lines = [
        "# where the traffic is wanted, with your labels: kubectl apply -f allow.yml",
        f"# {_manifest(own['namespace'], word, _lasting(own['labels']), other, asked)}",
    ]
    first = side.policies[0].partition("/")
    return [*lines, f"kubectl -n {first[0]} get networkpolicy {first[2]} -o yaml"]


def _manifest(namespace: str, word: str, labels: dict[str, str], other: policy.End | None, asked: policy.Question) -> str:
    peers: list[dict[str, Any]] = []
    if other is not None and other.pod is not None and not other.pod["host_network"]:
        space = {"matchLabels": {"kubernetes.io/metadata.name": other.pod["namespace"]}}
        peers.append({"namespaceSelector": space, "podSelector": {"matchLabels": _lasting(other.pod["labels"])}})
    elif other is not None:
        peers += [{"ipBlock": {"cidr": f"{one}/{128 if ':' in one else 32}"}} for one in other.addresses[:4]]
    rule: dict[str, Any] = {"ports": [{"protocol": asked.protocol, "port": asked.port}]}
    if peers:
        rule["from" if word == "ingress" else "to"] = peers
    return json.dumps(
        {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": {"name": f"allow-{asked.protocol.lower()}-{asked.port}-{word}", "namespace": namespace},
            "spec": {"podSelector": {"matchLabels": labels}, "policyTypes": [word.capitalize()], word: [rule]},
        }
    )


def _lasting(labels: dict[str, str]) -> dict[str, str]:
    """Labels without those that a rollout changes."""
    changing = ("pod-template-hash", "controller-revision-hash", "pod-template-generation")
    return {key: value for key, value in sorted(labels.items())[:8] if key not in changing}
