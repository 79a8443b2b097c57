# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A Kubernetes node from its own files and processes, and why its pods cannot talk. The files are those that the tools write."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.netops.fleet.plugins.module_utils._diagnosis import kubernetes as judged
from ansible_collections.netops.fleet.plugins.module_utils._diagnosis.facts import Facts
from ansible_collections.netops.fleet.plugins.module_utils._evidence import kubernetes
from ansible_collections.netops.fleet.plugins.module_utils._kernel import dns
from ansible_collections.netops.fleet.plugins.plugin_utils._fleet import symptoms
from tests.unit import hosts

KUBELET = """apiVersion: kubelet.config.k8s.io/v1beta1
authentication:
  anonymous:
    enabled: false
  x509:
    clientCAFile: /etc/kubernetes/pki/ca.crt
cgroupDriver: systemd
clusterDNS:
- 10.96.0.10
- fd00:10:96::a   # the second family
clusterDomain: cluster.local
kind: KubeletConfiguration
resolvConf: /run/systemd/resolve/resolv.conf
rotateCertificates: true
shutdownGracePeriod: 0s
"""
CALICO = {
    "name": "k8s-pod-network",
    "cniVersion": "0.3.1",
    "plugins": [
        {"type": "calico", "datastore_type": "kubernetes", "ipam": {"type": "calico-ipam"}, "policy": {"type": "k8s"}},
        {"type": "portmap", "snat": True, "capabilities": {"portMappings": True}},
        {"type": "bandwidth", "capabilities": {"bandwidth": True}},
    ],
}
FLANNEL = {"name": "cbr0", "cniVersion": "0.3.1", "plugins": [{"type": "flannel", "delegate": {}}, {"type": "portmap"}]}
CILIUM = {"cniVersion": "0.3.1", "name": "cilium", "plugins": [{"type": "cilium-cni", "enable-debug": False}]}


class Node:
    """The root of a node's file system."""

    def __init__(self, root: Path, network: dict[str, Any] | None, *processes: str, programs: tuple[str, ...] = ()) -> None:
        self.root = root
        for number, name in enumerate(("kubelet", *processes), 100):
            self.write(f"proc/{number}/comm", name + "\n")
            self.write(f"proc/{number}/cmdline", f"/usr/bin/{name}\0--v=2\0")
        self.write("var/lib/kubelet/config.yaml", KUBELET)
        self.write("run/systemd/resolve/resolv.conf", "nameserver 192.0.2.53\n")
        self.write("etc/resolv.conf", "nameserver 127.0.0.53\n")
        (root / "etc/cni/net.d").mkdir(parents=True)
        if network is not None:
            self.write("etc/cni/net.d/10-network.conflist", json.dumps(network))
        for name in programs:
            self.write(f"opt/cni/bin/{name}", "")

    def write(self, path: str, text: str) -> None:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")

    def read(self) -> dict[str, Any]:
        data: dict[str, Any] = kubernetes.read(0.5, str(self.root)).data
        return data

    def findings(self, **sections: Any) -> list[tuple[str, str, str]]:
        evidence = {"sections": {"kubernetes": self.read(), **sections}, "host": {"container": False}, "coverage": []}
        return [(one.id, one.severity, one.subject) for one in judged.find(Facts(evidence))]


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> dict[str, dns.Answer]:
    """What each name server answers; those not named do not answer."""
    known: dict[str, dns.Answer] = {}
    asked = []

    def ask(server: str, name: str, kind: str, seconds: float, port: int = 53) -> dns.Answer:
        asked.append((server, name, kind))
        return known.get(server, dns.Answer("timeout"))

    monkeypatch.setattr(kubernetes.dns, "ask", ask)
    return known


def healthy(answers: dict[str, dns.Answer]) -> None:
    answers["10.96.0.10"] = dns.Answer("ok", ["10.96.0.1"])
    answers["fd00:10:96::a"] = dns.Answer("ok", ["fd00:10:96::1"])


ALL = ("calico", "flannel", "cilium-cni", "portmap", "bandwidth")


