# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""The module firewall_groups: options → table as text → tried in a namespace → journal → one transaction → read again."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from ansible_collections.netops.fleet.plugins.module_utils._firewall import groups, nft_kernel, opening, persist, read
from ansible_collections.netops.fleet.plugins.module_utils._firewall.set_plan import SetsError
from ansible_collections.netops.fleet.plugins.module_utils._kernel import command, netns
from ansible_collections.netops.fleet.plugins.module_utils._safety import change, connection, journal, lock, nft_state
from ansible_collections.netops.fleet.plugins.module_utils._safety.change import Difference
from ansible_collections.netops.fleet.plugins.module_utils._safety.nft_state import Opened
from ansible_collections.netops.fleet.plugins.module_utils._safety.objects import Object

OWNER = "firewall_groups"
_PATIENCE = 10.0
_NO_NFTABLES = ("Operation not supported", "Protocol not supported", "Unable to initialize Netlink")
_OTHERWISE = "Without it: sets of module ipset (backend: ipset), and a rule of iptables of your own that names them"
_NAME = f"inet {groups.TABLE}"
TARGET = Object("nfttable", _NAME)

_GROUP: dict[str, Any] = {
    "name": {"type": "str", "required": True},
    "addresses": {"type": "list", "elements": "str", "default": []},
    "ports": {"type": "list", "elements": "str", "default": []},
    "action": {"type": "str", "choices": ["allow", "block"], "default": "allow"},
}
#: The argument spec of the module; its documentation stands in plugins/modules/firewall_groups.py.
ARGUMENTS: dict[str, Any] = {
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "groups": {"type": "list", "elements": "dict", "default": [], "options": _GROUP},
    "lockout": {"type": "bool", "default": False},
    "persist": {"type": "bool", "default": True},
    "deadman": {"type": "int", "default": 0},
}


@dataclass
class Work:
    """text: of the table. boot: some of the changes are for the next boot."""

    text: str
    listing: str
    before: dict[str, Any] | None
    changes: list[Difference]
    boot: bool = False
    notes: list[str] = field(default_factory=list)


def run(params: dict[str, Any], check: bool, folder: str = journal.FOLDER) -> dict[str, Any]:
    """What the module returns. Raises SetsError, change.ChangeError, journal.JournalError, lock.Busy, OSError."""
    if params["deadman"] and not 10 <= params["deadman"] <= 3600:
        raise SetsError(f"deadman is {params['deadman']}; allowed are 0 and 10 to 3600 seconds")
    wanted = groups.parse(params["groups"]) if params["state"] == "present" else []
    if wanted and not params["lockout"]:
        _not_locked_out(wanted)
    if command.find("nft") is None:
        raise SetsError(
            "nft is not installed, and groups are a table of nftables, which stands beside rules of iptables and changes none of "
            f"them: install the package nftables. {_OTHERWISE}"
        )
    if check:
        return _result(_study(params, wanted, journal.Journal(folder)))
    change.open_folder(folder)
    with lock.Lock(folder, OWNER, wait=_PATIENCE):
        notes = change.overdue(folder)
        found = journal.Journal(folder)
        work = _study(params, wanted, found)
        result = _result(work)
        result["notes"] += notes
        if not work.changes:
            change.finished(found, OWNER)
            return result

        def left() -> list[str]:
            now = nft_state.listed("table", _NAME)
            if ("" if now is None else nft_state.steady(now)) != nft_state.steady(work.listing):
                return ["the table is not as nft showed it when it was tried"]
            if not work.boot:
                return []
            rehearsed = persist.rehearse([TARGET])
            result["notes"] += [rehearsed.gap] if rehearsed.gap else rehearsed.others(groups.TABLE)
            problems = [] if rehearsed.gap else rehearsed.problems(groups.TABLE)
            if (
                not rehearsed.gap
                and not problems
                and not nft_state.same(rehearsed.states[str(TARGET)], nft_state.capture_table(_NAME))
            ):
                problems = ["the next boot would not bring the table as it is now"]
            return problems

        with change.unbroken():
            result.update(change.apply(found, OWNER, work.changes, params["deadman"], left))
        return result


def _study(params: dict[str, Any], wanted: list[groups.Group], found: journal.Journal) -> Work:
    free, why = nft_kernel.available()
    if free is None:
        raise OSError(1, why)
    before = nft_state.capture_table(_NAME) if free else None
    text = groups.text(wanted) if wanted else ""
    listing = _tried(text) if text else ""
    after = {"digest": nft_state.table_digest(listing)} if listing else None
    work = Work(text, listing, before, [])
    if not nft_state.same(before, after):
        if before is not None and TARGET not in found.live:
            raise SetsError(
                f"table {_NAME} is there and was not made by this collection; remove it first: nft delete table {_NAME}"
            )
        entry = found.live.get(TARGET)
        release = after is None and entry is not None and entry.original is None
        more = _open_elsewhere() if before is None else []
        work.notes += _told(more if before is None else nft_state.opened(before["text"]), stays=bool(text))
        write = partial(nft_state.put_table, _NAME, {"text": text} if text else None, more)
        work.changes.append(Difference(TARGET, before, after, cuts=True, release=release, write=write))
    if params["persist"]:
        boot = persist.plan("nft", _NAME, f"add table {_NAME}\ndelete table {_NAME}\n{text}" if text else None)
        work.changes += boot.changes
        work.boot = bool(boot.changes)
        work.notes += boot.notes
    return work


def _open_elsewhere() -> list[Opened]:
    """Ports that are open for a while: the new table must not close them before their time."""
    found = opening.everywhere(read.read(elements=False).data)
    return [Opened("input", opening.nft_rule(one), f"{one.protocol}/{one.port} from {one.source}", one.until) for one in found]


def _told(running: list[Opened], stays: bool) -> list[str]:
    """What becomes of ports that are open for a while."""
    what = (
        "stays open: its rule stands first in the new table too"
        if stays
        else "loses its rule in this table, which goes; it stays open where other chains have one, and other rules decide then"
    )
    ends = [time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(one.until)) for one in running]
    return [f"the opening {one.port}, until {end} UTC, {what}" for one, end in zip(running, ends)]


def _tried(text: str) -> str:
    """How nft lists the table, found out in a namespace of its own; what nft does not take is found out there too."""

    def inside() -> dict[str, Any]:
        nft_state.transaction(text)
        return {"listing": nft_state.listed("table", _NAME)}

    try:
        return str(netns.apart(inside)["listing"])
    except OSError as error:
        why = error.strerror or str(error)
        # What nft says on a kernel that was built without nf_tables, and where its module may not be loaded.
        lacks = any(
            words in why for words in ("Operation not supported", "Protocol not supported", "Unable to initialize Netlink")
        )
        hint = f". The kernel seems to have no nf_tables (modprobe nf_tables says why). {_OTHERWISE}" if lacks else ""
        raise SetsError(f"the table could not be tried in a namespace of its own: {why}{hint}") from None


def _not_locked_out(wanted: list[groups.Group]) -> None:
    present = connection.Connection.current()
    why = groups.refused(wanted, present.source, present.port) if present is not None else ""
    if why:
        raise SetsError(f"the connection that this came over could not be opened again: {why}. lockout: true does it anyway")


def _result(work: Work) -> dict[str, Any]:
    before = nft_state.steady(work.before["text"]) if work.before else ""
    return {
        "changed": bool(work.changes),
        "ruleset": work.listing,
        "diff": {"before": before, "after": nft_state.steady(work.listing)},
        "change": None,
        "confirm_within": None,
        "notes": list(work.notes),
    }
