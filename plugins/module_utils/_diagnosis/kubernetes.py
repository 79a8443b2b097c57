# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""Why pods of this node cannot talk, as far as the node's own side shows it: the CNI, its links and routes, cluster DNS. (D12)"""

from __future__ import annotations

import ipaddress
from typing import Any

from ansible_collections.netops.fleet.plugins.module_utils._diagnosis.facts import Facts
from ansible_collections.netops.fleet.plugins.module_utils._diagnosis.model import Finding
from ansible_collections.netops.fleet.plugins.module_utils._firewall.fixes import word

#: Network -> agents, one of which keeps its rules and routes; what restarts them.
_AGENTS: dict[str, tuple[tuple[str, ...], str]] = {
    "calico": (("calico-node", "felix"), "kubectl -n kube-system rollout restart daemonset/calico-node"),
    "flannel": (("flanneld",), "kubectl -n kube-flannel rollout restart daemonset/kube-flannel-ds"),
    "cilium": (("cilium-agent",), "kubectl -n kube-system rollout restart daemonset/cilium"),
}
#: Links that carry packets between nodes, by network.
_CARRIERS = {
    "calico": ("tunl0", "vxlan.calico", "vxlan-v6.calico", "wireguard.cali"),
    "flannel": ("flannel.1", "flannel-v6.1", "flannel-wg", "cni0"),
    "cilium": ("cilium_host", "cilium_net", "cilium_vxlan", "cilium_geneve", "cilium_wg0"),
}
_DEAD = ("timeout", "unreachable", "refused")


def find(facts: Facts) -> list[Finding]:
    node = facts.section("kubernetes")
    if not node or not node.get("node"):
        return []
    return (
        _configuration(node)
        + _programs(node)
        + _agents(facts, node)
        + _carriers(facts, node)
        + _unrouted(facts, node)
        + _dns(node)
    )


def _configuration(node: dict[str, Any]) -> list[Finding]:
    cni = node["cni"]
    if cni["used"] is not None or cni.get("unread"):
        return []  # what cannot be read may be the configuration; its gap says so
    files = cni["files"]
    return [
        Finding(
            id="cni-not-configured",
            grade="proven",
            severity="critical",
            subject=cni["folder"],
            summary=f"A kubelet runs here, and {cni['folder']} holds no network configuration for it: no pod gets an address.",
            evidence=[f"{cni['folder']}/{one['name']}: {one['error']}" for one in files] or [f"{cni['folder']}: no file"],
            fix=[
                "# the network's agent writes it when it starts: see its pod on this node",
                "kubectl -n kube-system get pods -o wide",
            ],
            requirement=["D12"],
        )
    ]


def _programs(node: dict[str, Any]) -> list[Finding]:
    cni = node["cni"]
    return [
        Finding(
            id="cni-plugin-missing",
            grade="proven",
            severity="critical",
            subject=str(name),
            summary=f"{cni['used']} names the program {name}, which is not installed: no pod gets an address.",
            evidence=[f"{cni['folder']}/{cni['used']} names {name}; it is in none of the folders for CNI programs"],
            fix=["# install the package of CNI programs, or let the network's agent copy it: restart its pod on this node"],
            requirement=["D12"],
            data={"program": str(name)},
        )
        for name in cni.get("missing") or []
    ]


def _agents(facts: Facts, node: dict[str, Any]) -> list[Finding]:
    network = node.get("network")
    if network not in _AGENTS or (facts.evidence.get("host") or {}).get("container"):
        return []  # a container does not see the host's processes
    wanted, restart = _AGENTS[network]
    running = {one["process"] for one in node["agents"]}
    if running & set(wanted):
        return []
    return [
        Finding(
            id="cni-agent-missing",
            grade="likely",
            severity="critical",
            subject=network,
            summary=f"The agent of {network} ({wanted[0]}) does not run on this node: routes and rules of its pods get stale.",
            evidence=[f"agents that run: {', '.join(sorted(running)) or 'none'}"],
            fix=["# why did it end? see the log of its pod on this node; then:", restart],
            requirement=["D12"],
            data={"network": network},
        )
    ]


