# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""service_placement: options → read → plan → drop-ins, and restarts where they are asked for. The plan is place_plan.py."""

from __future__ import annotations

import glob
import os
import re
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.netops.fleet.plugins.module_utils._evidence import locality, sockets, topology
from ansible_collections.netops.fleet.plugins.module_utils._kernel import command, cpulist, procfs
from ansible_collections.netops.fleet.plugins.module_utils._safety import journal, objects, service
from ansible_collections.netops.fleet.plugins.module_utils._safety.change import ChangeError, Difference
from ansible_collections.netops.fleet.plugins.module_utils._safety.objects import Object, file_state
from ansible_collections.netops.fleet.plugins.module_utils._tuning import change, limits, place_plan

OWNER = "service_placement"
#: Where unit files are, what wins first. (systemd.unit(5))
_FOLDERS = (
    "/etc/systemd/system.control",
    "/run/systemd/system.control",
    "/etc/systemd/system",
    "/run/systemd/system",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
)
_SHOW = (
    "Id", "LoadState", "FragmentPath", "DropInPaths", "MainPID", "ControlGroup", "Slice", "ExecStart",
    "AllowedCPUs", "AllowedMemoryNodes", "NUMAPolicy",
)  # fmt: skip
_PROGRAM = re.compile(r"path=(\S+)")
_SIZE = re.compile(r"(\d+)([KMGT]?)\Z")

_SERVICE: dict[str, Any] = {
    "name": {"type": "str", "required": True},
    "near": {"type": "str", "default": ""},
    "cpus": {"type": "str"},
    "policy": {"type": "str", "choices": list(place_plan.POLICIES), "default": "bind"},
    "smt": {"type": "bool", "default": True},
    "memlock": {"type": "str"},
}
#: The argument spec of the module; its documentation stands in plugins/modules/service_placement.py.
ARGUMENTS: dict[str, Any] = {
    "state": {"type": "str", "choices": ["present", "absent", "planned"], "default": "present"},
    "services": {"type": "list", "elements": "dict", "default": [], "options": _SERVICE},
    "reserve": {"type": "str", "default": ""},
    "missing": {"type": "str", "choices": ["fail", "skip"], "default": "fail"},
    "restart": {"type": "bool", "default": False},
    "force": {"type": "bool", "default": False},
}


@dataclass
class Options:
    """As in the module's documentation. folder: of the journal."""

    state: str = "present"
    services: list[place_plan.Want] = field(default_factory=list)
    reserve: tuple[int, ...] = ()
    missing: str = "fail"
    restart: bool = False
    force: bool = False
    folder: str = journal.FOLDER

    @classmethod
    def from_params(cls, params: dict[str, Any]) -> Options:
        """Raises ChangeError that names the option, what was found and what is allowed."""
        wants: dict[str, place_plan.Want] = {}
        for one in params["services"]:
            try:
                name = limits.unit_name(one["name"])
            except ValueError:
                name = ""
            if not name.endswith(".service"):
                raise ChangeError(f"services: {one['name']!r} is no systemd service; names look like vllm or model@0.service")
            if name in wants:
                raise ChangeError(f"services: {name} is given twice")
            cpus = one.get("cpus")
            wants[name] = place_plan.Want(
                name,
                one.get("near") or "",
                _cpus(f"services: cpus of {name}", cpus) if cpus else None,
                one.get("policy") or "bind",
                one.get("smt") is not False,
                _memlock(name, one.get("memlock")),
            )
        reserve = _cpus("reserve", params["reserve"]) if params["reserve"] else ()
        return cls(params["state"], list(wants.values()), reserve, params["missing"], params["restart"], params["force"])


def _cpus(what: str, text: str) -> tuple[int, ...]:
    try:
        return cpulist.parse(text)
    except ValueError:
        raise ChangeError(f"{what} is {text!r}; it takes a list of processors such as 0-7,64-71") from None


def _memlock(name: str, text: str | None) -> str | None:
    """In bytes, as the kernel shows it."""
    if not text or text in ("infinity", "unlimited"):
        return "infinity" if text else None
    match = _SIZE.match(text.upper())
    if match is None:
        raise ChangeError(f"services: memlock of {name} is {text!r}; it takes infinity, or bytes such as 8589934592, 8G or 512M")
    return str(int(match.group(1)) << 10 * " KMGT".index(match.group(2) or " "))


