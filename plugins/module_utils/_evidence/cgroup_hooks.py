# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""BPF programs attached to cgroups: where they are attached, and those that come from above what this process can see.

Source: cgroups(7), bpf(2). A cgroup's programs act on the sockets of its processes, whatever their network namespace.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

from ansible_collections.netops.fleet.plugins.module_utils._evidence.section import Gap
from ansible_collections.netops.fleet.plugins.module_utils._kernel import bpf, netlink, procfs, sockdiag

#: Program type → attach types by which such a program can keep traffic or a socket from working.
HOOKS: dict[str, tuple[str, ...]] = {
    "cgroup_skb": ("cgroup_inet_ingress", "cgroup_inet_egress"),
    "cgroup_sock": (
        "cgroup_inet_sock_create", "cgroup_inet4_post_bind", "cgroup_inet6_post_bind", "cgroup_inet_sock_release",
    ),
    "cgroup_sock_addr": (
        "cgroup_inet4_connect", "cgroup_inet6_connect", "cgroup_inet4_bind", "cgroup_inet6_bind", "cgroup_udp4_sendmsg",
        "cgroup_udp6_sendmsg", "cgroup_udp4_recvmsg", "cgroup_udp6_recvmsg",
    ),
    "sock_ops": ("cgroup_sock_ops",),
    "cgroup_sockopt": ("cgroup_getsockopt", "cgroup_setsockopt"),
}  # fmt: skip

#: Names that every bpftool understands for ``bpftool cgroup detach``; newer ones know the long names too.
BPFTOOL_NAMES = {
    "cgroup_inet_ingress": "ingress", "cgroup_inet_egress": "egress", "cgroup_inet_sock_create": "sock_create",
    "cgroup_inet_sock_release": "sock_release", "cgroup_inet4_post_bind": "post_bind4",
    "cgroup_inet6_post_bind": "post_bind6", "cgroup_inet4_connect": "connect4", "cgroup_inet6_connect": "connect6",
    "cgroup_inet4_bind": "bind4", "cgroup_inet6_bind": "bind6", "cgroup_udp4_sendmsg": "sendmsg4",
    "cgroup_udp6_sendmsg": "sendmsg6", "cgroup_udp4_recvmsg": "recvmsg4", "cgroup_udp6_recvmsg": "recvmsg6",
    "cgroup_sock_ops": "sock_ops", "cgroup_getsockopt": "getsockopt", "cgroup_setsockopt": "setsockopt",
}  # fmt: skip


@dataclass(frozen=True)
class CgroupHook:
    """path: directory of the cgroup, for an inherited one the topmost that can be seen. number: its id.

    flags: 1 a cgroup below may replace the program, 2 programs of cgroups below run too. here: is a process or socket of this
    network namespace in the cgroup or below; mine: is this process; None: cannot be told. listens: "tcp/22" of the namespace's
    sockets in it that wait for packets, of a program on packets that come in; None: cannot be told, or all of them.
    """

    path: str
    number: int
    attach_type: str
    programs: tuple[int, ...]
    flags: int
    inherited: bool = False
    here: bool | None = True
    mine: bool | None = True
    listens: tuple[str, ...] | None = None


def root() -> str | None:
    """Where the unified hierarchy (cgroup v2) is mounted; None on a host without."""
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as lines:
            found = [line.split(" ")[4] for line in lines if " - cgroup2 " in line]
    except OSError:
        return None
    return min(found, key=len) if found else None


def _folders(top: str, depth: int) -> Iterator[str]:
    """Breadth first: what sits high in the tree acts on most."""
    level = [top]
    for _depth in range(depth + 1):
        below: list[str] = []
        for folder in level:
            yield folder
            try:
                with os.scandir(folder) as entries:
                    below.extend(sorted(entry.path for entry in entries if entry.is_dir(follow_symlinks=False)))
            except OSError:
                continue  # removed meanwhile
        level = below
        if not level:
            return


def read(
    prog_types: set[str] | None, most: int = 2000, depth: int = 16, seconds: float = 5.0
) -> tuple[list[CgroupHook], list[Gap], list[str]]:
    """(hooks with programs, gaps, attach types asked).

    prog_types: the types of the programs loaded on the machine, which leaves out most questions; None when not known. At most
    ``most`` cgroups, ``depth`` levels and ``seconds`` seconds; what is cut is a gap.
    """
    kinds = [kind for kind in HOOKS if prog_types is None or kind in prog_types]
    wanted = [name for kind in kinds for name in HOOKS[kind]]
    if not wanted:
        return [], [], []
    gaps: list[Gap] = []
    top = root()
    if top is None:
        gaps.append(Gap("hooks.cgroup", "no unified cgroup hierarchy is mounted here"))
        return [], gaps, wanted
    hooks: list[CgroupHook] = []
    numbers: dict[int, str] = {}
    deadline = time.monotonic() + seconds
    asked = list(wanted)
    for position, folder in enumerate(_folders(top, depth)):
        if position >= most or time.monotonic() > deadline:
            limit = f"{most} cgroups" if position >= most else f"{seconds:g} s"
            gaps.append(Gap("hooks.cgroup", f"stopped after {limit}: cgroups below were not read"))
            break
        try:
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        except OSError as error:
            gaps.append(Gap("hooks.cgroup", f"{folder}: {(error.strerror or '').lower()}"))
            continue
        try:
            number = os.fstat(descriptor).st_ino
            numbers[number] = folder
            for name in list(asked):
                try:
                    found = bpf.query(bpf.ATTACH[name], descriptor)
                except bpf.NotPermitted as error:
                    gaps.append(Gap("hooks.cgroup", error.why))
                    return hooks, gaps, wanted
                except bpf.NotSupported:
                    asked.remove(name)  # this kernel has no such hook: nothing can be attached to it
                    continue
                except bpf.BpfError:
                    continue  # the cgroup is being removed
                if found.programs:
                    hooks.append(CgroupHook(folder, number, name, tuple(found.programs), found.flags))
                if folder == top:
                    above = _above(name, descriptor, found.programs)
                    if above:
                        hooks.append(CgroupHook(folder, number, name, tuple(above), 0, inherited=True))
        finally:
            os.close(descriptor)
    below = {hook.path for hook in hooks} - {top}
    if below:
        tenants = Tenants.read(top, numbers, below)
        hooks = [tenants.told(hook) if hook.path in below else hook for hook in hooks]
    return hooks, gaps, wanted


