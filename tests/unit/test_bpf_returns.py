# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a program can return, on programs assembled by hand; and soundness against an interpreter."""

from __future__ import annotations

import random
import struct
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.netops.fleet.plugins.module_utils._evidence import bpf_returns


def insn(code: int, dst: int = 0, src: int = 0, off: int = 0, imm: int = 0) -> bytes:
    registers = dst | src << 4 if sys.byteorder == "little" else dst << 4 | src
    return struct.pack("=BBhi", code, registers, off, imm)


EXIT = insn(0x95)


def mov(value: int, dst: int = 0) -> bytes:
    return insn(0xB7, dst=dst, imm=value)


HELPER = insn(0x85, imm=7)
CASES = [
    ("tcx", "sched_cls", mov(2) + EXIT, "yes", "no"),
    ("tcx", "sched_cls", mov(-1) + EXIT, "no", "no"),
    ("tcx", "sched_cls", mov(4) + EXIT, "no", "no"),  # tcx goes on after a verdict that it does not know
    ("tc", "sched_cls", mov(4) + EXIT, "yes", "no"),  # stolen: consumed
    ("tc", "sched_cls", mov(7) + EXIT, "no", "yes"),
    ("tc", "sched_cls", HELPER + EXIT, "unknown", "unknown"),
    ("xdp", "xdp", mov(2) + EXIT, "no", "no"),
    ("xdp", "xdp", mov(0) + EXIT, "yes", "no"),
    ("xdp", "xdp", mov(9) + EXIT, "yes", "no"),
    ("xdp", "xdp", mov(3) + EXIT, "no", "yes"),
    ("cgroup", "cgroup_skb", mov(1) + EXIT, "no", "no"),
    ("cgroup", "cgroup_skb", mov(3) + EXIT, "no", "no"),
    ("cgroup", "cgroup_skb", mov(2) + EXIT, "yes", "no"),
    ("cgroup", "cgroup_sock_addr", mov(0) + EXIT, "yes", "no"),
    ("cgroup", "sock_ops", HELPER + EXIT, "no", "no"),
    ("netfilter", "netfilter", mov(0) + EXIT, "yes", "no"),
    ("netfilter", "netfilter", mov(1) + EXIT, "no", "no"),
    ("sk_lookup", "sk_lookup", mov(1) + EXIT, "no", "no"),
    ("lwt", "lwt_xmit", mov(7) + EXIT, "no", "yes"),
    ("flow_dissector", "flow_dissector", mov(0) + EXIT, "unknown", "unknown"),
    ("tcx", "sched_cls", HELPER + insn(0x15, off=1, imm=0) + mov(0) + EXIT, "no", "no"),  # 0 on both paths
    ("tcx", "sched_cls", HELPER + insn(0x55, off=1, imm=2) + EXIT + mov(0) + EXIT, "yes", "no"),  # returns what was equal to 2
    ("tcx", "sched_cls", insn(0x85, imm=12) + mov(0) + EXIT, "unknown", "unknown"),  # tail call
    ("tcx", "sched_cls", insn(0x85, imm=0) + mov(0) + EXIT, "unknown", "unknown"),  # a hidden call may be one
    ("tcx", "sched_cls", insn(0x85, src=2, imm=99) + mov(0) + EXIT, "unknown", "unknown"),  # may throw
    ("tcx", "sched_cls", insn(0x85, src=1, imm=1) + mov(0) + EXIT + mov(2) + EXIT, "no", "no"),  # the callee's value is unused
    ("tcx", "sched_cls", insn(0x85, src=1, imm=1) + EXIT + mov(2) + EXIT, "unknown", "unknown"),
    ("tcx", "sched_cls", insn(0x85, src=1, imm=1) + mov(0) + EXIT + insn(0x85, src=2, imm=5) + EXIT, "unknown", "unknown"),
    ("tcx", "sched_cls", insn(0x0D) + EXIT, "unknown", "unknown"),  # computed jump
    ("tcx", "sched_cls", mov(2, dst=6) + insn(0xBF, dst=0, src=6) + EXIT, "yes", "no"),
    ("tcx", "sched_cls", mov(1, dst=11) + insn(0xA7, dst=11, imm=3) + insn(0xBF, src=11) + EXIT, "yes", "no"),  # blinded constant
    ("tcx", "sched_cls", insn(0x18, imm=2) + insn(0) + EXIT, "yes", "no"),
    ("tcx", "sched_cls", insn(0x18, src=1, imm=2) + insn(0) + EXIT, "unknown", "unknown"),  # an address
    ("tcx", "sched_cls", insn(0x05, off=-1), "unknown", "unknown"),
    ("tcx", "sched_cls", mov(0), "unknown", "unknown"),
    ("tcx", "sched_cls", b"", "unknown", "unknown"),
    ("tcx", "sched_cls", b"\x95" * 7, "unknown", "unknown"),
    ("tcx", "sched_cls", None, "unknown", "unknown"),
]


