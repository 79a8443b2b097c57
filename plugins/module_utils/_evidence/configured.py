# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""What systemd-networkd, NetworkManager, ifupdown, netplan and ifcfg files tell of links, for services that are at work here.

Which file a link was given is what the service itself noted in /run. netplan writes files of networkd and NetworkManager: those
are read, and its own only dated. Of NetworkManager's profiles, which may hold passwords, three sections are looked at.
"""

from __future__ import annotations

import glob
import ipaddress
import os
import shlex
from typing import Any

from ansible_collections.netops.fleet.plugins.module_utils._evidence import configured_routes, ifcfg, route_words
from ansible_collections.netops.fleet.plugins.module_utils._evidence.section import Section
from ansible_collections.netops.fleet.plugins.module_utils._kernel import procfs

_NETIF, _DEVICES, _IFSTATE = "run/systemd/netif/links", "run/NetworkManager/devices", "run/network/ifstate"
_PROFILES = tuple(f"{top}/NetworkManager/system-connections" for top in ("etc", "run", "usr/lib"))
#: Where networkd looks for its files, the most important folder first.
_NETWORK_FOLDERS = tuple(f"{top}/systemd/network" for top in ("etc", "run", "usr/local/lib", "usr/lib", "lib"))
_GENERATED = ("run/systemd/network/10-netplan-*", "run/NetworkManager/system-connections/netplan-*")
_NETPLAN = ("etc/netplan/*.yaml", "run/netplan/*.yaml", "usr/lib/netplan/*.yaml")
#: Red Hat's files, and what its network service leaves while it is started; SUSE's, and the folder of wicked's daemons.
_REDHAT, _STARTED = "etc/sysconfig/network-scripts", ("run/lock/subsys/network", "var/lock/subsys/network")
_SUSE, _WICKED = "etc/sysconfig/network", "run/wicked"
_MOST_LINKS, _MOST_FILES, _MOST_BYTES, _MOST_ROUTES, _MOST_UNREAD = 512, 512, 256 << 10, 4096, 16
#: Services whose routes without a link are those of the file's own link.
_OWN_LINK = ("systemd-networkd", "NetworkManager")

#: [(section, [(key, value)])] of a file with ``[Section]`` headings, in order.
Ini = list[tuple[str, list[tuple[str, str]]]]


def read(links: list[dict[str, Any]], root: str = "/") -> Section:
    """Data: ``{links: [{manager, file, link, addresses, dhcp4, state}], routes, unapplied: [{file, newer_s}]}``.

    addresses: static ones, ``192.0.2.1/24``. state: as networkd tells it (configured, failed, ...), else null. unapplied: files
    of netplan that were changed after it was last run. routes: static ones of those links, see route_words.wanted, with manager,
    file, link (null where the file names none) and state; one that is not understood is a gap. null in a network namespace that
    the machine's files are not about.
    root: where the files are, for tests.
    """
    section = Section({"links": [], "routes": [], "unapplied": []})
    try:
        if root == "/" and not ours():
            return Section(None)
    except OSError as error:
        section.gap("configured", f"whether /etc and /run are about this network namespace: {procfs.reason(error)}")
        return section
    names = {link["index"]: link["name"] for link in links}
    section.data["links"] += (
        _networkd(section, root, names) + _manager(section, root, names) + _ifupdown(section, root) + _ifcfg(section, root, names)
    )
    section.data["unapplied"] = _netplan(root)
    return section


def ours() -> bool:
    """Are the files of /etc and /run about this network namespace? Those of the first process are about its own.

    Raises OSError where that cannot be told.
    """
    # Each network namespace has files of its own there, which need no privilege to be told apart.
    same = os.stat("/proc/self/net/dev").st_ino == os.stat("/proc/1/net/dev").st_ino
    return same or os.stat("/run").st_dev != os.stat("/proc/1/root/run").st_dev


def _text(root: str, path: str) -> str | None:
    """path as the service names it, or relative to the root."""
    return procfs.text_or_none(os.path.join(root, path.lstrip("/")), _MOST_BYTES)


def ini(text: str) -> Ini:
    """Lines that are none of the form are left out."""
    return [(name, [(key, value) for _line, key, value in pairs]) for name, pairs in configured_routes.sections(text)]


def _variables(text: str) -> dict[str, str]:
    """Lines ``KEY=value``."""
    return {key: value for key, equals, value in (line.partition("=") for line in text.splitlines()) if equals}


def static(value: str) -> str | None:
    """``address/length`` in one spelling; None for what names none (``0.0.0.0/24`` asks for any)."""
    try:
        one = ipaddress.ip_interface(value)
    except ValueError:
        return None
    return None if one.ip.is_unspecified else str(one)


def _entry(manager: str, file: str, link: str, addresses: list[str], dhcp4: bool, state: str | None = None) -> dict[str, Any]:
    known = [one for one in (static(value) for value in addresses) if one]
    return {"manager": manager, "file": file, "link": link, "addresses": known, "dhcp4": dhcp4, "state": state}


def _routes(
    section: Section, parsed: configured_routes.Parsed, manager: str, file: str, link: str | None, state: str | None = None
) -> None:
    """Routes of a file, into the section."""
    routes, unread = parsed
    for one in routes:
        if manager in _OWN_LINK and one["type"] == "unicast" and len(one["via"]) < 2 and not one.get("nexthop"):
            one["dev"] = one["dev"] or link
        if len(section.data["routes"]) < _MOST_ROUTES:
            section.data["routes"].append({"manager": manager, "file": file, "link": link, "state": state, **one})
    told = sum(1 for gap in section.gaps if gap.what == "configured.routes")
    for line in unread[: max(0, _MOST_UNREAD - told)]:
        section.gap("configured.routes", f"{file}:{line} is more than is understood of routes: not compared")


def _networkd(section: Section, root: str, names: dict[int, str]) -> list[dict[str, Any]]:
    out = []
    tables = route_words.names(root, "etc/systemd/networkd.conf")
    for index, name in sorted(names.items())[:_MOST_LINKS]:
        noted = _variables(_text(root, f"{_NETIF}/{index}") or "")
        file = noted.get("NETWORK_FILE", "")
        if not file or noted.get("ADMIN_STATE") in ("unmanaged", "linger"):
            continue
        # Versions before the notes had them: 252 of Debian 12 does not tell its drop-ins.
        dropins = noted.get("NETWORK_FILE_DROPINS")
        paths = [file, *(_dropins(root, file) if dropins is None else _words(dropins))]
        texts = [(path, text) for path, text in ((path, _text(root, path)) for path in paths) if text is not None]
        if texts and texts[0][0] == file:
            addresses, dhcp4 = networkd(*(text for _path, text in texts))
            out.append(_entry("systemd-networkd", file, name, addresses, dhcp4, noted.get("ADMIN_STATE")))
            for path, parsed in configured_routes.networkd(texts, tables):
                _routes(section, parsed, "systemd-networkd", path, name, noted.get("ADMIN_STATE"))
    return out


def _dropins(root: str, file: str) -> list[str]:
    """Drop-ins of a .network file in the order of their names; one of a name that stands in several folders counts once."""
    found: dict[str, str] = {}
    for folder in _NETWORK_FOLDERS:
        for path in glob.glob(os.path.join(root, folder, f"{glob.escape(os.path.basename(file))}.d", "*.conf"))[:_MOST_FILES]:
            found.setdefault(os.path.basename(path), "/" + os.path.relpath(path, root))
    return [path for _name, path in sorted(found.items())]


def _words(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError:
        return []


def networkd(*texts: str) -> tuple[list[str], bool]:
    """(addresses, does it ask DHCP for IPv4) of a .network file and its drop-ins; an empty value takes back what was said."""
    addresses: list[str] = []
    dhcp4 = False
    for name, pairs in (part for text in texts for part in ini(text)):
        for key, value in pairs:
            if name == "Network" and key == "Address":
                addresses = [*addresses, value] if value else []
            elif name == "Address" and key == "Address":
                addresses.append(value)
            elif name == "Network" and key == "DHCP":
                dhcp4 = value.lower() in ("yes", "true", "on", "1", "ipv4", "both", "v4")
    return addresses, dhcp4


def _manager(section: Section, root: str, names: dict[int, str]) -> list[dict[str, Any]]:
    """NetworkManager: the profile each link was given."""
    given = _given(root, names)
    if not given:
        return []
    out = []
    files = [path for folder in _PROFILES for path in sorted(glob.glob(os.path.join(root, folder, "*")))]
    if files and not any(os.access(path, os.R_OK) for path in files):
        section.gap("configured.networkmanager", "its profiles need root")
    tables = route_words.names(root)
    for path in files[:_MOST_FILES]:
        text = procfs.text_or_none(path, _MOST_BYTES) or ""
        uuid, addresses, dhcp4 = keyfile(text)
        link = given.pop(uuid, None)
        if link:
            file = "/" + os.path.relpath(path, root)
            out.append(_entry("NetworkManager", file, link, addresses, dhcp4))
            _routes(section, configured_routes.keyfile(text, tables), "NetworkManager", file, link)
    return out


def _given(root: str, names: dict[int, str]) -> dict[str, str]:
    """Links by the UUID of the profile that NetworkManager gave them."""
    given = {}
    for index, name in sorted(names.items())[:_MOST_LINKS]:
        for part, pairs in ini(_text(root, f"{_DEVICES}/{index}") or ""):
            uuid = dict(pairs).get("connection-uuid") if part == "device" else None
            if uuid:
                given[uuid] = name
    return given


def keyfile(text: str) -> tuple[str, list[str], bool]:
    """(uuid, addresses, does it ask DHCP for IPv4) of a profile. Nothing else of it is kept."""
    uuid, dhcp4 = "", False
    addresses: list[str] = []
    for name, pairs in ini(text):
        for key, value in pairs:
            if name == "connection" and key == "uuid":
                uuid = value
            elif name in ("ipv4", "ipv6") and key.startswith("address") and key[7:].isdigit():
                addresses.append(value.partition(",")[0].strip())
            elif name == "ipv4" and key == "method":
                dhcp4 = value == "auto"
    return uuid, addresses, dhcp4


def _ifupdown(section: Section, root: str) -> list[dict[str, Any]]:
    """ifupdown: links that are to come up at boot, where its state says that it ran; routes of those that it brought up."""
    state = _text(root, _IFSTATE)
    if state is None:
        return []
    # eth0:1 is a second address of eth0; its routes are of the same link.
    brought = {stanza.strip(): name.partition(":")[0] for name, stanza in _variables(state).items()}
    tables = route_words.names(root)
    first = "/etc/network/interfaces"
    todo, out = [first], []
    done: list[str] = []
    wanted: set[str] = set()
    stanzas: list[tuple[str, str, list[str], bool]] = []
    while todo and len(done) < _MOST_FILES:
        path = todo.pop(0)
        text = _text(root, path) if path not in done else None
        done.append(path)
        if text is None:
            continue
        automatic, own, more = interfaces(text)
        wanted |= automatic
        stanzas += [(path, *one) for one in own]
        for link, parsed in configured_routes.interfaces(text, brought, tables):
            _routes(section, parsed, "ifupdown", path, link)
        for pattern in more:
            found = sorted(glob.glob(os.path.join(root, os.path.join("/etc/network", pattern).lstrip("/"))))
            todo += ["/" + os.path.relpath(one, root) for one in found[:_MOST_FILES]]
    for name in sorted(wanted - {"lo"}):
        mine = [one for one in stanzas if one[1] == name]
        if mine:
            addresses = [address for one in mine for address in one[2]]
            out.append(_entry("ifupdown", mine[0][0], name, addresses, any(one[3] for one in mine)))
    return out[:_MOST_LINKS]


def interfaces(text: str) -> tuple[set[str], list[tuple[str, list[str], bool]], list[str]]:
    """(links that come up at boot, [(link, addresses, does it ask DHCP for IPv4)], patterns of further files) of one file."""
    automatic: set[str] = set()
    stanzas: list[tuple[str, list[str], bool]] = []
    more: list[str] = []
    masks: list[str | None] = []
    inside = False
    for raw in text.replace("\\\n", " ").splitlines():
        words = raw.split()
        if not words or words[0].startswith("#"):
            continue
        if words[0] in ("auto", "allow-auto"):
            automatic.update(words[1:])
            inside = False
        elif words[0] in ("source", "source-directory") and len(words) > 1:
            more.append(words[1] if words[0] == "source" else f"{words[1]}/*")
            inside = False
        elif words[0] == "iface" and len(words) >= 4:
            stanzas.append((words[1], [], words[2] == "inet" and words[3] == "dhcp"))
            masks.append(None)
            inside = words[3] == "static"
        elif words[0] in ("mapping", "iface") or words[0].startswith("allow-") or words[0].startswith("no-"):
            inside = False
        elif inside and words[0] == "address" and len(words) > 1:
            stanzas[-1][1].append(words[1])
        elif inside and words[0] == "netmask" and len(words) > 1:
            masks[-1] = words[1]
    for (_name, addresses, _dhcp), mask in zip(stanzas, masks):
        if mask:
            addresses[:] = [one if "/" in one else f"{one}/{mask}" for one in addresses]
    return automatic, stanzas, more


def _ifcfg(section: Section, root: str, names: dict[int, str]) -> list[dict[str, Any]]:
    """ifcfg files: a profile that NetworkManager gave a link, or, where that has no part in it, links to come up at boot."""
    given = _given(root, names)
    started = any(os.path.exists(os.path.join(root, path)) for path in _STARTED)
    wicked = os.path.isdir(os.path.join(root, _WICKED))
    found: dict[tuple[str, str], dict[str, Any]] = {}
    tables = route_words.names(root)
    by_wicked = False
    for folder, length in ((_REDHAT, "PREFIX"), (_SUSE, "PREFIXLEN")):
        paths = [one for one in sorted(glob.glob(os.path.join(root, folder, "ifcfg-*"))) if ifcfg.used(os.path.basename(one))]
        for path in paths[:_MOST_FILES]:
            text = procfs.text_or_none(path, _MOST_BYTES)
            if text is None:
                section.gap("configured.ifcfg", f"{path} is not readable")
                continue
            values = ifcfg.variables(text)
            named = values.get("DEVICE", "") if folder == _REDHAT else os.path.basename(path)[len("ifcfg-") :]
            if folder == _SUSE:
                values.setdefault("STARTMODE", "manual")
            # eth0:1 is a second address of eth0.
            link, manager = named.partition(":")[0], "wicked"
            if folder == _REDHAT:
                by_manager = given.get(values.get("UUID", ""))
                manager = "NetworkManager" if by_manager else "initscripts"
                link = by_manager or link
            at_work = manager == "NetworkManager" or (wicked if manager == "wicked" else started)
            if not link or not at_work or (manager != "NetworkManager" and (not ifcfg.at_boot(values) or link in given.values())):
                continue
            file = "/" + os.path.relpath(path, root)
            entry = _entry(manager, file, link, ifcfg.addresses(values, length), ifcfg.asks_dhcp4(values))
            by_wicked |= manager == "wicked"
            _ifcfg_routes(section, root, file, manager, link, text, tables)
            first = found.setdefault((manager, link), entry)
            if first is not entry:
                first["addresses"] += entry["addresses"]
                first["dhcp4"] |= entry["dhcp4"]
    everywhere = _text(root, f"{_SUSE}/routes") if by_wicked else None
    if everywhere is not None:
        _routes(section, configured_routes.suse(everywhere, tables), "wicked", f"/{_SUSE}/routes", None)
    return list(found.values())[:_MOST_LINKS]


def _ifcfg_routes(section: Section, root: str, file: str, manager: str, link: str, text: str, tables: dict[str, int]) -> None:
    """Gateways of an ifcfg file, and the files of routes beside it."""
    folder, _slash, name = file.rpartition("/")
    name = name[len("ifcfg-") :]
    if ":" in name:
        return  # a second address of a link has no routes of its own
    if manager == "wicked":
        beside = _text(root, f"{folder}/ifroute-{name}")
        if beside is not None:
            _routes(section, configured_routes.suse(beside, tables), manager, f"{folder}/ifroute-{name}", link)
        return
    general = ifcfg.variables(_text(root, "etc/sysconfig/network") or "")
    if general.get("GATEWAYDEV", link) == link:
        _routes(section, configured_routes.ifcfg(text, tables), manager, file, link)
    for family, kind in ((4, "route"), (6, "route6")):
        beside = _text(root, f"{folder}/{kind}-{name}")
        if beside is not None:
            _routes(section, configured_routes.red_hat(beside, family, tables), manager, f"{folder}/{kind}-{name}", link)


def _netplan(root: str) -> list[dict[str, Any]]:
    """Files of netplan that are newer than everything it wrote."""
    made = [os.stat(path).st_mtime for pattern in _GENERATED for path in glob.glob(os.path.join(root, pattern))]
    if not made:
        return []
    out = []
    for path in sorted(path for pattern in _NETPLAN for path in glob.glob(os.path.join(root, pattern)))[:_MOST_FILES]:
        newer = os.stat(path).st_mtime - max(made)
        if newer > 0:
            out.append({"file": "/" + os.path.relpath(path, root), "newer_s": round(newer, 1)})
    return out
