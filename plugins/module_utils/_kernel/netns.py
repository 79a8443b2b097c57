# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""Go into another network namespace. Sources: setns(2), ip-netns(8)."""

from __future__ import annotations

import ctypes
import os

_CLONE_NEWNET = 0x40000000
_FOLDER = "/run/netns"


def path_of(name_or_path: str) -> str:
    """The file of a namespace: a path as it is, a name as ``ip netns`` keeps it. Raises ValueError for neither."""
    if name_or_path.startswith("/"):
        return name_or_path
    if not name_or_path or "/" in name_or_path or name_or_path in (".", ".."):
        raise ValueError(f"{name_or_path!r} is neither a name known to 'ip netns' nor an absolute path")
    return os.path.join(_FOLDER, name_or_path)


def enter(name_or_path: str) -> None:
    """Move this thread, and what it starts from now on, into the namespace.

    /proc/net of the calling process then shows it as well (it follows the main thread: call from there).
    Raises OSError (no such namespace, not permitted) or ValueError (not a name).
    """
    path = path_of(name_or_path)
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.setns(descriptor, _CLONE_NEWNET) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), path)
    finally:
        os.close(descriptor)
