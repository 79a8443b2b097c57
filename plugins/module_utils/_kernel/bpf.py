# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""Ask the kernel about BPF programs, links and where they are attached. Only questions: nothing is loaded, attached or changed.

Sources: bpf(2), include/uapi/linux/bpf.h. Every file descriptor opened here is closed before the function returns.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

PROG_TYPES = (
    "unspec", "socket_filter", "kprobe", "sched_cls", "sched_act", "tracepoint", "xdp", "perf_event", "cgroup_skb",
    "cgroup_sock", "lwt_in", "lwt_out", "lwt_xmit", "sock_ops", "sk_skb", "cgroup_device", "sk_msg", "raw_tracepoint",
    "cgroup_sock_addr", "lwt_seg6local", "lirc_mode2", "sk_reuseport", "flow_dissector", "cgroup_sysctl",
    "raw_tracepoint_writable", "cgroup_sockopt", "tracing", "struct_ops", "ext", "lsm", "sk_lookup", "syscall", "netfilter",
)  # fmt: skip

ATTACH_TYPES = (
    "cgroup_inet_ingress", "cgroup_inet_egress", "cgroup_inet_sock_create", "cgroup_sock_ops", "sk_skb_stream_parser",
    "sk_skb_stream_verdict", "cgroup_device", "sk_msg_verdict", "cgroup_inet4_bind", "cgroup_inet6_bind",
    "cgroup_inet4_connect", "cgroup_inet6_connect", "cgroup_inet4_post_bind", "cgroup_inet6_post_bind",
    "cgroup_udp4_sendmsg", "cgroup_udp6_sendmsg", "lirc_mode2", "flow_dissector", "cgroup_sysctl", "cgroup_udp4_recvmsg",
    "cgroup_udp6_recvmsg", "cgroup_getsockopt", "cgroup_setsockopt", "trace_raw_tp", "trace_fentry", "trace_fexit",
    "modify_return", "lsm_mac", "trace_iter", "cgroup_inet4_getpeername", "cgroup_inet6_getpeername",
    "cgroup_inet4_getsockname", "cgroup_inet6_getsockname", "xdp_devmap", "cgroup_inet_sock_release", "xdp_cpumap",
    "sk_lookup", "xdp", "sk_skb_verdict", "sk_reuseport_select", "sk_reuseport_select_or_migrate", "perf_event",
    "trace_kprobe_multi", "lsm_cgroup", "struct_ops", "netfilter", "tcx_ingress", "tcx_egress", "trace_uprobe_multi",
    "cgroup_unix_connect", "cgroup_unix_sendmsg", "cgroup_unix_recvmsg", "cgroup_unix_getpeername",
    "cgroup_unix_getsockname", "netkit_primary", "netkit_peer", "trace_kprobe_session", "trace_uprobe_session",
)  # fmt: skip

LINK_TYPES = (
    "unspec", "raw_tracepoint", "tracing", "cgroup", "iter", "netns", "xdp", "perf_event", "kprobe_multi", "struct_ops",
    "netfilter", "tcx", "uprobe_multi", "netkit", "sockmap",
)  # fmt: skip

ATTACH = {name: number for number, name in enumerate(ATTACH_TYPES)}

#: bpf(2)'s number for 64-bit processes; the second table for 32-bit ones, which may run on a 64-bit kernel.
SYSCALLS = {
    "x86_64": 321, "aarch64": 280, "aarch64_be": 280, "riscv64": 280, "loongarch64": 280, "ppc64": 361, "ppc64le": 361,
    "s390x": 351, "mips64": 5315, "sparc64": 349,
}  # fmt: skip
SYSCALLS_32 = {
    "x86_64": 357, "i386": 357, "i486": 357, "i586": 357, "i686": 357, "aarch64": 386, "armv6l": 386, "armv7l": 386,
    "armv8l": 386, "ppc": 361, "riscv32": 280,
}  # fmt: skip

_OBJ_GET, _PROG_GET_NEXT_ID, _MAP_GET_NEXT_ID, _PROG_GET_FD_BY_ID = 7, 11, 12, 13
_MAP_GET_FD_BY_ID, _OBJ_GET_INFO_BY_FD, _PROG_QUERY, _LINK_GET_FD_BY_ID, _LINK_GET_NEXT_ID = 14, 15, 16, 30, 31
_F_RDONLY = 1 << 3
_F_QUERY_EFFECTIVE = 1
_ATTR_SIZE = 64
_PROG_INFO_SIZE, _LINK_INFO_SIZE = 232, 128

