# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Load, attach and pin BPF programs without a compiler. For tests only: the collection itself never does any of it.

Also a program: ``python bpf_tools.py '[["load", ...], ...]'`` does the steps in its own namespace, prints a JSON line with what
they returned, then ``ready``, and holds everything until it is ended. See ``hold``.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import socket
import struct
import sys

SYSCALL = {"x86_64": 321, "aarch64": 280, "ppc64le": 361, "s390x": 351, "riscv64": 280}[os.uname().machine]
PROG_LOAD, OBJ_PIN, PROG_ATTACH, LINK_CREATE = 5, 6, 8, 28
SCHED_CLS, XDP, CGROUP_SKB, CGROUP_SOCK_ADDR, NETFILTER, SK_LOOKUP, FLOW_DISSECTOR = 3, 6, 8, 18, 32, 30, 22
ATTACH = {
    "cgroup_inet_ingress": 0, "cgroup_inet_egress": 1, "cgroup_inet4_connect": 10, "flow_dissector": 17, "sk_lookup": 36,
    "xdp": 37, "netfilter": 45, "tcx_ingress": 46, "tcx_egress": 47,
}  # fmt: skip
TYPES = {
    "sched_cls": 3, "xdp": 6, "cgroup_skb": 8, "cgroup_sock_addr": 18, "netfilter": 32, "sk_lookup": 30, "flow_dissector": 22,
}  # fmt: skip
XDP_FLAGS = {"generic": 2, "native": 4}

_libc = ctypes.CDLL(None, use_errno=True)


def bpf(command: int, attr: bytes) -> int:
    buffer = ctypes.create_string_buffer(attr, len(attr))
    result = _libc.syscall(ctypes.c_long(SYSCALL), ctypes.c_long(command), buffer, ctypes.c_ulong(len(attr)))
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"bpf command {command}: {os.strerror(number)}")
    return int(result)


def insn(code: int, dst: int = 0, src: int = 0, off: int = 0, imm: int = 0) -> bytes:
    registers = dst | src << 4 if sys.byteorder == "little" else dst << 4 | src
    return struct.pack("=BBhi", code, registers, off, imm)


def constant(value: int) -> bytes:
    """r0 = value; exit"""
    return insn(0xB7, imm=value) + insn(0x95)


def helper_result(helper: int = 7) -> bytes:
    """r0 = helper(); exit (7: get_prandom_u32)"""
    return insn(0x85, imm=helper) + insn(0x95)


def load(prog_type: int, code: bytes, name: str, attach: int = 0) -> int:
    """Load a program; returns its descriptor. The verifier's words are in the error."""
    log = ctypes.create_string_buffer(65536)
    text = ctypes.create_string_buffer(code, len(code))
    licence = ctypes.create_string_buffer(b"GPL")

    def attr(level: int) -> bytes:
        return struct.pack(
            "=IIQQIIQII16sII", prog_type, len(code) // 8, ctypes.addressof(text), ctypes.addressof(licence), level,
            len(log) if level else 0, ctypes.addressof(log) if level else 0, 0, 0, name.encode(), 0, attach,
        )  # fmt: skip

    try:
        return bpf(PROG_LOAD, attr(0))
    except OSError:
        try:
            return bpf(PROG_LOAD, attr(1))
        except OSError as error:
            raise OSError(error.errno, f"{error.strerror}: {log.value.decode(errors='replace')}") from None


def identity(descriptor: int) -> dict[str, int]:
    """prog_id and link_id of a descriptor as the kernel shows them in fdinfo."""
    found = {}
    with open(f"/proc/self/fdinfo/{descriptor}") as lines:
        for line in lines:
            name, _colon, value = line.partition(":")
            if name in ("prog_id", "link_id"):
                found[name] = int(value)
    return found


def link_create(prog: int, target: int, attach_type: int, flags: int = 0) -> int:
    """A link at tcx, xdp (target: ifindex) or at a cgroup or namespace (target: descriptor)."""
    return bpf(LINK_CREATE, struct.pack("=IIII", prog, target, attach_type, flags) + bytes(32))


def netfilter_link(prog: int, family: int, hook: int, priority: int) -> int:
    return bpf(LINK_CREATE, struct.pack("=IIIIIIiI", prog, 0, ATTACH["netfilter"], 0, family, hook, priority, 0) + bytes(16))


def prog_attach(prog: int, target: int, attach_type: int, flags: int = 0) -> None:
    bpf(PROG_ATTACH, struct.pack("=IIII", target, prog, attach_type, flags) + bytes(16))


def pin(descriptor: int, path: str) -> None:
    name = ctypes.create_string_buffer(path.encode())
    bpf(OBJ_PIN, struct.pack("=QII", ctypes.addressof(name), descriptor, 0))


