# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""sysctl_tuning: options → read → plan → journal → apply → read again. The only place of this room that writes to the host."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from ansible_collections.netops.fleet.plugins.module_utils._kernel import parameters, sysctl
from ansible_collections.netops.fleet.plugins.module_utils._safety import journal, lock, objects
from ansible_collections.netops.fleet.plugins.module_utils._safety.change import (
    PATIENCE,
    ChangeError,
    Difference,
    Write,
    apply,
    differs,
    finished,
    folders_for,
    open_folder,
    overdue,
    read_only,
    unbroken,
)
from ansible_collections.netops.fleet.plugins.module_utils._safety.objects import Object
from ansible_collections.netops.fleet.plugins.module_utils._safety.release import released
from ansible_collections.netops.fleet.plugins.module_utils._tuning import (
    bdp,
    boot_order,
    host,
    limits,
    profiles,
    sysctl_plan,
)

OWNER = "sysctl_tuning"
TuneError = ChangeError
#: Names that do not make a folder somebody else's too.
_OWN_FILES = (limits.DROP_IN, *(path.rpartition("/")[2] for path in (limits.PAM, sysctl_plan.FILE, sysctl_plan.RULES)))

_PATHS: dict[str, Any] = {
    "name": {"type": "str", "required": True},
    "rtt_ms": {"type": "float", "required": True},
    "mbit": {"type": "float"},
}
_LIMITS: dict[str, Any] = {
    "nofile": {"type": "int"},
    "services": {"type": "list", "elements": "str", "default": []},
    "pam": {"type": "bool", "default": False},
}
#: The argument spec of the module; its documentation stands in plugins/modules/sysctl_tuning.py.
ARGUMENTS: dict[str, Any] = {
    "state": {"type": "str", "choices": ["present", "absent", "planned"], "default": "present"},
    "profile": {"type": "str", "choices": list(profiles.NAMES), "default": "own"},
    "settings": {"type": "dict", "default": {}},
    "link_mbit": {"type": "float"},
    "rtt_ms": {"type": "float"},
    "paths": {"type": "list", "elements": "dict", "default": [], "options": _PATHS},
    "connections": {"type": "int"},
    "flows": {"type": "int"},
    "neighbours": {"type": "int"},
    "parts": {"type": "list", "elements": "str", "choices": list(profiles.PARTS), "default": []},
    "keepalive": {"type": "list", "elements": "int", "default": []},
    "missing": {"type": "str", "choices": ["skip", "fail"], "default": "skip"},
    "persist": {"type": "bool", "default": True},
    "limits": {"type": "dict", "options": _LIMITS, "default": {}},
    "adapt": {"type": "bool", "default": False},
    "adapt_window": {"type": "float", "default": 5.0},
    "adapt_interval": {"type": "int", "default": 0},
    "deadman": {"type": "int", "default": 0},
    "force": {"type": "bool", "default": False},
}


