# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""The commands that remove a hook, as an administrator would type them. Nothing is run here.

Sources: tc(8), ip-link(8), bpftool-link(8), bpftool-cgroup(8), bpftool-net(8).
"""

from __future__ import annotations

import os
import shlex
from typing import Any

from ansible_collections.netops.fleet.plugins.module_utils._evidence import fdcensus
from ansible_collections.netops.fleet.plugins.module_utils._evidence.cgroup_hooks import BPFTOOL_NAMES
from ansible_collections.netops.fleet.plugins.module_utils._kernel import procfs

_XDP_WORDS = {"native": "xdpdrv", "generic": "xdpgeneric", "offload": "xdpoffload"}


def line(where: list[str], words: list[str]) -> str:
    """One shell command; ``where`` comes first (the namespace it must run in)."""
    return " ".join(shlex.quote(word) for word in [*where, *words])


def inside(namespace: str) -> list[str]:
    """Words that make the command after them run in a network namespace: a name known to ``ip netns``, or a path."""
    return ["nsenter", f"--net={namespace}"] if "/" in namespace else ["ip", "netns", "exec", namespace]


def manager_prefix() -> str | None:
    """The cgroup below which this system's service manager keeps its units; None when no systemd runs here."""
    if not os.path.isdir("/run/systemd/system"):
        return None
    _unit, cgroup = fdcensus.unit_of(procfs.text_or_none("/proc/1/cgroup", 65536) or "")
    if cgroup is None:
        return None
    return cgroup[: -len("/init.scope")] if cgroup.endswith("/init.scope") else cgroup.rstrip("/")


def service_of(unit: str | None, cgroup: str | None, prefix: str | None) -> str | None:
    """The unit, when it is a service of this system's own manager: not of a user, nor of a container."""
    if unit is None or cgroup is None or prefix is None or not unit.endswith(".service"):
        return None
    if not cgroup.startswith(prefix + "/"):
        return None
    above = cgroup[len(prefix) + 1 :].split("/")
    above = above[: above.index(unit)] if unit in above else above
    return unit if all(part.endswith(".slice") for part in above) else None


def commands(entry: dict[str, Any], where: list[str], link_pins: list[str]) -> list[str]:
    """Each command alone removes the attachment of a hook census entry, best first. Sentences start with ``#``."""
    cgroups: dict[int, str | None] = entry.pop("owners_cgroup", {})
    if entry["cgroup"] is not None and entry["cgroup"]["inherited"]:
        return ["# attached to a cgroup above those that can be seen from here: detach it on the host"]
    if entry["link_id"]:
        return _link(entry, cgroups, link_pins)
    hook = entry["hook"]
    if hook == "tc":
        return [_filter(entry, where)]
    name = entry["interface"]["name"] if entry["interface"] is not None else ""
    if hook == "xdp":
        word = _XDP_WORDS.get(entry["mode"], "xdp")
        return [line(where, ["ip", "link", "set", "dev", name, word, "off"])]
    if hook == "cgroup":
        attach_type = BPFTOOL_NAMES[f"cgroup_{entry['direction']}"]
        return [line([], ["bpftool", "cgroup", "detach", entry["cgroup"]["path"], attach_type, "id", str(entry["id"])])]
    if hook == "flow_dissector":
        return [line(where, ["bpftool", "prog", "detach", "id", str(entry["id"]), "flow_dissector"])]
    if hook == "tcx" and entry.get("last"):
        # Without a program named, the kernel detaches the last of the list.
        words = ["bpftool", "net", "detach", f"tcx_{entry['direction']}", "dev", name]
        return [line(where, words), "# needs bpftool 7.5 or newer"]
    return ["# attached without a link: only what attached it, or the removal of the interface, takes it away"]


def _filter(entry: dict[str, Any], where: list[str]) -> str:
    tc = entry["tc"]
    if tc["block"] is not None:
        place = ["block", str(tc["block"])]
    else:
        place = ["dev", entry["interface"]["name"], *tc["place"].split()]
    chain = ["chain", str(tc["chain"])] if tc["chain"] else []
    what = ["protocol", tc["protocol"], "pref", str(tc["priority"]), "handle", tc["handle"], entry["kind"]]
    return line(where, ["tc", "filter", "del", *place, *chain, *what])


def _link(entry: dict[str, Any], cgroups: dict[int, str | None], link_pins: list[str]) -> list[str]:
    """A link lives as long as something holds it: processes and pins. Detaching it works whoever holds it."""
    found: list[str] = []
    holders = [owner for owner in entry["owners"] if owner["via"] == "link"]
    if holders and not link_pins:
        prefix = manager_prefix()
        services = {service_of(owner["unit"], cgroups.get(owner["pid"]), prefix) for owner in holders}
        service = services.pop() if len(services) == 1 else None
        if service is not None:
            found.append(line([], ["systemctl", "stop", service]))
    found.append(line([], ["bpftool", "link", "detach", "id", str(entry["link_id"])]))
    if link_pins and not holders:
        found.append(line([], ["rm", *link_pins]))
    return found
