# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""Open vSwitch, by its database's own protocol: bridges, controllers, ports and tunnels. Selects only; no tool is needed.

Flows, and what its datapaths hold and lose, are told by ovs-vswitchd over its own socket, whatever version of OpenFlow a bridge
speaks.

Sources: RFC 7047 (OVSDB), ovs-vswitchd.conf.db(5), bridge/dump-flows, dpctl/show and upcall/show in ovs-vswitchd(8)
"""

from __future__ import annotations

import json
import os
import re
import socket
import time
from typing import Any

from ansible_collections.netops.fleet.plugins.module_utils._evidence import configured
from ansible_collections.netops.fleet.plugins.module_utils._evidence.redact import redact
from ansible_collections.netops.fleet.plugins.module_utils._evidence.section import Section
from ansible_collections.netops.fleet.plugins.module_utils._kernel import procfs

_SECONDS, _MOST_BYTES = 3.0, 16 << 20
#: For counters, which are read before everything else: a switch that hangs must not hold up the window.
_COUNTER_SECONDS = 1.0
#: What ovs-vswitchd counts when it could not put a flow into the datapath, which was full (not in every version).
_LIMIT_HIT = "upcall_flow_limit_hit"
_TABLES: dict[str, tuple[str, ...]] = {
    "Open_vSwitch": ("cur_cfg", "next_cfg", "ovs_version"),
    "Bridge": ("name", "fail_mode", "controller"),
    "Controller": ("_uuid", "target", "is_connected"),
    "Interface": ("name", "type", "error", "link_state", "options", "bfd_status", "cfm_fault"),
}
#: Options of an interface that say where its tunnel leads.
_OPTIONS = ("remote_ip", "local_ip", "key", "dst_port")
MOST = 2048
_MOST_BRIDGES, _MOST_DROPS = 64, 256
#: Tables and priorities of flows that the switch makes for itself.
_OWN_TABLE, _MOST_PRIORITY, _USUAL_PRIORITY = 254, 65535, 32768
_LOOKUPS = re.compile(r"^\s+lookups:.*\blost:(\d+)", re.ASCII)
_HELD = re.compile(r"^\s+flows\s*:.*\(current (\d+)\).*\(limit (\d+)\)", re.ASCII)


def read(section: Section, root: str = "/") -> dict[str, Any] | None:
    """``{version, behind, bridges: [{name, fail_mode, controllers: [{target, connected}], flows}], interfaces: [{name, type,
    error, link_state, options, bfd, cfm_fault}], datapaths: [{name, flows, limit}]}``; null where no database answers. behind:
    changes that the switch did not make yet. A bridge's flows: see flows(); null where they could not be read. A datapath's: how
    many it holds, and how many it may.
    """
    paths = [os.path.join(root, path) for path in ("run/openvswitch/db.sock", "var/run/openvswitch/db.sock")]
    path = next((one for one in paths if os.path.exists(one)), None)
    if path is None:
        return None
    try:
        found = shape(_select(path))
        if found["behind"]:
            # A change may just be under way: asked once more.
            time.sleep(1.0)
            found = shape(_select(path))
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        section.gap("installed.ovs", procfs.reason(error, path) if isinstance(error, OSError) else f"{path}: {error}"[:200])
        return None
    if len(found["interfaces"]) > MOST:
        section.gap("installed.ovs", f"{MOST} of {len(found['interfaces'])} interfaces kept")
        found["interfaces"] = found["interfaces"][:MOST]
    if found["bridges"]:
        folder = os.path.dirname(path)
        control = _control(folder)
        if control is None:
            section.gap("installed.ovs.flows", f"{folder}/ovs-vswitchd.pid does not say where ovs-vswitchd listens")
        elif _flows(section, control, found["bridges"]):
            _datapaths(section, control, found["datapaths"])
    return found


def counters(root: str = "/") -> dict[str, int]:
    """``DATAPATH lost``: packets a datapath could not hand to ovs-vswitchd since it was made; ``upcall_flow_limit_hit``.

    Empty where no ovs-vswitchd runs, or it is of another network namespace. Raises OSError, ValueError where it does not tell.
    """
    control = next(
        (one for one in (_control(os.path.join(root, f"{top}/openvswitch")) for top in ("run", "var/run")) if one), None
    )
    if control is None or (root == "/" and not configured.ours()):
        return {}
    found = {f"{name} lost": count for name, count in lost(str(_ask(control, "dpctl/show", [], _COUNTER_SECONDS))).items()}
    try:
        hit = procfs.decimal(str(_ask(control, "coverage/read-counter", [_LIMIT_HIT], _COUNTER_SECONDS)).strip())
    except ValueError:
        hit = None  # a version that does not count it
    return found if hit is None else {**found, _LIMIT_HIT: hit}


def lost(text: str) -> dict[str, int]:
    """Packets lost between each datapath and ovs-vswitchd, of dpctl/show."""
    return {name: int(found.group(1)) for name, found in _by_datapath(text, _LOOKUPS)}


def held(text: str) -> list[dict[str, Any]]:
    """``[{name, flows, limit}]`` of upcall/show."""
    return [
        {"name": name, "flows": int(found.group(1)), "limit": int(found.group(2))} for name, found in _by_datapath(text, _HELD)
    ]


def _by_datapath(text: str, pattern: re.Pattern[str]) -> list[tuple[str, re.Match[str]]]:
    """Lines of a pattern, each with the datapath (``system@ovs-system``) under whose heading it stands."""
    out, name = [], ""
    for line in text.splitlines():
        if line.endswith(":") and not line[0].isspace():
            name = line[:-1][:100]
            continue
        found = pattern.match(line)
        if found and name:
            out.append((name, found))
    return out


def _control(folder: str) -> str | None:
    """Where ovs-vswitchd listens, by its own note."""
    pid = (procfs.text_or_none(os.path.join(folder, "ovs-vswitchd.pid")) or "").strip()
    return os.path.join(folder, f"ovs-vswitchd.{pid}.ctl") if pid.isdigit() else None


def _datapaths(section: Section, path: str, into: list[dict[str, Any]]) -> None:
    try:
        into += held(str(_ask(path, "upcall/show", [])))[:_MOST_BRIDGES]
    except (OSError, ValueError) as error:
        why = procfs.reason(error, path) if isinstance(error, OSError) else str(error)[:200]
        section.gap("installed.ovs.datapaths", why)


def _flows(section: Section, path: str, bridges: list[dict[str, Any]]) -> bool:
    """Of each bridge, into it. False: ovs-vswitchd does not answer, and need not be asked for more."""
    if len(bridges) > _MOST_BRIDGES:
        section.gap("installed.ovs.flows", f"{_MOST_BRIDGES} of {len(bridges)} bridges asked")
    for bridge in bridges[:_MOST_BRIDGES]:
        try:
            bridge["flows"] = flows(str(_ask(path, "bridge/dump-flows", [bridge["name"]])))
        except OSError as error:
            # The next one would be waited for as long.
            section.gap("installed.ovs.flows", procfs.reason(error, path))
            return False
        except ValueError as error:
            section.gap("installed.ovs.flows", f"{bridge['name']}: {error}"[:200])
    return True


def flows(text: str) -> dict[str, Any]:
    """``{count, drops: [{table, priority, match, packets}]}`` of bridge/dump-flows. Without the switch's own flows.

    drops: flows that do nothing but drop and have dropped, those with the most packets.
    """
    count = 0
    drops: list[dict[str, Any]] = []
    for line in text.splitlines():
        told, counted, rest = line.partition(", n_bytes=")
        head = dict(one.partition("=")[::2] for one in told.split(", "))
        packets, table = procfs.decimal(head.get("n_packets", "")), procfs.decimal(head.get("table_id", "0"))
        what, acts, actions = rest.partition(", ")[2].partition(",actions=")
        if not counted or not acts or packets is None or table in (None, _OWN_TABLE):
            continue
        match = [one for one in what.split(",") if one.strip()]
        # The usual priority is not printed.
        said = [one.partition("=")[2] for one in match if one.startswith("priority=")]
        priority = procfs.decimal(said[0]) if said else _USUAL_PRIORITY
        if priority is None or priority > _MOST_PRIORITY:
            continue
        count += 1
        if packets and actions.strip() == "drop":
            kept = ",".join(one for one in match if not one.startswith("priority="))
            drops.append({"table": table, "priority": priority, "match": kept[:400], "packets": packets})
    drops.sort(key=lambda one: -one["packets"])
    return {"count": count, "drops": drops[:_MOST_DROPS]}


def _select(path: str) -> dict[str, list[dict[str, Any]]]:
    """Rows by table. Raises OSError, ValueError."""
    asked = [{"op": "select", "table": name, "where": [], "columns": list(columns)} for name, columns in _TABLES.items()]
    result = _ask(path, "transact", ["Open_vSwitch", *asked])
    return {name: result[at]["rows"] for at, name in enumerate(_TABLES)}


def _ask(path: str, method: str, params: list[Any], seconds: float = _SECONDS) -> Any:
    """The result of one call. Raises OSError, ValueError."""
    request = {"method": method, "params": params, "id": 1}
    deadline = time.monotonic() + seconds
    text = ""
    decoder = json.JSONDecoder()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(seconds)
        sock.connect(path)
        sock.sendall(json.dumps(request).encode())
        parts: list[bytes] = []
        size = 0
        while size < _MOST_BYTES:
            sock.settimeout(max(0.01, deadline - time.monotonic()))
            data = sock.recv(1 << 18)
            if not data:
                break
            parts.append(data)
            size += len(data)
            if not data.rstrip().endswith(b"}"):
                continue
            text = b"".join(parts).decode("utf-8", "replace")
            try:
                answer, _end = decoder.raw_decode(text)
            except ValueError:
                continue  # the end of an inner object
            if answer.get("error"):
                raise ValueError(redact(json.dumps(answer["error"]), 200))
            return answer["result"]
    raise ValueError("no whole answer")


def _map(value: Any) -> dict[str, str]:
    """OVSDB's ``["map", [[key, value], ...]]``."""
    return {str(key): str(one) for key, one in value[1]} if isinstance(value, list) and value[:1] == ["map"] else {}


