# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""One base chain and what it jumps to, for one packet. Three-valued: a part that may match splits the way.

The main way goes on as if the part had not matched; what the other way could have decided is kept as a :class:`Possible`, with
the packet as it was there. Where two ways meet again, a field of the packet on which they do not agree is not known.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ansible_collections.netops.fleet.plugins.module_utils._firewall import actions, matching, model
from ansible_collections.netops.fleet.plugins.module_utils._firewall.elements import Answer
from ansible_collections.netops.fleet.plugins.module_utils._firewall.index import RuleIndex, keyed
from ansible_collections.netops.fleet.plugins.module_utils._firewall.packet import Packet, merged

ACCEPT, DROP, REJECT, UNKNOWN, RETURN, STOP = "accept", "drop", "reject", "unknown", "return", "stop"

#: Deeper than the kernel allows (16 in nft, the whole rule set in iptables): a loop in what was read.
_MAX_DEPTH = 64
#: Rules looked at for one packet; beyond it the ways have multiplied and nothing is certain any more.
_MAX_STEPS = 3_000_000

Key = tuple[str, str, str, str]


class TooManyError(Exception):
    """More ways through the rules than can be followed."""


@dataclass
class Possible:
    """What could decide otherwise. rule: None for what is no rule (then ``what`` names it). packet: as it was there."""

    verdict: str
    why: str
    rule: model.Rule | None = None
    what: str = ""
    packet: Packet | None = None
    hook: dict[str, Any] | None = None

    def name(self) -> str:
        return self.rule.where() if self.rule is not None else self.what

    def to_dict(self) -> dict[str, Any]:
        found: dict[str, Any] = {"verdict": self.verdict, "why": self.why, "what": self.name()}
        if self.rule is not None:
            found["rule"] = {key: value for key, value in self.rule.to_dict().items() if key != "parts"}
        return found


@dataclass
class Outcome:
    """How a chain ended: accept, drop, reject, unknown, return (fell through), stop (NAT or another terminal statement).

    "maybe return" is one rule's answer: it may have left the chain; ``packet`` is the one that left.
    """

    kind: str
    rule: model.Rule | None = None
    chain: model.Chain | None = None
    key: object = None
    doubt: str = ""
    packet: Packet | None = None


@dataclass
class Moved:
    """A rule that rewrites the destination. packet: with the new one, as far as it is known. sure: this packet is rewritten."""

    rule: model.Rule
    packet: Packet
    sure: bool


@dataclass
class State:
    """What changes on the way through one base chain. mapped: a NAT statement was, may have been (None), was not met.

    notes: steps for people. sure: the packet comes this way for certain. hook: of the base chain.
    """

    packet: Packet
    possible: list[Possible] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    without: frozenset[int] = frozenset()
    mapped: bool | None = False
    steps: int = 0
    moved: list[Moved] = field(default_factory=list)
    sure: bool = True
    hook: str = ""


