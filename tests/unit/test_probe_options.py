# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What cannot be asked is refused with where, what and what is allowed; what breaks one probe breaks no other."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from ansible_collections.netops.fleet.plugins.module_utils._evidence import probe_options, probe_why, probes


def ask(*wanted: dict[str, Any], seconds: float = 5.0) -> dict[str, Any]:
    return probe_options.run({"probes": list(wanted), "seconds": seconds})


@pytest.mark.parametrize(
    "probe, words",
    [
        ({"kind": "tcp", "target": "127.0.0.1", "port": 9, "source": "nonsense"}, ["source", "'nonsense'", "IP address"]),
        ({"kind": "path", "target": "name.test", "source": "127.0.0"}, ["source", "'127.0.0'", "IP address"]),
        ({"kind": "udp", "target": "::1", "port": 9, "source": "fe80::1%lo"}, ["source", "'fe80::1%lo'", "without %"]),
        ({"kind": "tcp", "target": "127.0.0.1", "port": 9, "source": "::1"}, ["source ::1", "IPv6", "127.0.0.1", "IPv4"]),
        ({"kind": "mtu", "target": "fe80::1%eth0", "source": "127.0.0.1"}, ["source 127.0.0.1", "IPv4", "IPv6"]),
        ({"kind": "http", "url": "http://[::1]/", "source": "127.0.0.1"}, ["source 127.0.0.1", "IPv4", "::1"]),
        ({"kind": "tcp", "target": "127.0.0.1", "port": 70000}, ["port is 70000", "1 to 65535"]),
        ({"kind": "quic", "target": "127.0.0.1", "port": -5}, ["port is -5", "1 to 65535"]),
        ({"kind": "dns", "target": "x.test", "servers": ["127.0.0.1"], "port": 0}, ["port is 0", "1 to 65535"]),
        ({"kind": "ping", "target": "127.0.0.1", "tcp_port": 70000}, ["tcp_port is 70000", "0 to 65535"]),
        ({"kind": "http", "url": "http://user:word@127.0.0.1:99999/?key=word"}, ["url", "port", "1 to 65535"]),
        ({"kind": "http", "url": "http://127.0.0.1:0/"}, ["url", "port", "1 to 65535"]),
    ],
)
def test_a_source_or_port_that_cannot_be_is_refused_by_name(probe: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(ValueError) as refused:
        ask({"kind": "tcp", "target": "127.0.0.1", "port": 9}, probe)
    said = str(refused.value)
    assert said.startswith(f"probe 2 of kind {probe['kind']}: "), said
    assert all(word in said for word in words) and "word" not in said, said


@pytest.mark.parametrize(
    "probe",
    [
        {"kind": "quic", "target": "127.0.0.1", "port": 70000},
        {"kind": "quic", "target": "127.0.0.1", "port": -5},
        {"kind": "ntp", "target": "127.0.0.1", "port": 70000},
        {"kind": "dns", "target": "x.test", "servers": ["127.0.0.1"], "port": 70000},
        {"kind": "path", "target": "127.0.0.1", "port": 70000},
    ],
)
def test_a_port_out_of_range_is_an_error_and_no_answer_of_the_network(probe: dict[str, Any]) -> None:
    (one,) = probes.run([probe], 5.0, explain=True).data
    assert one["status"] == "error" and "65535" in one["detail"], one


@pytest.mark.parametrize("kind", ["tcp", "udp", "path", "mtu", "ping"])
@pytest.mark.parametrize("source", ["nonsense", "::1"])
def test_a_source_that_fits_no_address_of_the_target_is_an_error(kind: str, source: str) -> None:
    (one,) = probes.run([{"kind": kind, "target": "127.0.0.1", "port": 9, "source": source, "tcp_port": 0}], 5.0, True).data
    assert one["status"] == "error" and f"source {source}" in one["detail"], one


def test_what_breaks_one_probe_is_told_and_the_others_are_made(monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(*_unused: Any) -> None:
        raise RuntimeError("what nobody thought of")

    died: list[Any] = []
    monkeypatch.setattr(threading, "excepthook", died.append)
    monkeypatch.setattr(probes, "MAX_WORKERS", 1)
    monkeypatch.setattr(probes, "_ping", breaks)
    closed = {"kind": "tcp", "target": "127.0.0.1", "port": 9}
    first, second = probes.run([{"kind": "ping", "target": "127.0.0.1"}, closed], 20.0, explain=True).data
    assert (first["status"], second["status"]) == ("error", "refused")
    assert "RuntimeError: what nobody thought of" in first["detail"]
    monkeypatch.setattr(probe_why, "explain", breaks)
    (third,) = probes.run([closed], 20.0, explain=True).data
    assert third["status"] == "refused" and "what nobody thought of" in third["gaps"][0]
    assert died == []
