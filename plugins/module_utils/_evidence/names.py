# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""How this host resolves names: what it is configured to ask, and what each server answers now."""

from __future__ import annotations

import ipaddress
import os
import socket
import threading
import time
from typing import Any

from ansible_collections.netops.fleet.plugins.module_utils._evidence.section import Section
from ansible_collections.netops.fleet.plugins.module_utils._kernel import dns, procfs

RESOLV_CONF = "/etc/resolv.conf"
NSSWITCH = "/etc/nsswitch.conf"
HOSTS = "/etc/hosts"
#: What systemd-resolved writes for programs that want to ask its servers themselves.
RESOLVED_UPSTREAMS = "/run/systemd/resolve/resolv.conf"
#: Names, servers and search domains asked at most: a question for each combination, and two types.
MAX_NAMES, MAX_SERVERS, MAX_SEARCH = 16, 8, 6


def read(names: list[str] | None = None, seconds: float = 3.0, root: str = "") -> Section:
    """Configuration, and lookups of ``names`` at every server; ``seconds`` bounds all questions together.

    Data: ``{servers, search, options, source, nsswitch, stub, upstreams, lookups, getaddrinfo}``.
    servers: addresses libc asks, in order. options: ``{ndots, timeout, attempts, rotate, …}``, only those set. source: the file
    and, for a link, where it leads. nsswitch: sources of ``hosts``. stub: servers are systemd-resolved's own address, which
    asks ``upstreams`` in turn; those are asked here as well. lookups: ``[{server, name, type, status, answers, aliases, ms,
    detail}]``, with one question for the root's servers (``.``, NS) to each: a server that answers it with anything at all lives.
    A name with few dots is asked below the search domains too, as libc does.
    getaddrinfo: ``[{name, addresses, error, ms}]``, what programs of this host get. hosts: ``[{line, address, name}]``, what
    /etc/hosts says of the names that were asked for. root: folder before the files' paths.
    """
    section = Section(
        {
            "servers": [],
            "search": [],
            "options": {},
            "source": None,
            "nsswitch": [],
            "stub": False,
            "upstreams": [],
            "lookups": [],
            "getaddrinfo": [],
            "hosts": [],
        }
    )
    _configuration(section, root)
    section.data["hosts"] = hosts_lines(procfs.text_or_none(root + HOSTS, 1 << 20) or "", list(names or ())[:MAX_NAMES])
    _ask_all(section, list(names or ())[:MAX_NAMES], seconds)
    return section


def _configuration(section: Section, root: str) -> None:
    data = section.data
    path = root + RESOLV_CONF
    try:
        data.update(resolv_conf(procfs.text(path, 1 << 16)))
        data["source"] = RESOLV_CONF if not os.path.islink(path) else f"{RESOLV_CONF} -> {os.readlink(path)}"
    except OSError as error:
        section.gap("names.servers", f"{procfs.reason(error, RESOLV_CONF)}: libc asks 127.0.0.1 then")
    if data["source"] and not data["servers"]:
        section.gap("names.servers", f"no nameserver in {RESOLV_CONF}: libc asks 127.0.0.1 then")
    hosts = nsswitch_hosts(procfs.text_or_none(root + NSSWITCH, 1 << 16) or "")
    data["nsswitch"] = hosts if hosts is not None else []
    if hosts is None:
        section.gap("names.nsswitch", f"no line for hosts in {NSSWITCH}: libc asks dns, then files")
    if any(server in ("127.0.0.53", "127.0.0.54") for server in data["servers"]):
        data["stub"] = True
        content = procfs.text_or_none(root + RESOLVED_UPSTREAMS, 1 << 16)
        if content is None:
            section.gap("names.upstreams", f"{RESOLVED_UPSTREAMS} could not be read")
        else:
            data["upstreams"] = resolv_conf(content)["servers"]


def resolv_conf(content: str) -> dict[str, Any]:
    """``{servers, search, options}`` of a resolv.conf (resolv.conf(5)). Lines of other forms are passed over, as libc does."""
    servers: list[str] = []
    search: list[str] = []
    options: dict[str, Any] = {}
    for line in content.splitlines():
        if line[:1] in ("#", ";"):
            continue
        words = line.split()
        if len(words) < 2:
            continue
        if words[0] == "nameserver" and is_address(words[1]):
            servers.append(words[1])
        elif words[0] == "domain":
            search = words[1:2]
        elif words[0] == "search":
            search = words[1:]
        elif words[0] == "options":
            for word in words[1:]:
                name, colon, value = word.partition(":")
                number = procfs.decimal(value) if colon else None
                options[name] = (number if number is not None else value) if colon else True
    return {"servers": servers, "search": search, "options": options}