class Chains:
    """Rules and sets of a ruleset, indexed once."""

    def __init__(self, ruleset: model.Ruleset) -> None:
        self.sets = matching.Sets(ruleset.sets)
        self.chains: dict[Key, model.Chain] = {(c.backend, c.family, c.table, c.name): c for c in ruleset.chains}
        self._rules: dict[Key, list[model.Rule]] = {}
        for rule in ruleset.rules:
            self._rules.setdefault((rule.backend, rule.family, rule.table, rule.chain), []).append(rule)
        self._indexes: dict[Key, RuleIndex] = {}
        self._maps: dict[int, list[tuple[model.Element, model.Verdict]] | None] = {}
        self._values: dict[int, list[list[Any]]] = {}
        self._inside: set[Key] = set()

    def run(self, chain: model.Chain, state: State, depth: int = 0) -> Outcome:
        """Follow the packet through a chain; state.packet and state.possible are brought up to date."""
        if depth > _MAX_DEPTH:
            return Outcome(RETURN)
        key = (chain.backend, chain.family, chain.table, chain.name)
        index = self._indexes.get(key)
        if index is None:
            index = self._indexes[key] = RuleIndex(self._rules.get(key, []))
        left: list[Packet] = []
        doubt = ""
        outcome = Outcome(RETURN)
        at, places = 0, index.candidates(state.packet)
        while at < len(places):
            rule = index.rules[places[at]]
            at += 1
            if state.without and id(rule) in state.without:
                continue
            state.steps += 1
            if state.steps > _MAX_STEPS:
                raise TooManyError(f"more than {_MAX_STEPS} rules looked at for one packet")
            before = state.packet
            found = self._rule(rule, chain, state, depth)
            if found is not None and found.kind == "maybe return":
                left.append(found.packet or state.packet)
                doubt = doubt or found.doubt
            elif found is not None:
                outcome = found
                break
            if state.packet is not before and keyed(state.packet) != keyed(before):
                places, at = index.candidates(state.packet, places[at - 1]), 0
        if not left:
            return outcome
        if outcome.kind == RETURN:
            state.packet = merged([state.packet, *left])
            return outcome
        # An earlier rule may have left this chain: what decides here only may decide.
        kind = ACCEPT if outcome.kind == STOP else outcome.kind
        state.possible.append(Possible(kind, doubt, outcome.rule, packet=state.packet))
        state.packet = merged(left)
        return Outcome(RETURN)

    def _rule(self, rule: model.Rule, chain: model.Chain, state: State, depth: int) -> Outcome | None:
        """None: the next rule is reached."""
        doubt = ""
        for part in rule.parts:
            if isinstance(part, model.Match):
                answer = matching.matches(part, rule, state.packet, self.sets)
                if answer is False:
                    return None
                if answer is None and not doubt:
                    doubt = _unclear(part)
            elif isinstance(part, model.Unknown):
                doubt = doubt or f"{part.text} ({part.why})"
            elif isinstance(part, model.VerdictMap):
                return self._map(part, rule, chain, state, depth, doubt)
            elif isinstance(part, model.Action):
                if actions.of_other_family(part, state.packet):
                    return None
                ended = self._act(part, rule, chain, state, doubt)
                if ended is not None:
                    return ended if ended.kind != "gone" else None
        if rule.verdict is None:
            return None
        return self._verdict(rule.verdict, rule, chain, state, depth, doubt, None)

    def _act(self, part: model.Action, rule: model.Rule, chain: model.Chain, state: State, doubt: str) -> Outcome | None:
        """Follow what a statement does to the packet. "gone": the rule ends here, the chain goes on."""
        asked = actions.asks_map(part)
        if asked is not None:
            answer, part = self._looked_up(part, asked, rule, state.packet)
            if answer is False:
                return Outcome("gone")  # a map without this key ends the rule
            if answer is None:
                doubt = doubt or f"{asked['left']} in a map is not known"
        changed = actions.apply(part, rule, state.packet, state.notes, state.hook)
        if part.name in ("fwd", "synproxy"):
            why = (
                "the packet is sent on to another place"
                if part.name == "fwd"
                else "the kernel answers for the service (synproxy)"
            )
            if doubt:
                state.possible.append(Possible(UNKNOWN, doubt, rule, packet=state.packet))
                return Outcome("gone")
            return Outcome(UNKNOWN, rule, chain, None, why)
        if not part.terminal:
            state.packet = merged([changed, state.packet]) if doubt and changed is not state.packet else changed
            return None
        if part.name in actions.NAT and chain.type not in ("nat", None):
            return Outcome(STOP, rule, chain)
        if part.name in ("dnat", "redirect") or (part.name == "netmap" and state.hook in actions.TO_DESTINATION):
            state.moved.append(Moved(rule, changed, not doubt and state.sure))
        if doubt:
            state.possible.append(Possible(ACCEPT, doubt, rule, packet=changed))
            state.mapped = None
            return Outcome("gone")
        state.packet, state.mapped = changed, True
        return Outcome(STOP, rule, chain)

    # --- verdicts

    def _map(
        self, part: model.VerdictMap, rule: model.Rule, chain: model.Chain, state: State, depth: int, doubt: str
    ) -> Outcome | None:
        entries = part.entries if part.entries is not None else self._named(part.map or "", rule)
        if entries is None:
            state.possible.append(
                Possible(UNKNOWN, f"verdict map {part.map or part.left} was not read", rule, packet=state.packet)
            )
            return None
        answer: Answer
        answer, place = self.sets.mapped(part, entries, state.packet)
        if part.map is not None and (state.packet.touched is None or (rule.family, rule.table, part.map) in state.packet.touched):
            answer = None
        if answer is False:
            return None
        if answer is True:
            return self._verdict(entries[place][1], rule, chain, state, depth, doubt, entries[place][0])
        # Any entry may be the one: each verdict is a possible one.
        left: list[Packet] = []
        doubt = f"{part.left} is not known"
        for kind, target, detail in sorted({(one.kind, one.target or "", one.detail or "") for _key, one in entries}):
            outcome = self._verdict(model.Verdict(kind, target or None, detail or None), rule, chain, state, depth, doubt, None)
            if outcome is not None and outcome.packet is not None:
                left.append(outcome.packet)
        return Outcome("maybe return", rule, chain, None, doubt, merged(left)) if left else None

    def _looked_up(
        self, part: model.Action, asked: dict[str, Any], rule: model.Rule, packet: Packet
    ) -> tuple[Answer, model.Action]:
        """A statement with the values that a map gives for this packet in it."""
        entries = asked.get("entries")
        if entries is None:
            found = self.sets.find(rule, str(asked.get("map")))
            if found is not None and found.elements is not None:
                pairs = self._values.setdefault(id(found), [one[1:] for one in found.elements if one[:1] == ["pair"]])
                entries = pairs if len(pairs) == len(found.elements) else None
        if entries is None or packet.touched is None or (rule.family, rule.table, str(asked.get("map"))) in packet.touched:
            return None, actions.with_value(part, asked, None)
        answer, place = self.sets.value(str(asked["left"]), entries, packet)
        return answer, actions.with_value(part, asked, entries[place][1] if answer else None)

    def _named(self, name: str, rule: model.Rule) -> list[tuple[model.Element, model.Verdict]] | None:
        """Entries of a named map; None when it was not read."""
        found = self.sets.find(rule, name)
        if found is None or found.elements is None:
            return None
        if id(found) not in self._maps:
            entries: list[tuple[model.Element, model.Verdict]] | None = []
            for element in found.elements:
                pair = isinstance(element, list) and len(element) == 3 and element[0] == "pair" and isinstance(element[2], dict)
                if not pair or entries is None:
                    entries = None
                    break
                entries.append((element[1], model.Verdict.from_dict(element[2])))
            self._maps[id(found)] = entries
        return self._maps[id(found)]

    def _verdict(
        self, verdict: model.Verdict, rule: model.Rule, chain: model.Chain, state: State, depth: int, doubt: str, key: object
    ) -> Outcome | None:
        kind = verdict.kind
        if kind in (ACCEPT, DROP, REJECT):
            if not doubt:
                return Outcome(kind, rule, chain, key)
            state.possible.append(Possible(kind, doubt, rule, packet=state.packet))
            return None
        if kind in ("jump", "goto"):
            return self._jump(verdict, rule, chain, state, depth, doubt)
        if kind == RETURN:
            return Outcome("maybe return", rule, chain, None, doubt, state.packet) if doubt else Outcome(RETURN, rule, chain)
        if kind in ("queue", UNKNOWN):
            why = "a program decides (queue)" if kind == "queue" else verdict.detail or "what its target does is not known"
            if not doubt and kind == "queue":
                return Outcome(UNKNOWN, rule, chain, None, why)
            # A target that was not understood may also go on.
            state.possible.append(Possible(UNKNOWN, doubt or why, rule, packet=state.packet))
        return None  # continue

    def _enter(self, key: Key, target: model.Chain, state: State, depth: int) -> Outcome:
        self._inside.add(key)
        try:
            return self.run(target, state, depth + 1)
        finally:
            self._inside.discard(key)

    def _jump(
        self, verdict: model.Verdict, rule: model.Rule, chain: model.Chain, state: State, depth: int, doubt: str
    ) -> Outcome | None:
        key = (chain.backend, chain.family, chain.table, verdict.target or "")
        target = self.chains.get(key)
        if key in self._inside:
            # It leads back to itself: the kernel takes no such rules, and walking them would take for ever.
            return None
        if target is None:
            state.possible.append(Possible(UNKNOWN, f"chain {verdict.target} was not read", rule, packet=state.packet))
            return None
        if not doubt:
            outcome = self._enter(key, target, state, depth)
            if outcome.kind != RETURN:
                return outcome
            return Outcome(RETURN) if verdict.kind == "goto" else None
        here, mapped, sure = state.packet, state.mapped, state.sure
        state.sure = False
        outcome = self._enter(key, target, state, depth)
        state.sure = sure
        there, state.packet = state.packet, here
        if state.mapped is not mapped:
            state.mapped = None
        if outcome.kind != RETURN:
            kind = ACCEPT if outcome.kind == STOP else outcome.kind
            state.possible.append(Possible(kind, doubt, outcome.rule or rule, packet=there))
        elif verdict.kind == "goto":
            return Outcome("maybe return", rule, chain, None, doubt, there)
        else:
            state.packet = merged([here, there])
        return None


def _unclear(part: model.Match) -> str:
    what = f"@{part.set}" if part.set else ""
    return f"{part.left} {what}".strip() + " is not known"
