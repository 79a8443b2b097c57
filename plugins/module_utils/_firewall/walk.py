# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""What the packet filter does with a packet, and which rule decides. Pure: rules in, verdict out.

The walk follows the kernel: on each hook all base chains of all back ends by priority; an accept ends one base chain,
a drop ends everything. A part that may match splits the walk: what it could decide is kept as a possible decider, and
the answer is "unknown" only when a possible decider would have answered otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Optional

from ansible_collections.netops.fleet.plugins.module_utils._firewall import matching, model
from ansible_collections.netops.fleet.plugins.module_utils._firewall.packet import DNAT, Packet

ACCEPT, DROP, REJECT, UNKNOWN = "accept", "drop", "reject", "unknown"

_ALL_BITS = 0xFFFFFFFF

#: The interface by which the host sends to an address; None when that is not known.
WayOut = Callable[[str], Optional[str]]

#: Deeper than the kernel allows (16 in nft, the whole rule set in iptables): a loop in what was read.
_MAX_DEPTH = 64

#: Connections get their state here (NF_IP_PRI_CONNTRACK); chains before it cannot see it.
_CONNTRACK_PRIORITY = -200


@dataclass
class Decision:
    """verdict: accept, drop, reject or unknown. rule: what decided; None when a policy or nothing did.

    chain: the chain that decided. key: the element of a verdict map that was hit. path: steps, for people.
    possible: (rule, verdict, why) that could decide otherwise. why: why the verdict is unknown.
    packet: the packet as it left the walk, after NAT and marks. moved: rules that gave it, or may give it, another destination.
    """

    verdict: str
    rule: model.Rule | None = None
    chain: model.Chain | None = None
    key: object = None
    path: list[str] = field(default_factory=list)
    possible: list[tuple[model.Rule, str, str]] = field(default_factory=list)
    why: str | None = None
    packet: Packet | None = None
    moved: list[Moved] = field(default_factory=list)


@dataclass
class Moved:
    """A rule that rewrites the destination. packet: with the new one, as far as it is known. sure: this packet is rewritten."""

    rule: model.Rule
    packet: Packet
    sure: bool


def _marked(args: dict[str, Any], old: int | None) -> int | None:
    """The mark after a statement (shape: model.Action); None when it is not known."""
    mask = args.get("mask", _ALL_BITS)
    if not isinstance(mask, int):
        return None
    if "from" in args:
        source = old if args["from"] == "meta mark" else None
        keep, change = args.get("from_mask", _ALL_BITS), args.get("xor", 0)
        if source is None or not isinstance(keep, int) or not isinstance(change, int):
            return None
        value = (source & keep) ^ change
    else:
        given = args.get("value")
        if not isinstance(given, int):
            return None
        value = given
    if mask == _ALL_BITS:
        return value
    return None if old is None else (old & ~mask & _ALL_BITS) ^ value


@dataclass
class _State:
    """What changes on the way."""

    packet: Packet
    path: list[str] = field(default_factory=list)
    possible: list[tuple[model.Rule, str, str]] = field(default_factory=list)
    moved: list[Moved] = field(default_factory=list)
    sure: bool = True

    def branch(self) -> _State:
        """A way the packet may take: what it meets there is kept, the packet itself is not."""
        return _State(self.packet, [], self.possible, self.moved, False)


@dataclass
class _Outcome:
    """How a chain ended: accept, drop, reject, return (fell through), stop (a NAT target ended the base chain).

    "maybe return" is one rule's answer: it may have left the chain.
    """

    kind: str
    rule: model.Rule | None = None
    chain: model.Chain | None = None
    key: object = None
    doubt: str = ""


