# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""The plan of a consolidation: which chains, what becomes of each rule, which sets, and the certificate. Pure but for the file.

Shapes: docs/dev/firewall-sets.md.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.netops.fleet.plugins.module_utils._evidence.section import Gap
from ansible_collections.netops.fleet.plugins.module_utils._firewall import (
    certificate,
    fingerprint,
    fold,
    groups,
    iptables,
    nft_text,
)
from ansible_collections.netops.fleet.plugins.module_utils._firewall.fingerprint import Key, by_chain, plain
from ansible_collections.netops.fleet.plugins.module_utils._firewall.fold import After, NewSet
from ansible_collections.netops.fleet.plugins.module_utils._firewall.model import IPSET, NFT, Chain, Rule, Ruleset, Set
from ansible_collections.netops.fleet.plugins.module_utils._safety import files

SCHEMA = 1
#: A plan of 50,000 rules has some 12 MB.
MAX_FILE = 256 * 1024 * 1024
_WORD = re.compile(r'"(?:\\.|[^"\\])*"|\S+')
_FAMILIES = ("ip", "ip6", "inet")


class PlanError(Exception):
    """Where, what was found, what is allowed; nothing was changed."""


@dataclass
class ChainPlan:
    """One chain. before: its rules as they are; after: as they will be, read again from their texts."""

    key: Key
    before: list[Rule]
    folded: fold.Folded
    after: list[Rule]
    sets: list[Set]
    proof: certificate.Certificate


@dataclass
class Plan:
    """chains: those that change, each with a certificate that holds. left_out: (chain, why). rules: of all chains looked at."""

    fingerprint: str
    chains: list[ChainPlan] = field(default_factory=list)
    left_out: list[tuple[str, str]] = field(default_factory=list)
    barriers: list[dict[str, str]] = field(default_factory=list)
    rules: int = 0


def eligible(ruleset: Ruleset, gaps: Iterable[Gap], locked: AbstractSet[tuple[str, str]], patterns: list[str]) -> Any:
    """(chains that may be folded, [(chain, why not)]). locked: nft tables that a process owns or that sleep."""
    unread = {state.name for state in ruleset.backends if state.status == "unread"}
    troubles = [gap for gap in gaps if gap.what.startswith("firewall.")]
    chosen: list[Chain] = []
    left: list[tuple[str, str]] = []
    for chain in ruleset.chains:
        if not fingerprint.chosen(chain, patterns):
            continue
        state = NFT if chain.backend == NFT else iptables.state_name(chain.backend, chain.family)
        where = f"{state} {chain.family} {chain.table} {chain.name}"
        tables = {f"firewall.{state} {chain.table}", f"firewall.{state} table {chain.family} {chain.table}"}
        trouble = next(
            (gap for gap in troubles if gap.what in tables or gap.what == f"firewall.{state} {chain.table} {chain.name}"), None
        )
        why = ""
        if chain.owner != "user":
            why = f"belongs to {chain.owner}"
        elif chain.backend == NFT and chain.table == groups.TABLE:
            why = "belongs to the groups of firewall_groups"
        elif chain.family not in _FAMILIES:
            why = f"of family {chain.family}; ip, ip6 and inet are folded"
        elif state in unread:
            why = "its back end could not be read whole"
        elif trouble is not None:
            why = trouble.why
        elif (chain.family, chain.table) in locked and chain.backend == NFT:
            why = "its table sleeps, or belongs to a process"
        elif chain.backend == NFT and not all(re.match(r"\A[A-Za-z_][\w.-]*\Z", one) for one in (chain.table, chain.name)):
            why = "has a name that nft does not take without quotes"
        if why:
            left.append((where, why))
        else:
            chosen.append(chain)
    return chosen, left


def make(
    ruleset: Ruleset,
    gaps: Iterable[Gap] = (),
    locked: AbstractSet[tuple[str, str]] = frozenset(),
    patterns: list[str] | None = None,
    **options: Any,
) -> Plan:
    """options: as of fold.fold (minimum, order, prefix)."""
    chosen, left = eligible(ruleset, gaps, locked, patterns or [])
    mark = fingerprint.fingerprint(ruleset, patterns or (), options.get("prefix", "nf_"))
    plan = Plan(mark, left_out=left)
    rules = by_chain(ruleset.rules)
    calm: dict[tuple[str, str, str], frozenset[str]] = {}
    names = frozenset(one.name for one in ruleset.sets)
    for chain in chosen:
        key = (chain.backend, chain.family, chain.table, chain.name)
        before = rules.get(key, [])
        plan.rules += len(before)
        if len(before) < 2:
            continue
        if key[:3] not in calm:
            calm[key[:3]] = quiet(ruleset, key[:3])
        taken = names | {one.name for each in plan.chains for one in each.sets}
        made = _chain(key, before, ruleset, calm[key[:3]], taken, options)
        plan.barriers += [{"where": before[index].where(), "text": before[index].text[:500], "why": why} for index, why in
                          made.folded.barriers]  # fmt: skip
        if made.proof.verdict != certificate.EQUAL:
            plan.left_out.append((" ".join(key), f"no certificate: {made.proof.verdict}: {made.proof.why}"))
        elif made.folded.changed:
            plan.chains.append(made)
    return plan


