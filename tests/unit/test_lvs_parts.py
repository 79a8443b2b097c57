# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The smaller parts of load balancing: a drill's report, frames of a question, addresses in order, the record, the slow start."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.netops.fleet.plugins.module_utils._lvs import segment, state, traffic, vip
from ansible_collections.netops.fleet.plugins.module_utils._lvs.model import parse_key

ROOT = Path(__file__).resolve().parents[2]

# --- traffic


def seen(*samples: tuple[float, float, str | None, str], streams: tuple[str, ...] = ()) -> dict[str, Any]:
    return {"samples": [list(one) for one in samples], "streams": [{"state": one} for one in streams]}


def test_gap_is_between_two_answers() -> None:
    report = traffic.judge(
        seen(
            (9.0, 0.1, "a", "ok"), (10.0, 0.1, "b", "ok"), (11.0, 2.0, None, "timeout"), (13.0, 0.0, None, "refused"),
            (14.0, 0.1, "b", "ok"), (20.0, 0.1, "a", "ok"),
            streams=("alive", "reset", "not opened: refused", "closed by the server"),
        ),
        10.5, 15.0, {"gap_s": 3, "failed": 2, "streams_lost": 0},
    )  # fmt: skip
    assert report["gap_s"] == 6.0  # from 14.1 to 20.1: nothing was asked, so nothing is known to have worked
    assert (report["timeout"], report["refused"], report["failed"]) == (1, 1, 2)
    assert report["streams"] == {"opened": 3, "alive": 2, "lost": 1}
    assert report["distribution"] == {"before": {"a": 1, "b": 1}, "during": {"b": 1}, "after": {"a": 1}}
    assert [one.split()[0] for one in report["over_budget"]] == ["gap_s", "streams_lost"] and not report["within_budget"]


def test_a_service_that_never_comes_back_has_a_gap_to_the_end() -> None:
    report = traffic.judge(seen((1.0, 0.1, "a", "ok"), (2.0, 3.0, None, "timeout"), (5.0, 3.0, None, "timeout")), 1.5, 9.0, {})
    assert report["gap_s"] == pytest.approx(6.9) and report["within_budget"]


def test_nothing_measured_is_no_success() -> None:
    assert not traffic.judge(seen(), 1.0, 2.0, {})["within_budget"]
    assert not traffic.judge(seen((3.0, 0.1, "a", "ok")), 1.0, 2.0, {})["within_budget"]


def test_failures_before_the_fault_are_not_its_own() -> None:
    report = traffic.judge(seen((1.0, 0.1, "a", "ok"), (1.5, 0.0, None, "reset"), (3.0, 0.1, "a", "ok")), 2.0, 4.0, {})
    assert report["failed"] == 0


