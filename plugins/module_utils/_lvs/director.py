# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""One run on a director: read → lint → plan → apply → drain → read again.

Two engines write: this module through netlink ("kernel"), or keepalived ("keepalived"), which is told weights through the
files it tracks and verified afterwards, because it never reads the kernel's table back.
"""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from ansible_collections.netops.fleet.plugins.module_utils._kernel import modules, netlink
from ansible_collections.netops.fleet.plugins.module_utils._lvs import codec, drain, host, lint, plan, state, track
from ansible_collections.netops.fleet.plugins.module_utils._lvs.model import (
    ServerKey,
    ServiceKey,
    Table,
    Wrong,
    entry_of,
    parse_key,
    wanted_table,
)
from ansible_collections.netops.fleet.plugins.module_utils._safety import files, lock

#: Between two looks at a drain, seconds.
LOOK = 0.5


class Refused(Exception):
    """Nothing was written, or not everything; the message says why and what to do. result: what is known so far."""

    def __init__(self, message: str, result: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.result = result or {"changed": False}


@dataclass
class Options:
    """wanted: the table. rules: without ``own``. ready: (service, server) → probe. folder: of the record.

    settle: seconds for keepalived to take a weight. ignore: lint ids that do not stop the run. drain, undrain: addresses of
    servers to keep at weight 0 from now on, or no longer; drain_at_once: the part of a service's weight that may be.
    verify: compare the kernel with what keepalived was told.
    """

    wanted: Table
    rules: plan.Rules = field(default_factory=plan.Rules)
    engine: str = "kernel"
    folder: str = state.FOLDER
    weights: str = ""
    ready: dict[tuple[ServiceKey, ServerKey], dict[str, Any]] = field(default_factory=dict)
    ignore: frozenset[str] = frozenset()
    load_modules: bool = True
    take_over: bool = False
    drain: tuple[str, ...] = ()
    undrain: tuple[str, ...] = ()
    drain_at_once: float = 1.0
    verify: bool = True
    check: bool = False
    settle: float = 30.0
    lock_wait: float = 10.0


def run(options: Options) -> dict[str, Any]:
    """The module's result. Raises Refused, state.StateError, lock.Busy, codec.Unreadable, netlink.NetlinkError."""
    if options.check:
        return _run(options)
    files.given_folder(options.folder)
    with lock.Lock(options.folder, "lvs_wrr", options.lock_wait):
        return _run(options)


def _run(options: Options) -> dict[str, Any]:
    record = state.load(options.folder)
    _claim(record, options)
    present = _read(options, [])
    rules = replace(options.rules, own=frozenset(record.services))
    unready = _unready(present, options)
    wanted = _drained(plan.gate(present, options.wanted, unready), record, options)
    facts, gaps = host.read(wanted, present)
    made, began = _plan(present, wanted, rules, record) if options.engine == "kernel" else _kept(options, present, wanted, record)
    lints = lint.check(wanted, present, facts, _quieting(wanted, made), rules.force)
    result: dict[str, Any] = {
        "changed": bool(made.changes),
        "changes": [one.to_dict() for one in made.changes],
        "writes": 0,
        "lint": [one.to_dict() for one in lints],
        "waiting": [{"service": str(service), "server": str(server), "why": why} for (service, server), why in unready.items()],
        "drained": sorted(record.drained),
        "last": dict(record.weights),
        "foreign": [str(key) for key in made.foreign],
        "draining": [one.to_dict() for one in made.leaving if one.decision != "delete"],
        "connections_at_risk": made.at_risk,
        "connections_dropped": 0,
        "gaps": [gap.to_dict() for gap in gaps],
    }
    errors = [one for one in lints if one.severity == "error" and one.id not in options.ignore]
    if errors:
        said = "; ".join(f"{one.subject}: {one.text} [{one.id}]: {one.fix}" for one in errors)
        raise Refused(f"refused before any write: {said}", {**result, "changed": False})
    if options.engine == "keepalived":
        # The rows are keepalived's; ours are the files that hold the weights.
        folder = _weights(options)
        ours = track.told(folder, present, wanted)
        left = track.leaving(ours, wanted)
        result["foreign"] = [str(key) for key in sorted(set(present.services) - set(ours.services))]
        result["changes"] = track.due(folder, track.joined(wanted, left))
        result["changed"] = bool(result["changes"])
        result["leaving"] = [entry_of(service) for service in left.services.values()]
    shown = {change.service.key for change in made.changes if change.service is not None}
    if options.engine == "keepalived":
        shown |= set(wanted.services)
    before = plan.lines(present, shown)
    after = plan.lines(plan.foresee(present, made.changes), shown) if made.changes else before
    result["diff"] = {"before": before, "after": after}
    if options.check:
        result["connections_dropped"] = sum(one.connections for one in made.of("delete_server"))
        result["table"] = present.to_dict()
        return result
    record.began = began
    # Of services that share a server the first one says its weight.
    for service in reversed(options.wanted.services.values()):
        record.weights.update({name.address: server.weight for name, server in service.servers.items()})
    if options.engine == "keepalived":
        return _apply_keepalived(options, wanted, record, present, result)
    if not made.changes and not any(one.decision == "wait" for one in made.leaving):
        # Nothing to write and nobody to wait for: what was read is what is.
        return _conclude(options, wanted, record, present, made, result)
    return _apply_kernel(options, wanted, rules, record, present, result)


