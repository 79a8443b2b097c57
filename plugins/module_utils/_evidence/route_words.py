# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""Routes as files write them: what stands behind ``ip route add``, and whole lines of shell that add routes. Nothing is run.

Whatever is not understood to the last word raises Unread: a route is never guessed. Sources: ip-route(8), route(8)
"""

from __future__ import annotations

import glob
import ipaddress
import os
import re
import shlex
from collections.abc import Iterable, Iterator
from typing import Any, Optional

from ansible_collections.netops.fleet.plugins.module_utils._kernel import procfs

MAIN = 254
TABLES = {"default": 253, "main": MAIN, "local": 255}
#: Types of routes that are compared: those that lead somewhere, and those that refuse.
REFUSING = ("blackhole", "unreachable", "prohibit", "throw")
_OTHER_TYPES = ("local", "broadcast", "anycast", "multicast", "nat", "xresolve")
#: Words of ip-route(8) that one value follows, and that do not tell routes apart.
_PASSED = frozenset(
    ("proto", "protocol", "scope", "advmss", "rtt", "rttvar", "reordering", "window", "cwnd", "initcwnd", "initrwnd", "ssthresh",
     "realms", "rto_min", "hoplimit", "pref", "quickack", "congctl", "features", "fastopen_no_cookie", "weight"),
)  # fmt: skip
_ADDS = ("add", "a", "append", "replace", "change", "prepend")
_TAKES = ("del", "delete", "d", "flush")
_REDIRECT = re.compile(r"\s\d?>>?\s*(?:&\d|/[^\s;&|]+)")
_FILES = ("usr/share/iproute2/rt_tables", "usr/lib/iproute2/rt_tables", "etc/iproute2/rt_tables")

Route = dict[str, Any]
#: A table by its number, by its name, or not said.
Table = Optional[str]


class Unread(ValueError):
    """This is more than is understood here."""


def names(root: str, path: str = "") -> dict[str, int]:
    """Numbers of routing tables by name; path: a networkd.conf that names more."""
    found = dict(TABLES)
    for file in [one for top in _FILES for one in (top, *sorted(glob.glob(os.path.join(root, f"{top}.d/*.conf"))))]:
        for line in (procfs.text_or_none(os.path.join(root, file), 1 << 16) or "").splitlines():
            words = line.partition("#")[0].split()
            if len(words) == 2 and words[0].isdigit():
                found[words[1]] = int(words[0])
    for line in (procfs.text_or_none(os.path.join(root, path), 1 << 16) or "").splitlines() if path else ():
        key, _equals, value = line.partition("=")
        for one in value.split() if key.strip() == "RouteTable" else ():
            name, _colon, number = one.partition(":")
            if number.isdigit():
                found[name] = int(number)
    return found


def wanted(
    line: int,
    dst: str | None,
    via: Iterable[str] = (),
    *,
    tables: dict[str, int],
    family: int | None = None,
    kind: str = "unicast",
    table: Table = None,
    metric: str | None = None,
    dev: str | None = None,
    onlink: bool = False,
    masked: bool = False,
    more: Iterable[str] = (),
) -> Route:
    """``{line, family, dst, via: [address], type, table, metric, dev, onlink, more}``. dst as the routes section has it.

    masked: the service itself clears bits of the destination beyond its length. more: words of ip-route(8) for the command.
    table: number; dev, metric: null where not said. Raises Unread.
    """
    if kind != "unicast" and kind not in REFUSING:
        raise Unread(kind)
    try:
        gateways = [one for one in (ipaddress.ip_address(one.partition("%")[0]) for one in via) if not one.is_unspecified]
        network = None
        if dst not in (None, "default", "any"):
            network = ipaddress.ip_network(str(dst), strict=not masked)
            family = family or network.version
            if network.version != family:
                raise Unread(str(dst))
    except ValueError as error:
        raise Unread(str(error)) from None
    if family is None:
        family = gateways[0].version if gateways else 4
    return {
        "line": line,
        "family": family,
        "dst": str(network) if network is not None and network.prefixlen else "default",
        "via": [str(one) for one in gateways],
        "type": kind,
        "table": _table(table, tables),
        "metric": _number(metric) if metric is not None else None,
        "dev": dev,
        "onlink": onlink,
        "more": list(more),
    }


def _table(said: Table, tables: dict[str, int]) -> int:
    if said is None:
        return MAIN
    return tables[said] if said in tables else _number(said)


def _number(text: str) -> int:
    value = procfs.decimal(text)
    if value is None or not 0 <= value < 1 << 32:
        raise Unread(text)
    return value


def arguments(words: list[str], line: int, tables: dict[str, int], family: int | None = None) -> Route:
    """Of what stands behind ``ip route add``. Raises Unread."""
    found: dict[str, Any] = {}
    via: list[str] = []
    more: list[str] = []
    several = False
    rest = iter(words)
    for word in rest:
        if word == "to":
            continue
        if word == "via":
            value = _next(rest)
            via.append(_next(rest) if value in ("inet", "inet6") else value)
        elif word == "nexthop":
            several = True
        elif word in ("dev", "oif"):
            found["dev"] = _next(rest)
        elif word in ("metric", "priority", "preference"):
            found["metric"] = _next(rest)
        elif word == "table":
            found["table"] = _next(rest)
        elif word == "onlink":
            found["onlink"] = True
        elif word == "src":
            more += [word, _next(rest)]
        elif word == "mtu":
            value = _next(rest)
            more += [word, value, *([_next(rest)] if value == "lock" else [])]
        elif word in _PASSED:
            _next(rest)
        elif (word in REFUSING or word in ("unicast", *_OTHER_TYPES)) and "dst" not in found:
            found["kind"] = word
        elif "dst" not in found:
            found["dst"] = word
        else:
            raise Unread(word)
    if "dst" not in found:
        raise Unread("no destination")
    if several:
        found["dev"] = None
    return wanted(line, found.pop("dst"), via, tables=tables, family=family, more=more, **found)


def _next(rest: Iterator[str]) -> str:
    try:
        return next(rest)
    except StopIteration:
        raise Unread("a value is missing") from None


def commands(text: str, line: int, link: str, tables: dict[str, int]) -> list[Route]:
    """Routes that a line of shell adds; none for a line that has nothing to do with routes. Raises Unread."""
    if not re.search(r"route|\bip\b", text):
        return []
    for name in ('"$IFACE"', "${IFACE}", "$IFACE"):
        text = text.replace(name, link)
    text = _REDIRECT.sub(" ", text)
    try:
        lexer = shlex.shlex(text, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        tokens = list(lexer)
    except ValueError as error:
        raise Unread(str(error)) from None
    found: list[Route] = []
    certain = True
    for before, words in _parts(tokens):
        if before == "||":
            continue  # what is tried only when the former failed
        if not _routing(words):
            # What stands behind it is done on its condition.
            certain = False
            continue
        if before in ("|", "&", "(", ")") or (before == "&&" and not certain) or re.search(r"[$`(){}<>*]", " ".join(words)):
            raise Unread(text)
        certain = True
        one = _command(words, line, tables)
        if one is not None:
            found.append(one)
    return found


def _parts(tokens: list[str]) -> list[tuple[str, list[str]]]:
    """[(what stands before it, words)] of the simple commands of a line."""
    out: list[tuple[str, list[str]]] = []
    before, current = ";", list[str]()
    for token in [*tokens, ";"]:
        if not set(token) <= set(";&|()"):
            current.append(token)
            continue
        if current:
            out.append((before, current))
        before, current = token, []
    return out


def _routing(words: list[str]) -> bool:
    tool = os.path.basename(words[0])
    if tool == "ip" and any(word in ("ro", "r") for word in words[1:3]):
        return True
    return "route" in tool or "route" in words


def _command(words: list[str], line: int, tables: dict[str, int]) -> Route | None:
    """None for one that only looks. Raises Unread, also for one that takes routes away."""
    tool = os.path.basename(words[0])
    if tool == "route":
        return _net_tools(words[1:], line, tables)
    if tool != "ip":
        raise Unread(tool)
    family = None
    rest = words[1:]
    while rest and rest[0] in ("-4", "-6"):
        family = int(rest.pop(0)[1])
    if not rest or rest[0] not in ("route", "ro", "r"):
        raise Unread(" ".join(words))
    verb = rest[1] if len(rest) > 1 else "show"
    if verb in _ADDS:
        return arguments(rest[2:], line, tables, family)
    if verb in ("show", "list", "ls", "get"):
        return None
    raise Unread(verb)


def _net_tools(words: list[str], line: int, tables: dict[str, int]) -> Route | None:
    """Of what stands behind route(8). A network without a length, which that tool guesses, is Unread."""
    family = 4
    rest = iter(words)
    found: dict[str, Any] = {}
    verb = length = None
    via: list[str] = []
    for word in rest:
        if word in ("-A", "-6", "--inet6", "-4", "--inet"):
            family = 6 if word in ("-6", "--inet6") or (word == "-A" and _next(rest) == "inet6") else 4
        elif verb is None:
            verb = word
        elif word == "-net":
            continue
        elif word == "-host":
            length = str(32 if family == 4 else 128)
        elif word == "netmask":
            length = _next(rest)
        elif word in ("gw", "gateway"):
            via.append(_next(rest))
        elif word in ("metric", "dev"):
            found[word] = _next(rest)
        elif word in ("mss", "window", "irtt"):
            _next(rest)
        elif word == "reject":
            found["kind"] = "unreachable"
        elif "dst" not in found:
            found["dst"] = word
        elif "dev" not in found:
            found["dev"] = word
        else:
            raise Unread(word)
    if verb is None:
        return None
    dst = found.pop("dst", None)
    if verb != "add" or dst is None:
        raise Unread(verb)
    if dst not in ("default", "0.0.0.0") and "/" not in dst:
        if length is None:
            raise Unread(dst)
        dst = f"{dst}/{length}"
    elif dst == "0.0.0.0":
        dst = "default" if length in (None, "0.0.0.0") else f"{dst}/{length}"
    return wanted(line, dst, via, tables=tables, family=family, **found)
