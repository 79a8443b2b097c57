# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""Rules of iptables, in its two variants, from what their own ``*-save`` commands print.

legacy: tables are listed in /proc/net/ip_tables_names and ip6_tables_names; only listed ones are asked for, because asking for
another would create it. nft variant: the tables are found in nf_tables (:mod:`nft_kernel`), their meaning is taken from
``iptables-nft-save`` (nft cannot name the sets and options of iptables' matches), the handles from the kernel, paired by place.
"""

from __future__ import annotations

import re
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

from ansible_collections.netops.fleet.plugins.module_utils._evidence.section import Gap
from ansible_collections.netops.fleet.plugins.module_utils._firewall import iptables_parts
from ansible_collections.netops.fleet.plugins.module_utils._firewall.iptables_parts import Option
from ansible_collections.netops.fleet.plugins.module_utils._firewall.model import (
    IPTABLES_LEGACY,
    IPTABLES_NFT,
    BackendState,
    Chain,
    Match,
    Rule,
    Ruleset,
    Unknown,
    Verdict,
)
from ansible_collections.netops.fleet.plugins.module_utils._firewall.nft_kernel import Kernel, KernelChain
from ansible_collections.netops.fleet.plugins.module_utils._firewall.nft_text import Parsed
from ansible_collections.netops.fleet.plugins.module_utils._firewall.symbols import OddError
from ansible_collections.netops.fleet.plugins.module_utils._kernel import command, modules, netlink, xtables
from ansible_collections.netops.fleet.plugins.module_utils._safety.owners import owner_of

#: table -> built-in chain -> priority of its hook (include/uapi/linux/netfilter_ipv4.h)
PRIORITIES = {
    "raw": {"PREROUTING": -300, "OUTPUT": -300},
    "mangle": dict.fromkeys(("PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"), -150),
    "nat": {"PREROUTING": -100, "OUTPUT": -100, "INPUT": 100, "POSTROUTING": 100},
    "filter": dict.fromkeys(("INPUT", "FORWARD", "OUTPUT"), 0),
    "security": dict.fromkeys(("INPUT", "FORWARD", "OUTPUT"), 50),
}
_TOKEN = re.compile(r'"(?:\\.|[^"\\])*"|\S+')
_ESCAPE = re.compile(r"\\(.)")
_COUNTERS = re.compile(r"\[(\d+):(\d+)\] ?")
_BASIC = frozenset({"-s", "-d", "-i", "-o", "-p"})


@dataclass
class Saved:
    """What a save command printed. odd: lines that are none of its grammar. complete: every table ended with COMMIT."""

    chains: list[Chain] = field(default_factory=list)
    rules: list[Rule] = field(default_factory=list)
    odd: list[str] = field(default_factory=list)
    complete: bool = True


def parse_save(text: str, backend: str, family: str, sets: dict[str, str] | None = None) -> Saved:
    """Read the output of ``iptables-save -c``. sets: type of each ipset by name. Never raises."""
    saved = Saved()
    table, line_of = "", dict[str, int]()
    seen: set[str] = set()
    for line in text.split("\n"):
        if not line or line[0] == "#":
            continue
        if line[0] == "*":
            saved.complete = saved.complete and not table
            table, seen, line_of = line[1:].strip(), set(), {}
        elif line == "COMMIT":
            table = ""
        elif line[0] == ":" and table:
            chain = _chain(line, table, backend, family)
            if chain is None:
                saved.odd.append(line)
                continue
            seen.add(chain.name)
            saved.chains.append(chain)
        elif table and (line[0] in "[-"):
            rule = _rule(line, table, backend, family, seen, sets or {})
            if rule is None:
                saved.odd.append(line)
                continue
            line_of[rule.chain] = rule.line = line_of.get(rule.chain, 0) + 1
            saved.rules.append(rule)
        else:
            saved.odd.append(line)
    saved.complete = saved.complete and not table
    return saved


def _chain(line: str, table: str, backend: str, family: str) -> Chain | None:
    words = line[1:].split()
    if len(words) < 2:
        return None
    chain = Chain(backend, family, table, words[0], owner=owner_of(table, words[0]))
    priority = PRIORITIES.get(table, {}).get(words[0])
    if words[1] != "-" and priority is not None:
        chain.hook, chain.priority, chain.policy = words[0].lower(), priority, words[1].lower()
        chain.type = "nat" if table == "nat" else "route" if (table, words[0]) == ("mangle", "OUTPUT") else "filter"
        counters = _COUNTERS.match(words[2]) if len(words) > 2 else None
        chain.packets = int(counters[1]) if counters else None
    return chain


def _rule(line: str, table: str, backend: str, family: str, names: AbstractSet[str], sets: dict[str, str]) -> Rule | None:
    packets = octets = None
    if line[0] == "[":
        counters = _COUNTERS.match(line)
        if counters is None:
            return None
        packets, octets, line = int(counters[1]), int(counters[2]), line[counters.end() :]
    words = line.split(" ") if '"' not in line else _TOKEN.findall(line)
    if len(words) < 2 or words[0] != "-A":
        return None
    parsed = read_rule(words, family, names, sets)
    rule = Rule(backend, family, table, words[1], 0, line, parsed.parts, parsed.verdict, None, packets, octets, parsed.comment)
    rule.owner = owner_of(table, rule.chain, rule.comment)
    return rule


def unquote(word: str) -> str:
    """A word as iptables-save quotes it."""
    return _ESCAPE.sub(r"\1", word[1:-1]) if len(word) > 1 and word[0] == '"' == word[-1] else word


def read_rule(words: list[str], family: str, names: AbstractSet[str], sets: dict[str, str]) -> Parsed:
    """Read ``-A CHAIN ...`` (split, quotes kept). names: chains of the table. Never raises."""
    parsed = Parsed()
    at, count, negated = 2, len(words), False
    while at < count:
        word = words[at]
        if word == "!":
            negated, at = True, at + 1
            continue
        start = at - 1 if negated else at
        try:
            if word in _BASIC:
                part = iptables_parts.basic(negated, word, words[at + 1], family)
                if part is not None:
                    parsed.parts.append(part)
                at += 2
            elif word == "-f":
                parsed.parts.append(Match("ip frag-off", "in" if negated else "not in", [0], None, 0x1FFF))
                at += 1
            elif word in ("-m", "--match"):
                end = _end_of_match(words, at + 2)
                text = " ".join(words[at:end])
                options = _options(words[at + 2 : end])
                iptables_parts.match(words[at + 1], options, text, family, sets, parsed)
                at = end
            elif word in ("-j", "--jump"):
                iptables_parts.target(words[at + 1], [unquote(one) for one in words[at + 2 :]], family, names, parsed)
                at = count
            elif word in ("-g", "--goto"):
                parsed.verdict = Verdict("goto", words[at + 1])
                at += 2
            else:
                raise OddError(f"{word} is not understood")
        except (OddError, IndexError, ValueError) as error:
            at, text = _skip(words, start)
            parsed.parts.append(Unknown(text, str(error) or "ends too early"))
            parsed.odd = str(error) or "ends too early"
        negated = False
    return parsed


def _skip(words: list[str], start: int) -> tuple[int, str]:
    """Leave out what is not understood, up to the next match or target."""
    end = start + 2 if words[start] == "!" else start + 1
    while end < len(words) and words[end] not in ("-m", "-j", "-g") and words[end] not in _BASIC and words[end] != "!":
        end += 1
    return end, " ".join(words[start:end])


def _end_of_match(words: list[str], at: int) -> int:
    """Where the options of ``-m NAME`` end."""
    while at < len(words) and words[at] not in ("-m", "-j", "-g") and words[at] not in _BASIC and words[at] != "-f":
        if words[at] == "!" and at + 1 < len(words) and (words[at + 1] in _BASIC or words[at + 1] in ("-m", "-f")):
            break
        at += 1
    return at


def _options(words: list[str]) -> list[Option]:
    found: list[Option] = []
    negated = False
    for word in words:
        if word == "!":
            negated = True
        elif word.startswith("--"):
            found.append((negated, word, []))
            negated = False
        elif found:
            found[-1][2].append(unquote(word))
        else:
            raise OddError(f"{word!r} belongs to no option")
    return found


# --- reading the host ---


def tool(family: str, backend: str) -> str | None:
    """The save command of a variant."""
    return xtables.tool("save", family, backend == IPTABLES_LEGACY)


def state_name(backend: str, family: str) -> str:
    """iptables-nft, ip6tables-nft, iptables-legacy, ip6tables-legacy."""
    return backend if family == "ip" else backend.replace("iptables", "ip6tables")


def listed_tables(family: str) -> tuple[list[str] | None, str]:
    """Legacy tables the kernel has in this namespace; None and why when that cannot be seen."""
    module = "ip6_tables" if family == "ip6" else "ip_tables"
    path = f"/proc/net/{module}_names"
    try:
        with open(path, encoding="ascii", errors="replace") as lines:
            return [line.strip() for line in lines if line.strip()], ""
    except FileNotFoundError:
        # The file is there as long as the module is; without /proc/net nothing can be told.
        if _seen("/proc/net/netlink"):
            return [], ""
        return None, "/proc/net is not there"
    except OSError as error:
        if modules.present(module) is False:
            return [], ""
        return None, f"{path}: {error.strerror}"


def _seen(path: str) -> bool:
    try:
        with open(path, "rb"):
            return True
    except PermissionError:
        return True
    except OSError:
        return False


def read_legacy(family: str, sets: dict[str, str], timeout: float) -> tuple[Ruleset, list[Gap]]:
    """All legacy tables of one family."""
    ruleset, gaps, name = Ruleset(), list[Gap](), state_name(IPTABLES_LEGACY, family)
    tables, why = listed_tables(family)
    if tables is None:
        ruleset.backends.append(BackendState(name, "unread", why))
        return ruleset, [Gap(f"firewall.{name}", why)]
    if not tables:
        ruleset.backends.append(BackendState(name, "absent"))
        return ruleset, gaps
    save, failed = tool(family, IPTABLES_LEGACY), ""
    if save is None:
        failed = f"the kernel has tables {', '.join(tables)[:100]}, {name}-save is not installed"
    else:
        for table in tables:
            saved, trouble = run_save(save, table, IPTABLES_LEGACY, family, sets, timeout)
            ruleset.chains += saved.chains
            ruleset.rules += saved.rules
            failed = failed or (f"table {table}: {trouble}" if trouble else "")
    ruleset.backends.append(BackendState(name, "unread" if failed else "ok", failed or None))
    if failed:
        gaps.append(Gap(f"firewall.{name}", failed))
    return ruleset, gaps


def run_save(save: str, table: str, backend: str, family: str, sets: dict[str, str], timeout: float) -> tuple[Saved, str]:
    """One table; the text says why it is not complete, "" when it is."""
    answer = command.run([save, "-c", "-t", table], timeout=timeout)
    if not answer.ok:
        return Saved(), answer.why()
    said = f"{answer.out[-2000:]}\n{answer.err}"
    if "incompatible" in said and f"*{table}" not in answer.out:
        return Saved(), "iptables cannot show this table"
    saved = parse_save(answer.out, backend, family, sets)
    if not saved.complete or f"*{table}" not in answer.out:
        return saved, "the listing ends too early"
    if saved.odd:
        return saved, f"line not understood: {saved.odd[0][:120]}"
    return saved, ""


def looks_like_iptables(table: str, chains: list[KernelChain]) -> bool:
    """Could iptables-nft have made this table? Its base chains are the built-in ones with their fixed hooks."""
    wanted = PRIORITIES.get(table)
    bases = [chain for chain in chains if chain.hook is not None]
    return wanted is not None and all(
        chain.name in wanted and chain.hook == chain.name.lower() and chain.priority == wanted[chain.name] for chain in bases
    )


def read_nft_table(
    kernel: Kernel, family: str, table: str, chains: list[KernelChain], sets: dict[str, str], timeout: float
) -> tuple[Ruleset | None, list[Gap]]:
    """A table of iptables-nft; None when it must be read through nft (the gap says why, if that loses something)."""
    where = f"firewall.{state_name(IPTABLES_NFT, family)} {table}"
    try:
        handles, native = kernel.handles(family, table)
    except (netlink.NetlinkError, OSError) as error:
        return None, [Gap(where, f"rule handles: {error.strerror or error}")]
    if native or not (chains or handles):
        return None, []
    save = tool(family, IPTABLES_NFT)
    if save is None:
        return None, [
            Gap(where, "iptables-nft-save is not installed: read through nft, which hides the options of iptables' matches")
        ]
    saved, trouble = run_save(save, table, IPTABLES_NFT, family, sets, timeout)
    if trouble or "[unsupported" in "".join(rule.text for rule in saved.rules if "[" in rule.text):
        return None, [Gap(where, f"{save}: {trouble or 'some rules are not shown'}: read through nft")]
    gaps: list[Gap] = []
    by_name = {chain.name: chain for chain in chains}
    for chain in saved.chains:
        real = by_name.get(chain.name)
        if real is None or real.hook is None:
            # iptables-nft shows built-in chains that the kernel does not have.
            chain.hook = chain.priority = chain.policy = chain.type = None
        else:
            chain.hook, chain.priority, chain.type, chain.handle = real.hook, real.priority, real.type, real.handle
    saved.chains = [chain for chain in saved.chains if chain.name in by_name]
    places: dict[str, list[Rule]] = {}
    for rule in saved.rules:
        places.setdefault(rule.chain, []).append(rule)
    for name in sorted(set(places) | set(handles)):
        rules, numbers = places.get(name, []), handles.get(name, [])
        if len(rules) != len(numbers):
            gaps.append(Gap(f"{where} {name}", f"{len(rules)} rules listed, {len(numbers)} in the kernel: changed meanwhile"))
            continue
        for rule, number in zip(rules, numbers):
            rule.handle = number
    return Ruleset(chains=saved.chains, rules=saved.rules), gaps
