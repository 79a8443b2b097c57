# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""Static routes of the files of networkd, NetworkManager, ifupdown and ifcfg; each with its line. Text in, routes out.

What a service learns (DHCP, router advertisements) is no static route and is passed over. What is not understood is told by its
line, and never guessed. Sources: systemd.network(5), nm-settings-keyfile(5), interfaces(5), sysconfig.txt of initscripts,
ifroute(5) and routes(5) of wicked
"""

from __future__ import annotations

import re
from typing import Any

from ansible_collections.netops.fleet.plugins.module_utils._evidence import route_words
from ansible_collections.netops.fleet.plugins.module_utils._evidence.route_words import Route, Unread, wanted

_TRUE = ("yes", "true", "on", "1")
#: Keys of networkd's [Route] that do not tell routes apart.
_PASSED = frozenset(
    ("Scope", "Protocol", "IPv6Preference", "InitialCongestionWindow", "InitialAdvertisedReceiveWindow", "QuickAck",
     "FastOpenNoCookie", "TTLPropagate", "TCPAdvertisedMaximumSegmentSize", "TCPCongestionControlAlgorithm",
     "TCPRetransmissionTimeoutSec", "HopLimit"),
)  # fmt: skip
#: Attributes of NetworkManager's routes that do not tell them apart, beside locks (lock-mtu).
_ATTRIBUTES = frozenset(
    ("cwnd", "initcwnd", "initrwnd", "mtu", "window", "quickack", "rto_min", "scope", "weight", "advmss"),
)  # fmt: skip
_NO_ROUTES = ("disabled", "ignore", "link-local", "shared")
_FOURTH = re.compile(r"\A(ADDRESS|NETMASK|GATEWAY|METRIC)(\d+)\Z", re.ASCII)

#: (routes, lines that were not understood)
Parsed = tuple[list[Route], list[int]]
#: [(section, [(line, key, value)])]
Numbered = list[tuple[str, list[tuple[int, str, str]]]]


def sections(text: str) -> Numbered:
    """Of a file with ``[Section]`` headings, in order; lines that are none of the form are left out."""
    found: Numbered = []
    for number, raw in enumerate(text.splitlines(), 1):
        line = raw.strip()
        if line.startswith("[") and line.endswith("]"):
            found.append((line[1:-1], []))
        elif found and "=" in line and not line.startswith(("#", ";")):
            key, _equals, value = line.partition("=")
            found[-1][1].append((number, key.strip(), value.strip()))
    return found


def networkd(files: list[tuple[str, str]], tables: dict[str, int]) -> list[tuple[str, Parsed]]:
    """files: [(path, text)] of a .network file and its drop-ins. An empty ``Gateway=`` may take back those that [Network] had.

    Not every version of networkd does; what is uncertain is no route that must be there.
    """
    out: list[tuple[str, Parsed]] = [(path, ([], [])) for path, _text in files]
    plain: list[tuple[int, int, str]] = []
    for place, (_path, text) in enumerate(files):
        routes, unread = out[place][1]
        for name, pairs in sections(text):
            if name == "Route" and pairs:
                try:
                    routes += _networkd_route(pairs, tables)
                except Unread:
                    unread.append(pairs[0][0])
            for line, key, value in pairs if name == "Network" else ():
                if key == "Gateway":
                    plain = [*plain, (place, line, value)] if value else []
    for place, line, value in plain:
        routes, unread = out[place][1]
        try:
            routes += [] if _learned(value) else [wanted(line, None, [value], tables=tables)]
        except Unread:
            unread.append(line)
    return out


def _learned(gateway: str) -> bool:
    """A gateway that DHCP or a router tells."""
    return gateway.startswith("_") or gateway in ("dhcp", "ipv6ra")


def _networkd_route(pairs: list[tuple[int, str, str]], tables: dict[str, int]) -> list[Route]:
    """Raises Unread."""
    said: dict[str, Any] = {}
    hops: list[str] = []
    lines: dict[str, int] = {}
    more: list[str] = []
    for number, key, value in pairs:
        if key == "MultiPathRoute":
            hops = [*hops, re.split(r"[@\s]", value)[0]] if value else []
        elif not value:
            said.pop(key, None)
            lines.pop(key, None)
        else:
            said[key], lines[key] = value, number
    gateway = said.pop("Gateway", None)
    if gateway and _learned(gateway):
        return []
    for key, name in (("PreferredSource", "src"), ("MTUBytes", "mtu")):
        value = said.pop(key, "")
        if value and not value.startswith("_"):
            more += [name, value]
    line = lines.get("Destination") or lines.get("Gateway") or pairs[0][0]
    dst, table, metric, kind = (said.pop(key, None) for key in ("Destination", "Table", "Metric", "Type"))
    onlink = said.pop("GatewayOnLink", said.pop("GatewayOnlink", "no")).lower() in _TRUE
    by_object = said.pop("NextHop", None)
    if set(said) - _PASSED or (dst is None and gateway is None and not hops):
        raise Unread(str(sorted(said)))
    found = wanted(
        line,
        dst,
        [*([gateway] if gateway else []), *hops],
        tables=tables,
        kind=kind or "unicast",
        table=table,
        metric=metric,
        onlink=onlink,
        masked=True,
        more=more,
    )
    return [{**found, "nexthop": True}] if by_object else [found]


def keyfile(text: str, tables: dict[str, int]) -> Parsed:
    """Of a profile of NetworkManager. Nothing else of it is kept."""
    routes: list[Route] = []
    unread: list[int] = []
    for name, pairs in sections(text):
        if name not in ("ipv4", "ipv6"):
            continue
        family = int(name[3])
        values = {key: value for _line, key, value in pairs}
        if values.get("method") in _NO_ROUTES:
            continue
        never = values.get("never-default", "").lower() in _TRUE
        table = values.get("route-table")
        table = None if table == "0" else table
        gateways = [(line, value) for line, key, value in pairs if key == "gateway"]
        gateways += [
            (line, value.split(",")[1].strip())
            for line, key, value in pairs
            if re.match(r"\Aaddress\d+\Z", key) and "," in value and value.split(",")[1].strip()
        ]
        for line, key, value in pairs:
            if not re.match(r"\Aroutes?\d*\Z", key) or not value:
                continue
            try:
                one = _keyfile_route(line, value, values.get(f"{key}_options", ""), table, family, tables)
            except Unread:
                unread.append(line)
                continue
            if not (never and one["dst"] == "default"):
                routes.append(one)
        for line, value in gateways[:1] if not never else ():
            try:
                one = wanted(line, None, [value], tables=tables, family=family, table=table)
            except Unread:
                unread.append(line)
                continue
            if one["via"]:
                routes.append(one)
    return routes, unread


def _keyfile_route(line: int, value: str, options: str, table: str | None, family: int, tables: dict[str, int]) -> Route:
    """``destination/length[,gateway[,metric]]``, with attributes ``name=value,...``. Raises Unread."""
    parts = [one.strip() for one in value.split(",")]
    more: list[str] = []
    found: dict[str, Any] = {"table": table}
    for option in filter(None, (one.strip() for one in options.split(","))):
        name, _equals, said = option.partition("=")
        if name in ("table", "type"):
            found["kind" if name == "type" else name] = None if (name, said) == ("table", "0") else said
        elif name == "onlink":
            found[name] = said.lower() in _TRUE
        elif name in ("src", "mtu"):
            more += [name, said]
        elif name not in _ATTRIBUTES and not name.startswith("lock-"):
            raise Unread(name)
    if len(parts) > 3 or "/" not in parts[0]:
        raise Unread(value)
    via = parts[1:2] if parts[1:2] != [""] else []
    metric = parts[2] if len(parts) > 2 and parts[2] else None
    return wanted(line, parts[0], via, tables=tables, family=family, metric=metric, masked=True, more=more, **found)


def interfaces(text: str, links: dict[str, str], tables: dict[str, int]) -> list[tuple[str, Parsed]]:
    """[(link, its routes)] of the stanzas of a file of ifupdown. links: those that are up, by the names of their stanzas."""
    out: list[tuple[str, Parsed]] = []
    family, method = 4, ""
    inside = False
    gateway: tuple[int, str] | None = None
    metric: str | None = None

    def close() -> None:
        if inside and gateway and method == "static":
            routes, unread = out[-1][1]
            try:
                routes.append(wanted(gateway[0], None, [gateway[1]], tables=tables, family=family, metric=metric))
            except Unread:
                unread.append(gateway[0])

    for number, line in _joined(text):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if words[0] in ("auto", "source", "source-directory", "mapping", "iface") or words[0].startswith(("allow-", "no-")):
            close()
            gateway = metric = None
            inside = words[0] == "iface" and len(words) >= 4 and words[2] in ("inet", "inet6") and words[1] in links
            if inside:
                family, method = (4 if words[2] == "inet" else 6), words[3]
                out.append((links[words[1]], ([], [])))
        elif inside and words[0] == "gateway" and len(words) > 1:
            gateway = (number, words[1])
        elif inside and words[0] == "metric" and len(words) > 1:
            metric = words[1]
        elif inside and words[0] in ("up", "post-up", "pre-up"):
            routes, unread = out[-1][1]
            try:
                routes += route_words.commands(line.partition(words[0])[2], number, out[-1][0], tables)
            except Unread:
                unread.append(number)
    close()
    return out


def _joined(text: str) -> list[tuple[int, str]]:
    """Lines with those that a backslash continues, each with the number of its first."""
    out: list[tuple[int, str]] = []
    going = False
    for number, raw in enumerate(text.splitlines(), 1):
        line = raw[:-1] if raw.endswith("\\") else raw
        if going:
            out[-1] = (out[-1][0], f"{out[-1][1]} {line}")
        else:
            out.append((number, line))
        going = raw.endswith("\\")
    return out


def red_hat(text: str, family: int, tables: dict[str, int]) -> Parsed:
    """A file ``route-NAME`` (family 4) or ``route6-NAME``: lines as behind ``ip route add``, or ADDRESS0=, NETMASK0=, ..."""
    routes: list[Route] = []
    unread: list[int] = []
    numbered = _assigned(text)
    if family == 4 and any(_FOURTH.match(key) for key in numbered):
        for key in numbered:
            found = _FOURTH.match(key)
            if not found or found.group(1) != "ADDRESS":
                continue
            line, address = numbered[key]
            mask, gateway, metric = (
                numbered.get(f"{name}{found.group(2)}", (0, ""))[1] for name in ("NETMASK", "GATEWAY", "METRIC")
            )
            try:
                if not mask:
                    raise Unread(key)
                via = [gateway] if gateway else []
                routes.append(wanted(line, f"{address}/{mask}", via, tables=tables, metric=metric or None, masked=True))
            except Unread:
                unread.append(line)
        return routes, unread
    for number, raw in _joined(text):
        words = raw.partition("#")[0].split()
        if not words:
            continue
        try:
            if re.search(r"[$`;|&]", raw):
                raise Unread(raw)
            routes.append(route_words.arguments(words, number, tables, family))
        except Unread:
            unread.append(number)
    return routes, unread


def _assigned(text: str) -> dict[str, tuple[int, str]]:
    """{key: (line, value)} of shell assignments."""
    found = {}
    for number, raw in enumerate(text.splitlines(), 1):
        key, equals, value = raw.strip().partition("=")
        if equals and key.isidentifier():
            found[key] = (number, value.partition("#")[0].strip().strip("\"'"))
    return found


def ifcfg(text: str, tables: dict[str, int]) -> Parsed:
    """Gateways of an ifcfg file of Red Hat's."""
    numbered = _assigned(text)
    if _asks(numbered):
        return [], []
    routes: list[Route] = []
    unread: list[int] = []
    for key, family in (("GATEWAY", 4), ("GATEWAY0", 4), ("IPV6_DEFAULTGW", 6)):
        line, value = numbered.get(key, (0, ""))
        refused = numbered.get("DEFROUTE" if family == 4 else "IPV6_DEFROUTE", (0, ""))[1].lower() in ("no", "false", "0")
        if not value or refused or (key == "GATEWAY0" and routes):
            continue
        try:
            routes.append(wanted(line, None, [value.partition("%")[0]], tables=tables, family=family))
        except Unread:
            unread.append(line)
    return routes, unread


def _asks(numbered: dict[str, tuple[int, str]]) -> bool:
    return numbered.get("BOOTPROTO", (0, ""))[1].lower().startswith(("dhcp", "bootp"))


def suse(text: str, tables: dict[str, int]) -> Parsed:
    """A file ``routes`` or ``ifroute-NAME``: destination, gateway, mask, interface, type, options; ``-`` is not said."""
    routes: list[Route] = []
    unread: list[int] = []
    for number, raw in enumerate(text.splitlines(), 1):
        words = raw.partition("#")[0].split()
        if not words:
            continue
        dst, gateway, mask, dev = (*words, "-", "-", "-")[:4]
        if mask != "-" and "/" not in dst and dst != "default":
            dst = f"{dst}/{mask.lstrip('/')}"
        if dst != "default" and "/" not in dst:
            unread.append(number)  # how long it is was never told the same way
            continue
        said = [*words[4:5], dst] if words[4:5] not in ([], ["-"]) else [dst]
        said += (["via", gateway] if gateway != "-" else []) + (["dev", dev] if dev != "-" else []) + words[5:]
        try:
            routes.append(route_words.arguments(said, number, tables))
        except Unread:
            unread.append(number)
    return routes, unread
