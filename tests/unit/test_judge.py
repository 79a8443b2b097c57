# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Findings from evidence: each fault gives its finding and only that; a healthy host gives none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.netops.fleet.plugins.module_utils._diagnosis.judge import judge
from ansible_collections.netops.fleet.plugins.module_utils._diagnosis.objects import objects, without_own
from tests.unit.hosts import healthy, link, listener, match, ruleset

ROOT = Path(__file__).resolve().parents[2]
DROP = {"kind": "drop"}


def sockets(**more: Any) -> dict[str, Any]:
    return {"listeners": [listener()], "states": {"tcp": {}}, "ports": {}, "udp_drops": {}, **more}


def grown(layer: str, counter: str, delta: int) -> dict[str, Any]:
    return {"seconds": 2.0, "reset": False, "layers": {layer: {counter: {"delta": delta, "total": delta + 5}}}}


def lookups(*statuses: str) -> dict[str, Any]:
    made = [
        {"server": f"192.0.2.{50 + n}", "name": ".", "type": "NS", "status": one, "answers": [], "ms": 1}
        for n, one in enumerate(statuses)
    ]
    return {"servers": [one["server"] for one in made], "search": [], "source": "/etc/resolv.conf", "lookups": made}


#: (what is broken, sections, (id, grade, severity, part of the subject or summary))
CASES: list[tuple[str, dict[str, Any], tuple[str, str, str, str]]] = [
    ("nobody listens", {"sockets": sockets(listeners=[])}, ("port-not-listening", "proven", "critical", "tcp/1678")),
    (
        "loopback only",
        {"sockets": sockets(listeners=[listener(address="127.0.0.1", family=4)])},
        ("port-listens-elsewhere", "proven", "critical", "only on loopback"),
    ),
    (
        "IPv4 only",
        {"sockets": sockets(listeners=[listener(address="0.0.0.0", family=4)])},
        ("port-listens-elsewhere", "proven", "warning", "not reachable over IPv6"),
    ),
    (
        "a rule drops",
        {"firewall": ruleset({"parts": [match("tcp dport", 1678)], "verdict": DROP, "text": "tcp dport 1678 drop"})},
        ("firewall-drops-target", "proven", "critical", "nft inet filter input handle 11"),
    ),
    (
        "a policy drops",
        {"firewall": ruleset({"parts": [match("tcp dport", 22)], "verdict": {"kind": "accept"}}, policy="drop")},
        ("firewall-drops-target", "proven", "critical", "policy drop"),
    ),
    (
        "a rule drops IPv6 only",
        {"firewall": ruleset({"parts": [match("meta nfproto", "ipv6"), match("tcp dport", 1678)], "verdict": DROP})},
        ("firewall-drops-target", "proven", "warning", "2001:db8::11"),
    ),
    (
        "a rule drops IPv4 only",
        {"firewall": ruleset({"parts": [match("meta nfproto", "ipv4"), match("tcp dport", 1678)], "verdict": DROP})},
        ("firewall-drops-target", "proven", "critical", "192.0.2.11"),
    ),
    (
        "accept queue full",
        {"sockets": sockets(listeners=[listener(backlog=5, queue=6)])},
        ("accept-queue-overflow", "proven", "critical", "full: 6 wait, backlog 5"),
    ),
    (
        "accept queue overflowed",
        {"drops": grown("tcp", "ListenOverflows", 3)},
        ("accept-queue-overflow", "likely", "warning", "3 times"),
    ),
    (
        "SYN_RECV piles up",
        {"sockets": sockets(ports={"tcp/1678": {"SYN_RECV": 300}})},
        ("connections-piled-up", "likely", "warning", "300 connections of tcp/1678"),
    ),
    (
        "SYN_SENT piles up",
        {"sockets": sockets(states={"tcp": {"SYN_SENT": 60}})},
        ("connections-piled-up", "likely", "warning", "SYN_SENT"),
    ),
    (
        "TIME_WAIT uses up the ports",
        {"sockets": sockets(states={"tcp": {"TIME_WAIT": 25000}})},
        ("connections-piled-up", "likely", "warning", "ip_local_port_range"),
    ),
    ("UDP buffer", {"drops": grown("udp", "RcvbufErrors", 7)}, ("udp-receive-drops", "proven", "warning", "7 UDP datagrams")),
    ("softnet", {"drops": grown("softnet", "cpu3 dropped", 9)}, ("softnet-drops", "proven", "warning", "9 packets")),
    ("NIC", {"drops": grown("nic", "eth0 rx_missed_errors", 4)}, ("nic-drops", "proven", "warning", "eth0 lost 4 frames")),
    ("qdisc", {"drops": grown("qdisc", "eth0 8001: drops", 2)}, ("qdisc-drops", "proven", "warning", "eth0 8001:")),
    (
        "conntrack at 90 %",
        {"conntrack": {"count": 90, "max": 100, "stat": {}}},
        ("conntrack-nearly-full", "likely", "warning", "90 of 100"),
    ),
    (
        "conntrack dropped",
        {"conntrack": {"count": 90, "max": 100, "stat": {"drop": 3}}},
        ("conntrack-nearly-full", "proven", "critical", "90 of 100"),
    ),
    (
        "gateway dead",
        {"neighbours": [{"family": 4, "dev": "eth0", "address": "192.0.2.1", "mac": None, "state": "failed"}]},
        ("neighbour-failed", "proven", "critical", "default gateway 192.0.2.1"),
    ),
    (
        "all resolvers dead",
        {"names": lookups("timeout", "timeout")},
        ("resolver-dead", "proven", "critical", "no name can be resolved"),
    ),
    (
        "one resolver dead",
        {"names": lookups("ok", "timeout")},
        ("resolver-dead", "proven", "warning", "every lookup that tries it first"),
    ),
    (
        "clock",
        {"clock": {"synchronised": False, "servers": [{"server": "192.0.2.9", "offset_s": -7.5, "status": "ok"}]}},
        ("clock-offset", "proven", "warning", "+7.5 s off"),
    ),
    (
        "no carrier",
        {"links": [link("eth0"), link("eth1", index=3, carrier=False)]},
        ("interface-no-carrier", "proven", "warning", "eth1"),
    ),
    ("no address", {"links": [link("eth0"), link("eth1", index=3)]}, ("interface-no-address", "likely", "warning", "eth1")),
    (
        "ping lost",
        {
            "probes": [
                {"kind": "ping", "target": "192.0.2.9", "sent": 3, "received": 0, "loss_percent": 100.0, "status": "timeout"}
            ]
        },
        ("ping-unreachable", "proven", "critical", "192.0.2.9 does not answer ping"),
    ),
    (
        "ping blocked",
        {
            "probes": [
                {"kind": "ping", "target": "192.0.2.9", "sent": 3, "received": 0, "loss_percent": 100.0, "status": "icmp_blocked"}
            ]
        },
        ("ping-unreachable", "proven", "info", "ICMP is blocked"),
    ),
    (
        "no way to the pinged address",
        {
            "probes": [
                {"kind": "ping", "target": "192.0.2.9", "status": "unreachable", "loss_percent": None, "detail": "no route"}
            ]
        },
        ("ping-unreachable", "proven", "critical", "192.0.2.9 does not answer ping"),
    ),
    (
        "HTTP 500",
        {
            "probes": [
                {"kind": "http", "target": "http://127.0.0.1:8000/v1/models", "status": "server error", "code": 500, "detail": ""}
            ]
        },
        ("http-probe-failed", "proven", "critical", "HTTP 500"),
    ),
]


