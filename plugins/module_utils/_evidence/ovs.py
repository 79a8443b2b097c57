# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""Open vSwitch, by its database's own protocol: bridges, controllers, ports and tunnels. Selects only; no tool is needed.

Flows are told by ovs-vswitchd over its own socket, whatever version of OpenFlow a bridge speaks.

Sources: RFC 7047 (OVSDB), ovs-vswitchd.conf.db(5), bridge/dump-flows in ovs-vswitchd(8)
"""

from __future__ import annotations

import json
import os
import socket
import time
from typing import Any

from ansible_collections.netops.fleet.plugins.module_utils._evidence.redact import redact
from ansible_collections.netops.fleet.plugins.module_utils._evidence.section import Section
from ansible_collections.netops.fleet.plugins.module_utils._kernel import procfs

_SECONDS, _MOST_BYTES = 3.0, 16 << 20
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


def read(section: Section, root: str = "/") -> dict[str, Any] | None:
    """``{version, behind, bridges: [{name, fail_mode, controllers: [{target, connected}], flows}], interfaces: [{name, type,
    error, link_state, options, bfd, cfm_fault}]}``; null where no database answers. behind: changes that the switch did not make
    yet. flows: see flows(); null where they could not be read.
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
    _flows(section, os.path.dirname(path), found["bridges"])
    return found


def _flows(section: Section, folder: str, bridges: list[dict[str, Any]]) -> None:
    """Of each bridge, into it."""
    pid = procfs.text_or_none(os.path.join(folder, "ovs-vswitchd.pid"))
    if not bridges:
        return
    if pid is None or not pid.strip().isdigit():
        section.gap("installed.ovs.flows", f"{folder}/ovs-vswitchd.pid does not say where ovs-vswitchd listens")
        return
    path = os.path.join(folder, f"ovs-vswitchd.{pid.strip()}.ctl")
    if len(bridges) > _MOST_BRIDGES:
        section.gap("installed.ovs.flows", f"{_MOST_BRIDGES} of {len(bridges)} bridges asked")
    for bridge in bridges[:_MOST_BRIDGES]:
        try:
            bridge["flows"] = flows(str(_ask(path, "bridge/dump-flows", [bridge["name"]])))
        except OSError as error:
            # The next one would be waited for as long.
            section.gap("installed.ovs.flows", procfs.reason(error, path))
            return
        except ValueError as error:
            section.gap("installed.ovs.flows", f"{bridge['name']}: {error}"[:200])


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


def _ask(path: str, method: str, params: list[Any]) -> Any:
    """The result of one call. Raises OSError, ValueError."""
    request = {"method": method, "params": params, "id": 1}
    deadline = time.monotonic() + _SECONDS
    text = ""
    decoder = json.JSONDecoder()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(_SECONDS)
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
    }