# --- reading


def read(name: str, online: tuple[int, ...]) -> place_plan.Unit | str:
    """A service as it is, or why there is none. Raises OSError when systemd does not answer."""
    if name.endswith("@.service"):
        return _template(name)
    shown = service.show(name, *_SHOW)
    if shown.get("LoadState") != "loaded":
        return f"{name} is {shown.get('LoadState') or 'not known'}: systemd has no such service to place"
    if "NUMAPolicy" not in shown:
        return f"{name}: this systemd does not know NUMAPolicy (it came with 243)"
    paths = [shown.get("FragmentPath", ""), *shown.get("DropInPaths", "").split()]
    cpus, nodes = _cpuset(shown, online)
    pid, group = shown.get("MainPID", "0"), shown.get("ControlGroup", "")
    program = _PROGRAM.search(shown.get("ExecStart", ""))
    unit = shown.get("Id") or name
    running = _running(unit, int(pid)) if pid.isdigit() else ()
    return place_plan.Unit(
        unit,
        _texts(paths),
        running,
        cpus,
        nodes,
        locality.own_memory(group),
        os.path.basename(program.group(1)) if program else "",
        locality.memory_of(group),
    )


def _running(unit: str, pid: int) -> tuple[place_plan.Running, ...]:
    state = service.process(pid) if pid > 0 else None
    return () if state is None else (place_plan.Running(unit, pid, state),)


def _texts(paths: list[str]) -> tuple[tuple[str, str], ...]:
    found = []
    for path in dict.fromkeys(path for path in paths if path):
        text = procfs.text_or_none(path, 1 << 20)
        if text is not None:
            found.append((path, text))
    return tuple(found)


def _template(name: str) -> place_plan.Unit | str:
    """A template has no properties of its own: its files are looked for, its instances asked."""
    main = [path for path in (f"{folder}/{name}" for folder in _FOLDERS) if os.path.isfile(path)]
    if not main:
        return f"{name} is not-found: systemd has no such template to place"
    drop_ins: dict[str, str] = {}
    for folder in reversed(_FOLDERS):
        for path in sorted(glob.glob(f"{folder}/{glob.escape(name)}.d/*.conf")):
            drop_ins[os.path.basename(path)] = path
    running: list[place_plan.Running] = []
    listed = command.run(["systemctl", "list-units", "--plain", "--no-legend", "--", name.replace("@.", "@*.")])
    if not listed.ok:
        raise OSError(5, listed.why())
    for line in listed.out.splitlines():
        instance = line.split()[0]
        pid = service.show(instance, "MainPID").get("MainPID", "0")
        running += _running(instance, int(pid)) if pid.isdigit() else ()
    return place_plan.Unit(name, _texts([main[0], *drop_ins.values()]), tuple(running))


def _cpuset(shown: dict[str, str], online: tuple[int, ...]) -> tuple[tuple[int, ...] | None, tuple[int, ...] | None]:
    """(processors, nodes) that its control group, or its slice's while it does not run, leaves it; None: all."""
    group = shown.get("ControlGroup") or service.show(shown.get("Slice") or "system.slice", "ControlGroup").get(
        "ControlGroup", ""
    )
    found = []
    for kind, own in (("cpus", "AllowedCPUs"), ("mems", "AllowedMemoryNodes")):
        allowed = _effective(group, kind)
        # The service's own list counts already where the control group is there.
        mine = cpulist.parse_or_none(shown.get(own, "").replace(" ", ",")) or None
        if mine is not None:
            allowed = mine if allowed is None else tuple(one for one in allowed if one in mine)
        found.append(allowed)
    cpus = None if found[0] is not None and set(found[0]) == set(online) else found[0]
    return cpus, found[1]


