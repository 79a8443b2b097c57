# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""The module firewall_opening: a port is open for a while, and the kernel itself closes it.

The rule carries its end: nft's ``meta time <``, iptables' ``-m time --datestop``. So nothing has to be alive when it ends, and
rules that were saved meanwhile do not open the port again. The rule stands first in every input chain that may refuse. Once it
has ended it matches nothing, and it goes with the next run.
"""

from __future__ import annotations

import ipaddress
import re
import time
from dataclasses import dataclass
from typing import Any

from ansible_collections.netops.fleet.plugins.module_utils._firewall import read
from ansible_collections.netops.fleet.plugins.module_utils._firewall.model import (
    IPTABLES_LEGACY,
    IPTABLES_NFT,
    NFT,
    Chain,
    Rule,
    Ruleset,
)
from ansible_collections.netops.fleet.plugins.module_utils._firewall.set_plan import SetsError
from ansible_collections.netops.fleet.plugins.module_utils._kernel import command
from ansible_collections.netops.fleet.plugins.module_utils._safety import change, journal, lock, nft_state
from ansible_collections.netops.fleet.plugins.module_utils._safety.owners import owner_of

OWNER = "firewall_opening"
_PATIENCE = 10.0
_PORT = re.compile(r"\A(tcp|udp|sctp)/([0-9]{1,5})\Z")
_COMMENT = re.compile(rf"\A{nft_state.OPENING}(tcp|udp|sctp)/([0-9]+) from (\S+) until ([0-9]+)\Z")
_PLAIN = re.compile(r"\A[A-Za-z0-9_][A-Za-z0-9_./-]*\Z")
_TOOLS = {
    (IPTABLES_NFT, "ip"): ("iptables-nft", "iptables"),
    (IPTABLES_NFT, "ip6"): ("ip6tables-nft", "ip6tables"),
    (IPTABLES_LEGACY, "ip"): ("iptables-legacy", "iptables"),
    (IPTABLES_LEGACY, "ip6"): ("ip6tables-legacy", "ip6tables"),
}

#: The argument spec of the module; its documentation stands in plugins/modules/firewall_opening.py.
ARGUMENTS: dict[str, Any] = {
    "port": {"type": "str", "required": True},
    "source": {"type": "str"},
    "state": {"type": "str", "choices": ["open", "closed"], "default": "open"},
    "seconds": {"type": "int", "default": 3600},
    "extend": {"type": "bool", "default": False},
}


@dataclass(frozen=True)
class Opening:
    """source: a prefix, or "any". until: seconds since the epoch."""

    protocol: str
    port: int
    source: str
    until: int

    @property
    def comment(self) -> str:
        return f"{nft_state.OPENING}{self.protocol}/{self.port} from {self.source} until {self.until}"

    def same(self, other: Opening) -> bool:
        return (self.protocol, self.port, self.source) == (other.protocol, other.port, other.source)

    @classmethod
    def of(cls, rule: Rule) -> Opening | None:
        found = _COMMENT.match(rule.comment or "")
        return cls(found[1], int(found[2]), found[3], int(found[4])) if found else None


def wanted(params: dict[str, Any], now: float) -> Opening:
    """Raises SetsError."""
    found = _PORT.match(params["port"])
    if found is None or not 0 < int(found[2]) < 65536:
        raise SetsError(f"port is {params['port']!r}; it is like tcp/8080")
    if not 1 <= params["seconds"] <= 86400:
        raise SetsError(f"seconds is {params['seconds']}; allowed are 1 to 86400")
    source = "any"
    if params.get("source"):
        try:
            source = str(ipaddress.ip_network(params["source"], strict=False))
        except ValueError:
            raise SetsError(f"source is {params['source']!r}; it is an address or a prefix") from None
    return Opening(found[1], int(found[2]), source, int(now) + params["seconds"])


def places(ruleset: Ruleset, opening: Opening) -> tuple[list[Chain], list[str]]:
    """(input chains that need the rule, what is left alone and why)."""
    family = "" if opening.source == "any" else "ip6" if ":" in opening.source else "ip"
    found, notes = [], []
    for chain in ruleset.chains:
        if chain.hook != "input" or chain.type != "filter" or chain.family not in ("ip", "ip6", "inet"):
            continue
        if family and chain.family not in (family, "inet"):
            continue
        if chain.backend != NFT and chain.table != "filter":
            continue
        owner = owner_of(chain.table, chain.name)
        if owner == "firewalld":
            way = f"firewall-cmd --add-port={opening.port}/{opening.protocol} --timeout=SECONDS"
            notes.append(f"firewalld filters too, and is told by: {way}")
        elif owner != "user":
            notes.append(f"{chain.table} {chain.name} belongs to {owner} and is left alone")
        elif not _PLAIN.match(chain.table) or not _PLAIN.match(chain.name):
            notes.append(f"{chain.table} {chain.name}: a name that cannot be passed on to nft")
        elif _may_refuse(ruleset, chain):
            found.append(chain)
    return found, sorted(set(notes))


def everywhere(ruleset: Ruleset) -> list[Opening]:
    """What is open now, each port once, with the end that is last."""
    found: dict[tuple[str, int, str], Opening] = {}
    for rule in ruleset.rules:
        one = Opening.of(rule)
        if one is not None and one.until > time.time():
            key = (one.protocol, one.port, one.source)
            found[key] = max(one, found.get(key, one), key=lambda each: each.until)
    return [found[key] for key in sorted(found)]


def _may_refuse(ruleset: Ruleset, chain: Chain) -> bool:
    """Not with policy accept and nothing but the collection's own openings and plain accepts in it."""
    if chain.policy == "drop":
        return True
    rules = [one for one in ruleset.rules if (one.backend, one.family, one.table, one.chain) == _place(chain)]
    return any(rule.verdict is None or rule.verdict.kind not in ("accept", "continue") for rule in rules)


