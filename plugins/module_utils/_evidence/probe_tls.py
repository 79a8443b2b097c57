# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""TLS: does the server speak it, which versions, with which certificates, and what exactly is wrong with them.

The certificates sent are read from the handshake itself where TLS 1.2 shows them in clear; Python hands out only verified ones.
Sources: RFC 5246 section 7.4.2, RFC 8446, ssl module of Python
"""

from __future__ import annotations

import socket
import ssl
import time
import warnings
from typing import Any

from ansible_collections.netops.fleet.plugins.module_utils._evidence.probing import Failed, connect, left, ms, port_of
from ansible_collections.netops.fleet.plugins.module_utils._kernel import x509

#: Versions a probe can ask for, oldest first; the last two are those still considered safe (RFC 8996).
VERSIONS = ("TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3")
SAFE = ("TLSv1.2", "TLSv1.3")
#: Days before the end from which a certificate is about to expire.
SOON_DAYS = 14
_HANDSHAKE, _CHANGE_CIPHER, _CERTIFICATE = 22, 20, 11
_MAX_HANDSHAKE = 1 << 18

#: X509_V_ERR_* of OpenSSL → what is wrong, in words of this collection.
_PROBLEMS = {
    9: "not_yet_valid", 10: "expired", 18: "self_signed", 19: "untrusted", 20: "incomplete_chain", 21: "incomplete_chain",
    62: "wrong_name", 64: "wrong_name", 23: "revoked",
}  # fmt: skip


def handshake(
    probe: dict[str, Any], result: dict[str, Any], sock: socket.socket, host: str, deadline: float, phases: dict[str, float]
) -> ssl.SSLSocket:
    """TLS over a connected socket, which it takes over, also when it fails. Raises Failed with a ``problem`` in the result."""
    try:
        context = _context(probe, bool(probe.get("verify", True)))
        if probe.get("alpn"):
            context.set_alpn_protocols([str(name) for name in probe["alpn"]])
        sock.settimeout(left(deadline))
        started = time.monotonic()
        secure = context.wrap_socket(sock, server_hostname=str(probe.get("server_name") or host))
    except ssl.SSLError as error:
        sock.close()
        raise _failure(result, error) from None
    except (OSError, Failed):
        sock.close()
        raise
    phases["tls"] = ms(started)
    certificate = secure.getpeercert() or {}
    cipher = secure.cipher()
    result["tls"] = {
        "version": secure.version(),
        "cipher": cipher[0] if cipher else None,
        "alpn": secure.selected_alpn_protocol(),
        "expires": certificate.get("notAfter"),
    }
    return secure


def _context(probe: dict[str, Any], verify: bool) -> ssl.SSLContext:
    if verify:
        context = ssl.create_default_context(cafile=probe.get("ca_file"))
        # Python 3.13 asks more of certificates than other clients do; what curl and browsers take is no fault.
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        return context
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _failure(result: dict[str, Any], error: ssl.SSLError) -> Failed:
    if isinstance(error, ssl.SSLCertVerificationError):
        result["problem"] = _PROBLEMS.get(error.verify_code, "untrusted")
        return Failed("tls_error", str(error.verify_message))
    reason = str(error.reason or error)
    if reason in ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG", "RECORD_LAYER_FAILURE"):
        result["problem"] = "no_tls"
    elif "ALERT" in reason or "VERSION" in reason or "PROTOCOL" in reason:
        result["problem"] = "refused"
    else:
        result["problem"] = "protocol"
    return Failed("tls_error", reason)


def tls(probe: dict[str, Any], result: dict[str, Any], deadline: float) -> None:
    """TCP and TLS, no request. alpn: protocols offered (``h2`` for gRPC); a server that picks none of them is no failure.

    certificates (false): read those the server sends and say what is wrong with them. versions (false): try every version.
    Adds ``chain: [{subject, issuer, names, expires_in_days}]``, ``complete`` (the chain leads to a trusted root, null when it
    could not be told), ``versions: {version: accepted | refused | unknown}``, and on failure ``problem``: expired, expires_soon,
    not_yet_valid, self_signed, untrusted, incomplete_chain, wrong_name, revoked, old_version, no_tls, refused, protocol.
    """
    host, port = str(probe["target"]), port_of(probe)
    phases: dict[str, float] = {}
    failure: Failed | None = None
    sock = connect(probe, result, host, port, deadline, phases)
    try:
        handshake(probe, result, sock, host, deadline, phases).close()
    except Failed as error:
        failure = error
    result["phases_ms"] = phases
    if result.get("problem") != "no_tls":
        if probe.get("certificates"):
            failure = _certificates(probe, result, host, port, deadline, failure)
        if probe.get("versions"):
            failure = _versions(probe, result, host, port, deadline, failure)
    if failure is not None:
        raise failure


def _certificates(
    probe: dict[str, Any], result: dict[str, Any], host: str, port: int, deadline: float, failure: Failed | None
) -> Failed | None:
    try:
        sent = _sent_certificates(probe, host, port, deadline)
    except (OSError, Failed) as error:
        result.setdefault("gaps", []).append(f"the certificates sent could not be read: {error}")
        return failure
    chain = []
    for data in sent[:16]:
        try:
            chain.append(x509.read(data))
        except x509.BadCertificate as error:
            result.setdefault("gaps", []).append(str(error))
    now = time.time()
    result["chain"] = [
        {
            "subject": one.subject,
            "issuer": one.issuer,
            "names": one.names[:50],
            "expires_in_days": round((one.after - now) / 86400, 2),
        }
        for one in chain
    ]
    problem = result.get("problem")
    # Only a verified handshake says that it is complete, and only this failure that it is not.
    result["complete"] = (
        True if failure is None and probe.get("verify", True) else False if problem == "incomplete_chain" else None
    )
    if not chain:
        return failure
    late = [one for one in chain if one.after <= now]
    soon = [one for one in chain if now < one.after < now + 86400 * float(probe.get("expires_within_days") or SOON_DAYS)]
    if failure is not None and problem == "expired" and late:
        return Failed("tls_error", f"expired {(now - late[0].after) / 86400:.0f} days ago: {late[0].subject}")
    if failure is not None and problem == "incomplete_chain":
        last = chain[-1]
        what = "is neither sent nor trusted here"
        return Failed("tls_error", f"incomplete chain: {last.issuer}, the issuer of {last.subject}, {what}")
    if failure is not None and problem == "wrong_name":
        return Failed("tls_error", f"{failure.detail}; the certificate is for {', '.join(chain[0].names) or chain[0].subject}")
    if failure is None and soon:
        result["problem"] = "expires_soon"
        return Failed("tls_error", f"expires in {(soon[0].after - now) / 86400:.1f} days: {soon[0].subject}")
    return failure


def _sent_certificates(probe: dict[str, Any], host: str, port: int, deadline: float) -> list[bytes]:
    """The certificates of a handshake that verifies nothing, in the order sent, as DER."""
    with connect(probe, {}, host, port, deadline, {}) as sock:
        context = _context(probe, False)
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        try:
            return _listen(context, sock, str(probe.get("server_name") or host), deadline)
        except ssl.SSLError:
            pass  # a server of TLS 1.3 only
    with connect(probe, {}, host, port, deadline, {}) as sock:
        sock.settimeout(left(deadline))
        with _context(probe, False).wrap_socket(sock, server_hostname=str(probe.get("server_name") or host)) as secure:
            whole = getattr(secure, "get_unverified_chain", None)  # Python 3.13
            if whole is not None:
                return [bytes(one) for one in whole()]
            first = secure.getpeercert(True)
            return [first] if first else []


def _listen(context: ssl.SSLContext, sock: socket.socket, name: str, deadline: float) -> list[bytes]:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    secure = context.wrap_bio(incoming, outgoing, server_hostname=name)
    heard = b""
    while True:
        try:
            secure.do_handshake()
            return certificates(heard)
        except ssl.SSLWantReadError:
            pass
        asked = outgoing.read()
        if asked:
            sock.sendall(asked)
        sock.settimeout(left(deadline))
        part = sock.recv(65536)
        if not part or len(heard) > _MAX_HANDSHAKE:
            return certificates(heard)
        heard += part
        incoming.write(part)


def certificates(records: bytes) -> list[bytes]:
    """The certificates within what a server of TLS 1.2 or older sent in clear; empty when there are none."""
    messages, offset = b"", 0
    while offset + 5 <= len(records):
        kind, length = records[offset], int.from_bytes(records[offset + 3 : offset + 5], "big")
        if kind == _CHANGE_CIPHER:
            break
        if kind == _HANDSHAKE:
            messages += records[offset + 5 : offset + 5 + length]
        offset += 5 + length
    offset = 0
    while offset + 4 <= len(messages):
        kind, length = messages[offset], int.from_bytes(messages[offset + 1 : offset + 4], "big")
        body = messages[offset + 4 : offset + 4 + length]
        if kind == _CERTIFICATE:
            found, at = [], 3
            while at + 3 <= len(body):
                size = int.from_bytes(body[at : at + 3], "big")
                found.append(body[at + 3 : at + 3 + size])
                at += 3 + size
            return found
        offset += 4 + length
    return []


def _versions(
    probe: dict[str, Any], result: dict[str, Any], host: str, port: int, deadline: float, failure: Failed | None
) -> Failed | None:
    found: dict[str, str] = {}
    for version in VERSIONS:
        found[version] = _accepts(probe, version, host, port, deadline)
    result["versions"] = found
    old = [version for version in VERSIONS if version not in SAFE and found[version] == "accepted"]
    if failure is None and old:
        result["problem"] = "old_version"
        return Failed("tls_error", f"accepts {' and '.join(old)}, which are not safe any more; allowed are {' and '.join(SAFE)}")
    return failure


def _accepts(probe: dict[str, Any], version: str, host: str, port: int, deadline: float) -> str:
    """accepted, refused, or unknown when this host's library does not offer the version or the time is over."""
    number = getattr(ssl.TLSVersion, version.replace(".", "_"))
    context = _context(probe, False)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # old versions are deprecated: that is why they are asked for
            context.set_ciphers("ALL:@SECLEVEL=0")
            context.minimum_version = context.maximum_version = number
        with connect(probe, {}, host, port, deadline, {}) as sock:
            sock.settimeout(left(deadline))
            with context.wrap_socket(sock, server_hostname=str(probe.get("server_name") or host)) as secure:
                return "accepted" if secure.version() == version else "refused"
    except ssl.SSLError as error:
        # These two are of this host's library: it asked nothing.
        return "unknown" if error.reason in ("NO_PROTOCOLS_AVAILABLE", "NO_CIPHERS_AVAILABLE") else "refused"
    except (Failed, ValueError):
        return "unknown"
    except OSError:
        return "refused"  # the connection was there a moment ago: closed instead of an alert
