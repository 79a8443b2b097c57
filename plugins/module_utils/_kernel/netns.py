# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""Go into another network namespace. Sources: setns(2), ip-netns(8)."""

from __future__ import annotations

import ctypes
import json
import os
import signal
from collections.abc import Callable
from typing import Any

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


def apart(work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What ``work`` returns (JSON) when it runs in a new, empty network namespace. This process stays where it is.

    The namespace and all that was made in it is gone afterwards. Raises OSError when none can be made, or work raised one.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        answer: dict[str, Any] = {}
        try:
            os.close(reading)
            libc = ctypes.CDLL(None, use_errno=True)
            if libc.unshare(_CLONE_NEWNET) != 0:
                raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
            answer = {"answer": work()}
        except BaseException as error:
            answer = {"error": [getattr(error, "errno", None) or 5, getattr(error, "strerror", None) or str(error)]}
        try:
            with os.fdopen(writing, "w", encoding="utf-8") as stream:
                json.dump(answer, stream)
        finally:
            os._exit(0)
    os.close(writing)
    try:
        with os.fdopen(reading, encoding="utf-8") as stream:
            text = stream.read()
    except BaseException:
        os.kill(child, signal.SIGKILL)
        raise
    finally:
        os.waitpid(child, 0)
    found: dict[str, Any] = json.loads(text) if text else {"error": [5, "it ended without an answer"]}
    if "error" in found:
        raise OSError(*found["error"])
    returned: dict[str, Any] = found["answer"]
    return returned