#: More programs than one hook can hold on any kernel (64), with room for cgroups that inherit.
_MOST_AT_A_HOOK = 4096


class BpfError(OSError):
    """The kernel refused a question. ``errno`` says how, ``why`` says it in a line for the operator."""

    def __init__(self, number: int, question: str) -> None:
        super().__init__(number, os.strerror(number))
        self.question = question

    @property
    def why(self) -> str:
        return f"{self.question}: {(self.strerror or '').lower()}"


class NotPermitted(BpfError):
    """EPERM, EACCES: capabilities, a lock on the kernel, or a container's seccomp filter."""

    @property
    def why(self) -> str:
        return f"{self.question}: not permitted, {permission()}"


class NotSupported(BpfError):
    """ENOSYS, EINVAL, E2BIG, EOPNOTSUPP: this kernel does not know the call, the question or the hook."""

    @property
    def why(self) -> str:
        kernel = os.uname().release
        if self.errno == errno.ENOSYS:
            return f"{self.question}: kernel {kernel} has no bpf() system call, or a seccomp filter hides it"
        return f"{self.question}: kernel {kernel} does not know it (too old, or built without it)"


class Gone(BpfError):
    """ENOENT, ENODEV, EBADF: the object went away between two questions."""


class Unsupported(NotSupported):
    """No number of bpf(2) is known for this machine."""

    def __init__(self, machine: str) -> None:
        super().__init__(errno.ENOSYS, "bpf")
        self.machine = machine

    @property
    def why(self) -> str:
        return f"the number of the bpf() system call is not known for machine {self.machine}"


_CLASSES: dict[int, type[BpfError]] = {
    errno.EPERM: NotPermitted,
    errno.EACCES: NotPermitted,
    errno.ENOSYS: NotSupported,
    errno.EINVAL: NotSupported,
    errno.E2BIG: NotSupported,
    errno.EOPNOTSUPP: NotSupported,
    errno.ENOENT: Gone,
    errno.ENODEV: Gone,
    errno.EBADF: Gone,
}


def permission() -> str:
    """Why this process may not ask, as far as it can see."""
    needed = "CAP_SYS_ADMIN, or CAP_BPF with CAP_NET_ADMIN"
    if os.geteuid() != 0:
        return f"run as root (it needs {needed})"
    lockdown = _first_line("/sys/kernel/security/lockdown")
    if "[confidentiality]" in lockdown:
        return "the kernel is locked down (confidentiality)"
    return f"this root lacks {needed} (a container?), or a seccomp filter forbids it"


def _first_line(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.readline(256).strip()
    except OSError:
        return ""


def syscall_number(machine: str | None = None, bits: int | None = None) -> int:
    """bpf(2)'s number on ``machine`` (as uname says it) for a process of ``bits`` bits; raises Unsupported."""
    machine = os.uname().machine if machine is None else machine
    bits = struct.calcsize("P") * 8 if bits is None else bits
    number = (SYSCALLS if bits == 64 else SYSCALLS_32).get(machine)
    if number is None:
        raise Unsupported(machine)
    return number


_libc: Any = None
_number = 0


def call(command: int, attr: bytearray, question: str) -> int:
    """One bpf(2) call; ``attr`` is read and written in place. Raises BpfError or one of its kinds."""
    global _libc, _number
    if _libc is None:
        _number = syscall_number()
        _libc = ctypes.CDLL(None, use_errno=True)
        _libc.syscall.restype = ctypes.c_long
        _libc.syscall.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_ulong)
    pointer = (ctypes.c_char * len(attr)).from_buffer(attr)
    result: int = _libc.syscall(_number, command, ctypes.addressof(pointer), len(attr))
    if result < 0:
        number = ctypes.get_errno()
        raise _CLASSES.get(number, BpfError)(number, question)
    return result


def _address(buffer: bytearray) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(buffer)) if buffer else 0


def _ids(command: int, question: str, most: int) -> Iterator[int]:
    found = 0
    for _step in range(most):
        attr = bytearray(16)
        struct.pack_into("=I", attr, 0, found)
        try:
            call(command, attr, question)
        except Gone:
            return
        found = struct.unpack_from("=I", attr, 4)[0]
        yield found


def prog_ids(most: int = 20000) -> Iterator[int]:
    """Ids of the programs loaded on the machine, ascending, whatever namespace they act in."""
    return _ids(_PROG_GET_NEXT_ID, "list BPF programs", most)


def link_ids(most: int = 20000) -> Iterator[int]:
    """Ids of the BPF links of the machine (Linux 5.8), ascending, whatever namespace they act in."""
    return _ids(_LINK_GET_NEXT_ID, "list BPF links", most)