class Options(NamedTuple):
    """Units as in the module's documentation. folder: of the journal."""

    state: str = "present"
    profile: str = "own"
    settings: Mapping[str, str] = MappingProxyType({})
    link_mbit: float | None = None
    paths: Sequence[dict[str, Any]] = ()
    connections: int | None = None
    flows: int | None = None
    neighbours: int | None = None
    parts: tuple[str, ...] = ()
    keepalive: tuple[int, int, int] | None = None
    missing: str = "skip"
    persist: bool = True
    nofile: int | None = None
    services: Sequence[str] = ()
    pam: bool = False
    adapt: bool = False
    adapt_window: float = 5.0
    adapt_interval: int = 0
    deadman: int = 0
    force: bool = False
    folder: str = journal.FOLDER

    @classmethod
    def from_params(cls, params: dict[str, Any]) -> Options:
        """Raises TuneError that names the option, what was found and what is allowed."""
        paths = [dict(path) for path in params["paths"]]
        if params.get("rtt_ms") is not None:
            paths.append({"name": "every peer", "rtt_ms": params["rtt_ms"], "mbit": None})
        for path in paths:
            if not 0 < path["rtt_ms"] <= 10000:
                raise TuneError(f"rtt_ms of {path['name']} is {path['rtt_ms']}; allowed are above 0 to 10000 ms")
            if path.get("mbit") is not None and not 0 < path["mbit"] <= 10_000_000:
                raise TuneError(f"mbit of {path['name']} is {path['mbit']}; allowed are above 0 to 10000000 Mbit/s")
        for name, low, high in (
            ("link_mbit", 1, 10_000_000),
            ("connections", 1, 100_000_000),
            ("flows", 1, 10_000_000),
            ("neighbours", 1, 10_000_000),
        ):
            value = params.get(name)
            if value is not None and not low <= value <= high:
                raise TuneError(f"{name} is {value}; allowed are {low} to {high}")
        if params["parts"] and params["profile"] != "own":
            raise TuneError(f"parts is given with profile {params['profile']}, which has its own; it goes with profile own")
        keepalive = params["keepalive"]
        if keepalive and (len(keepalive) != 3 or not all(1 <= one <= most for one, most in zip(keepalive, (32767, 32767, 127)))):
            raise TuneError(f"keepalive is {keepalive}; it takes three numbers: seconds of silence, between probes, and probes")
        if params["deadman"] and not 10 <= params["deadman"] <= 3600:
            raise TuneError(f"deadman is {params['deadman']}; allowed are 0 and 10 to 3600 seconds")
        if not 0.1 <= params["adapt_window"] <= 300:
            raise TuneError(f"adapt_window is {params['adapt_window']}; allowed are 0.1 to 300 seconds")
        if params["adapt_interval"] and not 10 <= params["adapt_interval"] <= 86400:
            raise TuneError(f"adapt_interval is {params['adapt_interval']}; allowed are 0 (no timer) and 10 to 86400 seconds")
        given = params.get("limits") or {}
        return cls(
            state=params["state"],
            profile=params["profile"],
            settings=_settings(params["settings"]),
            link_mbit=params.get("link_mbit"),
            paths=paths,
            connections=params.get("connections"),
            flows=params.get("flows"),
            neighbours=params.get("neighbours"),
            parts=tuple(params["parts"]),
            keepalive=tuple(keepalive) if keepalive else None,
            missing=params["missing"],
            persist=params["persist"],
            nofile=given.get("nofile"),
            services=list(given.get("services") or []),
            pam=bool(given.get("pam")),
            adapt=params["adapt"],
            adapt_window=params["adapt_window"],
            adapt_interval=params["adapt_interval"],
            deadman=params["deadman"],
            force=params["force"],
        )


def _settings(given: dict[str, Any]) -> dict[str, str]:
    """Canonical names to values in the kernel's own words."""
    found: dict[str, str] = {}
    for raw, value in given.items():
        name = sysctl.canonical(str(raw))
        try:
            sysctl.path(name)
        except ValueError as error:
            raise TuneError(f"settings: {error}") from None
        if any(character in name for character in "*?["):
            raise TuneError(f"settings: {name}: patterns are not allowed, name each key")
        if isinstance(value, bool):
            raise TuneError(f"settings: {name} is {value}; YAML reads yes, no, on and off as truth values: write 1 or 0")
        if isinstance(value, (list, tuple)):
            value = " ".join(str(one) for one in value)
        if not isinstance(value, (str, int)):
            raise TuneError(f"settings: {name} is {value!r}; it takes a number, a word, or a list of numbers")
        if name in found and found[name] != sysctl.tokens(str(value)):
            raise TuneError(f"settings: {name} is given twice, as {found[name]!r} and {value!r}")
        if any(ord(character) < 32 for character in str(value).replace("\t", " ")):
            raise TuneError(f"settings: {name}: the value holds a line break or another control character")
        found[name] = sysctl.tokens(str(value))
    return found


class Work(NamedTuple):
    """One reading of the host against the options. stale: programs that keep old limits."""

    plan: sysctl_plan.Plan
    changes: list[Difference]
    notes: list[str]
    facts: dict[str, Any]
    errors: list[str]
    somaxconn: tuple[int | None, int | None]


