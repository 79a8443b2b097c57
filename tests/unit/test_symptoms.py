# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Symptoms: one answer in the order of the flow, or what is excluded and what could not be told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible_collections.netops.fleet.plugins.plugin_utils._fleet import options, report, symptoms
from tests.unit import evidence_samples as samples
from tests.unit.test_docs import findings_in_code

ROOT = Path(__file__).resolve().parents[2]
FLOWS = [name for name, steps in symptoms.FLOWS.items() if steps]
READ = [
    {"section": name, "status": "ok", "gaps": []}
    for name in (*samples.SECTIONS, "machine", "kernel_log", "tunnels", "kubernetes")
]


def finding(name: str, severity: str = "warning", *consequences: str) -> dict[str, Any]:
    data = {"consequences": [{"id": one, "subject": "x"} for one in consequences]}
    return {"id": name, "severity": severity, "grade": "proven", "subject": "it", "summary": f"summary of {name}", "data": data}


@pytest.mark.parametrize(
    ("symptom", "found", "wanted"),
    [
        ("latency", ["cpu-starved"], "cpu-starved"),
        ("latency", ["cpu-starved", "accept-queue-overflow"], "accept-queue-overflow"),
        ("latency", ["resolver-dead"], None),
        ("dns", ["name-unresolved", "cpu-starved"], "name-unresolved"),
        ("dns", ["firewall-drops-outgoing"], "firewall-drops-outgoing"),
        ("nic", ["link-flapping"], "link-flapping"),
        ("loss", ["qdisc-drops", "bpf-program-foreign"], "qdisc-drops"),
        ("firewall", ["nic-drops"], None),
        ("pods", ["ipsec-drops"], "ipsec-drops"),
    ],
)
def test_one_answer_in_the_order_of_the_flow(symptom: str, found: list[str], wanted: str | None) -> None:
    told = symptoms.answer(symptom, [finding(one) for one in found], READ)
    assert told is not None
    assert told["verdict"] == ("open" if wanted is None else "blocked")
    assert (f"summary of {wanted}" in told["text"]) == (wanted is not None)
    assert [step["step"] for step in told["steps"]] == [step.name for step in symptoms.FLOWS[symptom] if not step.optional]


def test_a_mesh_is_a_step_where_one_was_asked_for() -> None:
    read = [*READ, {"section": "mesh", "status": "ok", "gaps": []}]
    told = symptoms.answer("loss", [finding("qdisc-drops"), finding("mesh-host-bad")], read)
    assert told is not None and told["text"] == "loss: summary of mesh-host-bad"
    assert told["steps"][0] == {"step": "between the hosts", "result": "bad", "detail": "summary of mesh-host-bad"}


def test_what_fails_now_goes_before_what_suffers_and_a_note_is_no_answer() -> None:
    told = symptoms.answer("latency", [finding("oom-killed", "critical"), finding("accept-queue-overflow")], READ)
    assert told is not None and "oom-killed" in told["text"]
    told = symptoms.answer("latency", [finding("cpu-starved", "info")], READ)
    assert told is not None and told["verdict"] == "open"


def test_a_cause_elsewhere_answers_by_what_it_brings_about() -> None:
    told = symptoms.answer("dns", [finding("interface-no-carrier", "critical", "resolver-dead")], READ)
    assert told is not None and "interface-no-carrier" in told["text"]
    assert told["steps"][0]["result"] == "bad"


def test_what_was_not_read_is_not_excluded() -> None:
    coverage = [one for one in READ if one["section"] not in ("names", "firewall")]
    coverage.append({"section": "firewall", "status": "failed", "gaps": [{"what": "firewall", "why": "nft: not permitted"}]})
    told = symptoms.answer("dns", [], coverage)
    assert told is not None and told["verdict"] == "unknown"
    assert "nft: not permitted" in told["text"] and "names is not part" in told["text"]
    assert "routes" in told["text"].split("Excluded: ")[1].split(".")[0]
    assert "packet filter" not in told["text"].split("Excluded: ")[1].split(".")[0]


def partial(section: str, *gaps: tuple[str, str]) -> list[dict[str, Any]]:
    told = [{"what": what, "why": why} for what, why in gaps]
    return [*(one for one in READ if one["section"] != section), {"section": section, "status": "partial", "gaps": told}]


