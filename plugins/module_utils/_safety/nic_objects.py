# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""Kinds of things that the changers of NICs change (see objects.py):

    irq         {"cpus": "3"}                          named DEVICE HANDLER, such as "0000:18:00.0 mlx5_comp0@pci:0000:18:00.0"
    nic         {"value": "8"}                         named LINK SETTING, such as "eth0 channels.combined", "eth0 rx-0.rps_cpus"
    irqbalance  {"script": "...", "drop_in": "..."}    named "policy"; null when neither is there

None of them is written while the thing is not there: interrupts and queues come and go with their driver.
"""

from __future__ import annotations

import errno
import os
import re
from typing import Any

from ansible_collections.netops.fleet.plugins.module_utils._kernel import command, cpulist, ethtool_netlink, irqs, procfs
from ansible_collections.netops.fleet.plugins.module_utils._safety import files

#: Says which interrupts irqbalance leaves alone.
POLICY_SCRIPT = "/etc/netops-fleet-irqbalance"
POLICY_DROP_IN = "/etc/systemd/system/irqbalance.service.d/netops-fleet.conf"

_QUEUE = re.compile(r"\A(rx|tx)-\d+\.(rps_cpus|rps_flow_cnt|xps_cpus)\Z")
_LINK = re.compile(r"\A[^/\s]{1,15}\Z")


# --- irq


def capture_irq(name: str) -> dict[str, Any] | None:
    number = irqs.number_of(name)
    cpus = None if number is None else irqs.affinity(number)
    return None if cpus is None else {"cpus": cpulist.show(cpus)}


def put_irq(name: str, state: dict[str, Any] | None) -> None:
    if state is None:
        return
    number = irqs.number_of(name)
    if number is None:
        raise OSError(errno.ENOENT, "this interrupt is not there any more")
    try:
        irqs.move(number, cpulist.parse(str(state["cpus"])))
    except OSError as error:
        raise OSError(error.errno or errno.EIO, irqs.explain(error)) from None


# --- nic


def _split(name: str) -> tuple[str, str]:
    link, _blank, setting = name.partition(" ")
    if not _LINK.match(link) or link in (".", "..") or not setting:
        raise ValueError(f"{name!r} is not LINK SETTING")
    return link, setting


def capture_nic(name: str) -> dict[str, Any] | None:
    """Raises OSError when the driver does not answer; None when the link or the queue is not there."""
    link, setting = _split(name)
    folder = f"/sys/class/net/{link}"
    if setting == "txqueuelen":
        length = procfs.integer(f"{folder}/tx_queue_len")
        return None if length is None else {"value": str(length)}
    if _QUEUE.match(setting):
        text = procfs.text_or_none(f"{folder}/queues/{setting.replace('.', '/')}", 65536)
        if text is None:
            return None
        value = cpulist.show(cpulist.parse_mask(text)) if setting.endswith("_cpus") else text.strip()
        return {"value": value}
    group, _dot, key = setting.partition(".")
    try:
        with ethtool_netlink.Link() as tool:
            if group == "features":
                feature = tool.features(link).get(key)
                return None if feature is None else {"value": "on" if feature.on else "off"}
            if group not in ethtool_netlink.GROUPS:
                raise ValueError(f"{name!r}: groups are features, {', '.join(ethtool_netlink.GROUPS)}")
            found = tool.get(link, group).get(key)
            return None if found is None else {"value": str(found)}
    except OSError as error:
        if error.errno in (errno.ENODEV, errno.EOPNOTSUPP):
            return None
        raise


def put_nic(name: str, state: dict[str, Any] | None) -> None:
    if state is None:
        return
    link, setting = _split(name)
    value = str(state["value"])
    if setting == "txqueuelen":
        _write(f"/sys/class/net/{link}/tx_queue_len", value)
    elif _QUEUE.match(setting):
        path = f"/sys/class/net/{link}/queues/{setting.replace('.', '/')}"
        if setting.endswith("_cpus"):
            value = cpulist.show_mask(cpulist.parse(value), like=procfs.text(path, 65536))
        _write(path, value)
    else:
        group, _dot, key = setting.partition(".")
        with ethtool_netlink.Link() as tool:
            if group == "features":
                tool.set_feature(link, key, value == "on")
            else:
                tool.set(link, group, {key: int(value)})


def _write(path: str, value: str) -> None:
    with open(path, "w", encoding="ascii") as file:
        file.write(value)


# --- irqbalance


def capture_policy(_name: str) -> dict[str, Any] | None:
    script, drop_in = (procfs.text_or_none(path) for path in (POLICY_SCRIPT, POLICY_DROP_IN))
    return None if script is None and drop_in is None else {"script": script, "drop_in": drop_in}


def put_policy(_name: str, state: dict[str, Any] | None) -> None:
    """The policy's files, and an irqbalance that knows of them: it asks the script when it starts, and never again."""
    found = state or {"script": None, "drop_in": None}
    for path, text, mode in ((POLICY_SCRIPT, found["script"], 0o755), (POLICY_DROP_IN, found["drop_in"], 0o644)):
        folder = os.path.dirname(path)
        if text is not None:
            os.makedirs(folder, mode=0o755, exist_ok=True)
            files.write(path, text.encode("utf-8"), mode)
        elif os.path.isdir(folder):
            files.remove(path)
    folder = os.path.dirname(POLICY_DROP_IN)
    if found["drop_in"] is None and os.path.isdir(folder) and not os.listdir(folder):
        os.rmdir(folder)
    if not os.path.isdir("/run/systemd/system"):
        return
    for step in (["daemon-reload"], ["try-restart", "irqbalance.service"]):
        done = command.run(["systemctl", *step], timeout=60)
        if not done.ok:
            raise OSError(errno.EIO, done.why())
