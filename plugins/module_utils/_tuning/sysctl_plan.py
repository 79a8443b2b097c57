# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""One list of differences from what is and what is wanted. Pure; check mode, diff and apply all use this list."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from ansible_collections.netops.fleet.plugins.module_utils._kernel import parameters, sysctl
from ansible_collections.netops.fleet.plugins.module_utils._safety.change import Difference
from ansible_collections.netops.fleet.plugins.module_utils._safety.objects import Object, file_state, same
from ansible_collections.netops.fleet.plugins.module_utils._tuning import boot_order
from ansible_collections.netops.fleet.plugins.module_utils._tuning.profiles import Want

#: Sorts behind every number, and behind what packages install.
FILE = "/etc/sysctl.d/zz-netops-fleet.conf"
#: systemd-sysctl runs before most modules are loaded; their keys are applied again when they come. (sysctl.d(5))
RULES = "/etc/udev/rules.d/99-netops-fleet-sysctl.rules"

_HEAD = """# Written by netops.fleet (sysctl_tuning); changed by hand it is written again.
# Why each value: ansible-doc netops.fleet.sysctl_tuning, or the module's plan.
"""
_RULE = """# Written by netops.fleet (sysctl_tuning): parameters that come with a kernel module.
ACTION=="add", SUBSYSTEM=="module", KERNEL=="{module}", RUN+="/lib/systemd/systemd-sysctl --prefix={prefix}"
"""


@dataclass
class Present:
    """values: key → value, None when the kernel lacks it. unwritable: key → why. unreadable: key → why.

    choices: words that are available, for keys that take a word. modules: loadable modules (not built in) that bring keys.
    """

    values: dict[str, str | None]
    unwritable: dict[str, str] = field(default_factory=dict)
    unreadable: dict[str, str] = field(default_factory=dict)
    choices: dict[str, list[str]] = field(default_factory=dict)
    modules: frozenset[str] = frozenset()


@dataclass
class Item:
    """What the plan says about one key. action: none, set (kernel, file or both), skip, refuse. See docs/dev/tuning.md."""

    want: Want
    present: str | None
    boot: boot_order.Setting | None
    action: str
    reason: str = ""
    later: list[boot_order.Setting] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        return {
            "key": self.want.name,
            "present": self.present,
            "boot": None if self.boot is None else self.boot.to_dict(),
            "wanted": self.want.value,
            "why": self.want.why,
            "source": self.want.source,
            "origin": self.want.origin,
            "action": self.action,
            "reason": self.reason,
            "later": [setting.to_dict() for setting in self.later],
        }


@dataclass
class Plan:
    """items: by key. changes: the differences, in the order they are applied. errors: why nothing may be applied.

    file: content of the own file, "" when nothing belongs in it.
    """

    items: list[Item] = field(default_factory=list)
    changes: list[Difference] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    file: str = ""


def merge(profile: list[Want], explicit: Mapping[str, str]) -> list[Want]:
    """Explicit keys beat the profile; the order is the profile's, then theirs."""
    wants = [want for want in profile if want.name not in explicit]
    told = {want.name: want for want in profile}
    for name, value in explicit.items():
        other = told.get(name)
        why = "given" if other is None or other.value == value else f"given; the profile would have {other.value}"
        wants.append(Want(name, value, why, "settings", "explicit"))
    return wants


def make(
    present: Present,
    boot: boot_order.Boot,
    wants: list[Want],
    own_file: dict[str, Any] | None,
    own_rules: dict[str, Any] | None,
    missing: str = "skip",
    persist: bool = True,
    file: str = FILE,
    returning: Mapping[str, str] = MappingProxyType({}),
) -> Plan:
    """own_file, own_rules: present states of the collection's files. missing: skip or fail, for explicit keys the kernel lacks.

    returning: originals of keys that are wanted no longer, and go back to them with this plan.

    boot must be read with the own file's future content (see render); so make() is called with what render() gave.
    """
    plan = Plan()
    force: dict[str, str] = {name: value for name, value in present.values.items() if value is not None}
    force.update(returning)
    for want in wants:
        item = _item(present, boot, want, missing)
        plan.items.append(item)
        if item.action == "refuse":
            plan.errors.append(item.reason)
        if item.action in ("set", "none"):
            force[want.name] = want.value
        if persist and item.action in ("set", "none"):
            _overridden(plan, item, file)
    plan.errors += _conflicts(wants, force, returning)
    plan.file, rules = render(present, wants, missing) if persist else ("", "")
    if persist:
        _file(plan, Object("file", file), own_file, plan.file)
        _file(plan, Object("file", RULES), own_rules, rules)
    for item in plan.items:
        if item.action == "set":
            known = parameters.key(item.want.name)
            before = {"value": item.present}
            target = Object("sysctl", item.want.name)
            plan.changes.append(Difference(target, before, {"value": item.want.value}, cuts=known is not None and known.cuts))
    return plan


def _conflicts(wants: list[Want], force: dict[str, str], returning: Mapping[str, str]) -> list[str]:
    """Of wanted keys with each other and with what stays or returns. force: all values that will be in force."""
    others = {**{name: force[name] for name in returning}, **_rest(force)}
    values = {want.name: force[want.name] for want in wants if want.name in force}
    # Originals that do not go together are as the host had them.
    had = parameters.conflicts({name: value for name, value in others.items() if name not in values}) if returning else []
    found = []
    for conflict in parameters.conflicts({**others, **values}):
        if conflict not in had:
            back = [f"{name} is wanted no longer and returns to {value}" for name, value in returning.items() if name in conflict]
            found.append(f"{conflict} ({', '.join(back)})" if back else conflict)
    return found


