# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""Kinds of things that changers change: how the present state is captured, put back and compared.

A state is a JSON object, or None when the thing is not there:

    sysctl  {"value": "4096 131072 33554432"}
    file    {"mode": 420, "uid": 0, "gid": 0, "text": "..."}  ("data": base64 when it is no UTF-8), or {"link": "/dev/null"}
    dir     {"mode": 493}
    unit    {"enabled": true, "active": true}
    ipset   see ipset_state.py
    iptables, nft   rules, see filters.py
    nftset, nfttable  see nft_state.py
    packed  see packed_file.py

and those of NICs and their interrupts (nic_objects.py), of huge pages (pages.py), and running services (service.py).

A changer of other things adds its kind to KINDS: two functions that talk to the host through _kernel, and how states compare.
"""

from __future__ import annotations

import base64
import errno
import operator
import os
import stat
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any, NamedTuple, Optional

from ansible_collections.netops.fleet.plugins.module_utils._kernel import command, sysctl
from ansible_collections.netops.fleet.plugins.module_utils._safety import files

_OFF = {"enabled": False, "active": False}

#: What a kind's functions see of an object that is there; None: it is not.
State = Optional[dict[str, Any]]

#: A file of settings is never larger; a larger one is somebody's mistake and not copied into the journal.
MAX_FILE = 1 << 20


class Object(NamedTuple):
    """kind: see the module's text. name: a sysctl's canonical name, an absolute path, or a systemd unit."""

    kind: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


class ObjectError(Exception):
    """It cannot be captured or put back; the message says which one and why."""


class Kind(NamedTuple):
    """capture: name → present state. put: bring it into a state. Both raise OSError, or ValueError for what they do not handle.

    same: do two states mean the same? visitor: it comes and goes with something else (a module, a device), so one that is gone
    needs no way back, and one that was not there before cannot be taken away. shared: others put things of their own into it, so
    the way back takes what it can and is not read back. late: it follows from others, and is put back after them. restless:
    a program of the host moves it as soon as it is nobody's. partly: did writing the second state over the first yield the third,
    which is not quite what was asked for? Its first argument is the name.
    """

    capture: Callable[[str], State]
    put: Callable[[str, State], None]
    same: Callable[[State, State], bool] = operator.eq
    visitor: bool = False
    shared: bool = False
    late: bool = False
    restless: bool = False
    partly: Callable[[str, State, State, State], bool] = lambda _name, _original, _wrote, _present: False


@lru_cache(maxsize=None)
def known(name: str) -> Kind | None:
    """A kind by its name; None for one that this version does not know."""
    group = KINDS.get(name)
    return None if group is None else group()[name]


def kind(target: Object) -> Kind:
    """Raises ObjectError for a kind that this version does not know."""
    found = known(target.kind)
    if found is None:
        raise ObjectError(f"{target}: kinds are {', '.join(sorted(KINDS))}")
    return found


def capture(target: Object) -> dict[str, Any] | None:
    """The present state. Raises ObjectError."""
    try:
        return kind(target).capture(target.name)
    except (OSError, ValueError) as error:
        raise ObjectError(f"{target}: {_said(error)}") from None


def put(target: Object, state: dict[str, Any] | None) -> None:
    """Bring the object into ``state``. Raises ObjectError. Does not read back."""
    try:
        kind(target).put(target.name, state)
    except KeyError as error:
        raise ObjectError(f"{target}: the state lacks {error}") from None
    except (OSError, ValueError) as error:
        raise ObjectError(f"{target}: {_said(error)}") from None


def same(target: Object, one: dict[str, Any] | None, other: dict[str, Any] | None) -> bool:
    """Do two states mean the same? Those of an unknown kind (a journal of a newer version) are compared as they are."""
    found = known(target.kind)
    return one == other if found is None else found.same(one, other)


def partly(target: Object, original: State, wrote: State, present: State) -> bool:
    """Did writing yield not quite what was asked for? See Kind."""
    found = known(target.kind)
    return found is not None and found.partly(target.name, original, wrote, present)


def tidy(path: str) -> None:
    """Remove what a killed writer of this file left beside it."""
    try:
        files.remove(files.left_over(path))
    except OSError:
        pass  # No such folder, or not permitted: then writing the file says so.


def file_state(text: str, mode: int = 0o644) -> dict[str, Any]:
    """The state of a file of root's that a changer is about to write."""
    return {"mode": mode, "uid": os.geteuid(), "gid": os.getegid(), "text": text}


