# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""Ports of RDMA devices (InfiniBand, RoCE) and their counters of errors, from sysfs.

Sources: Documentation/ABI/stable/sysfs-class-infiniband
"""

from __future__ import annotations

import glob
from typing import Any

from ansible_collections.netops.fleet.plugins.module_utils._kernel import procfs

FOLDER = "/sys/class/infiniband"
#: Ports read; each counter is a question to the card.
_MOST = 64
#: Counters that tell of a bad cable, or of packets that were lost on the way.
COUNTERS = {
    "counters": (
        "symbol_error", "link_error_recovery", "link_downed", "port_rcv_errors", "port_rcv_remote_physical_errors",
        "local_link_integrity_errors", "excessive_buffer_overrun_errors", "port_xmit_discards",
    ),
    "hw_counters": (
        "out_of_sequence", "packet_seq_err", "local_ack_timeout_err", "rnr_nak_retry_err", "rx_icrc_encapsulated",
        "req_transport_retries_exceeded",
    ),
}  # fmt: skip


def _paths(folder: str) -> list[tuple[str, str, str]]:
    """(folder of a port, device, port)."""
    found = sorted(glob.glob(f"{folder}/*/ports/*"))[:_MOST]
    return [(path, path[len(folder) + 1 :].split("/")[0], path.rpartition("/")[2]) for path in found]


def ports(folder: str = FOLDER) -> list[dict[str, Any]] | None:
    """``[{device, port, state, physical, rate, layer}]`` in the kernel's words; None without any."""
    found = []
    for path, device, port in _paths(folder):
        state, physical, rate, layer = (
            (procfs.text_or_none(f"{path}/{name}", 256) or "").strip() for name in ("state", "phys_state", "rate", "link_layer")
        )
        found.append(
            {
                "device": device,
                "port": port,
                "state": state.partition(": ")[2] or None,
                "physical": physical.partition(": ")[2] or None,
                "rate": rate or None,
                "layer": layer or None,
            }
        )
    return found or None


def counters(folder: str = FOLDER) -> dict[str, int]:
    """``device/port counter`` → total, of those that the card has."""
    out = {}
    for path, device, port in _paths(folder):
        for kind, names in COUNTERS.items():
            for name in names:
                value = procfs.integer(f"{path}/{kind}/{name}")
                if value is not None:
                    out[f"{device}/{port} {name}"] = value
    return out