def _weights(options: Options) -> str:
    return options.weights or os.path.join(options.folder, "weights")


def _drained(wanted: Table, record: state.Record, options: Options) -> Table:
    """What is wanted, with weight 0 for servers that an administrator took out, in this run or an earlier one."""
    fresh = set(options.drain) - set(record.drained)
    over = drain.over_budget(wanted, (set(record.drained) | fresh) - set(options.undrain), options.drain_at_once)
    if fresh and over:
        raise Refused(
            f"{', '.join(sorted(fresh))} would be drained, together with {', '.join(sorted(record.drained)) or 'nobody'}: "
            f"{'; '.join(over)}; allowed are {round(options.drain_at_once * 100)} %. Put another one back first, or allow more"
        )
    for address in options.drain:
        record.drained.setdefault(address, round(time.time(), 3))
    for address in options.undrain:
        record.drained.pop(address, None)
    services = {}
    for key, service in wanted.services.items():
        servers = {
            name: replace(server, weight=0) if name.address in record.drained else server
            for name, server in service.servers.items()
        }
        services[key] = replace(service, servers=servers)
    return replace(wanted, services=services)


def _claim(record: state.Record, options: Options) -> None:
    """One writer: two silently undo each other."""
    me = "lvs_wrr" if options.engine == "kernel" else "keepalived"
    if record.writer and record.writer != me and not options.take_over:
        raise Refused(
            f"{state.path_of(options.folder)} says that {record.writer} writes the virtual services of this host, not {me}. "
            f"Change them through {record.writer}, or stop it and run once with take_over"
        )
    if me == "lvs_wrr":
        others = host.other_writers()
        if others:
            raise Refused(
                f"{', '.join(others)} writes virtual services in this network namespace; stop it first, or use its engine"
            )
    record.writer = me


def _read(options: Options, wanted_modules: list[str]) -> Table:
    """The kernel's table; an empty one when ip_vs is not there, without loading it. With ``wanted_modules`` they are loaded."""
    if wanted_modules:
        why = host.load(wanted_modules)
        if why:
            raise Refused(f"the modules {' '.join(wanted_modules)} could not be loaded: {why}")
    there = modules.present("ip_vs")
    if there is None:
        raise Refused("could not tell whether the kernel has ip_vs; run modprobe ip_vs, then this again")
    if not there:
        return Table()
    try:
        with codec.Ipvs() as ipvs:
            return ipvs.read()
    except netlink.NetlinkError as error:
        if error.errno == 2:
            return Table()
        raise Refused(f"the kernel refuses to show its virtual services: {error.strerror}; root is needed") from None


