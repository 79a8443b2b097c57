# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""Rules of chains, and the nft sets they name, as objects of the journal. Each is written in one step: all of it or nothing.

    iptables  BACKEND FAMILY TABLE CHAIN...     iptables-nft or iptables-legacy, ip or ip6; one commit of one table
    nft       FAMILY TABLE CHAIN... @SET...     one transaction

A state is ``{"rules": how many, "own": [...], "data": base64 of zlib of JSON}``; the JSON is ``{"chains": {name: [rule, ...] |
null}, "sets": {name: {type, interval, counter, elements: [[text, comment], ...]} | null}}``, null for what is not there. Rules
are as the tool lists them, with counters.

own: digests of the rules that a change takes away or puts in. Only those are compared and written: a rule that another program
puts beside them meanwhile is neither noticed nor moved away. A state without ``own`` is compared whole.
"""

from __future__ import annotations

import base64
import difflib
import hashlib
import json
import re
import socket
import tempfile
import zlib
from collections.abc import Iterable
from typing import Any

from ansible_collections.netops.fleet.plugins.module_utils._kernel import command, xtables

#: Seconds one commit may take; 50,000 rules need a few.
_TIMEOUT = 120.0
_NFT_COUNTS = re.compile(r"(?<=\bcounter) packets \d+ bytes \d+|(?<=bytes) used \d+ \w+| used \d+ \w+(?= |\Z)")
_COUNTS = re.compile(r"\A\[\d+:\d+\] ")
_HANDLE = re.compile(r"\A(.*) # handle (\d+)\Z")
_PLAIN_NAME = re.compile(r"\A[A-Za-z_][A-Za-z0-9_.-]*\Z")

Content = dict[str, Any]


class FilterError(OSError):
    """A tool refused, or the name or state of an object is none; strerror says why."""

    def __init__(self, why: str) -> None:
        super().__init__(5, why)


# --- states


def state_of(content: Content, own: Iterable[str] = ()) -> dict[str, Any]:
    data = zlib.compress(json.dumps(content, separators=(",", ":")).encode("utf-8"), 6)
    count = sum(len(rules or ()) for rules in content["chains"].values())
    return {"rules": count, "own": sorted(own), "data": base64.b64encode(data).decode("ascii")}


def content_of(state: dict[str, Any]) -> Content:
    found: Content = json.loads(zlib.decompress(base64.b64decode(state["data"])))
    return found


def own_of(before: Content, after: Content) -> list[str]:
    """The rules a change is about: those that go, come, or move."""
    found: set[str] = set()
    for name in {**before["chains"], **after["chains"]}:
        one, other = ([key(rule) for rule in side["chains"].get(name) or ()] for side in (before, after))
        for tag, start, end, start2, end2 in difflib.SequenceMatcher(None, one, other, autojunk=False).get_opcodes():
            if tag != "equal":
                found.update(one[start:end], other[start2:end2])
    return sorted(found)


def key(rule: str) -> str:
    """A short digest of a rule without its counters."""
    return hashlib.sha256(plain(rule).encode("utf-8")).hexdigest()[:16]


def comment(text: str | None) -> str:
    """What may stand between quotation marks in a set's entry."""
    return "".join(one for one in text or "" if one.isprintable() and one not in '"\\')[:120].strip()


def plain(rule: str) -> str:
    return _NFT_COUNTS.sub("", _COUNTS.sub("", rule))


def same(one: dict[str, Any] | None, other: dict[str, Any] | None) -> bool:
    if one is None or other is None:
        return one is other
    own = set(one.get("own") or ()) | set(other.get("own") or ())
    return bool(_compared(content_of(one), own) == _compared(content_of(other), own))


def _compared(content: Content, own: set[str]) -> Any:
    chains = {}
    for name, rules in content["chains"].items():
        keys = None if rules is None else [key(rule) for rule in rules]
        chains[name] = keys if keys is None or not own else [each for each in keys if each in own]
    sets = {name: None if made is None else _set_digest(made) for name, made in content.get("sets", {}).items()}
    return chains, sets