def _set(value: Any) -> list[Any]:
    """``["set", [...]]``; a set of one is that one."""
    return list(value[1]) if isinstance(value, list) and value[:1] == ["set"] else [value]


def _one(value: Any) -> Any:
    """A column that may be empty: its value, or None."""
    found = _set(value)
    return found[0] if found else None


def shape(rows: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """The four tables as the findings read them. Raises KeyError, TypeError, IndexError for rows of another form."""
    switch = rows["Open_vSwitch"][0]
    controllers = {one["_uuid"][1]: one for one in rows["Controller"]}
    bridges = []
    for one in rows["Bridge"]:
        mine = [controllers[uuid[1]] for uuid in _set(one["controller"]) if uuid[1] in controllers]
        bridges.append(
            {
                "name": str(one["name"]),
                "fail_mode": _one(one["fail_mode"]),
                "controllers": [
                    {"target": redact(str(each["target"]), 80), "connected": bool(each["is_connected"])} for each in mine
                ],
                "flows": None,
            }
        )
    interfaces = []
    for one in rows["Interface"]:
        options = _map(one["options"])
        error = _one(one["error"])
        interfaces.append(
            {
                "name": str(one["name"]),
                "type": str(one["type"]),
                "error": redact(str(error), 200) if error else None,
                "link_state": _one(one["link_state"]),
                "options": {name: options[name] for name in _OPTIONS if name in options},
                "bfd": _map(one["bfd_status"]).get("state"),
                "cfm_fault": _one(one["cfm_fault"]),
            }
        )
    return {
        "version": _one(switch["ovs_version"]),
        "behind": max(0, int(switch["next_cfg"]) - int(switch["cur_cfg"])),
        "bridges": bridges,
        "interfaces": interfaces,
        "datapaths": [],
    }
