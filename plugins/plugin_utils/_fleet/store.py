# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This plugin util is PRIVATE to the collection. It can change at any time.
"""A run's folder: run.json and one evidence file per host. Everything in it is read within bounds.

Layout: ``<output>/<UTC yyyymmddThhmmssZ>[-n]/`` (0700) holds ``run.json``, ``<safe host name>.evidence.gz``, and after the
report ``report.json`` and ``report.html`` (all 0600). ``<output>/latest`` points at the newest run.

An evidence file is two gzip members: the controller's envelope and a line feed, then the bytes as the host sent them.
The second member is written without being unpacked: unpacking is paid once, by the report, within bounds.
"""

from __future__ import annotations

import json
import os
import stat
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from ansible_collections.netops.fleet.plugins.plugin_utils._fleet import schema
from ansible_collections.netops.fleet.plugins.plugin_utils._fleet.text import clean, safe_name

#: Written into run.json and every envelope; a test holds it equal to galaxy.yml.
COLLECTION = "0.1.0"
SUFFIX = ".evidence.gz"
CLUSTER = "cluster.json"
#: Compressed bytes accepted from one host.
MAX_RECEIVED = 16 * 1024 * 1024
MAX_ENVELOPE = 64 * 1024
#: Unpacked bytes of one host's evidence. Typical is 0.2 MiB; 10,000 firewall rules are some 10 MiB.
MAX_EVIDENCE = 64 * 1024 * 1024
MAX_RUN = 256 * 1024 * 1024
_GZIP = 31  # zlib's window bits for "gzip header and trailer"


class StoreError(Exception):
    """A run's folder or file cannot be used; the message says which and why."""


@dataclass
class Stored:
    """One host of a run. status: of the envelope, or "invalid" when what follows it is not evidence, or "no answer"."""

    host: str
    status: str
    reason: str = ""
    groups: list[str] = field(default_factory=list)
    envelope: dict[str, Any] = field(default_factory=dict)
    evidence: dict[str, Any] | None = None
    file: str | None = None


@dataclass
class Run:
    """run.json. hosts: inventory name -> groups."""

    folder: str
    id: str
    started: float
    target: dict[str, Any] | None
    hosts: dict[str, list[str]]
    options: dict[str, Any]
    collection: str = COLLECTION


def make_run(output: str, now: float) -> tuple[str, str]:
    """Make a run's folder below ``output`` and point ``latest`` at it; returns (folder, id)."""
    output = os.path.abspath(os.path.expanduser(output))
    try:
        if not os.path.isdir(output):
            os.makedirs(output, mode=0o700, exist_ok=True)
            # Evidence describes a fleet's insides: a folder made here inside a checkout stays out of its history.
            write_atomic(os.path.join(output, ".gitignore"), b"*\n")
    except OSError as error:
        raise StoreError(
            f"the output folder {output!r} cannot be made: {error.strerror}; give a folder that you may write"
        ) from error
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))
    for number in range(1, 1000):
        name = stamp if number == 1 else f"{stamp}-{number}"
        folder = os.path.join(output, name)
        try:
            os.mkdir(folder, 0o700)
        except FileExistsError:
            continue
        except OSError as error:
            raise StoreError(
                f"the run's folder {folder!r} cannot be made: {error.strerror}; give an output folder that you may write"
            ) from error
        os.chmod(folder, 0o700)
        _point(output, name)
        return folder, name
    raise StoreError(f"the output folder {output!r} holds 999 runs of the second {stamp}; remove old runs")


def _point(output: str, name: str) -> None:
    latest = os.path.join(output, "latest")
    temporary = os.path.join(output, f".latest-{os.getpid()}")
    try:
        os.symlink(name, temporary)
        os.replace(temporary, latest)
    except OSError as error:
        if os.path.islink(temporary):
            os.unlink(temporary)
        raise StoreError(
            f"{latest!r} cannot be pointed at the new run: {error.strerror}; it must be a symbolic link or absent, move it away"
        ) from error


def write_atomic(path: str, data: bytes) -> None:
    """Write a file of mode 0600 at once: a reader sees the old or the new one."""
    folder, name = os.path.split(path)
    temporary = os.path.join(folder, f".{name[:100]}.{os.getpid()}.part")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(data)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def write_run(run: Run) -> None:
    """Write run.json."""
    data = {
        "schema": schema.SCHEMA,
        "id": run.id,
        "started": run.started,
        "target": run.target,
        "collection": run.collection,
        "hosts": run.hosts,
        "options": run.options,
    }
    write_atomic(os.path.join(run.folder, "run.json"), json.dumps(data, indent=1, sort_keys=True).encode() + b"\n")