def map_ids(most: int = 20000) -> Iterator[int]:
    """Ids of the BPF maps of the machine, ascending."""
    return _ids(_MAP_GET_NEXT_ID, "list BPF maps", most)


def _open(command: int, number: int, question: str) -> int:
    attr = bytearray(16)
    struct.pack_into("=I", attr, 0, number)
    return call(command, attr, question)


def prog_fd(prog_id: int) -> int:
    """A descriptor of a program; the caller closes it."""
    return _open(_PROG_GET_FD_BY_ID, prog_id, f"open BPF program {prog_id}")


def link_fd(link_id: int) -> int:
    """A descriptor of a link; the caller closes it."""
    return _open(_LINK_GET_FD_BY_ID, link_id, f"open BPF link {link_id}")


def map_fd(map_id: int) -> int:
    """A descriptor of a map; the caller closes it."""
    return _open(_MAP_GET_FD_BY_ID, map_id, f"open BPF map {map_id}")


def _info(descriptor: int, info: bytearray, question: str) -> int:
    """BPF_OBJ_GET_INFO_BY_FD into ``info``; returns how many bytes of it this kernel fills."""
    attr = bytearray(16)
    struct.pack_into("=IIQ", attr, 0, descriptor, len(info), _address(info))
    call(_OBJ_GET_INFO_BY_FD, attr, question)
    length: int = struct.unpack_from("=I", attr, 4)[0]
    return min(length, len(info))


class _Fields:
    """Numbers of a kernel structure by offset; None where this kernel's structure ends before them."""

    def __init__(self, data: bytes, length: int) -> None:
        self._data, self._length = data, length

    def at(self, offset: int, form: str = "I") -> int | None:
        if offset + struct.calcsize("=" + form) > self._length:
            return None
        value: int = struct.unpack_from("=" + form, self._data, offset)[0]
        return value


@dataclass
class Program:
    """What the kernel says about a loaded program.

    type: name from PROG_TYPES, or the number as text. name: up to 15 characters, "" when it was loaded without. tag: 16 hex
    digits, made from its instructions. load_time: seconds since boot. uid: who loaded it. ifindex: the device it is
    offloaded to, or 0. gpl, run_count, run_time_ns, verified: None on kernels that do not say; the run figures only move
    while statistics are on. instructions: the verifier's translation, 8 bytes each; None when not asked for or not readable.
    """

    id: int
    type: str
    name: str = ""
    tag: str = ""
    load_time: float | None = None
    uid: int | None = None
    jited: bool = False
    gpl: bool | None = None
    ifindex: int = 0
    map_ids: list[int] = field(default_factory=list)
    run_count: int | None = None
    run_time_ns: int | None = None
    verified: int | None = None
    instructions: bytes | None = None


def _named(names: tuple[str, ...], number: int | None) -> str:
    if number is None:
        return "unknown"
    return names[number] if number < len(names) else str(number)


def parse_program(data: bytes, length: int) -> Program:
    """struct bpf_prog_info, of which ``length`` bytes are valid."""
    get = _Fields(data, length)
    loaded, gpl = get.at(40, "Q"), get.at(84)
    return Program(
        id=get.at(4) or 0,
        type=_named(PROG_TYPES, get.at(0)),
        name=data[64:80].split(b"\0", 1)[0].decode("ascii", "replace") if length >= 80 else "",
        tag=data[8:16].hex() if length >= 16 else "",
        load_time=loaded / 1e9 if loaded else None,
        uid=get.at(48),
        jited=bool(get.at(16)),
        gpl=bool(gpl & 1) if gpl is not None else None,
        ifindex=get.at(80) or 0,
        run_count=get.at(200, "Q"),
        run_time_ns=get.at(192, "Q"),
        verified=get.at(216),
    )


