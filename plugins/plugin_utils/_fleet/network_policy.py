# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This plugin util is PRIVATE to the collection. It can change at any time.
"""What NetworkPolicies (networking.k8s.io/v1) say of one connection. Pure: objects of the API in, a three-valued answer out.

True, False or None: None is what the objects alone do not decide, such as an ipBlock that holds the address of a pod, which some
network plugins match and others do not.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Optional

Truth = Optional[bool]


def some(values: Iterable[Truth]) -> Truth:
    found: Truth = False
    for value in values:
        if value:
            return True
        if value is None:
            found = None
    return found


def every(values: Iterable[Truth]) -> Truth:
    return _not(some(_not(value) for value in values))


def _not(value: Truth) -> Truth:
    return None if value is None else not value


@dataclass(frozen=True)
class End:
    """One end of a connection. pod: as of ``pod()``. node: the node whose own traffic it is. Neither: outside of the cluster."""

    addresses: tuple[str, ...] = ()
    pod: dict[str, Any] | None = None
    node: str | None = None

    @property
    def name(self) -> str:
        if self.pod is not None:
            return f"pod {self.pod['namespace']}/{self.pod['name']}"
        return f"node {self.node}" if self.node else ", ".join(self.addresses) or "anything"

    @property
    def home(self) -> str | None:
        """The node whose network namespace it uses itself, as nodes and pods with hostNetwork do."""
        if self.pod is None:
            return self.node
        return self.pod["node"] if self.pod["host_network"] else None


@dataclass
class Side:
    """What one end's policies say. allowed: see the module. policies: those that select the pod; why: a line for each."""

    direction: str
    pod: str
    allowed: Truth
    policies: list[str] = field(default_factory=list)
    why: list[str] = field(default_factory=list)


def pod(item: dict[str, Any]) -> dict[str, Any]:
    """What policies ask of a pod. Ports of init containers count where these are sidecars, which run as long as the pod."""
    meta, spec, status = item.get("metadata") or {}, item.get("spec") or {}, item.get("status") or {}
    sidecars = [one for one in spec.get("initContainers") or [] if one.get("restartPolicy") == "Always"]
    ports = [
        {"name": str(port["name"]), "port": int(port["containerPort"]), "protocol": str(port.get("protocol") or "TCP")}
        for container in [*(spec.get("containers") or []), *sidecars]
        for port in container.get("ports") or []
        if port.get("name") and port.get("containerPort")
    ]
    addresses = [str(one["ip"]) for one in status.get("podIPs") or [] if one.get("ip")]
    if not addresses and status.get("podIP"):
        addresses = [str(status["podIP"])]
    return {
        "namespace": str(meta.get("namespace")),
        "name": str(meta.get("name")),
        "labels": {str(key): str(value) for key, value in (meta.get("labels") or {}).items()},
        "node": spec.get("nodeName"),
        "host_network": bool(spec.get("hostNetwork")),
        "finished": status.get("phase") in ("Succeeded", "Failed"),
        "addresses": addresses,
        "ports": ports,
    }


def selects(selector: dict[str, Any], labels: dict[str, str]) -> Truth:
    """A label selector. An empty one selects everything."""
    found: list[Truth] = [labels.get(key) == value for key, value in (selector.get("matchLabels") or {}).items()]
    for one in selector.get("matchExpressions") or []:
        key, operator, values = one.get("key"), one.get("operator"), one.get("values") or []
        if operator == "In":
            found.append(key in labels and labels[key] in values)
        elif operator == "NotIn":  # also where the label is missing
            found.append(key not in labels or labels[key] not in values)
        elif operator in ("Exists", "DoesNotExist"):
            found.append((key in labels) is (operator == "Exists"))
        else:
            found.append(None)
    return every(found)


def types(spec: dict[str, Any]) -> set[str]:
    """The directions a policy isolates; left out: Ingress, and Egress where it has rules for it."""
    given = {str(one) for one in spec.get("policyTypes") or []}
    return given or ({"Ingress", "Egress"} if spec.get("egress") else {"Ingress"})


def name(policy: dict[str, Any]) -> str:
    return f"{policy['metadata']['namespace']}/{policy['metadata']['name']}"


def selected(policy: dict[str, Any], one: dict[str, Any]) -> Truth:
    """Whether a policy is about a pod. One in the host's network is not told from its node and selected by none."""
    if policy["metadata"]["namespace"] != one["namespace"] or one["host_network"]:
        return False
    return selects(policy["spec"].get("podSelector") or {}, one["labels"])


def _in_block(block: dict[str, Any], end: End) -> Truth:
    try:
        cidr = ipaddress.ip_network(str(block.get("cidr")), strict=False)
        holes = [ipaddress.ip_network(str(one), strict=False) for one in block.get("except") or []]
        addresses = [ipaddress.ip_address(one) for one in end.addresses]
    except ValueError:
        return None
    held = {one in cidr and not any(one in hole for hole in holes) for one in addresses}
    if held == {False}:
        return False
    # More than one address, or none known, or an address of the cluster: the network plugin decides.
    return True if held == {True} and end.pod is None and end.node is None else None