def _carriers(facts: Facts, node: dict[str, Any]) -> list[Finding]:
    return [
        Finding(
            id="cni-interface-down",
            grade="proven",
            severity="critical",
            subject=str(link["name"]),
            summary=f"{link['name']} of {node['network']} is down: pods of this node are cut off.",
            evidence=[f"{link['name']}: kind {link.get('kind')}, admin down, mtu {link.get('mtu')}"],
            fix=[f"ip link set dev {word(str(link['name']))} up"],
            requirement=["D12"],
            data={"link": str(link["name"])},
        )
        for link in facts.items("links")
        # tunl0 is there, and down, wherever the module is loaded.
        if link["name"] in _CARRIERS.get(str(node.get("network")), ()) and not link.get("up") and _in_use(facts, link)
    ]


def _in_use(facts: Facts, link: dict[str, Any]) -> bool:
    return link["name"] != "tunl0" or any(one["link"] == "tunl0" for one in facts.items("addresses"))


def _unrouted(facts: Facts, node: dict[str, Any]) -> list[Finding]:
    """Calico gives each pod a link of its own, and a route to it; without the route nothing reaches the pod."""
    if node.get("network") != "calico" or not facts.known("routes") or facts.gaps("routes"):
        return []
    links = [str(one["name"]) for one in facts.items("links") if str(one["name"]).startswith("cali") and one.get("up")]
    routed = {one.get("dev") for one in facts.items("routes") if one.get("table") == 254}
    lost = sorted(name for name in links if name not in routed and facts.links[name].get("carrier"))
    if not lost:
        return []
    return [
        Finding(
            id="cni-pod-unrouted",
            grade="likely",
            severity="critical" if len(lost) == len(links) else "warning",
            subject=f"{len(lost)} of {len(links)} pods",
            summary=f"{len(lost)} of {len(links)} links of pods have no route: nothing reaches the pods behind them.",
            evidence=[f"no route leads to {name}" for name in lost[:10]],
            fix=["# calico's felix writes them: see the log of calico-node on this node, then restart it", _AGENTS["calico"][1]],
            requirement=["D12", "D18"],
            data={"links": lost[:100]},
        )
    ]


def _dns(node: dict[str, Any]) -> list[Finding]:
    asked = node.get("dns") or []
    wrong = [one for one in asked if one["status"] != "ok"]
    out = []
    for one in wrong:
        dead = one["status"] in _DEAD
        alone = len(wrong) == len(asked)
        out.append(
            Finding(
                id="cluster-dns-dead",
                grade="proven",
                severity="critical" if alone else "warning",
                subject=str(one["server"]),
                summary=f"The cluster's name server {one['server']} "
                + ("does not answer this node" if dead else f"answers {one['status']} for {one['name']}")
                + (": pods resolve no name of the cluster." if alone else "."),
                evidence=[f"{one['name']} {one['type']} at {one['server']}: {one['status']} {one.get('detail') or ''}".rstrip()]
                + [f"{other['server']}: {other['status']}" for other in asked if other is not one],
                fix=[
                    "# does CoreDNS run, and does this node's kube-proxy (or its replacement) know the service?",
                    "kubectl -n kube-system get pods -l k8s-app=kube-dns -o wide",
                    "kubectl -n kube-system rollout restart deployment/coredns",
                ],
                requirement=["D07", "D12"],
                data={"server": str(one["server"]), "status": one["status"]},
            )
        )
    kubelet = node["kubelet"]
    loops = [one for one in kubelet.get("resolv_servers") or [] if _loopback(one)]
    if loops:
        out.append(
            Finding(
                id="cluster-dns-loop",
                grade="likely",
                severity="warning",
                subject=str(kubelet["resolv_conf"]),
                summary=f"The kubelet gives pods {kubelet['resolv_conf']}, which names {loops[0]}: there that is the pod itself, "
                "so CoreDNS asks itself in a circle.",
                evidence=[f"{kubelet['resolv_conf']}: nameserver {one}" for one in loops] + [f"kubelet: {kubelet['config']}"],
                fix=["# in the kubelet's configuration, then restart it:", "# resolvConf: /run/systemd/resolve/resolv.conf"],
                requirement=["D07", "D12"],
                data={"file": str(kubelet["resolv_conf"])},
            )
        )
    return out


def _loopback(server: str) -> bool:
    try:
        return ipaddress.ip_address(server.partition("%")[0]).is_loopback
    except ValueError:
        return False
