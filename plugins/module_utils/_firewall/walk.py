# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""What happens to a packet on a host, and which rule, route, switch or program decides. Pure: what was read in, verdict out.

The walk follows the kernel: programs at the interface, netdev ingress, prerouting, routing, input or forward, output,
postrouting, egress. On each hook all base chains of all back ends by priority; an accept ends one base chain, a drop ends
everything. What may decide otherwise is kept, and the answer is "unknown" only when it would have been another.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Optional

from ansible_collections.netops.fleet.plugins.module_utils._firewall import model, programs
from ansible_collections.netops.fleet.plugins.module_utils._firewall.actions import NAT
from ansible_collections.netops.fleet.plugins.module_utils._firewall.chains import (
    ACCEPT,
    DROP,
    REJECT,
    RETURN,
    STOP,
    UNKNOWN,
    Chains,
    Moved,
    Outcome,
    Possible,
    State,
    TooManyError,
)
from ansible_collections.netops.fleet.plugins.module_utils._firewall.packet import Packet, merged
from ansible_collections.netops.fleet.plugins.module_utils._firewall.routing import Found, Router

__all__ = ["ACCEPT", "DROP", "REJECT", "UNKNOWN", "Decision", "Moved", "Possible", "Walker"]

#: Connections get their state here (NF_IP_PRI_CONNTRACK); chains before it cannot see it.
_CONNTRACK = -200
#: Chains of type nat all run where the kernel's own NAT hook stands, among each other by their own priority.
_NAT_PRIORITY = {"prerouting": -100, "output": -100, "input": 100, "postrouting": 100}
_MANIPULATES = {"prerouting": "dnat", "output": "dnat", "input": "snat", "postrouting": "snat"}

#: Whether a program lets a packet pass: True, False, or None when its instructions do not tell.
Runner = Callable[["dict[str, Any]", Packet], Optional[bool]]


#: The interface by which the host sends to an address; None when that is not known.
WayOut = Callable[[str], Optional[str]]


@dataclass
class Decision:
    """verdict: accept, drop, reject or unknown. rule: what decided; None when a policy, another object or nothing did.

    chain: the chain that decided. key: the element of a verdict map that was hit. path: steps, for people.
    possible: what could decide otherwise; for drop and reject, what may do the same in the place of ``rule``.
    why: why the verdict is unknown. packet: as it was at the end, after NAT.
    moved: rules that gave it, or may give it, another destination.
    object: what decided when it is no rule: ``{kind: policy | route | policy_rule | sysctl | martian | ttl | hook, text, ...}``.
    """

    verdict: str
    rule: model.Rule | None = None
    chain: model.Chain | None = None
    key: object = None
    path: list[str] = field(default_factory=list)
    possible: list[Possible] = field(default_factory=list)
    why: str | None = None
    packet: Packet | None = None
    object: dict[str, Any] | None = None
    moved: list[Moved] = field(default_factory=list)


class _End(Exception):
    """The way ends here for certain."""


@dataclass
class _Way:
    """One packet under way. pending: a block that happens unless a possible pass before it does. again: in over lo."""

    packet: Packet
    without: frozenset[int] = frozenset()
    path: list[str] = field(default_factory=list)
    possible: list[Possible] = field(default_factory=list)
    pending: list[Outcome] = field(default_factory=list)
    end: Outcome | None = None
    object: dict[str, Any] | None = None
    mapped: dict[str, bool | None] = field(default_factory=dict)
    tracked: bool = False
    again: bool = False
    moved: list[Moved] = field(default_factory=list)
    steps: int = 0