def program(prog_id: int, instructions: bool = False, most_bytes: int = 1 << 23) -> Program:
    """Facts about one program. Raises Gone when it is unloaded meanwhile, NotPermitted.

    instructions: read the translated instructions too, at most ``most_bytes``; a longer program comes without.
    """
    descriptor = prog_fd(prog_id)
    try:
        question = f"read BPF program {prog_id}"
        info = bytearray(_PROG_INFO_SIZE)
        length = _info(descriptor, info, question)
        found = parse_program(bytes(info), length)
        maps, size = struct.unpack_from("=I", info, 52)[0], struct.unpack_from("=I", info, 20)[0]
        maps_buffer = bytearray(4 * maps)
        code = bytearray(size if instructions and 0 < size <= most_bytes else 0)
        if maps_buffer or code:
            # All other pointers and counts stay zero: the kernel refuses a count without its pointer.
            info = bytearray(_PROG_INFO_SIZE)
            struct.pack_into("=I", info, 20, len(code))
            struct.pack_into("=Q", info, 32, _address(code))
            struct.pack_into("=I", info, 52, maps)
            struct.pack_into("=Q", info, 56, _address(maps_buffer))
            _info(descriptor, info, question)
            filled = min(maps, struct.unpack_from("=I", info, 52)[0])
            found.map_ids = list(struct.unpack_from(f"={filled}I", maps_buffer, 0))
            # The kernel takes the pointer back when it does not want to show the instructions.
            if code and struct.unpack_from("=Q", info, 32)[0]:
                found.instructions = bytes(code[: struct.unpack_from("=I", info, 20)[0]])
        return found
    finally:
        os.close(descriptor)


@dataclass
class Link:
    """What the kernel says about a BPF link: type from LINK_TYPES, the program, and where it is attached.

    Only the fields of its type are set. attach_type: name from ATTACH_TYPES. netns_ino: inode of the network namespace.
    target_prog: the program that a ``tracing`` link extends or traces. family, hook, priority, flags: netfilter.
    """

    id: int
    type: str
    prog_id: int
    attach_type: str | None = None
    ifindex: int | None = None
    cgroup_id: int | None = None
    netns_ino: int | None = None
    target_prog: int | None = None
    family: int | None = None
    hook: int | None = None
    priority: int | None = None
    flags: int | None = None


def parse_link(data: bytes, length: int) -> Link:
    """struct bpf_link_info, of which ``length`` bytes are valid."""
    get = _Fields(data, length)
    found = Link(get.at(4) or 0, _named(LINK_TYPES, get.at(0)), get.at(8) or 0)
    if found.type == "tracing":
        found.attach_type, found.target_prog = _named(ATTACH_TYPES, get.at(16)), get.at(20)
    elif found.type == "cgroup":
        found.cgroup_id, found.attach_type = get.at(16, "Q"), _named(ATTACH_TYPES, get.at(24))
    elif found.type == "netns":
        found.netns_ino, found.attach_type = get.at(16), _named(ATTACH_TYPES, get.at(20))
    elif found.type == "xdp":
        found.ifindex = get.at(16)
    elif found.type in ("tcx", "netkit"):
        found.ifindex, found.attach_type = get.at(16), _named(ATTACH_TYPES, get.at(20))
    elif found.type == "netfilter":
        found.family, found.hook, found.priority, found.flags = get.at(16), get.at(20), get.at(24, "i"), get.at(28)
    return found


def link(link_id: int) -> Link:
    """Facts about one link; raises Gone when it went away."""
    descriptor = link_fd(link_id)
    try:
        info = bytearray(_LINK_INFO_SIZE)
        length = _info(descriptor, info, f"read BPF link {link_id}")
        return parse_link(bytes(info), length)
    finally:
        os.close(descriptor)


@dataclass
class Attached:
    """Programs at one hook, in the order in which they run.

    links: link id of each, 0 for one attached without; None where this kind of hook does not say. flags: attach flags of the
    hook (cgroup: 1 override, 2 multi). revision: grows with each change (tcx, netkit).
    """

    programs: list[int]
    links: list[int] | None = None
    flags: int = 0
    revision: int | None = None


#: Hooks that tell the link ids; kernels before them refuse an attr that has the pointer.
_WITH_LINKS = frozenset(ATTACH[name] for name in ("tcx_ingress", "tcx_egress", "netkit_primary", "netkit_peer"))


def query(attach_type: int, target: int, effective: bool = False, room: int = 16) -> Attached:
    """BPF_PROG_QUERY. ``target``: ifindex for tcx and netkit, an open descriptor of the cgroup or network namespace else.

    effective: with what a cgroup inherits. Nothing attached is an empty answer. Raises NotSupported for a hook that this
    kernel lacks, NotPermitted, Gone when the target went away.
    """
    question = f"query {_named(ATTACH_TYPES, attach_type)}"
    with_links = attach_type in _WITH_LINKS
    while True:
        programs, links = bytearray(4 * room), bytearray(4 * room if with_links else 0)
        attr = bytearray(_ATTR_SIZE)
        struct.pack_into("=IIII", attr, 0, target, attach_type, _F_QUERY_EFFECTIVE if effective else 0, 0)
        struct.pack_into("=QI", attr, 16, _address(programs), room)
        struct.pack_into("=Q", attr, 40, _address(links))
        try:
            call(_PROG_QUERY, attr, question)
        except BpfError as error:
            if error.errno == errno.ENOSPC and room < _MOST_AT_A_HOOK:
                room = min(max(struct.unpack_from("=I", attr, 24)[0], room * 2), _MOST_AT_A_HOOK)
                continue
            if error.errno == errno.ENOENT and with_links:
                return Attached([], [])
            raise
        count = min(struct.unpack_from("=I", attr, 24)[0], room)
        return Attached(
            list(struct.unpack_from(f"={count}I", programs)),
            list(struct.unpack_from(f"={count}I", links)) if with_links else None,
            struct.unpack_from("=I", attr, 12)[0],
            struct.unpack_from("=Q", attr, 56)[0] if with_links else None,
        )