def alike(one: Content, other: Content) -> bool:
    """The same rules and the same sets, counters left out."""
    return bool(_compared(one, set()) == _compared(other, set()))


def _set_digest(made: dict[str, Any]) -> Any:
    """What a set holds, however its elements are written."""
    elements = sorted((_numbers(text), comment or "") for text, comment in made["elements"])
    return made["type"], bool(made["interval"]), bool(made.get("counter")), elements


def _numbers(text: str) -> tuple[tuple[int, int], ...]:
    found = []
    for field in text.split(" . "):
        low, dash, high = field.partition("-")
        address, slash, length = low.partition("/")
        first, width = _number(address)
        if slash:
            free = width - int(length)
            found.append((first >> free << free, first | (1 << free) - 1))
        else:
            found.append((first, _number(high)[0] if dash else first))
    return tuple(found)


def _number(text: str) -> tuple[int, int]:
    """(number, bits) of an address or a port."""
    if ":" in text:
        return int.from_bytes(socket.inet_pton(socket.AF_INET6, text), "big"), 128
    if "." in text:
        return int.from_bytes(socket.inet_pton(socket.AF_INET, text), "big"), 32
    return int(text), 16


# --- reading and writing


def capture_iptables(name: str) -> dict[str, Any]:
    return state_of(_read_iptables(*_words(name)))


def put_iptables(name: str, state: dict[str, Any] | None) -> None:
    backend, family, table, chains = _words(name)
    if state is None:
        raise FilterError("rules of a chain have no state without rules")
    text = iptables_text(_read_iptables(backend, family, table, chains), state, table)
    if text:
        run_iptables(backend, family, text)


def run_iptables(backend: str, family: str, text: str, test: bool = False) -> None:
    """Commit a text for iptables-restore, other chains untouched. test: only whether it would do."""
    restore = xtables.tool("restore", family, backend == "iptables-legacy")
    if restore is None:
        raise FilterError(f"{backend} for {family} is not installed")
    argv = [restore, "--noflush", "--counters", *(["--test"] if test else [])]
    if backend == "iptables-legacy":
        argv.append("--wait")
    done = command.run(argv, timeout=_TIMEOUT, stdin=text.encode("utf-8"))
    if not done.ok:
        raise FilterError(done.why())


def _words(name: str) -> tuple[str, str, str, list[str]]:
    words = name.split(" ")
    if len(words) < 4 or words[0] not in ("iptables-nft", "iptables-legacy") or words[1] not in ("ip", "ip6"):
        raise FilterError(f"{name[:80]!r} is no chain of iptables")
    return words[0], words[1], words[2], words[3:]


def _read_iptables(backend: str, family: str, table: str, chains: list[str]) -> Content:
    save = xtables.tool("save", family, backend == "iptables-legacy")
    if save is None:
        raise FilterError(f"{backend} for {family} is not installed")
    done = command.run([save, "--counters", "--table", table], timeout=_TIMEOUT)
    if not done.ok:
        raise FilterError(done.why())
    found: dict[str, list[str] | None] = dict.fromkeys(chains)
    for line in done.out.split("\n"):
        if line[:1] == ":":
            chain = line[1:].split(" ", 1)[0]
            if chain in found:
                found[chain] = []
        elif line[:1] == "[":
            words = line.split(" ", 3)
            rules = found.get(words[2]) if len(words) > 2 and words[1] == "-A" else None
            if rules is not None:
                rules.append(line)
    return {"chains": found}