def hosts_lines(content: str, names: list[str]) -> list[dict[str, Any]]:
    """Lines of hosts(5) for these names: ``[{line, address, name}]``."""
    wanted = {name.rstrip(".").lower(): name for name in names}
    found = []
    for number, line in enumerate(content.splitlines() if wanted else (), 1):
        words = line.split("#", 1)[0].split()
        found += [
            {"line": number, "address": words[0], "name": wanted[word.lower()]} for word in words[1:] if word.lower() in wanted
        ]
    return found


def is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return False
    return True


def nsswitch_hosts(content: str) -> list[str] | None:
    """Sources of the ``hosts`` line, actions such as ``[NOTFOUND=return]`` included; None without such a line."""
    for line in content.splitlines():
        name, colon, rest = line.split("#", 1)[0].partition(":")
        if colon and name.strip() == "hosts":
            return rest.split()
    return None


def _ask_all(section: Section, names: list[str], seconds: float) -> None:
    data = section.data
    servers = list(dict.fromkeys([*data["servers"], *data["upstreams"]]))
    if not procfs.has_ipv6() and any(":" in server for server in servers):
        section.gap("names.lookups", "IPv6 is not loaded here: servers with IPv6 addresses were not asked")
        servers = [server for server in servers if ":" not in server]
    if len(servers) > MAX_SERVERS:
        section.gap("names.lookups", f"{MAX_SERVERS} of {len(servers)} servers asked")
    asked: list[str] = []
    for name in names:
        try:
            dns.encode_name(name)
        except dns.Unaskable as error:
            section.gap("names.lookups", str(error))
            continue
        asked += candidates(name, data["search"], data["options"].get("ndots", 1))
    asked = list(dict.fromkeys(asked))
    questions = [(server, ".", "NS") for server in servers[:MAX_SERVERS]]
    questions += [(server, name, kind) for server in servers[:MAX_SERVERS] for name in asked for kind in ("A", "AAAA")]
    deadline = time.monotonic() + seconds
    lookups: list[dict[str, Any]] = [
        {
            "server": server,
            "name": name,
            "type": kind,
            "status": "timeout",
            "answers": [],
            "aliases": [],
            "ms": None,
            "detail": "",
        }
        for server, name, kind in questions
    ]
    resolved: list[dict[str, Any]] = [
        {"name": name, "addresses": [], "error": f"no answer within {seconds:g} s", "ms": None} for name in names
    ]
    # Daemon threads: a name service that hangs must not keep this process from ending.
    threads = [threading.Thread(target=_lookup, args=(lookup, deadline), daemon=True) for lookup in lookups]
    threads += [threading.Thread(target=_getaddrinfo, args=(entry,), daemon=True) for entry in resolved]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, deadline + 0.3 - time.monotonic()))
    # Copies: a thread that is late must not change what was reported.
    data["lookups"] = [dict(lookup) for lookup in lookups]
    data["getaddrinfo"] = [dict(entry) for entry in resolved]


def candidates(name: str, search: list[str], ndots: Any) -> list[str]:
    """The names libc would try, in its order: a name with fewer than ``ndots`` dots first below each search domain."""
    if name.endswith(".") or not search:
        return [name]
    below = []
    for domain in search[:MAX_SEARCH]:
        full = f"{name}.{domain.strip('.')}" if domain.strip(".") else name
        try:
            dns.encode_name(full)
        except dns.Unaskable:
            continue
        below.append(full)
    few = name.count(".") < (ndots if isinstance(ndots, int) else 1)
    return [*below, name] if few else [name]


def _lookup(lookup: dict[str, Any], deadline: float) -> None:
    answer = dns.ask(lookup["server"], lookup["name"], lookup["type"], max(0.05, deadline - time.monotonic()))
    lookup.update(
        status=answer.status, answers=sorted(answer.answers), aliases=answer.aliases, ms=answer.ms, detail=answer.detail
    )


def _getaddrinfo(entry: dict[str, Any]) -> None:
    started = time.monotonic()
    try:
        found = socket.getaddrinfo(entry["name"], None, type=socket.SOCK_STREAM)
        addresses, error = sorted({str(item[4][0]) for item in found}), None
    except (OSError, UnicodeError) as failure:
        addresses, error = [], (getattr(failure, "strerror", None) or str(failure))
    entry.update(addresses=addresses, error=error, ms=round((time.monotonic() - started) * 1000, 1))
