# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""Interrupts by device and name: numbers change at every boot and driver reload, names do not. Reading, and moving them.

Sources: Documentation/core-api/irq/irq-affinity.rst, Documentation/ABI/testing/sysfs-kernel-irq, kernel/irq/proc.c.
"""

from __future__ import annotations

import errno
import os
import re
import stat

from ansible_collections.netops.fleet.plugins.module_utils._kernel import cpulist, procfs

#: /proc/interrupts of 512 processors and 4,096 interrupts has 24 MB.
_MAX_TABLE = 256 << 20
_TRIGGER = re.compile(r"\A(?:\d+\s*-?)?\s*(?:edge|level|fasteoi|simple|percpu)\Z", re.IGNORECASE)
#: What refusals mean. (kernel/irq/manage.c, activate.c of irqbalance)
_REFUSALS = {
    errno.EIO: "the kernel manages it: the driver spread its queues itself, and nobody can move them",
    errno.EPERM: "the kernel manages it (or root is not root here): nobody can move it",
    errno.EACCES: "not permitted: this needs root of the machine",
    errno.EROFS: "/proc is read-only here: run it on the host, not in a container or a unit with ProtectKernelTunables",
    errno.ENOSPC: "that processor has no interrupt vector left: use fewer queues, or more processors",
    errno.EINVAL: "none of these processors is online",
    errno.EOVERFLOW: "a number beyond the last processor",
    errno.ERANGE: "a number beyond the last processor",
    errno.EBUSY: "it is on its way to another processor; try again",
    errno.EAGAIN: "it is on its way to another processor; try again",
    errno.ENOENT: "it is gone: the driver gave its interrupts back; run it again",
}
#: Errors that no second attempt mends.
FOREVER = frozenset((errno.EIO, errno.EPERM))


def explain(error: OSError) -> str:
    """What a refused write to smp_affinity_list means, and what to do."""
    known = _REFUSALS.get(error.errno or 0)
    said = error.strerror or str(error)
    return f"{known} ({errno.errorcode.get(error.errno or 0, said)})" if known else said


def table(content: str) -> dict[int, str]:
    """/proc/interrupts → {number: name of its handler}; those without a handler are left out."""
    lines = content.split("\n")
    columns = len(lines[0].split())
    found = {}
    for line in lines[1:]:
        number, colon, rest = line.partition(":")
        if not colon or not number.strip().isdigit():
            continue
        words = rest.split(None, columns)
        if len(words) <= columns:
            continue
        # Chip, number on the chip and trigger; the handlers' names follow after two blanks and may hold single ones.
        parts = [part for part in re.split(r"\s{2,}|(?<=edge)\s|(?<=level)\s", words[columns].strip(), flags=re.I) if part]
        if len(parts) > 1 and not _TRIGGER.match(parts[-1]) and not parts[-1].isdigit():
            found[int(number)] = parts[-1]
    return found


def actions(sys: str = "/sys", proc: str = "/proc") -> dict[int, str]:
    """{number: name of its handler} of every interrupt that has one. Raises OSError when neither place can be read."""
    folder = f"{sys}/kernel/irq"
    if os.path.isdir(folder):
        found = {}
        for name in os.listdir(folder):
            text = (procfs.text_or_none(f"{folder}/{name}/actions", 4096) or "").strip()
            if text and name.isdigit():
                found[int(name)] = text
        if found:
            return found
    return table(procfs.text(f"{proc}/interrupts", _MAX_TABLE))


def of_device(folder: str) -> tuple[int, ...]:
    """Numbers of a device's message-signalled interrupts, else its one line; none when it has neither."""
    try:
        found = sorted(int(name) for name in os.listdir(f"{folder}/msi_irqs") if name.isdigit())
    except OSError:
        found = []
    if found:
        return tuple(found)
    line = procfs.integer(f"{folder}/irq")
    return (line,) if line else ()


def affinity(number: int, proc: str = "/proc") -> tuple[int, ...] | None:
    """Processors it may go to; None when it is gone."""
    return cpulist.parse_or_none(procfs.text_or_none(f"{proc}/irq/{number}/smp_affinity_list", 65536))


def effective(number: int, proc: str = "/proc") -> tuple[int, ...] | None:
    """Processors it does go to; None on kernels that do not say (before 4.15)."""
    return cpulist.parse_or_none(procfs.text_or_none(f"{proc}/irq/{number}/effective_affinity_list", 65536))


def count(number: int) -> int | None:
    """How often it came since boot, on all processors; None where the kernel does not say."""
    words = (procfs.text_or_none(f"/sys/kernel/irq/{number}/per_cpu_count", 65536) or "").strip().split(",")
    numbers = [procfs.decimal(word) for word in words]
    return None if None in numbers else sum(one for one in numbers if one is not None)


def unmovable(number: int, proc: str = "/proc") -> bool:
    """Does its file say that nobody can write it? Managed interrupts show so since Linux 6.18; older kernels refuse the write."""
    try:
        return not os.stat(f"{proc}/irq/{number}/smp_affinity_list").st_mode & stat.S_IWUSR
    except OSError:
        return False


def move(number: int, cpus: tuple[int, ...], proc: str = "/proc") -> None:
    """Raises OSError; see explain."""
    with open(f"{proc}/irq/{number}/smp_affinity_list", "w", encoding="ascii") as file:
        file.write(cpulist.show(cpus))


# --- by name, for the journal: ``0000:18:00.0 mlx5_comp0@pci:0000:18:00.0``

_NUMBERS: dict[str, int] = {}


def number_of(name: str) -> int | None:
    """The present number of ``DEVICE HANDLER``; None when there is none now. A number remembered is checked before it is used."""
    device, _blank, handler = name.partition(" ")
    known = _NUMBERS.get(name)
    if known is not None and _handler(known) == handler:
        return known
    folder = device_folder(device)
    mine = set(of_device(folder)) if folder else set()
    try:
        there = actions()
    except OSError:
        return None
    for number, found in there.items():
        if number in mine or not mine:
            _NUMBERS[f"{device} {found}"] = number
    found_now = _NUMBERS.get(name)
    return found_now if found_now is not None and there.get(found_now) == handler else None


def _handler(number: int) -> str | None:
    text = procfs.text_or_none(f"/sys/kernel/irq/{number}/actions", 4096)
    return text.strip() if text is not None else None


def device_folder(device: str) -> str | None:
    """The sysfs folder of a device named by its address."""
    if "/" in device or device in ("", ".", ".."):
        return None
    for bus in ("pci", "vmbus", "virtio", "platform"):
        folder = f"/sys/bus/{bus}/devices/{device}"
        if os.path.isdir(folder):
            return folder
    return None
