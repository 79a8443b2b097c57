# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""Carry a plan out: sets, then rules, each table in one step; look again; take back what did not take.

Design: docs/dev/firewall-sets.md.
"""

from __future__ import annotations

import gc
import os
import re
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from dataclasses import replace
from typing import Any

from ansible_collections.netops.fleet.plugins.module_utils._evidence import addresses
from ansible_collections.netops.fleet.plugins.module_utils._evidence.section import Gap
from ansible_collections.netops.fleet.plugins.module_utils._firewall import (
    boot_files,
    certificate,
    consolidate,
    fingerprint,
    nft,
    read,
    set_content,
    set_ipset,
    set_plan,
    set_records,
    standing,
    symbols,
    walk,
)
from ansible_collections.netops.fleet.plugins.module_utils._firewall.consolidate import PlanError
from ansible_collections.netops.fleet.plugins.module_utils._firewall.fingerprint import Key
from ansible_collections.netops.fleet.plugins.module_utils._firewall.model import IPSET, NFT, Rule, Ruleset, Set
from ansible_collections.netops.fleet.plugins.module_utils._firewall.nft_kernel import Kernel
from ansible_collections.netops.fleet.plugins.module_utils._firewall.packet import Packet
from ansible_collections.netops.fleet.plugins.module_utils._kernel import ipset
from ansible_collections.netops.fleet.plugins.module_utils._safety import change, filters, ipset_state, journal, lock, objects
from ansible_collections.netops.fleet.plugins.module_utils._safety.change import Difference
from ansible_collections.netops.fleet.plugins.module_utils._safety.connection import Connection
from ansible_collections.netops.fleet.plugins.module_utils._safety.objects import Object

OWNER = "firewall_consolidate"
_PATIENCE = 10.0
_COUNTS = re.compile(r"\A\[(\d+):(\d+)\] |\bcounter packets (\d+) bytes (\d+)")
#: Makes what loads the ipsets of a plan at the next boot, before any rule.
Persist = Callable[[dict[str, Any]], list[Difference]]
#: The argument spec of the module; its documentation stands in plugins/modules/firewall_consolidate.py.
ARGUMENTS: dict[str, Any] = {
    "state": {"type": "str", "choices": ["read", "planned", "applied"], "default": "planned"},
    "rules": {"type": "bool", "default": False},
    "path": {"type": "path"},
    "chains": {"type": "list", "elements": "str", "default": []},
    "minimum": {"type": "int", "default": 4},
    "order": {"type": "bool", "default": False},
    "prefix": {"type": "str", "default": "nf_"},
    "deadman": {"type": "int", "default": 120},
    "persist": {"type": "bool", "default": True},
    "check_connection": {"type": "bool", "default": True},
    "connection": {
        "type": "dict",
        "options": {
            "source": {"type": "str", "required": True},
            "source_port": {"type": "int"},
            "destination": {"type": "str", "required": True},
            "port": {"type": "int", "default": 22},
        },
    },
}


def live(timeout: float = 60.0) -> tuple[Ruleset, list[Gap], frozenset[tuple[str, str]]]:
    """The rules of this host, what could not be read, and nft tables that nobody else may write to or that sleep."""
    section = read.read(elements=False, timeout=timeout)
    locked: frozenset[tuple[str, str]] = frozenset()
    if any(chain.backend == NFT for chain in section.data.chains):
        locked = frozenset((table.family, table.name) for table in Kernel(timeout).tables() if table.flags)
    return section.data, section.gaps, locked


def planned(params: dict[str, Any], folder: str, check: bool) -> dict[str, Any]:
    """state: planned. Raises PlanError, OSError."""
    if params["path"]:
        consolidate.check_path(params["path"], folder)
    plan, rules, listing = _plan(params)
    path = params["path"] or consolidate.default_path(folder, plan["fingerprint"])
    changed = _other_plan(path, plan)
    if changed and not check:
        consolidate.make_folder(path, folder)
        consolidate.write(path, plan)
    told = {**_told(plan, path, rules), "changed": changed, "diff": consolidate.difference(plan), **_NO_CHANGE}
    return {**told, "listing": listing} if params["rules"] else told


_NO_CHANGE = {"change": None, "confirm_within": None}


def _plan(params: dict[str, Any]) -> tuple[dict[str, Any], int, dict[str, list[str]]]:
    """The plan for the rules as they are, how many were looked at, and they themselves where they are asked for."""
    options = {"minimum": params["minimum"], "order": params["order"], "prefix": params["prefix"]}
    collecting = gc.isenabled()
    gc.disable()  # tens of thousands of rules that all stay
    try:
        ruleset, gaps, locked = live()
        made = consolidate.make(ruleset, gaps, locked, params["chains"], **options)
        listing = fingerprint.texts(ruleset, params["chains"]) if params["rules"] else {}
        return consolidate.to_dict(made, {**options, "chains": params["chains"]}), made.rules, listing
    finally:
        if collecting:
            gc.enable()


def _other_plan(path: str, plan: dict[str, Any]) -> bool:
    """Is another plan, or none, in the file? Counters make no other plan."""
    if not consolidate.as_written(path):
        return True
    try:
        there = consolidate.read(path)
    except PlanError:
        return True
    same = ("options", "barriers", "left_out")
    return bool(
        there["certificate"]["digest"] != plan["certificate"]["digest"] or any(there.get(one) != plan[one] for one in same)
    )


def _told(plan: dict[str, Any], path: str, rules: int | None = None) -> dict[str, Any]:
    notes = [f"{one['where']} is left as it is: {one['why']}" for one in plan["left_out"]]
    return {
        "fingerprint": plan["fingerprint"],
        "path": path,
        "summary": consolidate.summary(plan, rules),
        "folded": [f"{one['backend']} {one['family']} {one['table']} {one['chain']}" for one in plan["chains"]],
        "barriers": plan["barriers"],
        "notes": notes,
    }


def applied(params: dict[str, Any], folder: str, check: bool, root: str, persist: Persist | None) -> dict[str, Any]:
    """state: applied. Raises PlanError, ChangeError, journal.JournalError, lock.Busy, objects.ObjectError, OSError."""
    path = params["path"]
    if not path:
        raise PlanError("path: which plan? Make one with state: planned, and give its path")
    if check and not os.path.exists(path):
        # The task that makes the plan ran in check mode too.
        plan = _plan(params)[0]
        return {**_told(plan, path), "changed": bool(plan["chains"]), "diff": consolidate.difference(plan), **_NO_CHANGE}
    plan = consolidate.read(path)
    if check:
        return _applied(params, plan, path, folder, root, persist, check=True)
    change.open_folder(folder)
    with lock.Lock(folder, OWNER, wait=_PATIENCE):
        notes = change.overdue(folder)
        result = _applied(params, plan, path, folder, root, persist, check=False)
        result["notes"] = notes + result["notes"]
        return result


def _applied(
    params: dict[str, Any],
    plan: dict[str, Any],
    path: str,
    folder: str,
    root: str,
    persist: Persist | None,
    check: bool,
) -> dict[str, Any]:
    result = {**_told(plan, path), "changed": False, "change": None, "confirm_within": None, "diff": {"before": "", "after": ""}}
    if _already(plan):
        return result
    ruleset, _gaps, _locked = live()
    work = Work(plan, ruleset)
    work.check(frozenset(journal.Journal(folder).live))
    result["notes"] += work.check_connection(params["connection"], params["check_connection"])
    changes = work.differences(real=not check)
    _try_the_way_back(changes)
    if params["persist"]:
        sets = persist(plan) if persist is not None else []
        more, notes = boot_files.changes(plan, root, bool(sets))
        changes += [*sets, *more]
        result["notes"] += notes
    result.update(changed=bool(changes), diff=consolidate.difference(plan))
    if check or not changes:
        return result
    with change.unbroken():
        done = change.apply(journal.Journal(folder), OWNER, changes, params["deadman"], lambda: work.left(changes))
    return {**result, **done}


def _already(plan: dict[str, Any]) -> bool:
    """Is this host as the plan leaves it?"""
    if not plan["chains"]:
        return True
    for target, (_before, after) in _contents(plan).items():
        try:
            present = filters.content_of(objects.capture(target) or {})
        except (objects.ObjectError, KeyError):
            return False
        if not filters.alike(present, _complete(after, present)):
            return False
    for one in plan["sets"]:
        if one["backend"] == IPSET:
            wanted = wanted_set(one)
            there = set_ipset.Ipset().read(wanted)
            if there is None or set_plan.plan(there, wanted, 0).reasons:
                return False
    return True


def _contents(plan: dict[str, Any]) -> dict[Object, tuple[filters.Content, filters.Content]]:
    """Objects the rules belong to: (content before, content after), counters left out."""
    found: dict[Object, tuple[filters.Content, filters.Content]] = {}
    groups: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for one in plan["chains"]:
        groups.setdefault((one["backend"], one["family"], one["table"]), []).append(one)
    for (backend, family, table), chains in groups.items():
        before: filters.Content = {"chains": {}, "sets": {}}
        after: filters.Content = {"chains": {}, "sets": {}}
        for one in chains:
            before["chains"][one["chain"]] = [rule["text"] for rule in one["before"]]
            after["chains"][one["chain"]] = [rule["text"] for rule in one["after"]]
        names = [one["chain"] for one in chains]
        if backend != NFT:
            found[Object("iptables", " ".join((backend, family, table, *names)))] = (before, after)
            continue
        for made in plan["sets"]:
            if (made["backend"], made["family"], made["table"]) == (NFT, family, table):
                names.append(f"@{made['name']}")
                before["sets"][made["name"]] = None
                after["sets"][made["name"]] = {key: made[key] for key in ("type", "interval", "elements")}
        found[Object("nft", " ".join((family, table, *names)))] = (before, after)
    return found


def wanted_set(made: dict[str, Any]) -> set_plan.Wanted:
    """An ipset of the plan as the writer of sets takes it."""
    lines = []
    for element, comment in made["elements"]:
        clean = filters.comment(comment)
        lines.append(f'{element} comment "{clean}"' if clean else element)
    width = set_content.width_of(made["family"])
    try:
        return set_plan.Wanted(made["name"], set_content.parse(lines, set_content.KINDS[made["type"]], width, made["name"]))
    except (set_content.ContentError, KeyError) as error:
        raise PlanError(f"set {made['name']} of the plan: {error}") from None


def model_of(made: dict[str, Any]) -> Set:
    """A set of the plan as a reader shows it."""
    elements = [_element(text) for text, _comment in made["elements"]]
    flags = ["interval"] if made["interval"] else []
    return Set(made["backend"], made["family"], made["table"], made["name"], made["type"], flags=flags, elements=elements)


def _element(text: str) -> Any:
    address, comma, port = text.partition(",")
    if comma:
        protocol, _colon, number = port.partition(":")
        return ["concat", address, set_content.PROTOCOLS[protocol], int(number)]
    fields = text.split(" . ")
    if len(fields) > 1:
        return ["concat", *(_element(one) for one in fields)]
    return symbols.text_element("addr" if "." in text or ":" in text else "port", text)


class Work:
    """A plan on this host. Raises PlanError for what forbids it."""

    def __init__(self, plan: dict[str, Any], ruleset: Ruleset) -> None:
        self.plan = plan
        self.ruleset = ruleset
        self.sets = [model_of(one) for one in plan["sets"]]
        self._rules = fingerprint.by_chain(ruleset.rules)
        self._after: dict[Key, list[Rule]] = {}

    def check(self, own: AbstractSet[Object] = frozenset()) -> None:
        """The host is one the plan is for, and the certificate holds for it: made again, the file is not believed.

        own: objects of this collection on this host.
        """
        options = self.plan["options"]
        found = fingerprint.fingerprint(self.ruleset, options["chains"], options["prefix"])
        if found != self.plan["fingerprint"]:
            raise PlanError(
                f"the rules of this host are not those of the plan: fingerprint {found}, in the plan {self.plan['fingerprint']}; "
                "make the plan again with state: planned"
            )
        there = {one.name for one in self.ruleset.sets if one.backend == IPSET}
        for one in self.plan["sets"]:
            name = one["name"]
            if not name.startswith(options["prefix"]):
                raise PlanError(
                    f"set {name} of the plan does not begin with {options['prefix']}; make the plan again on this host"
                )
            if one["backend"] == IPSET and name in there and Object("ipset", name) not in own:
                raise PlanError(f"set {name} is there already, with other content; destroy it, or make the plan on this host")
        for one in self.plan["chains"]:
            key = (one["backend"], one["family"], one["table"], one["chain"])
            before = self._rules.get(key, [])
            if [fingerprint.plain(rule) for rule in before] != [rule["text"] for rule in one["before"]]:
                raise PlanError(f"{' '.join(key)} does not hold the rules of the plan; make the plan again with state: planned")
            self._after[key] = self._read(key, before, one["after"])
            proof = certificate.certify(before, self._after[key], self.sets, consolidate.quiet(self.ruleset, key[:3]))
            if proof.verdict != certificate.EQUAL:
                raise PlanError(
                    f"no certificate for {' '.join(key)}: {proof.verdict}: {proof.why} {proof.witness or ''}".rstrip()
                )

    def _read(self, key: Key, before: list[Rule], after: list[dict[str, Any]]) -> list[Rule]:
        chains = frozenset(one.name for one in self.ruleset.chains if (one.backend, one.family, one.table) == key[:3])
        types = {one.name: one.type for one in (*self.ruleset.sets, *self.sets) if one.backend == IPSET}
        found = []
        for line, one in enumerate(after, 1):
            source = before[one["from"][0]]
            if len(one["from"]) == 1 and fingerprint.plain(source) == one["text"]:
                found.append(source)
            else:
                found.append(consolidate.read_text(one["text"], source, line, chains, types))
        return found

    def check_connection(self, given: dict[str, Any] | None, wanted: bool) -> list[str]:
        """The connection this runs over must be accepted as established, as the rules are and as they will be."""
        if not wanted:
            return ["the connection was not checked: check_connection is off"]
        try:
            connection = Connection.given(given) if given else Connection.current()
        except ValueError as error:
            raise PlanError(f"connection: {error}") from None
        if connection is None:
            return ["no SSH connection was found, so none was checked"]
        links = [one["link"] for one in addresses.read().data if one["address"] == connection.destination]
        keys = set(self._after)
        others = [rule for rule in self.ruleset.rules if (rule.backend, rule.family, rule.table, rule.chain) not in keys]
        after = replace(
            self.ruleset,
            rules=[*others, *(rule for rules in self._after.values() for rule in rules)],
            sets=[*self.ruleset.sets, *self.sets],
        )
        for when, ruleset in (("now", self.ruleset), ("with the plan", after)):
            said = walk.Walker(ruleset).incoming(_packet(connection, links[0] if links else None))
            if said.verdict != walk.ACCEPT:
                where = said.rule.where() if said.rule is not None else said.why or "a policy"
                raise PlanError(
                    f"the connection from {connection.source} is not accepted {when} as established ({said.verdict}: {where}): "
                    "a change could cut it off. Add a rule that accepts ct state established, or set check_connection: false"
                )
        return []

    # --- what to write

    def differences(self, real: bool) -> list[Difference]:
        """real: they are going to be written, so modules for sets may be loaded."""
        changes: list[Difference] = []
        for one in self.plan["sets"]:
            if one["backend"] == IPSET:
                target = Object("ipset", one["name"])
                changes.append(Difference(target, objects.capture(target), _set_state(wanted_set(one), real), cuts=True))
        rules = {(one["backend"], one["family"], one["table"], one["chain"]): one for one in self.plan["chains"]}
        for target, (before, after) in _contents(self.plan).items():
            present = filters.content_of(objects.capture(target) or {})
            if not filters.alike(present, _complete(before, present)):
                raise PlanError(f"{target} changed a moment ago; make the plan again with state: planned")
            words = target.name.split(" ")
            head = (NFT, *words[:2]) if target.kind == "nft" else tuple(words[:3])
            for chain in after["chains"]:
                key = (head[0], head[1], head[2], chain)
                after["chains"][chain] = _counted(rules[key]["after"], present["chains"][chain], key[0] == NFT)
            own = filters.own_of(present, after)
            changes.append(Difference(target, filters.state_of(present, own), filters.state_of(after, own), cuts=True))
        return changes

    def left(self, changes: list[Difference]) -> list[str]:
        """What is not as planned: read again, compared with what was written, and certified against what was there."""
        problems = []
        for one in changes:
            if one.target.kind in ("nft", "iptables") and not objects.same(one.target, objects.capture(one.target), one.after):
                problems.append(f"{one.target} is not what was written")
                _restore_whole(one)
        now = fingerprint.by_chain(live()[0].rules)
        for key in self._after:
            calm = consolidate.quiet(self.ruleset, key[:3])
            proof = certificate.certify(self._rules.get(key, []), now.get(key, []), self.sets, calm)
            if proof.verdict != certificate.EQUAL:
                problems.append(f"{' '.join(key)}: no certificate for what is there now: {proof.why}")
        return problems


def _set_state(wanted: set_plan.Wanted, real: bool) -> dict[str, Any]:
    header, entries = set_ipset.header_of(wanted), set_records.encode(wanted.content)
    if real:
        with ipset.Sets() as sets:
            header.revision = sets.revision(header.type, header.family)
    return ipset_state.whole(header, entries)


def _restore_whole(one: Difference) -> None:
    """A rule that the tool shows in other words is not known as ours: the chain is put back as a whole."""
    if one.before is None:
        raise AssertionError(f"{one.target} was not there before")
    objects.put(one.target, {**one.before, "own": []})


def _packet(connection: Connection, link: str | None) -> Packet:
    return Packet(
        family=6 if ":" in connection.destination else 4,
        proto=6,
        saddr=connection.source,
        daddr=connection.destination,
        sport=connection.source_port,
        dport=connection.port,
        iif=link,
        oif="",
        ct_state="established",
        tcp_flags=0x10,
        ct_status=frozenset({"seen-reply", "assured", "confirmed"}),
    )


def _counted(after: list[dict[str, Any]], present: list[str], native: bool) -> list[str]:
    """Texts of the plan with the counters of now: a folded rule goes on from the sum of its members."""
    found = []
    for one in after:
        sources = [present[index] for index in one["from"]]
        if len(sources) == 1 and _same_text(filters.plain(sources[0]), one["text"]):
            found.append(sources[0])
            continue
        packets = octets = 0
        for text in sources:
            counts = _COUNTS.search(text)
            if counts is not None:
                packets += int(counts[1] or counts[3])
                octets += int(counts[2] or counts[4])
        if native:
            found.append(re.sub(r"\bcounter\b", f"counter packets {packets} bytes {octets}", one["text"], count=1))
        else:
            found.append(f"[{packets}:{octets}] {one['text']}")
    return found


def _same_text(full: str, text: str) -> bool:
    """The reader cuts the text of a rule whose anonymous set is long; what it means is in the fingerprint."""
    return full == text or (text.endswith(nft.CUT) and full.startswith(text[: -len(nft.CUT)]))


def _complete(content: filters.Content, present: filters.Content) -> filters.Content:
    """The content with texts that were cut as they are there now."""
    for chain, texts in content["chains"].items():
        there = present["chains"].get(chain)
        if texts and there and len(texts) == len(there):
            plain = [filters.plain(one) for one in there]
            content["chains"][chain] = [full if _same_text(full, text) else text for full, text in zip(plain, texts)]
    return content


def _try_the_way_back(changes: list[Difference]) -> None:
    """Would the tool take the rules that go, if they were to come again? Nothing is written."""
    for one in changes:
        if one.target.kind not in ("nft", "iptables") or one.before is None:
            continue
        try:
            filters.rehearse(one.target.kind, one.target.name, filters.content_of(one.before), set(one.before["own"]))
        except OSError as error:
            raise PlanError(f"{one.target}: its rules could not be put back as they are listed: {error.strerror}") from None


def run(
    params: dict[str, Any], check: bool, folder: str = journal.FOLDER, root: str = "", persist: Persist | None = None
) -> dict[str, Any]:
    """What the module returns. root: of the host's files, for tests. persist: what loads ipsets at the next boot."""
    for name, low, high in (("minimum", 2, 1 << 20), ("deadman", 10, 3600)):
        value = params[name]
        if not low <= value <= high and not (name == "deadman" and value == 0):
            raise PlanError(f"{name} is {value}; allowed are {'0 and ' if name == 'deadman' else ''}{low} to {high}")
    if not re.match(r"\A[A-Za-z][A-Za-z0-9_]{0,11}\Z", params["prefix"]):
        raise PlanError(f"prefix is {params['prefix']!r}; allowed are a letter, then up to 11 letters, digits and underscores")
    if params["state"] == "read":
        ruleset, gaps, _locked = live()
        return {"changed": False, **standing.read(params, ruleset, gaps, folder, OWNER)}
    if params["state"] == "planned":
        return planned(params, folder, check)
    return applied(params, folder, check, root, persist)
