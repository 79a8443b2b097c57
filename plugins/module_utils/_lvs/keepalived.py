# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""keepalived's configuration from what is wanted. Pure: text out. Words as of keepalived.conf(5), 2.2 and newer.

A director is a dictionary:

    router_id    text
    folder       of the weight files, see track.py
    user         who runs scripts (default root)
    vrrp         list of {name, interface, id, priority, advertise (s), source, peers: [address], addresses: [prefix],
                 preempt: bool, preempt_delay, track_interfaces: [link], password}; empty: no failover
    sync         {interface, instance, id, port, group} or null
    services     as of the module lvs_wrr, each with ``check`` and ``quorum``, ``alpha``, ``interval``, ``delay_down``
    leaving      services with servers that are no longer wanted but still in use: kept at weight 0
    timeouts     {tcp, tcp_fin, udp}
    ramp         command of the slow start, empty for none

A check is {type: http|https|tcp|none, path, status, body (regular expression), port, timeout, retries, host}. The usual type is
tcp, and none where there is no TCP port to ask.
"""

from __future__ import annotations

import ipaddress
import os
import re
from typing import Any

from ansible_collections.netops.fleet.plugins.module_utils._lvs import track
from ansible_collections.netops.fleet.plugins.module_utils._lvs.model import (
    Server,
    ServerKey,
    Service,
    ServiceKey,
    Wrong,
    flag_names,
    wanted_service,
    wanted_table,
)

_METHODS = {"dr": "DR", "tunnel": "TUN", "nat": "NAT"}
_UNSAFE = re.compile(r"[\x00-\x1f\x7f\"{}\\]")


def word(value: object, where: str) -> str:
    """A value that cannot end its line, its quotes or its block. Raises Wrong."""
    text = str(value)
    if not text or _UNSAFE.search(text) or text[0] in "#!@$":
        raise Wrong(
            f"{where}: {text!r} has characters that keepalived.conf(5) gives a meaning: quotes, braces, line ends, # ! @ $"
        )
    return text


def name(value: object, where: str) -> str:
    text = word(value, where)
    if not re.fullmatch(r"[A-Za-z0-9_.:@-]+", text):
        raise Wrong(f"{where}: {text!r}; allowed are letters, digits and _ . : @ -")
    return text


def number(value: object, where: str, least: float = 0) -> str:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value < least:
        raise Wrong(f"{where}: {value!r}; allowed is a number from {least:g}")
    return f"{value:g}" if isinstance(value, float) else str(value)


def configuration(director: dict[str, Any]) -> str:
    """The whole file. Raises Wrong."""
    services = _with_leaving(director.get("services") or [], director.get("leaving") or [])
    wanted = wanted_table(services, director.get("timeouts"))
    entries = dict(zip(wanted.services, services))
    lines = ["# Written by netops.fleet.lvs_director; changes by hand are lost.", *_global(director), ""]
    folder = str(director.get("folder") or "")
    for key, service in wanted.services.items():
        for server in service.servers:
            lines += _track_file(folder, key, server)
    for instance in director.get("vrrp") or []:
        lines += _vrrp(instance)
    for key, service in wanted.services.items():
        lines += _service(service, entries[key], director)
    return "\n".join(lines) + "\n"


def _with_leaving(services: list[dict[str, Any]], leaving: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A server that leaves is checked like the others of its service; one whose service leaves too is not."""
    left = {wanted_service(entry).key: entry for entry in leaving}
    found = []
    for entry in services:
        also = left.pop(wanted_service(entry).key, {"servers": []})["servers"]
        found.append({**entry, "servers": [*(entry.get("servers") or []), *also]})
    return found + [{**entry, "check": {"type": "none"}} for entry in left.values()]