@dataclass
class Tenants:
    """Who of this network namespace is in which cgroup.

    processes: whether some are, by folder; None: one that cannot be seen from here may be. mine: the folder of this process.
    sockets: (protocol/port, folder) of its sockets that wait for packets, the folder None where it is none of those seen; None
    when the kernel does not tell.
    """

    processes: dict[str, bool | None]
    mine: str | None
    sockets: list[tuple[str, str | None]] | None

    @classmethod
    def read(cls, top: str, numbers: dict[int, str], wanted: set[str]) -> Tenants:
        """top: where the hierarchy is mounted. numbers: folders by id. wanted: those with programs, others are left."""
        below = [folder for folder in numbers.values() if any(_in(folder, one) for one in wanted)]
        try:
            mine = os.stat("/proc/self/ns/net").st_ino
        except OSError:
            return cls(dict.fromkeys(below), None, None)
        return cls({folder: _processes(folder, mine) for folder in below}, _mine(top), _sockets(numbers))

    def told(self, hook: CgroupHook) -> CgroupHook:
        sockets = None if self.sockets is None else [name for name, path in self.sockets if path is None or _in(path, hook.path)]
        processes = [found for folder, found in self.processes.items() if _in(folder, hook.path)]
        here: bool | None = bool(sockets) or any(processes)
        if not here and (sockets is None or None in processes):
            here = None
        incoming = hook.attach_type == "cgroup_inet_ingress" and sockets is not None
        listens = tuple(sorted(set(sockets or ()))) if incoming else None
        return replace(hook, here=here, mine=None if self.mine is None else _in(self.mine, hook.path), listens=listens)


def _mine(top: str) -> str | None:
    """The folder of this process; None where it cannot be told, or is above what is seen."""
    text = procfs.text_or_none("/proc/self/cgroup", 65536) or ""
    where = next((line[3:] for line in text.splitlines() if line.startswith("0::/")), None)
    return None if where is None or where.startswith("/..") else top + where.rstrip("/")


def _processes(folder: str, network: int) -> bool | None:
    """Is a process of this network namespace in the cgroup itself? None: one that cannot be looked at may be."""
    answer: bool | None = False
    try:
        pids = procfs.text(f"{folder}/cgroup.procs", 16 << 20).split()
    except FileNotFoundError:
        return False  # removed meanwhile
    except OSError as error:
        return False if error.errno == errno.EOPNOTSUPP else None  # threads of a process that is listed above
    for pid in pids:
        if pid == str(os.getpid()):
            continue  # it looks at the namespace, and sends nothing
        try:
            if pid != "0" and os.stat(f"/proc/{pid}/ns/net").st_ino == network:
                return True
        except (FileNotFoundError, ProcessLookupError):
            continue  # ended meanwhile
        except OSError:
            answer = None
        if pid == "0":
            answer = None  # of another process namespace
    return answer


def _in(path: str, folder: str) -> bool:
    return path == folder or path.startswith(f"{folder}/")


def _sockets(numbers: dict[int, str]) -> list[tuple[str, str | None]] | None:
    found: list[tuple[str, str | None]] = []
    try:
        with netlink.Socket(netlink.SOCK_DIAG) as sock:
            for protocol, name, states in (
                (sockdiag.TCP, "tcp", 1 << sockdiag.LISTEN),
                (sockdiag.UDP, "udp", sockdiag.ALL_STATES),
            ):
                if not sockdiag.usable(protocol):
                    return None
                for family in sockdiag.families():
                    for port, number in sockdiag.cgroups(sock, family, protocol, states):
                        if number is None:
                            return None
                        found.append((f"{name}/{port}", numbers.get(number)))
    except OSError:
        return None
    return found


def _above(attach_type: str, descriptor: int, own: list[int]) -> list[int]:
    """Programs that act on the topmost visible cgroup but are attached above it: seen from inside a container."""
    try:
        effective = bpf.query(bpf.ATTACH[attach_type], descriptor, effective=True).programs
    except bpf.BpfError:
        return []
    return [prog_id for prog_id in effective if prog_id not in own]