@pytest.mark.parametrize(
    ("behaviour", "status"), [("answer", "ok"), ("close", "reset"), ("silent", "timeout"), ("none", "refused")]
)
def test_real_connections_are_told_apart(tmp_path: Path, behaviour: str, status: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        held: list[socket.socket] = []

        def serve() -> None:
            while True:
                try:
                    connection, _peer = server.accept()
                except OSError:
                    return
                if behaviour == "answer":
                    connection.recv(4096)
                    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\ngpu-01")
                if behaviour == "silent":
                    held.append(connection)
                else:
                    connection.close()

        thread = threading.Thread(target=serve, daemon=True)
        if behaviour != "none":
            thread.start()
        else:
            server.close()
        told = tmp_path / "told"
        told.touch()
        found = traffic.run("127.0.0.1", port, "/", 0.3, 0.1, 0.3, 0, "/", while_exists=str(told))
        assert told.read_text() == ("answered\n" if status == "ok" else "")
        server.close()
        for one in held:
            one.close()
    assert {sample[3] for sample in found["samples"]} == {status}
    assert {sample[2] for sample in found["samples"]} == ({"gpu-01"} if status == "ok" else {None})


def test_traffic_ends_with_its_file(tmp_path: Path) -> None:
    found = traffic.run("127.0.0.1", 9, "/", 60.0, 0.1, 0.3, 0, "/", while_exists=str(tmp_path / "gone"))
    assert found["samples"] == []


# --- who answers


def test_a_question_and_its_answer() -> None:
    mac = bytes.fromhex("020000000001")
    asked = segment.arp_request(mac, "0.0.0.0", "192.0.2.80")
    assert len(asked) == 42 and asked[:6] == b"\xff" * 6
    answer = bytes.fromhex("020000000001 02000000000b 0806 0001 0800 06 04 0002".replace(" ", ""))
    answer += bytes.fromhex("02000000000b") + bytes([192, 0, 2, 80]) + mac + bytes(4)
    assert segment.arp_reply(answer, "192.0.2.80") == "02:00:00:00:00:0b"
    assert segment.arp_reply(answer, "192.0.2.81") is None
    assert segment.arp_reply(asked, "192.0.2.80") is None


def test_checksum_of_a_solicitation_is_right() -> None:
    frame = segment.nd_solicitation(bytes.fromhex("020000000001"), "fe80::1", "2001:db8::80")
    body, pseudo = frame[54:], frame[22:54] + len(frame[54:]).to_bytes(4, "big") + b"\0\0\0\x3a"
    assert segment.checksum(pseudo + body) == 0
    assert frame[38:54] == socket.inet_pton(socket.AF_INET6, "ff02::1:ff00:80")


@given(st.binary(max_size=120))
def test_any_frame_is_read(frame: bytes) -> None:
    segment.arp_reply(frame, "192.0.2.80")
    segment.nd_advertisement(frame, "2001:db8::80")


# --- a real server's addresses


def test_quiet_before_the_address_and_after_it() -> None:
    loud = {"all arp_announce": 0, "all arp_ignore": 0}
    there = vip.plan(True, ["192.0.2.80/32", "2001:db8::80/128"], set(), loud, {})
    assert [one.kind for one in there] == ["sysctl", "sysctl", "address", "address"]
    quiet = {"all arp_announce": 2, "all arp_ignore": 1}
    assert vip.plan(True, ["192.0.2.80/32"], {"192.0.2.80/32"}, quiet, loud) == []
    gone = vip.plan(False, ["192.0.2.80/32"], {"192.0.2.80/32"}, quiet, loud)
    assert [(one.kind, one.after) for one in gone] == [("address", "absent"), ("sysctl", "0"), ("sysctl", "0")]
    assert vip.plan(False, ["192.0.2.80/32"], set(), loud, loud) == []
    assert vip.plan(True, ["192.0.2.80/32"], set(), {"all arp_ignore": 2, "all arp_announce": 2}, {})[0].kind == "address", (
        "stricter stays"
    )
    assert [one.kind for one in vip.plan(True, ["2001:db8::80/128"], set(), loud, {})] == ["address"]


@pytest.mark.parametrize("text", ["director", "192.0.2.80/24", "2001:db8::1/64", ""])
def test_addresses_that_would_claim_more_are_refused(text: str) -> None:
    with pytest.raises(vip.Wrong):
        vip.host_prefix(text)


# --- the record


def test_record_there_and_back(tmp_path: Path) -> None:
    folder = str(tmp_path / "lvs")
    assert state.load(folder) == state.Record()
    record = state.Record(
        "lvs_wrr", {parse_key("tcp/192.0.2.80:80"), parse_key("fwmark/7/ipv6")}, {"a": 1.5}, {"192.0.2.1": 2.0}, {"192.0.2.1": 3}
    )
    state.save(folder, record)
    assert state.load(folder) == record


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"schema": 2}', '{"schema": 1, "writer": "x", "services": [], "draining": {}, "drained": {}}']
)
def test_a_damaged_record_is_an_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "table.json").write_text(text)
    with pytest.raises(state.StateError, match=r"table\.json"):
        state.load(str(tmp_path))


def test_folder_of_the_record_that_is_there_stays_as_it_is(tmp_path: Path) -> None:
    there, shared, fresh = tmp_path / "there", tmp_path / "shared", tmp_path / "fresh"
    there.mkdir()
    shared.mkdir()
    there.chmod(0o755)
    shared.chmod(0o1777)
    for folder in (there, fresh):
        state.save(str(folder), state.Record())
    with pytest.raises(state.StateError, match="others may write to it"):
        state.save(str(shared), state.Record())
    assert [oct(one.stat().st_mode) for one in (there, shared, fresh)] == ["0o40755", "0o41777", "0o40700"]
    assert list(shared.iterdir()) == []


# --- the slow start

RAMP = ROOT / "roles" / "lvs_director" / "files" / "lvs-ramp"


def ramp(folder: Path, seconds: float, event: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, str(RAMP), str(folder), str(seconds), event, "name"])


def test_ramp_of_a_returning_server(tmp_path: Path) -> None:
    path, goal, note = tmp_path / "name", tmp_path / "name.target", tmp_path / "name.ramp"
    goal.write_text("19\n")
    path.write_text("19\n")
    assert ramp(tmp_path, 60, "up").wait(30) == 0
    assert path.read_text() == "19\n", "a server that was not down keeps its weight"
    assert ramp(tmp_path, 60, "down").wait(30) == 0
    assert (path.read_text(), note.read_text()) == ("1\n", "down\n")
    assert ramp(tmp_path, 0.4, "up").wait(30) == 0
    assert path.read_text() == "19\n" and not note.exists()


def test_ramp_gives_way_to_a_new_failure(tmp_path: Path) -> None:
    path, goal = tmp_path / "name", tmp_path / "name.target"
    goal.write_text("99\n")
    assert ramp(tmp_path, 600, "down").wait(30) == 0
    rising = ramp(tmp_path, 10, "up")
    try:
        deadline = time.monotonic() + 30
        while int(path.read_text()) < 12:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert ramp(tmp_path, 10, "down").wait(30) == 0
        assert rising.wait(30) == 0
        assert path.read_text() == "9\n"
    finally:
        rising.kill()
        rising.wait()


def test_ramp_of_a_drained_server_stays_at_zero(tmp_path: Path) -> None:
    path, goal = tmp_path / "name", tmp_path / "name.target"
    goal.write_text("-1\n")
    path.write_text("-1\n")
    for event in ("down", "up"):
        assert ramp(tmp_path, 0.1, event).wait(30) == 0
    assert path.read_text() == "-1\n"
