# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""Kernel parameters under /proc/sys: names and paths, reading, writing, and why one cannot be written."""

from __future__ import annotations

import errno
import os
import re

ROOT = "/proc/sys"

#: Names of the same parameter; the kernel keeps the first for old programs.
ALIASES = {"net.nf_conntrack_max": "net.netfilter.nf_conntrack_max"}

_SWAP = {ord("/"): ".", ord("."): "/"}
#: Milliseconds that the kernel keeps as ticks (proc_dointvec_ms_jiffies); how long a tick is, it does not tell.
_TICKS = re.compile(
    r"net\.(ipv4\.icmp_ratelimit|ipv6\.icmp\.ratelimit|ipv[46]\.route\.gc_min_interval_ms"
    r"|ipv[46]\.neigh\..+\.(retrans_time_ms|base_reachable_time_ms|interval_probe_time_ms))\Z"
)


def canonical(name: str) -> str:
    """A name in the form that sysctl(8) prints.

    As in sysctl.d(5), the first separator decides: ``net/ipv4/conf/eth0.5/rp_filter`` and ``net.ipv4.conf.eth0/5.rp_filter``
    are the same parameter.
    """
    name = name.strip().strip("/")
    for character in name:
        if character == "/":
            name = name.translate(_SWAP)
            break
        if character == ".":
            break
    return ALIASES.get(name, name)


def path(name: str) -> str:
    """The file of a canonical name. Raises ValueError for a name that leaves /proc/sys."""
    parts = name.translate(_SWAP).split("/")
    if not name or any(part in ("", ".", "..") for part in parts) or "\0" in name:
        raise ValueError(f"{name!r} is no kernel parameter: names look like net.core.somaxconn")
    return f"{ROOT}/{'/'.join(parts)}"


def name_of(file: str) -> str:
    """The canonical name of a file below /proc/sys."""
    return canonical(os.path.relpath(file, ROOT))


def tokens(value: str) -> str:
    """A value as it is compared: /proc shows tabs, files hold what people typed."""
    return " ".join(value.split())


def read(name: str) -> str | None:
    """The present value, white space folded; None when this kernel, or this namespace, has no such parameter.

    Raises OSError when it is there and cannot be read (EACCES: not permitted; EIO, EINVAL: nothing behind it).
    """
    try:
        descriptor = os.open(path(name), os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        data = b""
        while len(data) < 1 << 16:
            more = os.read(descriptor, 1 << 14)
            if not more:
                break
            data += more
    finally:
        os.close(descriptor)
    return tokens(data.decode("utf-8", "replace"))


def writable(name: str) -> str | None:
    """None when root may write it, else why not. Nothing is written."""
    file = path(name)
    try:
        mode = os.stat(file).st_mode
    except OSError as error:
        return (error.strerror or str(error)).lower()
    # Root passes access(2) on most files; the mode says what the kernel's handler allows.
    if not mode & 0o222:
        return (
            "read-only here: it belongs to the whole machine, not to this network namespace" if "/net/" in file else "read-only"
        )
    if not os.access(file, os.W_OK):
        try:
            if os.statvfs(file).f_flag & os.ST_RDONLY:
                return "/proc/sys is mounted read-only here"
        except OSError:
            pass
        return "not permitted: needs root and the capability to administer the network or the system"
    return None


def write(name: str, value: str) -> None:
    """Write in one call, as the kernel wants it. Raises OSError; EINVAL and friends name the value."""
    descriptor = os.open(path(name), os.O_WRONLY | os.O_CLOEXEC)
    try:
        data = value.encode("utf-8") + b"\n"
        if os.write(descriptor, data) != len(data):
            raise OSError(errno.EIO, f"the kernel took only a part of {value!r}", path(name))
    except OSError as error:
        if error.errno == errno.EINVAL:
            raise OSError(errno.EINVAL, f"the kernel refuses {value!r}", path(name)) from None
        raise
    finally:
        os.close(descriptor)


def children(pattern: str) -> list[str]:
    """Canonical names that a pattern with ``*`` for one component matches now: ``net.ipv4.conf.*.forwarding``."""
    import glob

    return sorted(name_of(file) for file in glob.glob(path(pattern)))


def rounded(name: str, wrote: str, present: str) -> bool:
    """Is ``present`` what the kernel made of ``wrote`` by rounding up to whole ticks? A tick is 10 ms at most."""
    return bool(_TICKS.match(name)) and wrote.isdigit() and present.isdigit() and 0 < int(present) - int(wrote) < 10