@pytest.mark.parametrize(
    ("symptom", "section", "gap", "step"),
    [
        ("firewall", "hooks", ("hooks.programs", "listing programs is not permitted"), "hooks"),
        ("loss", "drops", ("drops.tcp", "not permitted"), "kernel drops"),
        ("latency", "sockets", ("sockets.tcp4", "sock_diag: not permitted"), "concurrency"),
        ("dns", "names", ("names.lookups", "8 of 9 servers asked"), "name servers"),
    ],
)
def test_a_step_read_in_part_is_not_excluded(symptom: str, section: str, gap: tuple[str, str], step: str) -> None:
    told = symptoms.answer(symptom, [], partial(section, gap))
    assert told is not None and told["verdict"] == "unknown"
    excluded, doubts = told["text"].split("Could not be told: ")
    assert step not in excluded.split("Excluded: ")[1].split(", ")
    assert f"{step}: " in doubts and gap[1] in doubts


@pytest.mark.parametrize(
    ("symptom", "section", "gap"),
    [
        ("latency", "sockets", ("sockets.process", "1 of 4 listeners: no process seen that holds them")),
        ("latency", "neighbours", ("neighbours.ipv4.kept", "1000 of 2000 entries kept")),
        ("loss", "drops", ("drops.softnet.scope", "these counters are the whole machine's")),
        ("firewall", "hooks", ("hooks.owners", "2 links are held by what cannot be seen from here")),
        ("nic", "sysctls", ("sysctls.links", "settings of 64 of 80 links read")),
    ],
)
def test_a_gap_that_leaves_no_cause_out_is_no_doubt(symptom: str, section: str, gap: tuple[str, str]) -> None:
    told = symptoms.answer(symptom, [], partial(section, gap))
    assert told is not None and told["verdict"] == "open", told


def test_a_slow_mesh_answers_who_asks_for_latency_and_nobody_else() -> None:
    read = [*READ, {"section": "mesh", "status": "ok", "gaps": []}]
    slow = finding("mesh-host-bad", "info")
    slow["data"]["trouble"] = "slow"
    told = symptoms.answer("latency", [slow], read)
    assert told is not None and told["verdict"] == "blocked" and "mesh-host-bad" in told["text"]
    assert {"step": "between the hosts", "result": "bad", "detail": "summary of mesh-host-bad"} in told["steps"]
    told = symptoms.answer("loss", [slow], read)
    assert told is not None and told["verdict"] == "open"
    # What is a fault for certain goes before what may be another site.
    told = symptoms.answer("latency", [finding("cpu-starved"), slow], read)
    assert told is not None and "cpu-starved" in told["text"]
    lossy = {**slow, "data": {"trouble": "loss"}}
    told = symptoms.answer("latency", [lossy], read)
    assert told is not None and told["verdict"] == "open"


def test_every_finding_of_a_flow_exists() -> None:
    known = set(findings_in_code())
    steps = {step for flow in symptoms.FLOWS.values() for step in flow}
    planned = {"address-duplicate", "tunnel-", "overlay-", "cni-", "cluster-dns-", "forwarding-"}
    for step in steps:
        for one in step.ids:
            assert one in planned or any(name == one or (one.endswith("-") and name.startswith(one)) for name in known), one


@pytest.mark.parametrize("symptom", FLOWS)
def test_the_report_answers_a_healthy_and_a_broken_fleet(tmp_path: Path, symptom: str) -> None:
    fleet = {name: samples.sealed(one) for name, one in samples.fleet(3).items()}
    for one in fleet.values():
        one["coverage"] = list(READ)
    run = samples.run(tmp_path, fleet, target=None)
    run.options["symptom"] = symptom
    built = report.build(run)
    assert {one.verdict for one in built.briefs} == {"open"}
    assert all(one.answer and one.answer.startswith(f"{symptom}: nothing found. Excluded: ") for one in built.briefs)
    assert json.loads(Path(built.json).read_text())["run"]["symptom"] == symptom
    assert f">{symptom}</span> trouble" in Path(built.html).read_text()


def test_a_symptom_is_one_of_them_and_a_port_needs_a_target() -> None:
    assert options.check({"symptom": "latency"})["symptom"] == "latency"
    for given in ({"symptom": "slow"}, {"symptom": "port"}, {"symptom": "pair"}):
        with pytest.raises(options.OptionError, match="diagnose_symptom"):
            options.check(given)
    assert options.check({"symptom": "port", "target": "tcp/1678"})["symptom"] == "port"


def test_the_documentation_names_every_symptom() -> None:
    specs = yaml.safe_load((ROOT / "roles/diagnose/meta/argument_specs.yml").read_text())["argument_specs"]["main"]["options"]
    for page in ("docs/diagnose.md", "roles/diagnose/README.md"):
        text = (ROOT / page).read_text()
        assert all(f"`{name}`" in text for name in symptoms.FLOWS), page
    assert all(f"C({name})" in " ".join(specs["diagnose_symptom"]["description"]) for name in symptoms.FLOWS)
