# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""huge_pages: options → read → plan → apply. Files and the order of boot; the plan itself is pages_plan.py."""

from __future__ import annotations

import json
import os
import re
import sys
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.netops.fleet.plugins.module_utils._evidence import topology
from ansible_collections.netops.fleet.plugins.module_utils._kernel import procfs
from ansible_collections.netops.fleet.plugins.module_utils._safety import files, journal, objects
from ansible_collections.netops.fleet.plugins.module_utils._safety.change import ChangeError, Difference
from ansible_collections.netops.fleet.plugins.module_utils._safety.objects import Object, file_state
from ansible_collections.netops.fleet.plugins.module_utils._safety.pages import capture_pages, chosen
from ansible_collections.netops.fleet.plugins.module_utils._tuning import boot_order, change, pages_plan

OWNER = "huge_pages"
UNIT = "netops-fleet-pages.service"
UNIT_FILE = f"/etc/systemd/system/{UNIT}"
PROGRAM = "pages.pyz"
_UNIT_TEXT = """# Written by netops.fleet (huge_pages); changed by hand it is written again.
# {declared}
[Unit]
Description=Reserve huge pages and set transparent ones while memory is whole
DefaultDependencies=no
RequiresMountsFor={folder}
ConditionPathExists={folder}/{program}
After=systemd-modules-load.service systemd-sysctl.service
Before=sysinit.target
Conflicts=shutdown.target
Before=shutdown.target

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart={python} {folder}/{program} {arguments}

[Install]
WantedBy=sysinit.target
"""
_POOL = re.compile(r"hugepages-(\d+)kB\Z")
_WORDS = re.compile(r"\b(?:default_hugepagesz|hugepagesz|hugepages|hugetlb_cma|transparent_hugepage)=\S+")

_PAGES: dict[str, Any] = {
    "count": {"type": "int", "required": True},
    "size": {"type": "str"},
    "near": {"type": "str", "default": ""},
}
_THP: dict[str, Any] = {
    "enabled": {"type": "str", "choices": ["keep", *pages_plan.ENABLED], "default": "keep"},
    "defrag": {"type": "str", "choices": ["keep", *pages_plan.DEFRAG], "default": "keep"},
}
#: The argument spec of the module; its documentation stands in plugins/modules/huge_pages.py.
ARGUMENTS: dict[str, Any] = {
    "state": {"type": "str", "choices": ["present", "absent", "planned"], "default": "present"},
    "pages": {"type": "list", "elements": "dict", "default": [], "options": _PAGES},
    "thp": {"type": "dict", "default": {}, "options": _THP},
    "profile": {"type": "str", "choices": [*pages_plan.PROFILES, "own"], "default": "own"},
    "persist": {"type": "bool", "default": True},
    "force": {"type": "bool", "default": False},
}


@dataclass
class Options:
    """As in the module's documentation. folder: of the journal. sys: root of /sys."""

    state: str = "present"
    pages: list[pages_plan.Want] = field(default_factory=list)
    enabled: str = "keep"
    defrag: str = "keep"
    profile: str = "own"
    persist: bool = True
    force: bool = False
    folder: str = journal.FOLDER

    @classmethod
    def from_params(cls, params: dict[str, Any]) -> Options:
        """Raises ChangeError that names the option, what was found and what is allowed."""
        wants = []
        for one in params["pages"]:
            if one["count"] < 1:
                raise ChangeError(f"pages: count is {one['count']}; allowed are 1 and more, leave it out for none")
            try:
                size = pages_plan.size_kb(one["size"]) if one.get("size") else None
            except ValueError as error:
                raise ChangeError(f"pages: {error}") from None
            wants.append(pages_plan.Want(one["count"], size, one.get("near") or ""))
        thp = params.get("thp") or {}
        return cls(
            params["state"],
            wants,
            thp.get("enabled") or "keep",
            thp.get("defrag") or "keep",
            params["profile"],
            params["persist"],
            params["force"],
        )


