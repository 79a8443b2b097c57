# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""Can a BPF program drop packets? Read from its instructions which verdicts it can return. Pure: bytes in, answer out.

An abstract run over all paths: a register holds a small set of known values, or anything. Only the low 32 bits are followed,
because only they are the verdict. "no" is a promise (every return was followed and none drops); "yes" means that an instruction
which the kernel's verifier found reachable sets a dropping verdict; everything else is "unknown".

Sources: Documentation/bpf/standardization/instruction-set.rst; the verdicts: include/uapi/linux/{bpf,pkt_cls,netfilter}.h,
net/core/dev.c, net/sched/cls_bpf.c, kernel/bpf/cgroup.c. Assumes translated instructions of Linux 4.16 or newer, where a
division by zero does not end a program.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Optional

_INSTRUCTION = struct.Struct("=BBhi")
_MASK = 0xFFFFFFFF
_MOST_VALUES = 24
_MOST_INSTRUCTIONS = 200_000
_MOST_STEPS = 400_000
_TAIL_CALL = 12

#: value → index of the instruction that set it as a constant; -1 for one that is only possible. None: anything.
_Values = Optional["dict[int, int]"]


@dataclass
class Returns:
    """values: verdict (32 bits, unsigned) → instruction that sets it, -1 when it is only possible.

    unknown: why there may be other verdicts, one line each; empty when ``values`` is all.
    """

    values: dict[int, int] = field(default_factory=dict)
    unknown: list[str] = field(default_factory=list)


@dataclass
class Verdict:
    """can_drop, can_divert (send elsewhere instead of on): "yes", "no" or "unknown". how: one line per reason."""

    can_drop: str
    can_divert: str
    how: list[str] = field(default_factory=list)

    @classmethod
    def unreadable(cls, why: str) -> Verdict:
        return cls("unknown", "unknown", [why])


@dataclass(frozen=True)
class _Hook:
    """What verdicts mean at a hook. names: value → name. drops, diverts: on the 32-bit value."""

    names: dict[int, str]
    drops: Callable[[int], bool]
    diverts: Callable[[int], bool]


def _one_of(*values: int) -> Callable[[int], bool]:
    return lambda value: value in values


def _never(_value: int) -> bool:
    return False


_TC_NAMES = {
    _MASK: "continue", 0: "ok", 1: "reclassify", 2: "drop", 3: "pipe", 4: "stolen", 5: "queued", 6: "repeat", 7: "redirect",
    8: "trap",
}  # fmt: skip
_TCX_NAMES = {_MASK: "next", 0: "pass", 2: "drop", 7: "redirect"}
_EVEN = _Hook({0: "deny", 1: "allow"}, lambda value: not value & 1, _never)

#: By (hook, program type) as the census names them; the hook "" stands for any.
_HOOKS: dict[tuple[str, str], _Hook] = {
    # cls_bpf consumes a packet on stolen and trap; on what it does not know it goes on.
    ("tc", "sched_cls"): _Hook(_TC_NAMES, _one_of(2, 4, 8), _one_of(7)),
    ("tc", "sched_act"): _Hook(_TC_NAMES, _one_of(2), _one_of(7)),
    ("tcx", "sched_cls"): _Hook(_TCX_NAMES, _one_of(2), _one_of(7)),
    ("netkit", "sched_cls"): _Hook(_TCX_NAMES, _one_of(2), _one_of(7)),
    # A verdict that XDP does not know counts as aborted: the packet is dropped.
    ("xdp", "xdp"): _Hook(
        {0: "aborted", 1: "drop", 2: "pass", 3: "tx", 4: "redirect"}, lambda value: value not in (2, 3, 4), _one_of(3, 4)
    ),
    ("xdp", "ext"): _Hook(
        {0: "aborted", 1: "drop", 2: "pass", 3: "tx", 4: "redirect"}, lambda value: value in (0, 1), _one_of(3, 4)
    ),
    ("cgroup", "cgroup_skb"): _Hook({0: "drop", 1: "pass", 2: "drop", 3: "pass"}, lambda value: not value & 1, _never),
    ("cgroup", "cgroup_sock"): _EVEN,
    ("cgroup", "cgroup_sock_addr"): _EVEN,
    ("cgroup", "cgroup_sockopt"): _EVEN,
    ("netfilter", "netfilter"): _Hook({0: "drop", 1: "accept"}, lambda value: value != 1, _never),
    ("sk_lookup", "sk_lookup"): _Hook({0: "drop", 1: "pass"}, lambda value: value != 1, _never),
    ("lwt", "lwt_in"): _Hook({0: "ok", 2: "drop", 128: "reroute"}, lambda value: value not in (0, 128), _never),
    ("lwt", "lwt_out"): _Hook({0: "ok", 2: "drop"}, lambda value: value != 0, _never),
    ("lwt", "lwt_xmit"): _Hook(
        {0: "ok", 2: "drop", 7: "redirect", 128: "reroute"}, lambda value: value not in (0, 7, 128), _one_of(7)
    ),
}

