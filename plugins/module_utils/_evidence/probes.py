# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""Active probes from this host: ping, TCP, UDP, TLS and HTTP. All at the same time, within one bound.

A probe is a dictionary: ``kind`` (ping, mtu, tcp, udp, tls, http), where to (``target`` with ``port``, or ``url``), if wanted
``timeout`` (seconds), ``source`` (address to come from). Nothing secret of a probe is repeated in its result: of a URL neither
user, password nor values of the query, of a request neither headers nor body.
"""

from __future__ import annotations

import errno
import queue
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

from ansible_collections.netops.fleet.plugins.module_utils._evidence.section import Section
from ansible_collections.netops.fleet.plugins.module_utils._kernel import ping, procfs

#: Probes of one run, and how many run at the same time.
MAX_PROBES, MAX_WORKERS = 256, 32
#: Bytes of a body that are read.
MAX_BODY = 1 << 20

_IP_MTU, _IPV6_MTU = 14, 24

_BY_ERRNO = {
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


class Failed(Exception):
    """The probe's answer is no: status and one line of detail."""

    def __init__(self, status: str, detail: str) -> None:
        super().__init__(detail)
        self.status, self.detail = status, detail


def run(probes: list[dict[str, Any]], seconds: float = 10.0) -> Section:
    """Run the probes; ``seconds`` bounds all of them together.

    Data: list of ``{kind, target, from, status, detail, ms}`` in the order given, and by kind:
    ping ``sent, received, loss_percent, rtt_ms: {min, avg, max}``; tcp, tls, http ``address`` (the one that was reached);
    tls, http ``tls: {version, cipher, alpn, expires}``; http ``code, phases_ms: {dns, connect, tls, first_byte, total}, bytes``.
    mtu ``mtu, largest``.
    status: ok; refused, timeout, unreachable, reset, prohibited (this host's own firewall); ping also icmp_blocked (no echo, but
    TCP answers), lossy; udp also no_answer; mtu also no_answer, black_hole; tls_error; http also not_found, server_error,
    http_error, wrong_body, bad_answer;
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

    def worker() -> None:
        while True:
            try:
                number = work.get_nowait()
            except queue.Empty:
                return
            # One step, so that a result read meanwhile is whole.
            results[number] = {**results[number], **_one(probes[number], deadline)}

    threads = [threading.Thread(target=worker, daemon=True) for _number in range(min(MAX_WORKERS, len(probes)))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, deadline + 0.2 - time.monotonic()))
    section.data = list(results)
    return section


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


def _one(probe: dict[str, Any], deadline: float) -> dict[str, Any]:
    kinds: dict[str, Callable[[dict[str, Any], dict[str, Any], float], None]] = {
        "ping": _ping,
        "tcp": _tcp,
        "udp": _udp,
        "tls": _tls,
        "http": _http,
        "mtu": _mtu,
    }
    result: dict[str, Any] = {"status": "ok", "detail": ""}
    function = kinds.get(str(probe.get("kind")))
    started = time.monotonic()
    try:
        if function is None:
            raise Failed("error", f"kind {str(probe.get('kind'))[:40]!r} is none of {', '.join(kinds)}")
        function(probe, result, min(deadline, started + float(probe.get("timeout", 3.0))))
    except Failed as failure:
        result.update(status=failure.status, detail=failure.detail)
    except OSError as error:
        result.update(status=status_of(error), detail=said(error))
    except (KeyError, TypeError, ValueError) as error:
        result.update(status="error", detail=f"the probe is not understood: {type(error).__name__}: {str(error)[:200]}")
    if result.get("ms") is None:
        result["ms"] = _ms(started)
    return result


def status_of(error: OSError) -> str:
    if isinstance(error, (TimeoutError, socket.timeout)):
        return "timeout"
    return _BY_ERRNO.get(error.errno or 0, "error")


def said(error: OSError) -> str:
    if isinstance(error, (TimeoutError, socket.timeout)) and not error.errno:
        return "no answer in time"
    return (error.strerror or str(error)).lower()


def _ms(since: float) -> float:
    return round((time.monotonic() - since) * 1000, 2)


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise Failed("timeout", "no answer in time")
    return left


def _port(probe: dict[str, Any]) -> int:
    port = int(probe["port"])
    if not 1 <= port <= 65535:
        raise Failed("error", f"port {port} is not within 1 to 65535")
    return port


def _resolve(host: str, port: int, kind: int) -> list[tuple[int, tuple[Any, ...]]]:
    """(family, address) pairs in the order libc gives them, those of a family this host lacks left out."""
    try:
        found = socket.getaddrinfo(host, port, type=kind)
    except (socket.gaierror, UnicodeError) as error:
        raise Failed("no_name", f"{host[:100]}: {getattr(error, 'strerror', None) or error}") from None
    pairs = [(int(item[0]), tuple(item[4])) for item in found if item[0] != socket.AF_INET6 or procfs.has_ipv6()]
    if not pairs:
        raise Failed("unreachable", "the target has only IPv6 addresses, and this host has no IPv6")
    return pairs


def _connect(
    probe: dict[str, Any], result: dict[str, Any], host: str, port: int, deadline: float, phases: dict[str, float]
) -> socket.socket:
    """A connected socket to the first address that answers; the last failure is raised when none does."""
    started = time.monotonic()
    pairs = _resolve(host, port, socket.SOCK_STREAM)
    phases["dns"] = _ms(started)
    source = probe.get("source")
    if source:
        wanted = socket.AF_INET6 if ":" in str(source) else socket.AF_INET
        pairs = [pair for pair in pairs if pair[0] == wanted]
        if not pairs:
            raise Failed("error", f"{host[:100]} has no address of the family of source {source}")
    failure: OSError | None = None
    for number, (family, where) in enumerate(pairs[:4]):
        sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        started = time.monotonic()
        try:
            # Time is left for the other addresses, should this one be silent.
            sock.settimeout(_left(deadline) / (min(4, len(pairs)) - number))
            if source:
                sock.bind((str(source), 0))
            sock.connect(where)
        except OSError as error:
            sock.close()
            failure = error
            result["address"] = str(where[0])
            continue
        except Failed:
            sock.close()
            raise
        phases["connect"] = _ms(started)
        result["address"], result["from"] = str(where[0]), str(sock.getsockname()[0])
        return sock
    raise failure or Failed("no_name", "the name has no address")


def _tcp(probe: dict[str, Any], result: dict[str, Any], deadline: float) -> None:
    phases: dict[str, float] = {}
    with _connect(probe, result, str(probe["target"]), _port(probe), deadline, phases):
        result["ms"] = phases["connect"]


def _ping(probe: dict[str, Any], result: dict[str, Any], deadline: float) -> None:
    """``count`` (3) echo requests, ``interval`` (0.2 s) apart. tcp_port (22): asked when no echo comes back."""
    target = str(probe["target"])
    count = max(1, min(100, int(probe.get("count", 3))))
    interval = max(0.01, float(probe.get("interval", 0.2)))
    family, where = _resolve(target, 0, socket.SOCK_DGRAM)[0]
    result.update(sent=0, received=0, loss_percent=None, rtt_ms=None)
    # A third of the time is kept for TCP, in case nothing comes back.
    wait = max(0.05, min(1.0, (_left(deadline) - interval * (count - 1)) * 2 / 3))
    source = probe.get("source")
    try:
        echoes = ping.echo(family, where, count, interval, wait, str(source) if source else None)
    except PermissionError as error:
        raise Failed("prohibited", f"ICMP: {said(error)}") from None
    result["from"] = echoes.source
    lost = echoes.sent - echoes.received
    result.update(sent=echoes.sent, received=echoes.received, loss_percent=round(100 * lost / echoes.sent, 1))
    if echoes.rtt:
        times = [round(rtt * 1000, 3) for rtt in echoes.rtt]
        result["rtt_ms"] = {"min": min(times), "avg": round(sum(times) / len(times), 3), "max": max(times)}
        result["ms"] = result["rtt_ms"]["avg"]
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
        _connect(probe, {}, target, int(port), deadline, {}).close()
        answer = "accepts"
    except Failed:
        raise Failed(status, f"{why}; TCP port {port} gives no answer either") from None
    except OSError as failure:
        if status_of(failure) not in ("refused", "reset"):
            raise Failed(status, f"{why}; TCP port {port}: {said(failure)}") from None
        answer = "refuses"
    raise Failed("icmp_blocked", f"{why}, but the host is there: TCP port {port} {answer} connections, so ICMP may be blocked")


def _mtu(probe: dict[str, Any], result: dict[str, Any], deadline: float) -> None:
    """Do packets as large as the route allows arrive? Echo requests with DF; what the way answers is learned by the kernel.

    ``mtu``: of the route as the kernel knows it; ``largest``: what arrived. black_hole: large ones vanish without a word.
    """
    target = str(probe["target"])
    family, where = _resolve(target, 0, socket.SOCK_DGRAM)[0]
    with socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
        sock.connect((where[0], 9, *where[2:]))
        level, option = (socket.IPPROTO_IP, _IP_MTU) if family == socket.AF_INET else (socket.IPPROTO_IPV6, _IPV6_MTU)
        mtu = sock.getsockopt(level, option)
        result["from"] = str(sock.getsockname()[0])
    overhead = 28 if family == socket.AF_INET else 48
    result.update(mtu=mtu, largest=None)

    def arrives(size: int, count: int = 1) -> bool:
        wait = max(0.05, min(0.3, _left(deadline)))
        return ping.echo(family, where, count, 0.05, wait, None, max(8, size - overhead)).received > 0

    try:
        # The second large one goes out in pieces when the first was answered with "too big": then all is well.
        if arrives(mtu, 2) or arrives(mtu):
            result["largest"] = mtu
            return
        if not arrives(576, 2):
            raise Failed("no_answer", "small packets are not answered either: ICMP is blocked, or nobody is there")
        low, high = 576, mtu
        while high - low > 8 and deadline - time.monotonic() > 0.1:
            middle = (low + high) // 2
            low, high = (middle, high) if arrives(middle) else (low, middle)
    except PermissionError as error:
        raise Failed("prohibited", f"ICMP: {said(error)}") from None
    result["largest"] = low
    raise Failed("black_hole", f"packets of {mtu} bytes vanish, of {low} bytes arrive")


def _udp(probe: dict[str, Any], result: dict[str, Any], deadline: float) -> None:
    """Send ``payload`` (text; default one zero byte) and wait for any answer; silence proves nothing about UDP."""
    family, where = _resolve(str(probe["target"]), _port(probe), socket.SOCK_DGRAM)[0]
    payload = str(probe.get("payload", "\0")).encode("utf-8")
    with socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
        if probe.get("source"):
            sock.bind((str(probe["source"]), 0))
        sock.connect(where)
        result["from"] = str(sock.getsockname()[0])
        started = time.monotonic()
        sock.send(payload)
        sock.settimeout(_left(deadline))
        try:
            data = sock.recv(65535)
        except (TimeoutError, socket.timeout):
            raise Failed("no_answer", "no answer, and no refusal: open, filtered, or not for this payload") from None
        result.update(ms=_ms(started), bytes=len(data))


def _handshake(
    probe: dict[str, Any], result: dict[str, Any], sock: socket.socket, host: str, deadline: float, phases: dict[str, float]
) -> socket.socket:
    """TLS over a connected socket; takes the socket over, also when it fails."""
    import ssl

    try:
        if probe.get("verify", True):
            context = ssl.create_default_context(cafile=probe.get("ca_file"))
        else:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if probe.get("alpn"):
            context.set_alpn_protocols([str(name) for name in probe["alpn"]])
        sock.settimeout(_left(deadline))
        started = time.monotonic()
        secure = context.wrap_socket(sock, server_hostname=str(probe.get("server_name") or host))
    except ssl.SSLError as error:
        sock.close()
        text = error.verify_message if isinstance(error, ssl.SSLCertVerificationError) else (error.reason or str(error))
        raise Failed("tls_error", str(text)) from None
    except (OSError, Failed):
        sock.close()
        raise
    phases["tls"] = _ms(started)
    certificate = secure.getpeercert() or {}
    cipher = secure.cipher()
    result["tls"] = {
        "version": secure.version(),
        "cipher": cipher[0] if cipher else None,
        "alpn": secure.selected_alpn_protocol(),
        "expires": certificate.get("notAfter"),
    }
    return secure


def _tls(probe: dict[str, Any], result: dict[str, Any], deadline: float) -> None:
    """TCP and TLS, no request. alpn: protocols offered (``h2`` for gRPC); a server that picks none of them is no failure."""
    phases: dict[str, float] = {}
    sock = _connect(probe, result, str(probe["target"]), _port(probe), deadline, phases)
    _handshake(probe, result, sock, str(probe["target"]), deadline, phases).close()
    result["phases_ms"] = phases


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
    sock = _connect(probe, result, parts.hostname, parts.port or (443 if parts.scheme == "https" else 80), deadline, phases)
    if parts.scheme == "https":
        sock = _handshake(probe, result, sock, parts.hostname, deadline, phases)
    connection = http.client.HTTPConnection(parts.hostname, parts.port or (443 if parts.scheme == "https" else 80))
    connection.sock = sock
    try:
        sent = time.monotonic()
        sock.settimeout(_left(deadline))
        connection.request(method, (parts.path or "/") + (f"?{parts.query}" if parts.query else ""), body, headers)
        response = connection.getresponse()
        phases["first_byte"] = _ms(sent)
        result["code"] = response.status
        data = b""
        # A response that was read to its end has closed the socket already.
        while len(data) < MAX_BODY and not response.isclosed():
            sock.settimeout(_left(deadline))
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
    phases["total"] = result["ms"] = _ms(started)
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
