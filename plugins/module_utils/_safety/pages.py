# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""Huge pages and files of /sys as objects of the journal.

    hugepages  {"pages": 1024}      name: the folder of one size, of a node or of the whole host
    sysfs      {"value": "madvise"} name: a file of /sys that holds one value, or choices with one in brackets

Sources: Documentation/admin-guide/mm/hugetlbpage.rst, transhuge.rst.
"""

from __future__ import annotations

import os
import re
from typing import Any

from ansible_collections.netops.fleet.plugins.module_utils._kernel import procfs

#: The kernel stops where memory is fragmented; asked again it compacts further, until nothing comes any more.
_TRIES = 10


def capture_pages(folder: str) -> dict[str, Any] | None:
    """Pages that are reserved; None without this size or node. Surplus pages are on loan and go when they are given back."""
    pages = procfs.integer(f"{folder}/nr_hugepages")
    if pages is None:
        return None
    return {"pages": pages - (procfs.integer(f"{folder}/surplus_hugepages") or 0)}


def put_pages(folder: str, state: dict[str, Any] | None) -> None:
    """Reserve; the kernel may give fewer. Raises OSError."""
    if state is None:
        return  # A size or node comes and goes with the kernel.
    wanted, got = int(state["pages"]), -1
    for _try in range(_TRIES):
        _write(f"{folder}/nr_hugepages", str(wanted))
        now = (capture_pages(folder) or {"pages": wanted})["pages"]
        if now >= wanted or now <= got:
            return
        got = now


def partly(_name: str, original: dict[str, Any] | None, wrote: dict[str, Any] | None, present: dict[str, Any] | None) -> bool:
    """Is ``present`` what came of writing ``wrote``? Fragmented memory yields fewer pages, at each boot another number."""
    if original is None or wrote is None or present is None:
        return False
    low, high = sorted((int(original["pages"]), int(wrote["pages"])))
    return low <= int(present["pages"]) <= high


def capture_file(path: str) -> dict[str, Any] | None:
    content = procfs.text_or_none(path, 65536)
    return None if content is None else {"value": chosen(content)}


def chosen(content: str) -> str:
    """``always [madvise] never`` → ``madvise``; anything else as it is, white space folded."""
    found = re.search(r"\[([^\]]+)\]", content)
    return found.group(1) if found else " ".join(content.split())


def put_file(path: str, state: dict[str, Any] | None) -> None:
    if state is not None:
        _write(path, str(state["value"]))


def _write(path: str, text: str) -> None:
    if not path.startswith("/sys/") or ".." in path.split("/"):
        raise ValueError("it is no file of /sys")
    # Not created: a file that is gone is an error.
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, text.encode("ascii"))
    finally:
        os.close(descriptor)
