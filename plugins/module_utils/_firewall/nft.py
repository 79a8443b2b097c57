# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""Tables of nft: chains, rules with handles, named sets.

The kernel says which tables and chains there are (:mod:`nft_kernel`); nft's text listing says what the rules mean; its JSON
listing is asked only for tables with rules whose text is beyond :mod:`nft_text`, and for the members of sets.
One listing for everything where it works; table by table where it does not, so that a broken table does not hide the others.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.netops.fleet.plugins.module_utils._evidence.section import Gap
from ansible_collections.netops.fleet.plugins.module_utils._firewall import nft_json, nft_text, symbols
from ansible_collections.netops.fleet.plugins.module_utils._firewall.model import (
    NFT,
    BackendState,
    Chain,
    Rule,
    Ruleset,
    Set,
    Unknown,
    Verdict,
)
from ansible_collections.netops.fleet.plugins.module_utils._firewall.nft_kernel import Kernel, KernelChain, KernelSet, Table
from ansible_collections.netops.fleet.plugins.module_utils._firewall.symbols import OddError
from ansible_collections.netops.fleet.plugins.module_utils._kernel import command, netlink
from ansible_collections.netops.fleet.plugins.module_utils._safety.owners import owner_of

Key = tuple[str, str]
#: Tables that iptables, ebtables or arptables make.
_IPTABLES_NAMES = frozenset({"raw", "mangle", "nat", "filter", "security", "broute"})
#: Characters of a rule's text that are kept: an anonymous set may hold thousands of members, which ``parts`` has anyway.
TEXT_LIMIT = 4000
#: How a text ends that was cut.
CUT = " ..."
_MAX_BYTES = 256 * 1024 * 1024
_SET_BYTES = 64 * 1024 * 1024
#: Up to this limit members are counted first: counting ends early, listing does not. Above it that would be a second reading.
_COUNTED = 65536


@dataclass
class View:
    """What the kernel has, by (family, table)."""

    tables: list[Table]
    chains: dict[Key, list[KernelChain]] = field(default_factory=dict)
    sets: dict[Key, list[KernelSet]] = field(default_factory=dict)


@dataclass
class ListedTable:
    """A table as listed. rules: chain -> (handle, text). sets: name -> its description lines. odd: a line of no known form."""

    rules: dict[str, list[tuple[int, str]]] = field(default_factory=dict)
    sets: dict[str, list[str]] = field(default_factory=dict)
    odd: str = ""
    whole: bool = False


def look(kernel: Kernel) -> View:
    """Raises netlink.NetlinkError or OSError."""
    view = View(kernel.tables())
    if view.tables:
        for chain in kernel.chains():
            view.chains.setdefault((chain.family, chain.table), []).append(chain)
        for one in kernel.sets():
            view.sets.setdefault((one.family, one.table), []).append(one)
    return view