def study(options: Options, found: journal.Journal, moved: dict[str, str] | None = None) -> Work:
    """Read and plan; changes nothing. moved: values that adaptive buffers decided on."""
    names = dict.fromkeys([*profiles.keys(), *options.settings])
    live = [entry for entry in found.live.values() if entry.owner == OWNER]
    names.update(dict.fromkeys(entry.target.name for entry in live if entry.target.kind == "sysctl"))
    names.update(dict.fromkeys(("net.ipv4.tcp_timestamps",)))
    present = host.present(names)
    originals = {name: _original(found, name, value) for name, value in present.values.items()}
    facts = _facts(options, originals)
    wanted = profiles.make(options.profile, facts)
    wants = sysctl_plan.merge(wanted.wants, options.settings)
    notes = list(wanted.notes)
    if moved is not None:
        wants = _adapted(wants, moved)
    present.choices = host.choices(want.name for want in wants if present.values.get(want.name) is not None)
    own = objects.capture(Object("file", sysctl_plan.FILE))
    rules = objects.capture(Object("file", sysctl_plan.RULES))
    content, _rules = sysctl_plan.render(present, wants, options.missing)
    # A foreign file of our name (from before) gives way; with persist off ours goes too.
    boot = boot_order.read(own={sysctl_plan.FILE: content if options.persist else ""})
    returning = _returning(live, present, originals, wants)
    plan = sysctl_plan.make(present, boot, wants, own, rules, options.missing, options.persist, returning=returning)
    notes += [f"{line}: it could not be read, so it is not known what it sets at boot" for line in boot.unread]
    changes, errors = list(plan.changes), list(plan.errors)
    _limits(options, plan, present, changes, errors)
    if options.adapt and options.adapt_interval:
        changes += _adaptive().timer_changes(options.folder, options.adapt_interval)
    changes = _with_folders(changes, errors)
    kept = {change.target for change in changes} | _kept(options, plan)
    changes += released(found, OWNER, kept, own_names=_OWN_FILES, cuts=_cuts)
    if glob.glob("/etc/systemd/system/*.wants/bpftune.service"):
        notes.append("bpftune is switched on: it stops tuning a parameter that somebody else writes, until it is restarted")
    was, will = originals.get("net.core.somaxconn"), _will(plan, present, "net.core.somaxconn")
    shown = {
        "link_mbit": facts.link_mbit,
        "memory_bytes": facts.memory,
        "connections": facts.connections or profiles.USES[options.profile].connections,
        "flows": facts.flows or profiles.USES[options.profile].flows,
        "paths": [{"name": path.name, "rtt_ms": path.rtt_ms, "mbit": path.mbit} for path in facts.paths],
        "zerocopy": host.zerocopy(),
    }
    if options.paths and not facts.paths:
        notes.append("no link's speed is known: declare link_mbit, or mbit of each path; buffers are kept")
    return Work(plan, changes, notes, shown, errors, (_number(was), _number(will)))


def _returning(
    live: list[journal.Entry], present: sysctl_plan.Present, originals: Mapping[str, str | None], wants: list[profiles.Want]
) -> dict[str, str]:
    """Originals of keys that are wanted no longer, and that nobody else changed since: what release.py will write."""
    wanted = {want.name for want in wants}
    for name in list(wanted):
        for pattern in parameters.COMPANIONS.get(name, ()):
            wanted.update(_matching(pattern))
    found = {}
    for entry in live:
        if entry.target.kind != "sysctl" or entry.target.name in wanted:
            continue
        now, was = present.values.get(entry.target.name), originals.get(entry.target.name)
        if now is not None and was is not None and entry.ours({"value": now}):
            found[entry.target.name] = was
    return found


def _cuts(target: Object) -> bool:
    known = parameters.key(target.name) if target.kind == "sysctl" else None
    return known is not None and known.cuts


def _adapted(wants: list[profiles.Want], moved: dict[str, str]) -> list[profiles.Want]:
    """What adaptive buffers decided, in place of the profile's; explicit keys stay."""
    told = {want.name: want for want in wants}
    for name, value in moved.items():
        if name != "why" and (name not in told or told[name].origin == "profile"):
            told[name] = profiles.Want(name, value, "adaptive: " + moved["why"], "T04")
    return list(told.values())


