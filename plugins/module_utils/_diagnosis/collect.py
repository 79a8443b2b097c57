# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""Read everything one diagnosis needs, in one go, and pack it. The only place of this room that touches the host."""

from __future__ import annotations

import base64
import json
import os
import sys
import threading
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.netops.fleet.plugins.module_utils._diagnosis import target as targets
from ansible_collections.netops.fleet.plugins.module_utils._evidence.section import Gap, Section
from ansible_collections.netops.fleet.plugins.module_utils._firewall import model

SCHEMA = 1
VERSION = "0.1.0"

#: Severities and coverage states a summary counts.
_SEVERITIES = ("critical", "warning", "info")
_STATES = ("ok", "partial", "failed", "skipped")

#: How long counters may be watched at most; longer holds a connection to every host of the fleet.
_MAX_WINDOW = 300.0

#: Peers towards which the size of packets is tried.
_MTU_PEERS = 2

#: Kind of probe -> statuses that say that it could not be made here.
_UNTRIED = {"ping": ("error",), "path": ("error", "prohibited")}

_HTTP: dict[str, Any] = {
    "url": {"type": "str", "required": True},
    "method": {"type": "str", "choices": ["GET", "POST"], "default": "GET"},
    "json": {"type": "raw"},
    "headers": {"type": "dict", "default": {}, "no_log": True},
    "status": {"type": "int"},
    "contains": {"type": "str"},
    "validate_certs": {"type": "bool", "default": True},
}
#: What may be seen, as the controller's symptoms name it; the host only looks closer for some.
SYMPTOMS = ("port", "pair", "latency", "pods", "dns", "firewall", "nic", "loss")
#: Ways that are traced where latency is asked about. More at once, and the first router, which answers a host about once a
#: second behind a burst of six, is silent for most.
_PATHS = 4
_PEER: dict[str, Any] = {"host": {"type": "str", "required": True}, "address": {"type": "str", "required": True}}

#: The argument spec of the module; its documentation stands in plugins/modules/host_evidence.py.
ARGUMENTS: dict[str, Any] = {
    "run": {"type": "path"},
    "target": {"type": "str"},
    "symptom": {"type": "str", "choices": list(SYMPTOMS)},
    "window": {"type": "float", "default": 2.0},
    "names": {"type": "list", "elements": "str", "default": []},
    "ping": {"type": "list", "elements": "str", "default": []},
    "http": {"type": "list", "elements": "dict", "default": [], "options": _HTTP},
    "peers": {"type": "list", "elements": "dict", "default": [], "options": _PEER},
    "probe_peers": {"type": "int", "default": 0},
    "mesh": {"type": "list", "elements": "dict", "default": [], "options": _PEER},
    "mesh_peers": {"type": "int", "default": 0},
    "capture": {"type": "float", "default": 0.0},
    "pair": {"type": "str", "choices": ["sender", "receiver"]},
    "ntp": {"type": "list", "elements": "str", "default": []},
    "services": {"type": "list", "elements": "str", "default": []},
    "set_elements": {"type": "int", "default": 4096},
    "probe_timeout": {"type": "float", "default": 2.0},
}