@pytest.mark.parametrize(
    ("network", "agent", "name"),
    [(CALICO, "calico-node", "calico"), (FLANNEL, "flanneld", "flannel"), (CILIUM, "cilium-agent", "cilium")],
)
def test_a_healthy_node_has_no_finding(
    tmp_path: Path, answers: dict[str, dns.Answer], network: dict[str, Any], agent: str, name: str
) -> None:
    healthy(answers)
    node = Node(tmp_path, network, agent, "kube-proxy", programs=ALL)
    data = node.read()
    assert (data["network"], data["cni"]["used"], data["cni"]["missing"]) == (name, "10-network.conflist", [])
    assert data["kubelet"]["cluster_dns"] == ["10.96.0.10", "fd00:10:96::a"]
    assert data["kubelet"]["resolv_servers"] == ["192.0.2.53"]
    assert [one["answers"] for one in data["dns"]] == [["10.96.0.1"], ["fd00:10:96::1"]]
    assert {one["name"] for one in data["dns"]} == {"kubernetes.default.svc.cluster.local."}
    assert node.findings() == []


def test_a_host_without_a_kubelet_is_no_node(tmp_path: Path) -> None:
    """Podman and its network configuration are no Kubernetes."""
    (tmp_path / "etc/cni/net.d").mkdir(parents=True)
    (tmp_path / "etc/cni/net.d/87-podman.conflist").write_text("{}")
    section = kubernetes.read(0.5, str(tmp_path))
    assert section.data["node"] is False and section.gaps == []
    assert judged.find(Facts({"sections": {"kubernetes": section.data}})) == []


def test_configuration_that_is_missing_or_broken(tmp_path: Path, answers: dict[str, dns.Answer]) -> None:
    healthy(answers)
    node = Node(tmp_path, None, "calico-node")
    assert node.findings() == [("cni-not-configured", "critical", "/etc/cni/net.d")]
    node.write("etc/cni/net.d/00-half.conflist", '{"name": "x", "plugins": [')
    assert node.findings() == [("cni-not-configured", "critical", "/etc/cni/net.d")]
    # The runtime passes over what it cannot read and takes the next.
    node.write("etc/cni/net.d/10-calico.conflist", json.dumps(CALICO))
    assert node.read()["cni"]["used"] == "10-calico.conflist"
    assert node.findings() == []


def test_microk8s_keeps_its_own_folders(tmp_path: Path, answers: dict[str, dns.Answer]) -> None:
    healthy(answers)
    node = Node(tmp_path, None, "calico-node")
    (tmp_path / "etc/cni/net.d").rmdir()
    node.write("var/snap/microk8s/current/args/cni-network/10-calico.conflist", json.dumps(CALICO))
    for name in ("calico", "portmap"):
        node.write(f"var/snap/microk8s/current/opt/cni/bin/{name}", "")
    cni = node.read()["cni"]
    assert (cni["folder"], cni["used"]) == ("/var/snap/microk8s/current/args/cni-network", "10-calico.conflist")
    assert node.findings() == [("cni-plugin-missing", "critical", "bandwidth")]


def test_a_link_that_leads_nowhere_is_no_configuration(tmp_path: Path, answers: dict[str, dns.Answer]) -> None:
    healthy(answers)
    node = Node(tmp_path, None, "calico-node")
    (tmp_path / "etc/cni/net.d/10-calico.conflist").symlink_to(tmp_path / "nowhere")
    cni = node.read()["cni"]
    assert cni["files"][0]["error"] == "cannot be read: no such file or directory" and cni["unread"] == []
    assert node.findings() == [("cni-not-configured", "critical", "/etc/cni/net.d")]


def test_a_program_that_is_not_installed(tmp_path: Path, answers: dict[str, dns.Answer]) -> None:
    healthy(answers)
    node = Node(tmp_path, FLANNEL, "flanneld", programs=("flannel", "bridge"))
    assert node.findings() == [("cni-plugin-missing", "critical", "portmap")]
    # Where no folder is known, nothing is said.
    other = Node(tmp_path / "other", FLANNEL, "flanneld")
    assert other.read()["cni"]["missing"] is None and other.findings() == []


def test_an_agent_that_does_not_run(tmp_path: Path, answers: dict[str, dns.Answer]) -> None:
    healthy(answers)
    assert Node(tmp_path, CILIUM, "kube-proxy", programs=ALL).findings() == [("cni-agent-missing", "critical", "cilium")]


