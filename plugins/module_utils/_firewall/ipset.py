# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""ipsets: headers always, members only when asked for. Source: ipset(8).

``ipset list -t`` reads no member, so a set of a million costs nothing. Members come from ``ipset save SET``, for sets that
have no more than asked for.
"""

from __future__ import annotations

import re
import struct
from typing import Any

from ansible_collections.netops.fleet.plugins.module_utils._evidence.section import Gap
from ansible_collections.netops.fleet.plugins.module_utils._firewall import symbols
from ansible_collections.netops.fleet.plugins.module_utils._firewall.model import IPSET, BackendState, Set
from ansible_collections.netops.fleet.plugins.module_utils._firewall.symbols import OddError
from ansible_collections.netops.fleet.plugins.module_utils._kernel import command, modules, netlink
from ansible_collections.netops.fleet.plugins.module_utils._safety.owners import owner_of

_TOKEN = re.compile(r'"(?:\\.|[^"\\])*"|\S+')
_FLAGS = ("timeout", "counters", "comment", "skbinfo", "forceadd", "netmask", "bitmask", "bucketsize", "initval")
_MAX_BYTES = 64 * 1024 * 1024


def read(elements: int | None, timeout: float) -> tuple[BackendState, list[Set], list[Gap]]:
    """All ipsets. elements: read members of sets that have at most so many; None for none."""
    present = modules.present("ip_set")
    if present is False:
        return BackendState(IPSET, "absent"), [], []
    if present is None:
        why = "whether ip_set is loaded cannot be seen, and asking could load it"
        return BackendState(IPSET, "unread", why), [], [Gap("firewall.ipset", why)]
    if command.find("ipset") is None:
        names = kernel_names()
        if names == []:
            return BackendState(IPSET, "absent"), [], []
        known = "ip_set is there" if names is None else f"the kernel has sets {', '.join(names)[:100]}"
        why = f"{known}, ipset is not installed"
        return BackendState(IPSET, "unread", why), [], [Gap("firewall.ipset", why)]
    answer = command.run(["ipset", "list", "-t"], timeout=timeout, max_bytes=_MAX_BYTES)
    if not answer.ok:
        if answer.rc == 1 and re.search(r"(?i)protocol not supported|cannot open session to kernel", answer.err):
            return BackendState(IPSET, "absent"), [], []
        return BackendState(IPSET, "unread", answer.why()), [], [Gap("firewall.ipset", answer.why())]
    sets, odd = parse_list(answer.out)
    gaps = [Gap("firewall.ipset", f"line not understood: {odd[0][:120]}")] if odd else []
    for one in sets:
        if elements is not None:
            why = _read_members(one, elements, timeout)
            if why:
                gaps.append(Gap(f"firewall.ipset {one.name}", why))
    return BackendState(IPSET, "ok"), sets, gaps


def kernel_names() -> list[str] | None:
    """Names of the sets the kernel has, asked without the tool; None when it does not say.

    Source: include/uapi/linux/netfilter/ipset/ip_set.h; the oldest protocol that kernels still speak is used.
    """
    subsystem, command_list, protocol, flag_setname = 6 << 8, 7, 6, 2
    payload = struct.pack("=BBH", 2, 0, 0) + netlink.pack([(1, bytes([protocol])), (6, struct.pack(">I", flag_setname))])
    try:
        with netlink.Socket(netlink.NETFILTER) as sock:
            sock.lenient()
            answers = sock.dump(subsystem | command_list, payload)
    except OSError:
        return None
    names = [netlink.text_of(netlink.attributes(body, 4).get(2, b"")) for _kind, body in answers]
    return [name for name in names if name]


def _read_members(one: Set, limit: int, timeout: float) -> str:
    """Fill in the members; the text says why not."""
    if one.count is None:
        return "this version of ipset does not tell how many members it has: members not read"
    if one.count > limit:
        return f"{one.count} members, more than the {limit} that are read"
    answer = command.run(["ipset", "save", one.name], timeout=timeout, max_bytes=_MAX_BYTES)
    if not answer.ok:
        return answer.why()
    members, odd = parse_save(answer.out, one)
    if odd:
        return f"member not understood: {odd[0][:120]}"
    one.elements, one.count = members, len(members)
    return ""


def parse_list(text: str) -> tuple[list[Set], list[str]]:
    """Read ``ipset list -t``: sets, and lines that are none of its grammar. Never raises."""
    sets: list[Set] = []
    odd: list[str] = []
    for line in text.split("\n"):
        key, colon, value = line.partition(":")
        value = value.strip()
        if not line.strip():
            continue
        if key == "Name" and colon:
            sets.append(Set(IPSET, "", "", value, "", owner=owner_of("", value)))
        elif not sets or not colon:
            odd.append(line)
        elif key == "Type":
            sets[-1].type = value
        elif key == "Header":
            _header(sets[-1], value)
        elif key == "Number of entries" and value.isdigit():
            sets[-1].count = int(value)
    return sets, odd


def _header(one: Set, text: str) -> None:
    """``family inet hashsize 1024 maxelem 65536 timeout 60 counters comment``."""
    words = text.split()
    at = 0
    while at < len(words):
        word = words[at]
        if word in ("counters", "comment", "skbinfo", "forceadd"):
            one.flags.append(word)
            at += 1
        elif at + 1 < len(words):
            value = words[at + 1]
            if word == "family":
                one.family = value
            elif word in ("range", "netmask", "bitmask", "initval"):
                one.options[word] = value
            else:
                one.options[word] = int(value) if value.isdigit() else value
            if word == "timeout":
                one.flags.append("timeout")
            at += 2
        else:
            at += 1


def parse_save(text: str, one: Set) -> tuple[list[Any], list[str]]:
    """Members of set ``one`` in the output of ``ipset save``, and lines that are not understood. Never raises."""
    members: list[Any] = []
    odd: list[str] = []
    for line in text.split("\n"):
        words = line.split(" ") if '"' not in line else _TOKEN.findall(line)
        if len(words) < 3 or words[0] != "add" or words[1] != one.name:
            continue
        try:
            element = member(one.type, words[2])
        except (OddError, ValueError, IndexError):
            odd.append(line)
            continue
        options = _bare(words[3:])
        if "wildcard" in options and isinstance(element, list) and one.type == "hash:net,iface":
            element[-1] = f"{element[-1]}*"  # every interface whose name begins so
        members.append(["nomatch", element] if "nomatch" in options else element)
    return members, odd


def _bare(words: list[str]) -> list[str]:
    """The words of an entry's options that stand without a quote: a comment may say "nomatch" too."""
    return [word for word in words if not word.startswith('"')]