@dataclass
class Options:
    """What one collection is asked for; units as in the module's documentation."""

    target: targets.Target | None = None
    symptom: str | None = None
    window: float = 2.0
    names: list[str] = field(default_factory=list)
    ping: list[str] = field(default_factory=list)
    http: list[dict[str, Any]] = field(default_factory=list)
    peers: list[dict[str, str]] = field(default_factory=list)
    mesh: list[dict[str, str]] = field(default_factory=list)
    pair: str | None = None
    ntp: list[str] = field(default_factory=list)
    services: list[str] = field(default_factory=list)
    set_elements: int = 4096
    probe_timeout: float = 2.0

    @classmethod
    def from_params(cls, params: dict[str, Any]) -> Options:
        """Raises TargetError for a target or a number that is not allowed."""
        window, timeout = float(params["window"]), float(params["probe_timeout"])
        if not 0 <= window <= _MAX_WINDOW:
            raise targets.TargetError(f"window is {window}; allowed are 0 to {_MAX_WINDOW:.0f} seconds")
        if not 0.05 <= timeout <= 30:
            raise targets.TargetError(f"probe_timeout is {timeout}; allowed are 0.05 to 30 seconds")
        return cls(
            target=targets.parse(params["target"]) if params.get("target") else None,
            symptom=params.get("symptom"),
            window=window,
            names=list(params["names"]),
            ping=list(params["ping"]),
            http=list(params["http"]),
            peers=list(params["peers"]),
            mesh=list(params.get("mesh") or []),
            pair=params.get("pair"),
            ntp=list(params["ntp"]),
            services=list(params["services"]),
            set_elements=int(params["set_elements"]),
            probe_timeout=timeout,
        )


class _Collection:
    """Sections and coverage as they come in. A reader that breaks costs its own section, never the host."""

    def __init__(self) -> None:
        self.sections: dict[str, Any] = {}
        self.coverage: list[dict[str, Any]] = []

    def read(self, name: str, reader: Callable[[], Section]) -> Section | None:
        started = time.monotonic()
        try:
            section = reader()
        except Exception as error:
            why = f"{type(error).__name__}: {error}"[:300]
            self._cover(name, "failed", started, [Gap(name, why)])
            return None
        status = "partial" if section.gaps else "ok"
        if section.gaps and (section.data is None or section.nothing):
            status = "failed"
        self.sections[name] = section.data
        self._cover(name, status, started, section.gaps)
        return section

    def skip(self, name: str, why: str) -> None:
        self._cover(name, "skipped", time.monotonic(), [Gap(name, why)])

    def _cover(self, name: str, status: str, started: float, gaps: list[Gap]) -> None:
        seconds = round(time.monotonic() - started, 4)
        self.coverage.append({"section": name, "status": status, "seconds": seconds, "gaps": [gap.to_dict() for gap in gaps]})


def collect(options: Options) -> dict[str, Any]:
    """All evidence of this host, judged. Shape: docs/dev/foundation.md."""
    from ansible_collections.netops.fleet.plugins.module_utils._diagnosis import exposure, pairs
    from ansible_collections.netops.fleet.plugins.module_utils._diagnosis.facts import Facts
    from ansible_collections.netops.fleet.plugins.module_utils._diagnosis.judge import judge
    from ansible_collections.netops.fleet.plugins.module_utils._diagnosis.objects import objects

    started = time.time()
    found = _Collection()
    ruleset = _read(found, options)
    evidence: dict[str, Any] = {
        "schema": SCHEMA,
        "collector": {"version": VERSION, "python": ".".join(str(part) for part in sys.version_info[:3]), "uid": os.geteuid()},
        "host": _host(),
        "window": {"start": started, "seconds": (found.sections.get("drops") or {}).get("seconds", 0.0)},
        "target": options.target.to_dict() if options.target else None,
        "peers": options.peers,
        "coverage": found.coverage,
        "sections": found.sections,
    }
    if options.pair is not None:
        evidence["pair"] = options.pair
        found.read("pairs", lambda: Section(pairs.table(Facts(evidence, ruleset))))
    evidence["objects"] = objects(evidence)
    evidence["findings"], evidence["answer"] = judge(evidence, ruleset)
    found.read("walks", lambda: Section(exposure.table(Facts(evidence, ruleset))))
    return evidence


