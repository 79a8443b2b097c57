# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""Sets as ipsets of the kernel: read, build aside, swap."""

from __future__ import annotations

from typing import Any

from ansible_collections.netops.fleet.plugins.module_utils._firewall import set_content, set_plan, set_records
from ansible_collections.netops.fleet.plugins.module_utils._firewall.model import Action
from ansible_collections.netops.fleet.plugins.module_utils._firewall.set_plan import Plan, Present, SetsError, Wanted
from ansible_collections.netops.fleet.plugins.module_utils._kernel import command, ipset, modules
from ansible_collections.netops.fleet.plugins.module_utils._safety import ipset_state
from ansible_collections.netops.fleet.plugins.module_utils._safety.change import Difference
from ansible_collections.netops.fleet.plugins.module_utils._safety.objects import Object

#: Seconds: an entry with less to live may be gone before it is read again.
_BRIEF = 60
_FAMILIES = {32: 2, 128: 10}
#: Options of a set that change what its entries mean, and that are not this module's.
_NETMASK, _BITMASK = 20, 12


class Ipset:
    """Implements sets.Backend."""

    name = "ipset"

    def check(self, wanted: Wanted) -> None:
        """Any content of the five types can be an ipset."""

    def read(self, wanted: Wanted) -> Present | None:
        if modules.present("ip_set") is False:
            return None
        with ipset.Sets() as sets:
            found = sets.read(wanted.name)
        if found is None:
            return None
        header, entries = found
        width = 128 if header.family == 10 else wanted.content.width if header.family == 0 else 32
        content = None
        if header.type == wanted.kind.name and width == wanted.content.width:
            if header.number(_NETMASK) or any(kind == _BITMASK for kind, _value in header.create):
                raise SetsError(
                    f"{wanted.name} was made with a netmask, under which entries mean more than they say; use another name"
                )
            try:
                content = set_records.decode(entries, wanted.kind, width)
            except (ValueError, KeyError) as error:
                raise SetsError(f"{wanted.name}: an entry that is not understood: {error}") from None
        return Present(
            header.type,
            width,
            content,
            header.number(ipset.TIMEOUT),
            bool(header.flags & ipset.WITH_COUNTERS),
            bool(header.flags & ipset.WITH_COMMENT),
            header.number(ipset.MAXELEM),
            header.references,
            state={"header": header, "entries": entries},
        )

    def change(self, wanted: Wanted, present: Present | None, made: Plan) -> list[Difference]:
        target = self.target(wanted.name)
        header = header_of(wanted)
        entries = set_records.encode(made.content, wanted.counters)
        after = ipset_state.compared(header, entries, set_records.ordered(made.content, wanted.counters))
        return [Difference(target, _before(present), after, cuts=True, write=_Writer(header, entries))]

    def left(self, wanted: Wanted, made: Plan) -> list[str]:
        """Entry by entry, so that nothing of how they are planned is trusted."""
        with ipset.Sets() as sets:
            found = sets.read(wanted.name)
        if found is None:
            return ["it is not there"]
        header, entries = found
        present = Present(header.type, 0, None, header.number(ipset.TIMEOUT), bool(header.flags & ipset.WITH_COUNTERS))
        present.comments, present.maxelem = bool(header.flags & ipset.WITH_COMMENT), header.number(ipset.MAXELEM)
        problems = set_plan.of_header(present, wanted, len(made.content.members))
        extras = made.content.extras.values()
        brief = sum(1 for extra in extras if extra.timeout is not None and 0 < extra.timeout < _BRIEF)
        if len(entries) < len(made.content.members) - brief or set_records.differ(
            entries, set_records.encode(made.content, wanted.counters), wanted.content.width
        ):
            problems.append(f"it holds {len(entries)} entries that are not the wanted ones")
        return problems

    def target(self, name: str) -> Object:
        return Object("ipset", name)

    def boot_text(self, wanted: Wanted) -> str:
        """Built aside here too, so that loading it a second time shows no half of it."""
        if command.find("ipset") is None:
            raise SetsError("the set is loaded at boot by ipset(8), which is not installed; install it, or set persist: false")
        aside = ipset.aside_name(wanted.name)
        hashsize, maxelem = set_plan.size(wanted)
        family = "inet6" if wanted.content.width == 128 else "inet"
        form = f"{wanted.kind.name} family {family} hashsize {hashsize} maxelem {maxelem}"
        if not wanted.kind.addresses:
            form = f"{wanted.kind.name} range 0-65535"
        form += f" timeout {wanted.timeout}" if wanted.timeout is not None else ""
        form += (" counters" if wanted.counters else "") + (" comment" if wanted.comments else "")
        lines = [f"create {wanted.name} {form}", f"create {aside} {form}"]
        lines += [f"add {aside} {line}" for line in set_content.lines_of(wanted.content.members, wanted.content)]
        return "\n".join([*lines, f"swap {aside} {wanted.name}", f"destroy {aside}"]) + "\n"

    def absent(self, wanted: Wanted, present: Present) -> Difference:
        if present.references:
            raise SetsError(f"{wanted.name} is named by {present.references} rules or sets; remove those first")
        return Difference(self.target(wanted.name), _before(present), None, cuts=True)

    def writer(self, name: str) -> str:
        # Late: most runs change no set that a rule names, and the reader of rules is large.
        from ansible_collections.netops.fleet.plugins.module_utils._firewall import read

        for rule in read.read().data.rules:
            if (
                any(isinstance(part, Action) and part.name == "set update" for part in rule.parts)
                and f"-set {name} " in f"{rule.text} "
            ):
                return str(rule.where())
        return ""


def _before(present: Present | None) -> dict[str, Any] | None:
    return None if present is None else ipset_state.whole(present.state["header"], present.state["entries"])


def header_of(wanted: Wanted) -> ipset.Header:
    """revision: filled in when it is made, because asking for it can load a module."""
    hashsize, maxelem = set_plan.size(wanted)
    flags = (ipset.WITH_COUNTERS if wanted.counters else 0) | (ipset.WITH_COMMENT if wanted.comments else 0)
    create = []
    if wanted.kind.addresses:
        create += [(ipset.HASHSIZE, hashsize.to_bytes(4, "big")), (ipset.MAXELEM, maxelem.to_bytes(4, "big"))]
    else:
        create += [(ipset.PORT, b"\0\0"), (ipset.PORT_TO, b"\xff\xff")]
    if wanted.timeout is not None:
        create.append((ipset.TIMEOUT, wanted.timeout.to_bytes(4, "big")))
    if flags:
        create.append((ipset.FLAGS, flags.to_bytes(4, "big")))
    family = _FAMILIES[wanted.content.width] if wanted.kind.addresses else 0
    return ipset.Header(wanted.name, wanted.kind.name, 0, family, create)


class _Writer:
    """Puts the built entries in place; the journal keeps only their digest."""

    def __init__(self, header: ipset.Header, entries: ipset.Entries) -> None:
        self._header = header
        self._entries = entries

    def __call__(self) -> None:
        with ipset.Sets() as sets:
            self._header.revision = sets.revision(self._header.type, self._header.family)
            sets.replace(self._header, self._entries)
        modules.forget()