def read_run(folder: str) -> Run:
    """Read run.json; raises StoreError."""
    path = os.path.join(folder, "run.json")
    try:
        with _open(path, MAX_RUN) as stream:
            data = _loads(stream.read(MAX_RUN + 1))
    except FileNotFoundError:
        raise StoreError(f"{folder!r} is not a run: it has no run.json; give a folder such as reports/latest") from None
    except (OSError, ValueError, RecursionError) as error:
        raise StoreError(f"{path!r} cannot be read: {clean(error, 200)}") from error
    try:
        if data["schema"] != schema.SCHEMA:
            raise ValueError(f"schema {clean(data['schema'], 40)!r}, this version of the collection reads {schema.SCHEMA}")
        hosts = data["hosts"]
        if not isinstance(hosts, dict) or not all(_is_names(groups) for groups in hosts.values()):
            raise ValueError("hosts must be a mapping of names to lists of group names")
        target = data.get("target")
        if target is not None and not (isinstance(target, dict) and isinstance(target.get("proto"), str)):
            raise ValueError("target must be null or a mapping with proto and port")
        options = data.get("options") or {}
        if not isinstance(options, dict):
            raise ValueError("options must be a mapping")
        run_id, collection = str(data["id"])[:100], str(data.get("collection"))[:100]
        return Run(folder, run_id, float(data["started"]), target, hosts, options, collection)
    except (KeyError, TypeError, ValueError) as error:
        raise StoreError(f"{path!r} is not a run of this collection: {clean(error, 200)}") from error


def write_cluster(folder: str, kept: dict[str, Any]) -> None:
    """Write cluster.json: what a run knows of a Kubernetes cluster."""
    write_atomic(os.path.join(folder, CLUSTER), json.dumps({"schema": schema.SCHEMA, **kept}, sort_keys=True).encode() + b"\n")


def read_cluster(folder: str) -> dict[str, Any] | None:
    """Read cluster.json; None for a run without one; raises StoreError."""
    path = os.path.join(folder, CLUSTER)
    try:
        with _open(path, MAX_RUN) as stream:
            data = _loads(stream.read(MAX_RUN + 1))
        if not isinstance(data, dict) or data.get("schema") != schema.SCHEMA:
            raise ValueError("is not of this version's schema")
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise StoreError(f"{path!r} cannot be read: {clean(error, 200)}") from error
    return data


def _is_names(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) for name in value)


