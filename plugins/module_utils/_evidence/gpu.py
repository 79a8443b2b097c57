# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""GPUs as the driver's own tool tells them. Only where the driver runs already: the tool would load it, and make its devices.

Source: ``nvidia-smi --help-query-gpu``, and its man page (return values).
"""

from __future__ import annotations

import os
import re
from typing import Any

from ansible_collections.netops.fleet.plugins.module_utils._evidence.redact import redact
from ansible_collections.netops.fleet.plugins.module_utils._evidence.section import Section
from ansible_collections.netops.fleet.plugins.module_utils._kernel import command

#: Both are there once the driver is loaded and has been used.
_RUNS = ("proc/driver/nvidia/version", "dev/nvidiactl")
#: A driver that keeps no state between programs starts each GPU anew for this, which takes a second or two each.
_SECONDS, _MOST_BYTES, _MOST = 12.0, 256 << 10, 64
#: What is asked for, and as what it is told. The last two are names of the same: of newer drivers, and of those before.
FIELDS = {
    "index": "index",
    "uuid": "uuid",
    "pci.bus_id": "bus",
    "name": "name",
    "utilization.gpu": "utilization",
    "utilization.memory": "memory_utilization",
    "memory.used": "memory_used_mib",
    "memory.total": "memory_total_mib",
    "temperature.gpu": "temperature_c",
    "power.draw": "power_w",
    "ecc.errors.uncorrected.volatile.total": "ecc_uncorrected",
    "pcie.link.gen.current": "link_generation",
    "pcie.link.gen.max": "link_generation_max",
    "pcie.link.width.current": "link_width",
    "pcie.link.width.max": "link_width_max",
    "clocks_event_reasons.active": "slowed_by",
    "clocks_throttle_reasons.active": "slowed_by",
}
_OLDER = {"clocks_event_reasons.active": "clocks_throttle_reasons.active"}
_TEXTS = {
    "uuid": re.compile(r"\A[A-Za-z0-9-]{1,64}\Z"),
    "bus": re.compile(r"\A[0-9A-Fa-f]{4,8}:[0-9A-Fa-f]{2}:[0-9A-Fa-f]{2}\.[0-7]\Z"),
    "name": re.compile(r"\A[A-Za-z0-9 ()/_.+-]{1,64}\Z"),
}
_NUMBER, _MASK = re.compile(r"\A\d{1,12}(?:\.\d{1,6})?\Z"), re.compile(r"\A0x[0-9A-Fa-f]{1,16}\Z")
_STRANGE = re.compile(r'Field "([\w.]{1,80})" is not a valid field')
#: A field of a GPU that has gone reads so, where one that it lacks is [N/A] or [Not Supported].
_GONE = re.compile(r"GPU is lost|requires reset|fallen off the bus", re.IGNORECASE)
#: What the tool says as a whole: kind, and words of it.
_SAID = (
    ("lost", _GONE),
    ("lost", re.compile(r"unable to determine the device handle", re.IGNORECASE)),
    ("none", re.compile(r"no devices were found", re.IGNORECASE)),
    ("driver", re.compile(r"could(?:n.t| not) communicate with the nvidia driver|driver not loaded", re.IGNORECASE)),
    ("mismatch", re.compile(r"driver/library version mismatch", re.IGNORECASE)),
)


def read(section: Section, root: str = "/") -> dict[str, Any] | None:
    """``{error: {kind, text} or None, gpus: [...]}``; None without a driver that runs, or without its tool. Never raises.

    kind: lost, none, driver, mismatch, silent (no answer in time). gpus: see ``FIELDS``; null is what a GPU does not tell;
    ``slowed_by`` is the mask of the reasons for lower clocks; ``error`` what stands in place of values of a GPU that has gone.
    """
    if root != "/" or not all(os.path.exists(os.path.join(root, path)) for path in _RUNS) or command.find("nvidia-smi") is None:
        return None
    fields = [name for name in FIELDS if name not in _OLDER.values()]
    asked = _ask(fields)
    for _attempt in range(4):  # each answer names one field that the driver does not know
        strange = _STRANGE.search(asked.out + asked.err)
        if asked.ok or strange is None or strange.group(1) not in fields:
            break
        at = fields.index(strange.group(1))
        fields[at : at + 1] = [_OLDER[fields[at]]] if fields[at] in _OLDER else []
        asked = _ask(fields)
    rows = gpus(asked.out, fields)
    lines = sum(1 for line in asked.out.splitlines() if line.strip())
    full = asked.ok and 0 < len(rows) == lines
    wrong = None if full else error(asked)
    if wrong is None and not full:
        why = f"{len(rows)} of {lines} lines are of the form that was asked for" if asked.ok else asked.why()
        section.gap("installed.gpu", redact(f"{why}: {asked.out}" if not rows else why, 200))
    return {"error": wrong, "gpus": rows}


def _ask(fields: list[str]) -> command.Result:
    query = ["nvidia-smi", f"--query-gpu={','.join(fields)}", "--format=csv,noheader,nounits"]
    return command.run(query, timeout=_SECONDS, max_bytes=_MOST_BYTES)


def error(asked: command.Result) -> dict[str, str] | None:
    """What is wrong with GPUs or driver, of an answer that is not a full one; None: it tells nothing of them."""
    if asked.rc == -2:
        return {"kind": "silent", "text": f"no answer within {_SECONDS:.0f} s"}
    said = f"{asked.out}\n{asked.err}"
    for kind, words in _SAID:
        found = words.search(said)
        if found:
            line = said[said.rfind("\n", 0, found.start()) + 1 :].partition("\n")[0]
            return {"kind": kind, "text": redact(line, 200)}
    return None


def gpus(text: str, fields: list[str]) -> list[dict[str, Any]]:
    """Of the CSV: one GPU a line. Lines that are not of that form are left out."""
    out: list[dict[str, Any]] = []
    for line in text.splitlines():
        given = [one.strip() for one in line.split(",")]
        if len(given) != len(fields) or not given[0].isdecimal() or len(given[0]) > 4:
            continue
        gone = next((one for one in given if _GONE.search(one)), None)
        found: dict[str, Any] = dict.fromkeys(FIELDS.values())
        found.update({FIELDS[field]: _value(FIELDS[field], value) for field, value in zip(fields, given)})
        found["error"] = redact(gone, 80) if gone else None
        out.append(found)
    return out[:_MOST]


def _value(key: str, text: str) -> str | int | float | None:
    if key in _TEXTS:
        return text if _TEXTS[key].match(text) else None
    if key == "slowed_by":
        return int(text, 16) if _MASK.match(text) else None
    if not _NUMBER.match(text):
        return None
    return float(text) if "." in text else int(text)