def pinned(path: str) -> tuple[str, int] | None:
    """What the file ``path`` of a bpffs pins: ("prog", id) or ("link", id); None for a map or anything else.

    Raises BpfError. A link cannot be opened read-only, so only for it the file is opened with full rights and closed again.
    """
    name = bytearray(os.fsencode(path) + b"\0")
    question = f"open pin {path}"
    for flags in (_F_RDONLY, 0):
        attr = bytearray(16)
        struct.pack_into("=QII", attr, 0, _address(name), 0, flags)
        try:
            descriptor = call(_OBJ_GET, attr, question)
        except NotSupported:
            if flags:
                continue
            raise
        try:
            kind = os.readlink(f"/proc/self/fd/{descriptor}")
            wanted = "prog_id:" if "bpf-prog" in kind else "link_id:" if "link" in kind else None
            if wanted is None:
                return None
            with open(f"/proc/self/fdinfo/{descriptor}", encoding="ascii", errors="replace") as lines:
                for line in lines:
                    if line.startswith(wanted):
                        return wanted[:4], int(line[len(wanted) :])
            return None
        finally:
            os.close(descriptor)
    return None


@dataclass
class Pins:
    """Paths that keep programs and links loaded, by id. problems: one line for each part that was not read."""

    programs: dict[int, list[str]] = field(default_factory=dict)
    links: dict[int, list[str]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def bpffs_mounts() -> list[str]:
    """Where a bpffs is mounted in this mount namespace. Read from the table: touching a path could mount one."""
    mounts = []
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as lines:
            for line in lines:
                left, separator, right = line.partition(" - ")
                if separator and right.startswith("bpf "):
                    # The table writes blanks and backslashes of paths as three octal digits.
                    path = left.split(" ")[4]
                    for code, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
                        path = path.replace(code, character)
                    mounts.append(path)
    except OSError:
        pass
    return sorted(set(mounts))


def pins(most_files: int = 5000, depth: int = 12, seconds: float = 3.0) -> Pins:
    """Walk every mounted bpffs for pinned programs and links; at most ``most_files`` files and ``seconds`` seconds."""
    found, seen, deadline = Pins(), 0, time.monotonic() + seconds
    visited: set[tuple[int, int]] = set()
    for mount in bpffs_mounts():
        folders = [(mount, 0)]
        while folders:
            folder, level = folders.pop()
            try:
                here = os.stat(folder)
                entries = list(os.scandir(folder))
            except OSError as error:
                found.problems.append(f"{folder}: {(error.strerror or str(error)).lower()}")
                continue
            # One bpffs may be mounted at several places.
            if (here.st_dev, here.st_ino) in visited:
                continue
            visited.add((here.st_dev, here.st_ino))
            for entry in sorted(entries, key=lambda item: item.name):
                if entry.is_symlink():
                    continue
                if entry.is_dir(follow_symlinks=False):
                    if level < depth:
                        folders.append((entry.path, level + 1))
                    else:
                        found.problems.append(f"{entry.path}: deeper than is read")
                    continue
                seen += 1
                if seen > most_files or time.monotonic() > deadline:
                    found.problems.append(f"{mount}: more pins than are read")
                    return found
                try:
                    pin = pinned(entry.path)
                except NotPermitted as error:
                    found.problems.append(error.why)
                    return found
                except OSError:
                    continue  # unpinned meanwhile, or a file of another kind
                if pin is not None:
                    (found.programs if pin[0] == "prog" else found.links).setdefault(pin[1], []).append(entry.path)
    return found


def statistics_on() -> bool:
    """Does the kernel count runs (kernel.bpf_stats_enabled)?"""
    return _first_line("/proc/sys/kernel/bpf_stats_enabled") == "1"


def boot_time() -> float:
    """Unix time at which the clock of ``Program.load_time`` was zero."""
    return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
