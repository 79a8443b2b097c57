# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Programs on the way to a target elsewhere: which are met, what is said of them, and when one is blamed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.netops.fleet.plugins.module_utils._diagnosis import hooked
from ansible_collections.netops.fleet.plugins.module_utils._diagnosis.facts import Facts
from ansible_collections.netops.fleet.plugins.module_utils._diagnosis.judge import judge
from ansible_collections.netops.fleet.plugins.plugin_utils._fleet import report
from tests.unit import evidence_samples as samples
from tests.unit.hosts import healthy, link, listener

ROUTES = [
    {"family": 4, "table": 254, "type": "unicast", "dst": "default", "via": "192.0.2.1", "dev": "eth0", "flags": []},
    {"family": 4, "table": 254, "type": "unicast", "dst": "198.51.100.0/24", "via": None, "dev": "bond0", "flags": []},
    {"family": 6, "table": 254, "type": "unicast", "dst": "default", "via": "fe80::1", "dev": "eth0", "flags": []},
]
LINKS = [link("lo", index=1), link(), link("eth1", index=3), link("eth2", index=4, master="bond0"), link("bond0", index=5)]


def hook(at: str, direction: str | None, dev: str | None = None, **more: Any) -> dict[str, Any]:
    where = {"name": dev, "index": 2, "class": dev} if dev else None
    entry = {"hook": at, "direction": direction, "interface": where, "name": "guard", "can_drop": "yes", "cgroup": None}
    return {**entry, "key": f"bpf {at} {direction} {dev}", "detach": ["bpftool link detach id 7"], "owners": [], **more}


def at_cgroup(direction: str, **group: Any) -> dict[str, Any]:
    place = {"path": "/sys/fs/cgroup/system.slice/a.service", "inherited": False, "here": True, "mine": True, "listens": None}
    return hook("cgroup", direction, cgroup={**place, **group})


def evidence(*hooks: dict[str, Any], to: str = "203.0.113.5", proto: str = "tcp", status: str = "timeout") -> dict[str, Any]:
    shown = f"[{to}]:443" if ":" in to else f"{to}:443"
    probes = [{"kind": proto, "target": shown, "peer": None, "address": to, "status": status, "detail": "said so"}]
    made = healthy(hooks=list(hooks), probes=probes, routes=ROUTES[::2])
    made["target"] = {"proto": proto, "port": 443, "address": to}
    return made


def asked(*hooks: dict[str, Any], **more: str) -> Facts:
    """Of a host with more links, and routes by them."""
    made = evidence(*hooks, **more)
    made["sections"].update(links=LINKS, routes=ROUTES)
    return Facts(made)


MET = [
    hook("tcx", "egress", "eth0"),
    hook("tc", "egress", "eth0", kind="flower", tc={"protocol": "ip"}),
    hook("netkit", "primary", "eth0"),
    hook("netfilter", "output", netfilter={"family": "ipv4"}),
    hook("netfilter", "postrouting", netfilter={"family": "ipv4"}),
    at_cgroup("inet_egress"),
    at_cgroup("inet4_connect", mine=None),
    at_cgroup("inet_sock_create"),
    # The answers' way.
    hook("xdp", "ingress", "eth0"),
    hook("tcx", "ingress", "eth0"),
    hook("netfilter", "input", netfilter={"family": "ipv4"}),
    at_cgroup("inet_ingress"),
]
NOT_MET = [
    hook("tcx", "egress", "eth1"),
    hook("tcx", "egress", "lo"),
    hook("tcx", "egress", "eth2"),
    hook("xdp", "ingress", "eth1"),
    hook("tc", "egress", "eth0", tc={"protocol": "ipv6"}),
    hook("netfilter", "output", netfilter={"family": "ipv6"}),
    hook("netfilter", "forward", netfilter={"family": "ipv4"}),
    at_cgroup("inet6_connect"),
    at_cgroup("udp4_sendmsg"),
    at_cgroup("inet4_bind"),
    at_cgroup("inet4_connect", mine=False),
    at_cgroup("inet_ingress", mine=False, here=False),
    hook("tcx", "egress", "eth0", can_drop="no"),
]