def read(
    kernel: Kernel, view: View, wanted: list[Table], alone: bool, elements: int | None, timeout: float
) -> tuple[Ruleset, list[Gap]]:
    """Read the ``wanted`` tables. alone: they are all there are. elements: members of sets with at most so many."""
    ruleset, gaps = Ruleset(), list[Gap]()
    if not wanted:
        ruleset.backends.append(BackendState(NFT, "ok" if view.tables else "absent"))
        return ruleset, gaps
    if command.find("nft") is None:
        names = ", ".join(f"{table.family} {table.name}" for table in wanted)[:200]
        why = f"the kernel has tables {names}, nft is not installed"
        ruleset.backends.append(BackendState(NFT, "unread", why))
        return ruleset, [Gap("firewall.nft", why)]
    listed: dict[Key, ListedTable] = {}
    # Asked for one table, nft reads the members of its sets even where it does not show them; for everything it does not.
    if alone or any(view.sets.get((table.family, table.name)) for table in wanted):
        answer = command.run(["nft", "-t", "-a", "list", "ruleset"], timeout=timeout, max_bytes=_MAX_BYTES)
        if answer.ok:
            listed = parse_listing(answer.out)
    unread: list[str] = []
    for table in wanted:
        key = (table.family, table.name)
        name = f"table {table.family} {table.name}"
        if key not in listed or not listed[key].whole:
            answer = command.run(["nft", "-t", "-a", "list", "table", *key], timeout=timeout, max_bytes=_MAX_BYTES)
            found = parse_listing(answer.out).get(key) if answer.ok else None
            if found is None or not found.whole:
                if "dormant" not in table.flags:
                    unread.append(f"{name}: {'the listing ends too early' if answer.ok else answer.why()}")
                gaps.append(Gap(f"firewall.nft {name}", "the listing ends too early" if answer.ok else answer.why()))
                ruleset.chains += [_chain(chain, table) for chain in view.chains.get(key, [])]
                continue
            listed[key] = found
        ruleset.chains += [_chain(chain, table) for chain in view.chains.get(key, [])]
        rules, why = _rules(table, view.chains.get(key, []), listed[key], _of_iptables(kernel, table), timeout)
        ruleset.rules += rules
        if why:
            gaps.append(Gap(f"firewall.nft {name}", why))
        for one in view.sets.get(key, []):
            ruleset.sets.append(_set(kernel, one, listed[key].sets.get(one.name, []), elements, timeout, gaps))
    ruleset.backends.append(BackendState(NFT, "unread" if unread else "ok", "; ".join(unread)[:500] or None))
    return ruleset, gaps


def parse_listing(text: str) -> dict[Key, ListedTable]:
    """Read ``nft -t -a list ruleset`` or ``list table``: what belongs to which table and chain. Never raises."""
    found: dict[Key, ListedTable] = {}
    table = ListedTable()
    rules: list[tuple[int, str]] | None = None
    lines: list[str] | None = None
    for line in text.split("\n"):
        if line[:2] == "\t\t" and rules is not None:
            body, mark, number = line[2:].rpartition(" # handle ")
            if mark and number.isdigit():
                rules.append((int(number), body))
            elif not line[2:].startswith(("type ", "comment ", "policy ", "flags ", "devices ")):
                table.odd = table.odd or line.strip()[:120]
        elif line[:2] == "\t\t":
            if lines is not None:
                lines.append(line.strip())
        elif line == "\t}":
            rules = lines = None
        elif line[:1] == "\t":
            rules = lines = None
            words = line.partition(" # handle ")[0].split()
            if len(words) == 3 and words[2] == "{":
                if words[0] == "chain":
                    rules = table.rules.setdefault(_name(words[1]), [])
                elif words[0] in ("set", "map", "meter"):
                    lines = table.sets.setdefault(_name(words[1]), [])
        elif line[:6] == "table ":
            words = line.partition(" # handle ")[0].split()
            if len(words) == 4:
                table = found.setdefault((words[1], _name(words[2])), ListedTable())
        elif line == "}":
            table.whole = True
        elif line and line[0] != "#":
            table.odd = table.odd or line[:120]
    return found


def _name(word: str) -> str:
    return word[1:-1] if len(word) > 1 and word[0] == word[-1] == '"' else word


def _chain(chain: KernelChain, table: Table) -> Chain:
    made = Chain(NFT, chain.family, chain.table, chain.name, handle=chain.handle, owner=owner_of(chain.table, chain.name))
    if "dormant" not in table.flags:
        # The chains of a dormant table are not hooked: its rules see no packet.
        made.hook, made.priority, made.policy, made.type = chain.hook, chain.priority, chain.policy, chain.type
        made.devices, made.packets = chain.devices, chain.packets
    return made


def _of_iptables(kernel: Kernel, table: Table) -> set[int] | None:
    """Handles of rules whose text is not to be trusted: nft prints matches of iptables as its own, and loses some negations.

    None: that cannot be told, so it may be any. Only tables with the names that iptables knows have such rules.
    """
    if table.name not in _IPTABLES_NAMES or table.family not in ("ip", "ip6", "bridge", "arp"):
        return set()
    try:
        return kernel.of_iptables(table.family, table.name)
    except (netlink.NetlinkError, OSError):
        return None


