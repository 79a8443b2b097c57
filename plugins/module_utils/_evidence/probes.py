# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""Active probes from this host, all at the same time, within one bound.

A probe is a dictionary: ``kind`` (one of KINDS), where to (``target`` with ``port``, or ``url``), and optionally ``timeout``
(seconds), ``source`` (address to come from); what else a kind takes stands at its function.
Nothing secret of a probe is repeated in its result: of a URL neither user, password nor values of the query, of a request
neither headers nor body.
"""

from __future__ import annotations

import contextlib
import queue
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

from ansible_collections.netops.fleet.plugins.module_utils._evidence.probing import (
    Failed,
    connect,
    left,
    ms,
    port_of,
    resolve,
    said,
    shown,
    source_of,
    status_of,
)
from ansible_collections.netops.fleet.plugins.module_utils._evidence.section import Section
from ansible_collections.netops.fleet.plugins.module_utils._kernel import icmp, ping

#: Probes of one run, and how many run at the same time.
MAX_PROBES, MAX_WORKERS = 256, 32
#: Bytes of a body that are read.
MAX_BODY = 1 << 20
KINDS = ("ping", "tcp", "udp", "tls", "http", "dns", "ntp", "quic", "path", "mtu")
#: Seconds a probe takes when it does not say.
_TIMEOUTS = {"path": 15.0, "mtu": 10.0}
_Probe = Callable[[dict[str, Any], dict[str, Any], float], None]


def run(probes: list[dict[str, Any]], seconds: float = 10.0, explain: bool = False) -> Section:
    """Run the probes; ``seconds`` bounds all of them together. explain: say of failed ones why (see probe_why).

    Data: list of ``{kind, target, from, status, detail, ms}`` in the order given, and by kind:
    ping ``sent, received, loss_percent, rtt_ms: {min, avg, max}, address, ttl`` (those of the replies);
    tcp, tls, http ``address`` (the one that was reached);
    tls, http ``tls: {version, cipher, alpn, expires}``; http ``code, phases_ms: {dns, connect, tls, first_byte, total}, bytes``;
    the rest at the functions of probe_udp, probe_tls, probe_path and probe_mtu.
    status: ok; refused, timeout, unreachable, reset, prohibited (this host's own firewall); ping also icmp_blocked (no echo, but
    TCP answers), lossy; udp also no_answer; tls_error; http also not_found, server_error, http_error, wrong_body, bad_answer;
    no_name (the name does not resolve); error (the probe itself is not understood, or could not be made here).
    """
    section = Section([])
    if len(probes) > MAX_PROBES:
        section.gap("probes", f"{MAX_PROBES} of {len(probes)} probes run")
        probes = probes[:MAX_PROBES]
    deadline = time.monotonic() + seconds
    results: list[dict[str, Any]] = [
        {
            "kind": str(probe.get("kind")),
            "target": shown(probe),
            "from": None,
            "status": "timeout",
            "detail": f"not finished within the {seconds:g} s for all probes",
            "ms": None,
        }
        for probe in probes
    ]
    work: queue.SimpleQueue[int] = queue.SimpleQueue()
    for number in range(len(probes)):
        work.put(number)

    with icmp.Watch() if explain else contextlib.nullcontext() as watch:

        def worker() -> None:
            while True:
                try:
                    number = work.get_nowait()
                except queue.Empty:
                    return
                # One step, so that a result read meanwhile is whole.
                results[number] = {**results[number], **_one(probes[number], deadline, watch)}

        threads = [threading.Thread(target=worker, daemon=True) for _number in range(min(MAX_WORKERS, len(probes)))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(max(0.0, deadline + 0.2 - time.monotonic()))
        if watch is not None and watch.why:
            section.gap("probes.icmp", watch.why)
    section.data = list(results)
    return section


def _function(kind: str) -> _Probe:
    """What makes a probe of this kind; imported late, because most runs need few kinds. Raises Failed."""
    if kind in ("ping", "tcp", "http"):
        return {"ping": _ping, "tcp": _tcp, "http": _http}[kind]
    if kind == "tls":
        from ansible_collections.netops.fleet.plugins.module_utils._evidence import probe_tls

        return probe_tls.tls
    if kind == "path":
        from ansible_collections.netops.fleet.plugins.module_utils._evidence import probe_path

        return probe_path.path
    if kind == "mtu":
        from ansible_collections.netops.fleet.plugins.module_utils._evidence import probe_mtu

        return probe_mtu.mtu
    if kind in ("udp", "dns", "ntp", "quic"):
        from ansible_collections.netops.fleet.plugins.module_utils._evidence import probe_udp

        return {"udp": probe_udp.udp, "dns": probe_udp.names_of, "ntp": probe_udp.ntp, "quic": probe_udp.quic}[kind]
    raise Failed("error", f"kind {kind[:40]!r} is none of {', '.join(KINDS)}")


def _one(probe: dict[str, Any], deadline: float, watch: icmp.Watch | None) -> dict[str, Any]:
    result: dict[str, Any] = {"status": "ok", "detail": ""}
    kind = str(probe.get("kind"))
    started = time.monotonic()
    try:
        timeout = float(probe.get("timeout") or _TIMEOUTS.get(kind, 3.0))
        _function(kind)(probe, result, min(deadline, started + timeout))
    except Failed as failure:
        result.update(status=failure.status, detail=failure.detail)
    except OSError as error:
        result.update(status=status_of(error), detail=said(error))
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        result.update(status="error", detail=f"the probe is not understood: {_text(error)}")
    except Exception as error:  # whatever it is, the probes behind it are still made
        result.update(status="error", detail=f"the probe broke: {_text(error)}")
    if result.get("ms") is None:
        result["ms"] = ms(started)
    if watch is not None and result["status"] != "ok":
        from ansible_collections.netops.fleet.plugins.module_utils._evidence import probe_why

        try:
            probe_why.explain(probe, result, watch)
        except Exception as error:  # what the probe found stands, also where nobody can say why
            result.setdefault("gaps", []).append(f"why it failed could not be told: {_text(error)}")
    return result


def _text(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error)[:200]}"


def _tcp(probe: dict[str, Any], result: dict[str, Any], deadline: float) -> None:
    phases: dict[str, float] = {}
    with connect(probe, result, str(probe["target"]), port_of(probe), deadline, phases):
        result["ms"] = phases["connect"]


def _ping(probe: dict[str, Any], result: dict[str, Any], deadline: float) -> None:
    """``count`` (3) echo requests, ``interval`` (0.2 s) apart. tcp_port (22): asked when no echo comes back."""
    target = str(probe["target"])
    count = max(1, min(100, int(probe.get("count", 3))))
    interval = max(0.01, float(probe.get("interval", 0.2)))
    source = source_of(probe)
    family, where = resolve(target, 0, socket.SOCK_DGRAM, source)[0]
    result.update(sent=0, received=0, loss_percent=None, rtt_ms=None)
    # A third of the time is kept for TCP, in case nothing comes back.
    wait = max(0.05, min(1.0, (left(deadline) - interval * (count - 1)) * 2 / 3))
    try:
        echoes = ping.echo(family, where, count, interval, wait, source)
    except PermissionError as error:
        raise Failed("prohibited", f"ICMP: {said(error)}") from None
    result["from"] = echoes.source
    lost = echoes.sent - echoes.received
    result.update(sent=echoes.sent, received=echoes.received, loss_percent=round(100 * lost / echoes.sent, 1))
    if echoes.rtt:
        times = [round(rtt * 1000, 3) for rtt in echoes.rtt]
        result["rtt_ms"] = {"min": min(times), "avg": round(sum(times) / len(times), 3), "max": max(times)}
        result["ms"] = result["rtt_ms"]["avg"]
        result["ttl"], result["address"] = echoes.ttl, str(where[0])
        if lost:
            result.update(status="lossy", detail=f"{lost} of {echoes.sent} echo requests without reply")
        return
    _ping_by_tcp(probe, result, target, deadline, echoes.error)


def _ping_by_tcp(probe: dict[str, Any], result: dict[str, Any], target: str, deadline: float, error: OSError | None) -> None:
    why = said(error) if error is not None else "no echo reply"
    status = status_of(error) if error is not None else "timeout"
    port = probe.get("tcp_port", 22)
    if not port or status == "unreachable":
        raise Failed(status, why)
    try:
        connect(probe, {}, target, port_of({"port": port}), deadline, {}).close()
        answer = "accepts"
    except Failed:
        raise Failed(status, f"{why}; TCP port {port} gives no answer either") from None
    except OSError as failure:
        if status_of(failure) not in ("refused", "reset"):
            raise Failed(status, f"{why}; TCP port {port}: {said(failure)}") from None
        answer = "refuses"
    raise Failed("icmp_blocked", f"{why}, but the host is there: TCP port {port} {answer} connections, so ICMP may be blocked")


def _http(probe: dict[str, Any], result: dict[str, Any], deadline: float) -> None:
    """One request, redirects not followed. method, headers, json or body, expect_status (list), expect_body (text within it)."""
    import http.client
    import json
    from urllib.parse import unquote, urlsplit

    parts = urlsplit(str(probe["url"]))
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise Failed("error", "a URL starts with http:// or https:// and names a host")
    headers = {"User-Agent": "netops.fleet", "Accept": "*/*", **{str(k): str(v) for k, v in (probe.get("headers") or {}).items()}}
    if parts.username is not None:
        import base64

        word = f"{unquote(parts.username)}:{unquote(parts.password or '')}".encode()
        headers.setdefault("Authorization", "Basic " + base64.b64encode(word).decode("ascii"))
    body: bytes | None = None
    if probe.get("json") is not None:
        body = json.dumps(probe["json"]).encode("utf-8")
        headers.setdefault("Content-Type", "application/json")
    elif probe.get("body") is not None:
        body = str(probe["body"]).encode("utf-8")
    method = str(probe.get("method") or ("GET" if body is None else "POST"))
    started = time.monotonic()
    phases: dict[str, float] = {}
    result["code"], result["phases_ms"] = None, phases
    sock = connect(probe, result, parts.hostname, parts.port or (443 if parts.scheme == "https" else 80), deadline, phases)
    if parts.scheme == "https":
        from ansible_collections.netops.fleet.plugins.module_utils._evidence import probe_tls

        sock = probe_tls.handshake(probe, result, sock, parts.hostname, deadline, phases)
    connection = http.client.HTTPConnection(parts.hostname, parts.port or (443 if parts.scheme == "https" else 80))
    connection.sock = sock
    try:
        sent = time.monotonic()
        sock.settimeout(left(deadline))
        connection.request(method, (parts.path or "/") + (f"?{parts.query}" if parts.query else ""), body, headers)
        response = connection.getresponse()
        phases["first_byte"] = ms(sent)
        result["code"] = response.status
        data = b""
        # A response that was read to its end has closed the socket already.
        while len(data) < MAX_BODY and not response.isclosed():
            sock.settimeout(left(deadline))
            part = response.read1(65536)
            if not part:
                break
            data += part
        missing = response.length or 0
        if missing and len(data) < MAX_BODY and method != "HEAD":
            raise Failed("bad_answer", f"the body ended {missing} bytes before its announced length")
    except http.client.HTTPException as error:
        reset = isinstance(error, http.client.RemoteDisconnected)
        raise Failed("reset" if reset else "bad_answer", f"{type(error).__name__}: {str(error)[:100]}") from None
    finally:
        connection.close()
        sock.close()
    phases["total"] = result["ms"] = ms(started)
    result["bytes"] = len(data)
    _judge(probe, result, data)


def _judge(probe: dict[str, Any], result: dict[str, Any], data: bytes) -> None:
    code = result["code"]
    expected = probe.get("expect_status")
    allowed = [int(one) for one in (expected if isinstance(expected, (list, tuple)) else [expected])] if expected else None
    if not (code in allowed if allowed is not None else 200 <= code < 400):
        status = "not_found" if code == 404 else "server_error" if code >= 500 else "http_error"
        raise Failed(status, f"HTTP status {code}" + (f", expected {' or '.join(map(str, allowed))}" if allowed else ""))
    wanted = probe.get("expect_body")
    if wanted and str(wanted).encode("utf-8") not in data:
        raise Failed("wrong_body", f"HTTP status {code}, but the expected text is not within the {len(data)} bytes of the body")
