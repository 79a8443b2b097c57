# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""Records of what was removed, one file each, written before the removal and kept until it was undone."""

from __future__ import annotations

import json
import os
import re
from typing import Any

FOLDER = "/var/lib/netops.fleet/remediate"
_NAME = re.compile(r"\A[0-9a-f]{8,64}\Z")


def path_of(name: str, folder: str = FOLDER) -> str:
    """Raises ValueError for a name that is no record's."""
    if not _NAME.match(name):
        raise ValueError(f"{name[:80]!r} is no id of a record: 8 to 64 hexadecimal digits")
    return os.path.join(folder, f"{name}.json")


def write(name: str, record: dict[str, Any], folder: str = FOLDER) -> str:
    """On the disk when this returns. Only root can read it. Raises OSError, ValueError."""
    path = path_of(name, folder)
    os.makedirs(folder, mode=0o700, exist_ok=True)
    fresh = f"{path}.{os.getpid()}"
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(record, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        os.rename(fresh, path)
    except BaseException:
        os.unlink(fresh)
        raise
    place = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(place)
    finally:
        os.close(place)
    return path


def read(name: str, folder: str = FOLDER) -> dict[str, Any] | None:
    """None when there is none. Raises OSError or ValueError for one that cannot be read."""
    try:
        with open(path_of(name, folder), encoding="utf-8") as file:
            found = json.load(file)
    except FileNotFoundError:
        return None
    if not isinstance(found, dict):
        raise ValueError(f"{path_of(name, folder)} is damaged")
    return found


def remove(name: str, folder: str = FOLDER) -> None:
    os.unlink(path_of(name, folder))