def test_a_healthy_host_has_no_finding() -> None:
    findings, answer = judge(healthy())
    assert findings == []
    assert answer is not None and answer["verdict"] == "open", answer


@pytest.mark.parametrize(("sections", "wanted"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_each_fault_gives_its_finding_and_no_other(sections: dict[str, Any], wanted: tuple[str, str, str, str]) -> None:
    findings, _answer = judge(healthy(**sections))
    identity, grade, severity, text = wanted
    assert {one["id"] for one in findings} == {identity}, findings
    only = findings[0]
    assert (only["grade"], only["severity"]) == (grade, severity)
    assert text in only["subject"] + " " + only["summary"]
    assert only["evidence"] and only["fix"] and only["requirement"]
    json.dumps(only)


@pytest.mark.parametrize("sections", [case[1] for case in CASES], ids=[case[0] for case in CASES])
def test_each_finding_has_its_page(sections: dict[str, Any]) -> None:
    for one in judge(healthy(**sections))[0]:
        assert (ROOT / "docs" / "findings" / f"{one['id']}.md").is_file(), one["id"]


def test_queues_of_the_machine_are_not_blamed_on_a_container() -> None:
    evidence = healthy(drops=grown("softnet", "cpu3 dropped", 9))
    evidence["host"]["container"] = True
    assert judge(evidence)[0] == []


def test_a_section_that_was_not_read_is_never_fine() -> None:
    for section in ("sockets", "firewall", "hooks", "routes"):
        evidence = healthy()
        evidence["sections"][section] = None
        findings, answer = judge(evidence)
        assert not [one for one in findings if one["severity"] == "critical"]
        assert answer is not None and answer["verdict"] == "unknown", (section, answer)


def test_answer_follows_the_order_listening_firewall_hooks_reachability_route() -> None:
    rule = {"parts": [match("tcp dport", 1678)], "verdict": DROP, "text": "tcp dport 1678 drop"}
    _findings, answer = judge(healthy(firewall=ruleset(rule)))
    assert answer is not None and answer["verdict"] == "blocked"
    assert [step["step"] for step in answer["steps"]] == ["listening", "firewall", "hooks", "reachability", "route"]
    assert "handle 11" in answer["text"]
    _findings, answer = judge(healthy(firewall=ruleset(rule), sockets=sockets(listeners=[])))
    assert answer is not None and answer["text"].startswith("tcp/1678 is blocked here: Nothing listens")


def test_fix_covers_every_rule_in_the_way() -> None:
    rule = {"parts": [match("tcp dport", 1678)], "verdict": DROP, "text": "tcp dport 1678 drop"}
    wide = {"parts": [match("tcp dport", ["range", 1000, 2000])], "verdict": DROP, "text": "tcp dport 1000-2000 drop"}
    findings, _answer = judge(healthy(firewall=ruleset(rule, wide)))
    fix = findings[0]["fix"]
    assert "nft delete rule inet filter input handle 11" in fix and "nft delete rule inet filter input handle 12" in fix
    assert any("covers more than this port" in line for line in fix)


def test_rules_of_a_front_end_are_changed_through_it() -> None:
    findings, _answer = judge(healthy(firewall=ruleset({"parts": [], "verdict": DROP, "owner": "firewalld"})))
    assert findings[0]["fix"] == ["firewall-cmd --permanent --add-port=1678/tcp && firewall-cmd --reload"]


def test_objects_carry_no_ids_counters_or_own_addresses() -> None:
    text = "ip daddr 192.0.2.11 tcp dport 80 counter packets 5 bytes 300 accept"
    evidence = healthy(firewall=ruleset({"parts": [], "verdict": {"kind": "accept"}, "text": text}))
    found = objects(evidence)
    assert "rule nft inet filter input | ip daddr {own} tcp dport 80 accept" in found
    assert all("handle" not in key for key in found)
    assert found["listener tcp/1678"] == "python3 on any address"


def test_own_addresses_are_replaced_whole() -> None:
    own = {"10.0.0.1", "2001:db8::1"}
    assert (
        without_own("10.0.0.1 10.0.0.11 110.0.0.1 2001:db8::1 2001:db8::12", own)
        == "{own} 10.0.0.11 110.0.0.1 {own} 2001:db8::12"
    )


def test_a_huge_chain_is_one_object() -> None:
    rules = [{"parts": [], "text": f"ip saddr 198.51.100.{n} tcp dport {p} drop"} for n in range(250) for p in (1, 2)]
    found = [key for key in objects(healthy(firewall=ruleset(*rules))) if key.startswith("rule")]
    assert found == ["rules nft inet filter input"]


def test_the_answer_tells_rules_that_translate_the_target() -> None:
    rule = {
        "parts": [
            match("tcp dport", 1678),
            {"t": "action", "name": "dnat", "args": {"addr": "198.51.100.5"}, "terminal": True},
        ],
        "verdict": None,
        "text": "tcp dport 1678 dnat to 198.51.100.5",
    }
    section = ruleset(rule)
    section["chains"][0].update(hook="prerouting", priority=-100, type="nat")
    _findings, said = judge(healthy(firewall=section))
    assert said is not None
    step = next(one for one in said["steps"] if one["step"] == "firewall")
    assert "handle 11 sends it to port 1678 of 198.51.100.5" in step["detail"]
