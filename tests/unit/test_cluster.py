# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Network policies in a diagnosis: an API server on this machine, the playbook as people run it, the report.

``kubernetes.core`` is no requirement. Its module is stood in for by a few lines that send the same requests; with
KUBERNETES_CORE=<collections folder> and KUBERNETES_PYTHON=<interpreter with kubernetes> the tests go through the real one.
"""

from __future__ import annotations

import http.server
import json
import os
import stat
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.netops.fleet.plugins.plugin_utils._fleet import cluster, report, store
from tests.unit import evidence_samples as samples
from tests.unit.test_fleet_playbooks import ROOT, Canned, by_name, latest
from tests.unit.test_network_policy import CLIENT, MODEL, item, policy

STAND_IN = r"""
import json, urllib.error, urllib.request
from ansible.module_utils.basic import AnsibleModule
module = AnsibleModule({name: {"type": "str"} for name in ("kind", "api_version", "kubeconfig", "context")})
config = json.load(open(module.params["kubeconfig"]))
version = module.params["api_version"]
base = config["clusters"][0]["cluster"]["server"] + ("/api/" if "/" not in version else "/apis/") + version
def get(path):
    try:
        return json.load(urllib.request.urlopen(base + path))
    except urllib.error.HTTPError as error:
        if error.code == 404:
            module.exit_json(changed=False, resources=[], api_found=False)
        module.fail_json(msg="Failed to retrieve requested object: " + error.read().decode())
    except OSError as error:
        module.fail_json(msg=str(error))
kinds = {one["kind"]: one["name"] for one in get("")["resources"]}
if module.params["kind"] not in kinds:
    module.exit_json(changed=False, resources=[], api_found=False)