def _is_peer(peer: dict[str, Any], end: End, namespace: str, labels: dict[str, dict[str, str]] | None) -> Truth:
    """One entry of from or to."""
    if peer.get("ipBlock") is not None:
        return _in_block(peer["ipBlock"], end)
    if end.pod is None:
        return False
    tests: list[Truth] = []
    if peer.get("namespaceSelector") is None:
        tests.append(end.pod["namespace"] == namespace)
    elif labels is None or end.pod["namespace"] not in labels:
        tests.append(True if not peer["namespaceSelector"] else None)
    else:
        tests.append(selects(peer["namespaceSelector"], labels[end.pod["namespace"]]))
    tests.append(selects(peer.get("podSelector") or {}, end.pod["labels"]))
    # Some plugins tell a pod in the host's network from its node, most do not.
    tests.append(None if end.pod["host_network"] else True)
    return every(tests)


def _has_port(entry: dict[str, Any], receiver: End, protocol: str, port: int) -> Truth:
    """One entry of ports. A name stands for what the receiving pod calls so."""
    if str(entry.get("protocol") or "TCP") != protocol:
        return False
    wanted = entry.get("port")
    if wanted is None:
        return True
    if isinstance(wanted, str) and not wanted.isdigit():
        known = [] if receiver.pod is None else receiver.pod["ports"]
        return any(one["name"] == wanted and one["protocol"] == protocol and one["port"] == port for one in known)
    return int(wanted) <= port <= int(entry.get("endPort") or wanted)


@dataclass(frozen=True)
class Question:
    """May sender (None: anything at all) open a connection to the receiver's port? protocol: TCP, UDP or SCTP."""

    sender: End | None
    receiver: End
    protocol: str
    port: int


def sides(policies: list[dict[str, Any]], namespaces: dict[str, dict[str, str]] | None, asked: Question) -> list[Side]:
    """The sending pod's side, then the receiving pod's. All must allow it. namespaces: their labels; None: not read."""
    out = []
    for direction in ("Egress", "Ingress"):
        own, other = (asked.sender, asked.receiver) if direction == "Egress" else (asked.receiver, asked.sender)
        if own is None or own.pod is None:
            continue
        if other is not None and (
            (other.home is not None and other.home == own.pod["node"])  # its node may always: the kubelet's probes
            or (other.pod is not None and (other.pod["namespace"], other.pod["name"]) == (own.pod["namespace"], own.pod["name"]))
        ):
            out.append(Side(direction, own.name, True))
            continue
        out.append(_side(policies, namespaces, asked, direction, own, other))
    return out


def _side(
    policies: list[dict[str, Any]],
    namespaces: dict[str, dict[str, str]] | None,
    asked: Question,
    direction: str,
    own: End,
    other: End | None,
) -> Side:
    if own.pod is None:
        raise ValueError("only a pod is selected by a policy")
    side = Side(direction, own.name, None)
    isolated: list[Truth] = []
    lets: list[Truth] = []
    for policy in policies:
        about = selected(policy, own.pod)
        if about is False or direction not in types(policy["spec"]):
            continue
        rules = policy["spec"].get(direction.lower()) or []
        results = [_rule(rule, policy["metadata"]["namespace"], namespaces, asked, other, direction) for rule in rules]
        isolated.append(about)
        lets.append(every([about, some(result for result, _why in results)]))
        side.policies.append(name(policy))
        side.why.append(
            f"{name(policy)}: " + ("; ".join(why for _result, why in results) or f"no {direction.lower()} rule at all")
        )
    side.allowed = some([_not(some(isolated)), some(lets)])
    return side


def _rule(
    rule: dict[str, Any],
    namespace: str,
    labels: dict[str, dict[str, str]] | None,
    asked: Question,
    other: End | None,
    direction: str,
) -> tuple[Truth, str]:
    peers, ports = rule.get("from" if direction == "Ingress" else "to") or [], rule.get("ports") or []
    peer = True if not peers or other is None else some(_is_peer(one, other, namespace, labels) for one in peers)
    fits = True if not ports else some(_has_port(one, asked.receiver, asked.protocol, asked.port) for one in ports)
    words = {True: "fits", False: "does not fit", None: "may fit"}
    where = "anything" if other is None else other.name
    number = f"{asked.protocol.lower()}/{asked.port}"
    return every(
        [peer, fits]
    ), f"a rule for {_peers(peers)} {words[peer]} {where}, its ports ({_ports(ports)}) {words[fits]} {number}"


def _peers(peers: list[dict[str, Any]]) -> str:
    shown = []
    for one in peers[:4]:
        if one.get("ipBlock") is not None:
            holes = one["ipBlock"].get("except")
            shown.append(str(one["ipBlock"].get("cidr")) + (f" except {', '.join(map(str, holes))}" if holes else ""))
            continue
        parts = [
            f"{word} {_selector(one[key])}"
            for key, word in (("namespaceSelector", "namespaces"), ("podSelector", "pods"))
            if one.get(key) is not None
        ]
        shown.append(" with ".join(parts) or "pods of its namespace")
    more = f" and {len(peers) - 4} more" if len(peers) > 4 else ""
    return (", ".join(shown) + more) or "everything"


def _selector(selector: dict[str, Any]) -> str:
    parts = [f"{key}={value}" for key, value in (selector.get("matchLabels") or {}).items()]
    for one in selector.get("matchExpressions") or []:
        parts.append(f"{one.get('key')} {one.get('operator')} {','.join(map(str, one.get('values') or []))}".strip())
    return f"[{' '.join(parts)}]" if parts else "of any label"


def _ports(ports: list[dict[str, Any]]) -> str:
    shown = []
    for one in ports[:8]:
        text = f"{str(one.get('protocol') or 'TCP').lower()}/{one.get('port', 'any')}"
        shown.append(text + (f"-{one['endPort']}" if one.get("endPort") else ""))
    return ", ".join(shown) or "all"
