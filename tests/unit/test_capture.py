# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Captures that nobody vouches for: any bytes are read without failing, within bounds; known packets say what they are."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.netops.fleet.plugins.module_utils._evidence import capture
from ansible_collections.netops.fleet.plugins.plugin_utils._fleet import captured, pcap

A, B = bytes([10, 0, 0, 1]), bytes([10, 0, 0, 2])


def tcp(sport: int, dport: int, seq: int, flags: int, content: int = 0) -> bytes:
    return struct.pack("!HHIIBBHHH", sport, dport, seq, 0, 5 << 4, flags, 1000, 0, 0) + bytes(content)


def ip4(source: bytes, target: bytes, body: bytes, ident: int, protocol: int = 6, ttl: int = 64) -> bytes:
    return struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(body), ident, 0, ttl, protocol, 0, source, target) + body


def file(frames: list[tuple[float, bytes]], link: int = 1, order: str = "<") -> bytes:
    head = struct.pack(f"{order}IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, link)
    before = {1: bytes(12) + b"\x08\x00", 113: bytes(14) + b"\x08\x00", 276: b"\x08\x00" + bytes(18), 101: b""}[link]
    records = [
        struct.pack(f"{order}IIII", int(when), int(when % 1 * 1e6), len(before + one), len(before + one)) + before + one
        for when, one in frames
    ]
    return head + b"".join(records)


@pytest.mark.parametrize("link", [1, 101, 113, 276])
@pytest.mark.parametrize("order", ["<", ">"])
def test_link_types_and_byte_orders(link: int, order: str) -> None:
    found = list(pcap.packets(file([(1.5, ip4(A, B, tcp(40000, 80, 7, pcap.SYN), 1))], link, order)))
    assert found == [pcap.Packet(1.5, "10.0.0.1", "10.0.0.2", 6, 64, 1, 40000, 80, pcap.SYN, 7, 0, 0)]


def test_vlan_tags_are_stepped_over() -> None:
    frame = ip4(A, B, tcp(1, 2, 3, pcap.SYN), 1)
    tagged = file([(1.0, frame)]).replace(b"\x08\x00" + frame[:2], b"\x81\x00\x00\x05\x08\x00" + frame[:2])
    tagged = tagged[:32] + struct.pack("<II", len(frame) + 18, len(frame) + 18) + tagged[40:]
    assert [one and one.dport for one in pcap.packets(tagged)] == [2]


def test_a_packet_on_two_interfaces_is_no_retransmission_and_a_second_one_is() -> None:
    syn, answer = ip4(A, B, tcp(4000, 80, 1, pcap.SYN), 1), ip4(B, A, tcp(80, 4000, 1, pcap.SYN | pcap.ACK), 1)
    data, again = ip4(A, B, tcp(4000, 80, 2, pcap.ACK, 100), 7), ip4(A, B, tcp(4000, 80, 2, pcap.ACK, 100), 8)
    told = captured.summary(file([(1, syn), (1.00001, syn), (1.001, answer), (1.1, data), (1.10001, data), (1.3, again)]))
    assert told["packets"] == 4
    assert told["retransmits"] == [{"from": "10.0.0.1", "to": "10.0.0.2", "port": 80, "again": 1, "sent": 2}]
    assert told["unanswered"] == []


def test_ports_used_again_are_another_connection() -> None:
    frames = [
        (1.0, ip4(A, B, tcp(4000, 80, 1, pcap.SYN), 1)),
        (1.1, ip4(B, A, tcp(80, 4000, 1, pcap.SYN | pcap.ACK), 1)),
        (9.0, ip4(A, B, tcp(4000, 80, 500, pcap.SYN), 2)),
        (10.0, ip4(A, B, tcp(4000, 80, 500, pcap.SYN), 3)),
    ]
    assert [(one["port"], one["syns"]) for one in captured.summary(file(frames))["unanswered"]] == [(80, 2)]


GOOD = file(
    [
        (1.0, ip4(A, B, tcp(4000, 80, 1, pcap.SYN), 1)),
        (1.1, ip4(B, A, struct.pack("!BBHI", 3, 13, 0, 0) + ip4(A, B, tcp(4000, 80, 1, pcap.SYN), 1)[:28], 2, protocol=1)),
        (1.2, ip4(B, A, tcp(80, 4000, 1, pcap.RST | pcap.ACK), 3, ttl=40)),
    ]
)


@given(st.binary(max_size=400))
@settings(max_examples=300, deadline=None)
def test_any_bytes_are_summed_up(data: bytes) -> None:
    told = captured.summary(data)
    assert told["lines"] and all(line.isprintable() for line in told["lines"])


@given(st.integers(0, len(GOOD) - 1), st.binary(min_size=1, max_size=12), st.integers(0, len(GOOD)))
@settings(max_examples=600, deadline=None)
def test_a_good_file_with_bytes_changed_and_cut_is_summed_up(place: int, other: bytes, end: int) -> None:
    told = captured.summary((GOOD[:place] + other + GOOD[place + len(other) :])[: max(place, end)])
    assert told["packets"] <= 3 and told["lines"]


@given(st.sampled_from([1, 101, 113, 276]), st.lists(st.binary(max_size=120), max_size=12))
@settings(max_examples=300, deadline=None)
def test_any_frames_are_summed_up(link: int, frames: list[bytes]) -> None:
    told = captured.summary(file([(float(number), one) for number, one in enumerate(frames)], link))
    assert told["packets"] <= len(frames)


def test_a_length_that_lies_reads_nothing_beyond_the_file() -> None:
    lying = GOOD[:32] + struct.pack("<I", 0xFFFFFFFF) + GOOD[36:]
    assert captured.summary(lying)["packets"] == 0


def test_what_is_no_capture_says_so() -> None:
    assert captured.summary(b"\x0a\x0d\x0d\x0a" + bytes(40))["problems"] == [
        "it does not begin as a capture file does (pcapng is not read)"
    ]


@given(st.binary(max_size=200), st.integers(24, 300))
@settings(max_examples=200, deadline=None)
def test_only_whole_records_are_kept(rest: bytes, most: int) -> None:
    data, _count, _more = capture.whole_records(GOOD + rest, most)
    assert (GOOD + rest).startswith(data) and len(data) <= max(24, most)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"seconds": 301}, "seconds is 301; allowed are 0.1 to 300."),
        ({"packets": 0}, "packets is 0; allowed are 1 to 200000."),
        ({"snaplen": 10}, "snaplen is 10; allowed are 64 to 65535."),
        ({"max_bytes": 1 << 30}, "max_bytes is 1.07374e+09; allowed are 4096 to 1.67772e+07."),
        ({"interface": "-w"}, "interface is '-w'; allowed is the name of one, or any."),
        ({"interface": "../x"}, "interface is '../x'; allowed is the name of one, or any."),
        ({"filter": "tcp\nport 1"}, "filter is 'tcp\\nport 1'; allowed is one line of pcap-filter(7), at most 1000 characters."),
    ],
)
def test_options_out_of_bounds_are_told(given: dict[str, Any], said: str) -> None:
    with pytest.raises(capture.Wrong) as error:
        capture.Options.from_params({**dict.fromkeys(capture.ARGUMENTS), **given})
    assert str(error.value) == said