def _said(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error)


def _capture_sysctl(name: str) -> dict[str, Any] | None:
    value = sysctl.read(name)
    return None if value is None else {"value": value}


def _put_sysctl(name: str, state: dict[str, Any] | None) -> None:
    if state is None:
        return  # A parameter cannot be taken away; it comes and goes with its module or its interface.
    if sysctl.read(name) is None:
        raise OSError(2, "this kernel, or this namespace, does not have it any more")
    sysctl.write(name, str(state["value"]))


def _capture_file(path: str) -> dict[str, Any] | None:
    try:
        found = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    if stat.S_ISLNK(found.st_mode):
        return {"link": os.readlink(path)}
    if not stat.S_ISREG(found.st_mode):
        raise ValueError("it is neither a regular file nor a symbolic link")
    if found.st_size > MAX_FILE:
        raise ValueError(f"it has {found.st_size} bytes, more than {MAX_FILE}")
    with open(path, "rb") as file:
        data = file.read()
    state: dict[str, Any] = {"mode": stat.S_IMODE(found.st_mode), "uid": found.st_uid, "gid": found.st_gid}
    try:
        state["text"] = data.decode("utf-8")
    except UnicodeDecodeError:
        state["data"] = base64.b64encode(data).decode("ascii")
    return state


def _put_file(path: str, state: dict[str, Any] | None) -> None:
    tidy(path)
    if state is None:
        files.remove(path)
    elif "link" in state:
        fresh = files.left_over(path)
        os.symlink(state["link"], fresh)
        os.rename(fresh, path)
        files.sync_folder(os.path.dirname(path))
    else:
        data = state["text"].encode("utf-8") if "text" in state else base64.b64decode(state["data"])
        files.write(path, data, int(state["mode"]), int(state["uid"]), int(state["gid"]))


def _capture_dir(path: str) -> dict[str, Any] | None:
    try:
        found = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    if not stat.S_ISDIR(found.st_mode):
        raise ValueError("it is no folder")
    return {"mode": stat.S_IMODE(found.st_mode)}


def _put_dir(path: str, state: dict[str, Any] | None) -> None:
    if state is not None:
        if not os.path.isdir(path):
            os.mkdir(path)
            os.chmod(path, int(state["mode"]))
            files.sync_folder(os.path.dirname(path))
        return
    try:
        os.rmdir(path)
    except FileNotFoundError:
        return
    except OSError as error:
        if error.errno == errno.ENOTEMPTY:
            return  # Others keep files in it by now.
        raise
    files.sync_folder(os.path.dirname(path))


def systemd() -> bool:
    """Does systemd run this host? (sd_booted(3))"""
    return os.path.isdir("/run/systemd/system")


def reload_units(targets: Iterable[Object]) -> None:
    """systemd reads unit files once: let it look again after some of ``targets`` were written."""
    if any("/systemd/system/" in target.name for target in targets) and systemd():
        command.run(["systemctl", "daemon-reload"], timeout=60)


def _capture_unit(name: str) -> dict[str, Any] | None:
    if not systemd():
        return None
    shown = command.run(["systemctl", "show", "--property=LoadState,UnitFileState,ActiveState", name])
    if not shown.ok:
        raise OSError(5, shown.why())
    found = dict(line.partition("=")[::2] for line in shown.out.splitlines())
    if found.get("LoadState") != "loaded":
        return None
    return {"enabled": found.get("UnitFileState") == "enabled", "active": found.get("ActiveState") in ("active", "activating")}


