# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""Delay, loss and other harm that the queueing discipline netem does on purpose: a test or a drill that was not taken back.

Sources: include/uapi/linux/pkt_sched.h (struct tc_netem_qopt, TCA_NETEM_*), net/sched/sch_netem.c; tc-netem(8).
"""

from __future__ import annotations

import struct
from typing import Any

from ansible_collections.netops.fleet.plugins.module_utils._kernel import netlink, rtnl

_KIND, _OPTIONS = 1, 2
_QOPT = struct.Struct("=IIIIII")  # latency, limit, loss, gap, duplicate, jitter
_REORDER, _CORRUPT, _LOSS_MODEL, _RATE, _RATE64, _LATENCY64, _JITTER64 = 3, 4, 5, 6, 8, 10, 11
#: A tick of the scheduler in nanoseconds, of kernels before 4.15, which tell no 64-bit delay.
_TICK_NS = 64


def read(sock: netlink.Socket) -> dict[int, list[dict[str, Any]]]:
    """Index of the interface -> what its netem disciplines do, as ``parse``; raises OSError. A dump loads no module."""
    found: dict[int, list[dict[str, Any]]] = {}
    for _kind, body in sock.dump(rtnl.GETQDISC, rtnl.qdisc_request()):
        if len(body) < rtnl.TC.size:
            continue
        _family, index, handle, parent, _info = rtnl.TC.unpack_from(body)
        listed = netlink.attributes(body, rtnl.TC.size)
        if netlink.text_of(listed.get(_KIND, b"")) != "netem":
            continue
        place = "root" if parent == 0xFFFFFFFF else f"parent {parent >> 16:x}:{parent & 0xFFFF:x}"
        found.setdefault(index, []).append({"handle": f"{handle >> 16:x}:", "place": place, **parse(listed.get(_OPTIONS, b""))})
    return found


def parse(options: bytes) -> dict[str, Any]:
    """``{delay_ms, jitter_ms, loss_percent, loss_model, duplicate_percent, reorder_percent, corrupt_percent, rate_bytes}``.

    loss_model: packets are lost in bursts, by a model of states. rate_bytes: bytes per second, 0 for no limit.
    """
    if len(options) < _QOPT.size:
        options = options.ljust(_QOPT.size, b"\0")
    latency, _limit, loss, _gap, duplicate, jitter = _QOPT.unpack_from(options)
    more = netlink.attributes(options, _QOPT.size)
    rate = netlink.number(more.get(_RATE64)) if _RATE64 in more else netlink.number(more.get(_RATE, b"")[:4])
    return {
        "delay_ms": round(_nanoseconds(more.get(_LATENCY64), latency) / 1e6, 3),
        "jitter_ms": round(_nanoseconds(more.get(_JITTER64), jitter) / 1e6, 3),
        "loss_percent": _percent(loss),
        "loss_model": _LOSS_MODEL in more,
        "duplicate_percent": _percent(duplicate),
        "reorder_percent": _percent(netlink.number(more.get(_REORDER, b"")[:4])),
        "corrupt_percent": _percent(netlink.number(more.get(_CORRUPT, b"")[:4])),
        "rate_bytes": rate,
    }


def _nanoseconds(data: bytes | None, ticks: int) -> int:
    if data is not None and len(data) >= 8:
        value: int = struct.unpack_from("=q", data)[0]
        return value
    return ticks * _TICK_NS


def _percent(probability: int) -> float:
    return round(probability / 0xFFFFFFFF * 100, 3)