class Walker:
    """Walks packets over one ruleset; indexes chains and sets once.

    own: the host's addresses: NAT to another one leads away from it. way_out: by which interface, then.
    """

    def __init__(self, ruleset: model.Ruleset, own: frozenset[str] = frozenset(), way_out: WayOut | None = None) -> None:
        self.ruleset = ruleset
        self.own = own
        self.way_out = way_out
        self.sets = matching.Sets(ruleset.sets)
        self.chains = {(c.backend, c.family, c.table, c.name): c for c in ruleset.chains}
        self.rules: dict[tuple[str, str, str, str], list[model.Rule]] = {}
        for rule in ruleset.rules:
            self.rules.setdefault((rule.backend, rule.family, rule.table, rule.chain), []).append(rule)
        self.unread = [state for state in ruleset.backends if state.status == "unread"]

    def incoming(self, packet: Packet, without: frozenset[int] = frozenset()) -> Decision:
        """A packet from the wire to this host; where a rule sends it on to another one, through the hooks of forwarding.

        without: ``id()`` of rules to leave out ("would it pass if ...").
        """
        state = _State(packet)
        ended = self._below(state, without) or self._through(("ingress", "prerouting"), state, without)
        if ended is None:
            onward = state.packet.local is False
            for one in state.moved:
                if not one.sure and not (onward and one.packet.local is False):
                    state.possible.append((one.rule, UNKNOWN, "it may send the packet elsewhere"))
            if onward:
                there = state.packet.daddr
                state.packet = state.packet.changed(oif=self.way_out(there) if self.way_out and there else None)
            ended = self._through(("forward", "postrouting") if onward else ("input",), state, without)
        return self._final(ended or _Outcome(ACCEPT), state)

    def outgoing(self, packet: Packet, without: frozenset[int] = frozenset()) -> Decision:
        """A packet this host sends itself."""
        state = _State(packet)
        ended = self._through(("output", "postrouting", "egress"), state, without)
        return self._final(ended or _Outcome(ACCEPT), state)

    def _through(self, hooks: tuple[str, ...], state: _State, without: frozenset[int]) -> _Outcome | None:
        """The outcome that ends the packet; None when it passes all chains of these hooks."""
        for hook in hooks:
            for chain in self._base_chains(hook, state.packet):
                if chain.type == "nat" and hook in ("prerouting", "output") and (state.packet.ct_status or 0) & DNAT:
                    continue  # the connection has its mapping: the kernel asks no further NAT chain of this hook
                outcome = self._base(chain, state, without)
                if outcome.kind in (DROP, REJECT):
                    return outcome
        return None

    def _below(self, state: _State, without: frozenset[int]) -> _Outcome | None:
        """Chains under the interface that holds the address: of its ports or members, and of a bridge it is."""
        packet = state.packet
        for chain in self._sorted(
            one for one in self.ruleset.chains if one.hook == "ingress" and set(one.devices) & set(packet.lower)
        ):
            if packet.iif in chain.devices:
                continue  # met at the interface itself
            if set(packet.lower) <= set(chain.devices):
                outcome = self._base(chain, state, without)
                if outcome.kind in (DROP, REJECT):
                    return outcome
                continue
            # Which member a packet comes in by is not known.
            branch = state.branch()
            branch.packet = packet.changed(iif=None)
            outcome = self._base(chain, branch, without)
            if outcome.kind in (DROP, REJECT) and (outcome.rule or self._of(chain)):
                rule = outcome.rule or self._of(chain)[0]
                state.possible.append((rule, outcome.kind, f"packets that come in by {', '.join(chain.devices)} meet it"))
        if not packet.bridge:
            return None
        for hook in ("prerouting", "input"):
            for chain in self._sorted(one for one in self.ruleset.chains if one.family == "bridge" and one.hook == hook):
                state.packet = packet.changed(iif=None)
                outcome = self._base(chain, state, without)
                state.packet = state.packet.changed(iif=packet.iif)
                if outcome.kind in (DROP, REJECT):
                    return outcome
        return None

    def _of(self, chain: model.Chain) -> list[model.Rule]:
        return self.rules.get((chain.backend, chain.family, chain.table, chain.name), [])

    @staticmethod
    def _sorted(chains: Iterable[model.Chain]) -> list[model.Chain]:
        return sorted(chains, key=lambda one: one.priority or 0)

    def _base_chains(self, hook: str, packet: Packet) -> list[model.Chain]:
        families = {4: ("ip", "inet"), 6: ("ip6", "inet")}[packet.family]
        found = []
        for chain in self.ruleset.chains:
            if chain.hook != hook:
                continue
            if hook in ("ingress", "egress"):
                device = packet.iif if hook == "ingress" else packet.oif
                if chain.family not in ("netdev", "inet") or (device is not None and device not in chain.devices):
                    continue
            elif chain.family not in families:
                continue
            found.append(chain)
        # netdev ingress runs before inet ingress; within a hook the kernel sorts by priority.
        return sorted(found, key=lambda one: (one.family != "netdev" if hook == "ingress" else 0, one.priority or 0))

    def _base(self, chain: model.Chain, state: _State, without: frozenset[int]) -> _Outcome:
        whole = state.packet
        early = chain.hook in ("ingress", "egress") or (
            chain.hook in ("prerouting", "output") and (chain.priority or 0) <= _CONNTRACK_PRIORITY
        )
        if early and chain.hook != "egress":
            # Nothing is tracked yet: ``ct state`` reads as invalid, in nft and in iptables.
            state.packet = state.packet.changed(ct_state="invalid" if whole.ct_state != "untracked" else "untracked")
        known = len(state.possible)
        outcome = self._chain(chain, state, without, 0)
        if chain.type == "nat" and chain.hook == "prerouting":
            # A rule that was not understood may be the one that sends the packet elsewhere.
            lost = state.packet.changed(daddr=None, dport=None, local=None)
            state.moved += [Moved(rule, lost, False) for rule, verdict, _why in state.possible[known:] if verdict == UNKNOWN]
        if early and state.packet.ct_state == "invalid":
            state.packet = state.packet.changed(ct_state=whole.ct_state)
        name = f"{chain.backend} {chain.family} {chain.table} {chain.name}"
        state.path.append(f"{name} ({chain.hook} {chain.priority}): {self._said(outcome, chain)}")
        if outcome.kind in ("return", "stop"):
            if outcome.kind == "return" and chain.policy == DROP:
                return _Outcome(DROP, None, chain)
            return _Outcome(ACCEPT, outcome.rule, chain)
        return outcome

    @staticmethod
    def _said(outcome: _Outcome, chain: model.Chain) -> str:
        if outcome.rule is not None:
            return f"{outcome.kind} by {outcome.rule.where()}"
        return f"policy {chain.policy or ACCEPT}"

    def _chain(self, chain: model.Chain, state: _State, without: frozenset[int], depth: int) -> _Outcome:
        if depth > _MAX_DEPTH:
            return _Outcome("return")
        left_early = ""
        for rule in self._of(chain):
            if id(rule) in without:
                continue
            outcome = self._rule(rule, chain, state, without, depth)
            if outcome is None:
                continue
            if outcome.kind == "maybe return":
                left_early = left_early or outcome.doubt
            elif left_early and outcome.kind != "return":
                # An earlier rule may have left this chain: what decides here only may decide.
                kind = ACCEPT if outcome.kind == "stop" else outcome.kind
                state.possible.append((outcome.rule or rule, kind, left_early))
                return _Outcome("return")
            else:
                return outcome
        return _Outcome("return")

    def _rule(self, rule: model.Rule, chain: model.Chain, state: _State, without: frozenset[int], depth: int) -> _Outcome | None:
        """None: the next rule is reached."""
        sure, doubt = True, ""
        for part in rule.parts:
            if isinstance(part, model.Match):
                answer = matching.matches(part, rule, state.packet, self.sets)
                if answer is False:
                    return None
                if answer is None:
                    sure, doubt = False, doubt or self._doubt(part)
            elif isinstance(part, model.Unknown):
                sure, doubt = False, doubt or f"{part.text} ({part.why})"
            elif isinstance(part, model.VerdictMap):
                hit, verdict, key = self._mapped(part, rule, state.packet)
                if hit is False:
                    return None
                if hit is None or verdict is None:
                    return self._unclear_map(part, rule, chain, state, without, depth)
                return self._verdict(verdict, rule, chain, state, without, depth, sure, doubt, key)
            elif isinstance(part, model.Action):
                ended = self._act(part, rule, state, sure)
                if ended is not None:
                    return ended
        if rule.verdict is None:
            return None
        return self._verdict(rule.verdict, rule, chain, state, without, depth, sure, doubt, None)

    @staticmethod
    def _doubt(part: model.Match) -> str:
        what = f"@{part.set}" if part.set else ""
        return f"{part.left} {what}".strip() + " is not known"

    def _mapped(
        self, part: model.VerdictMap, rule: model.Rule, packet: Packet
    ) -> tuple[matching.Answer, model.Verdict | None, object]:
        entries = part.entries
        if entries is None and part.map is not None:
            entries = self._named_entries(part.map, rule)
        if entries is None:
            return None, None, None
        return matching.key_of(part, entries, packet)

    def _named_entries(self, name: str, rule: model.Rule) -> list[tuple[model.Element, model.Verdict]] | None:
        found = self.sets.find(rule, name)
        if found is None or found.elements is None:
            return None
        entries: list[tuple[model.Element, model.Verdict]] = []
        for element in found.elements:
            if not (isinstance(element, list) and len(element) == 3 and element[0] == "pair" and isinstance(element[2], dict)):
                return None
            entries.append((element[1], model.Verdict.from_dict(element[2])))
        return entries

    def _unclear_map(
        self, part: model.VerdictMap, rule: model.Rule, chain: model.Chain, state: _State, without: frozenset[int], depth: int
    ) -> _Outcome | None:
        """Any entry may be the one: each verdict is a possible one."""
        entries = part.entries if part.entries is not None else self._named_entries(part.map or "", rule)
        if entries is None:
            state.possible.append((rule, UNKNOWN, f"verdict map {part.map or part.left} was not read"))
            return None
        left_early = None
        doubt = f"{part.left} is not known"
        for kind, target, detail in sorted({(one.kind, one.target or "", one.detail or "") for _key, one in entries}):
            verdict = model.Verdict(kind, target or None, detail or None)
            outcome = self._verdict(verdict, rule, chain, state, without, depth, False, doubt, None)
            left_early = outcome or left_early
        return left_early

    def _verdict(
        self,
        verdict: model.Verdict,
        rule: model.Rule,
        chain: model.Chain,
        state: _State,
        without: frozenset[int],
        depth: int,
        sure: bool,
        doubt: str,
        key: object,
    ) -> _Outcome | None:
        if verdict.kind in (ACCEPT, DROP, REJECT):
            if sure:
                return _Outcome(verdict.kind, rule, chain, key)
            state.possible.append((rule, verdict.kind, doubt))
            return None
        if verdict.kind in ("jump", "goto"):
            return self._jump(verdict, rule, chain, state, without, depth, sure, doubt)
        if verdict.kind == "return":
            return _Outcome("return", rule, chain) if sure else _Outcome("maybe return", rule, chain, None, doubt)
        if verdict.kind == "queue":
            state.possible.append((rule, UNKNOWN, "a program decides (queue)"))
            return _Outcome(ACCEPT, rule, chain) if sure else None
        if verdict.kind == "unknown":
            # A target that was not understood may accept, drop or go on.
            state.possible.append((rule, UNKNOWN, verdict.detail or "what its target does is not known"))
        return None  # continue

    def _jump(
        self,
        verdict: model.Verdict,
        rule: model.Rule,
        chain: model.Chain,
        state: _State,
        without: frozenset[int],
        depth: int,
        sure: bool,
        doubt: str,
    ) -> _Outcome | None:
        target = self.chains.get((chain.backend, chain.family, chain.table, verdict.target or ""))
        if target is None:
            state.possible.append((rule, UNKNOWN, f"chain {verdict.target} was not read"))
            return None
        if sure:
            outcome = self._chain(target, state, without, depth + 1)
            if outcome.kind != "return":
                return outcome
            return _Outcome("return") if verdict.kind == "goto" else None
        branch = state.branch()
        outcome = self._chain(target, branch, without, depth + 1)
        if outcome.kind in (ACCEPT, DROP, REJECT, "stop"):
            state.possible.append((outcome.rule or rule, ACCEPT if outcome.kind == "stop" else outcome.kind, doubt))
        elif verdict.kind == "goto":
            return _Outcome("maybe return", rule, chain, None, doubt)
        return None

    def _act(self, part: model.Action, rule: model.Rule, state: _State, sure: bool) -> _Outcome | None:
        """Follow what a statement does to the packet; unsure or unknown changes make the field unknown."""
        packet = state.packet
        if part.name == "mark":
            state.packet = packet.changed(mark=_marked(part.args, packet.mark) if sure else None)
        elif part.name == "notrack":
            state.packet = packet.changed(ct_state="untracked" if sure else None)
        elif part.name in ("dnat", "redirect", "tproxy"):
            if packet.ct_state in ("established", "related", "untracked") and part.name != "tproxy":
                return None  # the connection's mapping was made with its first packet
            state.packet = self._rewritten(part, packet, sure)
            state.moved.append(Moved(rule, state.packet, sure and state.sure))
            state.path.append(f"{rule.where()}: {part.name} {part.args or ''}".strip())
        if part.terminal:
            return _Outcome("stop", rule) if sure else None
        return None

    def _rewritten(self, part: model.Action, packet: Packet, sure: bool) -> Packet:
        address, port = part.args.get("addr"), part.args.get("port")
        local = packet.local
        if part.name == "dnat" and address is not None:
            local = address in self.own if sure and self.own and isinstance(address, str) else None
        if not sure:
            return packet.changed(daddr=None, dport=None, local=None if part.name == "dnat" else local, ct_status=None)
        return packet.changed(
            daddr=address if isinstance(address, str) else (packet.daddr if address is None else None),
            dport=port if isinstance(port, int) else (packet.dport if port is None else None),
            local=local,
            ct_status=None if packet.ct_status is None else packet.ct_status | (DNAT if part.name != "tproxy" else 0),
        )

    def _final(self, outcome: _Outcome, state: _State) -> Decision:
        decision = Decision(outcome.kind, outcome.rule, outcome.chain, outcome.key, state.path, state.possible)
        decision.packet, decision.moved = state.packet, state.moved
        passes = outcome.kind == ACCEPT
        against = [one for one in state.possible if (one[1] == ACCEPT) != passes or one[1] == UNKNOWN]
        decision.possible = against
        if against:
            rule, verdict, why = against[0]
            decision.verdict, decision.why = UNKNOWN, f"{rule.where()} may decide ({verdict}): {why}"
        elif passes and self.unread:
            decision.verdict = UNKNOWN
            decision.why = "; ".join(f"{one.name} could not be read: {one.why}" for one in self.unread)
        return decision
