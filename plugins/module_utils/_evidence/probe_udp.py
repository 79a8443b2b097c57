# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""Request and response over UDP: names, time, QUIC, and any payload of the caller.

Sources: RFC 1035, RFC 5905, RFC 9000 section 17.2.1 and RFC 8999 (version negotiation)
"""

from __future__ import annotations

import os
import socket
import struct
import time
from typing import Any

from ansible_collections.netops.fleet.plugins.module_utils._evidence import clock, names
from ansible_collections.netops.fleet.plugins.module_utils._evidence.probing import Failed, left, ms, port_of, resolve, source_of
from ansible_collections.netops.fleet.plugins.module_utils._kernel import dns, procfs

#: A version that no server speaks (RFC 9000, section 15): each that speaks QUIC answers with those it does.
_NO_VERSION = 0x1A2A3A4A
#: The least size of a first datagram; servers drop smaller ones.
_QUIC_LEAST = 1200
_QUIC_VERSIONS = {0x00000001: "1", 0x6B3343CF: "2"}
#: Seconds a clock may be off (row D22).
MAX_OFFSET_S = 5.0


def udp(probe: dict[str, Any], result: dict[str, Any], deadline: float) -> None:
    """Send ``payload`` (text; default one zero byte) or ``payload_hex`` and wait for any answer; silence proves
    nothing about UDP.

    expect_body: text, or expect_hex: bytes that the answer must hold.
    """
    if probe.get("payload_hex"):
        payload = bytes.fromhex(str(probe["payload_hex"]))
    else:
        payload = str(probe.get("payload") or "\0").encode("utf-8")
    data = exchange(probe, result, port_of(probe), payload, deadline)
    result["bytes"] = len(data)
    wanted = bytes.fromhex(str(probe["expect_hex"])) if probe.get("expect_hex") else str(probe.get("expect_body") or "").encode()
    if wanted and wanted not in data:
        raise Failed("wrong_body", f"an answer of {len(data)} bytes, but what is expected is not within it")


def exchange(probe: dict[str, Any], result: dict[str, Any], port: int, payload: bytes, deadline: float) -> bytes:
    """One datagram there, one back. Raises Failed(no_answer) for silence, OSError for a refusal."""
    source = source_of(probe)
    family, where = resolve(str(probe["target"]), port, socket.SOCK_DGRAM, source)[0]
    with socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
        if source:
            sock.bind((source, 0))
        result["address"] = str(where[0])
        sock.connect(where)
        result["from"] = str(sock.getsockname()[0])
        started = time.monotonic()
        sock.send(payload)
        sock.settimeout(left(deadline))
        try:
            data = sock.recv(65535)
        except (TimeoutError, socket.timeout):
            raise Failed("no_answer", "no answer, and no refusal: open, filtered, or not for this payload") from None
        result["ms"] = ms(started)
        return data


def quic(probe: dict[str, Any], result: dict[str, Any], deadline: float) -> None:
    """Is there a QUIC server (HTTP/3) behind this UDP port (443)? It is asked for a version that does not exist.

    Adds ``versions``: those the server offers.
    """
    ours, theirs = os.urandom(8), os.urandom(8)
    packet = struct.pack("!BIB8sB8s", 0xC0, _NO_VERSION, 8, theirs, 8, ours)
    answer = exchange(probe, result, port_of(probe, 443), packet.ljust(_QUIC_LEAST, b"\0"), deadline)
    versions = offered(answer, ours, theirs)
    if versions is None:
        raise Failed("bad_answer", f"an answer of {len(answer)} bytes that is no version negotiation of QUIC")
    result["versions"] = versions


def offered(data: bytes, ours: bytes, theirs: bytes) -> list[str] | None:
    """The versions of a Version Negotiation packet that answers ours; None when it is none."""
    if len(data) < 7 or not data[0] & 0x80 or data[1:5] != b"\0\0\0\0":
        return None
    size = data[5]
    destination = data[6 : 6 + size]
    offset = 6 + size
    if offset >= len(data):
        return None
    source = data[offset + 1 : offset + 1 + data[offset]]
    offset += 1 + data[offset]
    if destination != ours or source != theirs:
        return None
    numbers = [struct.unpack_from("!I", data, at)[0] for at in range(offset, len(data) - 3, 4)]
    # Servers mix in versions of the form 0x?a?a?a?a that mean nothing.
    return [_QUIC_VERSIONS.get(one, f"0x{one:08x}") for one in numbers if one & 0x0F0F0F0F != 0x0A0A0A0A]


def ntp(probe: dict[str, Any], result: dict[str, Any], deadline: float) -> None:
    """Ask a time server. max_offset_s (5): more is a failure.

    Adds ``offset_s`` (server minus this host), ``delay_s``, ``stratum``.
    """
    target, port = str(probe["target"]), port_of(probe, 123)
    server = f"[{target}]:{port}" if ":" in target else f"{target}:{port}"
    answer = clock.ask([server], left(deadline))[0]
    result.update(offset_s=answer["offset_s"], delay_s=answer["delay_s"], stratum=answer["stratum"])
    if answer["status"] != "ok":
        status = {"wrong": "bad_answer", "error": "no_name", "unsynchronised": "bad_answer"}.get(
            answer["status"], answer["status"]
        )
        raise Failed(status, f"the time server: {answer['status']}")
    result["ms"] = round(1000 * float(answer["delay_s"]), 2)
    most = float(probe.get("max_offset_s") or MAX_OFFSET_S)
    if abs(answer["offset_s"]) > most:
        raise Failed("clock_offset", f"this clock is {-answer['offset_s']:+.3f} s from the server's; allowed are {most:g} s")


def names_of(probe: dict[str, Any], result: dict[str, Any], deadline: float) -> None:
    """Ask each server for a name. target: the name. servers (those of this host), port (53), types (A), search (false: the name
    as it is; true: below this host's search domains too, as libc does), expect (addresses or names that must be among the
    answers).

    Adds ``lookups: [{server, name, type, status, answers, aliases, ms, detail}]``. status: that of the best answer; ``differ``
    when servers do not agree, ``wrong_answer`` when none holds what is expected.
    """
    target, port = str(probe["target"]), port_of(probe, 53)
    servers = [str(one) for one in probe.get("servers") or ()]
    search: list[str] = []
    if not servers or probe.get("search"):
        try:
            configured = names.resolv_conf(procfs.text(names.RESOLV_CONF, 1 << 16))
        except OSError as error:
            configured = {"servers": ["127.0.0.1"], "search": [], "options": {}}
            result.setdefault("gaps", []).append(procfs.reason(error, names.RESOLV_CONF))
        servers = servers or configured["servers"] or ["127.0.0.1"]
        search = configured["search"][:6] if probe.get("search") else []
    types = [str(one).upper() for one in probe.get("types") or ("A",)]
    unknown = [one for one in types if one not in dns.TYPES]
    if unknown:
        raise Failed("error", f"record type {unknown[0][:20]!r} is none of {', '.join(dns.TYPES)}")
    wanted = (
        [target] if not search or target.endswith(".") else [*(f"{target.rstrip('.')}.{domain}" for domain in search), target]
    )
    asked = [(server, name, kind) for server in servers[:8] for kind in types for name in wanted]
    lookups = []
    for number, (server, name, kind) in enumerate(asked):
        answer = dns.ask(server, name, kind, left(deadline) / (len(asked) - number), port)
        lookups.append(
            {
                "server": server, "name": name, "type": kind, "status": answer.status, "answers": answer.answers,
                "aliases": answer.aliases, "ms": answer.ms, "detail": answer.detail,
            }
        )  # fmt: skip
    result["lookups"] = lookups
    _judge_names(result, lookups, [str(one) for one in probe.get("expect") or ()])


def _judge_names(result: dict[str, Any], lookups: list[dict[str, Any]], expect: list[str]) -> None:
    good = [one for one in lookups if one["status"] == "ok" and one["answers"]]
    if not good:
        worst = lookups[-1]
        status = worst["status"] if worst["status"] != "ok" else "no_records"
        raise Failed(
            {"wrong": "bad_answer"}.get(status, status),
            f"{worst['server']}: {status} for {worst['name']} {worst['type']}"
            + (f" ({worst['detail']})" if worst["detail"] else ""),
        )
    result["ms"] = min(one["ms"] for one in good if one["ms"] is not None)
    missing = [one for one in expect if not any(one in lookup["answers"] for lookup in good)]
    if missing:
        raise Failed("wrong_answer", f"{', '.join(missing)} is not among the answers {', '.join(good[0]['answers'])}")
    answers: dict[tuple[str, str], dict[str, set[str]]] = {}
    for one in lookups:
        said = set(one["answers"]) if one["status"] == "ok" else {one["status"]}
        answers.setdefault((one["name"], one["type"]), {})[one["server"]] = said
    for (name, kind), by_server in answers.items():
        if len({frozenset(said) for said in by_server.values()}) > 1:
            told = "; ".join(f"{server}: {', '.join(sorted(said))}" for server, said in by_server.items())
            raise Failed("differ", f"servers do not agree on {name} {kind}: {told}")
