# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A node's name servers of the cluster, asked for real: one answers, the port of one is dropped, at one nothing listens."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kernel.conftest import Namespace
from tests.unit.test_kubernetes import CALICO, KUBELET, Node

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