def quiet(ruleset: Ruleset, key: tuple[str, str, str]) -> frozenset[str]:
    """Jump targets of a table that only filter; a chain without a rule is one too, another program's is none."""
    rules = [one for one in ruleset.rules if (one.backend, one.family, one.table) == key]
    foreign = {one.name for one in ruleset.chains if one.owner != "user"}
    empty = {one.name for one in ruleset.chains if (one.backend, one.family, one.table) == key} - {one.chain for one in rules}
    return (certificate.quiet_chains(rules) | empty) - foreign


def _chain(
    key: Key, before: list[Rule], ruleset: Ruleset, calm: frozenset[str], taken: frozenset[str], options: dict[str, Any]
) -> ChainPlan:
    folded = fold.fold(before, quiet_chain=calm.__contains__, taken=taken, **options)
    sets = [model_set(made, before[0]) for made in folded.sets]
    chains = frozenset(one.name for one in ruleset.chains if (one.backend, one.family, one.table) == key[:3])
    after = read_after(before, folded.after, sets, chains, {one.name: one.type for one in ruleset.sets if one.backend == IPSET})
    proof = certificate.certify(before, after, sets, calm) if folded.changed else certificate.Certificate(certificate.EQUAL)
    return ChainPlan(key, before, folded, after, sets, proof)


def model_set(made: NewSet, rule: Rule) -> Set:
    """A set that fold made, as a reader will show it. rule: one that goes into it."""
    elements = [element for element, _comment in made.elements]
    if rule.backend == NFT:
        flags = ["interval"] if made.interval else []
        return Set(NFT, rule.family, rule.table, made.name, made.type, flags=flags, elements=elements, count=len(elements))
    if len(made.dimension) > 1:
        elements = [["concat", element[1], made.protocol, element[2]] for element in elements]
    family = "" if made.type == "bitmap:port" else "inet6" if rule.family == "ip6" else "inet"
    return Set(IPSET, family, "", made.name, made.type, elements=elements, count=len(elements))


def read_after(
    rules: list[Rule], after: list[After], sets: list[Set], chains: AbstractSet[str], types: dict[str, str] | None = None
) -> list[Rule]:
    """The rules of a chain as they will be: those that stay, and the new texts read as a listing is. chains: of the table."""
    types = {**(types or {}), **{one.name: one.type for one in sets if one.backend == IPSET}}
    found = []
    for line, one in enumerate(after, 1):
        first = rules[one.sources[0]]
        if one.text is None:
            found.append(first)
            continue
        made = read_text(one.text, first, line, chains, types)
        made.packets, made.bytes = one.packets, one.bytes
        found.append(made)
    return found


def read_text(text: str, like: Rule, line: int, chains: AbstractSet[str], types: dict[str, str]) -> Rule:
    """A rule of the chain of ``like`` as its reader understands this text."""
    if like.backend == NFT:
        parsed = nft_text.read_rule(text, like.family)
    else:
        parsed = iptables.read_rule(_WORD.findall(text), like.family, chains, types)
    return Rule(
        like.backend, like.family, like.table, like.chain, line, text, parsed.parts, parsed.verdict, comment=parsed.comment
    )


# --- the file


def to_dict(plan: Plan, options: dict[str, Any]) -> dict[str, Any]:
    chains, sets, proofs = [], [], []
    for one in plan.chains:
        backend, family, table, name = one.key
        chains.append(
            {
                "backend": backend, "family": family, "table": table, "chain": name,
                "before": [
                    {"text": plain(rule), "comment": rule.comment, "packets": rule.packets, "bytes": rule.bytes, "place": place}
                    for rule, place in zip(one.before, one.folded.places)
                ],
                "after": [
                    {"text": plain(rule), "from": after.sources, "packets": after.packets, "bytes": after.bytes}
                    for rule, after in zip(one.after, one.folded.after)
                ],
            }
        )  # fmt: skip
        for made, model in zip(one.folded.sets, one.sets):
            elements = [[fold_element(made, model.backend, element), comment] for element, comment in made.elements]
            shown = {"backend": model.backend, "family": model.family, "table": model.table, "name": made.name, "type": made.type}
            sets.append({**shown, "interval": made.interval, "elements": elements})
        proofs.append({"where": " ".join(one.key), "before": len(one.before), "after": len(one.after), **one.proof.to_dict()})
    found = {
        "schema": SCHEMA,
        "fingerprint": plan.fingerprint,
        "options": options,
        "chains": chains,
        "sets": sets,
        "barriers": plan.barriers,
        "left_out": [{"where": where, "why": reason} for where, reason in plan.left_out],
        "certificate": {"verdict": certificate.EQUAL, "chains": proofs},
    }
    found["certificate"]["digest"] = digest(found)  # type: ignore[index]
    return found


