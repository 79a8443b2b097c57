# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""Which value of a kernel parameter wins at the next boot, and which file makes it win.

systemd-sysctl (sysctl.d(5)): files are sorted by name whatever their folder, the last assignment wins; of files with one name
the folder decides (/etc, /run, /usr/local/lib, /usr/lib); an empty one, or a link to /dev/null, hides those of the same name.
A name with ``*`` gives way to an explicit one, wherever that stands; ``-name`` alone takes a name out of the patterns.
/etc/sysctl.conf is only read where a link in sysctl.d names it.

After it come writers of their own: tuned, ufw, systemd-networkd, udev rules, cloud-init, and units that run sysctl(8).
"""

from __future__ import annotations

import fnmatch
import glob
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ansible_collections.netops.fleet.plugins.module_utils._kernel import sysctl

FOLDERS = ("/etc/sysctl.d", "/run/sysctl.d", "/usr/local/lib/sysctl.d", "/usr/lib/sysctl.d", "/lib/sysctl.d")
_MAX_FILE = 1 << 20


class Setting(NamedTuple):
    """One assignment. value: as in the file, white space folded; None when it is computed. certain: it will be written."""

    name: str
    value: str | None
    file: str
    line: int
    writer: str = "systemd-sysctl"
    certain: bool = True

    def to_dict(self) -> dict[str, Any]:
        return {
            "value": self.value,
            "file": self.file,
            "line": self.line,
            "writer": self.writer,
            "certain": self.certain,
        }


@dataclass
class Boot:
    """settings: what systemd-sysctl will apply, in its order. later: assignments of writers that come after it.

    unread: files that exist and could not be read.
    """

    settings: list[Setting] = field(default_factory=list)
    patterns: list[Setting] = field(default_factory=list)
    excluded: set[str] = field(default_factory=set)
    later: list[Setting] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)

    def winner(self, name: str) -> Setting | None:
        """What systemd-sysctl leaves behind; None when no file sets it (the kernel's default stays)."""
        for setting in reversed(self.settings):
            if setting.name == name:
                return setting
        if name in self.excluded:
            return None
        for setting in reversed(self.patterns):
            if _matches(setting.name, name):
                return setting
        return None

    def after(self, name: str) -> list[Setting]:
        """Later writers of ``name``, in the order they are expected to write."""
        return [setting for setting in self.later if setting.name == name]


def _matches(pattern: str, name: str) -> bool:
    """Patterns match component by component, as glob(7) on the path does."""
    parts, words = pattern.split("."), name.split(".")
    return len(parts) == len(words) and all(fnmatch.fnmatchcase(word, part) for word, part in zip(words, parts))


def read(root: str = "/", own: dict[str, str] | None = None) -> Boot:
    """Reads the host's files below ``root``. own: path → content of files as they are going to be (a plan's own file)."""
    boot = Boot()
    own = own or {}
    for path in order(root, own):
        content = own[path] if path in own else _content(root, path, boot)
        if content is not None:
            add(boot, content, path)
    boot.later = _tuned(root, boot) + _ufw(root, boot) + _networkd(root) + _scripts(root)
    return boot


def order(root: str, own: Iterable[str] = ()) -> list[str]:
    """The files that systemd-sysctl reads, in its order; paths as on the host."""
    chosen: dict[str, str] = {}
    for folder in FOLDERS:
        try:
            names = os.listdir(root.rstrip("/") + folder)
        except OSError:
            names = []
        names += [os.path.basename(path) for path in own if os.path.dirname(path) == folder]
        for name in names:
            if name.endswith(".conf"):
                chosen.setdefault(name, f"{folder}/{name}")
    return [chosen[name] for name in sorted(chosen, key=os.fsencode)]


def _content(root: str, path: str, boot: Boot) -> str | None:
    full = root.rstrip("/") + path
    try:
        if root != "/" and os.path.islink(full):
            target = os.readlink(full)
            full = root.rstrip("/") + target if target.startswith("/") else full
        with open(full, "rb") as file:
            return file.read(_MAX_FILE).decode("utf-8", "replace")
    except FileNotFoundError:
        return None  # a link to nothing
    except OSError as error:
        boot.unread.append(f"{path}: {error.strerror}")
        return None


def assignments(content: str) -> Iterable[tuple[int, str, str | None]]:
    """(line, canonical name, value) of a file in the format of sysctl.d(5); value None: the name is taken out of patterns."""
    for number, raw in enumerate(content.splitlines(), 1):
        line = raw.strip()
        if not line or line[0] in "#;":
            continue
        name, equals, value = line.partition("=")
        name = name.strip()
        if not equals:
            if name.startswith("-"):
                yield number, sysctl.canonical(name[1:]), None
            continue
        yield number, sysctl.canonical(name.lstrip("-")), sysctl.tokens(value)


def add(boot: Boot, content: str, path: str) -> None:
    for number, name, value in assignments(content):
        if value is None:
            boot.excluded.add(name)
        elif any(character in name for character in "*?["):
            boot.patterns.append(Setting(name, value, path, number))
        else:
            # An equal second assignment keeps its place, another one moves to the end; the last value counts either way.
            boot.settings.append(Setting(name, value, path, number))


# --- writers after systemd-sysctl


def _text(root: str, path: str) -> str | None:
    try:
        with open(root.rstrip("/") + path, "rb") as file:
            return file.read(_MAX_FILE).decode("utf-8", "replace")
    except OSError:
        return None


def _tuned(root: str, boot: Boot) -> list[Setting]:
    """The active profile's [sysctl], where tuned is on. With its default it applies /etc/sysctl.conf and sysctl.d again."""
    own = [setting for profile in _tuned_active(root) for setting in _tuned_profile(root, profile, set(), "sysctl")]
    if not _tuned_active(root):
        return []
    main = _text(root, "/etc/tuned/tuned-main.conf") or ""
    again = re.search(r"^\s*reapply_sysctl\s*=\s*(\S+)", main, re.MULTILINE)
    if again is not None and again.group(1).lower() in ("0", "false", "no", "off"):
        return own
    # Applied again after the profile: /run/sysctl.d, /etc/sysctl.d, then /etc/sysctl.conf. So a profile loses against those two
    # folders, and /etc/sysctl.conf wins.
    files = {setting.name for setting in boot.settings if setting.file.startswith(("/etc/sysctl.d/", "/run/sysctl.d/"))}
    own = [setting for setting in own if setting.name not in files]
    for number, name, value in assignments(_text(root, "/etc/sysctl.conf") or ""):
        if value is not None:
            own.append(Setting(name, value, "/etc/sysctl.conf", number, "tuned"))
    return own


def _tuned_active(root: str) -> list[str]:
    """Profiles, where tuned is on."""
    enabled = glob.glob(root.rstrip("/") + "/etc/systemd/system/*.wants/tuned.service")
    return (_text(root, "/etc/tuned/active_profile") or "").split() if enabled else []


def huge_page_writers(root: str = "/") -> list[Setting]:
    """What tuned's profile sets for transparent huge pages after boot; the last one is in force."""
    found = [setting for profile in _tuned_active(root) for setting in _tuned_profile(root, profile, set(), "vm")]
    return [setting for setting in found if setting.name in ("transparent_hugepages", "transparent_hugepage")]


def _tuned_profile(root: str, profile: str, seen: set[str], wanted: str) -> list[Setting]:
    """Settings of section ``wanted`` of a profile and those that it includes."""
    if profile in seen or "/" in profile:
        return []
    seen.add(profile)
    for folder in ("/etc/tuned/profiles", "/etc/tuned", "/usr/lib/tuned/profiles", "/usr/lib/tuned"):
        path = f"{folder}/{profile}/tuned.conf"
        content = _text(root, path)
        if content is None:
            continue
        found: list[Setting] = []
        section = ""
        for number, raw in enumerate(content.splitlines(), 1):
            line = raw.strip()
            if line.startswith("["):
                section = line.strip("[]")
            elif line and line[0] not in "#;" and "=" in line:
                name, _equals, value = line.partition("=")
                if section == "main" and name.strip() == "include":
                    for parent in value.replace(",", " ").split():
                        found = _tuned_profile(root, parent, seen, wanted) + found
                elif section == wanted:
                    # => sets only what is larger; ${...} is computed when it runs.
                    value = sysctl.tokens(value.lstrip(">"))
                    known = None if "${" in value else value
                    found.append(Setting(sysctl.canonical(name), known, path, number, "tuned"))
        return found
    return []


def _ufw(root: str, boot: Boot) -> list[Setting]:
    """ufw applies its own file when it starts, after systemd-sysctl."""
    if not re.search(r"^\s*ENABLED\s*=\s*[\"']?yes", _text(root, "/etc/ufw/ufw.conf") or "", re.MULTILINE | re.IGNORECASE):
        return []
    match = re.search(r"^\s*IPT_SYSCTL\s*=\s*[\"']?([^\"'\s]+)", _text(root, "/etc/default/ufw") or "", re.MULTILINE)
    path = match.group(1) if match else "/etc/ufw/sysctl.conf"
    content = _text(root, path)
    if content is None:
        return []
    return [Setting(name, value, path, number, "ufw") for number, name, value in assignments(content) if value is not None]


#: Settings of .network files that write a parameter of the matched interface. (systemd.network(5))
_NETWORK = {
    "ipv4forwarding": "net.ipv4.conf.{link}.forwarding",
    "ipv6forwarding": "net.ipv6.conf.{link}.forwarding",
    "ipforward": "net.ipv4.conf.{link}.forwarding",
    "ipv4reversepathfilter": "net.ipv4.conf.{link}.rp_filter",
    "ipv4acceptlocal": "net.ipv4.conf.{link}.accept_local",
    "ipv4routelocalnet": "net.ipv4.conf.{link}.route_localnet",
    "ipv4proxyarp": "net.ipv4.conf.{link}.proxy_arp",
    "ipv6acceptra": "net.ipv6.conf.{link}.accept_ra",
}
_WORDS = {"no": "0", "false": "0", "off": "0", "yes": "1", "true": "1", "on": "1", "strict": "1", "loose": "2"}


def _networkd(root: str) -> list[Setting]:
    if not glob.glob(root.rstrip("/") + "/etc/systemd/system/*.wants/systemd-networkd.service"):
        return []
    found: list[Setting] = []
    chosen: dict[str, str] = {}
    for folder in ("/etc/systemd/network", "/run/systemd/network", "/usr/local/lib/systemd/network", "/usr/lib/systemd/network"):
        for full in glob.glob(root.rstrip("/") + folder + "/*.network"):
            chosen.setdefault(os.path.basename(full), f"{folder}/{os.path.basename(full)}")
    for _name, path in sorted(chosen.items()):
        content = _text(root, path) or ""
        match = re.search(r"^\s*Name\s*=\s*(\S+)\s*$", content, re.MULTILINE)
        link = match.group(1) if match else "*"
        for number, raw in enumerate(content.splitlines(), 1):
            key, equals, value = raw.strip().partition("=")
            pattern = _NETWORK.get(key.strip().lower()) if equals else None
            if pattern is not None:
                name = pattern.format(link=link.replace(".", "/"))
                found.append(Setting(name, _WORDS.get(value.strip().lower(), value.strip()), path, number, "systemd-networkd"))
    return found


_CALL = re.compile(r"\bsysctl\b(?P<rest>[^\n;&|]*)")
_PAIR = re.compile(
    r"(?P<name>[a-z][a-z0-9_]*(?:[./][A-Za-z0-9_*-]+)+)\s*=\s*(?P<quote>[\"']?)(?P<value>[^\"'\n]*?)(?P=quote)(?=[\s\"']|$)"
)


def _scripts(root: str) -> list[Setting]:
    """Calls of sysctl(8) in units, udev rules, rc.local and cloud-init: they may run, and then they come late."""
    places = (
        ("/etc/rc.local", "rc.local"),
        ("/etc/rc.d/rc.local", "rc.local"),
        ("/etc/systemd/system/*.service", "a unit"),
        ("/usr/local/lib/systemd/system/*.service", "a unit"),
        ("/etc/udev/rules.d/*.rules", "udev"),
        ("/etc/cloud/cloud.cfg", "cloud-init"),
        ("/etc/cloud/cloud.cfg.d/*.cfg", "cloud-init"),
        ("/etc/crontab", "cron"),
        ("/etc/cron.d/*", "cron"),
        ("/etc/network/if-up.d/*", "ifupdown"),
    )
    found: list[Setting] = []
    prefix = root.rstrip("/")
    for pattern, writer in places:
        for full in sorted(glob.glob(prefix + pattern)):
            path = full[len(prefix) :]
            if os.path.basename(path) == "systemd-sysctl.service" or "netops-fleet" in os.path.basename(path):
                continue
            for number, line in enumerate((_text(root, path) or "").splitlines(), 1):
                text = line.strip()
                if "sysctl" in text and not text.startswith("#"):
                    found += _call(root, path, number, text, writer)
    return found


def _call(root: str, path: str, number: int, text: str, writer: str) -> list[Setting]:
    found: list[Setting] = []
    for call in _CALL.finditer(text.replace('"', " ").replace(",", " ") if writer == "cloud-init" else text):
        rest = call.group("rest")
        for pair in _PAIR.finditer(rest):
            name = sysctl.canonical(pair.group("name"))
            found.append(Setting(name, sysctl.tokens(pair.group("value")), path, number, writer, certain=False))
        loads = re.search(r"(?:^|\s)(?:-p|--load|-f)(?:[=\s]+(?P<file>/\S+))?", rest)
        if loads is not None or "--system" in rest:
            file = (loads.group("file") if loads is not None else None) or "/etc/sysctl.conf"
            for _number, name, value in assignments(_text(root, file) or ""):
                if value is not None:
                    found.append(Setting(name, value, file, _number, f"{writer} {path} line {number}", certain=False))
    return found
