# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""Traffic control filters of every qdisc that can hold some, in the order in which they run, with their actions.

Sources: include/uapi/linux/{rtnetlink,pkt_sched,pkt_cls,gen_stats}.h, linux/tc_act/*.h; tc(8). A dump of filters never loads
a module: only adding a filter does. Filters are found without asking for chains, a dump of filters covers all of them.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ansible_collections.netops.fleet.plugins.module_utils._evidence import tc_match
from ansible_collections.netops.fleet.plugins.module_utils._evidence.section import Gap
from ansible_collections.netops.fleet.plugins.module_utils._kernel import netlink, procfs, rtnl

GETTCLASS, GETTFILTER = 42, 46
_KIND, _OPTIONS, _CHAIN, _INGRESS_BLOCK, _EGRESS_BLOCK = 1, 2, 11, 13, 14
INGRESS, EGRESS = 0xFFFFFFF2, 0xFFFFFFF3
_ROOT = 0xFFFFFFFF
_SHARED_BLOCK = -1

#: Queueing disciplines whose code has no place for filters.
_WITHOUT_FILTERS = frozenset((
    "noqueue", "pfifo_fast", "pfifo", "bfifo", "pfifo_head_drop", "fq", "mq", "mqprio", "codel", "pie", "tbf", "taprio",
    "etf", "plug", "netem",
))  # fmt: skip
#: Those whose classes hold filters of their own.
_CLASSES_HOLD = frozenset(("htb", "hfsc", "cbq"))
_MOST_CLASSES = 512

VERDICTS = {
    -1: "continue", 0: "ok", 1: "reclassify", 2: "drop", 3: "pipe", 4: "stolen", 5: "queued", 6: "repeat", 7: "redirect",
    8: "trap",
}  # fmt: skip
_PROTOCOLS = {0x0003: "all", 0x0800: "ip", 0x0806: "arp", 0x86DD: "ipv6", 0x8100: "802.1Q", 0x88A8: "802.1ad", 0x88CC: "lldp"}

#: Filter kind → (attribute of the class id, of the actions, of an old-style policer).
_LAYOUT = {
    "bpf": (3, 1, 2), "u32": (1, 7, 6), "flower": (1, 3, 0), "matchall": (1, 2, 0), "fw": (1, 4, 2), "basic": (1, 3, 4),
    "route": (1, 6, 5), "flow": (3, 9, 10), "cgroup": (0, 1, 2),
}  # fmt: skip
#: Attributes that tell hits or places, not what is matched.
_VOLATILE = {"u32": (7, 9, 11), "flower": (3, 22, 86), "matchall": (2, 3, 4), "bpf": (1, 9, 10, 11), "basic": (3, 5)}

#: Action kind → attribute that starts with struct tc_gen. These do what their verdict says and drop nothing of their own.
_ACTION_PARMS = {
    "gact": 2, "mirred": 2, "pedit": 2, "skbedit": 2, "vlan": 2, "csum": 1, "nat": 1, "tunnel_key": 2, "simple": 2, "sample": 2,
    "connmark": 1, "skbmod": 2, "mpls": 2, "ife": 1, "bpf": 2, "ct": 1, "ctinfo": 3, "gate": 3,
}  # fmt: skip
_OPAQUE = frozenset(("ct", "gate", "bpf", "nat"))
_MIRRED = {1: ("redirect", "egress"), 2: ("mirror", "egress"), 3: ("redirect", "ingress"), 4: ("mirror", "ingress")}


@dataclass
class Qdisc:
    """A queueing discipline. handle, parent: numbers, major in the upper half. blocks: shared filter blocks, 0 for none."""

    ifindex: int
    kind: str
    handle: int
    parent: int
    ingress_block: int = 0
    egress_block: int = 0


def handle_text(number: int) -> str:
    """``1:``, ``1:10``, ``ffff:fff2`` as tc prints them."""
    minor = number & 0xFFFF
    return f"{number >> 16:x}:" + (f"{minor:x}" if minor else "")


def verdict_text(number: int) -> str:
    """``drop``, ``goto chain 3``, ``jump 2``; an unknown one as its number."""
    if number > 0 and number >> 28 == 2:
        return f"goto chain {number & 0x0FFFFFFF}"
    if number > 0 and number >> 28 == 1:
        return f"jump {number & 0x0FFFFFFF}"
    return VERDICTS.get(number, str(number))


def parse_qdisc(body: bytes) -> Qdisc | None:
    if len(body) < rtnl.TC.size:
        return None
    _family, ifindex, handle, parent, _info = rtnl.TC.unpack_from(body)
    found = netlink.attributes(body, rtnl.TC.size)
    return Qdisc(
        ifindex,
        netlink.text_of(found.get(_KIND, b"")),
        handle,
        parent,
        netlink.number(found.get(_INGRESS_BLOCK)),
        netlink.number(found.get(_EGRESS_BLOCK)),
    )


def _signed(data: bytes, offset: int) -> int | None:
    if len(data) < offset + 4:
        return None
    value: int = struct.unpack_from("=i", data, offset)[0]
    return value


def _counters(data: bytes) -> dict[str, int]:
    """packets, bytes, drops of an action's statistics."""
    found = netlink.attributes(data)
    counters = {}
    basic, queue = found.get(1, b""), found.get(3, b"")
    if len(basic) >= 12:
        counters["bytes"], counters["packets"] = struct.unpack_from("=QI", basic)
    if len(queue) >= 20:
        counters["drops"] = struct.unpack_from("=III", queue)[2]
    return counters


def parse_action(body: bytes) -> dict[str, Any]:
    """One action: ``{kind, verdict, else, index, to_ifindex, detail, bytes, packets, drops, prog}``.

    verdict: what happens to a packet then (names of VERDICTS); null when this kind does not tell. else: the other verdict
    of a policer (above its rate) or of a random gact. to_ifindex: where mirred sends it.
    """
    found = netlink.attributes(body)
    kind = netlink.text_of(found.get(1, b""))
    options = netlink.attributes(found.get(2, b""))
    action: dict[str, Any] = {"kind": kind, "verdict": None, "else": None, "index": None, "to_ifindex": None, "detail": None}
    action.update(_counters(found.get(4, b"")))
    if kind == "police":
        parms = options.get(1, b"")
        exceed, conform = _signed(parms, 4), _signed(options.get(5, b""), 0)
        action["index"] = netlink.number(parms[:4], 0) if len(parms) >= 4 else None
        action["verdict"] = verdict_text(conform) if conform is not None else "ok"
        action["else"] = verdict_text(exceed) if exceed is not None else None
        if len(parms) >= 32:
            action["detail"] = f"rate {struct.unpack_from('=I', parms, 28)[0]} bytes/s"
        return action
    place = _ACTION_PARMS.get(kind)
    parms = options.get(place, b"") if place is not None else b""
    number = _signed(parms, 8)
    if len(parms) >= 4:
        action["index"] = struct.unpack_from("=I", parms)[0]
    if number is not None:
        action["verdict"] = verdict_text(number)
    if kind == "mirred" and len(parms) >= 28:
        what, to_ifindex = struct.unpack_from("=iI", parms, 20)
        verb, side = _MIRRED.get(what, (str(what), "?"))
        action["detail"], action["to_ifindex"] = f"{verb} to {side}", to_ifindex
        if verb == "redirect":
            action["verdict"] = "redirect"
    elif kind == "gact" and len(options.get(3, b"")) >= 8:
        form, value, other = struct.unpack_from("=HHi", options[3])
        if form:
            action["else"] = verdict_text(other)
            action["detail"] = f"{'every' if form == 2 else 'one in about'} {value}"
    elif kind == "bpf":
        action["prog"] = _program(options, name=6, tag=8, number=9)
    return action


def _program(options: dict[int, bytes], name: int, tag: int, number: int) -> dict[str, Any]:
    return {
        "id": netlink.number(options[number]) if number in options else None,
        "name": netlink.text_of(options.get(name, b"")),
        "tag": options[tag].hex() if tag in options else "",
    }


def parse_filter(body: bytes) -> dict[str, Any] | None:
    """One filter; None for what is no filter (an empty priority, a hash table of u32, damaged data).

    ``{ifindex, block, parent, chain, priority, protocol, handle, kind, classid, direct_action, classic, prog, actions, match,
    conditions}``.
    block: number of the shared block it belongs to, else null. classic: has a classic BPF program. prog: ``{id, name, tag}``
    of an extended one. match: digest of what is matched. conditions: what is matched, as in tc_match.
    """
    if len(body) < rtnl.TC.size:
        return None
    _family, ifindex, handle, parent, info = rtnl.TC.unpack_from(body)
    found = netlink.attributes(body, rtnl.TC.size)
    kind = netlink.text_of(found.get(_KIND, b""))
    listed = netlink.attribute_list(found.get(_OPTIONS, b""))
    options = dict(listed)
    if not handle or not kind:
        return None
    if kind == "u32" and 4 in options and 5 not in options:
        return None
    classid, acts, police = _LAYOUT.get(kind, (0, 0, 0))
    # The protocol is in network order inside a number in machine order.
    ethertype = struct.unpack(">H", struct.pack("=H", info & 0xFFFF))[0]
    actions = [parse_action(data) for _order, data in netlink.attribute_list(options.get(acts, b""))] if acts else []
    if police and police in options:
        actions.append(parse_action(netlink.pack([(1, "police"), (2, options[police])])))
    volatile = _VOLATILE.get(kind, (acts,))
    digest = hashlib.sha256(b"".join(bytes([number & 255]) + data for number, data in listed if number not in volatile))
    filtered: dict[str, Any] = {
        "ifindex": ifindex,
        "block": parent if ifindex == _SHARED_BLOCK else None,
        "parent": parent,
        "chain": netlink.number(found.get(_CHAIN)),
        "priority": info >> 16,
        "protocol": _PROTOCOLS.get(ethertype, f"0x{ethertype:04x}"),
        "handle": _filter_handle(kind, handle),
        "kind": kind,
        "classid": handle_text(netlink.number(options[classid])) if classid and classid in options else None,
        "direct_action": False,
        "classic": False,
        "prog": None,
        "actions": actions,
        "understood": kind in _LAYOUT,
        "match": digest.hexdigest()[:8],
        "conditions": tc_match.conditions(kind, handle, options),
    }
    if kind == "bpf":
        filtered["direct_action"] = bool(netlink.number(options.get(8)) & 1)
        filtered["classic"] = 5 in options
        if 5 not in options:
            filtered["prog"] = _program(options, name=7, tag=10, number=11)
    return filtered


def _filter_handle(kind: str, handle: int) -> str:
    if kind != "u32":
        return f"0x{handle:x}"
    bucket = handle >> 12 & 0xFF
    return f"{handle >> 20:x}:" + (f"{bucket:x}" if bucket else "") + f":{handle & 0xFFF:x}"


def outcome(filtered: dict[str, Any]) -> tuple[str, str, list[str]]:
    """(can_drop, can_divert, how) of a filter's actions; the verdict of a program of its own is not part of it."""
    drop = divert = "no"
    how: list[str] = []
    if not filtered["understood"]:
        return "unknown", "unknown", [f"filters of kind {filtered['kind']} are not understood"]
    for action in filtered["actions"]:
        kind = action["kind"]
        for verdict, when in ((action["verdict"], ""), (action["else"], " above its rate" if kind == "police" else " at random")):
            if verdict in ("drop", "stolen", "queued", "trap"):
                drop = "yes"
                how.append(f"action {kind} {verdict}{when}")
            elif verdict == "redirect":
                divert = "yes"
                how.append(f"action {kind} {action['detail'] or 'redirect'}")
        if kind in _OPAQUE or (kind not in _ACTION_PARMS and kind != "police") or action["verdict"] is None:
            drop = "unknown" if drop == "no" else drop
            divert = "unknown" if divert == "no" else divert
            how.append(f"what action {kind or '?'} does to a packet is not understood")
    if not filtered["actions"]:
        how.append("has no action, only classifies")
    elif not how:
        how.append("actions " + ", ".join(f"{action['kind']} {action['verdict']}" for action in filtered["actions"]))
    return drop, divert, how


def _places(sock: netlink.Socket, qdiscs: list[Qdisc], gaps: list[Gap]) -> Iterator[tuple[int, int, str, str]]:
    """(ifindex, parent to ask for, direction, how tc names the place) of everything that can hold filters."""
    for qdisc in qdiscs:
        if qdisc.kind in ("clsact", "ingress"):
            yield qdisc.ifindex, INGRESS, "ingress", "ingress"
            if qdisc.kind == "clsact":
                yield qdisc.ifindex, EGRESS, "egress", "egress"
            continue
        if qdisc.kind in _WITHOUT_FILTERS:
            continue
        if qdisc.handle == 0:
            # A default qdisc has no handle; only the root one can be addressed, as parent 0.
            if qdisc.parent == _ROOT:
                yield qdisc.ifindex, 0, "egress", "root"
            continue
        yield qdisc.ifindex, qdisc.handle, "egress", f"parent {handle_text(qdisc.handle)}"
        if qdisc.kind not in _CLASSES_HOLD:
            continue
        answers = sock.dump(GETTCLASS, rtnl.TC.pack(0, qdisc.ifindex, 0, qdisc.handle, 0))
        classes = sorted({rtnl.TC.unpack_from(body)[2] for _kind, body in answers if len(body) >= rtnl.TC.size})
        if len(classes) > _MOST_CLASSES:
            gaps.append(Gap("hooks.tc", f"interface {qdisc.ifindex}: filters of {_MOST_CLASSES} of {len(classes)} classes read"))
        for number in classes[:_MOST_CLASSES]:
            yield qdisc.ifindex, number, "egress", f"parent {handle_text(number)}"


def read(only: set[int] | None = None) -> tuple[list[dict[str, Any]], list[Gap]]:
    """All filters, each with ``direction`` (ingress, egress), ``place`` (words for tc) and ``order`` (0-based, in run order).

    only: indexes of the interfaces wanted, None for all. An unreadable part is a gap, never an empty list.
    """
    filters: list[dict[str, Any]] = []
    gaps: list[Gap] = []
    try:
        with netlink.Socket(netlink.ROUTE) as sock:
            answers = sock.dump(rtnl.GETQDISC, rtnl.qdisc_request())
            qdiscs = [found for found in (parse_qdisc(body) for _kind, body in answers) if found is not None]
            if only is not None:
                qdiscs = [qdisc for qdisc in qdiscs if qdisc.ifindex in only]
            shown: set[tuple[int, int, int, str, str]] = set()
            for ifindex, parent, direction, place in _places(sock, qdiscs, gaps):
                try:
                    bodies = sock.dump(GETTFILTER, rtnl.TC.pack(0, ifindex, 0, parent, 0))
                except OSError as error:
                    gaps.append(Gap("hooks.tc", f"interface {ifindex} {place}: {procfs.reason(error)}"))
                    continue
                found_here = [found for found in (parse_filter(body) for _kind, body in bodies) if found is not None]
                if direction == "egress" and parent != EGRESS:
                    # u32 keeps one table for a qdisc and its classes and lists it at each of them. Deleting works from each.
                    common = [
                        (ifindex, parent >> 16, found["priority"], found["protocol"], found["handle"]) for found in found_here
                    ]
                    found_here = [
                        found for found, where in zip(found_here, common) if found["kind"] != "u32" or where not in shown
                    ]
                    shown.update(common)
                for order, found in enumerate(found_here):
                    found.update(ifindex=ifindex, direction=direction, place=place, order=order)
                    found["reached"] = _reached(found, found_here)
                filters.extend(found_here)
    except OSError as error:
        gaps.append(Gap("hooks.tc", f"rtnetlink: {procfs.reason(error)}"))
    return filters, gaps


def _reached(filtered: dict[str, Any], beside: list[dict[str, Any]]) -> bool | None:
    """Does a packet get to this filter's chain? None: could not tell (a program or unknown action might send it there)."""
    if filtered["chain"] == 0:
        return True
    target = f"goto chain {filtered['chain']}"
    if any(target in (action["verdict"], action["else"]) for other in beside for action in other["actions"]):
        return True
    understood = all(other["understood"] and all(action["verdict"] for action in other["actions"]) for other in beside)
    return False if understood else None