class Walker:
    """Walks packets over one ruleset; indexes chains and sets once.

    router: the host's addresses and routes; without it a packet's ``local`` says whether it is for the host. hooks: entries of
    the hook census; without them programs are not looked at. run: tells what a program does to a packet, where it can.
    own, way_out: the host's addresses, and by which interface it sends, for evidence without routes.
    """

    def __init__(
        self,
        ruleset: model.Ruleset,
        router: Router | None = None,
        hooks: list[dict[str, Any]] | None = None,
        run: Runner | None = None,
        own: frozenset[str] = frozenset(),
        way_out: WayOut | None = None,
    ) -> None:
        self.ruleset = ruleset
        self._own = own
        self._way = way_out
        self.router = router
        self.chains = Chains(ruleset)
        self.unread = [state for state in ruleset.backends if state.status == "unread"]
        self._programs = programs.Programs(hooks or [], run)
        self._bases: dict[tuple[str, int, str | None], list[model.Chain]] = {}
        self._tracking: dict[int, bool] = {}
        self._order = {id(chain): place for place, chain in enumerate(ruleset.chains)}

    # --- the ways

    def incoming(self, packet: Packet, without: frozenset[int] = frozenset()) -> Decision:
        """A packet from the wire. without: ``id()`` of rules and hook entries to leave out ("would it pass if ...")."""
        way = _Way(self._seen(packet), without)
        return self._walk(way, self._from_wire)

    def outgoing(self, packet: Packet, without: frozenset[int] = frozenset()) -> Decision:
        """A packet this host sends itself; what it sends to itself is followed over lo and in again."""
        way = _Way(self._seen(packet).changed(own=True, iif=""), without)
        return self._walk(way, self._from_here)

    def _seen(self, packet: Packet) -> Packet:
        return packet if self.router is None else packet.changed(world=self.router)

    def _walk(self, way: _Way, follow: Callable[[_Way], None]) -> Decision:
        try:
            follow(way)
        except _End:
            pass
        except TooManyError as error:
            way.possible.append(Possible(UNKNOWN, str(error), what="the rules"))
        except RecursionError:
            way.possible.append(Possible(UNKNOWN, "the rules are nested too deeply", what="the rules"))
        return self._final(way)

    def _from_wire(self, way: _Way) -> None:
        device = way.packet.iif
        self._run_programs(way, "xdp", device)
        self._run_programs(way, "tc ingress", device)
        self._below(way)
        self._hook(way, "ingress")
        self._hook(way, "prerouting")
        self._track(way)
        self._receive(way)

    def _below(self, way: _Way) -> None:
        """Chains under the interface that holds the address: of its ports or members, and of a bridge it is."""
        packet = way.packet
        lower = set(packet.lower)
        found = [one for one in self.ruleset.chains if one.hook == "ingress" and lower & set(one.devices)]
        for chain in sorted(found, key=lambda one: one.priority or 0):
            if packet.iif in chain.devices:
                continue  # met at the interface itself
            if lower <= set(chain.devices):
                self._base(chain, way)
                continue
            # Which member a packet comes in by is not known.
            aside = _Way(packet.changed(iif=None), way.without)
            try:
                self._base(chain, aside)
            except _End:
                why = f"packets that come in by {', '.join(chain.devices)} meet it"
                end = aside.end or Outcome(DROP)
                aside.possible.append(Possible(end.kind, why, end.rule, what=f"{chain.family} {chain.table} {chain.name}"))
            way.possible += aside.possible
        if not packet.bridge:
            return
        for hook in ("prerouting", "input"):
            found = [one for one in self.ruleset.chains if one.family == "bridge" and one.hook == hook]
            for chain in sorted(found, key=lambda one: one.priority or 0):
                way.packet = way.packet.changed(iif=None)
                self._base(chain, way)
                way.packet = way.packet.changed(iif=packet.iif)

    def _receive(self, way: _Way) -> None:
        """The routing decision, then input or forward."""
        packet = way.packet
        goal, why = "local", ""
        if self.router is not None:
            goal, found, why = self.router.arriving(packet)
            self._note_route(way, goal, found, why)
            if goal in (DROP, REJECT):
                self._stop(way, Outcome(goal), _routed(found, why))
            if goal == UNKNOWN:
                way.possible.append(Possible(UNKNOWN, why, what="the routing decision"))
                if packet.local is False:
                    goal = "forward"
            elif goal == "forward":
                way.packet = packet.changed(oif=found.devs[0] if len(found.devs) == 1 else None)
        elif packet.local is None and not (self._own and packet.daddr):
            way.possible.append(Possible(UNKNOWN, "where the packet goes after its new destination is not known", what="routing"))
        elif not packet.local and packet.daddr not in self._own:
            goal = "forward"
            there = packet.daddr
            way.packet = packet.changed(local=False, oif=self._way(there) if self._way and there else None)
        if goal == "forward":
            self._one_hop(way)
            self._hook(way, "forward")
            self._hook(way, "postrouting")
            self._send(way)
        else:
            way.packet = way.packet.changed(oif="")
            self._hook(way, "input")
            self._run_programs(way, "cgroup inet_ingress", None)
            self._run_programs(way, "sk_lookup", None)

    def _one_hop(self, way: _Way) -> None:
        """What is forwarded lives one hop less, from before the chains of the hook."""
        left = way.packet.ttl
        if left is not None and left <= 1:
            name = "ttl" if way.packet.family == 4 else "hop limit"
            self._stop(way, Outcome(REJECT), {"kind": "ttl", "text": f"its {name} of {left} ends here"})
        if left is not None:
            way.packet = way.packet.changed(ttl=left - 1)

    def _send(self, way: _Way) -> None:
        self._hook(way, "egress")
        self._run_programs(way, "tc egress", way.packet.oif)

    def _from_here(self, way: _Way) -> None:
        found = self._way_out(way, False)
        self._run_programs(way, f"cgroup inet{way.packet.family}_connect", None)
        self._hook(way, "output", reroute=True)
        self._track(way)
        self._run_programs(way, "cgroup inet_egress", None)
        self._hook(way, "postrouting")
        self._send(way)
        if way.packet.oif == "lo" or (found is not None and found.kind == "local" and way.packet.oif is None):
            # The connection was set up on the way out, with or without a mapping.
            way.again = True
            status = way.packet.ct_status
            if status is not None and way.packet.ct_state not in ("invalid", "untracked"):
                status |= {"confirmed"}
            way.packet = way.packet.changed(iif="lo", oif="", ct_status=status)
            self._run_programs(way, "xdp", "lo")
            self._run_programs(way, "tc ingress", "lo")
            self._hook(way, "ingress")
            self._hook(way, "prerouting")
            way.packet = way.packet.changed(own=True)
            self._hook(way, "input")

    def _way_out(self, way: _Way, again: bool) -> Found | None:
        if self.router is None:
            return None
        packet = way.packet
        found = self.router.leaving(packet, again)
        self._note_route(way, "", found, found.why)
        if found.kind == UNKNOWN:
            way.possible.append(Possible(UNKNOWN, found.why, what="the routing decision"))
            return found
        if found.kind == "none" or found.kind in ("unreachable", "prohibit", "blackhole"):
            kind = DROP if again or found.kind == "blackhole" else REJECT
            why = f"no route to {packet.daddr}" if found.kind == "none" else f"{found.kind} by {found.text()}"
            self._stop(way, Outcome(kind), _routed(found, why))
        saddr = packet.saddr if packet.saddr is not None or again else self.router.source_for(packet, found)
        oif = "lo" if found.kind == "local" else found.devs[0] if len(found.devs) == 1 else None
        way.packet = packet.changed(saddr=saddr, oif=oif)
        return found

    def _note_route(self, way: _Way, goal: str, found: Found, why: str) -> None:
        said = {"local": "for this host", "forward": "to be forwarded"}.get(goal, goal)
        parts = [one for one in (said, found.text() if found.route or found.rule else "", why) if one]
        way.path.append("routing: " + ": ".join(dict.fromkeys(parts)))

    # --- hooks

    def _track(self, way: _Way) -> None:
        """Connection tracking has seen the packet: what it was before any mapping is kept."""
        if not way.tracked:
            way.tracked = True
            packet = way.packet
            if packet.original is None and packet.ct_state == "new":
                way.packet = packet.changed(original=(packet.saddr, packet.daddr, packet.sport, packet.dport))

    def _base_chains(self, hook: str, packet: Packet) -> list[model.Chain]:
        device = (packet.iif if hook == "ingress" else packet.oif) if hook in ("ingress", "egress") else None
        key = (hook, packet.family, device)
        if key in self._bases:
            return self._bases[key]
        families = {4: ("ip", "inet"), 6: ("ip6", "inet")}[packet.family]
        found = []
        for chain in self.ruleset.chains:
            if chain.hook != hook:
                continue
            if hook in ("ingress", "egress"):
                if chain.family not in ("netdev", "inet") or (device is not None and not _covers(chain, device)):
                    continue
            elif chain.family not in families:
                continue
            found.append(chain)
        # Within a hook the kernel sorts by priority; of two with the same one the later registered runs first.
        first_nat = min((self._order[id(one)] for one in found if one.type == "nat"), default=0)

        def place(chain: model.Chain) -> tuple[int, int, int, int]:
            own, order = chain.priority or 0, self._order[id(chain)]
            if chain.type == "nat" and hook in _NAT_PRIORITY:
                return (_NAT_PRIORITY[hook], -first_nat, own, -order)
            return (own, -order, 0, 0)

        self._bases[key] = sorted(found, key=place)
        return self._bases[key]

    def _tracks(self, family: int) -> bool:
        """Does any rule make the kernel track connections of this family? Chains of type nat alone do not."""
        if family not in self._tracking:
            families = {4: ("ip", "inet"), 6: ("ip6", "inet")}[family]
            self._tracking[family] = any(_needs_tracking(rule) for rule in self.ruleset.rules if rule.family in families)
        return self._tracking[family]

    def _hook(self, way: _Way, hook: str, reroute: bool = False) -> None:
        chains = self._base_chains(hook, way.packet)
        programs_here = self._programs.netfilter(hook, way.packet.family)
        for chain in chains:
            priority = _NAT_PRIORITY.get(hook, 0) if chain.type == "nat" else chain.priority or 0
            while programs_here and programs.priority(programs_here[0]) < priority:
                self._program(way, programs_here.pop(0))
            if hook in ("prerouting", "output") and priority > _CONNTRACK:
                self._track(way)
            before = way.packet
            self._base(chain, way)
            if reroute and self.router is not None and _other_way(chain, before, way.packet):
                self._way_out(way, True)
        for entry in programs_here:
            self._program(way, entry)

    def _base(self, chain: model.Chain, way: _Way) -> None:
        """One base chain: what passes it goes on, what it stops ends here."""
        whole = way.packet
        manip = _MANIPULATES.get(chain.hook or "", "") if chain.type == "nat" else ""
        may_skip = False
        if manip:
            if whole.ct_state in ("untracked", "invalid") or way.mapped.get(manip) or way.again or not self._tracks(whole.family):
                return  # no connection, or it has its mapping already
            may_skip = whole.ct_state != "new" or manip in way.mapped
        # Nothing is tracked yet: ``ct state`` reads as invalid, in nft and in iptables.
        early = chain.hook in ("prerouting", "output") and (chain.priority or 0) < _CONNTRACK and not manip and not way.tracked
        early = early or (chain.hook == "ingress" and not way.tracked)
        if early and whole.ct_state != "untracked":
            way.packet = whole.changed(ct_state="invalid")
        elif chain.hook in ("prerouting", "output") and chain.priority == _CONNTRACK and not way.tracked:
            way.packet = whole.changed(ct_state=None)
        state = State(way.packet, without=way.without, steps=way.steps, hook=chain.hook or "")
        outcome = self.chains.run(chain, state)
        way.steps = state.steps
        way.moved += state.moved
        if manip == "dnat":
            # A rule that was not understood may be the one that sends the packet elsewhere.
            lost = state.packet.changed(daddr=None, dport=None, local=None)
            for one in state.possible:
                if one.verdict == UNKNOWN and one.rule is not None:
                    way.moved.append(Moved(one.rule, lost, False))
                    one.packet = lost
        said = _said(outcome, chain)
        if outcome.kind == RETURN and chain.policy == DROP:
            outcome = Outcome(DROP, None, chain)
        passed = [state.packet] if outcome.kind in (RETURN, STOP, ACCEPT) else []
        way.path.append(f"{chain.backend} {chain.family} {chain.table} {chain.name} ({chain.hook} {chain.priority}): {said}")
        way.path += [f"  {note}" for note in state.notes]
        for one in state.possible:
            if one.verdict in (ACCEPT, UNKNOWN) and one.packet is not None:
                passed.append(one.packet)
            if one.verdict != ACCEPT:
                way.possible.append(one)
        if outcome.kind == UNKNOWN:
            passed.append(state.packet)
            way.possible.append(Possible(UNKNOWN, outcome.doubt, outcome.rule, packet=state.packet))
        elif outcome.kind in (DROP, REJECT):
            self._blocked(way, outcome, [one for one in state.possible if one.verdict in (ACCEPT, UNKNOWN)])
        if may_skip and way.end is None:
            passed.append(way.packet)
        packet = merged(passed)
        if way.packet is not whole and packet.ct_state == way.packet.ct_state:
            packet = packet.changed(ct_state=whole.ct_state)
        way.packet = packet
        if manip and (state.mapped is not False or manip in way.mapped):
            way.mapped[manip] = True if state.mapped and not may_skip else None

    def _blocked(self, way: _Way, outcome: Outcome, passes: list[Possible]) -> None:
        """The chain stops the packet, unless one of ``passes`` let it go before."""
        if not passes:
            way.end = outcome
            raise _End
        way.pending.append(outcome)
        way.possible += [one for one in passes if one.verdict == ACCEPT]

    def _stop(self, way: _Way, outcome: Outcome, found: dict[str, Any]) -> None:
        way.end, way.object = outcome, found
        raise _End

    # --- programs

    def _run_programs(self, way: _Way, place: str, device: str | None) -> None:
        for entry in self._programs.at(place, device, way.packet):
            self._program(way, entry, met=device is not None or not entry.get("interface"))

    def _program(self, way: _Way, entry: dict[str, Any], met: bool = True) -> None:
        """met: the packet passes it for certain; False where its interface is not known."""
        if id(entry) in way.without:
            return
        kind, how = self._programs.judge(entry, way.packet)
        if kind == DROP and not met:
            kind, how = "may drop", f"where the packet passes that interface, {how}"
        name = programs.name(entry)
        if kind == ACCEPT:
            way.path.append(f"{name}: lets it pass{f' ({how})' if how else ''}")
        elif kind == DROP:
            way.path.append(f"{name}: drops it ({how})")
            self._stop(way, Outcome(DROP), {"kind": "hook", "text": name, "how": how, "hook": entry})
        else:
            way.path.append(f"{name}: may drop it")
            way.possible.append(Possible(DROP if kind == "may drop" else UNKNOWN, how, what=name, hook=entry))

    # --- the end

    def _final(self, way: _Way) -> Decision:
        first = way.pending[0] if way.pending else way.end
        outcome = first or Outcome(ACCEPT)
        found = way.object if first is way.end else None
        if found is None and outcome.kind == DROP and outcome.rule is None and outcome.chain is not None:
            found = {"kind": "policy", "text": _policy(outcome.chain)}
        decision = Decision(
            outcome.kind, outcome.rule, outcome.chain, outcome.key, way.path, [], None, way.packet, found, way.moved
        )
        kinds = {one.verdict for one in way.possible if one.verdict != ACCEPT}
        kinds.add(way.end.kind if way.end is not None else ACCEPT)
        kinds |= {one.kind for one in way.pending}
        if kinds == {outcome.kind}:
            if outcome.kind == ACCEPT and self.unread:
                decision.verdict = UNKNOWN
                decision.why = "; ".join(f"{one.name} could not be read: {one.why}" for one in self.unread)
            elif outcome.kind != ACCEPT:
                # Certain is how it ends; a rule before this one may be the one that ends it.
                decision.possible = [one for one in way.possible if one.verdict == outcome.kind]
                later = [*way.pending[1:], way.end] if way.pending else []
                why = "where a rule that may accept it before lets it pass"
                decision.possible += [
                    Possible(one.kind, why, one.rule, what=_policy(one.chain) if one.chain else "what stops it there")
                    for one in later
                    if one is not None
                ]
            return decision
        # Passing is possible only where nothing behind a possible pass stops the packet for certain.
        passes = way.end is None or way.end.kind == ACCEPT
        decision.possible = [one for one in way.possible if one.verdict != outcome.kind and (passes or one.verdict != ACCEPT)]
        decision.verdict = UNKNOWN
        if not decision.possible:
            decision.why = f"it does not pass, but which of {', '.join(sorted(kinds))} it meets depends on a rule that may match"
            return decision
        told = decision.possible[0]
        decision.why = f"{told.name()} may decide ({told.verdict}): {told.why}"
        return decision


