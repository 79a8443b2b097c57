# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""A real server's virtual addresses: on lo, and never told to the segment. The order is the point.

First the kernel is told to keep quiet about addresses of other links (arp_ignore, arp_announce), then the address is added;
on the way back the address goes first. IPv6 answers for a link's own addresses only, so /128 on lo without duplicate address
detection is enough there. Sources: Documentation/networking/ip-sysctl.rst, ip-address(8).
"""

from __future__ import annotations

import ipaddress
import json
import os
from typing import Any, NamedTuple

from ansible_collections.netops.fleet.plugins.module_utils._kernel import command, procfs
from ansible_collections.netops.fleet.plugins.module_utils._safety import files

_CONF = "/proc/sys/net/ipv4/conf"
#: 1: answer only for addresses of the link that is asked. 2: ask with the best address of the link.
QUIET = {"arp_ignore": 1, "arp_announce": 2}


class Wrong(ValueError):
    """What is wanted cannot be, or did not take."""


class Change(NamedTuple):
    """kind: sysctl (name "all arp_ignore", values) or address (name "192.0.2.80/32", present or absent)."""

    kind: str
    name: str
    before: str
    after: str

    def to_dict(self) -> dict[str, str]:
        return self._asdict()


def host_prefix(text: str) -> str:
    """An address as it is put on lo: with the longest prefix, which makes no route to neighbours. Raises Wrong."""
    try:
        found = ipaddress.ip_interface(str(text))
    except ValueError:
        raise Wrong(f"{text!r} is no IP address") from None
    if "/" in str(text) and found.network.prefixlen != found.max_prefixlen:
        raise Wrong(f"{text}: a shorter prefix on lo would claim the whole network; write the address alone")
    return f"{found.ip}/{found.max_prefixlen}"


def plan(
    present: bool, addresses: list[str], there: set[str], sysctls: dict[str, int], originals: dict[str, int]
) -> list[Change]:
    """sysctls: "link key" → value now. originals: what they were before this collection. Pure.

    A value that is already stricter than wanted stays.
    """
    v4 = any("." in one for one in addresses)
    if present:
        found = [
            Change("sysctl", name, str(value), str(QUIET[name.split()[1]]))
            for name, value in sorted(sysctls.items())
            if v4 and value < QUIET[name.split()[1]]
        ]
        return found + [Change("address", one, "absent", "present") for one in addresses if one not in there]
    found = [Change("address", one, "present", "absent") for one in addresses if one in there]
    return found + [
        Change("sysctl", name, str(sysctls[name]), str(value))
        for name, value in sorted(originals.items())
        if name in sysctls and sysctls[name] != value
    ]


def _addresses() -> set[str]:
    shown = command.run(["ip", "-j", "address", "show", "dev", "lo"])
    if not shown.ok:
        raise Wrong(f"the addresses of lo could not be read: {shown.why()}")
    found = set()
    for link in json.loads(shown.out or "[]"):
        for one in link.get("addr_info", []):
            if "local" in one:
                found.add(f"{one['local']}/{one['prefixlen']}")
    return found


def _sysctls(links: list[str]) -> dict[str, int]:
    found = {}
    for link in ["all", *links]:
        for key in QUIET:
            value = procfs.integer(os.path.join(_CONF, link, key))
            if value is None:
                raise Wrong(f"net.ipv4.conf.{link}.{key} cannot be read; is there a link {link}?")
            found[f"{link} {key}"] = value
    return found


def _record(path: str) -> dict[str, int]:
    text = procfs.text_or_none(path)
    if text is None:
        return {}
    try:
        return {str(name): int(value) for name, value in json.loads(text)["sysctls"].items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        raise Wrong(f"{path} is damaged; it holds what the sysctls were before. Remove it once you know") from None


def apply(present: bool, addresses: list[str], links: list[str], folder: str, check: bool) -> dict[str, Any]:
    """The module's result. links: those that face the segment, beside ``all``. Raises Wrong, OSError."""
    wanted = [host_prefix(one) for one in addresses]
    if any("/" in link or link in (".", "..") for link in links):
        raise Wrong(f"links {', '.join(links)}: not names of links")
    path = os.path.join(folder, "real_server.json")
    originals = _record(path)
    sysctls = _sysctls(links)
    changes = plan(present, wanted, _addresses(), sysctls, originals)
    result: dict[str, Any] = {
        "changed": bool(changes),
        "changes": [one.to_dict() for one in changes],
        "diff": {
            "before": "".join(f"{one.kind} {one.name} {one.before}\n" for one in changes),
            "after": "".join(f"{one.kind} {one.name} {one.after}\n" for one in changes),
        },
    }
    if check:
        return result
    if present and any(one.kind == "sysctl" for one in changes):
        # Written once: a second run must not take our own values for the originals.
        kept = {**{name: value for name, value in sysctls.items() if name not in originals}, **originals}
        files.given_folder(folder)
        files.write(path, json.dumps({"sysctls": kept}).encode("ascii"))
    for one in changes:
        _write(one)
    left = plan(present, wanted, _addresses(), _sysctls(links), originals)
    if left:
        raise Wrong("did not take: " + ", ".join(f"{one.kind} {one.name}" for one in left))
    if not present:
        files.remove(path)
    return result


def _write(change: Change) -> None:
    if change.kind == "sysctl":
        link, key = change.name.split()
        with open(os.path.join(_CONF, link, key), "w", encoding="ascii") as file:
            file.write(change.after)
        return
    argv = ["ip", "address", "add" if change.after == "present" else "del", change.name, "dev", "lo"]
    if ":" in change.name and change.after == "present":
        argv.append("nodad")
    done = command.run(argv)
    if not done.ok:
        raise Wrong(f"{' '.join(argv)}: {done.why()}")
