# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""A named set of nftables, or a whole table, as a thing that is journalled: captured as listed, put back in one transaction.

    nftset "inet filter admins"  {"text": "table inet filter {...}", "digest": "..."}
    nfttable "inet netops"       the same, of a table that belongs to the collection

The digest leaves out what changes by itself (counters, remaining time, handles). A state that is only compared has no text.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ansible_collections.netops.fleet.plugins.module_utils._kernel import command, modules

_MOVING = re.compile(r" packets \d+ bytes \d+")
_ELEMENTS = re.compile(r"elements = \{.*?\}", re.DOTALL)
#: What the comment of a rule begins with that opens a port for a while.
OPENING = "netops.fleet opening "
#: A whole rule; an element may have such a comment too.
_OPENED = re.compile(rf'\baccept comment "{OPENING}([^"]+) until (\d+)"\s*\Z')
_OPEN_END = re.compile(r'\bmeta time < "[^"]*"')
_CHAIN = re.compile(r"\A\s*chain (\S+) \{")
#: nft needs so many seconds for a set of a million.
TIMEOUT = 300.0


def set_digest(types: list[str], flags: Iterable[str], timeout: int | None, counters: bool, elements: Iterable[str]) -> str:
    """elements: in nft's words, each with its comment behind it; those that end by themselves are left out."""
    head = [" . ".join(types), " ".join(sorted(flags)), str(timeout), str(counters)]
    return hashlib.sha256("\n".join([*head, *sorted(elements)]).encode("utf-8")).hexdigest()


def _digest_of(told: dict[str, Any]) -> str:
    """Of a set as ``nft -j`` lists it."""
    types, flags = told["type"], told.get("flags") or []
    flags = [flags] if isinstance(flags, str) else flags
    elements = []
    for one in told.get("elem") or []:
        more = one["elem"] if isinstance(one, dict) and "elem" in one else {"val": one}
        if "expires" not in more:
            elements.append(f"{value_text(more['val'])} {more.get('comment', '')}".rstrip())
    counters = any("counter" in one for one in told.get("stmt") or [] if isinstance(one, dict))
    kept = [flag for flag in flags if flag in ("interval", "timeout")]
    return set_digest([types] if isinstance(types, str) else types, kept, told.get("timeout"), counters, elements)


def value_text(value: Any) -> str:
    """The value of an element of a JSON listing in nft's words."""
    if isinstance(value, dict) and "concat" in value:
        return " . ".join(value_text(one) for one in value["concat"])
    if isinstance(value, dict) and "prefix" in value:
        return f"{value['prefix']['addr']}/{value['prefix']['len']}"
    if isinstance(value, dict) and "range" in value:
        return "-".join(str(one) for one in value["range"])
    return str(value)


def listed(kind: str, name: str) -> str | None:
    """What nft lists, None when the kernel has no such thing. kind: set or table. Raises OSError."""
    if modules.present("nf_tables") is False:
        return None
    answer = command.run(["nft", "list", kind, *name.split(" ")], timeout=TIMEOUT)
    if not answer.ok:
        if answer.rc == 1 and "No such file or directory" in answer.err:
            return None
        raise OSError(5, answer.why())
    return answer.out


def transaction(text: str) -> None:
    """All of it or nothing. Raises OSError with what nft says."""
    answer = command.run(["nft", "-f", "-"], timeout=TIMEOUT, stdin=text.encode("utf-8"))
    modules.forget()
    if not answer.ok:
        raise OSError(5, answer.why())


def listed_set(name: str) -> dict[str, Any] | None:
    """The set as nft lists it in JSON. Raises OSError, ValueError."""
    if listed("set", name) is None:
        return None
    answer = command.run(["nft", "-j", "list", "set", *name.split(" ")], timeout=TIMEOUT)
    if not answer.ok:
        raise OSError(5, answer.why())
    for one in json.loads(answer.out).get("nftables", []):
        if isinstance(one, dict) and isinstance(one.get("set"), dict):
            return dict(one["set"])
    raise ValueError(f"what nft lists of set {name} is not understood")


def capture_set(name: str) -> dict[str, Any] | None:
    text = listed("set", name)
    told = None if text is None else listed_set(name)
    return None if told is None else {"text": text, "digest": _digest_of(told)}


def capture_table(name: str) -> dict[str, Any] | None:
    text = listed("table", name)
    return None if text is None else {"text": text, "digest": table_digest(text)}


def table_digest(text: str) -> str:
    return hashlib.sha256(steady(text).encode("utf-8")).hexdigest()


def steady(text: str) -> str:
    """A listing without what changes by itself: counters, and ports that are open for a while."""
    return _shut(_MOVING.sub("", text))


def _shut(text: str) -> str:
    """Without the rules of ports that are open for a while."""
    return "".join(line for line in text.splitlines(keepends=True) if not _OPENED.search(line))


def put_set(name: str, state: dict[str, Any] | None) -> None:
    there = listed("set", name)
    if state is None:
        if there is not None:
            transaction(f"delete set {name}\n")
        return
    text = str(state["text"])
    if there is None:
        transaction(text)
    elif _definition(there) == _definition(text):
        transaction(f"flush set {name}\n{text}")
    else:
        transaction(f"delete set {name}\n{text}")


def _definition(text: str) -> list[str]:
    return [line.strip() for line in _ELEMENTS.sub("", text).splitlines() if line.strip()]


@dataclass(frozen=True)
class Opened:
    """A port that is open for a while. rule: in nft's words. port: like "tcp/22 from any". until: seconds since the epoch."""

    chain: str
    rule: str
    port: str
    until: int


def opened(text: str) -> list[Opened]:
    """What is still open by the rules of a table that nft listed, in their order."""
    found, chain, now = [], "", time.time()
    for line in text.splitlines():
        start, open_for = _CHAIN.match(line), _OPENED.search(line)
        chain = start[1] if start else chain
        if open_for and int(open_for[2]) > now:
            # nft lists the end in local time, which one hour of the year names twice.
            rule = _OPEN_END.sub(f"meta time < {open_for[2]}", line.strip())
            found.append(Opened(chain, rule, open_for[1], int(open_for[2])))
    return found


def put_table(name: str, state: dict[str, Any] | None, more: Iterable[Opened] = ()) -> None:
    """What is open now by a rule of the table stays open, and what was closed since it was captured stays closed.

    more: what is to be open by a rule of it besides.
    """
    # Made first, so that removing it never fails; all in one transaction.
    head = f"add table {name}\ndelete table {name}\n"
    if state is None:
        transaction(head)
        return
    there = listed("table", name)
    chains = {found[1] for found in map(_CHAIN.match, state["text"].splitlines()) if found}
    running = [*more, *opened(state["text"] if there is None else there)]
    rules = [f"insert rule {name} {one.chain} {one.rule}\n" for one in running[::-1] if one.chain in chains]
    transaction("".join([head, _shut(state["text"]), *rules]))


def same(one: dict[str, Any] | None, other: dict[str, Any] | None) -> bool:
    if one is None or other is None:
        return one is other
    return bool(one["digest"] == other["digest"])
