# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Both ends of a pair, each read in its own namespace, joined with the connection that the sender really makes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.kernel.conftest import Namespace
from tests.unit import evidence_samples as samples
from tests.unit.test_fleet_peers import build

pytestmark = pytest.mark.kernel

_SERVER = """
import socket
server = socket.create_server(("::", 1678), family=socket.AF_INET6, dualstack_ipv6=True, backlog=16)
print("ready", flush=True)
while True:
    server.accept()[0].close()
"""
_COLLECT = """
import json, sys
from ansible_collections.netops.fleet.plugins.module_utils._diagnosis import collect
role, peer, address = sys.argv[1:4]
params = {name: spec.get("default") for name, spec in collect.ARGUMENTS.items()}
params.update(target="tcp/1678", window=0, probe_timeout=0.7, peers=[{"host": peer, "address": address}], pair=role)
print(json.dumps(collect.collect(collect.Options.from_params(params))))
"""
_NFT = ["nft", "-f", "-"]
_DROP = "table inet f {{ chain c {{ type filter hook {} priority 0; tcp dport 1678 drop\n}}\n}}\n"


def told(pair: tuple[Namespace, Namespace], folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The two hosts of report.json: (sender, receiver)."""
    left, right = pair
    right.start_python(_SERVER)
    evidence = {
        "gpu-03": left.python_json(_COLLECT, "sender", "gpu-05", "10.77.0.2"),
        "gpu-05": right.python_json(_COLLECT, "receiver", "gpu-03", "10.77.0.1"),
    }
    tried = {name: {one["kind"] for one in said["sections"].get("probes") or []} for name, said in evidence.items()}
    assert "tcp" in tried["gpu-03"] and "tcp" not in tried["gpu-05"]
    assert evidence["gpu-05"]["target"] == samples.TARGET
    hosts = build(folder, evidence)
    return hosts["gpu-03"], hosts["gpu-05"]


def step(host: dict[str, Any]) -> tuple[str, str]:
    (found,) = [one for one in host["answer"]["steps"] if one["step"] == "pair"]
    return found["result"], found["detail"]


def test_walks_and_probe_agree_that_it_passes(pair: Any, tmp_path: Path) -> None:
    _sender, receiver = told(pair, tmp_path)
    assert step(receiver) == ("ok", "gpu-03 → 10.77.0.2: both ends let it pass, and the probe agrees: ok")
    assert not [one for one in receiver["findings"] if one["id"] in ("peer-cannot-connect", "walk-probe-disagree")]


def test_a_rule_of_the_receiver_and_the_probe_agree(pair: Any, tmp_path: Path) -> None:
    pair[1].run(_NFT, input=_DROP.format("input"))
    _sender, receiver = told(pair, tmp_path)
    result, detail = step(receiver)
    assert result == "bad" and "nft inet f c handle" in detail and "the probe agrees: timeout" in detail
    assert receiver["answer"]["verdict"] == "blocked"
    assert not [one for one in receiver["findings"] if one["id"] in ("peer-cannot-connect", "walk-probe-disagree")]


def test_a_rule_of_the_sender_is_named_on_both_hosts(pair: Any, tmp_path: Path) -> None:
    pair[0].run(_NFT, input=_DROP.format("output"))
    sender, receiver = told(pair, tmp_path)
    result, detail = step(receiver)
    assert result == "bad" and "nft inet f c handle" in detail and "on gpu-03 drops it" in detail
    assert receiver["answer"]["verdict"] == "blocked"
    found = next(one for one in sender["findings"] if one["id"] == "firewall-drops-target")
    assert found["grade"] == "proven" and "gpu-05 (10.77.0.2)" in found["summary"]
    for line in found["fix"]:
        pair[0].run(["sh", "-c", line])
    again = tmp_path / "again"
    again.mkdir()
    evidence = {
        "gpu-03": pair[0].python_json(_COLLECT, "sender", "gpu-05", "10.77.0.2"),
        "gpu-05": pair[1].python_json(_COLLECT, "receiver", "gpu-03", "10.77.0.1"),
    }
    assert step(build(again, evidence)["gpu-05"])[0] == "ok"


def test_lost_between_the_two_is_a_disagreement_with_both_evidences(pair: Any, tmp_path: Path) -> None:
    pair[0].run(["ip", "neigh", "replace", "10.77.0.2", "lladdr", "02:00:00:00:00:99", "dev", "va", "nud", "permanent"])
    _sender, receiver = told(pair, tmp_path)
    assert step(receiver)[0] == "unknown"
    (found,) = [one for one in receiver["findings"] if one["id"] in ("walk-probe-disagree", "peer-cannot-connect")]
    assert (found["id"], found["grade"], found["severity"]) == ("walk-probe-disagree", "proven", "critical")
    assert found["evidence"] == [
        "walk on gpu-03, to 10.77.0.2: accept", "walk here, to 10.77.0.2: accept", "probe from gpu-03: timeout",
    ]  # fmt: skip


def test_an_answer_in_spite_of_a_dropping_rule_is_a_disagreement(pair: Any, tmp_path: Path) -> None:
    """A proxy beside the sender answers in the receiver's name."""
    pair[1].run(_NFT, input=_DROP.format("input"))
    pair[0].run(_NFT, input="table ip n { chain o { type nat hook output priority -100; tcp dport 1678 redirect\n}\n}\n")
    pair[0].start_python(_SERVER)
    _sender, receiver = told(pair, tmp_path)
    result, detail = step(receiver)
    assert (
        result == "unknown"
        and "on gpu-03 a rule sends it to 127.0.0.1 port 1678 instead" in detail
        and "the probe says ok" in detail
    )
    (found,) = [one for one in receiver["findings"] if one["id"] == "walk-probe-disagree"]
    assert found["severity"] == "warning"
    assert "probe from gpu-03: ok" in found["evidence"] and any("walk here" in line for line in found["evidence"])


def test_a_probe_that_gets_through_settles_what_a_walk_could_not_tell(pair: Any, tmp_path: Path) -> None:
    rule = "table inet f { chain c { type filter hook input priority 0; tcp dport 1678 limit rate over 1000/second drop\n}\n}\n"
    pair[1].run(_NFT, input=rule)
    _sender, receiver = told(pair, tmp_path)
    result, detail = step(receiver)
    assert result == "ok" and "the probe settles it" in detail and "limit rate over 1000/second" in detail
    assert receiver["answer"]["verdict"] == "open"