def _unready(present: Table, options: Options) -> dict[tuple[ServiceKey, ServerKey], str]:
    """Servers that may not join, with the reason. Asked are only those that do not serve already."""
    asked = []
    for (service, server), probe in options.ready.items():
        known = present.services[service].servers.get(server) if service in present.services else None
        if known is None or known.weight == 0:
            asked.append(((service, server), probe))
    if not asked:
        return {}
    from ansible_collections.netops.fleet.plugins.module_utils._evidence import probes

    section = probes.run([probe for _key, probe in asked])
    found = {}
    for (key, _probe), answer in zip(asked, section.data):
        if answer["status"] != "ok":
            found[key] = f"{answer['status']}: {answer.get('detail') or ''}".strip(": ")
    return found


def _plan(present: Table, wanted: Table, rules: plan.Rules, record: state.Record) -> tuple[plan.Plan, dict[str, float]]:
    """The plan, and since when who drains."""
    made = plan.make(present, wanted, rules, {})
    known = {one.name: record.began[one.name] for one in made.leaving if not one.server.weight and one.name in record.began}
    seconds, began = drain.ages(known, [one.name for one in made.leaving], time.time())
    return (plan.make(present, wanted, rules, seconds) if made.leaving else made), began


def _quieting(wanted: Table, made: plan.Plan) -> set[ServiceKey]:
    found = {key for key, one in wanted.services.items() if any(not server.weight for server in one.servers.values())}
    return found | {one.service for one in made.leaving if one.service in wanted.services}


def _apply_kernel(
    options: Options, wanted: Table, rules: plan.Rules, record: state.Record, present: Table, result: dict[str, Any]
) -> dict[str, Any]:
    needed = ["ip_vs", *sorted({f"ip_vs_{one.scheduler}" for one in wanted.services.values()})]
    needed += sorted({f"ip_vs_pe_{one.engine}" for one in wanted.services.values() if one.engine})
    missing = [name for name in needed if modules.present(name) is False]
    if missing and wanted.services:
        if not options.load_modules:
            raise Refused(f"modules {' '.join(missing)} are not loaded; load them, or allow load_modules", result)
        _read(options, missing)
        result["changed"] = True
        result["modules_loaded"] = missing
    if not modules.present("ip_vs"):
        return _finish(options, record, present, wanted, result)
    # Ours from the moment the first message goes out: a run that is cut short leaves nothing unclaimed.
    claimed = record.services | set(wanted.services)
    if claimed != record.services or record.to_dict() != state.load(options.folder).to_dict():
        record.services = claimed
        state.save(options.folder, record)
    with codec.Ipvs() as ipvs:
        writer = _Writer(ipvs, result)
        made = plan.make(present, wanted, rules, drain.ages(record.began, list(record.began), time.time())[0])
        writer.write([change for change in made.changes if change.op not in plan.DELETES])

        def step() -> tuple[Table, plan.Plan]:
            now = ipvs.read()
            made, record.began = _plan(now, wanted, rules, record)
            # A drain is counted from when the weight became 0, which is now; it is on the disk before the wait for it.
            _save(options, record)
            return now, made

        present, made = _settle(step, writer)
    return _conclude(options, wanted, record, present, made, result)


class _Writer:
    """Sends changes and keeps count."""

    def __init__(self, ipvs: codec.Ipvs, result: dict[str, Any]) -> None:
        self.ipvs, self.result = ipvs, result
        self.result["changes"] = []

    def write(self, changes: list[plan.Change]) -> None:
        """In order, changes of one kind at once. After a refusal no other kind: no drain without those who take over."""
        for _op, alike in itertools.groupby(changes, key=lambda change: change.op):
            self._write_alike(list(alike))

    def _write_alike(self, changes: list[plan.Change]) -> None:
        told = self.ipvs.write([message(change) for change in changes])
        self.result["writes"] = self.ipvs.writes
        for change, error in zip(changes, told):
            if error is None:
                self.result["changed"] = True
                self.result["changes"].append(change.to_dict())
                if change.op == "delete_server":
                    self.result["connections_dropped"] += change.connections
        for change, error in zip(changes, told):
            if error is not None:
                raise Refused(f"the kernel refused {change.op} {change.name}: {error.strerror}", self.result)


