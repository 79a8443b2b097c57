# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Numbers and structures of bpf(2), without a kernel that takes part."""

from __future__ import annotations

import errno
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.netops.fleet.plugins.module_utils._kernel import bpf


@pytest.mark.parametrize(
    ("machine", "bits", "number"),
    [
        ("x86_64", 64, 321), ("aarch64", 64, 280), ("riscv64", 64, 280), ("ppc64le", 64, 361), ("s390x", 64, 351),
        ("x86_64", 32, 357), ("aarch64", 32, 386), ("armv7l", 32, 386),
    ],
)  # fmt: skip
def test_system_call_numbers(machine: str, bits: int, number: int) -> None:
    assert bpf.syscall_number(machine, bits) == number


def test_an_unknown_machine_is_said() -> None:
    with pytest.raises(bpf.Unsupported) as caught:
        bpf.syscall_number("pdp11", 64)
    assert "pdp11" in caught.value.why


def test_names_by_number() -> None:
    numbers = {"flow_dissector": 17, "sk_lookup": 36, "xdp": 37, "netfilter": 45, "tcx_ingress": 46, "tcx_egress": 47,
               "netkit_primary": 54, "netkit_peer": 55, "cgroup_inet4_connect": 10, "cgroup_setsockopt": 22}  # fmt: skip
    assert {name: bpf.ATTACH[name] for name in numbers} == numbers
    assert [bpf.PROG_TYPES.index(name) for name in ("sched_cls", "xdp", "cgroup_skb", "sk_lookup", "netfilter")] == [
        3,
        6,
        8,
        30,
        32,
    ]
    assert [bpf.LINK_TYPES.index(name) for name in ("cgroup", "netns", "xdp", "netfilter", "tcx", "netkit")] == [
        3,
        5,
        6,
        10,
        11,
        13,
    ]


#: struct bpf_prog_info as every 64-bit machine lays it out: fixed-width fields, 64-bit ones aligned to 8.
INFO = struct.pack(
    "=II8sIIQQQIIQ16sII", 3, 142, bytes.fromhex("b442920991e563b4"), 100, 320, 0, 0, 5_000_000_000, 1000, 2, 0, b"syn_guard", 0, 1
) + bytes(232 - 88)  # fmt: skip


def test_program_of_a_new_and_of_an_old_kernel() -> None:
    new = bytearray(INFO)
    struct.pack_into("=QQ", new, 192, 777, 9)
    found = bpf.parse_program(bytes(new), 232)
    assert (found.type, found.id, found.tag, found.name) == ("sched_cls", 142, "b442920991e563b4", "syn_guard")
    assert (found.load_time, found.uid, found.jited, found.gpl) == (5.0, 1000, True, True)
    assert (found.run_time_ns, found.run_count) == (777, 9)
    old = bpf.parse_program(INFO, 40)  # Linux 4.13
    assert (old.type, old.id, old.name, old.load_time, old.uid, old.gpl, old.run_count) == (
        "sched_cls",
        142,
        "",
        None,
        None,
        None,
        None,
    )
    assert bpf.parse_program(struct.pack("=II", 99, 1), 8).type == "99"


def test_links() -> None:
    def parse(kind: int, *tail: bytes) -> bpf.Link:
        data = struct.pack("=III4x", kind, 5, 142) + b"".join(tail)
        return bpf.parse_link(data + bytes(128 - len(data)), 64)

    tcx = parse(11, struct.pack("=II", 3, 46))
    assert (tcx.type, tcx.id, tcx.prog_id, tcx.ifindex, tcx.attach_type) == ("tcx", 5, 142, 3, "tcx_ingress")
    cgroup = parse(3, struct.pack("=QI", 1 << 40, 1))
    assert (cgroup.cgroup_id, cgroup.attach_type) == (1 << 40, "cgroup_inet_egress")
    netfilter = parse(10, struct.pack("=IIiI", 10, 3, -300, 0))
    assert (netfilter.family, netfilter.hook, netfilter.priority) == (10, 3, -300)
    assert parse(5, struct.pack("=II", 4026531840, 36)).netns_ino == 4026531840
    assert parse(2, struct.pack("=III", 25, 17, 9)).target_prog == 17
    assert parse(200).type == "200"


@given(st.binary(min_size=232, max_size=232), st.integers(0, 232))
def test_any_bytes(data: bytes, length: int) -> None:
    bpf.parse_program(data, length)
    bpf.parse_link(data[:128], min(length, 128))


def test_errors_say_why() -> None:
    assert "does not know it" in bpf.NotSupported(errno.EINVAL, "query tcx_ingress").why
    assert "no bpf() system call" in bpf.NotSupported(errno.ENOSYS, "list BPF programs").why
    assert "not permitted" in bpf.NotPermitted(errno.EPERM, "list BPF programs").why
    assert isinstance(bpf.NotPermitted(errno.EPERM, "x"), OSError)
