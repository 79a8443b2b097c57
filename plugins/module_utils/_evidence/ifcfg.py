# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""ifcfg files: Red Hat's (initscripts, or NetworkManager in their place) and SUSE's (wicked). Shell assignments, never run.

Sources: sysconfig.txt of initscripts, nm-settings-ifcfg-rh(5), ifcfg(5) of wicked
"""

from __future__ import annotations

import shlex

#: What editors and packages leave behind; the services pass over it too.
_LEFT = ("~", ".bak", ".orig", ".old", ".swp", ".rpmsave", ".rpmnew", ".rpmorig", ".scpmbackup")
_AT_BOOT = ("auto", "onboot", "on", "boot", "hotplug", "nfsroot")


def used(name: str) -> bool:
    """Is a file of this name one that the services read? That of the loopback link tells nothing."""
    return name.startswith("ifcfg-") and name != "ifcfg-lo" and not name.endswith(_LEFT)


def variables(text: str) -> dict[str, str]:
    """Assignments, unquoted; lines of another form are left out."""
    found = {}
    for line in text.splitlines():
        try:
            words = shlex.split(line, comments=True)
        except ValueError:
            continue
        key, equals, value = words[0].partition("=") if words else ("", "", "")
        if equals and key.isidentifier():
            found[key] = value.strip()
    return found


def addresses(values: dict[str, str], length: str) -> list[str]:
    """Static addresses. length: the key of a prefix's length, PREFIX or PREFIXLEN; its suffix is that of the address."""
    found = []
    for key, value in sorted(values.items()):
        if key.startswith("IPADDR") and value:
            suffix = key[len("IPADDR") :]
            mask = values.get(f"{length}{suffix}") or values.get(f"NETMASK{suffix}")
            found.append(value if "/" in value else f"{value}/{mask or _usual(value)}")
    for value in (values.get("IPV6ADDR", ""), *values.get("IPV6ADDR_SECONDARIES", "").split()):
        if value:
            found.append(value if "/" in value else f"{value}/64")
    return found


def _usual(address: str) -> int:
    """The length that the services take where none is given: that of the address's class."""
    first = address.partition(".")[0]
    if not first.isdigit():
        return 128
    return 8 if int(first) < 128 else 16 if int(first) < 192 else 24


def asks_dhcp4(values: dict[str, str]) -> bool:
    """bootp is DHCP for these services; SUSE's dhcp6 is about IPv6 only."""
    wanted = values.get("BOOTPROTO", "").lower()
    return wanted.startswith(("dhcp", "bootp")) and wanted != "dhcp6"


def at_boot(values: dict[str, str]) -> bool:
    """Red Hat's: whatever does not say no, an alias also by ONPARENT. SUSE's: what names a time."""
    if "STARTMODE" in values:
        return values["STARTMODE"].lower() in _AT_BOOT
    return not any(values.get(key, "yes").lower() in ("no", "false", "0") for key in ("ONBOOT", "ONPARENT"))