def message(change: plan.Change) -> bytes:
    """The one netlink message of a change."""
    if change.timeouts is not None:
        return codec.timeouts_message(change.timeouts)
    if change.service is None:
        raise ValueError(f"{change.op} names no service")
    if change.server is None:
        command = {"add_service": codec.NEW_SERVICE, "edit_service": codec.SET_SERVICE, "delete_service": codec.DEL_SERVICE}
        return codec.service_message(command[change.op], change.service)
    commands = {"add_server": codec.NEW_DEST, "delete_server": codec.DEL_DEST}
    return codec.server_message(commands.get(change.op, codec.SET_DEST), change.service.key, change.server)


def _settle(step: Callable[[], tuple[Table, plan.Plan]], writer: _Writer | None) -> tuple[Table, plan.Plan]:
    """Look, delete who may go, until nobody is waited for."""
    while True:
        present, made = step()
        deletes = made.of(*plan.DELETES) if writer is not None else []
        if writer is not None and deletes:
            writer.write(deletes)
            continue
        if not any(one.decision == "wait" for one in made.leaving):
            return present, made
        time.sleep(LOOK)


def _conclude(
    options: Options, wanted: Table, record: state.Record, present: Table, made: plan.Plan, result: dict[str, Any]
) -> dict[str, Any]:
    result["draining"] = [one.to_dict() for one in made.leaving if one.decision != "delete"]
    result["connections_at_risk"] = made.at_risk
    if made.changes:
        said = ", ".join(f"{one.op} {one.name}" for one in made.changes)
        raise Refused(f"did not take: after writing, these changes are still due: {said}. Another program may write too", result)
    late = [one for one in made.leaving if one.decision == "fail"]
    result = _finish(options, record, present, wanted, result)
    if late:
        raise Refused(_still_in_use(options, late), result)
    return result


def _still_in_use(options: Options, late: list[plan.Leaving]) -> str:
    said = ", ".join(f"{one.name} ({one.server.active} active, {one.server.inactive} inactive)" for one in late)
    return (
        f"still in use after {options.rules.timeout:g} s: {said}. They take no new connections and stay at weight 0; "
        "wait longer, or run with force to cut their connections"
    )


def _save(options: Options, record: state.Record) -> None:
    if record.to_dict() != state.load(options.folder).to_dict():
        state.save(options.folder, record)


def _finish(options: Options, record: state.Record, present: Table, wanted: Table, result: dict[str, Any]) -> dict[str, Any]:
    """Record what is left of ours; what the table is now."""
    ours = {key for key in record.services if key in present.services or key in wanted.services}
    if options.engine == "kernel":
        record.services = ours
    _save(options, record)
    result["table"] = present.to_dict()
    if result["writes"]:
        # Services that were removed were shown before; those that drain still are.
        shown = {parse_key(name) for name in {one["service"] for one in result["changes"] if "service" in one}}
        result["diff"]["after"] = plan.lines(present, shown)
    return result


def _apply_keepalived(
    options: Options, wanted: Table, record: state.Record, present: Table, result: dict[str, Any]
) -> dict[str, Any]:
    """Weights through the tracked files; everything else is keepalived's own, and told as drift when it is not there."""
    folder = _weights(options)
    moved = track.write(folder, _told(folder, present, wanted))
    result["changed"] = bool(moved)
    result["changes"] = moved
    result["tracked"] = len(moved)
    _save(options, record)
    if not options.verify:
        return result
    deadline = time.monotonic() + options.settle
    while True:
        present = _read(options, [])
        told = _told(folder, present, wanted)
        drift, down = track.drift(present, track.expected(folder, told))
        # A server that was just told a weight and has none yet is late, not down.
        pending = {f"{one['service']} {one['server']}" for one in moved} & set(down)
        if not (drift or pending) or time.monotonic() >= deadline:
            break
        time.sleep(LOOK)
    result["down"] = down
    result["table"] = present.to_dict()
    result["diff"]["after"] = plan.lines(present, set(wanted.services))
    if drift:
        result["drift"] = drift
        raise Refused(
            "the kernel's table is not what keepalived was told: "
            + "; ".join(f"{one['subject']}: {one['text']}" for one in drift)
            + ". keepalived does not repair this on reload; move the weight away and back through its file, or delete the row",
            result,
        )
    track.clean(folder, told)

    def step() -> tuple[Table, plan.Plan]:
        now = _read(options, [])
        made, record.began = _kept(options, now, wanted, record)
        _save(options, record)
        return now, made

    present, made = _settle(step, None)
    going = {one.name: one for one in made.leaving if one.remove and one.decision in ("delete", "force")}
    left = track.leaving(track.told(folder, present, wanted), wanted)
    result["leaving"] = [entry_of(service) for service in track.without(left, going).services.values()]
    result["draining"] = [one.to_dict() for one in made.leaving if one.decision != "delete"]
    result["connections_at_risk"] = made.at_risk
    result["connections_dropped"] = sum(one.server.connections for one in going.values())
    result["table"] = present.to_dict()
    late = [one for one in made.leaving if one.decision == "fail"]
    if late:
        raise Refused(_still_in_use(options, late), result)
    return result