#: Programs whose verdict never decides a packet.
_HARMLESS = {("cgroup", "sock_ops"): "socket operation programs return no verdict on packets"}


def verdict(code: bytes | None, hook: str, prog_type: str) -> Verdict:
    """What a program of translated instructions ``code`` can do to packets at ``hook`` (names as in the hook census)."""
    harmless = _HARMLESS.get((hook, prog_type))
    if harmless is not None:
        return Verdict("no", "no", [harmless])
    meaning = _HOOKS.get((hook, prog_type))
    if meaning is None:
        return Verdict.unreadable(f"the verdicts of a {prog_type} program at {hook} are not modelled")
    if code is None:
        return Verdict.unreadable("the kernel does not show the instructions")
    found = returns(code)
    how: list[str] = []
    answers = []
    for test in (meaning.drops, meaning.diverts):
        certain = sorted((index, value) for value, index in found.values.items() if index >= 0 and test(value))
        possible = any(test(value) for value in found.values)
        if certain:
            for index, value in certain[:4]:
                number = value if value < 0x80000000 else value - (1 << 32)
                how.append(f"returns {number} ({meaning.names.get(value, 'not a known verdict')}) set at instruction {index}")
            answers.append("yes")
        elif possible or (found.unknown and test is not _never):
            answers.append("unknown")
        else:
            answers.append("no")
    if "unknown" in answers:
        how.extend(found.unknown[:4] or ["a computed value may be that verdict"])
    elif answers[0] == "no" and not how:
        shown = sorted(value if value < 0x80000000 else value - (1 << 32) for value in found.values)
        how.append("returns only " + ", ".join(str(value) for value in shown))
    return Verdict(answers[0], answers[1], how)


def without_addresses(code: bytes) -> bytes:
    """``code`` with the addresses of maps and kernel symbols blanked: equal for programs that differ in nothing else."""
    out, offset = bytearray(code), code.find(b"\x18")
    source = 0xF0 if sys.byteorder == "little" else 0x0F
    while offset >= 0:
        if offset % 8 == 0 and offset + 16 <= len(code) and code[offset + 1] & source:
            out[offset + 4 : offset + 8] = out[offset + 12 : offset + 16] = b"\0\0\0\0"
        offset = code.find(b"\x18", offset + 1)
    return bytes(out)


def returns(code: bytes) -> Returns:
    """The verdicts that a program can return, over every path from its first instruction."""
    result = Returns()
    count = len(code) // 8
    if count == 0 or len(code) % 8:
        result.unknown.append("the instructions are incomplete")
        return result
    if count > _MOST_INSTRUCTIONS:
        result.unknown.append(f"more than {_MOST_INSTRUCTIONS} instructions")
        return result
    return _Run([_INSTRUCTION.unpack_from(code, offset * 8) for offset in range(count)], result).run()


def _note(result: Returns, text: str) -> None:
    if text not in result.unknown:
        result.unknown.append(text)


def _join(first: _Values, second: _Values) -> _Values:
    if first is None or second is None:
        return None
    if first == second:
        return first
    merged = dict(first)
    for value, origin in second.items():
        known = merged.get(value)
        # A constant outranks a possibility, and the first constant stands for all: so the run comes to an end.
        if known is None or (known < 0 <= origin) or (0 <= origin < known):
            merged[value] = origin
    return merged if len(merged) <= _MOST_VALUES else None