def _global(director: dict[str, Any]) -> list[str]:
    lines = [
        "global_defs {",
        f"    router_id {name(director.get('router_id') or 'director', 'router_id')}",
        "    enable_script_security",
        f"    script_user {name(director.get('user') or 'root', 'user')}",
        # Version 3 counts in hundredths of a second; 2 in seconds.
        "    vrrp_version 3",
        # A new master says so again, for switches that lose the first word.
        "    vrrp_garp_master_delay 1",
        "    vrrp_garp_master_refresh 60",
    ]
    timeouts = director.get("timeouts") or {}
    words = [
        f"{ours} {number(timeouts[key], f'timeouts, {key}', 1)}"
        for key, ours in (("tcp", "tcp"), ("tcp_fin", "tcpfin"), ("udp", "udp"))
        if timeouts.get(key)
    ]
    if words:
        lines.append(f"    lvs_timeouts {' '.join(words)}")
    sync = director.get("sync")
    if sync:
        line = (
            f"    lvs_sync_daemon {name(sync['interface'], 'sync, interface')} {name(sync['instance'], 'sync, instance')} "
            f"id {number(sync.get('id', 0), 'sync, id')}"
        )
        if sync.get("port"):
            line += f" port {number(sync['port'], 'sync, port', 1)}"
        if sync.get("group"):
            line += f" group {ipaddress.ip_address(str(sync['group']))}"
        lines.append(line)
    return [*lines, "}"]


def _track_file(folder: str, service: ServiceKey, server: ServerKey) -> list[str]:
    known = track.name_of(service, server)
    return [f"track_file {known} {{", f'    file "{word(os.path.join(folder, known), "folder")}"', "    weight 1", "}"]


def _vrrp(instance: dict[str, Any]) -> list[str]:
    title = name(instance.get("name") or "", "vrrp, name")
    where = f"vrrp {title}"
    addresses = [ipaddress.ip_interface(str(one)) for one in instance.get("addresses") or []]
    if not addresses:
        raise Wrong(f"{where}: addresses is empty; give the virtual addresses")
    # One instance speaks one family; addresses of the other one go along.
    first = addresses[0].version
    lines = [
        f"vrrp_instance {title} {{",
        # Both begin as backup: the one that starts later does not take the addresses for a moment.
        "    state BACKUP",
        f"    interface {name(instance.get('interface') or '', f'{where}, interface')}",
        f"    virtual_router_id {number(instance.get('id'), f'{where}, id', 1)}",
        f"    priority {number(instance.get('priority', 100), f'{where}, priority', 1)}",
        f"    advert_int {number(instance.get('advertise', 1), f'{where}, advertise', 0.01)}",
    ]
    if not instance.get("preempt"):
        # A director that comes back has no connections yet: it must not take over by itself.
        lines.append("    nopreempt")
    elif instance.get("preempt_delay"):
        lines.append(f"    preempt_delay {number(instance['preempt_delay'], f'{where}, preempt_delay')}")
    if instance.get("source"):
        lines.append(f"    unicast_src_ip {ipaddress.ip_address(str(instance['source']))}")
    if instance.get("peers"):
        lines += ["    unicast_peer {", *(f"        {ipaddress.ip_address(str(one))}" for one in instance["peers"]), "    }"]
    if instance.get("track_interfaces"):
        known = [name(one, f"{where}, track_interfaces") for one in instance["track_interfaces"]]
        lines += ["    track_interface {", *(f"        {one}" for one in known), "    }"]
    for block, mine in (("virtual_ipaddress", True), ("virtual_ipaddress_excluded", False)):
        inside = [f"        {one}" for one in addresses if (one.version == first) == mine]
        if inside:
            lines += [f"    {block} {{", *inside, "    }"]
    return [*lines, "}"]


def _method(server: Server) -> str:
    method = _METHODS[server.forward]
    if server.forward != "tunnel" or server.tunnel == "ipip":
        return method
    port = f" port {server.tunnel_port}" if server.tunnel == "gue" else ""
    return f"{method} type {server.tunnel}{port} {'csum' if server.tunnel_flags & 1 else 'nocsum'}"