def read(found: journal.Journal) -> pages_plan.Memory:
    """The host as it is; changes nothing."""
    shape = topology.read()
    meminfo = procfs.text_or_none("/proc/meminfo") or ""
    default = re.search(r"^Hugepagesize:\s+(\d+) kB", meminfo, re.MULTILINE)
    memory = pages_plan.Memory(shape, pools(shape), int(default.group(1)) if default else None)
    for name in ("enabled", "defrag"):
        content = procfs.text_or_none(f"{pages_plan.THP}/{name}", 4096)
        if content is not None:
            memory.thp[f"{pages_plan.THP}/{name}"] = (chosen(content), tuple(content.replace("[", " ").replace("]", " ").split()))
    for pool in memory.pools:
        original = found.original(Object("hugepages", pool.folder), {"pages": pool.pages})
        memory.originals[pool.folder] = int((original or {}).get("pages") or 0)
    memory.short = _shortages(found.folder)
    memory.boot_arguments = tuple(_WORDS.findall(procfs.text_or_none("/proc/cmdline", 65536) or ""))
    return memory


def pools(shape: topology.Topology) -> list[pages_plan.Pool]:
    """Every pool of huge pages, by node where the kernel knows nodes."""
    nodes = [node.number for node in shape.nodes if os.path.isdir(f"/sys/devices/system/node/node{node.number}/hugepages")]
    places: list[tuple[int | None, str]] = [(number, f"/sys/devices/system/node/node{number}/hugepages") for number in nodes]
    found = []
    for node, folder in places or [(None, "/sys/kernel/mm/hugepages")]:
        try:
            names = sorted(os.listdir(folder))
        except OSError:
            continue
        for name in names:
            match, state = _POOL.match(name), capture_pages(f"{folder}/{name}")
            if match and state:
                free = procfs.integer(f"{folder}/{name}/free_hugepages") or 0
                found.append(pages_plan.Pool(f"{folder}/{name}", node, int(match.group(1)), int(state["pages"]), free))
    return found


def run(options: Options, check: bool) -> dict[str, Any]:
    """What the module returns. Raises ChangeError, lock.Busy, journal.JournalError, objects.ObjectError."""
    changer = change.Changer(
        OWNER,
        lambda found: study(options, found),
        options.folder,
        prepare=lambda: _install(options),
        settle=lambda changes: _remember(options.folder, changes),
    )
    result = change.run(changer, options.state, check, options.force)
    result["warnings"] += result.get("shortages", [])
    return result


def study(options: Options, found: journal.Journal) -> change.Work:
    """Read and plan; changes nothing."""
    memory = read(found)
    plan = pages_plan.make(memory, options.pages, options.enabled, options.defrag, options.profile)
    work = change.Work(errors=plan.errors)
    # Pages first: transparent huge pages would take the whole memory that is left.
    for item in plan.items:
        if item.action == "set" and item.what == "pages":
            before, after = {"pages": int(item.present)}, {"pages": int(item.wanted)}
            work.changes.append(Difference(Object("hugepages", item.target), before, after))
        elif item.action == "set":
            work.changes.append(Difference(Object("sysfs", item.target), {"value": item.present}, {"value": item.wanted}))
    keep = {Object("hugepages", folder) for folder in plan.pages} | {Object("sysfs", path) for path in plan.thp}
    wanted: dict[Object, dict[str, Any]] = {}
    if options.persist and (plan.pages or plan.thp) and objects.systemd():
        wanted = {
            Object("file", UNIT_FILE): file_state(_unit_text(options, plan)),
            Object("unit", UNIT): {"enabled": True, "active": True},
        }
    elif options.persist and (plan.pages or plan.thp):
        plan.notes.append("systemd does not run this host: nothing is done at the next boot")
    for target, after in wanted.items():
        present = objects.capture(target)
        if not objects.same(target, present, after):
            work.changes.append(Difference(target, present, after))
    keep |= set(wanted)
    work.changes += change.released(found, OWNER, keep)
    work.result = {
        "plan": [item.to_dict() for item in plan.items],
        "notes": plan.notes,
        "shortages": [f"node {item.node}: {item.reason}" if item.node is not None else item.reason for item in plan.shortages],
        "warnings": _others(plan),
        "pools": [
            {"node": pool.node, "size_kb": pool.size_kb, "pages": pool.pages, "free": pool.free}
            for pool in pools(memory.topology)
        ],
    }
    return work