def _told(folder: str, present: Table, wanted: Table) -> Table:
    return track.joined(wanted, track.leaving(track.told(folder, present, wanted), wanted))


def _kept(options: Options, present: Table, wanted: Table, record: state.Record) -> tuple[plan.Plan, dict[str, float]]:
    """The plan for what keepalived was told. Its rows are its own; ours is to know who leaves, and when that may end."""
    ours = track.told(_weights(options), present, wanted)
    return _plan(ours, wanted, replace(options.rules, own=frozenset(ours.services)), record)


_READY: dict[str, Any] = {"scheme": "http", "path": "/", "status": 200, "timeout": 2.0, "body": None, "port": None}


def options_from(params: dict[str, Any], check: bool) -> Options:
    """The module's parameters. Raises model.Wrong."""
    wanted = wanted_table(params["services"], params.get("timeouts"))
    ready: dict[tuple[ServiceKey, ServerKey], dict[str, Any]] = {}
    for entry, service in zip(params["services"], wanted.services.values()):
        asked: dict[str, Any] = {**_READY, **(entry.get("ready") or {})}
        for server in service.servers.values() if entry.get("ready") else ():
            host_part = f"[{server.key.address}]" if ":" in server.key.address else server.key.address
            port = asked.get("port") or server.key.port
            ready[service.key, server.key] = {
                "kind": "http",
                "url": f"{asked['scheme']}://{host_part}:{port}{asked['path']}",
                "expect_status": [asked["status"]],
                "expect_body": asked.get("body"),
                "timeout": asked["timeout"],
            }
    rules = plan.Rules(
        purge=params["purge"],
        until=params["drain_until"],
        timeout=float(params["drain_timeout"]),
        on_timeout=params["on_timeout"],
        force=params["force"],
        keep_weights=params["keep_weights"],
        quiet=params["await_quiet"],
    )
    return Options(
        wanted=wanted,
        rules=rules,
        engine=params["engine"],
        folder=params["state_folder"],
        ready=ready,
        ignore=frozenset(params["ignore_lint"]),
        load_modules=params["load_modules"],
        take_over=params["take_over"],
        drain=tuple(params["drain"]),
        undrain=tuple(params["undrain"]),
        drain_at_once=params["drain_at_once"],
        verify=params["verify"],
        check=check,
        settle=float(params["settle"]),
    )


def outcome(params: dict[str, Any], check: bool) -> tuple[dict[str, Any], str]:
    """(the module's result, why it failed or nothing)."""
    try:
        return run(options_from(params, check)), ""
    except Refused as error:
        return error.result, str(error)
    except (Wrong, state.StateError, lock.Busy, codec.Unreadable) as error:
        return {"changed": False}, str(error)
    except netlink.NetlinkError as error:
        return {"changed": False}, f"the kernel refuses to talk about virtual services: {error.strerror}; root is needed"
    except OSError as error:
        return {"changed": False}, f"{error.filename or params['state_folder']}: {error.strerror or error}"