def _rules(
    table: Table, chains: list[KernelChain], listed: ListedTable, foreign: set[int] | None, timeout: float
) -> tuple[list[Rule], str]:
    """Rules of one table in order; the text says what could not be understood for want of a second listing.

    foreign: see _of_iptables.
    """
    rules: list[Rule] = []
    again: list[Rule] = []
    family, name = table.family, table.name
    for chain in chains:
        owner = owner_of(name, chain.name)
        for line, (handle, text) in enumerate(listed.rules.get(chain.name, ()), 1):
            parsed = nft_text.read_rule(text, family)
            if foreign is None or handle in foreign:
                why = "with a match or target of iptables, read through nft"
                parsed.parts, parsed.verdict, parsed.odd = [Unknown(text[:500], why)], Verdict("unknown", None, why), why
            rule = Rule(
                NFT,
                family,
                name,
                chain.name,
                line,
                text if len(text) <= TEXT_LIMIT else text[: TEXT_LIMIT - len(CUT)] + CUT,
                parsed.parts,
                parsed.verdict,
                handle,
                parsed.packets,
                parsed.bytes,
                parsed.comment,
                owner,
            )
            if parsed.comment is not None and owner == "user":
                rule.owner = owner_of(name, chain.name, parsed.comment)
            rules.append(rule)
            if parsed.odd is not None:
                again.append(rule)
    if not again and not listed.odd:
        return rules, ""
    objects, why = _json_rules(table, timeout)
    if objects is None:
        return rules, f"{len(again)} rules with parts not understood in text, and no JSON listing: {why}"
    if listed.odd:
        # A line that is no rule: something in a comment or name breaks lines. JSON is not fooled.
        return _from_json(table, chains, objects, {rule.handle: rule.text for rule in rules}), ""
    for rule in again:
        found = objects.get(rule.handle or 0)
        if found is not None:
            _improve(rule, found)
    return rules, ""


def _improve(rule: Rule, found: dict[str, Any]) -> None:
    """Take the JSON reading of a rule whose text was not understood."""
    parsed = nft_json.read_rule(found, rule.family)
    rule.parts, rule.verdict = parsed.parts, parsed.verdict
    rule.packets, rule.bytes = parsed.packets, parsed.bytes
    rule.comment = parsed.comment or rule.comment
    unread = [part for part in rule.parts if isinstance(part, Unknown)]
    if len(unread) == 1 and len(rule.parts) == 1 and rule.verdict is None:
        unread[0].text = rule.text


def _from_json(
    table: Table, chains: list[KernelChain], objects: dict[int, dict[str, Any]], texts: dict[int | None, str]
) -> list[Rule]:
    rules: list[Rule] = []
    for chain in chains:
        line = 0
        for handle, found in objects.items():
            if found.get("chain") != chain.name:
                continue
            line += 1
            parsed = nft_json.read_rule(found, table.family)
            text = texts.get(handle) or json.dumps(found.get("expr", []))[:500]
            rule = Rule(NFT, table.family, table.name, chain.name, line, text, parsed.parts, parsed.verdict, handle)
            rule.packets, rule.bytes, rule.comment = parsed.packets, parsed.bytes, parsed.comment
            rule.owner = owner_of(table.name, chain.name, parsed.comment)
            rules.append(rule)
    return rules


def _json(argv: list[str], timeout: float, max_bytes: int = _MAX_BYTES) -> tuple[list[Any] | None, str]:
    """The objects of a JSON listing; None and why."""
    answer = command.run(["nft", "-j", *argv], timeout=timeout, max_bytes=max_bytes)
    if not answer.ok:
        return None, answer.why()
    return parse_json(answer.out)


def parse_json(text: str) -> tuple[list[Any] | None, str]:
    """The list under "nftables"; None and why. Never raises."""
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        return None, "nft: its JSON cannot be read"
    found = data.get("nftables") if isinstance(data, dict) else None
    return (found, "") if isinstance(found, list) else (None, "nft: its JSON is of another shape")


