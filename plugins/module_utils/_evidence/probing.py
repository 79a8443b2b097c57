# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""What every kind of active probe needs: names to addresses, a connection within a time, what an error means.

A probe function takes (probe, result, deadline): it fills ``result`` and returns, or raises Failed or OSError.
"""

from __future__ import annotations

import errno
import socket
import time
from typing import Any

from ansible_collections.netops.fleet.plugins.module_utils._kernel import procfs

BY_ERRNO = {
    errno.ECONNREFUSED: "refused",
    errno.ETIMEDOUT: "timeout",
    errno.EHOSTUNREACH: "unreachable",
    errno.ENETUNREACH: "unreachable",
    errno.ENETDOWN: "unreachable",
    errno.EHOSTDOWN: "unreachable",
    errno.ECONNRESET: "reset",
    errno.EPIPE: "reset",
    errno.EPERM: "prohibited",
    errno.EACCES: "prohibited",
}
MAX_PORT = 65535


class Failed(Exception):
    """The probe's answer is no: status and one line of detail."""

    def __init__(self, status: str, detail: str) -> None:
        super().__init__(detail)
        self.status, self.detail = status, detail


def shown(probe: dict[str, Any]) -> str:
    """Where a probe goes to, without what may be secret."""
    if probe.get("url"):
        return redacted(str(probe["url"]))
    target = str(probe.get("target", ""))
    if probe.get("kind") in ("ping", "mtu") or probe.get("port") is None:
        return target
    return f"[{target}]:{probe['port']}" if ":" in target else f"{target}:{probe['port']}"


def redacted(url: str) -> str:
    """A URL without user, password, values of its query and fragment."""
    from urllib.parse import urlsplit, urlunsplit

    try:
        parts = urlsplit(url)
    except ValueError:
        return "(not a URL)"
    query = (
        "&".join(part.split("=", 1)[0] + ("=***" if "=" in part else "") for part in parts.query.split("&"))
        if parts.query
        else ""
    )
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, query, ""))


def status_of(error: OSError) -> str:
    if isinstance(error, (TimeoutError, socket.timeout)):
        return "timeout"
    return BY_ERRNO.get(error.errno or 0, "error")


def said(error: OSError) -> str:
    if isinstance(error, (TimeoutError, socket.timeout)) and not error.errno:
        return "no answer in time"
    return (error.strerror or str(error)).lower()


def ms(since: float) -> float:
    return round((time.monotonic() - since) * 1000, 2)


def left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise Failed("timeout", "no answer in time")
    return left


def port_of(probe: dict[str, Any], default: int | None = None) -> int:
    """The probe's port. Raises Failed for one that no packet can carry, KeyError where there is neither port nor default."""
    port = int(probe["port"] if default is None else probe.get("port", default))
    if not 1 <= port <= MAX_PORT:
        raise Failed("error", f"port {port} is not within 1 to {MAX_PORT}")
    return port


def source_of(probe: dict[str, Any]) -> str | None:
    """The address to come from. Raises Failed for what is no IP address (a ``%link`` is none: sockets are bound without)."""
    source = str(probe.get("source") or "")
    if source and ("%" in source or family_of(source) is None):
        raise Failed("error", f"source {source[:100]} is no IP address")
    return source or None


def family_of(text: str) -> int | None:
    """AF_INET or AF_INET6 of an address, of a link-local one also with ``%link``; None for what is no IP address."""
    family = socket.AF_INET6 if ":" in text else socket.AF_INET
    try:
        socket.inet_pton(family, text.partition("%")[0] if family == socket.AF_INET6 else text)
    except (OSError, ValueError):
        return None
    return int(family)


def resolve(host: str, port: int, kind: int, source: str | None = None) -> list[tuple[int, tuple[Any, ...]]]:
    """(family, address) pairs in the order libc gives them, those of a family that this host or ``source`` lacks left out.

    Raises Failed when none is left.
    """
    try:
        found = socket.getaddrinfo(host, port, type=kind)
    except (socket.gaierror, UnicodeError) as error:
        raise Failed("no_name", f"{host[:100]}: {getattr(error, 'strerror', None) or error}") from None
    pairs = [(int(item[0]), tuple(item[4])) for item in found if item[0] != socket.AF_INET6 or procfs.has_ipv6()]
    if not pairs:
        raise Failed("unreachable", "the target has only IPv6 addresses, and this host has no IPv6")
    if source:
        pairs = [pair for pair in pairs if pair[0] == family_of(source)]
        if not pairs:
            raise Failed("error", f"{host[:100]} has no address of the family of source {source}")
    return pairs


def connect(
    probe: dict[str, Any], result: dict[str, Any], host: str, port: int, deadline: float, phases: dict[str, float]
) -> socket.socket:
    """A connected socket to the first address that answers; the last failure is raised when none does."""
    started = time.monotonic()
    source = source_of(probe)
    pairs = resolve(host, port, socket.SOCK_STREAM, source)
    phases["dns"] = ms(started)
    failure: OSError | None = None
    for number, (family, where) in enumerate(pairs[:4]):
        sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        started = time.monotonic()
        try:
            # Time is left for the other addresses, should this one be silent.
            sock.settimeout(left(deadline) / (min(4, len(pairs)) - number))
            if source:
                sock.bind((source, 0))
            sock.connect(where)
        except OSError as error:
            sock.close()
            failure = error
            result["address"] = str(where[0])
            continue
        except Failed:
            sock.close()
            raise
        phases["connect"] = ms(started)
        result["address"], result["from"] = str(where[0]), str(sock.getsockname()[0])
        return sock
    raise failure or Failed("no_name", "the name has no address")