def fold_element(made: NewSet, backend: str, element: Any) -> str:
    """An element as the tool of its back end takes it."""
    from ansible_collections.netops.fleet.plugins.module_utils._firewall import fold_text

    if backend == IPSET and isinstance(element, list) and element[0] == "concat":
        return f"{element[1]},{'udp' if made.protocol == 17 else 'tcp'}:{element[2]}"
    return fold_text.shown(element)


def digest(plan: dict[str, Any]) -> str:
    """Of everything that is carried out, and of the ruleset it is for; counters left out."""
    chains = [
        [
            [one["backend"], one["family"], one["table"], one["chain"]],
            [rule["text"] for rule in one["before"]],
            [rule["text"] for rule in one["after"]],
        ]
        for one in plan["chains"]
    ]
    said = json.dumps([plan["schema"], plan["fingerprint"], chains, plan["sets"]], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(said.encode("utf-8")).hexdigest()


def _own_folder(folder: str) -> str:
    return os.path.join(folder, "plans")


def default_path(folder: str, mark: str) -> str:
    return os.path.join(_own_folder(folder), f"{mark}.json")


def check_path(path: str, folder: str) -> None:
    """Can a plan be written there? A folder that the user named has to be there. folder: of the journal. Raises PlanError."""
    where = os.path.dirname(path)
    if not os.path.isabs(path) or not os.path.basename(path) or (os.path.isdir(path) and not os.path.islink(path)):
        raise PlanError(f"path: {path} must be the full path of a file")
    if where == _own_folder(folder):
        return
    if not os.path.isdir(where):
        raise PlanError(f"path: there is no folder {where}; make it first, or leave path out")
    found = os.lstat(where)
    if stat.S_ISLNK(found.st_mode) and found.st_uid != os.geteuid():
        raise PlanError(f"path: {where} is a link that user {found.st_uid} made; give the path of a folder")


def make_folder(path: str, folder: str) -> None:
    """The collection's own folder of plans, private; one that the user named is not touched. Raises OSError."""
    if os.path.dirname(path) == _own_folder(folder):
        files.private_folder(_own_folder(folder))


def write(path: str, plan: dict[str, Any]) -> None:
    """Only root can read it. A link in its place is replaced, not followed. Raises OSError."""
    files.write(path, json.dumps(plan, separators=(",", ":")).encode("utf-8") + b"\n")


def as_written(path: str) -> bool:
    """Is it a file such as ``write`` leaves, no link, and nobody else's?"""
    try:
        found = os.lstat(path)
    except OSError:
        return False
    return stat.S_ISREG(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o077


def read(path: str) -> dict[str, Any]:
    """Raises PlanError for what is no plan of this version, or was changed since it was made."""
    try:
        # Not blocking: a pipe in its place would be waited for without an end.
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise PlanError(f"path: {path} is no file")
            data = file.read(MAX_FILE + 1)
    except OSError as error:
        raise PlanError(f"path: {path}: {error.strerror}; make the plan with state: planned") from None
    if len(data) > MAX_FILE:
        raise PlanError(f"path: {path} has more than {MAX_FILE} bytes")
    try:
        plan = json.loads(data)
        known = plan["schema"]
        if known != SCHEMA:
            raise PlanError(f"path: {path} is a plan of schema {known!r}; this version carries out schema {SCHEMA}")
        if digest(plan) != plan["certificate"]["digest"]:
            raise PlanError(f"path: {path} was changed after it was made; make the plan again")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise PlanError(f"path: {path} is no plan: {error}") from None
    found: dict[str, Any] = plan
    return found


def summary(plan: dict[str, Any], rules: int | None = None) -> dict[str, Any]:
    before = sum(len(one["before"]) for one in plan["chains"])
    after = sum(len(one["after"]) for one in plan["chains"])
    return {
        "rules": rules,
        "rules_before": before,
        "rules_after": after,
        "chains": len(plan["chains"]),
        "sets": len(plan["sets"]),
        "elements": sum(len(one["elements"]) for one in plan["sets"]),
        "barriers": len(plan["barriers"]),
        "certificate": plan["certificate"]["verdict"],
    }


def difference(plan: dict[str, Any], first: int = 50) -> dict[str, str]:
    """As Ansible prints it: the rules that go and come, the sets that come; the first of each and how many more."""
    before: list[str] = []
    after: list[str] = []
    for one in plan["chains"]:
        where = f"{one['backend']} {one['family']} {one['table']} {one['chain']}"
        old, new = ([rule["text"] for rule in one[side]] for side in ("before", "after"))
        for texts, others, lines in ((old, set(new), before), (new, set(old), after)):
            gone = [f"{where}: {text}\n" for text in texts if text not in others]
            lines += gone[:first]
            if len(gone) > first:
                lines.append(f"{where}: and {len(gone) - first} more\n")
    for one in plan["sets"]:
        elements = ", ".join(element for element, _comment in one["elements"][:first])
        more = len(one["elements"]) - first
        after.append(f"set {one['name']}: {one['type']} {elements}{f' and {more} more' if more > 0 else ''}\n")
    return {"before": "".join(before), "after": "".join(after)}