def envelope(
    host: str,
    groups: list[str],
    status: str,
    *,
    reason: str = "",
    started: float,
    finished: float,
    clock: tuple[float, float] | None = None,
    notes: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """The controller's line of an evidence file. clock: bounds of host clock minus controller clock, seconds."""
    data: dict[str, Any] = {
        "schema": schema.SCHEMA,
        "host": host,
        "groups": groups,
        "status": status,
        "reason": clean(reason, 2000),
        "started": round(started, 3),
        "finished": round(finished, 3),
        "clock": None if clock is None else {"low": round(clock[0], 4), "high": round(clock[1], 4)},
        "collection": COLLECTION,
    }
    data.update(notes or {})
    return data


def write_evidence(folder: str, head: dict[str, Any], received: bytes | None) -> str:
    """Store one host's answer; returns the file's name. received: the gzip member as the host sent it, or None."""
    name = safe_name(head["host"]) + SUFFIX
    packer = zlib.compressobj(1, zlib.DEFLATED, _GZIP)
    line = json.dumps(head, separators=(",", ":"), sort_keys=True).encode() + b"\n"
    write_atomic(os.path.join(folder, name), packer.compress(line) + packer.flush() + (received or b""))
    return name


def _open(path: str, limit: int) -> BinaryIO:
    """Open a regular file that is no link and no larger than ``limit``."""
    # O_NONBLOCK: opening a pipe that someone put there must not hang the report.
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    state = os.fstat(descriptor)
    if not stat.S_ISREG(state.st_mode) or state.st_size > limit:
        os.close(descriptor)
        raise ValueError("is not a regular file" if not stat.S_ISREG(state.st_mode) else f"is larger than {limit} bytes")
    return os.fdopen(descriptor, "rb")


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON number")


def _loads(data: bytes) -> Any:
    return json.loads(data.decode("utf-8", "strict"), parse_constant=_no_constant)


def _unpack(data: bytes, limit: int) -> tuple[bytes, bytes]:
    """The first gzip member of ``data``, at most ``limit`` bytes of it unpacked, and what follows it."""
    unpacker = zlib.decompressobj(_GZIP)
    try:
        out = unpacker.decompress(data, limit + 1)
    except zlib.error as error:
        raise ValueError(f"is not gzip: {error}") from None
    if len(out) > limit:
        raise ValueError(f"unpacks to more than {limit} bytes")
    if not unpacker.eof:
        raise ValueError("is cut off")
    return out, unpacker.unused_data


def _head(data: bytes, path: str) -> tuple[dict[str, Any], bytes]:
    line, rest = _unpack(data, MAX_ENVELOPE)
    head = _loads(line)
    if not isinstance(head, dict) or head.get("schema") != schema.SCHEMA:
        raise ValueError("has no envelope of this schema")
    if not isinstance(head.get("host"), str) or safe_name(head["host"]) + SUFFIX != os.path.basename(path):
        raise ValueError("names another host in its envelope than in its file name")
    if head.get("status") not in schema.STATUSES or not _is_names(head.get("groups")):
        raise ValueError("has an envelope without a known status or without groups")
    if head.get("peers_skipped") is not None and not _is_names(head["peers_skipped"]):
        raise ValueError("has skipped peers that are no names")
    clock = head.get("clock")
    if clock is not None and not (
        isinstance(clock, dict) and all(isinstance(clock.get(key), (int, float)) for key in ("low", "high"))
    ):
        raise ValueError("has clock bounds that are no numbers")
    head["reason"] = clean(head.get("reason") or "", 2000)
    return head, rest


def read_head(path: str) -> dict[str, Any]:
    """Only the envelope of an evidence file, a few hundred bytes read; raises OSError and ValueError."""
    with _open(path, MAX_RECEIVED + MAX_ENVELOPE) as stream:
        chunk = stream.read(MAX_ENVELOPE)
    return _head(chunk, path)[0]


def read_file(path: str, host: str, checked: bool = False) -> Stored:
    """One evidence file; never raises for what a file can hold, the status says it. checked: it was validated in this run."""
    try:
        with _open(path, MAX_RECEIVED + MAX_ENVELOPE) as stream:
            data = stream.read(MAX_RECEIVED + MAX_ENVELOPE + 1)
        head, rest = _head(data, path)
    except FileNotFoundError:
        return Stored(host, schema.NO_ANSWER, "the run has no file for this host: it ended early or left the host out")
    except (OSError, ValueError, RecursionError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        return Stored(host, "invalid", f"the evidence file {clean(why or error, 300)}", file=os.path.basename(path))
    stored = Stored(head["host"], head["status"], head["reason"], head["groups"], head, None, os.path.basename(path))
    if stored.status != "ok":
        return stored
    try:
        body, more = _unpack(rest, MAX_EVIDENCE)
        if more:
            raise ValueError("has bytes behind its end")
        evidence = _loads(body)
    except (ValueError, RecursionError) as error:
        stored.status, stored.reason = "invalid", f"the evidence {clean(error, 300)}"
        return stored
    problems = [] if checked else schema.validate(evidence)
    if problems:
        stored.status = "invalid"
        stored.reason = clean("the evidence is not of the schema: " + "; ".join(problems), 1000)
    else:
        stored.evidence = evidence
    return stored


def names(run: Run) -> dict[str, list[str]]:
    """All hosts of a run with their groups: those of run.json, and those of files that were put beside them (merged slices)."""
    found = dict(run.hosts)
    expected = {safe_name(host) + SUFFIX for host in found}
    for entry in sorted(os.listdir(run.folder)):
        if not entry.endswith(SUFFIX) or entry.startswith(".") or entry in expected:
            continue
        try:
            head = read_head(os.path.join(run.folder, entry))
        except (OSError, ValueError, RecursionError):
            continue  # no envelope, so no host to name
        found[head["host"]] = head["groups"]
    return dict(sorted(found.items()))


def stream(run: Run, hosts: dict[str, list[str]]) -> Iterator[Stored]:
    """The hosts of a run in the order given, one in memory at a time; groups are those of the run."""
    for host, groups in hosts.items():
        stored = read_file(os.path.join(run.folder, safe_name(host) + SUFFIX), host)
        stored.groups = groups
        yield stored