def test_links_and_routes_of_pods(tmp_path: Path, answers: dict[str, dns.Answer]) -> None:
    healthy(answers)
    node = Node(tmp_path, CALICO, "calico-node", programs=ALL)
    links = [
        {"name": "cali0001", "up": True, "carrier": True, "kind": "veth"},
        {"name": "cali0002", "up": True, "carrier": True, "kind": "veth"},
        {"name": "tunl0", "up": False, "carrier": False, "kind": "ipip"},
    ]
    routes = [{"family": 4, "table": 254, "type": "unicast", "dst": f"10.244.1.{n}/32", "dev": f"cali000{n}"} for n in (1, 2)]
    assert node.findings(links=links, routes=routes, addresses=[]) == []
    assert node.findings(links=links, routes=routes[:1], addresses=[]) == [("cni-pod-unrouted", "warning", "1 of 2 pods")]
    tunnel = [{"link": "tunl0", "family": 4, "address": "10.244.1.0", "prefix": 32, "scope": "global", "flags": []}]
    assert node.findings(links=links, routes=routes, addresses=tunnel) == [("cni-interface-down", "critical", "tunl0")]
    # What was not read is not missing.
    assert node.findings(links=links, routes=None, addresses=[]) == []


def test_name_servers_of_the_cluster(tmp_path: Path, answers: dict[str, dns.Answer]) -> None:
    node = Node(tmp_path, CALICO, "calico-node", programs=ALL)
    healthy(answers)
    del answers["fd00:10:96::a"]
    assert node.findings() == [("cluster-dns-dead", "warning", "fd00:10:96::a")]
    answers.clear()
    assert node.findings() == [("cluster-dns-dead", "critical", "10.96.0.10"), ("cluster-dns-dead", "critical", "fd00:10:96::a")]
    answers["10.96.0.10"] = dns.Answer("nxdomain")
    assert ("cluster-dns-dead", "critical", "10.96.0.10") in node.findings()


def test_a_stub_resolver_that_is_handed_to_pods(tmp_path: Path, answers: dict[str, dns.Answer]) -> None:
    healthy(answers)
    node = Node(tmp_path, CALICO, "calico-node", programs=ALL)
    node.write("var/lib/kubelet/config.yaml", KUBELET.replace("/run/systemd/resolve/resolv.conf", "/etc/resolv.conf"))
    assert node.findings() == [("cluster-dns-loop", "warning", "/etc/resolv.conf")]


def test_words_of_the_command_line_win(tmp_path: Path, answers: dict[str, dns.Answer]) -> None:
    node = Node(tmp_path, CALICO, "calico-node")
    words = ["/usr/bin/kubelet", "--cluster-dns=10.43.0.10", "--cluster-domain", "lab.example", "--token=secret", ""]
    node.write("proc/100/cmdline", "\0".join(words))
    kubelet = node.read()["kubelet"]
    assert (kubelet["cluster_dns"], kubelet["cluster_domain"]) == (["10.43.0.10"], "lab.example")
    assert "secret" not in json.dumps(node.read())


@given(st.text(max_size=300))
def test_any_text_is_read(text: str) -> None:
    kubernetes.kubelet_settings(text)
    kubernetes.cni_config(text)
    kubernetes.subnet_env(text)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["plugins", "type", "name", "x"]), inner, max_size=4)
        ),
        max_leaves=12,
    )
)
def test_any_json_is_a_configuration_or_says_what_is_wrong(value: Any) -> None:
    told = kubernetes.cni_config(json.dumps(value))
    assert bool(told["types"]) == (told["error"] is None)


def test_the_flow_pods_names_the_cni_and_cluster_dns(tmp_path: Path, answers: dict[str, dns.Answer]) -> None:
    node = Node(tmp_path, CALICO, "calico-node", programs=ALL)
    evidence = hosts.healthy(kubernetes=node.read())
    found = [one.to_dict() for one in judged.find(Facts(evidence))]
    coverage = [{"section": step, "status": "ok", "gaps": []} for one in symptoms.FLOWS["pods"] for step in one.sections]
    told = symptoms.answer("pods", found, [one for one in coverage if one["section"] != "mesh"])
    assert told is not None and told["verdict"] == "blocked" and "10.96.0.10 does not answer this node" in told["text"]
    results = {step["step"]: step["result"] for step in told["steps"]}
    assert results["cluster DNS"] == "bad" and results["cluster network (CNI)"] == "ok"
