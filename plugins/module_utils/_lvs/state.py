# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""What one run leaves to the next, on the host: who writes the table, which services are ours, since when who drains.

One JSON file, written atomically under the lock. It survives controllers and reboots; the kernel's table is the truth about
everything that the kernel knows.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.netops.fleet.plugins.module_utils._lvs.model import ServiceKey, Wrong, parse_key
from ansible_collections.netops.fleet.plugins.module_utils._safety import files

FOLDER = "/var/lib/netops.fleet/lvs"
WRITERS = ("lvs_wrr", "keepalived")
SCHEMA = 1


class StateError(Exception):
    """The record cannot be used; the message says which file, why, and what to do."""


@dataclass
class Record:
    """writer: one of WRITERS, empty while nobody claimed the table. services: made by lvs_wrr. began: name → unix time.

    drained: address of a server → unix time since when an administrator wants it empty, whatever its wanted weight.
    weights: address → the weight that was wanted last, for who has no data the next time.
    """

    writer: str = ""
    services: set[ServiceKey] = field(default_factory=set)
    began: dict[str, float] = field(default_factory=dict)
    drained: dict[str, float] = field(default_factory=dict)
    weights: dict[str, int] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "writer": self.writer,
            "services": sorted(str(key) for key in self.services),
            "draining": {name: round(since, 3) for name, since in sorted(self.began.items())},
            "drained": {address: round(since, 3) for address, since in sorted(self.drained.items())},
            "weights": dict(sorted(self.weights.items())),
        }


def path_of(folder: str) -> str:
    return os.path.join(folder, "table.json")


def load(folder: str) -> Record:
    """Raises StateError for a damaged file: guessing who owns the table is what this file is there to prevent."""
    path = path_of(folder)
    try:
        with open(path, encoding="utf-8") as file:
            found = json.load(file)
        if found["schema"] != SCHEMA or (found["writer"] and found["writer"] not in WRITERS):
            raise ValueError("made by another version of this collection")
        return Record(
            str(found["writer"]),
            {parse_key(text) for text in found["services"]},
            {str(name): float(since) for name, since in found["draining"].items()},
            {str(address): float(since) for address, since in found["drained"].items()},
            {str(address): int(weight) for address, weight in found.get("weights", {}).items()},
        )
    except FileNotFoundError:
        return Record()
    except (OSError, ValueError, KeyError, TypeError, AttributeError, Wrong) as error:
        raise StateError(f"{path}: {error}; look who writes the virtual services of this host, then remove the file") from None


def save(folder: str, record: Record) -> None:
    """Raises StateError."""
    data = (json.dumps({**record.to_dict(), "written": round(time.time(), 3)}, indent=1) + "\n").encode("ascii")
    try:
        files.given_folder(folder)
        files.write(path_of(folder), data)
    except OSError as error:
        raise StateError(f"{path_of(folder)}: {error.strerror or error}; nothing was changed") from None