def _json_rules(table: Table, timeout: float) -> tuple[dict[int, dict[str, Any]] | None, str]:
    """Rule objects by handle, in order."""
    objects, why = _json(["-t", "-a", "list", "table", table.family, table.name], timeout)
    if objects is None:
        return None, why
    return rule_objects(objects), ""


def rule_objects(objects: list[Any]) -> dict[int, dict[str, Any]]:
    """Rules among listed objects, by handle. Never raises."""
    found: dict[int, dict[str, Any]] = {}
    for one in objects:
        rule = one.get("rule") if isinstance(one, dict) else None
        if isinstance(rule, dict) and isinstance(rule.get("handle"), int):
            found[rule["handle"]] = rule
    return found


def _set(kernel: Kernel, one: KernelSet, lines: list[str], limit: int | None, timeout: float, gaps: list[Gap]) -> Set:
    """A named set or map; members when it has at most ``limit``."""
    made = Set(
        NFT, one.family, one.table, one.name, "", flags=list(one.flags), handle=one.handle, owner=owner_of(one.table, one.name)
    )
    describe(made, lines)
    if made.comment and made.owner == "user":
        made.owner = owner_of(one.table, one.name, made.comment)
    if limit is None:
        return made
    where = f"firewall.nft set {one.family} {one.table} {one.name}"
    if limit <= _COUNTED:
        try:
            small = kernel.at_most(one, limit)
        except (netlink.NetlinkError, OSError) as error:
            gaps.append(Gap(where, f"members: {error.strerror or error}"))
            return made
        if not small:
            gaps.append(Gap(where, f"more than the {limit} members that are read"))
            return made
    kind = "map" if one.map else "set"
    objects, why = _json(["list", kind, one.family, one.table, one.name], timeout, _SET_BYTES)
    members = None if objects is None else parse_members(objects, kind, made)
    if members is None:
        gaps.append(Gap(where, why or "a member was not understood"))
    elif len(members) > limit:
        gaps.append(Gap(where, f"more than the {limit} members that are read"))
    else:
        made.elements, made.count = members, len(members)
    return made


def describe(made: Set, lines: list[str]) -> None:
    """Type, value type, size and the like from the lines of the text listing."""
    for line in lines:
        word, _space, rest = line.partition(" ")
        if word in ("type", "typeof"):
            made.type, colon, value = rest.partition(" : ")
            made.map = value if colon else None
            if word == "typeof":
                made.options["typeof"] = True
        elif word in ("size", "timeout", "gc-interval", "policy"):
            made.options[word] = int(rest) if rest.isdigit() else rest
        elif word in ("auto-merge", "counter"):
            made.options[word] = True
        elif word == "comment":
            made.comment = rest.strip('"')


def fields_of(text: str, typeof: bool) -> list[tuple[str, str]]:
    """(name, kind) of each field of a set's type. Raises OddError."""
    if typeof:
        fields, end = nft_text.lefts(text.split(" "), 0)
        if end != len(text.split(" ")):
            raise OddError(f"typeof {text}")
        return fields
    return [(name, symbols.TYPE_KINDS.get(name, "word")) for name in text.split(" . ")]


def parse_members(objects: list[Any], kind: str, made: Set) -> list[Any] | None:
    """Members of a listed set or map; None when one is not understood. Never raises."""
    typeof = bool(made.options.get("typeof"))
    try:
        fields = fields_of(made.type, typeof)
        values: list[tuple[str, str]] = []
        if kind == "map":
            values = [("verdict", "verdict")] if made.map == "verdict" else fields_of(made.map or "", typeof)
        for one in objects:
            found = one.get(kind) if isinstance(one, dict) else None
            if isinstance(found, dict) and found.get("name") == made.name:
                members = found.get("elem", [])
                if not isinstance(members, list):
                    return None
                if kind == "map":
                    # A catch-all decides only what nothing else does: it goes last.
                    pairs = sorted(members, key=lambda pair: pair[0] == "*")
                    return [nft_json.map_pair(fields, values, pair) for pair in pairs]
                return [nft_json.element(fields, member) for member in members]
    except (OddError, ValueError, TypeError, KeyError, AttributeError, IndexError, RecursionError):
        return None
    return None