def _read(found: _Collection, options: Options) -> model.Ruleset | None:
    """Counters first and last; everything else is read, and probed, while their window runs."""
    from ansible_collections.netops.fleet.plugins.module_utils._evidence.conntrack import Conntrack
    from ansible_collections.netops.fleet.plugins.module_utils._evidence.drop_reasons import DropReasons
    from ansible_collections.netops.fleet.plugins.module_utils._evidence.drops import Drops
    from ansible_collections.netops.fleet.plugins.module_utils._evidence.machine import Machine

    begun = time.monotonic()
    drops, tracking, reasons, machine = Drops(), Conntrack(), DropReasons(), Machine()
    counters, entries, load = drops.begin(), tracking.begin(), machine.begin()
    tracing = reasons.begin() if options.window > 0 else None
    try:
        kept: list[model.Ruleset] = []
        readers = {"firewall": lambda: _rules(options, kept), **_network_readers(options)}
        # What takes the processor meanwhile would pass for a slow way.
        late = readers.pop("probes", None) if options.symptom == "latency" else None
        waiting = [_Background(found, name, reader) for name, reader in readers.items()]
        _read_kernel(found, options)
        listeners = (found.sections.get("sockets") or {}).get("listeners") or []
        machine.watch(load, listeners)
        for background in waiting:
            background.finish()
        if late is not None:
            found.read("probes", late)
        elif "probes" not in readers:
            found.skip("probes", "no probe was asked for")
        time.sleep(max(0.0, begun + options.window - time.monotonic()))
    finally:
        if tracing is not None:
            found.read("drop_reasons", lambda: reasons.end(tracing))
        else:
            found.skip("drop_reasons", "no window to count them in")
    found.read("drops", lambda: drops.end(counters))
    found.read("conntrack", lambda: tracking.end(entries))
    found.read("machine", lambda: machine.end(load, listeners))
    return kept[0] if kept else None


class _Background:
    """A reader that waits for the network or a tool, at work while the others read the kernel."""

    def __init__(self, found: _Collection, name: str, reader: Callable[[], Section]) -> None:
        self.name = name
        self._own = _Collection()
        self._found = found
        self._thread = threading.Thread(target=self._own.read, args=(name, reader), daemon=True)
        self._thread.start()

    def finish(self) -> None:
        """Each reader bounds its own time; this bound is for one that does not keep it."""
        self._thread.join(60.0)
        if self._thread.is_alive():
            self._found.coverage.append(
                {
                    "section": self.name,
                    "status": "failed",
                    "seconds": 60.0,
                    "gaps": [{"what": self.name, "why": "did not finish"}],
                }
            )
            return
        self._found.sections.update(self._own.sections)
        self._found.coverage += self._own.coverage


def _network_readers(options: Options) -> dict[str, Callable[[], Section]]:
    from ansible_collections.netops.fleet.plugins.module_utils._evidence import (
        clock,
        installed,
        kubernetes,
        names,
        physical,
    )

    timeout = options.probe_timeout
    readers: dict[str, Callable[[], Section]] = {
        "names": lambda: names.read(options.names, timeout),
        "clock": lambda: clock.read(options.ntp, timeout),
        "kubernetes": lambda: kubernetes.read(timeout),
        "physical": physical.read,
        "installed": installed.read,
    }
    if _probes(options):
        readers["probes"] = lambda: _probe(options)
    if options.mesh:
        from ansible_collections.netops.fleet.plugins.module_utils._evidence import mesh

        readers["mesh"] = lambda: mesh.read(options.mesh, timeout, _mesh_ports(options.target))
    return readers


def _probes(options: Options) -> list[tuple[dict[str, Any], str | None]]:
    """(probe, inventory name of the peer it goes to) of everything that was asked for."""
    timeout = options.probe_timeout
    wanted: list[tuple[dict[str, Any], str | None]] = [
        ({"kind": "ping", "target": address, "timeout": timeout}, None) for address in options.ping
    ]
    wanted += [({"kind": "http", "timeout": timeout, **_endpoint(one)}, None) for one in options.http]
    for peer in options.peers[:_MTU_PEERS]:
        wanted.append(({"kind": "mtu", "target": peer["address"], "timeout": 2 * timeout + 1}, peer["host"]))
    target = options.target
    if target is not None and target.address is not None:
        wanted.append(({"kind": "mtu", "target": target.address, "timeout": 2 * timeout + 1}, None))
    if target is not None and target.proto in ("tcp", "udp"):
        probe = {"kind": target.proto, "port": target.port, "timeout": timeout}
        if target.address is not None:
            wanted.append(({**probe, "target": target.address}, None))
        elif target.proto == "tcp" and options.pair != "receiver":
            wanted += [({**probe, "target": peer["address"]}, peer["host"]) for peer in options.peers]
    return wanted


