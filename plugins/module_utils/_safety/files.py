# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""Write files so that a crash leaves the old content or the new one, never half of it."""

from __future__ import annotations

import errno
import os
import stat


def sync_folder(folder: str) -> None:
    """Make a rename, a new file or a removal in ``folder`` durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write(path: str, data: bytes, mode: int = 0o600, uid: int | None = None, gid: int | None = None) -> None:
    """Replace ``path`` atomically with a regular file of exactly this mode. Raises OSError."""
    folder, name = os.path.split(path)
    # The dot hides it from readers of drop-in folders; they take *.conf only. One writer at a time: the lock.
    fresh = os.path.join(folder, f".{name}.new")
    try:
        os.unlink(fresh)  # of a writer that was killed
    except FileNotFoundError:
        pass
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(descriptor, view) :]
        if uid is not None or gid is not None:
            os.fchown(descriptor, -1 if uid is None else uid, -1 if gid is None else gid)
        os.fchmod(descriptor, mode)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    os.rename(fresh, path)
    sync_folder(folder)


def remove(path: str) -> None:
    """Remove a file or link; nothing there is no error. Raises OSError."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        return
    sync_folder(os.path.dirname(path))


def left_over(path: str) -> str:
    """Where a killed writer of ``path`` leaves its unfinished file."""
    folder, name = os.path.split(path)
    return os.path.join(folder, f".{name}.new")


def private_folder(path: str) -> None:
    """Make ``path`` a folder that only root enters. Raises OSError when something else is there, or others may write to it."""
    made = False
    try:
        os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
        os.mkdir(path, 0o700)
        made = True
    except FileExistsError:
        pass
    found = os.lstat(path)
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        raise PermissionError(f"{path} must be a folder that belongs to the user who makes changes; move it away")
    if found.st_mode & 0o077:
        os.chmod(path, 0o700)
    if made:
        sync_folder(os.path.dirname(path))


def given_folder(path: str) -> None:
    """A folder that the user named: private when it is made here, left as it is when it is there. Raises OSError.

    Others may look into it, since files are 0600; where they may write, they could put files of theirs in their place.
    """
    if not os.path.lexists(path):
        private_folder(path)
        return
    found = os.lstat(path)
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o022:
        why = "is no folder, belongs to another user, or others may write to it; name another one, or one that is not there yet"
        raise PermissionError(errno.EPERM, why, path)
