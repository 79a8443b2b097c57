# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""The clock: what time this host believes it is, whether something disciplines it, and what time servers say."""

from __future__ import annotations

import ctypes
import os
import socket
import struct
import threading
import time
from typing import Any

from ansible_collections.netops.fleet.plugins.module_utils._evidence.section import Section
from ansible_collections.netops.fleet.plugins.module_utils._kernel import procfs

#: Names, as the kernel keeps them (15 characters), of programs that set the clock.
DISCIPLINES = ("chronyd", "ntpd", "ntpsec", "systemd-timesyn", "openntpd", "ptp4l", "phc2sys", "ts2phc", "timemaster")

_STA_UNSYNC, _STA_NANO, _TIME_ERROR = 0x0040, 0x2000, 5
_NTP_EPOCH = 2208988800


class _Timex(ctypes.Structure):
    """struct timex, include/uapi/linux/timex.h; long is the machine's word on both 32 and 64 bits."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("constant", ctypes.c_long),
        ("precision", ctypes.c_long),
        ("tolerance", ctypes.c_long),
        ("time_sec", ctypes.c_long),
        ("time_usec", ctypes.c_long),
        ("tick", ctypes.c_long),
        ("ppsfreq", ctypes.c_long),
        ("jitter", ctypes.c_long),
        ("shift", ctypes.c_int),
        ("stabil", ctypes.c_long),
        ("jitcnt", ctypes.c_long),
        ("calcnt", ctypes.c_long),
        ("errcnt", ctypes.c_long),
        ("stbcnt", ctypes.c_long),
        ("tai", ctypes.c_int),
        ("room", ctypes.c_int * 11),
    )


def read(servers: list[str] | None = None, seconds: float = 2.0) -> Section:
    """The clock, and its offset against time servers when some are named.

    Data: ``{time, monotonic, synchronised, estimated_error_s, max_error_s, offset_s, frequency_ppm, discipline, servers}``.
    time: unix seconds; monotonic: seconds since boot. synchronised: what the kernel was told by the program that disciplines
    it; null: could not tell. Without such a program the kernel's errors are its own guess, growing without bound up to 16 s.
    offset_s: what is still being corrected. discipline: ``[{process, pid}]``. servers: ``[{server, offset_s, delay_s, stratum,
    status}]``; offset_s is server minus host; status: ok, timeout, unreachable, unsynchronised, wrong, error.
    """
    section = Section(
        {
            "time": time.time(),
            "monotonic": time.monotonic(),
            "synchronised": None,
            "estimated_error_s": None,
            "max_error_s": None,
            "offset_s": None,
            "frequency_ppm": None,
            "discipline": _disciplines(),
            "servers": [],
        }
    )
    _adjtimex(section)
    if servers:
        section.data["servers"] = ask(servers, seconds)
    return section


def _adjtimex(section: Section) -> None:
    buffer = _Timex()  # modes 0: read only
    try:
        state = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.byref(buffer))
    except (OSError, AttributeError) as error:
        section.gap("clock.synchronised", f"adjtimex: {error}")
        return
    if state < 0:
        section.gap("clock.synchronised", f"adjtimex: {os.strerror(ctypes.get_errno()).lower()}")
        return
    unit = 1e9 if buffer.status & _STA_NANO else 1e6
    section.data.update(
        synchronised=state != _TIME_ERROR and not buffer.status & _STA_UNSYNC,
        estimated_error_s=buffer.esterror / 1e6,
        max_error_s=buffer.maxerror / 1e6,
        offset_s=buffer.offset / unit,
        frequency_ppm=round(buffer.freq / 65536, 3),
    )


def _disciplines() -> list[dict[str, Any]]:
    found = []
    try:
        pids = [entry for entry in os.listdir("/proc") if entry.isdigit()]
    except OSError:
        return []
    for pid in pids:
        name = (procfs.text_or_none(f"/proc/{pid}/comm", 64) or "").strip()
        if name in DISCIPLINES:
            found.append({"process": name, "pid": int(pid)})
    return found


def ask(servers: list[str], seconds: float) -> list[dict[str, Any]]:
    """Ask each server (``address`` or ``address:port``, ``[v6]:port``; names are resolved) once, all at the same time."""
    answers = [
        {"server": server, "offset_s": None, "delay_s": None, "stratum": None, "status": "timeout"} for server in servers[:16]
    ]
    threads = [threading.Thread(target=_ask_one, args=(answer, seconds), daemon=True) for answer in answers]
    deadline = time.monotonic() + seconds + 0.5
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    return [dict(answer) for answer in answers]


def _ask_one(answer: dict[str, Any], seconds: float) -> None:
    host, port = split_server(str(answer["server"]))
    try:
        family, kind, number, _name, where = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, kind, number) as sock:
            sock.settimeout(seconds)
            sock.connect(where)
            # The transmit time is a random cookie as well: an answer must repeat it. The real time stays here.
            cookie = os.urandom(8)
            started, started_mono = time.time(), time.monotonic()
            sock.send(struct.pack("!B39x8s", 0b00_100_011, cookie))
            data = sock.recv(512)
            elapsed = time.monotonic() - started_mono
    except socket.gaierror:
        answer["status"] = "error"
    except (TimeoutError, socket.timeout):
        answer["status"] = "timeout"
    except OSError:
        answer["status"] = "unreachable"
    else:
        answer.update(judge(data, cookie, started, elapsed))


def split_server(text: str) -> tuple[str, int]:
    """``192.0.2.1``, ``192.0.2.1:1123``, ``[2001:db8::1]:123``, ``2001:db8::1`` → (host, port)."""
    if text.startswith("["):
        host, _bracket, rest = text[1:].partition("]")
        return host, procfs.decimal(rest.lstrip(":")) or 123
    if text.count(":") == 1:
        host, _colon, port = text.partition(":")
        return host, procfs.decimal(port) or 123
    return text, 123


def judge(data: bytes, cookie: bytes, started: float, elapsed: float) -> dict[str, Any]:
    """Offset from one answer (RFC 5905, section 8); started: unix seconds when asked; elapsed: seconds until the answer."""
    if len(data) < 48 or data[24:32] != cookie or data[0] & 7 != 4:
        return {"status": "wrong"}
    stratum = data[1]
    if data[0] >> 6 == 3 or stratum == 0 or stratum > 15:
        return {"status": "unsynchronised", "stratum": stratum}
    received, sent = (_unix(data[offset : offset + 8], started) for offset in (32, 40))
    offset = ((received - started) + (sent - (started + elapsed))) / 2
    delay = max(0.0, elapsed - (sent - received))
    return {"status": "ok", "stratum": stratum, "offset_s": round(offset, 6), "delay_s": round(delay, 6)}


def _unix(stamp: bytes, near: float) -> float:
    """An NTP time stamp as unix seconds, in the era nearest to the host's own time."""
    seconds, fraction = struct.unpack("!II", stamp)
    value: float = seconds - _NTP_EPOCH + fraction / 2**32
    era = float(1 << 32)
    return value + era * round((near - value) / era)