def _original(found: journal.Journal, name: str, value: str | None) -> str | None:
    state = found.original(Object("sysctl", name), None if value is None else {"value": value})
    return None if state is None else str(state.get("value"))


def _number(value: str | None) -> int | None:
    return int(value) if value is not None and value.isdigit() else None


def _will(plan: sysctl_plan.Plan, present: sysctl_plan.Present, name: str) -> str | None:
    for item in plan.items:
        if item.want.name == name and item.action in ("set", "none"):
            return item.want.value
    return present.values.get(name)


def _facts(options: Options, originals: dict[str, str | None]) -> profiles.Facts:
    speed = options.link_mbit or host.link_mbit()
    paths = []
    for path in options.paths:
        mbit = path.get("mbit") or speed
        if mbit is not None:
            paths.append(bdp.Path(str(path["name"]), float(path["rtt_ms"]), float(min(mbit, speed) if speed else mbit)))
    facts = profiles.Facts(
        originals,
        host.memory()[0],
        os.sysconf("SC_PAGE_SIZE"),
        host.kernel(),
        speed,
        paths,
        options.connections,
        options.flows,
        options.neighbours,
        host.tcp_pressure(),
        conntrack=host.conntrack(),
        parts=options.parts,
        keepalive=options.keepalive,
    )
    if "congestion" in (options.parts or profiles.USES[options.profile].parts) and paths:
        facts.congestion = host.congestion()
        facts.qdisc = host.qdiscs() if originals.get("net.core.default_qdisc") is not None else None
    return facts


def _limits(
    options: Options,
    plan: sysctl_plan.Plan,
    present: sysctl_plan.Present,
    changes: list[Difference],
    errors: list[str],
) -> None:
    wrong = limits.check(options.nofile, _number(_will(plan, present, "fs.nr_open")))
    if wrong is not None:
        errors.append(wrong)
    try:
        wanted = limits.wanted_files(options.nofile, options.services, options.pam)
    except ValueError as error:
        errors.append(str(error))
        return
    changes += limits.changes(wanted, {path: objects.capture(Object("file", path)) for path in wanted})


def _with_folders(changes: list[Difference], errors: list[str]) -> list[Difference]:
    """The folders that files need come before them; a file that cannot be written is an error before anything is."""
    found: list[Difference] = []
    made: set[str] = set()
    for change in changes:
        if change.target.kind == "file" and change.after is not None:
            if read_only(change.target.name):
                errors.append(
                    f"{change.target.name} cannot be written: its file system is read-only here. "
                    "To change only the kernel, set persist: false and no limits"
                )
                continue
            folders = folders_for(change.target.name, made)
            made.update(folder.target.name for folder in folders)
            found += folders
        found.append(change)
    return found


def _kept(options: Options, plan: sysctl_plan.Plan) -> set[Object]:
    """Objects that stay the collection's although they need no change."""
    kept = {Object("sysctl", item.want.name) for item in plan.items if item.action in ("set", "none")}
    for item in plan.items:
        for pattern in parameters.COMPANIONS.get(item.want.name, ()):
            kept.update(Object("sysctl", name) for name in _matching(pattern))
    if options.persist:
        kept |= {Object("file", sysctl_plan.FILE), Object("file", sysctl_plan.RULES)}
    for path in limits.wanted_files(options.nofile, options.services, options.pam):
        kept.add(Object("file", path))
    if options.adapt and options.adapt_interval:
        kept |= set(_adaptive().timer_objects())
    return kept | {Object("dir", folder) for one in kept if one.kind == "file" for folder in _parents(one.name)}


def _parents(path: str) -> list[str]:
    parts = path.split("/")[1:-1]
    return ["/" + "/".join(parts[:depth]) for depth in range(1, len(parts) + 1)]


def _matching(pattern: str) -> list[str]:
    return sysctl.children(pattern) if "*" in pattern else [pattern]


# --- running