def _effective(group: str, kind: str) -> tuple[int, ...] | None:
    """Of the nearest group up the tree that has the file; on hosts with cgroup 1 systemd makes no cpusets."""
    while True:
        path = f"/sys/fs/cgroup{group.rstrip('/')}/cpuset.{kind}.effective"
        found = cpulist.parse_or_none(procfs.text_or_none(path, 65536))
        if found or group in ("", "/"):
            return found or None
        group = os.path.dirname(group)


# --- running


def run(options: Options, check: bool) -> dict[str, Any]:
    """What the module returns. Raises ChangeError, lock.Busy, journal.JournalError, objects.ObjectError."""
    fallen: list[str] = []

    def settle(changes: list[Difference]) -> None:
        """A service of type simple counts as started, and may end a moment later."""
        restarted = [one.target.name for one in changes if one.target.kind == "service"]
        fallen[:] = [
            f"{unit} does not run any more after its restart: journalctl -u {unit} says why"
            for unit in restarted
            if (service.capture(unit) or {}).get("failed")
        ]

    def looked(found: journal.Journal) -> change.Work:
        work = study(options, found)
        work.errors += fallen
        return work

    changer = change.Changer(OWNER, looked, options.folder, settle=settle)
    return change.run(changer, options.state, check, options.force)


def study(options: Options, found: journal.Journal) -> change.Work:
    """Read and plan; changes nothing."""
    shape = topology.read()
    work, items, keep = change.Work(), [], set()
    for want in options.services:
        try:
            unit = read(want.name, shape.online) if objects.systemd() else f"{want.name}: systemd does not run this host"
        except OSError as error:
            work.errors.append(f"{want.name}: {error.strerror or error}")
            continue
        if isinstance(unit, str):
            items.append(place_plan.Item(want, want.name, action="skip", reason=unit))
            if options.missing == "fail":
                work.errors.append(f"{unit}; missing: skip passes over it")
            continue
        item = place_plan.make(shape, want, unit, options.reserve)
        items.append(item)
        if item.action == "refuse":
            work.errors.append(item.reason)
        elif item.text:
            work.changes += _file(item)
            path = place_plan.drop_in(item.unit)
            keep |= {Object("file", path), Object("dir", os.path.dirname(path))}
            keep |= {Object("service", one.unit) for one in unit.running}
    gone = change.released(found, OWNER, keep, own_names=(place_plan.DROP_IN,))
    # A service that nobody asks to restart keeps its place until it is restarted; the journal remembers it.
    gone = [one for one in gone if options.restart or one.target.kind != "service"]
    work.changes += sorted(gone, key=lambda one: one.target.kind == "service")
    if options.restart:
        work.changes += [Difference(Object("service", one.unit), one.now, one.will) for item in items for one in item.restarts]
    waiting = [] if options.restart else [one.text for item in items for one in item.restarts]
    waiting += [] if options.restart else [_returns(one.target.name) for one in gone if one.target.kind == "file"]
    work.result = {
        "plan": [item.to_dict() for item in items],
        "restart": waiting,
        "far": _far(shape),
        "notes": [note for item in items for note in item.notes] + [gap.why for gap in shape.gaps],
    }
    return work


def _far(shape: topology.Topology) -> list[dict[str, Any]]:
    """Every service of the host that is away from what it has, placed or not."""
    if len(shape.nodes) < 2:
        return []
    found = locality.far(locality.read().data, sockets.read().data["listeners"])
    return [
        {
            "unit": one.service["unit"],
            "pid": one.service["pid"],
            "process": one.service["process"],
            "node": one.node,
            "belongs": one.belongs,
            "far_from": one.kinds,
            "text": "; ".join([one.text, *one.lines]),
        }
        for one in found
    ]


def _returns(path: str) -> str:
    unit = os.path.basename(os.path.dirname(path))[: -len(".d")]
    return f"restart {unit} to take its place away: it keeps it until then"


def _file(item: place_plan.Item) -> list[Difference]:
    path = place_plan.drop_in(item.unit)
    target, after = Object("file", path), file_state(item.text)
    before = objects.capture(target)
    if objects.same(target, before, after):
        return []
    folder = Object("dir", os.path.dirname(path))
    made = [] if os.path.isdir(folder.name) else [Difference(folder, None, {"mode": 0o755})]
    return [*made, Difference(target, before, after)]
