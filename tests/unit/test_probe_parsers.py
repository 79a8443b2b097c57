# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What probes hear is not trusted: any bytes are read or refused, and a path is judged by what stands, not by one slow router."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.netops.fleet.plugins.module_utils._evidence import (
    connections,
    drop_watch,
    probe_path,
    probe_tls,
    probe_udp,
)
from ansible_collections.netops.fleet.plugins.module_utils._evidence.probe_path import Answer
from ansible_collections.netops.fleet.plugins.module_utils._kernel import icmp, ringbuffer, x509


@given(st.binary(max_size=400))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    icmp.parse4(data)
    icmp.parse6(data, "fd00::1")
    icmp.extended(data)
    probe_udp.offered(data, b"12345678", b"87654321")
    assert all(isinstance(one, bytes) for one in probe_tls.certificates(data))
    with pytest.raises(x509.BadCertificate):
        x509.read(data)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = tmp_path_factory.mktemp("x509")
    subject = [
        "-subj",
        "/C=DE/O=Exämple/CN=model.test",
        "-utf8",
        "-addext",
        "subjectAltName=DNS:model.test,IP:192.0.2.7,IP:fd00::7",
    ]
    make = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", *subject, "-days", "3"]
    subprocess.run([*make, "-keyout", folder / "key", "-outform", "DER", "-out", folder / "der"], check=True, capture_output=True)
    return Path(folder / "der").read_bytes()


def test_a_certificate_is_read_as_openssl_reads_it(certificate: bytes) -> None:
    found = x509.read(certificate)
    assert found.subject == found.issuer == "CN=model.test, C=DE, O=Exämple" and found.self_issued
    assert found.names == ["model.test", "192.0.2.7", "fd00::7"]
    said = subprocess.run(
        ["openssl", "x509", "-inform", "DER", "-noout", "-enddate", "-dateopt", "iso_8601"],
        input=certificate,
        capture_output=True,
        check=True,
    ).stdout.decode()
    import datetime

    moment = datetime.datetime.fromisoformat(said.strip().partition("=")[2].replace("Z", "+00:00"))
    assert moment.timestamp() == found.after


@given(st.data())
def test_a_cut_or_damaged_certificate_is_refused_or_read(certificate: bytes, data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(certificate) - 1))
    with pytest.raises(x509.BadCertificate):
        x509.read(certificate[:cut])
    changed = bytearray(certificate)
    changed[cut] ^= data.draw(st.integers(1, 255))
    try:
        x509.read(bytes(changed))
    except x509.BadCertificate:
        pass


def hop(ttl: int, sender: str | None, *times: float | None, reached: bool = False) -> list[Answer]:
    return [Answer(ttl, sender if one is not None else None, one, reached and one is not None) for one in times]


def test_a_router_that_is_slow_to_answer_is_no_jump_and_a_lasting_step_is() -> None:
    slow = [*hop(1, "a", 1.0), *hop(2, "b", 90.0), *hop(3, "c", 2.0, reached=True)]
    assert probe_path.judge(slow, 10.0)["jump"] is None
    lasting = [*hop(1, "a", 1.0), *hop(2, "b", 41.0), *hop(3, "c", 40.5, reached=True)]
    assert probe_path.judge(lasting, 10.0)["jump"] == {"hop": 2, "addresses": ["b"], "by_ms": 39.5}


def test_loss_counts_when_it_lasts_up_to_the_target() -> None:
    middle = [*hop(1, "a", 1.0, 1.0), *hop(2, "b", None, None), *hop(3, "c", 2.0, 2.0, reached=True)]
    judged = probe_path.judge(middle, 10.0)
    assert (judged["status"], judged["lossy_from"]) == ("ok", None)
    lasting = [*hop(1, "a", 1.0, 1.0), *hop(2, "b", 2.0, None), *hop(3, "c", 2.0, None, reached=True)]
    judged = probe_path.judge(lasting, 10.0)
    assert (judged["status"], judged["lossy_from"]) == ("lossy", 2)


@given(st.binary(max_size=4096), st.text(max_size=300))
def test_pages_and_lines_of_a_trace_are_read_or_passed_over(page: bytes, text: str) -> None:
    for event in ringbuffer.events(page):
        assert len(event.data) >= 8
    assert connections.parse(
        [text, '{"type": "map", "data": {"@attempts": {"curl,80": 4, "curl,x,80": 4, "curl,::1,80": "4"}}}']
    ) == ({}, 0)
    assert drop_watch.parse([text, '{"type": "map", "data": {"@d": {"1,2,3": 4}}}'], {}) == []


def test_calls_that_never_began_are_attempts_and_those_that_did_are_counted_once() -> None:
    def swapped(port: int) -> int:
        return int.from_bytes(port.to_bytes(2, "big"), sys.byteorder)

    here, there = f"curl,10.0.0.2,{swapped(80)}", f"curl,2001:db8::1,{swapped(443)}"
    mapped = f"curl,::ffff:10.0.0.2,{swapped(80)}"
    told = {
        "@attempts": {"curl,::ffff:10.0.0.2,80": 2},
        "@never4": {f"{here},101": 3},
        "@never6": {f"{there},13": 1, f"{mapped},101": 1},
        "@within4": {f"{here},99": 2},
        "@all": 7,
    }
    reports, lost = connections.parse([json.dumps({"type": "map", "data": {name: value}}) for name, value in told.items()])
    assert {place: (one.attempts, one.failed, one.pending) for place, one in reports.items()} == {
        ("curl", "10.0.0.2", 80): (6, {"ENETUNREACH": 4, "EADDRNOTAVAIL": 2}, 0),
        ("curl", "2001:db8::1", 443): (1, {"EACCES": 1}, 0),
    }
    assert lost == 0


def test_a_program_is_whole_with_and_without_the_calls() -> None:
    for calls in (True, False):
        text = connections.script(4026531833, calls)
        assert "4026531833" in text and not re.search("NETNS|FAILED", text)
        assert ("sys_exit_connect" in text, text.count("END {"), text.count("{") - text.count("}")) == (calls, 1, 0)


def test_a_name_with_spaces_and_a_link_with_a_comma_are_kept_whole() -> None:
    key = "my, client,::ffff:10.0.0.2,80"
    told = {
        "@attempts": {key: 4},
        "@failed": {f"{key},111": 1, f"{key},0": 1},
        "@least": {key: 200},
        "@most": {key: 900},
        "@all": 6,
    }
    lines = [json.dumps({"type": "map", "data": {name: value}}) for name, value in told.items()]
    lines.append(json.dumps({"type": "stats", "data": {"@took": {key: {"count": 2, "average": 550, "total": 1100}}}}))
    reports, lost = connections.parse(lines)
    assert list(reports) == [("my, client", "10.0.0.2", 80)] and lost == 2
    assert reports["my, client", "10.0.0.2", 80].to_dict() == {
        "attempts": 4, "connected": 2, "pending": 0, "failed": {"ECONNREFUSED": 1, "closed": 1},
        "rtt_ms": {"min": 0.2, "avg": 0.55, "max": 0.9},
    }  # fmt: skip
    line = '{"type": "map", "data": {"@d": {"12,nft_do_chain+3,2048,17,41487,10.0.0.2,10.0.0.1,a,b": 3}}}'
    (drop,) = drop_watch.parse([line], {12: "NETFILTER_DROP"})
    assert (drop["interface"], drop["port"], drop["reason"], drop["l4"], drop["location"]) == (
        "a,b", 4002, "NETFILTER_DROP", "udp", "nft_do_chain",
    )  # fmt: skip
