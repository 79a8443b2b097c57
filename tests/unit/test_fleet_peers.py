# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts compared with their peers: what is said, on how many of how many, and what is not said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.netops.fleet.plugins.module_utils._diagnosis.judge import judge
from ansible_collections.netops.fleet.plugins.plugin_utils._fleet import peers, report
from tests.unit import evidence_samples as samples
from tests.unit.hosts import listener


def build(folder: Path, evidence: dict[str, dict[str, Any]], **more: Any) -> dict[str, dict[str, Any]]:
    min_peers, judging = more.pop("min_peers", 3), more.pop("judge", None)
    built = report.build(samples.run(folder, evidence, **more), min_peers, judging)
    text = json.loads(Path(built.json).read_text(encoding="utf-8"))
    return {one["name"]: one for one in text["hosts"]}


def sealed(fleet: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {name: samples.sealed(one) for name, one in fleet.items()}


def ids(host: dict[str, Any]) -> list[tuple[str, str, str]]:
    return [(one["id"], one["severity"], one["grade"]) for one in host["findings"]]


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_healthy_hosts_have_no_finding(tmp_path: Path, count: int) -> None:
    hosts = build(tmp_path, sealed(samples.fleet(count)))
    assert all(one["findings"] == [] for one in hosts.values())
    assert ("no peer evidence" in hosts["gpu-01"]["peers"]["note"]) == (count < 3)


def _workload(number: int) -> list[dict[str, Any]]:
    """Rules as programs write them for what happens to run, or to be banned, on a host."""
    texts = {
        (
            "docker",
            "nat",
            "DOCKER",
        ): f"-A DOCKER ! -i docker0 -p tcp --dport {8000 + number} -j DNAT --to-destination 172.17.0.2:80",
        ("fail2ban", "filter", "f2b-sshd"): f"-A f2b-sshd -s 203.0.113.{number}/32 -j REJECT",
        ("calico", "filter", f"cali-tw-cali{number:011x}"): f"-A cali-tw-cali{number:011x} -j DROP",
        (
            "kube-proxy",
            "nat",
            f"KUBE-SEP-{number:016X}",
        ): f"-A KUBE-SEP-{number:016X} -j DNAT --to-destination 10.244.{number}.5:80",
    }
    base = {"backend": "iptables-nft", "family": "ip", "line": 1, "parts": []}
    return [
        {**base, "owner": owner, "table": table, "chain": chain, "text": text} for (owner, table, chain), text in texts.items()
    ]


def test_rules_that_follow_the_workload_are_no_difference(tmp_path: Path) -> None:
    chain = {"backend": "iptables-nft", "family": "ip", "table": "filter", "name": "INPUT", "hook": "input", "priority": 0}
    fleet = {}
    for number in range(1, 7):
        firewall = {"backends": [{"name": "nft", "status": "ok"}], "chains": [chain], "rules": _workload(number), "sets": []}
        fleet[f"gpu-{number:02d}"] = samples.host(number, firewall=firewall)
    assert all(ids(host) == [] for host in build(tmp_path, sealed(fleet)).values())


def test_a_rule_that_the_operator_put_among_them_is_one(tmp_path: Path) -> None:
    chain = {"backend": "iptables-nft", "family": "ip", "table": "filter", "name": "INPUT", "hook": "input", "priority": 0}
    fleet = {}
    for number in range(1, 7):
        rules = _workload(number)
        if number == 3:
            rules.append(
                {**rules[0], "table": "filter", "chain": "DOCKER-USER", "text": "-A DOCKER-USER -p tcp --dport 99 -j DROP"}
            )
        firewall = {"backends": [{"name": "nft", "status": "ok"}], "chains": [chain], "rules": rules, "sets": []}
        fleet[f"gpu-{number:02d}"] = samples.host(number, firewall=firewall)
    found = {name: ids(host) for name, host in build(tmp_path, sealed(fleet)).items() if ids(host)}
    assert [(name, [one[0] for one in some]) for name, some in found.items()] == [("gpu-03", ["rule-differs"])]


def test_a_fault_of_all_is_no_difference(tmp_path: Path) -> None:
    fleet = samples.fleet()
    for one in fleet.values():
        one["sections"]["firewall"] = samples.drop_rule()
    for one in build(tmp_path, sealed(fleet)).values():
        assert ids(one) == [("firewall-drops-target", "critical", "proven")]
        assert (
            "peers: on 6 of 6 hosts of gpu-nodes: rule nft inet lab input | tcp dport 1678 drop" in one["findings"][0]["evidence"]
        )


def test_the_broken_fleet(tmp_path: Path) -> None:
    hosts = build(tmp_path, samples.broken_fleet())
    assert ids(hosts["gpu-01"]) == ids(hosts["gpu-04"]) == []
    rule = hosts["gpu-02"]["findings"]
    assert [one["id"] for one in rule] == ["firewall-drops-target"], "the extra rule and chain are told once"
    assert any("on 1 of 6 hosts of gpu-nodes: rule nft inet lab" in line for line in rule[0]["evidence"])
    assert any("3 of 3 peers get no answer" in line for line in rule[0]["evidence"])
    assert ids(hosts["gpu-03"]) == [("bpf-program-foreign", "critical", "likely"), ("bpf-program-foreign", "info", "different")]
    assert (
        "4 programs" in hosts["gpu-03"]["findings"][1]["summary"] and "none can drop" in hosts["gpu-03"]["findings"][1]["summary"]
    )
    program = hosts["gpu-03"]["findings"][0]
    assert any(line.startswith("consequence: 3 of 3 peers get no answer") for line in program["evidence"])
    assert program["subject"] == "BPF program tcx ingress eth0 sched_cls drop_syn 5a1f000000000003"
    assert "on 1 of 6 hosts of gpu-nodes; owner netsec-agent (pid 977, netsec-agent.service)" in program["summary"]
    assert program["fix"] == ["systemctl stop netsec-agent.service", "# or: bpftool link detach id 73"]
    assert program["data"]["link_id"] == 73
    assert hosts["gpu-03"]["answer"]["verdict"] == "blocked"
    assert ids(hosts["gpu-05"]) == [("port-listens-elsewhere", "critical", "proven")]
    assert ids(hosts["gpu-06"]) == [("sysctl-differs", "warning", "different")]
    assert hosts["gpu-06"]["findings"][0]["fix"] == ["sysctl -w net.core.somaxconn=4096"]
    assert hosts["gpu-06"]["answer"]["verdict"] == "open"


def test_a_program_without_any_failure_is_only_different(tmp_path: Path) -> None:
    fleet = samples.fleet(4)
    fleet["gpu-04"]["sections"]["hooks"] = [samples.hook("watch", can_drop="unknown")]
    assert ids(build(tmp_path, sealed(fleet))["gpu-04"]) == [("bpf-program-foreign", "warning", "different")]


def test_what_a_peer_says_does_not_become_a_command(tmp_path: Path) -> None:
    fleet = samples.fleet(4)
    for number in (1, 2, 3):
        fleet[f"gpu-{number:02d}"]["sections"]["sysctls"]["net.core.somaxconn"] = "1; rm -rf /"
    fix = build(tmp_path, sealed(fleet))["gpu-04"]["findings"][0]["fix"]
    assert fix == ["sysctl -w 'net.core.somaxconn=1; rm -rf /'"]


def test_a_section_that_was_not_read_shows_nothing_missing(tmp_path: Path) -> None:
    fleet = samples.fleet(5)
    for one in fleet.values():
        one["sections"]["hooks"] = [samples.hook("cil_from_netdev")]
    for name, status in (("gpu-04", "failed"), ("gpu-05", "partial")):
        fleet[name]["sections"]["hooks"] = None if status == "failed" else []
        entry = next(entry for entry in fleet[name]["coverage"] if entry["section"] == "hooks")
        entry.update(status=status, gaps=[{"what": "hooks.tcx", "why": "not permitted"}])
    hosts = build(tmp_path, sealed(fleet))
    assert hosts["gpu-04"]["findings"] == hosts["gpu-05"]["findings"] == []
    assert hosts["gpu-04"]["checks"]["hooks"]["state"] == "unchecked"
    assert hosts["gpu-05"]["checks"]["hooks"]["state"] == "partial"


def test_missing_where_most_have_it(tmp_path: Path) -> None:
    fleet = samples.fleet(4)
    for number in (1, 2, 3):
        fleet[f"gpu-{number:02d}"]["sections"]["sockets"]["listeners"].append(listener(port=9100, process="exporter"))
    hosts = build(tmp_path, sealed(fleet))
    assert ids(hosts["gpu-04"]) == [("object-differs", "info", "different")]
    assert "listener tcp/9100: missing here, 3 of 4 hosts of gpu-nodes have it" in hosts["gpu-04"]["findings"][0]["summary"]


@pytest.mark.parametrize(("odd", "found"), [(1, True), (2, True), (3, False)])
def test_a_third_is_the_limit(tmp_path: Path, odd: int, found: bool) -> None:
    fleet = samples.fleet(6)
    for number in range(1, odd + 1):
        fleet[f"gpu-{number:02d}"]["sections"]["sysctls"]["net.core.somaxconn"] = "2048"
    hosts = build(tmp_path, sealed(fleet))
    assert bool(hosts["gpu-01"]["findings"]) is found
    assert hosts["gpu-06"]["findings"] == []


def test_the_smallest_group_that_is_large_enough(tmp_path: Path) -> None:
    fleet = samples.fleet(8)
    groups = {
        name: ["gpu-nodes", "rack-a" if number < 3 else "rack-b" if number < 5 else "rack-c"] for number, name in enumerate(fleet)
    }
    for number in range(6, 9):  # the racks' own setting is no deviation inside the rack
        fleet[f"gpu-{number:02d}"]["sections"]["sysctls"]["net.core.somaxconn"] = "2048"
    hosts = build(tmp_path, sealed(fleet), groups=groups)
    assert {name: one["peers"]["group"] for name, one in hosts.items()} == {
        **{f"gpu-{number:02d}": "rack-a" for number in (1, 2, 3)},
        **{f"gpu-{number:02d}": "gpu-nodes" for number in (4, 5)},
        **{f"gpu-{number:02d}": "rack-c" for number in (6, 7, 8)},
    }
    assert all(one["findings"] == [] for one in hosts.values())


def test_hosts_without_a_group_are_compared_with_each_other(tmp_path: Path) -> None:
    fleet = samples.fleet(3)
    hosts = build(tmp_path, sealed(fleet), groups={name: [] for name in fleet})
    assert hosts["gpu-01"]["peers"]["group"] == "ungrouped"


def test_hosts_that_did_not_answer_are_not_peers(tmp_path: Path) -> None:
    hosts = build(tmp_path, sealed(samples.fleet(2)), other={"gpu-03": ("unreachable", "no route"), "gpu-04": ("no answer", "")})
    assert "no peer evidence" in hosts["gpu-01"]["peers"]["note"]
    assert hosts["gpu-03"]["status"] == "unreachable"
    assert hosts["gpu-04"]["status"] == "no answer"


@pytest.mark.parametrize(
    ("clock", "found"), [((5.2, 6.0), True), ((-9.0, -5.1), True), ((-6.0, 6.0), False), ((4.0, 9.0), False)]
)
def test_a_clock_that_is_off_for_certain(tmp_path: Path, clock: tuple[float, float], found: bool) -> None:
    run = samples.run(tmp_path, {"gpu-01": samples.sealed(samples.host(1))})
    samples.put(tmp_path, "gpu-01", samples.packed(samples.sealed(samples.host(1))), clock=clock)
    built = report.build(run)
    told = json.loads(Path(built.json).read_text(encoding="utf-8"))["hosts"][0]["findings"]
    assert [one["id"] for one in told] == (["clock-offset"] if found else [])


def test_findings_are_judged_again(tmp_path: Path) -> None:
    fleet = samples.broken_fleet()
    for one in fleet.values():
        one["findings"], one["answer"] = [], None
    hosts = build(tmp_path, fleet, judge=judge)
    assert hosts["gpu-02"]["answer"]["verdict"] == "blocked"
    assert hosts["gpu-05"]["findings"][0]["id"] == "port-listens-elsewhere"


def test_a_judge_that_fails_takes_one_host_out(tmp_path: Path) -> None:
    fleet = sealed(samples.fleet(3))
    fleet["gpu-02"]["sections"]["sockets"] = {"listeners": [{"proto": "tcp"}]}
    hosts = build(tmp_path, fleet, judge=judge)
    assert hosts["gpu-02"]["status"] == "invalid"
    assert "could not be judged" in hosts["gpu-02"]["reason"]
    assert hosts["gpu-01"]["status"] == "ok"


def test_memory_follows_what_is_different() -> None:
    names = {f"h{number}": ["all-alike"] for number in range(300)}
    evidence = {"objects": {f"sysctl s{number}": "1" for number in range(500)}, "coverage": []}
    comparison = peers.Comparison(names, set(names))
    for name in names:
        comparison.count(name, evidence)
    assert comparison._entries == 500


def test_the_bound_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "MAX_ENTRIES", 10)
    names = {f"h{number}": ["g"] for number in range(4)}
    comparison = peers.Comparison(names, set(names))
    for name in names:
        comparison.count(name, {"objects": {f"sysctl {name}.{number}": "1" for number in range(5)}, "coverage": []})
    assert comparison.full
    assert "only the first 10 different objects" in comparison.note("h0")


def test_the_report_is_the_same_twice(tmp_path: Path) -> None:
    run = samples.run(tmp_path, samples.broken_fleet(), {"gpu-09": ("timeout", "")})
    first = Path(report.build(run).json).read_bytes()
    assert Path(report.build(run).json).read_bytes() == first


def test_an_extra_rule_comes_with_the_command_that_removes_it(tmp_path: Path) -> None:
    fleet = samples.fleet(4)
    fleet["gpu-04"]["sections"]["firewall"] = samples.drop_rule()
    for one in fleet.values():
        one["target"] = None  # nobody asks about the port: the rule is only unlike the peers
    told = build(tmp_path, sealed(fleet), target=None)["gpu-04"]["findings"]
    assert [one["id"] for one in told] == ["rule-differs"]
    assert told[0]["fix"] == ["# only if the peers are right:", "nft delete rule inet lab input handle 11"]