@pytest.mark.parametrize(("entry", "met"), [*((one, True) for one in MET), *((one, False) for one in NOT_MET)])
def test_which_hooks_a_connection_to_elsewhere_meets(entry: dict[str, Any], met: bool) -> None:
    assert bool(hooked.suspects(asked(entry))) == met


@pytest.mark.parametrize(
    ("to", "proto", "entry", "met"),
    [
        ("203.0.113.5", "udp", at_cgroup("udp4_sendmsg"), True),
        ("203.0.113.5", "udp", at_cgroup("inet4_connect"), True),
        ("203.0.113.5", "sctp", at_cgroup("inet4_connect"), False),
        ("2001:db8:9::5", "tcp", at_cgroup("inet6_connect"), True),
        ("2001:db8:9::5", "udp", at_cgroup("udp6_sendmsg"), True),
        ("2001:db8:9::5", "tcp", at_cgroup("inet4_connect"), False),
        ("2001:db8:9::5", "tcp", hook("tc", "egress", "eth0", tc={"protocol": "ipv6"}), True),
        # Its own way out, with what lies under it.
        ("198.51.100.7", "tcp", hook("tcx", "egress", "bond0"), True),
        ("198.51.100.7", "tcp", hook("tcx", "egress", "eth2"), True),
        ("198.51.100.7", "tcp", hook("tcx", "egress", "eth0"), False),
        # An own address: out by lo, and in again.
        ("192.0.2.11", "tcp", at_cgroup("inet4_connect"), True),
        ("192.0.2.11", "tcp", hook("netfilter", "output", netfilter={"family": "ipv4"}), True),
        ("192.0.2.11", "tcp", hook("tcx", "egress", "lo"), True),
        ("127.0.0.9", "tcp", hook("tcx", "ingress", "lo"), True),
        ("192.0.2.11", "tcp", hook("tcx", "egress", "eth0"), False),
        ("192.0.2.11", "tcp", hook("xdp", "ingress", "eth0"), False),
    ],
)
def test_the_way_depends_on_the_target(to: str, proto: str, entry: dict[str, Any], met: bool) -> None:
    assert bool(hooked.suspects(asked(entry, to=to, proto=proto))) == met


def test_an_unknown_way_out_may_be_any_but_lo() -> None:
    facts = asked(hook("tcx", "egress", "eth1"), hook("tcx", "egress", "lo"))
    facts.evidence["sections"]["policy_rules"] = [{"family": 4, "table": 100}]
    assert [one["interface"]["name"] for one in hooked.suspects(facts)] == ["eth1"]


def test_a_connection_to_an_own_address_also_meets_what_the_listener_is_in() -> None:
    entry = at_cgroup("inet_ingress", mine=False)
    made = evidence(entry, to="192.0.2.11")
    made["sections"]["sockets"]["listeners"] = [listener(443, cgroup="/system.slice/a.service")]
    assert hooked.suspects(Facts(made)) == [entry]
    made["sections"]["sockets"]["listeners"] = [listener(443, cgroup="/system.slice/b.service")]
    assert hooked.suspects(Facts(made)) == []


def test_a_target_without_answer_names_what_may_drop_it_and_how_to_detach_that() -> None:
    entry = hook("tcx", "egress", "eth0", id=142, drop_evidence=["returns 2 (drop)"])
    [finding], answer = judge(evidence(entry))
    assert (finding["id"], finding["data"]["suspects"]) == ("target-unreachable", ["bpf tcx egress eth0"])
    assert "guard (tcx egress eth0)" in finding["summary"]
    assert "on the way: tcx egress eth0 guard (program 142): can drop (returns 2 (drop))" in finding["evidence"]
    assert "bpftool link detach id 7" in finding["fix"]
    assert answer is not None and answer["verdict"] == "blocked" and "guard (tcx egress eth0)" in answer["text"]


@pytest.mark.parametrize("status", ["refused", "reset"])
def test_an_answer_from_the_other_side_is_no_drop_of_this_host(status: str) -> None:
    [finding], _answer = judge(evidence(hook("tcx", "egress", "eth0"), status=status))
    assert "suspects" not in finding["data"] and len(finding["evidence"]) == 1


