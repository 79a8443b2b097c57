# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""Packets of this host for a bounded time, through tcpdump and a pipe: no file is ever made, so none can be left.

tcpdump runs under timeout(1), which ends it when the time is over, and when this process ends, whatever ends that. This process
ends when nobody waits for its answer any more.
Sources: tcpdump(8), timeout(1), pcap-filter(7), pcap-savefile(5), prctl(2) PR_SET_PDEATHSIG
"""

from __future__ import annotations

import base64
import ctypes
import os
import re
import select
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass
from typing import Any

from ansible_collections.netops.fleet.plugins.module_utils._evidence.section import Section
from ansible_collections.netops.fleet.plugins.module_utils._kernel import command

MAX_SECONDS, MAX_PACKETS, MAX_BYTES = 300.0, 200_000, 16 << 20
#: Seconds until the start that may be waited for, and that tcpdump has to begin and to end.
MAX_WAIT, _STARTS, _ENDS = 120.0, 10.0, 5.0
_MAX_FILTER = 1000
_PR_SET_PDEATHSIG = 1
_INTERFACE = re.compile(r"\A[^\s/-][^\s/]{0,14}\Z")
_STATISTICS = re.compile(r"^(\d+) packets? (captured|received by filter|dropped by kernel|dropped by interface)", re.MULTILINE)

#: The argument spec of the module, but for what the controller does with the answer.
ARGUMENTS: dict[str, Any] = {
    "interface": {"type": "str", "default": "any"},
    "filter": {"type": "str", "default": ""},
    "seconds": {"type": "float", "default": 10.0},
    "packets": {"type": "int", "default": 10_000},
    "snaplen": {"type": "int", "default": 128},
    "max_bytes": {"type": "int", "default": 4 << 20},
    "start_at": {"type": "float"},
}


class Wrong(ValueError):
    """An option is not allowed; the message says what was found and what is."""


@dataclass(frozen=True)
class Options:
    """Units as in the module's documentation. start_at: seconds since the epoch, by this host's clock; None is now."""

    interface: str = "any"
    filter: str = ""
    seconds: float = 10.0
    packets: int = 10_000
    snaplen: int = 128
    max_bytes: int = 4 << 20
    start_at: float | None = None

    @classmethod
    def from_params(cls, params: dict[str, Any]) -> Options:
        """Raises Wrong naming the first option that is not allowed."""
        given = {name: params[name] for name in ARGUMENTS if params.get(name) is not None}
        options = cls(**given)
        for name, value, low, high in (
            ("seconds", options.seconds, 0.1, MAX_SECONDS),
            ("packets", options.packets, 1, MAX_PACKETS),
            ("snaplen", options.snaplen, 64, 65535),
            ("max_bytes", options.max_bytes, 4096, MAX_BYTES),
        ):
            if not low <= value <= high:
                raise Wrong(f"{name} is {value:g}; allowed are {low:g} to {high:g}.")
        if not _INTERFACE.match(options.interface) or options.interface in (".", ".."):
            raise Wrong(f"interface is {options.interface[:40]!r}; allowed is the name of one, or any.")
        if len(options.filter) > _MAX_FILTER or not options.filter.isprintable():
            raise Wrong(
                f"filter is {options.filter[:60]!r}; allowed is one line of pcap-filter(7), at most {_MAX_FILTER} characters."
            )
        return options


def capture(options: Options) -> Section:
    """``{pcap, started, seconds, packets, received, dropped, ended}``; None, with a gap that says why, when it could not be.

    pcap: the bytes of a capture file, whole records only. started: seconds since the epoch. received, dropped: as tcpdump
    counted, null when it did not say. ended: time, packets, bytes (a bound was met), or gone (nobody waits for the answer).
    """
    section = Section(None)
    if options.interface != "any" and not os.path.isdir(f"/sys/class/net/{options.interface}"):
        section.gap(
            "capture",
            f"there is no interface {options.interface} here; there are {', '.join(sorted(os.listdir('/sys/class/net')))}",
        )
        return section
    late = _wait_for(options.start_at)
    if late is not None:
        section.gap("capture", late)
        return section
    tools = [command.find(name) for name in ("timeout", "tcpdump")]
    if None in tools:
        section.gap("capture", f"{'tcpdump' if tools[1] is None else 'timeout (coreutils)'} is not installed")
        return section
    try:
        section.data = _run([str(tool) for tool in tools], options)
    except OSError as error:
        section.gap("capture", error.strerror or str(error))
    return section


def _wait_for(start: float | None) -> str | None:
    """Wait for the moment that is common to all hosts. Why not, when it cannot be kept."""
    if start is None:
        return None
    left = start - time.time()
    if left < 0:
        return f"the common start was {-left:.1f} s ago: more hosts than forks, a slow login, or this host's clock is ahead"
    if left > MAX_WAIT:
        return f"the common start is {left:.0f} s away, allowed are {MAX_WAIT:.0f}: is this host's clock behind?"
    until = time.monotonic() + left
    while (left := until - time.monotonic()) > 0:
        if _nobody_waits():
            return "nobody waits for the answer any more"
        time.sleep(min(left, 0.2))
    return None


def _argv(tools: list[str], options: Options) -> list[str]:
    # -p: the card is not put into promiscuous mode: nothing on the host changes. --immediate-mode: what came just before the end
    # is not left in the kernel's buffer. --: what follows is the filter.
    timeout, tcpdump = tools
    most = ["-s", str(options.snaplen), "-c", str(options.packets)]
    words = [
        tcpdump,
        "-i",
        options.interface,
        "-p",
        "-n",
        "-U",
        "--immediate-mode",
        *most,
        "-w",
        "-",
        "--",
        *([options.filter] if options.filter else []),
    ]
    return [timeout, "-k", "2", f"{options.seconds + _STARTS + _ENDS:.1f}", *words]


def _run(tools: list[str], options: Options) -> dict[str, Any]:
    libc = ctypes.CDLL(None)
    mine = os.getpid()

    def dies_with_us() -> None:
        # To timeout, which hands it on: tcpdump itself gives its privileges up, and this with them.
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != mine:
            os._exit(1)

    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(  # pylint: disable=ansible-bad-function,subprocess-popen-preexec-fn
            _argv(tools, options),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=said,
            env={"PATH": ":".join(command.SEARCH_PATH), "LC_ALL": "C"},
            cwd="/",
            preexec_fn=dies_with_us,
        )
        try:
            started = time.time()
            data, ended, seconds = _take(process, options)
        finally:
            if process.poll() is None:
                process.terminate()
                try:
                    process.wait(_ENDS)
                except subprocess.TimeoutExpired:
                    process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()
        text = os.pread(said.fileno(), 65536, 0).decode("utf-8", "replace")
    if len(data) < 24:
        words = [line for line in text.splitlines() if line.strip() and "listening on" not in line]
        raise OSError(5, f"tcpdump: {words[-1][:300] if words else 'ended without a word'}")
    data, packets, more = whole_records(data, options.max_bytes)
    counted = {name: int(number) for number, name in _STATISTICS.findall(text)}
    return {
        "pcap": data,
        "started": started,
        "seconds": round(seconds, 3),
        "packets": packets,
        "received": counted.get("received by filter"),
        "dropped": counted.get("dropped by kernel"),
        "ended": "bytes" if more else ended,
    }


def _take(process: subprocess.Popen[bytes], options: Options) -> tuple[bytes, str, float]:
    """Read until a bound is met; then ask tcpdump to end, which makes it say what it counted."""
    if process.stdout is None:
        raise ValueError("tcpdump was started without a pipe")
    stream = process.stdout.fileno()
    data = bytearray()
    begun = time.monotonic()
    until = begun + _STARTS  # the head of the file says that it captures: the time is counted from there
    ended, asked = "time", False
    while True:
        left = until - time.monotonic()
        if left <= 0:
            if asked:
                break
            process.send_signal(signal.SIGINT)
            asked, until = True, time.monotonic() + _ENDS
            continue
        if not select.select([stream], [], [], min(left, 0.2))[0]:
            if not asked and _nobody_waits():
                ended, until = "gone", 0.0
            continue
        part = os.read(stream, 1 << 16)
        if not part:
            if not asked:
                ended = "packets"
            break
        if not data:
            begun = time.monotonic()
            until = begun + options.seconds
        data += part
        if len(data) > options.max_bytes and not asked:
            ended, until = "bytes", 0.0
        if len(data) > options.max_bytes + (1 << 20):
            break
    return bytes(data), ended, time.monotonic() - begun


def whole_records(data: bytes, most: int) -> tuple[bytes, int, bool]:
    """(the file up to the last whole record within ``most`` bytes, records, were there more)."""
    order = "little" if data[:4] in (b"\xd4\xc3\xb2\xa1", b"\x4d\x3c\xb2\xa1") else "big"
    place, count = 24, 0
    while place + 16 <= len(data):
        end = place + 16 + int.from_bytes(data[place + 8 : place + 12], order)  # type: ignore[arg-type]
        if end > len(data):
            break
        if end > most:
            return data[:place], count, True
        place, count = end, count + 1
    return data[:place], count, False


def _nobody_waits() -> bool:
    """Whether whoever reads this process's answer is gone: the controller was stopped, or the connection is."""
    poll = select.poll()
    poll.register(1, 0)
    return any(events & (select.POLLERR | select.POLLNVAL) for _fd, events in poll.poll(0))


def result(data: dict[str, Any]) -> dict[str, Any]:
    """The module's answer; ``seconds`` would be taken for the option of that name."""
    packed = base64.b64encode(data["pcap"]).decode("ascii")
    rest = {name: data[name] for name in ("started", "packets", "received", "dropped", "ended")}
    return {**rest, "captured_seconds": data["seconds"], "pcap": packed}