def _rest(force: dict[str, str]) -> dict[str, str]:
    """Keys that are not wanted and can clash with one that is."""
    names = ("net.ipv4.tcp_timestamps", "fs.file-max", "net.netfilter.nf_conntrack_buckets")
    return {name: force[name] for name in names if name in force}


def _item(present: Present, boot: boot_order.Boot, want: Want, missing: str) -> Item:
    name, value = want.name, want.value
    now = present.values.get(name)
    item = Item(want, now, boot.winner(name), "none", later=boot.after(name))
    if name in present.unreadable:
        item.action, item.reason = _absent(want, missing), f"{name}: it cannot be read: {present.unreadable[name]}"
        return item
    if now is None:
        item.action = _absent(want, missing)
        known = parameters.key(name)
        item.reason = f"{name}: this kernel, or this namespace, does not have it"
        if name in parameters.GONE:
            item.reason = f"{name}: {parameters.GONE[name]}"
        elif known is not None and known.module:
            item.reason += f" (it comes with the module {known.module}, which is not loaded)"
        return item
    wrong = parameters.check(name, value, now, present.choices.get(name))
    if wrong is not None:
        item.action, item.reason = "refuse", wrong
        return item
    if sysctl.tokens(now) == sysctl.tokens(value):
        return item
    if name in present.unwritable:
        item.action, item.reason = _absent(want, missing), f"{name}: {present.unwritable[name]}"
        return item
    item.action = "set"
    return item


def _absent(want: Want, missing: str) -> str:
    """A profile is for many kernels; what was asked for by name is another matter."""
    return "refuse" if missing == "fail" and want.origin == "explicit" else "skip"


def _overridden(plan: Plan, item: Item, file: str) -> None:
    """Somebody else wins at the next boot."""
    name, value = item.want.name, sysctl.tokens(item.want.value)
    winner = item.boot
    if winner is not None and winner.file != file and winner.value != value:
        plan.warnings.append(
            f"{name}: at the next boot {winner.file} line {winner.line} sets {winner.value}, not {value}; "
            f"its name sorts behind {file.rpartition('/')[2]}: take the line out, or rename the file"
        )
    for later in item.later:
        if later.value is None or sysctl.tokens(later.value) != value:
            sets = "a value it computes" if later.value is None else later.value
            may = "sets" if later.certain else "may set"
            plan.warnings.append(
                f"{name}: after boot {later.writer} {may} {sets} ({later.file} line {later.line}), wanted is {value}"
            )


def render(present: Present, wants: list[Want], missing: str = "skip") -> tuple[str, str]:
    """(content of the own file, content of the own udev rules); "" where nothing belongs in it."""
    lines = []
    modules: dict[str, str] = {}
    for want in wants:
        now = present.values.get(want.name)
        if now is None or want.name in present.unreadable:
            continue
        if want.name in present.unwritable and sysctl.tokens(now) != sysctl.tokens(want.value):
            continue
        known = parameters.key(want.name)
        # A leading - would hide a failure at boot; a key that is gone after a kernel update is logged and passed over anyway.
        lines.append(f"{want.name} = {sysctl.tokens(want.value)}\n")
        if known is not None and known.module is not None and known.module in present.modules:
            modules[known.module] = "/net/netfilter"
    content = _HEAD + "".join(sorted(lines)) if lines else ""
    rules = "".join(_RULE.format(module=module, prefix=prefix) for module, prefix in sorted(modules.items()))
    return content, rules


def _file(plan: Plan, target: Object, present: dict[str, Any] | None, content: str) -> None:
    wanted = file_state(content) if content else None
    if not same(target, present, wanted):
        plan.changes.append(Difference(target, present, wanted))


def diff(changes: list[Difference]) -> list[dict[str, str]]:
    """The differences as Ansible prints them: one text of values, and each file."""
    out = []
    values = [change for change in changes if change.target.kind in ("sysctl", "unit")]
    if values:
        out.append(
            {
                "before_header": "kernel and units, present",
                "after_header": "kernel and units, wanted",
                "before": "".join(f"{change.target.name} = {_shown(change.before)}\n" for change in values),
                "after": "".join(f"{change.target.name} = {_shown(change.after)}\n" for change in values),
            }
        )
    for change in changes:
        if change.target.kind in ("file", "dir"):
            out.append(
                {
                    "before_header": change.target.name,
                    "after_header": change.target.name,
                    "before": _text(change.before),
                    "after": _text(change.after),
                }
            )
    return out


def _shown(state: dict[str, Any] | None) -> str:
    if state is None:
        return "(not there)"
    if "value" in state:
        return str(state["value"])
    return ", ".join(f"{name}: {value}" for name, value in state.items())


def _text(state: dict[str, Any] | None) -> str:
    if state is None:
        return ""
    if "text" in state:
        return str(state["text"])
    return f"(link to {state['link']})\n" if "link" in state else "(binary)\n" if "data" in state else "(folder)\n"
