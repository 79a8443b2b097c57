# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""A Kubernetes node as its host sees it: the CNI's configuration, programs and agents, and the cluster's name servers. (D12)

Nothing is asked of the cluster's API; a host that is no node is told by looking for a kubelet.
Sources: CNI specification 1.0.0, kubelet-config.v1beta1, flannel's subnet.env
"""

from __future__ import annotations

import json
import os
import re
from typing import Any

from ansible_collections.netops.fleet.plugins.module_utils._evidence import names
from ansible_collections.netops.fleet.plugins.module_utils._evidence.section import Section
from ansible_collections.netops.fleet.plugins.module_utils._kernel import dns, procfs

#: Where the container runtimes look for configuration and programs, the distribution's place first.
CONFIG_FOLDERS = (
    "/etc/cni/net.d",
    "/var/lib/rancher/k3s/agent/etc/cni/net.d",
    "/var/lib/rancher/rke2/agent/etc/cni/net.d",
    "/var/snap/microk8s/current/args/cni-network",
)
PROGRAM_FOLDERS = (
    "/opt/cni/bin",
    "/usr/lib/cni",
    "/usr/libexec/cni",
    "/var/lib/rancher/k3s/data/current/bin",
    "/var/lib/rancher/k3s/data/cni",
    "/var/snap/microk8s/current/opt/cni/bin",
)
#: One of these is there wherever a kubelet ever ran; elsewhere nobody looks through all processes for one.
TRACES = ("/var/lib/kubelet", "/var/lib/rancher", "/var/lib/k0s", "/var/snap/microk8s", "/etc/kubernetes")
KUBELET_CONFIG = "/var/lib/kubelet/config.yaml"
SUBNET_ENV = "/run/flannel/subnet.env"
#: Processes that are a kubelet, or hold one; and agents, by the name the kernel keeps (15 characters).
KUBELETS = ("kubelet", "k3s-server", "k3s-agent", "k3s", "rke2", "k0s", "microk8s-kubeli", "kubelite")
AGENTS = (
    "calico-node",
    "felix",
    "bird",
    "flanneld",
    "cilium-agent",
    "kube-router",
    "antrea-agent",
    "ovnkube",
    "kube-proxy",
    "weaver",
)
#: Type of a CNI program -> the network it belongs to.
_NETWORKS = {
    "calico": "calico",
    "flannel": "flannel",
    "cilium-cni": "cilium",
    "weave-net": "weave",
    "antrea": "antrea",
    "kube-router": "kube-router",
}
_MAX_FILES, _MAX_BYTES = 32, 1 << 18
_SETTING = re.compile(r"\A([A-Za-z]+):\s*(.*?)\s*(?:#.*)?\Z")


def read(seconds: float = 2.0, root: str = "") -> Section:
    """``{node, kubelet, agents, cni, network, flannel, dns}``.

    node: whether a kubelet runs here; without one the rest is empty. kubelet: ``{process, pid, config, cluster_dns,
    cluster_domain, resolv_conf, resolv_servers}``. agents: ``[{process, pid}]``. cni: ``{folder, files: [{name, network, types,
    error}], used, unread, missing}``: used is the file that the runtime takes, null for none, and for one that cannot be told:
    unread are the folders and files that this process may not read. missing are programs it names that are in no folder, null
    when that cannot be told. network: calico, flannel, cilium, ... by those programs, null otherwise. flannel: ``{network,
    subnet, mtu}``. dns: ``[{server, name, type, status, answers, ms, detail}]``, each of the cluster's name servers asked for the
    name of the API. root: before all paths.
    """
    section = Section({"node": False, "kubelet": None, "agents": [], "cni": None, "network": None, "flannel": None, "dns": []})
    found = _processes(root) if any(os.path.isdir(root + one) for one in TRACES) else []
    kubelet = next((one for one in found if one["process"] in KUBELETS), None)
    if kubelet is None:
        return section
    data = section.data
    data["node"] = True
    data["agents"] = [one for one in found if one["process"] in AGENTS][:32]
    data["kubelet"] = {**kubelet, **_kubelet(section, root, kubelet["pid"])}
    data["cni"] = _cni(section, root)
    used = next((one for one in data["cni"]["files"] if one["name"] == data["cni"]["used"]), None)
    types = used["types"] if used else []
    data["network"] = next((_NETWORKS[one] for one in types if one in _NETWORKS), None)
    data["flannel"] = subnet_env(procfs.text_or_none(root + SUBNET_ENV, 4096) or "")
    data["dns"] = _ask(section, data["kubelet"], seconds)
    return section


def _processes(root: str) -> list[dict[str, Any]]:
    wanted = {*KUBELETS, *AGENTS}
    found = []
    try:
        entries = os.listdir(f"{root}/proc")
    except OSError:
        return []
    for entry in entries:
        if entry.isdigit():
            name = (procfs.text_or_none(f"{root}/proc/{entry}/comm", 64) or "").strip()
            if name in wanted:
                found.append({"process": name, "pid": int(entry)})
    return sorted(found, key=lambda one: (one["process"] not in KUBELETS, one["pid"]))


def _kubelet(section: Section, root: str, pid: int) -> dict[str, Any]:
    """What its configuration says of names; words of the command line win, as the kubelet has it. Nothing else of it is kept."""
    words = (procfs.text_or_none(f"{root}/proc/{pid}/cmdline", 1 << 16) or "").split("\0")
    flags = {}
    for place, word in enumerate(words):
        name, equals, value = word.partition("=")
        if name in ("--config", "--cluster-dns", "--cluster-domain", "--resolv-conf"):
            flags[name] = value if equals else (words[place + 1] if place + 1 < len(words) else "")
    path = flags.get("--config") or KUBELET_CONFIG
    settings: dict[str, list[str]] = {}
    try:
        settings = kubelet_settings(procfs.text(root + path, _MAX_BYTES))
    except OSError as error:
        if not flags:
            section.gap("kubernetes.kubelet", procfs.reason(error, path))
    servers = flags["--cluster-dns"].split(",") if flags.get("--cluster-dns") else settings.get("clusterDNS", [])
    resolv = flags.get("--resolv-conf") or (settings.get("resolvConf") or [names.RESOLV_CONF])[0]
    content = procfs.text_or_none(root + resolv, 1 << 16) if resolv.startswith("/") else None
    return {
        "config": path,
        "cluster_dns": [one for one in servers if names.is_address(one)][:8],
        "cluster_domain": flags.get("--cluster-domain") or (settings.get("clusterDomain") or ["cluster.local"])[0],
        "resolv_conf": resolv,
        "resolv_servers": names.resolv_conf(content)["servers"] if content is not None else None,
    }


def kubelet_settings(content: str) -> dict[str, list[str]]:
    """The top-level scalars and lists of scalars of a KubeletConfiguration, as lists. Deeper ones are passed over.

    The host has no YAML reader; what kubeadm and the distributions write needs none. JSON is YAML too, and is read as such.
    """
    if content.lstrip().startswith("{"):
        try:
            loaded = json.loads(content)
        except ValueError:
            return {}
        pairs = loaded.items() if isinstance(loaded, dict) else ()
        return {str(key): [str(one) for one in (value if isinstance(value, list) else [value])] for key, value in pairs}
    found: dict[str, list[str]] = {}
    key = ""
    for line in content.splitlines():
        setting = _SETTING.match(line)
        if setting:
            key = setting[1]
            value = setting[2]
            inner = value[1:-1].split(",") if value.startswith("[") and value.endswith("]") else [value]
            found[key] = [_scalar(one) for one in inner if _scalar(one)]
        elif key and line.strip().startswith("- ") and len(line) - len(line.lstrip()) <= 2:
            item = line.strip()[2:].split(" #")[0]
            if ":" not in item or names.is_address(_scalar(item)):
                found[key].append(_scalar(item))
        elif line.strip() and not line[0].isspace() and not line.startswith("#"):
            key = ""
    return found


def _scalar(text: str) -> str:
    return text.strip().strip("\"'")


def _cni(section: Section, root: str) -> dict[str, Any]:
    folder, files = CONFIG_FOLDERS[0], []
    listed, unread = None, []
    for one in CONFIG_FOLDERS:
        try:
            listed = sorted(name for name in os.listdir(root + one) if name.endswith((".conf", ".conflist", ".json")))
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            section.gap("kubernetes.cni", procfs.reason(error, one))
            unread.append(one)
            continue
        folder = one
        if listed:
            break
    # The runtime takes the first, in the order of names, that it can use.
    used: dict[str, Any] | None = None
    told = False
    for name in (listed or [])[:_MAX_FILES]:
        try:
            found = cni_config(procfs.text(f"{root}{folder}/{name}", _MAX_BYTES))
        except OSError as error:
            found = {"network": None, "types": [], "error": f"cannot be read: {(error.strerror or str(error)).lower()}"}
            if not isinstance(error, FileNotFoundError):  # a link that leads nowhere is of no use to the runtime either
                section.gap("kubernetes.cni", procfs.reason(error, f"{folder}/{name}"))
                unread.append(f"{folder}/{name}")
                told = True
        files.append({"name": name, **found})
        if not found["error"] and not told:
            used, told = files[-1], True
    return {
        "folder": folder,
        "files": files,
        "used": used["name"] if used else None,
        "unread": unread,
        "missing": _missing(root, used["types"]) if used else [],
    }


def cni_config(text: str) -> dict[str, Any]:
    """``{network, types, error}`` of a CNI configuration, or of a list of them."""
    wrong: dict[str, Any] = {"network": None, "types": []}
    try:
        loaded = json.loads(text)
    except (ValueError, RecursionError) as error:
        return {**wrong, "error": f"is not JSON: {str(error)[:100]}"}
    if not isinstance(loaded, dict):
        return {**wrong, "error": "is no object"}
    plugins = loaded.get("plugins") if "plugins" in loaded else [loaded]
    types = (
        [str(one.get("type"))[:64] for one in plugins if isinstance(one, dict) and one.get("type")]
        if isinstance(plugins, list)
        else []
    )
    if not types:
        return {**wrong, "error": "names no plugin"}
    return {"network": str(loaded.get("name") or "")[:64], "types": types[:16], "error": None}


def _missing(root: str, types: list[str]) -> list[str] | None:
    """Programs that are in none of the folders; null where no folder is there, so the runtime has another."""
    folders = [one for one in PROGRAM_FOLDERS if _may_exist(root + one)]
    if not folders:
        return None
    return [one for one in types if "/" not in one and not any(_may_exist(f"{root}{folder}/{one}") for folder in folders)]


def _may_exist(path: str) -> bool:
    """False when it is not there; true also when that may not be seen."""
    try:
        os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return True


def subnet_env(content: str) -> dict[str, Any] | None:
    """What flannel leased: ``{network, subnet, mtu}``."""
    values = dict(line.split("=", 1) for line in content.splitlines() if "=" in line)
    if "FLANNEL_SUBNET" not in values:
        return None
    mtu = procfs.decimal(values.get("FLANNEL_MTU", ""))
    return {"network": values.get("FLANNEL_NETWORK"), "subnet": values["FLANNEL_SUBNET"], "mtu": mtu}


def _ask(section: Section, kubelet: dict[str, Any], seconds: float) -> list[dict[str, Any]]:
    """Ask each of the cluster's name servers for the API's name, as every pod does."""
    servers = kubelet["cluster_dns"]
    if not servers:
        section.gap("kubernetes.dns", f"the kubelet's configuration {kubelet['config']} names no cluster DNS")
    name = f"kubernetes.default.svc.{kubelet['cluster_domain'].strip('.')}."
    found = []
    for server in servers:
        kind = "AAAA" if ":" in server else "A"
        try:
            answer = dns.ask(server, name, kind, seconds / len(servers))
        except dns.Unaskable as error:
            section.gap("kubernetes.dns", str(error))
            break
        told = {"status": answer.status, "answers": sorted(answer.answers), "ms": answer.ms, "detail": answer.detail}
        found.append({"server": server, "name": name, "type": kind, **told})
    return found