module.exit_json(changed=False, api_found=True, resources=get("/" + kinds[module.params["kind"]])["items"])
"""
SECRET = "s3cr3t-token"
NODES = [
    {"metadata": {"name": "gpu-01"}, "status": {"addresses": [{"type": "InternalIP", "address": "192.0.2.201"}]}},
    {"metadata": {"name": "gpu-02"}, "status": {"addresses": [{"type": "InternalIP", "address": "192.0.2.202"}]}},
]
NAMESPACES = [{"metadata": {"name": name, "labels": {"kubernetes.io/metadata.name": name}}} for name in ("ml", "ops")]


class Api:
    """The read side of a kube-apiserver: discovery and lists."""

    def __init__(self) -> None:
        self.groups: dict[str, dict[str, tuple[str, list[dict[str, Any]]]]] = {
            "v1": {"pods": ("Pod", []), "namespaces": ("Namespace", NAMESPACES), "nodes": ("Node", NODES)},
            "networking.k8s.io/v1": {"networkpolicies": ("NetworkPolicy", [])},
        }
        self.forbidden: set[str] = set()
        api = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                code, body = api.answer(self.path.split("?")[0])
                data = json.dumps(body).encode()
                self.send_response(code)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_arguments: Any) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()

    def put(self, pods: list[dict[str, Any]], policies: list[dict[str, Any]]) -> None:
        self.groups["v1"]["pods"][1].extend(pods)
        self.groups["networking.k8s.io/v1"]["networkpolicies"][1].extend(policies)

    def answer(self, path: str) -> tuple[int, dict[str, Any]]:
        named = sorted({name.split("/")[0]: name for name in self.groups if "/" in name}.items())
        if path == "/version":
            return 200, {"major": "1", "minor": "33", "gitVersion": "v1.33.0"}
        if path == "/api":
            return 200, {"kind": "APIVersions", "versions": ["v1"]}
        if path == "/apis":
            groups = []
            for name, full in named:
                one = {"groupVersion": full, "version": full.split("/")[1]}
                groups.append({"name": name, "versions": [one], "preferredVersion": one})
            return 200, {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}
        for version, kinds in self.groups.items():
            base = f"/{'apis' if '/' in version else 'api'}/{version}"
            if path == base:
                listed = [
                    {"name": name, "singularName": "", "namespaced": name != "nodes", "kind": kind, "verbs": ["get", "list"]}
                    for name, (kind, _items) in kinds.items()
                ]
                return 200, {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": version, "resources": listed}
            name = path[len(base) + 1 :]
            if path.startswith(base + "/") and name in self.forbidden:
                return 403, {"kind": "Status", "status": "Failure", "reason": "Forbidden", "code": 403, "message": f"no {name}"}
            if path.startswith(base + "/") and name in kinds:
                kind, items = kinds[name]
                full = [{"apiVersion": version, "kind": kind, **one} for one in items]
                return 200, {"kind": f"{kind}List", "apiVersion": version, "metadata": {}, "items": full}
        return 404, {"kind": "Status", "status": "Failure", "reason": "NotFound", "code": 404, "message": "not found"}

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture
def api() -> Iterator[Api]:
    one = Api()
    yield one
    one.close()


@pytest.fixture
def fleet(tmp_path: Path) -> Canned:
    canned = Canned(tmp_path)
    for number in (1, 2):
        evidence = samples.host(number)
        evidence["host"]["hostname"] = f"gpu-0{number}"
        canned.evidence(f"gpu-0{number}", samples.sealed(evidence))
    return canned


def ask(fleet: Canned, api: Api, *options: str, core: bool = True) -> Any:
    """The report of a run about pods."""
    config = fleet.folder / "kubeconfig"
    config.write_text(
        json.dumps(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "current-context": "c",
                "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{api.server.server_address[1]}"}}],
                "users": [{"name": "u", "user": {"token": SECRET}}],
                "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
            }
        )
    )
    paths = [str(ROOT / ".collections")]
    if core and os.environ.get("KUBERNETES_CORE"):
        paths.append(os.environ["KUBERNETES_CORE"])
    elif core:
        stand_in = fleet.folder / "more" / "ansible_collections" / "kubernetes" / "core" / "plugins" / "modules"
        stand_in.mkdir(parents=True, exist_ok=True)
        (stand_in / "k8s_info.py").write_text(STAND_IN)
        paths.append(str(fleet.folder / "more"))
    python = os.environ.get("KUBERNETES_PYTHON", sys.executable)
    given = [f"diagnose_kubeconfig={config}", f"ansible_python_interpreter={python}", *options]
    words = [part for one in given for part in ("-e", one)]
    done = fleet.diagnose(*words, ANSIBLE_COLLECTIONS_PATH=":".join(paths))
    assert done.returncode == 0, done.stdout + done.stderr
    written = "".join(path.read_text(errors="replace") for path in (fleet.output / "latest").iterdir() if path.suffix != ".gz")
    assert SECRET not in done.stdout + done.stderr + written
    return latest(fleet.output)


PODS = ("diagnose_symptom=pods", "diagnose_pod=ml/model-0/tcp/8000", "diagnose_from_pod=ml/client")


def hits(found: Any) -> dict[str, list[dict[str, Any]]]:
    return {
        name: [one for one in host["findings"] if one["id"] == "network-policy-denies"] for name, host in by_name(found).items()
    }


def test_denied_traffic_is_told_with_the_receiving_node(fleet: Canned, api: Api) -> None:
    secret = item("ml", "model-0", {"app": "model"}, "10.1.0.5", "gpu-01")
    secret["spec"]["containers"][0]["env"] = [{"name": "TOKEN", "value": SECRET}]
    api.put([secret, CLIENT], [policy("ml", "default-deny"), policy("ops", "other")])
    found = ask(fleet, api, *PODS)
    (hit,) = hits(found)["gpu-01"]
    assert hits(found)["gpu-02"] == []
    assert (hit["grade"], hit["severity"], hit["subject"]) == ("likely", "critical", "NetworkPolicy ml/default-deny")
    assert hit["data"]["direction"] == "Ingress"
    assert "ml/default-deny: no ingress rule at all" in hit["evidence"]
    answer = by_name(found)["gpu-01"]["answer"]
    assert answer["verdict"] == "blocked"
    assert "ml/default-deny" in answer["text"]
    assert stat.S_IMODE((fleet.output / "latest" / "cluster.json").stat().st_mode) == 0o600
    assert "network-policy-denies" in (fleet.output / "latest" / "report.html").read_text()
    # The policy that is printed, put into the cluster, is the way in.
    printed = json.loads(next(line for line in hit["fix"] if line.startswith("# {"))[2:])
    api.put([], [printed])
    found = ask(fleet, api, *PODS)
    assert hits(found) == {"gpu-01": [], "gpu-02": []}
    (step,) = (one for one in by_name(found)["gpu-01"]["answer"]["steps"] if one["step"] == "network policies")
    assert step["result"] == "ok"


def test_where_flannel_alone_is_the_network_a_policy_is_a_note(fleet: Canned, api: Api) -> None:
    evidence = samples.host(1)
    evidence["host"]["hostname"] = "gpu-01"
    evidence["sections"]["kubernetes"] = {**(evidence["sections"].get("kubernetes") or {}), "network": "flannel"}
    fleet.evidence("gpu-01", samples.sealed(evidence))
    api.put([item("ml", "model-0", {"app": "model"}, "10.1.0.5", "gpu-01"), CLIENT], [policy("ml", "default-deny")])
    (hit,) = hits(ask(fleet, api, *PODS))["gpu-01"]
    assert (hit["grade"], hit["severity"]) == ("likely", "info")
    assert any("flannel alone enforces no NetworkPolicy" in line for line in hit["evidence"])


@pytest.mark.parametrize("core", [True, False], ids=["api refuses", "collection missing"])
def test_what_cannot_be_read_is_a_gap(fleet: Canned, api: Api, core: bool) -> None:
    api.put([MODEL, CLIENT], [policy("ml", "default-deny")])
    api.forbidden = {"networkpolicies"}
    found = ask(fleet, api, *PODS, core=core)
    assert hits(found) == {"gpu-01": [], "gpu-02": []}
    (note,) = (one for one in found["notes"] if one.startswith("network policies"))
    assert ("could not be listed" if core else "ansible-galaxy collection install kubernetes.core") in note
    (step,) = (one for one in by_name(found)["gpu-01"]["answer"]["steps"] if one["step"] == "network policies")
    assert step["result"] == "unknown"


def test_namespaces_that_may_not_be_listed_and_other_kinds(fleet: Canned, api: Api) -> None:
    api.put([MODEL, CLIENT], [policy("ml", "p", ingress=[{"from": [{"namespaceSelector": {"matchLabels": {"team": "x"}}}]}])])
    api.forbidden = {"namespaces"}
    api.groups["policy.networking.k8s.io/v1alpha1"] = {"adminnetworkpolicies": ("AdminNetworkPolicy", [policy("", "a")])}
    found = ask(fleet, api, *PODS)
    assert hits(found) == {"gpu-01": [], "gpu-02": []}, "the namespace's labels decide, and are not known"
    assert any("Namespace" in one for one in found["notes"])
    assert any("AdminNetworkPolicy" in one and "not judged" in one for one in found["notes"])


def test_a_target_that_is_a_pod_is_asked_about_for_each_host() -> None:
    pod = item("ml", "model-0", {"app": "model"}, "10.1.0.5", "gpu-01")
    lists = {"NetworkPolicy": [policy("ml", "deny")], "Pod": [pod], "Namespace": NAMESPACES, "Node": NODES}
    kept = cluster.read(lambda version, kind: lists.get(kind) if version in ("v1", "networking.k8s.io/v1") else None)
    asked = {"proto": "tcp", "port": 8000, "address": "10.1.0.5"}
    one = cluster.Cluster(kept, asked, {})
    hosts = {f"gpu-0{number}": samples.host(number) for number in (1, 2, 3)}
    for host, evidence in hosts.items():
        evidence.update(target=asked, findings=[], answer=None)
        one.count(host, evidence)
    assert one.findings("gpu-01", hosts["gpu-01"]) == [], "its own node may"
    assert [hit.grade for hit in one.findings("gpu-02", hosts["gpu-02"])] == ["likely"]
    hosts["gpu-02"]["findings"] = [{"id": "target-unreachable"}]
    assert [hit.grade for hit in one.findings("gpu-02", hosts["gpu-02"])] == ["proven"], "and the host gets no answer"
    hosts["gpu-03"]["answer"] = {"verdict": "open"}
    hosts["gpu-03"]["sections"]["probes"] = [{"kind": "udp", "target": "10.1.0.5:8000", "status": "no_answer"}]
    assert [hit.grade for hit in one.findings("gpu-03", hosts["gpu-03"])] == ["likely"], "silence is no answer"
    hosts["gpu-03"]["sections"]["probes"] = [{"kind": "tcp", "target": "10.1.0.5:8000", "status": "ok"}]
    assert one.findings("gpu-03", hosts["gpu-03"]) == [], "it connects: nobody enforces this"


def test_pods_that_are_not_there_or_have_finished() -> None:
    done = item("ml", "job", {}, "10.1.0.9")
    done["status"]["phase"] = "Succeeded"
    lists = {"NetworkPolicy": [policy("ml", "deny")], "Pod": [done], "Namespace": [], "Node": []}
    kept = cluster.read(lambda version, kind: lists.get(kind) if version in ("v1", "networking.k8s.io/v1") else None)
    for wanted, said in (("ml/job/tcp/1", "has finished"), ("ml/none/tcp/1", "no such pod"), ("", "no traffic was asked about")):
        one = cluster.Cluster(kept, None, {"pod": wanted})
        assert said in one.notes()[0]
        coverage = one.coverage()
        assert coverage is not None and coverage["status"] == "failed"


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("ml/a/tcp/8000", ("ml", "a", "tcp", 8000)),
        ("ml/a", None),
        ("ml/a/icmp/1", None),
        ("ml/a/tcp/0", None),
        ("ml/a/udp/65536", None),
        ("../a/tcp/1", None),
    ],
)
def test_how_a_pod_is_written(text: str, parts: Any) -> None:
    assert cluster.pod_port(text) == parts


def test_a_cluster_file_that_is_none_is_told(tmp_path: Path) -> None:
    samples.run(tmp_path, {"gpu-01": samples.host(1)})
    (tmp_path / store.CLUSTER).write_text("[]")
    with pytest.raises(store.StoreError, match=r"cluster\.json"):
        report.build(store.read_run(str(tmp_path)))
