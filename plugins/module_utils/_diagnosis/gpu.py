# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""GPUs that do not answer, count memory errors, have lost lanes, or are slowed down. Pure. (D11, D29)"""

from __future__ import annotations

from typing import Any

from ansible_collections.netops.fleet.plugins.module_utils._diagnosis.model import Finding

#: Reasons for lower clocks that are not a setting, nor the power limit, at which a busy GPU runs by design. (nvml.h)
SLOWED = {0x20: "heat (software)", 0x40: "heat (hardware)", 0x80: "power brake (of the power supply)"}
#: Percent; from here on a GPU is in use, and its link is not saving power.
_IN_USE = 20
_SAID = {
    "lost": ("proven", "critical", "A GPU is gone: the driver does not reach it any more."),
    "none": ("proven", "critical", "The driver runs and finds no GPU."),
    "driver": ("proven", "critical", "The driver of the GPUs does not answer: no program can use them."),
    "mismatch": (
        "proven",
        "warning",
        "The driver in the kernel is of another version than its libraries: programs that start now cannot use the GPUs.",
    ),
    "silent": ("likely", "warning", "nvidia-smi does not answer: a GPU or its driver hangs."),
}
_HELP = {
    "mismatch": ["# the driver was upgraded and is still loaded as it was: restart the host", "cat /proc/driver/nvidia/version"],
    "silent": ["dmesg -T | grep -iE 'xid|nvrm'", "ps -eo pid,stat,wchan:30,comm | awk '$2 ~ /^D/'"],
}


def find(found: dict[str, Any] | None) -> list[Finding]:
    """found: what ``_evidence.gpu.read`` tells, or None."""
    if not found:
        return []
    out = _said(found["error"])
    for one in found["gpus"]:
        # Of one that has gone no number is true.
        out += _gone(one) if one["error"] else _errors(one) + _link(one) + _slowed(one)
    return out


def _name(one: dict[str, Any]) -> str:
    return f"GPU {one['index']}"


def _who(one: dict[str, Any]) -> str:
    told = ", ".join(str(one[key]) for key in ("name", "bus", "uuid") if one[key])
    return f"GPU {one['index']}: {told or 'no name'}"


def _said(error: dict[str, str] | None) -> list[Finding]:
    if not error:
        return []
    grade, severity, summary = _SAID[error["kind"]]
    help_ = _HELP.get(error["kind"], ["dmesg -T | grep -iE 'xid|nvrm|fallen off'", "# reset the GPU, or restart the host"])
    return [_unreachable(grade, severity, "GPU", summary, [f"nvidia-smi: {error['text']}"], help_)]


def _gone(one: dict[str, Any]) -> list[Finding]:
    evidence = [_who(one), f"nvidia-smi: {one['error']}"]
    return [
        _unreachable(
            "proven",
            "critical",
            _name(one),
            f"{_name(one)} does not answer the driver.",
            evidence,
            ["dmesg -T | grep -iE 'xid|nvrm|fallen off'", f"nvidia-smi --gpu-reset -i {one['index']}   # nothing may use it"],
        )
    ]


def _unreachable(grade: str, severity: str, subject: str, summary: str, evidence: list[str], fix: list[str]) -> Finding:
    return Finding("gpu-unreachable", grade, severity, subject, summary, evidence, fix, ["D11", "D29"])


def _errors(one: dict[str, Any]) -> list[Finding]:
    count = one["ecc_uncorrected"]
    if not count:
        return []
    return [
        Finding(
            "gpu-ecc-errors",
            "proven",
            "warning",
            _name(one),
            f"The memory of {_name(one)} had {count} errors that could not be corrected since the driver was loaded.",
            [_who(one), f"ecc.errors.uncorrected.volatile.total {count}"],
            [
                f"nvidia-smi -q -d ECC,ROW_REMAPPER,PAGE_RETIREMENT -i {one['index']}",
                f"nvidia-smi --gpu-reset -i {one['index']}   # nothing may use it; again after that: replace it",
            ],
            ["D11", "D29"],
        )
    ]


def _link(one: dict[str, Any]) -> list[Finding]:
    """A link that saves power may be narrower: one at its highest speed, or of a GPU in use, does not."""
    width, most = one["link_width"], one["link_width_max"]
    awake = one["link_generation"] and one["link_generation"] == one["link_generation_max"]
    if not width or not most or width >= most or not (awake or (one["utilization"] or 0) >= _IN_USE):
        return []
    return [
        Finding(
            "gpu-link-narrow",
            "proven",
            "warning",
            _name(one),
            f"{_name(one)} has {width} of its {most} PCIe lanes: what it exchanges with the host and with network cards is slow.",
            [
                _who(one),
                f"pcie.link.width {width} of {most}, generation {one['link_generation']} of {one['link_generation_max']}, "
                f"{one['utilization']} % in use",
            ],
            [
                f"lspci -vv -s {(one['bus'] or 'BUS')[-12:]} | grep -E 'LnkCap|LnkSta'",
                "# reseat the card or its riser; then the slot",
            ],
            ["D11", "D29"],
        )
    ]


def _slowed(one: dict[str, Any]) -> list[Finding]:
    why = [text for bit, text in SLOWED.items() if (one["slowed_by"] or 0) & bit]
    if not why:
        return []
    return [
        Finding(
            "gpu-throttled",
            "proven",
            "warning",
            _name(one),
            f"{_name(one)} is slowed down: {', '.join(why)}.",
            [
                _who(one),
                f"reasons for lower clocks {one['slowed_by']:#x}, {one['temperature_c']} C, {one['power_w']} W, "
                f"{one['utilization']} % in use",
            ],
            [
                f"nvidia-smi -q -d PERFORMANCE,TEMPERATURE,POWER -i {one['index']}",
                "# fans, air flow, inlet temperature; of a power brake: the power supplies",
            ],
            ["D11", "D29"],
        )
    ]