def _attribute(kind: int, body: bytes) -> bytes:
    return struct.pack("=HH", len(body) + 4, kind) + body + bytes(-len(body) % 4)


def _request(kind: int, flags: int, body: bytes) -> None:
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as sock:
        sock.bind((0, 0))
        sock.send(struct.pack("=IHHII", len(body) + 16, kind, flags | 5, 1, 0) + body)
        code = struct.unpack_from("=i", sock.recv(65536), 16)[0]
        if code:
            raise OSError(-code, f"rtnetlink request {kind}: {os.strerror(-code)}")


def tc_filter(prog: int, ifindex: int, direction: str, priority: int, name: str, direct: bool = True, chain: int = 0) -> None:
    """A bpf filter at clsact, as ``tc filter add ... bpf direct-action`` makes it; the qdisc must be there."""
    parent = 0xFFFFFFF2 if direction == "ingress" else 0xFFFFFFF3
    options = _attribute(6, struct.pack("=I", prog)) + _attribute(7, name.encode() + b"\0")
    options += _attribute(8, struct.pack("=I", int(direct)))
    body = struct.pack("=BxxxiIII", 0, ifindex, 0, parent, priority << 16 | socket.htons(3))
    body += _attribute(1, b"bpf\0") + _attribute(11, struct.pack("=I", chain)) + _attribute(2 | 0x8000, options)
    _request(44, 0x400 | 0x200, body)


def xdp_netlink(prog: int, ifindex: int, mode: str) -> None:
    nested = _attribute(1, struct.pack("=i", prog)) + _attribute(3, struct.pack("=I", XDP_FLAGS[mode]))
    _request(19, 0, struct.pack("=BxHiII", 0, 0, ifindex, 0, 0) + _attribute(43 | 0x8000, nested))


def hold(steps: list[dict[str, object]]) -> list[dict[str, int]]:
    """Do the steps; returns for each ``{prog_id, link_id}``. Descriptors stay open unless ``close`` is true.

    A step: ``{how, type, code (hex), name, dev, direction, priority, mode, attach, path, family, hook, pin, pin_link, close}``.
    how: tc, tcx, xdp, xdp_link, cgroup, cgroup_link, netns_link, netfilter, netns, load.
    """
    told = []
    for step in steps:
        how, dev = str(step["how"]), str(step.get("dev", ""))
        attach = ATTACH.get(str(step.get("attach", "")), 0)
        kind = TYPES[str(step["type"])]
        expected = attach if how in ("cgroup", "cgroup_link", "netns_link", "netns") else ATTACH["netfilter"] if kind == 32 else 0
        prog = load(kind, bytes.fromhex(str(step["code"])), str(step["name"]), expected)
        link = -1
        ifindex = socket.if_nametoindex(dev) if dev else 0
        if how == "tc":
            tc_filter(
                prog, ifindex, str(step["direction"]), int(str(step["priority"])), str(step["name"]),
                bool(step.get("direct", True)), int(str(step.get("chain", 0))),
            )  # fmt: skip
        elif how == "tcx":
            link = link_create(prog, ifindex, ATTACH[f"tcx_{step['direction']}"])
        elif how == "tcx_direct":
            prog_attach(prog, ifindex, ATTACH[f"tcx_{step['direction']}"])
        elif how == "xdp":
            xdp_netlink(prog, ifindex, str(step["mode"]))
        elif how == "xdp_link":
            link = link_create(prog, ifindex, ATTACH["xdp"], XDP_FLAGS[str(step["mode"])])
        elif how in ("cgroup", "cgroup_link", "netns_link", "netns"):
            target = os.open(str(step.get("path") or "/proc/self/ns/net"), os.O_RDONLY)
            if how.endswith("_link"):
                link = link_create(prog, target, attach)
            elif how == "cgroup":
                prog_attach(prog, target, attach, 2)
            else:  # the namespace of the caller is meant, and no other can be
                prog_attach(prog, 0, attach)
            os.close(target)
        elif how == "netfilter":
            link = netfilter_link(prog, int(str(step["family"])), int(str(step["hook"])), int(str(step["priority"])))
        elif how != "load":
            raise ValueError(how)
        told.append({**identity(prog), **(identity(link) if link >= 0 else {})})
        if "pin" in step:
            pin(prog, str(step["pin"]))
        if "pin_link" in step:
            pin(link, str(step["pin_link"]))
        if step.get("close"):
            for descriptor in (prog, link):
                if descriptor >= 0:
                    os.close(descriptor)
    return told


if __name__ == "__main__":
    print(json.dumps(hold(json.loads(sys.argv[1]))), flush=True)
    print("ready", flush=True)
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
