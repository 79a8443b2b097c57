# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The page and the terminal show what hosts say, and do not do what hosts say."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import stat
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.netops.fleet.plugins.plugin_utils._fleet import checks, report, store, terminal
from tests.unit import evidence_samples as samples

NASTY = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)> {{ 7 * 7 }} \x1b[2J\x1b]0;owned\x07\u202e\x00</style>"


class Page(HTMLParser):
    """Elements, attributes and text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.open: list[str] = []
        self.text: list[str] = []
        self.scripts: list[str] = []
        self.styles: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in ("meta", "input", "br", "img", "link"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-1:]}"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        where = self.open[-1] if self.open else ""
        (self.scripts if where == "script" else self.styles if where == "style" else self.text).append(data)


def nasty_fleet() -> dict[str, dict[str, Any]]:
    """Every text a host can choose holds markup, template syntax and control characters."""
    fleet = samples.fleet(4)
    one = fleet["gpu-02"]
    one["sections"]["firewall"] = samples.drop_rule(NASTY)
    one["sections"]["sysctls"][f"net.{NASTY}"] = NASTY
    one["sections"]["sysctls"]["net.core.somaxconn"] = NASTY
    one["sections"]["names"]["servers"] = [NASTY]
    one["sections"]["hooks"] = [samples.hook(NASTY, detach=[NASTY])]
    one["host"]["hostname"] = one["host"]["kernel"] = NASTY
    one["coverage"][0].update(status="partial", gaps=[{"what": NASTY, "why": NASTY}])
    samples.sealed(one)
    one["answer"]["text"] = NASTY
    one["answer"]["steps"][0].update(step=NASTY, detail=NASTY)
    texts = dict.fromkeys(("subject", "summary"), NASTY)
    one["findings"].append(
        {"id": NASTY[:90], "grade": "likely", "severity": "warning", **texts, "evidence": [NASTY], "fix": [NASTY]}
    )
    return {name: one if name == "gpu-02" else samples.sealed(one) for name, one in fleet.items()}


@pytest.fixture
def built(tmp_path: Path) -> report.Built:
    run = samples.run(tmp_path, nasty_fleet(), {NASTY: ("unreachable", NASTY)}, groups={"gpu-02": ["gpu-nodes", NASTY]})
    return report.build(run)


def lines(built: report.Built, width: int = 100, signs: bool = True) -> list[str]:
    return ["".join(text for text, _colour in line) for line in terminal.lines(built, width, signs)]


def test_what_hosts_say_stays_text(built: report.Built) -> None:
    text = Path(built.html).read_text(encoding="utf-8")
    page = Page(text)
    assert page.open == []
    tags = [tag for tag, _attributes in page.elements]
    assert "img" not in tags
    assert "iframe" not in tags
    assert tags.count("script") == tags.count("style") == 1
    for tag, attributes in page.elements:
        assert not [name for name in attributes if name.startswith("on") or name == "style"], tag
        assert not {"src", "srcset", "action", "formaction"} & set(attributes)
        assert attributes.get("href", "#").startswith("#")
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f\u202a-\u202e]", text)
    shown = "".join(page.text)
    assert "<script>alert(1)</script>" in shown
    assert "{{ 7 * 7 }}" in shown
    assert "\\x1b[2J" in shown
    assert "owned" not in "".join(page.scripts + page.styles)


def test_the_policy_allows_the_pages_own_script_and_style_only(built: report.Built) -> None:
    page = Page(Path(built.html).read_text(encoding="utf-8"))
    policy = next(attributes["content"] for tag, attributes in page.elements if attributes.get("http-equiv"))
    rules = dict(part.strip().split(" ", 1) for part in policy.split(";"))
    assert rules["default-src"] == "'none'"
    for kind, parts in (("script-src", page.scripts), ("style-src", page.styles)):
        digest = base64.b64encode(hashlib.sha256("".join(parts).encode()).digest()).decode()
        assert rules[kind] == f"'sha256-{digest}'"


def test_the_terminal_shows_no_control_characters(built: report.Built) -> None:
    text = "\n".join(lines(built))
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e]", text)
    assert "\\x1b[2J" in text


def test_files_are_private(built: report.Built) -> None:
    assert {stat.S_IMODE(Path(path).stat().st_mode) for path in (built.json, built.html)} == {0o600}
    assert not list(Path(built.html).parent.glob(".*.part"))


def test_hosts_without_evidence_are_shown_as_themselves(tmp_path: Path) -> None:
    other = {
        f"gpu-1{number}": (status, f"because {number}")
        for number, status in enumerate(("unreachable", "timeout", "failed", "invalid"))
    }
    run = samples.run(tmp_path, samples.broken_fleet(), {**other, "gpu-19": ("no answer", "")})
    built = report.build(run)
    shown = " ".join("".join(Page(Path(built.html).read_text(encoding="utf-8")).text).split())
    text = "\n".join(lines(built, signs=False))
    for name, (status, reason) in other.items():
        assert f"{name} {status} {reason}" in shown
        assert re.search(rf"{name} +{status}: {reason}", text)
    assert "gpu-19 no answer" in shown
    assert "tcp/1678 is blocked on 3 of 11 hosts" in shown
    assert "nft delete rule inet lab input handle 11" in shown
    assert "5 without evidence" in text


def test_every_fix_can_be_copied(tmp_path: Path) -> None:
    built = report.build(samples.run(tmp_path, samples.broken_fleet()))
    report_json = json.loads(Path(built.json).read_text(encoding="utf-8"))
    html = Path(built.html).read_text(encoding="utf-8")
    for host in report_json["hosts"]:
        for finding in host["findings"]:
            assert finding["fix"], finding["id"]
            for line in finding["fix"]:
                escaped = (
                    line.replace("&", "&amp;")
                    .replace("<", "&lt;")
                    .replace(">", "&gt;")
                    .replace("'", "&#39;")
                    .replace('"', "&#34;")
                )
                assert f">{escaped}</code>" in html


@pytest.mark.parametrize("signs", [True, False])
@pytest.mark.parametrize("width", [60, 80, 120])
def test_the_table_stays_within_the_width(tmp_path: Path, width: int, signs: bool) -> None:
    built = report.build(samples.run(tmp_path, samples.broken_fleet(), {"x" * 200: ("failed", "y" * 500)}))
    text = lines(built, width, signs)
    table = [line for line in text[: text.index("")] if not line.startswith("no room for ")]
    assert len(table) == 8
    assert max(map(len, table)) <= width
    assert text[-1].endswith("report.html")


@pytest.mark.parametrize("width", [60, 80, 100, 160])
def test_every_column_with_a_finding_is_shown_first_and_the_others_are_named(tmp_path: Path, width: int) -> None:
    fleet = {name: samples.sealed(one) for name, one in samples.fleet(3).items()}
    texts = {"subject": "/var", "summary": "/var is full", "evidence": [], "fix": ["df -h /var"]}
    fleet["gpu-02"]["findings"].append({"id": "disk-full", "grade": "proven", "severity": "critical", **texts})
    built = report.build(samples.run(tmp_path, fleet, {"x" * 200: ("failed", "why")}))
    text = lines(built, width, signs=False)
    assert "CRIT" in next(line for line in text if line.startswith("gpu-02 "))
    missing = [line for line in text if line.startswith("no room for ")]
    assert len(missing) == int(width < 100)
    named = set(re.findall(r"[a-z]+", " ".join([text[0], *missing])))
    assert {terminal._SHORT[column] for column in built.columns} < named


def test_a_column_is_called_by_its_whole_name() -> None:
    assert set(terminal._SHORT) == {*checks.ORDER, checks.OTHER}


def test_a_large_fleet_shows_hosts_with_findings_and_counts_the_rest(tmp_path: Path) -> None:
    fleet = samples.fleet(45)
    fleet["gpu-07"]["sections"]["firewall"] = samples.drop_rule()
    built = report.build(samples.run(tmp_path, {name: samples.sealed(one) for name, one in fleet.items()}))
    text = lines(built, signs=False)
    assert [line.split()[0] for line in text[1:2]] == ["gpu-07"]
    assert "44 more hosts without findings" in text
    assert "tcp/1678 in all: blocked on 1, open on 44" in text
    page = Page(Path(built.html).read_text(encoding="utf-8"))
    details = [attributes for tag, attributes in page.elements if tag == "details" and attributes.get("class") == "host card"]
    assert len(details) == 45
    assert ["open" in one for one in details].count(True) == 1, "hosts without findings are folded"


def test_groups_that_no_longer_reach_each_other_come_first_between_the_groups(tmp_path: Path) -> None:
    names = [f"gpu-0{number}" for number in range(1, 7)]
    racks = {name: f"rack-{place // 3}" for place, name in enumerate(names)}

    def cell(peer: str, answers: bool) -> dict[str, Any]:
        common = {"peer": peer, "address": "192.0.2.1", "status": "ok" if answers else "silent", "sent": 10}
        rtt = [0.1, 0.2, 0.3] if answers else None
        large = {"bytes": 1500, "sent": 2, "received": 2 * answers, "told": False}
        return {**common, "received": 10 * answers, "rtt_ms": rtt, "large": large, "clock": None, "detail": ""}

    fleet = samples.fleet(6)
    for name, one in fleet.items():
        cells = [cell(peer, racks[peer] == racks[name]) for peer in names if peer != name]
        one["sections"]["mesh"] = {"seconds": 1.0, "packets": 50, "bytes": 5000, "cells": cells}
    sealed = {name: samples.sealed(one) for name, one in fleet.items()}
    groups = {name: ["gpu-nodes", rack] for name, rack in racks.items()}
    built = report.build(samples.run(tmp_path, sealed, groups=groups))
    mesh = built.head["mesh"]
    assert mesh["unanswered"] == 18
    assert [(row["groups"], row["answered"], row["pairs"], bool(row["rtt_ms"])) for row in mesh["groups"]] == [
        (["rack-0", "rack-1"], 0, 18, False),
        (["rack-0", "rack-0"], 6, 6, True),
        (["rack-1", "rack-1"], 6, 6, True),
    ]
    shown = " ".join("".join(Page(Path(built.html).read_text(encoding="utf-8")).text).split())
    assert "18 got no answer" in shown
    assert "rack-0 ↔ rack-1 0 of 18 \u2013 \u2013 \u2013 \u2013".replace(" ", "") in shown.replace(" ", "")


def test_no_target_no_answer(tmp_path: Path) -> None:
    fleet = samples.fleet(3)
    for one in fleet.values():
        one["target"] = None
    built = report.build(samples.run(tmp_path, {name: samples.sealed(one) for name, one in fleet.items()}, target=None))
    assert "No known anomaly on 3 of 3 hosts" in Path(built.html).read_text(encoding="utf-8")
    assert not re.search(r"\bopen\b", "\n".join(lines(built)))


@pytest.mark.parametrize(
    ("name", "check"),
    [
        ("firewall-drops-target", "firewall"),
        ("bpf-program-foreign", "hooks"),
        ("tc-filter-drops-target", "hooks"),
        ("link-impaired", "links"),
        ("port-not-listening", "listeners"),
        ("accept-queue-overflow", "listeners"),
        ("nic-drops", "drops"),
        ("softnet-drops", "drops"),
        ("neighbour-failed", "neighbours"),
        ("resolver-dead", "dns"),
        ("resolver-differs", "dns"),
        ("clock-offset", "clock"),
        ("sysctl-differs", "sysctls"),
        ("rule-differs", "firewall"),
        ("object-differs", "peers"),
        ("peer-cannot-connect", "peers"),
        ("interface-no-carrier", "links"),
        ("target-unreachable", "probes"),
        ("conntrack-nearly-full", "firewall"),
        ("made-up", "other"),
    ],
)
def test_each_finding_has_its_column(name: str, check: str) -> None:
    assert checks.check_of({"id": name, "data": {}}) == check


def test_an_empty_run_has_a_report(tmp_path: Path) -> None:
    built = report.build(store.Run(str(tmp_path), "x", samples.STARTED, None, {}, {}))
    assert "No host gave evidence" in Path(built.html).read_text(encoding="utf-8")
    assert json.loads(Path(built.json).read_text(encoding="utf-8"))["hosts"] == []