class _Run:
    """The abstract run. Registers r0..r11: the kernel rewrites programs with the hidden r11."""

    def __init__(self, program: list[tuple[int, int, int, int]], result: Returns) -> None:
        self._program = program
        self._result = result
        self._states: dict[int, tuple[_Values, ...]] = {}
        self._work: list[int] = []

    def run(self) -> Returns:
        self._reach(0, (None,) * 12)
        steps = 0
        while self._work:
            index = self._work.pop()
            steps += 1
            if steps > _MOST_STEPS:
                _note(self._result, "too long to follow every path")
                break
            if not self._step(index, self._states[index]):
                break
        for index, (code, registers, _offset, _imm) in enumerate(self._program):
            if index not in self._states and code == 0x85 and 2 in (registers & 0xF, registers >> 4):
                # A function of the program that is not followed may throw, and with that end the whole program.
                _note(self._result, f"calls a kernel function at instruction {index}, which may end the program")
                break
        if not self._result.values and not self._result.unknown:
            _note(self._result, "no return was found")
        return self._result

    def _reach(self, index: int, state: tuple[_Values, ...]) -> None:
        if not 0 <= index < len(self._program):
            _note(self._result, "a path leaves the program")
            return
        known = self._states.get(index)
        merged = state if known is None else tuple(map(_join, known, state))
        if merged != known:
            self._states[index] = merged
            self._work.append(index)

    def _step(self, index: int, state: tuple[_Values, ...]) -> bool:
        """Follow one instruction; False when the program cannot be followed at all."""
        code, registers, offset, imm = self._program[index]
        if sys.byteorder == "little":
            dst, src = registers & 0xF, registers >> 4
        else:
            dst, src = registers >> 4, registers & 0xF
        if dst > 11:
            return self._lost(index)
        kind = code & 0x07
        if kind in (0x04, 0x07):  # ALU, ALU64
            if src > 11:
                return self._lost(index)
            self._reach(index + 1, self._set(state, dst, self._arithmetic(state, index, code, dst, src, offset, imm)))
        elif kind in (0x05, 0x06):  # JMP, JMP32
            return self._jump(index, state, code, dst, src, offset, imm)
        elif code == 0x18:  # 64-bit immediate: two slots
            # Addresses come with a source register, or as zero when the kernel hides them.
            constant = src == 0 and imm != 0
            self._reach(index + 2, self._set(state, dst, {imm & _MASK: index} if constant else None))
        elif kind == 0x01:  # load from memory
            self._reach(index + 1, self._set(state, dst, None))
        elif kind in (0x02, 0x03):  # store; an atomic one may bring back a value into a register
            if code & 0xE0 in (0xC0, 0xE0):
                for register in (0, dst, src if src < 12 else 0):
                    state = self._set(state, register, None)
            self._reach(index + 1, state)
        elif kind == 0x00 and code & 0xE0 in (0x20, 0x40):  # packet load of classic BPF: ends with 0 beyond the packet
            self._give({0: -1})
            self._reach(index + 1, (None,) * 6 + state[6:])
        else:
            return self._lost(index)
        return True

    def _lost(self, index: int) -> bool:
        _note(self._result, f"instruction {index} is not known")
        return False

    @staticmethod
    def _set(state: tuple[_Values, ...], register: int, values: _Values) -> tuple[_Values, ...]:
        return state[:register] + (values,) + state[register + 1 :]

    def _give(self, values: dict[int, int]) -> None:
        self._result.values = _join(self._result.values, values) or {}

    def _exit(self, index: int, values: _Values) -> None:
        if values is None:
            _note(self._result, f"returns a computed value at instruction {index}")
            return
        for value, origin in values.items():
            known = self._result.values.get(value)
            if known is None or known < 0 or 0 <= origin < known:
                self._result.values[value] = origin

    def _arithmetic(
        self, state: tuple[_Values, ...], index: int, code: int, dst: int, src: int, offset: int, imm: int
    ) -> _Values:
        wide, operation, by_register = code & 0x07 == 0x07, code & 0xF0, bool(code & 0x08)
        if operation == 0xB0 and not by_register:
            return {imm & _MASK: index} if offset == 0 else None
        if operation in (0x10, 0xA0) and by_register and dst == src:  # subtract or xor with itself
            return {0: index}
        operand: _Values = state[src] if by_register else {imm & _MASK: index}
        if operation == 0xB0:
            return operand if offset == 0 else None  # with an offset: sign extension, or an address
        left = state[dst]
        if operation == 0x80:  # negate
            return None if left is None else {-value & _MASK: index for value in left}
        if operation == 0xD0 or operand is None:  # byte swap
            return None
        if left is None:
            # A mask leaves few values: possible ones, not constants.
            if operation == 0x50 and len(operand) == 1:
                mask = next(iter(operand))
                if bin(mask).count("1") <= 4:
                    return dict.fromkeys(_submasks(mask), -1)
            return None
        merged: dict[int, int] = {}
        for one, first in left.items():
            for two, second in operand.items():
                value = _compute(operation, wide, one, two)
                if value is None:
                    return None
                # Only of constants the outcome is a constant.
                origin = index if first >= 0 and second >= 0 and len(left) == len(operand) == 1 else -1
                merged[value] = max(origin, merged.get(value, -1))
        return merged if len(merged) <= _MOST_VALUES else None

    def _jump(self, index: int, state: tuple[_Values, ...], code: int, dst: int, src: int, offset: int, imm: int) -> bool:
        operation, wide, by_register = code & 0xF0, code & 0x07 == 0x05, bool(code & 0x08)
        if operation == 0x90 and wide:
            self._exit(index, state[0])
        elif operation == 0x80 and wide and not by_register:
            if src == 0 and imm in (_TAIL_CALL, 0):
                # With hidden addresses every helper looks like 0, and a tail call may be among them on some kernels.
                _note(
                    self._result,
                    f"tail call at instruction {index}: another program decides"
                    if imm
                    else f"the call at instruction {index} is hidden by the kernel: it may be a tail call",
                )
            elif src == 2:
                _note(self._result, f"calls a kernel function at instruction {index}, which may end the program")
            elif src not in (0, 1):
                return self._lost(index)
            self._reach(index + 1, (None,) * 6 + state[6:])
        elif operation == 0xF0 and wide:
            _note(self._result, f"tail call at instruction {index}: another program decides")
            self._reach(index + 1, (None,) * 6 + state[6:])
        elif operation == 0x00 and not by_register:
            self._reach(index + 1 + (offset if wide else imm), state)
        elif operation in (0x10, 0x50) and src <= 11:  # equal, not equal
            operand: _Values = state[src] if by_register else {imm & _MASK: index}
            equal, other = self._split(state, dst, operand, wide, index)
            for goes, jumps in ((equal, operation == 0x10), (other, operation == 0x50)):
                if goes is not None:
                    self._reach(index + 1 + offset if jumps else index + 1, goes)
        elif operation in (0x20, 0x30, 0x40, 0x60, 0x70, 0xA0, 0xB0, 0xC0, 0xD0, 0xE0) and src <= 11:
            self._reach(index + 1, state)
            self._reach(index + 1 + offset, state)
        else:
            return self._lost(index)
        return True

    def _split(
        self, state: tuple[_Values, ...], dst: int, operand: _Values, wide: bool, index: int
    ) -> tuple[tuple[_Values, ...] | None, tuple[_Values, ...] | None]:
        """States where register ``dst`` equals ``operand`` and where not; None for what cannot be."""
        if operand is None or len(operand) != 1:
            return state, state
        value = next(iter(operand))
        left = state[dst]
        if left is None:
            return self._set(state, dst, {value: index}), state
        equal = self._set(state, dst, {value: left[value]}) if value in left else None
        if wide:
            # The upper half is not followed: values with the same low half may still differ.
            return equal, state
        rest = {known: origin for known, origin in left.items() if known != value}
        return equal, self._set(state, dst, rest) if rest else None


def _submasks(mask: int) -> list[int]:
    """Every value that ``x & mask`` can have."""
    found, part = [0], mask
    while part:
        found.append(part)
        part = (part - 1) & mask
    return found


def _compute(operation: int, wide: bool, one: int, two: int) -> int | None:
    """The low 32 bits of an operation on low 32 bits; None when the upper half decides too."""
    if operation == 0x00:
        return (one + two) & _MASK
    if operation == 0x10:
        return (one - two) & _MASK
    if operation == 0x20:
        return (one * two) & _MASK
    if operation == 0x40:
        return one | two
    if operation == 0x50:
        return one & two
    if operation == 0xA0:
        return one ^ two
    if operation == 0x60:
        # The machine takes the count modulo its width.
        count = two & (63 if wide else 31)
        return (one << count) & _MASK
    if operation == 0x70 and not wide:
        return one >> (two & 31)
    return None
