# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""Read what the plan and the lint rules need to know about this host. Reading loads no module."""

from __future__ import annotations

import os
import re
import socket
import struct

from ansible_collections.netops.fleet.plugins.module_utils._evidence.section import Gap
from ansible_collections.netops.fleet.plugins.module_utils._kernel import command, modules, netlink, procfs, rtnl
from ansible_collections.netops.fleet.plugins.module_utils._lvs.lint import Host, Route
from ansible_collections.netops.fleet.plugins.module_utils._lvs.model import Table

_VS = "/proc/sys/net/ipv4/vs"
_RTA_DST, _RTA_GATEWAY, _RTA_VIA = 1, 5, 18
_RTN_LOCAL = 2


def kernel_version() -> tuple[int, int]:
    found = re.match(r"(\d+)\.(\d+)", os.uname().release)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def sysctls() -> dict[str, int]:
    """net.ipv4.vs of this network namespace, those that are one number; empty while ip_vs is not there."""
    found = {}
    try:
        names = os.listdir(_VS)
    except OSError:
        return {}
    for name in names:
        value = procfs.integer(os.path.join(_VS, name))
        if value is not None:
            found[name] = value
    return found


def scheduler(name: str) -> bool | None:
    """Is it loaded, built in, or among the modules of the running kernel? None: could not tell."""
    module = f"ip_vs_{name}"
    there = modules.present(module)
    if there and os.path.exists("/proc/modules"):
        return True
    content = procfs.text_or_none(f"/lib/modules/{os.uname().release}/modules.dep")
    if content is not None:
        return bool(there) or f"/{module}.ko" in content
    return None


def routes_to(sock: netlink.Socket, addresses: list[str]) -> dict[str, Route | None]:
    """How the kernel would send to each address now; None where it gave no usable answer."""
    requests = []
    for address in addresses:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        packed = socket.inet_pton(family, address)
        requests.append(rtnl.ROUTE.pack(family, len(packed) * 8, 0, 0, 0, 0, 0, 0, 0) + netlink.pack([(_RTA_DST, packed)]))
    return dict(zip(addresses, map(_route, sock.get_all(rtnl.GETROUTE, requests))))


def _route(answer: bytes | netlink.NetlinkError) -> Route | None:
    if isinstance(answer, netlink.NetlinkError):
        # EACCES, EHOSTUNREACH, ENETUNREACH, EINVAL: prohibit, unreachable, no route, blackhole.
        return Route(reachable=False) if answer.errno in (13, 22, 101, 113) else None
    if len(answer) < rtnl.ROUTE.size:
        return None
    kind = rtnl.ROUTE.unpack_from(answer)[7]
    found = netlink.attributes(answer, rtnl.ROUTE.size)
    gateway = rtnl.address(found.get(_RTA_GATEWAY))
    if gateway is None and _RTA_VIA in found:
        gateway = rtnl.address(found[_RTA_VIA][2:])
    # 6 to 9: blackhole, unreachable, prohibit, throw. IPv6 answers with them instead of an error.
    return Route(gateway, kind == _RTN_LOCAL, kind not in (6, 7, 8, 9))


def read(wanted: Table, present: Table) -> tuple[Host, list[Gap]]:
    """Facts for the lint rules, and what could not be read. Routes are looked up for servers that are about to be written."""
    gaps: list[Gap] = []
    host = Host(kernel=kernel_version(), sysctls=sysctls())
    host.schedulers = {name: scheduler(name) for name in {one.scheduler for one in wanted.services.values()}}
    addresses = sorted(
        {
            key.address
            for name, service in wanted.services.items()
            for key, server in service.servers.items()
            if server.forward == "dr" and not (name in present.services and key in present.services[name].servers)
        }
    )
    try:
        with netlink.Socket(netlink.ROUTE) as sock:
            host.routes.update(routes_to(sock, addresses))
    except (OSError, struct.error) as error:
        gaps.append(Gap("lvs.routes", str(error)))
    if not host.sysctls and modules.present("ip_vs"):
        gaps.append(Gap("lvs.sysctls", f"{_VS} cannot be read in this network namespace"))
    return host, gaps


def load(names: list[str]) -> str:
    """Load modules; returns why that failed, or nothing."""
    done = command.run(["modprobe", "-a", "--", *names], timeout=60)
    modules.forget()
    return "" if done.ok else done.why()


def other_writers() -> list[str]:
    """Programs that write virtual services here, by the marks they leave; none found is no proof that there is none."""
    found = []
    if any(_talks_generic_netlink(pid) for pid in _named("keepalived") if _same_namespace(pid)):
        found.append("keepalived")
    if "kube-ipvs0" in rtnl.link_names().values():
        found.append("kube-proxy")
    return found


def _named(name: str) -> list[int]:
    """Processes whose name begins so; keepalived's parts may have names of their own."""
    pids = [int(entry) for entry in os.listdir("/proc") if entry.isdigit()]
    return [pid for pid in pids if (procfs.text_or_none(f"/proc/{pid}/comm", 64) or "").startswith(name)]


def _talks_generic_netlink(pid: int) -> bool:
    """keepalived's VRRP process without a sync daemon has no such socket; the one that writes virtual services has."""
    table = procfs.text_or_none("/proc/thread-self/net/netlink") or ""
    generic = {fields[-1] for fields in map(str.split, table.splitlines()[1:]) if len(fields) > 9 and fields[1] == "16"}
    try:
        links = [os.readlink(f"/proc/{pid}/fd/{one}") for one in os.listdir(f"/proc/{pid}/fd")]
    except OSError:
        return False
    return any(link.startswith("socket:[") and link[8:-1] in generic for link in links)


def _same_namespace(pid: int) -> bool:
    try:
        return os.stat(f"/proc/{pid}/ns/net").st_ino == os.stat("/proc/thread-self/ns/net").st_ino
    except OSError:
        return False
