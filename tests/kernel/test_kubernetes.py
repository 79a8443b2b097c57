# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A node's name servers of the cluster, asked for real: one answers, the port of one is dropped, at one nothing listens."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.kernel.conftest import Namespace
from tests.unit.test_kubernetes import CALICO, FLANNEL, KUBELET, Node

pytestmark = pytest.mark.kernel

#: Answers each question for an address with 10.96.0.1 (RFC 1035).
COREDNS = """
import socket
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(("10.96.0.10", 53))
print("ready", flush=True)
while True:
    question, client = server.recvfrom(4096)
    record = b"\\xc0\\x0c" + question[-4:] + b"\\0\\0\\0\\x1e\\0\\x04" + bytes([10, 96, 0, 1])
    server.sendto(question[:2] + b"\\x85\\x80" + question[4:6] + b"\\0\\1\\0\\0\\0\\0" + question[12:] + record, client)
"""
READ = """
import json, sys
from ansible_collections.netops.fleet.plugins.module_utils._diagnosis import kubernetes as judged
from ansible_collections.netops.fleet.plugins.module_utils._diagnosis.facts import Facts
from ansible_collections.netops.fleet.plugins.module_utils._evidence import kubernetes
data = kubernetes.read(1.0, sys.argv[1]).data
found = judged.find(Facts({"sections": {"kubernetes": data}, "host": {}}))
print(json.dumps({"dns": data["dns"], "found": [[one.id, one.severity, one.subject] for one in found]}))
"""


def test_name_servers_of_the_cluster_are_asked(pair: tuple[Namespace, Namespace], tmp_path: Path) -> None:
    node, other = pair
    for address in ("10.96.0.10", "10.96.0.11", "10.96.0.12"):
        other.run(["ip", "addr", "add", f"{address}/32", "dev", "lo"])
    node.run(["ip", "route", "add", "10.96.0.0/24", "via", "10.77.0.2"])
    other.run(
        ["nft", "-f", "-"],
        input="add table ip t\nadd chain ip t i { type filter hook input priority 0; }\n"
        "add rule ip t i ip daddr 10.96.0.11 udp dport 53 counter drop\n",
    )
    other.start_python(COREDNS)
    files = Node(tmp_path, CALICO, "calico-node")
    files.write(
        "var/lib/kubelet/config.yaml", KUBELET.replace("- fd00:10:96::a   # the second family", "- 10.96.0.11\n- 10.96.0.12")
    )
    told = node.python_json(READ, str(tmp_path))
    assert [(one["server"], one["status"], one["answers"]) for one in told["dns"]] == [
        ("10.96.0.10", "ok", ["10.96.0.1"]),
        ("10.96.0.11", "timeout", []),
        ("10.96.0.12", "unreachable", []),
    ]
    assert told["found"] == [["cluster-dns-dead", "warning", "10.96.0.11"], ["cluster-dns-dead", "warning", "10.96.0.12"]]
    assert "counter packets 0 " not in other.run(["nft", "list", "table", "ip", "t"]).stdout


#: Reads as nobody, who may not read what is root's alone. What the code loads is loaded before.
READ_AS_NOBODY = """
import json, os, sys
from ansible_collections.netops.fleet.plugins.module_utils._diagnosis import kubernetes as judged
from ansible_collections.netops.fleet.plugins.module_utils._diagnosis.facts import Facts
from ansible_collections.netops.fleet.plugins.module_utils._evidence import kubernetes
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
section = kubernetes.read(0.2, sys.argv[1])
found = judged.find(Facts({"sections": {"kubernetes": section.data}, "host": {}}))
cni = section.data["cni"]
print(json.dumps({
    "found": [one.id for one in found if one.id.startswith("cni-")],
    "gaps": [gap.why for gap in section.gaps],
    "errors": [one["error"] for one in cni["files"]],
    "used": cni["used"],
    "missing": cni["missing"],
}))
"""
CONFLIST = "etc/cni/net.d/10-network.conflist"


@pytest.fixture
def files() -> Iterator[Node]:
    with TemporaryDirectory() as folder:  # pytest's own lies below folders that are root's alone
        os.chmod(folder, 0o755)
        yield Node(Path(folder), FLANNEL, "flanneld", programs=("flannel", "portmap"))


@pytest.mark.parametrize(("locked", "mode"), [(CONFLIST, 0o600), ("etc/cni/net.d", 0o700), ("etc/cni", 0o700)])
def test_a_configuration_that_may_not_be_read_is_not_missing(
    pair: tuple[Namespace, Namespace], files: Node, locked: str, mode: int
) -> None:
    node = pair[0]
    (files.root / locked).chmod(mode)
    told = node.python_json(READ_AS_NOBODY, str(files.root))
    assert told["found"] == [] and told["used"] is None
    assert [one for one in told["gaps"] if "cni" in one and "permission denied" in one]
    # A file that is broken, and may be read, is told from it.
    assert told["errors"] == (["cannot be read: permission denied"] if locked == CONFLIST else [])
    (files.root / locked).chmod(0o755)
    files.write(CONFLIST, "{")
    told = node.python_json(READ_AS_NOBODY, str(files.root))
    assert told["found"] == ["cni-not-configured"] and told["errors"][0].startswith("is not JSON")


def test_what_the_runtime_takes_is_not_guessed_behind_a_file_that_may_not_be_read(
    pair: tuple[Namespace, Namespace], files: Node
) -> None:
    files.write("etc/cni/net.d/20-other.conflist", json.dumps(CALICO))
    (files.root / CONFLIST).chmod(0o600)
    told = pair[0].python_json(READ_AS_NOBODY, str(files.root))
    assert (told["used"], told["found"]) == (None, [])


@pytest.mark.parametrize("locked", ["opt/cni/bin", "opt/cni", "opt"])
def test_a_program_in_a_folder_that_may_not_be_searched_is_not_missing(
    pair: tuple[Namespace, Namespace], files: Node, locked: str
) -> None:
    (files.root / locked).chmod(0o700)
    told = pair[0].python_json(READ_AS_NOBODY, str(files.root))
    assert (told["used"], told["missing"], told["found"]) == ("10-network.conflist", [], [])