def _others(plan: pages_plan.Plan) -> list[str]:
    """Who writes the same at boot or after it. vm.nr_hugepages is the sum over all nodes, and shrinks them all."""
    return _sum_writers(plan) + _thp_writers(plan)


def _thp_writers(plan: pages_plan.Plan) -> list[str]:
    wanted = plan.thp.get(f"{pages_plan.THP}/enabled")
    last = boot_order.huge_page_writers()[-1:] if wanted is not None else []
    return [
        f"{one.file} line {one.line} (tuned) sets transparent huge pages to {one.value or 'a value it computes'} after boot, "
        f"wanted is {wanted}: choose another profile of tuned, or set it there"
        for one in last
        if one.value != wanted
    ]


def _sum_writers(plan: pages_plan.Plan) -> list[str]:
    if not plan.pages:
        return []
    found = boot_order.read()
    winner = found.winner("vm.nr_hugepages")
    every = [*([winner] if winner is not None else []), *found.after("vm.nr_hugepages")]
    return [
        f"{one.file} line {one.line} ({one.writer}) sets vm.nr_hugepages, the sum over all nodes, and would change these pages "
        "whenever it is applied: remove it"
        for one in every
    ]


def _unit_text(options: Options, plan: pages_plan.Plan) -> str:
    words = [f"--pages {folder}={number}" for folder, number in sorted(plan.pages.items())]
    words += [f"--set {path}={value}" for path, value in sorted(plan.thp.items())]
    return _UNIT_TEXT.format(
        declared=f"profile {options.profile}",
        folder=options.folder,
        program=PROGRAM,
        python=sys.executable or "/usr/bin/python3",
        arguments=" ".join(words),
    )


def _install(options: Options) -> None:
    """The program of the unit. Raises ChangeError."""
    from ansible_collections.netops.fleet.plugins.module_utils._safety import portable
    from ansible_collections.netops.fleet.plugins.module_utils._tuning import pages_boot

    try:
        portable.install(options.folder, PROGRAM, pages_boot.__name__)
    except (OSError, ImportError) as error:
        raise ChangeError(f"Nothing was changed. {options.folder}/{PROGRAM}: {error}") from None


# --- what this boot's tries yielded


def _shortages(folder: str) -> dict[str, tuple[int, int]]:
    try:
        found = json.loads(procfs.text_or_none(f"{folder}/pages.json") or "{}")
        if found.get("boot") != journal.boot_id():
            return {}
        return {str(name): (int(one[0]), int(one[1])) for name, one in found["short"].items()}
    except (ValueError, KeyError, TypeError, IndexError, AttributeError):
        return {}


def _remember(folder: str, changes: list[Difference]) -> None:
    """Fewer pages than wanted are what this boot yields: asked again at once it would not give more."""
    short = _shortages(folder)
    for one in changes:
        if one.target.kind == "hugepages" and one.after is not None:
            short.pop(one.target.name, None)
            got = (capture_pages(one.target.name) or {"pages": 0})["pages"]
            if got < one.after["pages"]:
                short[one.target.name] = (one.after["pages"], got)
    text = json.dumps({"boot": journal.boot_id(), "short": short}, sort_keys=True)
    files.write(f"{folder}/pages.json", text.encode("ascii") + b"\n")