def _policy(chain: model.Chain) -> str:
    return f"{chain.backend} {chain.family} {chain.table} {chain.name} policy {chain.policy}"


def _needs_tracking(rule: model.Rule) -> bool:
    for part in rule.parts:
        if isinstance(part, (model.Match, model.VerdictMap)):
            if "ct " in part.left:
                return True
        elif isinstance(part, model.Action):
            if part.name in NAT or part.name.startswith("ct") or part.name in ("synproxy", "flow add"):
                return True
        elif any(word in part.text for word in ("ct ", "conn", "state", "helper", "cluster", "flow")):
            return True
    return False


def _said(outcome: Outcome, chain: model.Chain) -> str:
    if outcome.rule is not None and outcome.kind != RETURN:
        word = "accept" if outcome.kind == STOP else outcome.kind
        return f"{word} by {outcome.rule.where()}"
    return f"policy {chain.policy or ACCEPT}"


def _covers(chain: model.Chain, device: str) -> bool:
    return any(one == device or (one.endswith("*") and device.startswith(one[:-1])) for one in chain.devices)


def _other_way(chain: model.Chain, before: Packet, after: Packet) -> bool:
    """Does the kernel route the packet again behind this chain of the output hook?"""
    if chain.type == "route":
        return (before.mark, before.saddr, before.daddr, before.tos) != (after.mark, after.saddr, after.daddr, after.tos)
    return chain.type == "nat" and before.daddr != after.daddr


def _routed(found: Found, why: str) -> dict[str, Any]:
    """What in the routing decided, named as an administrator would change it."""
    if "rp_filter" in why or "forwarding is 0" in why or "route_localnet" in why or "accept_local" in why:
        return {"kind": "sysctl", "text": why}
    if found.route is not None:
        return {"kind": "route", "text": why, "route": found.route}
    if found.rule is not None:
        return {"kind": "policy_rule", "text": why, "rule": found.rule}
    return {"kind": "route", "text": why}