def _probe(options: Options) -> Section:
    """Everything that was asked for at the same time, then the ways."""
    from ansible_collections.netops.fleet.plugins.module_utils._evidence import probes

    wanted = _probes(options)
    section = probes.run([one for one, _peer in wanted], 4 * options.probe_timeout)
    paths = _paths(options)
    if paths:
        traced = _traced(paths)
        section.data += traced.data
        section.gaps += traced.gaps
    return _probed(section, [peer for _one, peer in wanted])


def _traced(paths: list[dict[str, Any]]) -> Section:
    """The ways; one with a step of latency is traced again, and the smaller step counts: a pause of this host is none."""
    from ansible_collections.netops.fleet.plugins.module_utils._evidence import probes

    def step(result: dict[str, Any]) -> float:
        return float((result.get("jump") or {"by_ms": 0.0})["by_ms"])

    section = probes.run(paths, paths[0]["timeout"])
    again = [number for number, one in enumerate(section.data) if one.get("jump")]
    if again:
        second = probes.run([paths[number] for number in again], paths[0]["timeout"])
        for number, result in zip(again, second.data):
            if result.get("reached"):
                section.data[number] = min(section.data[number], result, key=step)
    return section


def _paths(options: Options) -> list[dict[str, Any]]:
    """The ways to trace: where latency is asked about, to the target elsewhere and to what is pinged."""
    if options.symptom != "latency":
        return []
    bounds = {"kind": "path", "wait": options.probe_timeout, "timeout": 2 * options.probe_timeout + 1}
    wanted: dict[str, dict[str, Any]] = {}
    target = options.target
    if target is not None and target.address is not None:
        way = {"way": "tcp", "port": target.port} if target.proto == "tcp" else {"way": "icmp"}
        wanted[target.address] = {**bounds, **way, "target": target.address}
    for address in options.ping:
        wanted.setdefault(address, {**bounds, "way": "icmp", "target": address})
    return list(wanted.values())[:_PATHS]


def _mesh_ports(target: targets.Target | None) -> tuple[int, ...]:
    """TCP ports that show that a peer without echo replies is there."""
    own = target is not None and target.proto == "tcp" and target.address is None
    return (22, target.port) if own and target is not None and target.port != 22 else (22,)


def _endpoint(given: dict[str, Any]) -> dict[str, Any]:
    """An HTTP endpoint of the module's options as the probe reads it."""
    names = {"status": "expect_status", "contains": "expect_body", "validate_certs": "verify"}
    return {names.get(key, key): value for key, value in given.items() if value is not None}


def _probed(section: Section, peers: list[str | None]) -> Section:
    for result, peer in zip(section.data, peers):
        if peer is not None:
            result["peer"] = peer
    for result in section.data:
        # No finding is made of these: what was not tried is not excluded.
        if result["kind"] in _UNTRIED and result["status"] in _UNTRIED[result["kind"]]:
            section.gap(f"probes.{result['kind']}", f"{result['target']}: {result['detail']}"[:300])
    return section


def _rules(options: Options, kept: list[model.Ruleset]) -> Section:
    """The packet filter; as its reader made it in ``kept``, so that it is judged without being rebuilt."""
    from ansible_collections.netops.fleet.plugins.module_utils._firewall import read as firewall

    section = firewall.read(elements=options.set_elements)
    kept.append(section.data)
    states = {state.status for state in section.data.backends}
    return Section(section.data.to_dict(), section.gaps, nothing="unread" in states and "ok" not in states)