def _service(service: Service, entry: dict[str, Any], director: dict[str, Any]) -> list[str]:
    key, where = service.key, f"service {service.key}"
    head = f"fwmark {key.fwmark}" if key.fwmark else f"{key.address} {key.port}"
    methods = {_method(server) for server in service.servers.values()} or {_METHODS["dr"]}
    if len(methods) > 1:
        raise Wrong(
            f"{where}: servers with different ways of forwarding ({', '.join(sorted(methods))}); keepalived has one a service"
        )
    lines = [
        f"virtual_server {head} {{",
        f"    delay_loop {number(entry.get('interval', 2), f'{where}, interval', 0.1)}",
        f"    lvs_sched {name(service.scheduler, f'{where}, scheduler')}",
        f"    lvs_method {methods.pop()}",
    ]
    if key.fwmark:
        lines.append(f"    ip_family {'inet6' if key.family == 6 else 'inet'}")
    else:
        lines.append(f"    protocol {key.protocol.upper()}")
    words = {"one-packet": "ops"}
    lines += [f"    {words.get(flag, flag)}" for flag in flag_names(service.scheduler, service.flags)]
    if service.persistence:
        lines.append(f"    persistence_timeout {service.persistence}")
        whole = 128 if key.family == 6 else 32
        if service.netmask != whole:
            granularity: object = (
                service.netmask if key.family == 6 else ipaddress.ip_network(f"0.0.0.0/{service.netmask}").netmask
            )
            lines.append(f"    persistence_granularity {granularity}")
    if service.engine:
        lines.append(f"    persistence_engine {name(service.engine, f'{where}, persistence_engine')}")
    if entry.get("alpha", True):
        # Until its first check succeeds a server takes no connections.
        lines.append("    alpha")
    if entry.get("quorum"):
        lines.append(f"    quorum {number(entry['quorum'], f'{where}, quorum', 1)}")
    for server_entry, server in zip(entry.get("servers") or [], service.servers.values()):
        lines += _server(key, server, {**entry, **server_entry}, director)
    return [*lines, "}"]


def _server(service: ServiceKey, server: Server, entry: dict[str, Any], director: dict[str, Any]) -> list[str]:
    where = f"service {service}, server {server.key}"
    known = track.name_of(service, server.key)
    lines = [f"    real_server {server.key.address} {server.key.port} {{", f"        weight {track.BASE}"]
    # A failed server keeps its row at weight 0: its connections go on if it still serves them.
    lines.append("        inhibit_on_failure")
    if server.upper:
        lines.append(f"        uthreshold {server.upper}")
    if server.lower:
        lines.append(f"        lthreshold {server.lower}")
    ramp = str(director.get("ramp") or "")
    if ramp:
        for event in ("up", "down"):
            lines.append(f'        notify_{event} "{word(ramp, "ramp")} {event} {known}"')
    lines += ["        FILE_CHECK {", f"            track_file {known}", "        }"]
    lines += _check(entry.get("check") or {}, where, "tcp" if service.protocol == "tcp" and service.port else "none")
    return [*lines, "    }"]


def _check(check: dict[str, Any], where: str, usual: str) -> list[str]:
    kind = str(check.get("type") or usual)
    if kind == "none":
        return []
    blocks = {"tcp": "TCP_CHECK", "http": "HTTP_GET", "https": "SSL_GET"}
    if kind not in blocks:
        raise Wrong(f"{where}: check type {kind!r}; allowed are {', '.join(blocks)}, none")
    lines = [f"        {blocks[kind]} {{"]
    if kind != "tcp":
        lines += [
            "            url {",
            f'                path "{word(check.get("path") or "/", f"{where}, check, path")}"',
            f"                status_code {number(check.get('status', 200), f'{where}, check, status', 100)}",
        ]
        if check.get("host"):
            lines.append(f"                virtualhost {name(check['host'], f'{where}, check, host')}")
        if check.get("body"):
            lines.append(f'                regex "{word(check["body"], f"{where}, check, body")}"')
        lines.append("            }")
    if check.get("port"):
        lines.append(f"            connect_port {number(check['port'], f'{where}, check, port', 1)}")
    lines.append(f"            connect_timeout {number(check.get('timeout', 2), f'{where}, check, timeout', 0.1)}")
    lines.append(f"            retry {number(check.get('retries', 1), f'{where}, check, retries')}")
    lines.append("            delay_before_retry 1")
    return [*lines, "        }"]