@pytest.mark.parametrize(("hook", "kind", "code", "drop", "divert"), CASES)
def test_verdicts(hook: str, kind: str, code: bytes | None, drop: str, divert: str) -> None:
    found = bpf_returns.verdict(code, hook, kind)
    assert (found.can_drop, found.can_divert) == (drop, divert)
    assert found.how


def test_says_where() -> None:
    code = HELPER + insn(0x15, off=2, imm=0) + mov(2) + EXIT + mov(0) + EXIT
    assert bpf_returns.verdict(code, "tcx", "sched_cls").how == ["returns 2 (drop) set at instruction 2"]


def test_addresses_do_not_make_programs_differ() -> None:
    one = insn(0x18, dst=1, src=1, imm=77) + insn(0, imm=5) + mov(2) + EXIT
    other = insn(0x18, dst=1, src=1, imm=99) + insn(0, imm=8) + mov(2) + EXIT
    assert bpf_returns.without_addresses(one) == bpf_returns.without_addresses(other)
    assert bpf_returns.without_addresses(insn(0x18, imm=1) + insn(0)) != bpf_returns.without_addresses(
        insn(0x18, imm=2) + insn(0)
    )


@given(st.binary(max_size=400))
def test_any_bytes(code: bytes) -> None:
    found = bpf_returns.verdict(code, "xdp", "xdp")
    assert found.can_drop in ("yes", "no", "unknown")


MASK64 = (1 << 64) - 1
OPERATIONS = st.sampled_from([0x00, 0x10, 0x20, 0x40, 0x50, 0x60, 0x70, 0xA0, 0xB0, 0x80, 0xC0])
ONE = st.one_of(
    st.builds(
        lambda op, wide, reg, dst, src, imm: insn(
            op | (7 if wide else 4) | (8 if reg and op != 0x80 else 0), dst, src if reg else 0, 0, imm
        ),
        OPERATIONS, st.booleans(), st.booleans(), st.integers(0, 3), st.integers(0, 3), st.integers(-3, 40),
    ),
    st.builds(
        lambda op, wide, dst, off, imm: insn(op | (5 if wide else 6), dst, 0, off, imm),
        st.sampled_from([0x10, 0x50, 0x20, 0xA0, 0x60]), st.booleans(), st.integers(0, 3), st.integers(0, 4), st.integers(-2, 5),
    ),
    st.just(HELPER),
)  # fmt: skip


def signed(value: int, bits: int) -> int:
    return value - (1 << bits) if value >> (bits - 1) else value


def interpret(code: bytes, rng: random.Random) -> int | None:
    """Run a program made of ONE; None when it leaves the program. Unset registers and helpers give small random values."""

    def wild() -> int:
        return rng.choice([0, 1, 2, 3, 5, MASK64, 2 + (1 << 32), rng.getrandbits(64)])

    registers = [wild() for _number in range(12)]
    program = [struct.unpack_from("=BBhi", code, at) for at in range(0, len(code), 8)]
    at = 0
    while at < len(program):
        op, packed, off, imm = program[at]
        dst, src = (packed & 15, packed >> 4) if sys.byteorder == "little" else (packed >> 4, packed & 15)
        at += 1
        kind, wide = op & 7, op & 7 in (7, 5)
        if op == 0x95:
            return registers[0] & 0xFFFFFFFF
        if op == 0x85:
            for number in range(6):
                registers[number] = wild()
            continue
        bits = 64 if wide else 32
        mask = (1 << bits) - 1
        left = registers[dst] & mask
        right = (registers[src] if op & 8 else imm) & mask
        if kind in (4, 7):
            count = right & (bits - 1)
            outcomes = {
                0x00: left + right, 0x10: left - right, 0x20: left * right, 0x40: left | right, 0x50: left & right,
                0x60: left << count, 0x70: left >> count, 0xA0: left ^ right, 0xB0: right, 0x80: -left,
                0xC0: signed(left, bits) >> count,
            }  # fmt: skip
            registers[dst] = mask & outcomes[op & 0xF0]
        else:
            taken = {
                0x10: left == right, 0x50: left != right, 0x20: left > right, 0xA0: left < right,
                0x60: signed(left, bits) > signed(right, bits),
            }[op & 0xF0]  # fmt: skip
            at += off if taken else 0
    return None


@settings(max_examples=300, deadline=None)
@given(st.lists(ONE, max_size=14), st.integers())
def test_no_run_returns_what_was_not_foreseen(body: list[bytes], seed: int) -> None:
    """The promise behind "no": whatever an actual run returns is among the values found, or "unknown" was said."""
    code = b"".join(body) + EXIT * 5
    found = bpf_returns.returns(code)
    rng = random.Random(seed)
    for _run in range(10):
        value = interpret(code, rng)
        assert value is not None
        assert found.unknown or value in found.values
