# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Captures of a run as the report reads them: which packets, what is told of them, and files that are not what they should be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ansible_collections.netops.fleet.plugins.plugin_utils._fleet import captures


@pytest.mark.parametrize(
    ("target", "words"),
    [
        (None, "tcp or icmp or icmp6"),
        ({"proto": "tcp", "port": 1678, "address": None}, "tcp port 1678 or icmp or icmp6"),
        ({"proto": "udp", "port": 53, "address": "192.0.2.7"}, "(udp port 53 and host 192.0.2.7) or icmp or icmp6"),
        ({"proto": "tcp", "port": 443, "address": "2001:db8::7"}, "(tcp port 443 and host 2001:db8::7) or icmp or icmp6"),
    ],
)
def test_which_packets(target: dict[str, Any] | None, words: str) -> None:
    assert captures.expression(target) == words


def summary(**more: Any) -> dict[str, Any]:
    return {
        "packets": 9,
        "seconds": 2.0,
        "connections": 1,
        "unanswered": [],
        "retransmits": [],
        "problems": [],
        "lines": [],
        **more,
    }


def again(count: int, sent: int) -> dict[str, Any]:
    return {"from": "192.0.2.1", "to": "192.0.2.2", "port": 1678, "again": count, "sent": sent}


def silent(syns: int) -> dict[str, Any]:
    return {"from": "192.0.2.1", "to": "192.0.2.2", "port": 9, "syns": syns, "why": "port-unreachable"}


@pytest.mark.parametrize(
    ("shown", "told"),
    [
        (summary(), []),
        (summary(retransmits=[again(4, 10)]), []),
        (summary(retransmits=[again(5, 1000)]), [("capture-retransmits", "info")]),
        (summary(retransmits=[again(50, 10000), again(20, 100)]), [("capture-retransmits", "warning")]),
        (summary(unanswered=[silent(1)]), []),
        (summary(unanswered=[silent(2)]), [("capture-unanswered", "warning")]),
    ],
)  # fmt: skip
def test_what_is_told(shown: dict[str, Any], told: list[tuple[str, str]]) -> None:
    assert [(one.id, one.severity) for one in captures.find(shown)] == told


def test_the_worst_way_is_named() -> None:
    (found,) = captures.find(summary(retransmits=[again(50, 10000), {**again(20, 100), "to": "192.0.2.3"}]))
    assert found.subject == "192.0.2.1 to 192.0.2.3 port 1678" and "20 of 100 segments" in found.summary


@pytest.mark.parametrize(
    ("content", "status", "words"),
    [
        (None, "failed", "nothing was captured"),
        ("{", "failed", "cannot be read"),
        ("[]", "failed", "cannot be read"),
        ('{"failed": "", "summary": {}}', "failed", "cannot be read"),
        ('{"failed": "no tcpdump", "summary": null}', "failed", "no tcpdump"),
    ],
)
def test_a_file_that_is_none(tmp_path: Path, content: str | None, status: str, words: str) -> None:
    folder = Path(captures.made(str(tmp_path)))
    if content is not None:
        (folder / "gpu-01.json").write_text(content, encoding="utf-8")
    covered, found = captures.Captures(str(tmp_path), {"capture": 5.0}).of("gpu-01")
    assert covered is not None and covered["status"] == status and words in covered["gaps"][0]["why"] and found == []
    # Asked for by a variable of this host alone: what it left is read, and no other host was to have any.
    alone = captures.Captures(str(tmp_path), {"capture": 0.0})
    assert alone.of("gpu-01") == ((None, []) if content is None else (covered, found)) and alone.of("gpu-02") == (None, [])


def test_a_run_that_captured_nowhere_says_nothing_of_it(tmp_path: Path) -> None:
    assert captures.Captures(str(tmp_path), {}).of("gpu-01") == (None, [])


def test_what_was_noted_is_read_again(tmp_path: Path) -> None:
    captures.made(str(tmp_path))
    captures.note(str(tmp_path), "gpu/01", summary(retransmits=[again(20, 100)]))
    covered, found = captures.Captures(str(tmp_path), {"capture": 5}).of("gpu/01")
    assert covered is not None and covered["status"] == "ok" and [one.id for one in found] == ["capture-retransmits"]
    with pytest.raises(captures.NoCapture, match="not base64"):
        captures.keep(str(tmp_path / "captures"), "gpu/01", "!!")
    with pytest.raises(captures.NoCapture, match="holds no capture"):
        captures.keep(str(tmp_path / "captures"), "gpu/01", None)