def iptables_text(present: Content, state: dict[str, Any], table: str) -> str:
    """What iptables-restore --noflush needs to bring these chains into ``state``; "" when nothing. Deletions go first, so that
    each new rule is placed by a neighbour that stays."""
    wanted, own = content_of(state), set(state["own"])
    head, lines, tail = [f"*{table}"], [], []
    for chain, rules in wanted["chains"].items():
        there = present["chains"].get(chain)
        if rules is None:
            if there is not None:
                lines.append(f"-F {chain}")
                tail.append(f"-X {chain}")
            continue
        if there is None:
            head.append(f":{chain} - [0:0]")
            there = []
        deleted, inserted = edits(there, final(there, rules, own))
        lines += [f"-D {chain} {place}" for place, _at in deleted]
        left = len(there) - len(deleted)
        for place, rule in inserted:
            counts = _COUNTS.match(rule)
            shown = counts[0] if counts else ""
            body = rule[counts.end() :] if counts else rule
            rest = body.partition(f"-A {chain}")[2]
            lines.append(f"{shown}-A {chain}{rest}" if place > left else f"{shown}-I {chain} {place}{rest}")
            left += 1
    if len(head) == 1 and not lines and not tail:
        return ""
    return "\n".join([*head, *lines, *tail, "COMMIT", ""])


def final(present: list[str], wanted: list[str], own: set[str]) -> list[str]:
    """The list as it should become: the wanted rules, and those of others that are there now."""
    if not own:
        return wanted
    others = [rule for rule in present if key(rule) not in own]
    known = [rule for rule in wanted if key(rule) not in own]
    aligned: dict[int, int] = {}
    matcher = difflib.SequenceMatcher(None, [key(rule) for rule in known], [key(rule) for rule in others], autojunk=False)
    for block in matcher.get_matching_blocks():
        aligned.update({block.a + step: block.b + step for step in range(block.size)})
    found: list[str] = []
    at = 0
    # What somebody put at the very top stays there.
    first = min(aligned.values(), default=len(others))
    while at < first and key(present[at]) not in own:
        found.append(others[at])
        at += 1
    number = 0
    for rule in wanted:
        if key(rule) in own:
            found.append(rule)
            continue
        place = aligned.get(number)
        number += 1
        if place is not None:
            found += others[at : place + 1]
            at = max(at, place + 1)
    return found + others[at:]


def edits(present: list[str], wanted: list[str]) -> tuple[list[tuple[int, int]], list[tuple[int, str]]]:
    """Deletions as (place when the earlier ones are done, index in present), insertions as (place, rule)."""
    one, other = [key(rule) for rule in present], [key(rule) for rule in wanted]
    deleted: list[int] = []
    inserted: list[tuple[int, str]] = []
    for tag, start, end, start2, end2 in difflib.SequenceMatcher(None, one, other, autojunk=False).get_opcodes():
        if tag in ("delete", "replace"):
            deleted += range(start, end)
        if tag in ("insert", "replace"):
            inserted += [(start2 + step + 1, wanted[start2 + step]) for step in range(end2 - start2)]
    # Each deletion moves what follows up by one.
    return [(index + 1 - number, index) for number, index in enumerate(deleted)], inserted


def rehearse(kind: str, name: str, content: Content, own: set[str]) -> None:
    """Let the tool look at the rules of ``content`` that are ``own``, without a change. Raises OSError with what it says.

    nft shows some rules in other words than those it takes; they are loaded in a network namespace of their own, and compared.
    """
    if kind == "nft":
        family, table, _chains, _sets = _nft_words(name)
        lines = [
            f"add rule {family} {table} {chain} {rule}\n"
            for chain, rules in content["chains"].items()
            for rule in rules or ()
            if key(rule) in own
        ]
        run_nft("".join(lines), test=True)
        _load_apart(family, table, content, own)
        return
    backend, family, table, _chains = _words(name)
    found = [rule for rules in content["chains"].values() for rule in rules or () if key(rule) in own]
    run_iptables(backend, family, "\n".join([f"*{table}", *found, "COMMIT", ""]), test=True)


#: Nothing of it is data; the words behind it are.
_LOAD = 'nft -f "$1" && nft list table "$2" "$3"'