def member(kind: str, text: str) -> Any:
    """An entry as an element: an address, prefix or range; ["concat", ...] for several dimensions. Raises OddError."""
    method, _colon, dimensions = kind.partition(":")
    names = dimensions.split(",")
    if method == "list":
        return text
    values = text.split(",")
    if method == "bitmap" and dimensions == "port":
        return symbols.text_element("port", text)
    if len(values) < len(names):
        raise OddError(f"{text!r} in a set of type {kind}")
    # An interface may follow a comma only at the end: "10.0.0.0/8,physdev:eth0"
    found: list[Any] = []
    for name, value in zip(names, values):
        found += _dimension(name, value)
    return found[0] if len(found) == 1 else ["concat", *found]


def _icmp(protocol: int, text: str) -> int:
    """``8/0`` or ``echo-request`` as the number that stands for the port. Raises OddError."""
    kind, slash, code = text.partition("/")
    if slash:
        return symbols.integer(kind) << 8 | symbols.integer(code)
    if kind not in ("echo-request", "echo-reply"):
        raise OddError(f"ICMP message {kind} in a set")
    return (symbols.ICMP if protocol == 1 else symbols.ICMPV6)[kind] << 8


def _dimension(name: str, value: str) -> list[Any]:
    if name in ("ip", "net"):
        return [symbols.text_element("addr", value)]
    if name == "port":
        protocol, colon, port = value.partition(":")
        if not colon:
            return [6, symbols.text_element("port", protocol)]
        number = symbols.protocol(protocol)
        if number in (1, 58):
            return [number, _icmp(number, port)]
        return [number, symbols.text_element("port", port)]
    if name == "mark":
        return [symbols.integer(value)]
    if name == "mac":
        return [value.lower()]
    if name == "iface":
        if value.startswith("physdev:"):
            raise OddError("a port of a bridge in a set")
        return [value]
    raise OddError(f"a dimension called {name}")
