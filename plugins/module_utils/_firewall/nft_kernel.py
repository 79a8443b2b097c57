# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""What the kernel itself says about nf_tables: tables, chains, set sizes, rule handles. Needs no tool, and settles "absent".

Every question here is a read of NETLINK_NETFILTER; ask :func:`available` first, so that none makes the kernel load nf_tables.
Source: include/uapi/linux/netfilter/nf_tables.h. Numbers in attributes are in network order.
"""

from __future__ import annotations

import errno
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

from ansible_collections.netops.fleet.plugins.module_utils._kernel import modules, netlink

_SUBSYSTEM = 10 << 8
_GETTABLE, _GETCHAIN, _GETRULE, _GETSET, _GETSETELEM = 1, 4, 7, 10, 13
_FAMILIES = {1: "inet", 2: "ip", 3: "arp", 5: "netdev", 7: "bridge", 10: "ip6"}
_NUMBERS = {name: number for number, name in _FAMILIES.items()}
_IP_HOOKS = ("prerouting", "input", "forward", "output", "postrouting", "ingress")
_HOOKS = {"netdev": ("ingress", "egress"), "arp": ("input", "output", "forward")}

TABLE_DORMANT, TABLE_OWNER = 1, 2
SET_ANONYMOUS, SET_INTERVAL, SET_MAP = 1, 4, 8
_SET_FLAGS = ((2, "constant"), (4, "interval"), (0x10, "timeout"), (0x20, "dynamic"))

#: Expressions that iptables-nft never writes: with one of them a table was written by nft.
_NATIVE = re.compile(
    # An element of a list (type 1) that begins with its name: the names of iptables' matches stand elsewhere.
    rb"(?<=\x01[\x00\x80])[\x06-\x14]\x00\x01\x00(?:lookup|dynset|objref|notrack|fib|rt|numgen|hash|queue|tproxy|synproxy|fwd|dup|quota|connlimit"
    rb"|last|ct|exthdr|socket|osf|xfrm|flow_offload|reject|inner|tunnel|secmark)\x00"
)


#: A match or target of iptables, of which nft shows no more than its name, or a translation that is not always true.
_XT = re.compile(rb"(?<=\x01[\x00\x80])[\x06-\x14]\x00\x01\x00(?:match|target)\x00")


@dataclass
class Table:
    """flags: dormant, owner. use: chains, sets and objects in it."""

    family: str
    name: str
    handle: int
    flags: list[str] = field(default_factory=list)
    use: int = 0


@dataclass
class KernelChain:
    """hook, priority, policy, type as the kernel has them; None for a chain that is only jumped to."""

    family: str
    table: str
    name: str
    handle: int
    hook: str | None = None
    priority: int | None = None
    policy: str | None = None
    type: str | None = None
    devices: list[str] = field(default_factory=list)
    packets: int | None = None


@dataclass
class KernelSet:
    """flags: constant, interval, timeout, dynamic. Anonymous sets are left out."""

    family: str
    table: str
    name: str
    handle: int | None
    flags: list[str]
    map: bool


def available() -> tuple[bool | None, str]:
    """(True, ""): free to ask. (False, why): the kernel has no nf_tables. (None, why): could not tell without loading it."""
    found = modules.present("nf_tables")
    if found is None:
        return None, "whether nf_tables is loaded cannot be seen, and asking could load it"
    return found, "" if found else "nf_tables is not loaded"


class Kernel:
    """Answers about nf_tables of the current network namespace. Every method raises netlink.NetlinkError or OSError."""

    def __init__(self, timeout: float = 5.0) -> None:
        self._timeout = timeout

    def _dump(self, message: int, family: int, attributes: bytes = b"") -> list[tuple[int, dict[int, bytes]]]:
        with netlink.Socket(netlink.NETFILTER, self._timeout) as sock:
            sock.lenient()
            found = []
            for _kind, body in sock.dump(_SUBSYSTEM | message, struct.pack("=BBH", family, 0, 0) + attributes):
                if body:
                    found.append((body[0], netlink.attributes(body, 4)))
            return found

    def tables(self) -> list[Table]:
        """All tables; an empty list on a kernel that was built without nf_tables."""
        try:
            answers = self._dump(_GETTABLE, 0)
        except netlink.NetlinkError as error:
            if error.errno in (errno.EOPNOTSUPP, errno.EINVAL, errno.EPROTONOSUPPORT, errno.EPFNOSUPPORT):
                return []
            raise
        found = []
        for family, attributes in answers:
            bits = _number(attributes.get(2))
            flags = [name for bit, name in ((TABLE_DORMANT, "dormant"), (TABLE_OWNER, "owner")) if bits & bit]
            name = netlink.text_of(attributes.get(1, b""))
            found.append(Table(_family(family), name, _number(attributes.get(4)), flags, _number(attributes.get(3))))
        return found

    def chains(self) -> list[KernelChain]:
        """All chains, in the order they were made."""
        found = []
        for number, attributes in self._dump(_GETCHAIN, 0):
            family = _family(number)
            chain = KernelChain(
                family,
                netlink.text_of(attributes.get(1, b"")),
                netlink.text_of(attributes.get(3, b"")),
                _number(attributes.get(2)),
            )
            if 4 in attributes:
                hook = netlink.attributes(attributes[4])
                names, place = _HOOKS.get(family, _IP_HOOKS), _number(hook.get(1))
                chain.hook = names[place] if place < len(names) else f"hook {place}"
                priority = hook.get(2, b"")
                chain.priority = struct.unpack(">i", priority)[0] if len(priority) == 4 else None
                chain.policy = {0: "drop", 1: "accept"}.get(_number(attributes.get(5), 1))
                chain.type = netlink.text_of(attributes[7]) if 7 in attributes else None
                if 3 in hook:
                    chain.devices.append(netlink.text_of(hook[3]))
                for _kind, device in netlink.attribute_list(hook.get(4, b"")):
                    name = netlink.text_of(device)
                    if name not in chain.devices:
                        chain.devices.append(name)
                if 8 in attributes:
                    chain.packets = _number(netlink.attributes(attributes[8]).get(2))
            found.append(chain)
        return found

    def sets(self) -> list[KernelSet]:
        """All named sets and maps."""
        found = []
        for number, attributes in self._dump(_GETSET, 0):
            bits = _number(attributes.get(3))
            if bits & SET_ANONYMOUS:
                continue
            found.append(
                KernelSet(
                    _family(number),
                    netlink.text_of(attributes.get(1, b"")),
                    netlink.text_of(attributes.get(2, b"")),
                    _number(attributes.get(16)) or None,
                    [name for bit, name in _SET_FLAGS if bits & bit],
                    bool(bits & SET_MAP),
                )
            )
        return found

    def at_most(self, one: KernelSet, limit: int) -> bool:
        """Has the set ``limit`` members or fewer? Reading ends as soon as that is settled: a huge set costs no more."""
        attributes = netlink.pack([(1, one.table), (2, one.name)])
        # An interval is two elements: where it starts and where it ends.
        limit = 2 * limit + 1 if "interval" in one.flags else limit
        count = 0
        with netlink.Socket(netlink.NETFILTER, self._timeout) as sock:
            sock.lenient()
            header = struct.pack("=BBH", _NUMBERS[one.family], 0, 0)
            for _kind, body in sock.dump_stream(_SUBSYSTEM | _GETSETELEM, header + attributes):
                count += len(netlink.attribute_list(netlink.attributes(body, 4).get(3, b"")))
                if count > limit:
                    return False
        return True

    def handles(self, family: str, table: str) -> tuple[dict[str, list[int]], bool]:
        """Rule handles by chain in rule order, and whether nft wrote some of the rules (iptables-nft cannot have)."""
        found: dict[str, list[int]] = {}
        native = False
        for chain, handle, body in self._rules(family, table):
            found.setdefault(chain, []).append(handle)
            native = native or _NATIVE.search(body) is not None
        return found, native

    def of_iptables(self, family: str, table: str) -> set[int]:
        """Handles of rules with matches or targets of iptables."""
        return {handle for _chain, handle, body in self._rules(family, table) if _XT.search(body)}

    def _rules(self, family: str, table: str) -> Iterator[tuple[str, int, bytes]]:
        with netlink.Socket(netlink.NETFILTER, self._timeout) as sock:
            sock.lenient()
            payload = struct.pack("=BBH", _NUMBERS[family], 0, 0) + netlink.pack([(1, table)])
            for _kind, body in sock.dump(_SUBSYSTEM | _GETRULE, payload):
                name, chain, handle = _rule_head(body)
                if name == table:
                    yield chain, handle, body


def _rule_head(body: bytes) -> tuple[str, str, int]:
    """Table, chain and handle; the expressions, most of a rule, are not taken apart."""
    offset, table, chain, handle = 4, "", "", 0
    while offset + 4 <= len(body):
        length, kind = struct.unpack_from("=HH", body, offset)
        if length < 4:
            break
        kind &= 0x3FFF
        if kind == 1:
            table = netlink.text_of(body[offset + 4 : offset + length])
        elif kind == 2:
            chain = netlink.text_of(body[offset + 4 : offset + length])
        elif kind == 3:
            handle = _number(body[offset + 4 : offset + length])
        if table and chain and handle:
            break
        offset += (length + 3) & ~3
    return table, chain, handle


def _family(number: int) -> str:
    return _FAMILIES.get(number, f"family {number}")


def _number(data: bytes | None, default: int = 0) -> int:
    """An unsigned number in network order."""
    return default if data is None else int.from_bytes(data, "big")