def test_a_refused_call_is_no_silence() -> None:
    [finding], _answer = judge(evidence(at_cgroup("inet4_connect"), status="timeout"))
    assert "suspects" not in finding["data"]


def test_a_call_that_is_not_permitted_is_likely_refused_by_the_program_at_it() -> None:
    entry = at_cgroup("inet4_connect")
    [finding], answer = judge(evidence(entry, status="prohibited"))
    assert (finding["id"], finding["grade"], finding["severity"]) == ("bpf-program-refuses", "likely", "critical")
    assert finding["data"]["consequences"] == [{"id": "target-unreachable", "subject": "tcp/203.0.113.5:443"}]
    assert finding["data"]["objects"] == [entry["key"]] and "bpftool link detach id 7" in finding["fix"]
    assert answer is not None and answer["verdict"] == "blocked"
    assert {step["step"]: step["result"] for step in answer["steps"]} == {"reachability": "bad", "route": "ok", "hooks": "bad"}


@pytest.mark.parametrize(
    "entry",
    [at_cgroup("inet4_connect", mine=False), at_cgroup("inet4_connect") | {"can_drop": "no"}, hook("tcx", "egress", "eth0")],
)
def test_what_does_not_refuse_the_probe_is_not_blamed_for_it(entry: dict[str, Any]) -> None:
    [finding], _answer = judge(evidence(entry, status="prohibited"))
    assert finding["id"] == "target-unreachable"


def test_a_route_that_prohibits_is_the_reason_and_not_the_program() -> None:
    made = evidence(at_cgroup("inet4_connect"), status="prohibited")
    made["sections"]["probes"][0]["route"] = {"type": "prohibit", "dev": None}
    assert "bpf-program-refuses" not in [one["id"] for one in judge(made)[0]]


def test_a_probe_that_got_there_passed_them_all() -> None:
    findings, answer = judge(evidence(hook("tcx", "egress", "eth0"), at_cgroup("inet_egress", mine=False), status="ok"))
    assert findings == [] and answer is not None and answer["verdict"] == "open"
    step = next(one for one in answer["steps"] if one["step"] == "hooks")
    assert step["result"] == "ok" and "guard (tcx egress eth0)" in step["detail"]
    assert "processes of other cgroups send: guard (cgroup inet_egress a.service)" in step["detail"]


def _fleet(tmp_path: Path, others: str) -> dict[str, Any]:
    """gpu-04 of four, with a program on the way out; all ask for the same target."""
    entry = samples.hook("guard", 7, "yes", direction="egress", key="bpf tcx egress eth0 sched_cls guard 07")
    fleet = samples.fleet(4)
    for name, one in fleet.items():
        made = evidence(*([entry] if name == "gpu-04" else []), status="timeout" if name == "gpu-04" else others)
        one["target"] = made["target"]
        one["sections"].update({key: made["sections"][key] for key in ("hooks", "probes", "routes")})
    sealed = {name: samples.sealed(one) for name, one in fleet.items()}
    built = report.build(samples.run(tmp_path, sealed, target=fleet["gpu-04"]["target"]))
    hosts = json.loads(Path(built.json).read_text(encoding="utf-8"))["hosts"]
    return next(one for one in hosts if one["name"] == "gpu-04")


def test_a_program_of_one_host_alone_is_the_likely_reason_where_its_peers_reach_the_target(tmp_path: Path) -> None:
    host = _fleet(tmp_path, "ok")
    [program] = host["findings"]
    assert (program["id"], program["grade"], program["severity"]) == ("bpf-program-foreign", "likely", "critical")
    assert program["data"]["consequences"] == [{"id": "target-unreachable", "subject": "tcp/203.0.113.5:443"}]
    assert "; likely by BPF program tcx egress eth0" in host["answer"]["text"]


def test_a_target_that_nobody_reaches_is_not_blamed_on_the_program_of_one(tmp_path: Path) -> None:
    host = _fleet(tmp_path, "timeout")
    assert [(one["id"], one["grade"]) for one in host["findings"]] == [
        ("target-unreachable", "proven"),
        ("bpf-program-foreign", "different"),
    ]