def _place(chain: Chain | Rule) -> tuple[str, str, str, str]:
    name = chain.name if isinstance(chain, Chain) else chain.chain
    return chain.backend, chain.family, chain.table, name


def run(params: dict[str, Any], check: bool, folder: str = journal.FOLDER) -> dict[str, Any]:
    """What the module returns. Raises SetsError, change.ChangeError, lock.Busy, OSError."""
    opening = wanted(params, time.time())
    if check:
        return _work(params, opening, True)
    change.open_folder(folder)
    with lock.Lock(folder, OWNER, wait=_PATIENCE):
        return _work(params, opening, False)


def _work(params: dict[str, Any], opening: Opening, check: bool) -> dict[str, Any]:
    ruleset = _read()
    chains, notes = places(ruleset, opening)
    there = [(rule, one) for rule in ruleset.rules for one in [Opening.of(rule)] if one is not None]
    alike = [(rule, one) for rule, one in there if one.same(opening)]
    live = [(rule, one) for rule, one in alike if one.until > time.time()]
    result: dict[str, Any] = {
        "changed": False,
        "until": None,
        "chains": [" ".join(_place(one)) for one in chains],
        "notes": notes,
    }
    if params["state"] == "closed":
        result.update(changed=bool(alike), chains=[])
        if alike and not check:
            _take_out([rule for rule, _one in alike])
        return result
    if not chains:
        notes.append("no input chain of the host refuses anything: nothing is to be opened")
        return result
    if {_place(rule) for rule, _one in live} >= {_place(one) for one in chains} and not params["extend"]:
        result["until"] = min(one.until for _rule, one in live)
        return result
    result.update(changed=True, until=opening.until)
    if not check:
        with change.unbroken():
            _put_in(chains, opening)
            # Ended ones match nothing any more; this is when they go.
            _take_out([rule for rule, one in there if one.same(opening) or one.until <= time.time()])
    return result


def _read() -> Ruleset:
    found: Ruleset = read.read().data
    unread = [one for one in found.backends if one.status == "unread"]
    if unread:
        raise SetsError("; ".join(f"rules of {one.name} could not be read: {one.why}" for one in unread))
    return found


def _put_in(chains: list[Chain], opening: Opening) -> None:
    """In all chains, or in none. Raises ChangeError."""
    problems = []
    native = [chain for chain in chains if chain.backend == NFT]
    try:
        if native:
            nft_state.transaction("".join(f"insert rule {_at(one)} {nft_rule(opening)}\n" for one in native))
        for chain in chains:
            if chain.backend != NFT:
                _iptables(chain, ["-I", chain.name, "1"], opening)
    except OSError as error:
        problems.append(str(error.strerror or error))
    now = _read()
    ours = [rule for rule in now.rules if rule.comment == opening.comment]
    missing = {_place(one) for one in chains} - {_place(rule) for rule in ours if rule.line == 1}
    problems += [f"{' '.join(place)}: the rule is not its first" for place in sorted(missing)] if not problems else []
    if problems:
        _take_out(ours)
        raise change.ChangeError(f"It did not take and is taken back: {'; '.join(problems)}")


def _at(chain: Chain) -> str:
    return f"{chain.family} {chain.table} {chain.name}"


def nft_rule(opening: Opening) -> str:
    source = "" if opening.source == "any" else f"{'ip6' if ':' in opening.source else 'ip'} saddr {opening.source} "
    match = f"{source}{opening.protocol} dport {opening.port} meta time < {opening.until}"
    return f'{match} counter accept comment "{opening.comment}"'


def _iptables(place: Chain | Rule, where: list[str], opening: Opening) -> None:
    names = _TOOLS[place.backend, place.family]
    tool = next((name for name in names if command.find(name)), names[0])
    source = [] if opening.source == "any" else ["-s", opening.source]
    end = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(opening.until))
    match = ["-p", opening.protocol, "-m", opening.protocol, "--dport", str(opening.port), "-m", "time", "--datestop", end]
    words = [tool, "-w", "5", *where, *source, *match, "-m", "comment", "--comment", opening.comment, "-j", "ACCEPT"]
    done = command.run(words, timeout=30)
    if not done.ok:
        raise OSError(5, done.why())


def _take_out(rules: list[Rule]) -> None:
    """Raises OSError."""
    native = [rule for rule in rules if rule.backend == NFT]
    if native:
        nft_state.transaction(
            "".join(f"delete rule {rule.family} {rule.table} {rule.chain} handle {rule.handle}\n" for rule in native)
        )
    for rule in rules:
        opening = Opening.of(rule)
        if rule.backend != NFT and opening is not None:
            _iptables(rule, ["-D", rule.chain], opening)
