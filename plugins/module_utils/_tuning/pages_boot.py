# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""Early at boot, while memory is whole: reserve huge pages and set transparent ones. A program of its own, see portable.py."""

from __future__ import annotations

import argparse
import sys

from ansible_collections.netops.fleet.plugins.module_utils._safety import pages

#: systemd reads the level of a line from its start (sd-daemon(3)).
_WARNING, _INFO = "<4>", "<6>"


def main(arguments: list[str]) -> int:
    """What could not be had is told to the system's log; the boot goes on."""
    parser = argparse.ArgumentParser(prog="pages.pyz", description="Reserve huge pages, set transparent huge pages.")
    parser.add_argument("--pages", action="append", default=[], metavar="FOLDER=NUMBER")
    parser.add_argument("--set", action="append", default=[], metavar="FILE=VALUE")
    chosen = parser.parse_args(arguments)
    for word in chosen.pages:
        folder, _equals, number = word.rpartition("=")
        _say(*_reserve(folder, int(number)))
    for word in chosen.set:
        path, _equals, value = word.rpartition("=")
        try:
            pages.put_file(path, {"value": value})
            _say(_INFO, f"{path}: {value}")
        except OSError as error:
            _say(_WARNING, f"{path}: {error.strerror or error}")
    return 0


def _reserve(folder: str, wanted: int) -> tuple[str, str]:
    """(level, line). Pages that are there already, reserved by the kernel's command line, stay."""
    before = pages.capture_pages(folder)
    if before is None:
        return _WARNING, f"{folder}: this kernel does not have it"
    if before["pages"] < wanted:
        try:
            pages.put_pages(folder, {"pages": wanted})
        except OSError as error:
            return _WARNING, f"{folder}: {error.strerror or error}"
    got = (pages.capture_pages(folder) or before)["pages"]
    return (_INFO if got >= wanted else _WARNING), f"{folder}: {got} of {wanted} pages"


def _say(level: str, text: str) -> None:
    """This runs as a program of its own, where print() would do."""
    sys.stdout.write(f"{level}{text}\n")