def run(options: Options, check: bool) -> dict[str, Any]:
    """What the module returns. Raises TuneError, lock.Busy, journal.JournalError."""
    if options.state == "absent":
        from ansible_collections.netops.fleet.plugins.module_utils._tuning import change

        return change.back(OWNER, options.folder, check, options.force)
    sample = _adaptive().measure(options.adapt_window) if options.adapt else None
    if check or options.state == "planned":
        found = journal.Journal(options.folder)
        moved = _moved(options, sample, found, remember=False)
        work = study(options, found, moved)
        _refuse(work)
        return _result(options, work, [one for one in work.changes if differs(one)])
    open_folder(options.folder)
    with lock.Lock(options.folder, OWNER, wait=PATIENCE):
        late = overdue(options.folder)
        found = journal.Journal(options.folder)
        moved = _moved(options, sample, found, remember=True)
        work = study(options, found, moved)
        _refuse(work)
        changes = work.changes
        work.notes.extend(late)
        result = _result(options, work, [one for one in changes if differs(one)])
        if options.adapt and options.adapt_interval:
            try:
                # Also where nothing differs now: the timer is to know what holds from here on.
                _adaptive().install(options)
            except OSError as error:
                raise TuneError(f"Nothing was changed. {options.folder}: {error.strerror or error}") from None
        if not changes:
            finished(found, OWNER)
            return result
        with unbroken():
            result.update(apply(found, OWNER, changes, options.deadman, lambda: _left(options, found, moved), _along))
        return result


def _moved(options: Options, sample: Any, found: journal.Journal, remember: bool) -> dict[str, str] | None:
    if sample is None:
        return None
    values: dict[str, str] = _adaptive().decide(options.folder, _adaptive().settings(options), sample, found, remember)
    return values


def _adaptive() -> Any:
    """Imported late, as the dead-man's timer is: each file that is not needed saves its compilation on every host."""
    from ansible_collections.netops.fleet.plugins.module_utils._tuning import adaptive

    return adaptive


def _refuse(work: Work) -> None:
    if work.errors:
        raise TuneError("Nothing was changed. " + "; ".join(work.errors), plan=[item.to_dict() for item in work.plan.items])


def _along(change: Difference) -> Iterator[Write]:
    """Parameters that change by themselves when one is written."""
    for pattern in parameters.COMPANIONS.get(change.target.name, ()) if change.target.kind == "sysctl" else ():
        for name in _matching(pattern):
            value = sysctl.read(name)
            if value is not None and name != change.target.name:
                yield Object("sysctl", name), {"value": value}, journal.ANY


def _left(options: Options, found: journal.Journal, moved: dict[str, str] | None) -> list[str]:
    """The second plan: what still differs after applying."""
    work = study(options, found, moved)
    told = list(work.errors)
    for change in work.changes:
        if differs(change):
            before, after = sysctl_plan._shown(change.before), sysctl_plan._shown(change.after)
            ticks = change.target.kind == "sysctl" and sysctl.rounded(change.target.name, after, before)
            why = f" (the kernel keeps whole ticks of it and rounds up: set it to {before})" if ticks else ""
            told.append(f"{change.target} is {before}, wanted {after}{why}")
    return told


def _result(options: Options, work: Work, changes: list[Difference]) -> dict[str, Any]:
    was, will = work.somaxconn
    stale = host.stale(will, was, options.nofile, options.services)
    notes = list(work.notes)
    if stale["gap"]:
        notes.append(f"listening sockets were not looked at: {stale['gap']}")
    result = {
        "changed": bool(changes),
        "plan": [item.to_dict() for item in work.plan.items],
        "changes": [change.to_dict() for change in changes],
        "diff": sysctl_plan.diff(changes),
        "skipped_keys": {item.want.name: item.reason for item in work.plan.items if item.action == "skip"},
        "overridden": list(work.plan.warnings),
        "warnings": list(work.plan.warnings),
        "notes": notes,
        "facts": work.facts,
        "restart": [one["text"] for one in stale["backlogs"] + stale["limits"]],
        "old_backlogs": stale["backlogs"],
        "old_limits": stale["limits"],
        "change": None,
        "confirm_within": None,
    }
    if options.adapt:
        result["ansible_facts"] = {"netops_fleet_adapt": _adaptive().report(options.folder)}
    return result