def _read_kernel(found: _Collection, options: Options) -> None:
    """Everything that is only read from the kernel."""
    from ansible_collections.netops.fleet.plugins.module_utils._evidence import (
        addresses,
        configured,
        fdcensus,
        hooks,
        interrupts,
        kernel_log,
        links,
        locality,
        neighbours,
        routes,
        services,
        sockets,
        switches,
        sysctls,
        tunnels,
    )

    found.read("links", links.read)
    found.read("addresses", addresses.read)
    found.read("routes", routes.read)
    found.read("policy_rules", routes.read_rules)
    found.read("neighbours", neighbours.read)
    found.read("switches", switches.read)
    found.read("configured", lambda: configured.read(found.sections.get("links") or []))
    found.read("tunnels", lambda: tunnels.read(found.sections.get("links") or []))
    found.read("interrupts", interrupts.read)
    found.read("kernel_log", kernel_log.read)
    physical = [link["name"] for link in found.sections.get("links") or [] if link.get("physical")]
    found.read("sysctls", lambda: sysctls.read(physical))
    target = options.target
    census: list[fdcensus.FdCensus] = []

    def owners(inodes: set[int]) -> dict[int, fdcensus.Owner]:
        # The one walk over all descriptors serves sockets and programs.
        census.append(fdcensus.census(inodes, bpf=True))
        return census[0].sockets

    found.read("sockets", lambda: sockets.read((target.proto, target.port) if target else None, owners))
    serving = [
        one["unit"]
        for one in (found.sections.get("sockets") or {}).get("listeners") or []
        if target is not None and (one["proto"], one["port"]) == (target.proto, target.port) and one.get("unit")
    ]
    found.read("services", lambda: services.read(options.services, serving))
    found.read("hooks", lambda: hooks.read(census[0] if census else None))
    found.read("locality", locality.read)


def _host() -> dict[str, Any]:
    from ansible_collections.netops.fleet.plugins.module_utils._kernel import procfs

    names = os.uname()
    return {
        "hostname": names.nodename,
        "kernel": names.release,
        "machine": names.machine,
        "uptime_s": float((procfs.text_or_none("/proc/uptime") or "0").split()[0]),
        "container": procfs.in_container(),
        "netns": _inode("/proc/self/ns/net"),
    }


def _inode(path: str) -> int | None:
    try:
        return os.stat(path).st_ino
    except OSError:
        return None


def result(options: Options) -> dict[str, Any]:
    """What the module returns: packed evidence, a summary small enough to travel, and the host's clock around it."""
    began = time.time()
    evidence = collect(options)
    text = json.dumps(evidence, ensure_ascii=True, separators=(",", ":"), allow_nan=False).encode("ascii")
    # wbits 31: a gzip member, which the controller stores as it came. Level 6 is the best trade at 10,000 rules.
    packer = zlib.compressobj(6, zlib.DEFLATED, 31)
    packed = packer.compress(text) + packer.flush()
    return {
        "evidence": base64.b64encode(packed).decode("ascii"),
        "summary": summary(evidence),
        "host_time_start": began,
        "host_time_end": time.time(),
    }


def summary(evidence: dict[str, Any]) -> dict[str, Any]:
    """Counts and the first three findings of evidence."""
    findings = evidence["findings"]
    keep = ("id", "severity", "grade", "subject", "summary")
    answer = evidence.get("answer") or {}
    return {
        "findings": {name: sum(1 for one in findings if one["severity"] == name) for name in _SEVERITIES},
        "top": [{key: one[key] for key in keep} for one in findings[:3]],
        "coverage": {name: sum(1 for one in evidence["coverage"] if one["status"] == name) for name in _STATES},
        "answer": answer.get("text", ""),
    }