def _put_unit(name: str, state: dict[str, Any] | None) -> None:
    if not systemd():
        return
    enabled, active = (False, False) if state is None else (bool(state["enabled"]), bool(state["active"]))
    if state is None and _capture_unit(name) is None:
        return
    timer = f"{name.rpartition('.')[0]}.timer"
    # One that goes for good must not be started by its timer in the middle of that.
    ends = [["stop", timer]] if state is None and timer != name and _capture_unit(timer) is not None else []
    steps = [
        ["daemon-reload"],
        *ends,
        ["enable" if enabled else "disable", "--quiet", name],
        ["start" if active else "stop", name],
    ]
    for step in steps:
        done = command.run(["systemctl", *step], timeout=60)
        if not done.ok:
            raise OSError(5, done.why())


def _rounded_sysctl(name: str, _original: State, wrote: State, present: State) -> bool:
    return wrote is not None and present is not None and sysctl.rounded(name, str(wrote["value"]), str(present["value"]))


def _same_sysctl(one: State, other: State) -> bool:
    if one is None or other is None:
        return one == other
    return sysctl.tokens(str(one.get("value"))) == sysctl.tokens(str(other.get("value")))


def _same_dir(one: State, other: State) -> bool:
    return (one is None) == (other is None)


def _same_unit(one: State, other: State) -> bool:
    """A unit whose file goes next is off like one that never was."""
    return (one or _OFF) == (other or _OFF)


def _own() -> dict[str, Kind]:
    return {
        "sysctl": Kind(_capture_sysctl, _put_sysctl, _same_sysctl, visitor=True, partly=_rounded_sysctl),
        "file": Kind(_capture_file, _put_file),
        "dir": Kind(_capture_dir, _put_dir, _same_dir, shared=True),
        "unit": Kind(_capture_unit, _put_unit, _same_unit),
    }


def _firewall() -> dict[str, Kind]:
    from ansible_collections.netops.fleet.plugins.module_utils._safety import filters, ipset_state, nft_state, packed_file

    return {
        "ipset": Kind(ipset_state.capture, ipset_state.put, ipset_state.same),
        "iptables": Kind(filters.capture_iptables, filters.put_iptables, filters.same),
        "nft": Kind(filters.capture_nft, filters.put_nft, filters.same),
        "nftset": Kind(nft_state.capture_set, nft_state.put_set, nft_state.same),
        "nfttable": Kind(nft_state.capture_table, nft_state.put_table, nft_state.same),
        "packed": Kind(packed_file.capture, packed_file.put, packed_file.same),
    }


def _nics() -> dict[str, Kind]:
    from ansible_collections.netops.fleet.plugins.module_utils._safety import nic_objects

    return {
        "irq": Kind(nic_objects.capture_irq, nic_objects.put_irq, visitor=True, restless=True),
        "nic": Kind(nic_objects.capture_nic, nic_objects.put_nic, visitor=True),
        "irqbalance": Kind(nic_objects.capture_policy, nic_objects.put_policy),
    }


def _placement() -> dict[str, Kind]:
    from ansible_collections.netops.fleet.plugins.module_utils._safety import pages, service

    return {
        "hugepages": Kind(pages.capture_pages, pages.put_pages, visitor=True, partly=pages.partly),
        "sysfs": Kind(pages.capture_file, pages.put_file, visitor=True),
        "service": Kind(service.capture, service.put, visitor=True, shared=True, late=True),
    }


#: Kind → the group that makes it, when one of its things is met: a host pays for compiling what it uses.
KINDS: dict[str, Callable[[], dict[str, Kind]]] = {
    **dict.fromkeys(("sysctl", "file", "dir", "unit"), _own),
    **dict.fromkeys(("ipset", "iptables", "nft", "nftset", "nfttable", "packed"), _firewall),
    **dict.fromkeys(("irq", "nic", "irqbalance"), _nics),
    **dict.fromkeys(("hugepages", "sysfs", "service"), _placement),
}
