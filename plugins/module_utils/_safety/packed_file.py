# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""A file of any size as a thing that is journalled: its content is compared by digest and kept compressed.

packed  {"mode": 384, "digest": "...", "data": base64 of zlib}; a state that is only compared has no data
"""

from __future__ import annotations

import base64
import hashlib
import os
import stat
import zlib
from typing import Any

from ansible_collections.netops.fleet.plugins.module_utils._safety import files


def compared(content: bytes, mode: int) -> dict[str, Any]:
    return {"mode": mode, "digest": hashlib.sha256(content).hexdigest()}


def capture(path: str) -> dict[str, Any] | None:
    try:
        mode = os.lstat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return None
    if not stat.S_ISREG(mode):
        raise ValueError("it is no regular file")
    with open(path, "rb") as file:
        content = file.read()
    data = base64.b64encode(zlib.compress(content, 1)).decode("ascii")
    return {**compared(content, stat.S_IMODE(mode)), "data": data}


def put(path: str, state: dict[str, Any] | None) -> None:
    if state is None:
        files.remove(path)
    else:
        files.write(path, zlib.decompress(base64.b64decode(state["data"])), int(state["mode"]))


def same(one: dict[str, Any] | None, other: dict[str, Any] | None) -> bool:
    if one is None or other is None:
        return one is other
    return bool(one["digest"] == other["digest"] and one["mode"] == other["mode"])