def _load_apart(family: str, table: str, content: Content, own: set[str]) -> None:
    wanted = {chain: [plain(rule) for rule in rules or () if key(rule) in own] for chain, rules in content["chains"].items()}
    text = "".join(f"chain {chain} {{\n" + "".join(f"{rule}\n" for rule in rules) + "}\n" for chain, rules in wanted.items())
    with tempfile.NamedTemporaryFile("w", prefix="netops_fleet_", encoding="utf-8") as file:
        file.write(f"table {family} {table} {{\n{text}}}\n")
        file.flush()
        done = command.run(["unshare", "--net", "sh", "-c", _LOAD, "sh", file.name, family, table], timeout=_TIMEOUT)
    if not done.ok:
        raise FilterError(f"tried in a namespace of its own: {done.why()}")
    seen = [plain(line[2:]) for line in done.out.split("\n") if line[:2] == "\t\t"]
    other = next((rule for rule in (one for rules in wanted.values() for one in rules) if rule not in set(seen)), None)
    if other is not None:
        raise FilterError(f"nft would show this rule in other words once it is put back: {other[:200]}")


# --- nft


def capture_nft(name: str) -> dict[str, Any]:
    family, table, chains, sets = _nft_words(name)
    listed = _read_chains(family, table, chains)
    content: Content = {
        "chains": {chain: None if rules is None else [text for text, _handle in rules] for chain, rules in listed.items()},
        "sets": {one: _read_set(family, table, one) for one in sets},
    }
    return state_of(content)


def put_nft(name: str, state: dict[str, Any] | None) -> None:
    family, table, chains, sets = _nft_words(name)
    if state is None:
        raise FilterError("rules of a chain have no state without rules")
    text = nft_text(family, table, _read_chains(family, table, chains), sets, state)
    if text:
        run_nft(text)


def run_nft(text: str, test: bool = False) -> None:
    done = command.run(["nft", *(["--check"] if test else []), "-f", "-"], timeout=_TIMEOUT, stdin=text.encode("utf-8"))
    if not done.ok:
        raise FilterError(done.why())


def _nft_words(name: str) -> tuple[str, str, list[str], list[str]]:
    words = name.split(" ")
    if len(words) < 3 or words[0] not in ("ip", "ip6", "inet"):
        raise FilterError(f"{name[:80]!r} is no table of nft")
    if not all(_PLAIN_NAME.match(word.lstrip("@")) for word in words[1:]):
        raise FilterError(f"{name[:80]!r}: a name that nft does not take without quotes")
    return words[0], words[1], [one for one in words[2:] if one[0] != "@"], [one[1:] for one in words[2:] if one[0] == "@"]


def _read_chains(family: str, table: str, chains: list[str]) -> dict[str, list[tuple[str, int]] | None]:
    """(text, handle) of each rule; None for a chain that is not there."""
    found: dict[str, list[tuple[str, int]] | None] = {}
    for chain in chains:
        done = command.run(["nft", "-a", "list", "chain", family, table, chain], timeout=_TIMEOUT)
        if not done.ok:
            if "No such file" in done.err:
                found[chain] = None
                continue
            raise FilterError(done.why())
        rules: list[tuple[str, int]] = []
        for line in done.out.split("\n"):
            rule = _HANDLE.match(line[2:]) if line[:2] == "\t\t" else None
            if rule is not None:
                rules.append((rule[1], int(rule[2])))
        found[chain] = rules
    return found


