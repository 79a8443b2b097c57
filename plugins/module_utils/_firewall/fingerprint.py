# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""What makes two hosts alike for a plan: their rules, without handles, counters, and what follows from what runs there. Pure."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from fnmatch import fnmatchcase

from ansible_collections.netops.fleet.plugins.module_utils._firewall import groups, nft
from ansible_collections.netops.fleet.plugins.module_utils._firewall.model import NFT, Chain, Rule, Ruleset
from ansible_collections.netops.fleet.plugins.module_utils._safety import filters
from ansible_collections.netops.fleet.plugins.module_utils._safety.nft_state import OPENING
from ansible_collections.netops.fleet.plugins.module_utils._safety.owners import FOLLOWING, owner_of

#: (backend, family, table, chain)
Key = tuple[str, str, str, str]
#: Links that container engines and virtual machine managers make and name by chance, and write rules for into shared chains.
_LINK = re.compile(r"(?<![\w-])(br-[0-9a-f]{12}|docker0|docker_gwbridge|veth[0-9a-f]+|cali[0-9a-f]{11}|cni0|virbr[0-9]+)\b")


def plain(rule: Rule) -> str:
    """A rule's text without what its counter shows."""
    return filters.plain(rule.text) if rule.backend == NFT else rule.text


def key_of(one: Chain) -> Key:
    return (one.backend, one.family, one.table, one.name)


def by_chain(rules: Iterable[Rule]) -> dict[Key, list[Rule]]:
    found: dict[Key, list[Rule]] = {}
    for rule in rules:
        found.setdefault((rule.backend, rule.family, rule.table, rule.chain), []).append(rule)
    return found


def moving(rule: Rule) -> bool:
    """Does it follow from what runs on the host at the moment? Programs write such rules into shared chains (FORWARD) too.

    A port that is open for a while closes by itself: it makes no host another kind of host.
    """
    if rule.owner in FOLLOWING or _LINK.search(rule.text) or (rule.comment or "").startswith(OPENING):
        return True
    target = rule.verdict.target if rule.verdict is not None else None
    return target is not None and owner_of(rule.table, target) in FOLLOWING


def chosen(chain: Chain, patterns: Iterable[str]) -> bool:
    """Is it one of the chains that were asked for? Without patterns all are."""
    given = list(patterns)
    return not given or any(fnmatchcase(f"{chain.table}/{chain.name}", pattern) for pattern in given)


def considered(ruleset: Ruleset, patterns: Iterable[str] = ()) -> list[Chain]:
    """Chains that were asked for and that could be the same on two hosts, in one order on all of them.

    The groups of this collection are left out: they are declared, not folded, and often in the same run.
    """
    given = list(patterns)
    found = [
        one
        for one in ruleset.chains
        if one.owner not in FOLLOWING and not (one.backend == NFT and one.table == groups.TABLE) and chosen(one, given)
    ]
    return sorted(found, key=key_of)


def texts(ruleset: Ruleset, patterns: Iterable[str] = ()) -> dict[str, list[str]]:
    """Chain → its rules, as they are compared. A chain's hook, priority and policy are its first line."""
    rules = by_chain(ruleset.rules)
    found: dict[str, list[str]] = {}
    for chain in considered(ruleset, patterns):
        head = f"hook {chain.hook} priority {chain.priority} policy {chain.policy}" if chain.hook else "no hook"
        own = [plain(rule) for rule in rules.get(key_of(chain), ()) if not moving(rule)]
        found[" ".join(key_of(chain))] = [head, *own]
    return found


def marks(ruleset: Ruleset, patterns: Iterable[str] = (), prefix: str = "") -> dict[str, str]:
    """Chain → a digest of it, ``sets`` → of definitions (without content) of the sets that its rules name or a plan could make,
    and each back end that could not be read."""
    given = list(patterns)
    rules = by_chain(ruleset.rules)
    found: dict[str, str] = {}
    words: set[str] = set()
    for chain in considered(ruleset, given):
        lines: list[object] = [chain.hook, chain.priority, chain.policy, chain.type]
        for rule in rules.get(key_of(chain), ()):
            if moving(rule):
                continue
            cut = rule.text.endswith(nft.CUT)
            lines.append([plain(rule), [part.to_dict() for part in rule.parts] if cut else None])
            if ruleset.sets:
                words.update(rule.text.replace("@", " ").split())
        found[" ".join(key_of(chain))] = _digest(lines)
    sets = [
        [one.backend, one.family, one.table, one.name, one.type, sorted(one.flags)]
        for one in ruleset.sets
        if one.owner not in FOLLOWING
        and not (one.backend == NFT and one.table == groups.TABLE)
        and (one.name in words or (prefix and one.name.startswith(prefix)))
    ]
    found["sets"] = _digest(sorted(sets))
    found.update({f"unread {state.name}": "" for state in ruleset.backends if state.status == "unread"})
    return found


def whole(ruleset: Ruleset, patterns: Iterable[str] = ()) -> dict[str, str]:
    """Chain → a digest of all of it, for those into which programs write too: a plan that changes such a chain is for hosts where
    they wrote the same."""
    rules = by_chain(ruleset.rules)
    found = {}
    for chain in considered(ruleset, patterns):
        own = rules.get(key_of(chain), [])
        if any(moving(rule) for rule in own):
            found[" ".join(key_of(chain))] = _digest([plain(rule) for rule in own])
    return found


def fingerprint(ruleset: Ruleset, patterns: Iterable[str] = (), prefix: str = "") -> str:
    """The same for hosts of which one plan can serve all. patterns, prefix: options of the plan."""
    return _digest(sorted(marks(ruleset, patterns, prefix).items()))


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, separators=(",", ":")).encode("utf-8")).hexdigest()[:32]
