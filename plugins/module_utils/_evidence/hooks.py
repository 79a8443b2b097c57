# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""Everything hooked on the packet path: BPF programs and traffic control filters, where, in which order, and whose.

The kernel is asked directly: tools of stable distributions do not list every kind of hook. Sources: bpf(2), tc-bpf(8),
include/uapi/linux/{bpf,if_link,netfilter}.h.

A kernel that does not have a hook at all (tcx before Linux 6.6, for instance) can hold no program there: that is an answer,
not a gap. A hook that may not be asked, or whose answer is cut, is a gap named ``hooks.<hook>``.
"""

from __future__ import annotations

import hashlib
import os
import time
from typing import Any

from ansible_collections.netops.fleet.plugins.module_utils._evidence import (
    bpf_returns,
    cgroup_hooks,
    fdcensus,
    hook_detach,
    tc_filters,
)
from ansible_collections.netops.fleet.plugins.module_utils._evidence.names_canonical import cgroup_class, iface_class
from ansible_collections.netops.fleet.plugins.module_utils._evidence.section import Section
from ansible_collections.netops.fleet.plugins.module_utils._kernel import bpf, netlink, procfs, rtnl

_IFLA_IFNAME, _IFLA_LINKINFO, _IFLA_XDP = 3, 18, 43
_XDP_MODES = {5: "native", 6: "generic", 7: "offload"}
_XDP_ATTACHED = {1: "native", 2: "generic", 3: "offload"}
_NETKIT_PRIMARY, _NETKIT_POLICY, _NETKIT_PEER_POLICY, _NETKIT_BLACKHOLE = 2, 3, 4, 2
_FAMILIES = {2: "ipv4", 10: "ipv6"}
_NETFILTER_HOOKS = ("prerouting", "input", "forward", "output", "postrouting")
_SIDES = (("tcx", "tcx_ingress", "ingress"), ("tcx", "tcx_egress", "egress"))
_NETKIT_SIDES = (("netkit", "netkit_primary", "primary"), ("netkit", "netkit_peer", "peer"))
_RTA_DST, _RTA_TABLE, _RTA_ENCAP_TYPE, _RTA_ENCAP, _LWTUNNEL_ENCAP_BPF = 1, 15, 21, 22, 6
_LWT_SIDES = {1: "in", 2: "out", 3: "xmit"}
_TC_FIELDS = (
    "place", "chain", "priority", "protocol", "handle", "direct_action", "block", "classid", "actions", "reached", "match",
    "understood", "conditions",
)  # fmt: skip
_ANALYSIS_SECONDS = 4.0


def read(
    census: fdcensus.FdCensus | None = None,
    interfaces: list[str] | None = None,
    cgroups: bool = True,
    where: list[str] | None = None,
) -> Section:
    """Every hook of this network namespace, and the machine-wide ones.

    census: owners, when a walk over the processes was made already (with ``bpf=True``); else one is made here. interfaces:
    only these; cgroup and other machine-wide hooks are listed all the same. where: words to put before each printed command,
    for a namespace that was entered, e.g. ``["ip", "netns", "exec", "blue"]``.

    Data: list of::

        hook           tc | tcx | netkit | xdp | cgroup | netfilter | flow_dissector | sk_lookup | lwt
        direction      ingress | egress; netkit: primary | peer; netfilter: prerouting, input, ...; lwt: in | out | xmit;
                       cgroup: attach type without "cgroup_"; null for flow_dissector and sk_lookup
        scope          netns: acts in this network namespace. machine: in every one (cgroups). unknown: the kernel does not say
        interface      {name, index, class} | null        class: name without its random part
        cgroup         {path, inherited, here, mine, listens} | null   inherited: attached above what can be seen from here;
                       here: a process or socket of this network namespace is in it, mine: this process is, null when that
                       cannot be told;
                       listens: tcp/22 of the sockets in it that wait for packets, null for all or not told
        order          0-based position in run order among the entries of the same hook, place and direction
        kind           bpf, or the kind of the tc filter: u32, flower, matchall, ...; policy for a netkit without program
        prog_type, name, tag, id                          of the program; null for other filters
        load_time      unix seconds | null
        loaded_by      uid | null
        pin            paths in a bpffs that keep the program or its link
        link_id        id of the BPF link that holds the attachment | null
        mode           xdp: native | generic | offload; else null
        jited, gpl     bool | null
        map_ids        [int]
        run_count, run_time_ns                            null unless the kernel counts (kernel.bpf_stats_enabled)
        owners         [{pid, process, exe, unit, uid, via: link | program}]   processes that hold it open
        extensions     [{id, name, tag, link_id}]         programs that replace a function of this one
        tc             {place, chain, priority, protocol, handle, direct_action, block, classid, actions, reached, match,
                       understood} | null
        netfilter      {family, priority, flags} | null
        can_drop, can_divert    yes | no | unknown
        drop_evidence  [line]                             how that is known
        detach         [command or "# sentence"]          each command alone removes this attachment, best first
        key            canonical name, equal on peers     no ids, addresses or random names

    Never raises for what a host can be.
    """
    reader = _Reader(Section([]), interfaces, where or [])
    reader.interfaces()
    reader.programs()
    reader.tc()
    reader.xdp()
    reader.tcx_and_netkit()
    reader.namespace()
    reader.netfilter()
    reader.lwt()
    if cgroups:
        reader.cgroups()
    reader.finish(census)
    return reader.section


class _Reader:
    """Gathers entries, then adds to all of them what one look at the machine tells."""

    def __init__(self, section: Section, only: list[str] | None, where: list[str]) -> None:
        self.section = section
        self._only = None if only is None else set(only)
        self._where = where
        self._names: dict[int, str] = {}
        self._links_raw: list[tuple[int, str, dict[int, bytes]]] = []
        self._types: set[str] | None = None
        self._known: dict[int, bpf.Program | str] = {}
        self._links: dict[int, bpf.Link] = {}
        self._verdicts: dict[tuple[bytes, str, str], bpf_returns.Verdict] = {}
        self._spent = 0.0
        self._privileged = True

    # -- the machine -----------------------------------------------------------------------------------------------------

    def interfaces(self) -> None:
        try:
            with netlink.Socket(netlink.ROUTE) as sock:
                extension = netlink.pack([(rtnl.IFLA_EXT_MASK, rtnl.RTEXT_FILTER_SKIP_STATS)])
                answers = sock.dump(rtnl.GETLINK, rtnl.link_request() + extension)
        except OSError as error:
            self.section.gap("hooks.interfaces", f"rtnetlink: {procfs.reason(error)}")
            return
        for _kind, body in answers:
            if len(body) < rtnl.IFINFO.size:
                continue
            index = rtnl.IFINFO.unpack_from(body)[2]
            found = netlink.attributes(body, rtnl.IFINFO.size)
            name = netlink.text_of(found.get(_IFLA_IFNAME, b""))
            self._names[index] = name
            if self._only is None or name in self._only:
                self._links_raw.append((index, name, found))
        for name in sorted((self._only or set()) - set(self._names.values())):
            self.section.gap("hooks.interfaces", f"there is no interface {name[:64]} in this network namespace")

    def programs(self) -> None:
        """Which types of program are loaded at all: spares most questions. And every link."""
        try:
            types = set()
            for prog_id in bpf.prog_ids():
                found = self._program(prog_id)
                if isinstance(found, bpf.Program):
                    types.add(found.type)
            self._types = types
        except bpf.BpfError as error:
            self._privileged = False
            self.section.gap("hooks.programs", error.why)
        try:
            for link_id in bpf.link_ids():
                try:
                    self._links[link_id] = bpf.link(link_id)
                except bpf.Gone:
                    continue
        except bpf.NotSupported as error:
            # A kernel that cannot list links knows none; one whose whole call is hidden was reported above.
            if self._privileged and isinstance(error, bpf.Unsupported):
                self.section.gap("hooks.links", error.why)
        except bpf.BpfError as error:
            self.section.gap("hooks.links", error.why)

    def _loaded(self, *types: str) -> bool:
        """May a program of these types be there? True when it is not known."""
        return self._types is None or not self._types.isdisjoint(types)

    def _program(self, prog_id: int) -> bpf.Program | str:
        """The program, or why nothing is known about it."""
        if prog_id not in self._known:
            try:
                self._known[prog_id] = bpf.program(prog_id)
            except bpf.BpfError as error:
                self._known[prog_id] = error.why
        return self._known[prog_id]

    # -- entries ---------------------------------------------------------------------------------------------------------

    def _entry(self, hook: str, direction: str | None, order: int, index: int | None = None, **more: Any) -> dict[str, Any]:
        name = self._names.get(index, str(index)) if index is not None else None
        entry: dict[str, Any] = {
            "hook": hook,
            "direction": direction,
            "scope": "netns",
            "interface": {"name": name, "index": index, "class": iface_class(name)} if name is not None else None,
            "cgroup": None,
            "order": order,
            "kind": "bpf",
            "prog_type": None,
            "name": None,
            "tag": None,
            "id": None,
            "load_time": None,
            "loaded_by": None,
            "pin": [],
            "link_id": None,
            "mode": None,
            "jited": None,
            "gpl": None,
            "map_ids": [],
            "run_count": None,
            "run_time_ns": None,
            "owners": [],
            "extensions": [],
            "tc": None,
            "netfilter": None,
            "can_drop": "unknown",
            "can_divert": "unknown",
            "drop_evidence": [],
            "detach": [],
            "key": "",
        }
        entry.update(more)
        self.section.data.append(entry)
        return entry

    def tc(self) -> None:
        only = None if self._only is None else {index for index, _name, _found in self._links_raw}
        filters, gaps = tc_filters.read(only)
        self.section.gaps.extend(gaps)
        for found in filters:
            entry = self._entry(
                "tc",
                found["direction"],
                found["order"],
                found["ifindex"],
                kind=found["kind"],
                tc={name: found[name] for name in _TC_FIELDS},
            )
            prog = found["prog"]
            if prog is not None:
                entry.update(prog_type="sched_cls", name=prog["name"], tag=prog["tag"], id=prog["id"])
            for action in found["actions"]:
                if action["to_ifindex"] is not None:
                    action["to"] = self._names.get(action["to_ifindex"], str(action["to_ifindex"]))
                    action["detail"] = f"{action['detail']} of {action['to']}"

    def xdp(self) -> None:
        for index, _name, found in self._links_raw:
            listed = netlink.attributes(found.get(_IFLA_XDP, b""))
            modes = [(mode, netlink.number(listed[number])) for number, mode in _XDP_MODES.items() if number in listed]
            attached = _XDP_ATTACHED.get(netlink.number(listed.get(2)))
            if not modes and attached is not None:  # kernels before 4.19 tell one mode and one id
                modes = [(attached, netlink.number(listed.get(4)))]
            # The driver's own program runs before the generic one.
            for order, (mode, prog_id) in enumerate(modes):
                entry = self._entry("xdp", "ingress", order, index, mode=mode, id=prog_id or None, prog_type="xdp")
                # A link tells its interface by number only, and another namespace may use the same number: one candidate or none.
                held = [
                    link.id
                    for link in self._links.values()
                    if link.type == "xdp" and link.ifindex == index and link.prog_id == prog_id
                ]
                entry["link_id"] = held[0] if len(held) == 1 else None

    def tcx_and_netkit(self) -> None:
        asked = list(_SIDES) if self._loaded("sched_cls") else []
        for index, name, found in self._links_raw:
            info = netlink.attributes(found.get(_IFLA_LINKINFO, b""))
            netkit = netlink.text_of(info.get(1, b"")) == "netkit"
            details = netlink.attributes(info.get(2, b"")) if netkit else {}
            for hook, attach_type, direction in asked + (list(_NETKIT_SIDES) if netkit else []):
                if hook == "netkit":
                    if not netlink.number(details.get(_NETKIT_PRIMARY)):
                        # The peer's programs are told through the primary device, which may be in another namespace.
                        self.section.gap("hooks.netkit", f"{name}: its programs can only be read where its other end is")
                        break
                    self._netkit_policy(index, direction, details)
                try:
                    attached = bpf.query(bpf.ATTACH[attach_type], index)
                except bpf.NotPermitted as error:
                    self.section.gap(f"hooks.{hook}", error.why)
                    return
                except bpf.NotSupported as error:
                    if hook == "netkit" or self._types is None:
                        self.section.gap(f"hooks.{hook}", error.why)
                    if hook == "tcx":
                        asked = []  # this kernel has no tcx
                    break
                except bpf.BpfError:
                    continue  # the interface went away
                links = attached.links or [0] * len(attached.programs)
                for order, (prog_id, link_id) in enumerate(zip(attached.programs, links)):
                    entry = self._entry(hook, direction, order, index, id=prog_id, link_id=link_id or None, prog_type="sched_cls")
                    entry["last"] = order == len(attached.programs) - 1

    def _netkit_policy(self, index: int, direction: str, details: dict[int, bytes]) -> None:
        """A netkit device whose default is blackhole drops what no program passes."""
        which = _NETKIT_POLICY if direction == "primary" else _NETKIT_PEER_POLICY
        if netlink.number(details.get(which)) == _NETKIT_BLACKHOLE:
            name = self._names.get(index, str(index))
            self._entry(
                "netkit", direction, 1 << 16, index, kind="policy", can_drop="yes", can_divert="no",
                drop_evidence=["the device drops what no program passes (policy blackhole)"],
                detach=[f"# make {name} anew without 'policy blackhole'"],
            )  # fmt: skip

    def namespace(self) -> None:
        """Programs of the network namespace itself."""
        for hook in ("flow_dissector", "sk_lookup"):
            if self._types is not None and hook not in self._types:
                continue
            try:
                descriptor = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
            except OSError as error:
                self.section.gap(f"hooks.{hook}", procfs.reason(error, "/proc/thread-self/ns/net"))
                continue
            try:
                inode = os.fstat(descriptor).st_ino
                attached = bpf.query(bpf.ATTACH[hook], descriptor)
            except bpf.NotSupported as error:
                if self._types is None and error.errno == 38:
                    self.section.gap(f"hooks.{hook}", error.why)
                continue
            except bpf.BpfError as error:
                self.section.gap(f"hooks.{hook}", error.why)
                continue
            finally:
                os.close(descriptor)
            held = [
                link
                for link in self._links.values()
                if link.type == "netns" and link.netns_ino == inode and link.attach_type == hook
            ]
            for order, prog_id in enumerate(attached.programs):
                candidates = [link.id for link in held if link.prog_id == prog_id]
                self._entry(hook, None, order, id=prog_id, prog_type=hook, link_id=candidates[0] if candidates else None)

    def netfilter(self) -> None:
        if not self._privileged:
            self.section.gap("hooks.netfilter", "BPF links may not be listed: " + bpf.permission())
            return
        found = [link for link in self._links.values() if link.type == "netfilter"]
        found.sort(key=lambda link: (link.family or 0, link.hook or 0, link.priority or 0, link.id))
        order: dict[tuple[int | None, int | None], int] = {}
        for link in found:
            place = (link.family, link.hook)
            number = link.hook if link.hook is not None else -1
            self._entry(
                "netfilter",
                _NETFILTER_HOOKS[number] if 0 <= number < len(_NETFILTER_HOOKS) else str(number),
                order.setdefault(place, 0),
                id=link.prog_id,
                link_id=link.id,
                prog_type="netfilter",
                scope="unknown",
                netfilter={
                    "family": _FAMILIES.get(link.family or 0, str(link.family)),
                    "priority": link.priority,
                    "flags": ["ip_defrag"] if link.flags else [],
                },
            )
            order[place] += 1

    def cgroups(self) -> None:
        found, gaps, _asked = cgroup_hooks.read(self._types)
        self.section.gaps.extend(gaps)
        top = cgroup_hooks.root() or ""
        types = {name: kind for kind, names in cgroup_hooks.HOOKS.items() for name in names}
        for hook in found:
            for order, prog_id in enumerate(hook.programs):
                held = [
                    link.id
                    for link in self._links.values()
                    if link.type == "cgroup"
                    and link.cgroup_id == hook.number
                    and link.attach_type == hook.attach_type
                    and link.prog_id == prog_id
                    and not hook.inherited
                ]
                entry = self._entry(
                    "cgroup",
                    hook.attach_type[len("cgroup_") :],
                    order,
                    id=prog_id,
                    prog_type=types[hook.attach_type],
                    scope="machine",
                    cgroup={
                        "path": hook.path,
                        "inherited": hook.inherited,
                        "here": hook.here,
                        "mine": hook.mine,
                        "listens": None if hook.listens is None else list(hook.listens),
                    },
                    link_id=held[0] if held else None,
                )
                entry["place"] = hook.path[len(top) :] or "/"

    def lwt(self) -> None:
        """Routes with a program. Only asked when such a program is loaded: a host may have a million routes."""
        if self._types is None:
            self.section.gap("hooks.lwt", "whether programs of routes are loaded may not be asked: " + bpf.permission())
            return
        if self._types.isdisjoint(("lwt_in", "lwt_out", "lwt_xmit")):
            return
        for family in (2, 10):
            try:
                with netlink.Socket(netlink.ROUTE) as sock:
                    for _kind, body in sock.dump_stream(rtnl.GETROUTE, rtnl.route_request(family)):
                        self._lwt_route(body)
            except OSError as error:
                self.section.gap("hooks.lwt", f"rtnetlink: {procfs.reason(error)}")

    def _lwt_route(self, body: bytes) -> None:
        found = netlink.attributes(body, rtnl.ROUTE.size) if len(body) >= rtnl.ROUTE.size else {}
        if netlink.number(found.get(_RTA_ENCAP_TYPE)) != _LWTUNNEL_ENCAP_BPF:
            return
        prefix = rtnl.ROUTE.unpack_from(body)[1]
        to = rtnl.address(found.get(_RTA_DST))
        dst = f"{to}/{prefix}" if to else "default"
        index = netlink.number(found.get(4)) or None
        for side, data in netlink.attribute_list(found.get(_RTA_ENCAP, b"")):
            direction = _LWT_SIDES.get(side)
            name = netlink.text_of(netlink.attributes(data).get(2, b""))
            if direction is None:
                continue
            # The kernel tells only a name that the loader made up: it is the program when no other of the type is loaded at all.
            wanted = f"lwt_{direction}"
            same = [prog for prog in self._known.values() if isinstance(prog, bpf.Program) and prog.type == wanted]
            entry = self._entry("lwt", direction, 0, index, prog_type=wanted, name=name)
            entry["id"] = same[0].id if len(same) == 1 else None
            table = netlink.number(found.get(_RTA_TABLE))
            entry["detach"] = [hook_detach.line(self._where, ["ip", "route", "del", dst, "table", str(table)])]
            entry["place"] = dst

    # -- what is added to all --------------------------------------------------------------------------------------------

    def finish(self, census: fdcensus.FdCensus | None) -> None:
        entries = self.section.data
        wanted = any(entry["id"] for entry in entries)
        if wanted and census is None:
            census = fdcensus.census((), bpf=True)
        pins = bpf.Pins()
        if wanted:
            for gap in census.gaps if census is not None else []:
                self.section.gap("hooks." + gap.what, gap.why)
            pins = bpf.pins()
            for problem in pins.problems:
                self.section.gap("hooks.pins", problem)
        extensions = self._extensions()
        statistics, zero = bpf.statistics_on(), bpf.boot_time()
        for entry in entries:
            if entry["id"]:
                self._describe(entry, statistics, zero)
                self._owners(entry, census, pins)
                entry["extensions"] = extensions.get(entry["id"], [])
            self._drops(entry)
            entry["key"] = _key(entry)
            if not entry["detach"]:
                entry["detach"] = hook_detach.commands(entry, self._where, pins.links.get(entry["link_id"] or 0, []))
            for internal in ("place", "last", "owners_cgroup"):
                entry.pop(internal, None)
        unseen = sum(1 for entry in entries if entry["link_id"] and not entry["owners"] and not entry["pin"])
        if unseen:
            # A link lives only as long as something holds it.
            why = f"{unseen} links are held by what cannot be seen from here (another process or mount namespace)"
            self.section.gap("hooks.owners", why)
        entries.sort(key=_sorting)

    def _extensions(self) -> dict[int, list[dict[str, Any]]]:
        """Programs that replace functions of others, by the program they extend."""
        found: dict[int, list[dict[str, Any]]] = {}
        for link in self._links.values():
            if link.type != "tracing" or not link.target_prog:
                continue
            prog = self._program(link.prog_id)
            if isinstance(prog, bpf.Program) and prog.type == "ext":
                found.setdefault(link.target_prog, []).append(
                    {"id": prog.id, "name": prog.name, "tag": prog.tag, "link_id": link.id}
                )
        return found

    def _describe(self, entry: dict[str, Any], statistics: bool, zero: float) -> None:
        prog = self._program(entry["id"])
        if isinstance(prog, str):
            entry["drop_evidence"] = [prog]
            return
        entry.update(
            prog_type=prog.type,
            tag=prog.tag,
            load_time=round(zero + prog.load_time) if prog.load_time is not None else None,
            loaded_by=prog.uid,
            jited=prog.jited,
            gpl=prog.gpl,
            map_ids=prog.map_ids,
            run_count=prog.run_count if statistics else None,
            run_time_ns=prog.run_time_ns if statistics else None,
        )
        # tc keeps the name of the loader's section, longer and of more use than the program's.
        entry["name"] = entry["name"] or prog.name

    def _owners(self, entry: dict[str, Any], census: fdcensus.FdCensus | None, pins: bpf.Pins) -> None:
        entry["pin"] = sorted(pins.programs.get(entry["id"], []) + pins.links.get(entry["link_id"] or 0, []))
        if census is None:
            return
        holders = [("link", owner) for owner in census.links.get(entry["link_id"] or 0, [])]
        seen = {owner.pid for _via, owner in holders}
        holders += [("program", owner) for owner in census.programs.get(entry["id"], []) if owner.pid not in seen]
        entry["owners"] = [{**owner.to_dict(), "via": via} for via, owner in holders]
        entry["owners_cgroup"] = {owner.pid: owner.cgroup for _via, owner in holders}

    def _drops(self, entry: dict[str, Any]) -> None:
        if entry["kind"] == "policy":
            return
        tc = entry["tc"]
        if tc is not None:
            drop, divert, how = tc_filters.outcome(tc)
            if tc["reached"] is False:
                drop, divert, how = "no", "no", [f"nothing sends packets to chain {tc['chain']}"]
            elif tc["direct_action"]:
                verdict = self._verdict(entry)
                drop, divert = _worse(drop, verdict.can_drop), _worse(divert, verdict.can_divert)
                how = verdict.how + (how if tc["actions"] else [])
        else:
            verdict = self._verdict(entry)
            drop, divert, how = verdict.can_drop, verdict.can_divert, verdict.how
            # The function that was replaced is not in the instructions: its call counts as computed, so "no" stays a promise.
        entry.update(can_drop=drop, can_divert=divert, drop_evidence=how)

    def _verdict(self, entry: dict[str, Any]) -> bpf_returns.Verdict:
        if not entry["id"]:
            return bpf_returns.Verdict.unreadable("the kernel does not tell which program it is")
        if isinstance(self._known.get(entry["id"]), str):
            return bpf_returns.Verdict.unreadable(str(self._known[entry["id"]]))
        if self._spent > _ANALYSIS_SECONDS:
            return bpf_returns.Verdict.unreadable(f"not looked at: {_ANALYSIS_SECONDS:g} s were spent on other programs")
        started = time.monotonic()
        try:
            code = bpf.program(entry["id"], instructions=True).instructions
        except bpf.BpfError as error:
            return bpf_returns.Verdict.unreadable(error.why)
        # One program is often loaded once per interface, differing only in the addresses of its maps.
        digest = hashlib.sha256(bpf_returns.without_addresses(code or b"")).digest()
        kept = (digest, entry["hook"], entry["prog_type"])
        if kept not in self._verdicts:
            self._verdicts[kept] = bpf_returns.verdict(code, entry["hook"], entry["prog_type"])
        self._spent += time.monotonic() - started
        return self._verdicts[kept]


def _worse(one: str, other: str) -> str:
    return "yes" if "yes" in (one, other) else "unknown" if "unknown" in (one, other) else "no"


def _key(entry: dict[str, Any]) -> str:
    """``bpf tc ingress veth* sched_cls cil_from_container 3a1f...``; ``filter tc egress eth0 u32 ip 8f3a11c2 drop``."""
    place = "-"
    if entry["interface"] is not None:
        place = entry["interface"]["class"]
    elif entry["cgroup"] is not None:
        place = cgroup_class(entry["place"])
    elif entry["netfilter"] is not None:
        place = f"{entry['netfilter']['family']}/{entry['netfilter']['priority']}"
    if entry["hook"] == "lwt":
        place = f"{place} {entry['place']}"
    direction = entry["direction"] or "-"
    if entry["prog_type"] is not None:
        return f"bpf {entry['hook']} {direction} {place} {entry['prog_type']} {entry['name'] or '-'} {entry['tag'] or '-'}"
    tc = entry["tc"]
    if tc is None:
        return f"{entry['kind']} {entry['hook']} {direction} {place}"
    actions = "+".join(f"{action['kind']}:{action['verdict']}" for action in tc["actions"]) or "-"
    return f"filter tc {direction} {place} {entry['kind']} {tc['protocol']} {tc['match']} {actions}"


def _sorting(entry: dict[str, Any]) -> tuple[str, int, str, str, str, int]:
    interface, cgroup = entry["interface"], entry["cgroup"]
    where = entry["tc"]["place"] if entry["tc"] is not None else cgroup["path"] if cgroup is not None else ""
    return (
        "" if interface is not None else "~",
        interface["index"] or 0 if interface is not None else 0,
        entry["hook"],
        entry["direction"] or "",
        where,
        entry["order"],
    )