def nft_text(
    family: str, table: str, listed: dict[str, list[tuple[str, int]] | None], there: Iterable[str], state: dict[str, Any]
) -> str:
    """One transaction: sets that come, rules that go and come, sets that go."""
    wanted, own = content_of(state), set(state["own"])
    lines: list[str] = []
    tail: list[str] = []
    place = f"{family} {table}"
    for name, made in wanted.get("sets", {}).items():
        present = _read_set(family, table, name)
        if made is None:
            if present is not None:
                tail.append(f"delete set {place} {name}")
        elif present is None:
            lines += _set_lines(place, name, made)
        elif _set_digest(present) != _set_digest(made):
            if (present["type"], present["interval"]) != (made["type"], made["interval"]):
                raise FilterError(f"set {place} {name} is there, of another type")
            lines += [f"flush set {place} {name}", *_element_lines(place, name, made)]
    for chain, rules in wanted["chains"].items():
        present_rules = listed.get(chain)
        if rules is None:
            if present_rules is not None:
                lines += [f"flush chain {place} {chain}", f"delete chain {place} {chain}"]
            continue
        if present_rules is None:
            lines.append(f"add chain {place} {chain}")
            present_rules = []
        texts = [text for text, _handle in present_rules]
        deleted, inserted = edits(texts, final(texts, rules, own))
        gone = {index for _place, index in deleted}
        kept = [handle for index, (_text, handle) in enumerate(present_rules) if index not in gone]
        for number, (at, rule) in enumerate(inserted):
            # Of the rules ahead of this one, ``number`` are new.
            behind = at - 1 - number
            where = f"insert rule {place} {chain} position {kept[behind]}" if behind < len(kept) else f"add rule {place} {chain}"
            lines.append(f"{where} {rule}")
        lines += [f"delete rule {place} {chain} handle {present_rules[index][1]}" for _place, index in deleted]
    return "".join(f"{line}\n" for line in (*lines, *tail))


def room(made: dict[str, Any]) -> int | None:
    """The size of a set whose elements are single values; None for intervals.

    With a size the kernel takes its plain hash table, which costs a packet about half of what the one that grows does. So there
    is room for three times as many again.
    """
    return None if made["interval"] else max(1024, 1 << (4 * len(made["elements"]) - 1).bit_length())


def _set_lines(place: str, name: str, made: dict[str, Any]) -> list[str]:
    size = room(made)
    flags = " flags interval;" if size is None else f" size {size};"
    counter = " counter;" if made.get("counter") else ""
    return [f"add set {place} {name} {{ type {made['type']};{flags}{counter} }}", *_element_lines(place, name, made)]


def _element_lines(place: str, name: str, made: dict[str, Any]) -> list[str]:
    texts = [text if not comment else f'{text} comment "{comment}"' for text, comment in made["elements"]]
    return [f"add element {place} {name} {{ {', '.join(texts)} }}"] if texts else []


def _read_set(family: str, table: str, name: str) -> dict[str, Any] | None:
    done = command.run(["nft", "-j", "list", "set", family, table, name], timeout=_TIMEOUT)
    if not done.ok:
        if "No such file" in done.err:
            return None
        raise FilterError(done.why())
    try:
        made = next(one["set"] for one in json.loads(done.out)["nftables"] if "set" in one)
        flags = made.get("flags", [])
        flags = [flags] if isinstance(flags, str) else flags
        if set(flags) - {"interval"}:
            raise FilterError(f"set {family} {table} {name} has flags {', '.join(flags)}, and is somebody else's")
        kind = made["type"] if isinstance(made["type"], str) else " . ".join(made["type"])
        elements = [_element(one) for one in made.get("elem", [])]
        return {"type": kind, "interval": "interval" in flags, "counter": bool(made.get("stmt")), "elements": elements}
    except (KeyError, ValueError, TypeError, StopIteration) as error:
        raise FilterError(f"set {family} {table} {name}: its listing is not understood: {error}") from None


def _element(one: Any) -> list[Any]:
    """[text, comment] of an element of nft's JSON."""
    comment = None
    if isinstance(one, dict) and "elem" in one:
        comment, one = one["elem"].get("comment"), one["elem"]["val"]
    if isinstance(one, dict) and "concat" in one:
        return [" . ".join(_value(each) for each in one["concat"]), comment]
    return [_value(one), comment]


def _value(one: Any) -> str:
    if isinstance(one, dict):
        if "prefix" in one:
            return f"{one['prefix']['addr']}/{one['prefix']['len']}"
        low, high = one["range"]
        return f"{_value(low)}-{_value(high)}"
    if isinstance(one, (str, int)):
        return _port(one)
    raise ValueError(f"{one!r} as an element")


def _port(one: str | int) -> str:
    """nft names ports it knows, unless told not to."""
    text = str(one)
    return text if text[:1].isdigit() or ":" in text else str(socket.getservbyname(text))
