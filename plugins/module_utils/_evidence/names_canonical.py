# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""Names without their random part, so that the same thing has the same name on every peer."""

from __future__ import annotations

import re

#: Interfaces that a container engine, network plugin or hypervisor makes, one per workload, with a random or counted name.
_CLASSES: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(form), shown)
    for form, shown in (
        (r"v?eth[0-9a-f]{6,}\Z", "veth*"),
        (r"veth.*\Z", "veth*"),
        (r"ve-.+\Z", "ve-*"),  # systemd-nspawn
        (r"vb-.+\Z", "vb-*"),
        (r"cali[0-9a-f]{6,}\Z", "cali*"),
        (r"lxc[0-9a-f]{6,}\Z", "lxc*"),
        (r"lxdbr[0-9]+\Z", "lxdbr*"),
        (r"(eni|gke|azv|cilium_|nk|cbr|dea|wep)[0-9a-f]{7,}\Z", r"\1*"),
        (r"br-[0-9a-f]{10,}\Z", "br-*"),  # docker
        (r"docker_gwbridge\Z", "docker_gwbridge"),
        (r"(qbr|qvo|qvb|qr-|qg-|tapi|macvtap)[0-9a-f][0-9a-f-]*\Z", r"\1*"),
        (r"tap.+\Z", "tap*"),
        (r"(vnet|vif|ifb|fwbr|fwpr|fwln|vmnet|wlan_|ovsint)[0-9][0-9.ip]*\Z", r"\1*"),
    )
)


def iface_class(name: str) -> str:
    """``cali1a2b3c4d5e6`` → ``cali*``, ``veth3f2a@if5`` → ``veth*``, ``br-1d2e3f4a5b6c`` → ``br-*``; others as they are."""
    name = name.partition("@")[0]
    for form, shown in _CLASSES:
        found = form.match(name)
        if found is not None:
            return found.expand(shown)
    return name


_RANDOM = re.compile(
    r"(?:(?<=pod)|(?<![0-9a-zA-Z]))(?:[0-9a-f]{8}(?:[-_][0-9a-f]{4}){3}[-_][0-9a-f]{12}|[0-9a-f]{12,64})(?![0-9a-zA-Z])"
)
_COUNTED = re.compile(r"(?<=[-@])[0-9]+(?=\.(?:scope|service|slice)|$)")


def cgroup_class(path: str) -> str:
    """A cgroup's path without container and pod ids, session and user numbers."""
    return "/".join(_COUNTED.sub("*", _RANDOM.sub("*", part)) for part in path.split("/"))
