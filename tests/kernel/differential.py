# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The walk against the kernel, packet by packet: random rules are loaded, read by the collection, and judged; then the packet is
sent, and where it arrives (or what counted it) is the kernel's verdict.

Three namespaces: left (ma's other end), the host, right (mb's other end). Left and right have no addresses: they only send and
listen. A frame of another protocol behind each packet tells when the kernel is done with it, so nothing waits for silence.

Run as ``python -m tests.kernel.differential FIRST COUNT PACKETS``: seeds FIRST to FIRST+COUNT-1, prints one JSON object.
"""

from __future__ import annotations

import ctypes
import itertools
import json
import os
import re
import socket
import struct
import subprocess
import sys
import time
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.netops.fleet.plugins.module_utils._diagnosis import world
from ansible_collections.netops.fleet.plugins.module_utils._firewall import model, walk
from ansible_collections.netops.fleet.plugins.module_utils._firewall.packet import Packet, first_state
from tests.kernel.rulesets import Maker

TCP, UDP, ICMP, ICMPV6, SCTP = 6, 17, 1, 58, 132
_FENCE = 0x88B5
_LEFT_MAC, _RIGHT_MAC, _MA_MAC, _MB_MAC = (bytes([2, 0, 0, 0, 0, one]) for one in (1, 2, 0x11, 0x12))
_NUMBER = itertools.count(1)
_libc = ctypes.CDLL(None, use_errno=True)


def _mac(raw: bytes) -> str:
    return ":".join(f"{one:02x}" for one in raw)


def checksum(data: bytes) -> int:
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def _crc32c(data: bytes) -> int:
    value = 0xFFFFFFFF
    for byte in data:
        value ^= byte
        for _bit in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
    return value ^ 0xFFFFFFFF


def build(spec: dict[str, Any], key: int, saddr: str) -> bytes:
    """The IP packet of a spec; ``key`` is found in it again whatever NAT does."""
    family, proto = spec["family"], spec["proto"]
    kind = socket.AF_INET if family == 4 else socket.AF_INET6
    source, target = socket.inet_pton(kind, saddr), socket.inet_pton(kind, spec["daddr"])
    tag = struct.pack("!I", key)
    if proto == TCP:
        ack = 7 if spec["flags"] & 0x10 else 0
        body = struct.pack("!HHIIBBHHH", spec["sport"], spec["dport"], key, ack, 0x50, spec["flags"], 1024, 0, 0)
        at = 16
    elif proto == UDP:
        body = struct.pack("!HHHH", spec["sport"], spec["dport"], 12, 0) + tag
        at = 6
    elif proto == SCTP:
        chunk = struct.pack("!BBHIIHHI", 1, 0, 20, key, 1500, 1, 1, key)
        body = struct.pack("!HHII", spec["sport"], spec["dport"], 0, 0) + chunk
        body = body[:8] + struct.pack("<I", _crc32c(body)) + body[12:]
        at = -1
    else:
        body = struct.pack("!BBHHH", 8 if family == 4 else 128, 0, 0, spec["sport"], 1) + tag
        at = 2
    if at >= 0:
        pseudo = b""
        if proto != ICMP:
            pseudo = source + target
            pseudo += struct.pack("!BBH", 0, proto, len(body)) if family == 4 else struct.pack("!IHBB", len(body), 0, 0, proto)
        value = checksum(pseudo + body)
        body = body[:at] + struct.pack("!H", value or 0xFFFF) + body[at + 2 :]
    if family == 4:
        head = struct.pack("!BBHHHBBH4s4s", 0x45, spec["tos"], 20 + len(body), key & 0xFFFF, 0, 64, proto, 0, source, target)
        return head[:10] + struct.pack("!H", checksum(head)) + head[12:] + body
    return struct.pack("!IHBB", 6 << 28 | spec["tos"] << 20, len(body), proto, 64) + source + target + body


def key_of(ip: bytes) -> dict[str, Any] | None:
    """What an IP packet says: key, addresses, ports; None for one that is not of this test. ``error`` for one that answers."""
    if len(ip) < 20:
        return None
    family = ip[0] >> 4
    if family == 4:
        head, proto, source, target = (ip[0] & 15) * 4, ip[9], ip[12:16], ip[16:20]
    elif family == 6 and len(ip) >= 40:
        head, proto, source, target = 40, ip[6], ip[8:24], ip[24:40]
    else:
        return None
    body = ip[head:]
    kind = socket.AF_INET if family == 4 else socket.AF_INET6
    found = {"saddr": socket.inet_ntop(kind, source), "daddr": socket.inet_ntop(kind, target), "answer": False}
    return _body(found, proto, body)


def _body(found: dict[str, Any], proto: int, body: bytes) -> dict[str, Any] | None:
    if proto == TCP and len(body) >= 14:
        sport, dport, seq, ack = struct.unpack("!HHII", body[:12])
        reset = body[13] & 4
        found.update(sport=sport, dport=dport, key=seq)
        if reset and ack:
            found["ackkey"] = ack - 1
        return found
    if proto == UDP and len(body) >= 12:
        sport, dport = struct.unpack("!HH", body[:4])
        return {**found, "sport": sport, "dport": dport, "key": struct.unpack("!I", body[8:12])[0]}
    if proto == SCTP and len(body) >= 20:
        sport, dport = struct.unpack("!HH", body[:4])
        return {**found, "sport": sport, "dport": dport, "key": struct.unpack("!I", body[16:20])[0]}
    if proto in (ICMP, ICMPV6) and len(body) >= 12:
        if body[0] in ((8,) if proto == ICMP else (128,)):
            return {**found, "sport": None, "dport": None, "key": struct.unpack("!I", body[8:12])[0]}
        if body[0] in ((3, 11, 12) if proto == ICMP else (1, 2, 3, 4)):
            inner = key_of(body[8:])
            return None if inner is None else {**inner, "answer": True}
    return None


_ENDS: list[str] = []


def ends() -> list[str]:
    """The namespaces that send and listen, without addresses, rules or IPv6 of their own: made once, for every case."""
    if not _ENDS:
        home = os.open("/proc/self/ns/net", os.O_RDONLY)
        for one in "lr":
            _ENDS.append(f"nf-{os.getpid()}-{one}")
            subprocess.run(["ip", "netns", "add", _ENDS[-1]], check=True)
            _enter(_ENDS[-1])
            for place in ("default", "all"):
                _write(f"net/ipv6/conf/{place}/disable_ipv6", "1")
        _libc.setns(home, 0x40000000)
        os.close(home)
    return _ENDS


def remove_ends() -> None:
    while _ENDS:
        subprocess.run(["ip", "netns", "del", _ENDS.pop()], check=False)


@dataclass
class Net:
    """The three namespaces and the sockets in them."""

    names: list[str] = field(default_factory=list)
    taps: dict[str, socket.socket] = field(default_factory=dict)
    raw: list[socket.socket] = field(default_factory=list)
    out: dict[int, socket.socket] = field(default_factory=dict)

    def run(self, argv: list[str], text: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            argv, input=text or None, stdin=None if text else subprocess.DEVNULL, capture_output=True, text=True, check=False
        )

    def must(self, *argv: str, text: str = "") -> None:
        done = self.run(list(argv), text)
        assert done.returncode == 0, (argv, text, done.stderr)

    def open(self) -> None:
        left, right = ends()
        host = f"nf-{os.getpid()}-{next(_NUMBER)}h"
        self.names.append(host)
        self.must("ip", "netns", "add", host)
        _enter(host)
        for path, value in (
            ("net/ipv4/ip_forward", "1"), ("net/ipv6/conf/all/forwarding", "1"), ("net/ipv6/conf/default/accept_dad", "0"),
            ("net/ipv6/conf/default/accept_ra", "0"), ("net/ipv4/icmp_ratelimit", "0"), ("net/ipv6/icmp/ratelimit", "0"),
            ("net/ipv4/conf/all/rp_filter", "0"), ("net/ipv4/conf/default/rp_filter", "0"),
            ("net/ipv6/conf/default/addr_gen_mode", "1"), ("net/ipv4/conf/all/send_redirects", "0"),
            ("net/ipv4/conf/default/send_redirects", "0"), ("net/ipv4/icmp_msgs_per_sec", "100000"),
            ("net/ipv4/icmp_msgs_burst", "10000"),
        ):  # fmt: skip
            _write(path, value)
        lines = ["link set lo up"]
        for mine, other, mac, far, peer, net in (
            ("ma", "la", _MA_MAC, _LEFT_MAC, left, "77"), ("mb", "rb", _MB_MAC, _RIGHT_MAC, right, "78"),
        ):  # fmt: skip
            # Made with its far end in the other namespace: the end of this host's namespace takes both away.
            lines.append(f"link add name {mine} address {_mac(mac)} type veth peer name {other} address {_mac(far)} netns {peer}")
            lines += [
                f"link set dev {mine} up",
                f"addr add 10.{net}.0.2/24 dev {mine}",
                f"addr add fd{net}::2/64 dev {mine} nodad",
            ]
            for end in (1, 3, 4, 5, 200):
                for address in (f"10.{net}.0.{end}", f"fd{net}::{end:x}"):
                    lines.append(f"neigh replace {address} lladdr {_mac(far)} dev {mine} nud permanent")
        self.must("ip", "-batch", "-", text="\n".join(lines) + "\n")
        for peer, other in ((left, "la"), (right, "rb")):
            self.must("ip", "-n", peer, "link", "set", "dev", other, "up")
        routes = (("-4", "10.90.0.0/16 via 10.78.0.1", "10.91.0.0/16 via 10.77.0.1"),
                  ("-6", "fd90::/16 via fd78::1", "fd91::/16 via fd77::1"))  # fmt: skip
        for family, *each in routes:
            self.must("ip", family, "-batch", "-", text="".join(f"route add {one}\n" for one in each))
        for name, link, place in ((left, "la", "left"), (host, "ma", "ma"), (host, "mb", "mb"), (right, "rb", "right")):
            _enter(name)
            tap = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
            tap.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
            tap.bind((link, 3))
            tap.setblocking(False)
            self.taps[place] = tap
        _enter(host)
        for kind, protocols in ((socket.AF_INET, (TCP, UDP, ICMP, SCTP)), (socket.AF_INET6, (TCP, UDP, ICMPV6, SCTP))):
            for proto in protocols:
                sock = socket.socket(kind, socket.SOCK_RAW, proto)
                if kind == socket.AF_INET6:
                    sock.setsockopt(socket.IPPROTO_IPV6, 49, 1)  # IPV6_RECVPKTINFO: the destination
                sock.setblocking(False)
                self.raw.append(sock)
        self.out[4] = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
        self.out[6] = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_RAW)
        for sock in self.out.values():
            sock.setblocking(False)

    def close(self) -> None:
        for sock in (*self.taps.values(), *self.raw, *self.out.values()):
            sock.close()
        for name, link in zip(_ENDS, ("la", "rb")):  # at once: a namespace is taken down some time after its name is gone
            subprocess.run(["ip", "-n", name, "link", "del", link], check=False)
        for name in self.names:
            subprocess.run(["ip", "netns", "del", name], check=False)

    def load(self, argv: list[str], text: str) -> tuple[str, str]:
        """Run a command; lines that the tool refuses (two protocols in one rule, a kind of set this kernel lacks) are left out.

        Returns (what was refused in the end, the text that was loaded).
        """
        for _turn in range(12):
            done = self.run(argv, text)
            if done.returncode == 0:
                return "", text
            wrong = {int(one) for one in _REFUSED.findall(done.stderr)}
            if not wrong or not text:
                break
            if argv[0] == "ipset":  # what was loaded before the error stays, and what needs a set that failed goes too
                failed = {line.split()[1] for number, line in enumerate(text.split("\n"), 1) if number in wrong}
                text = "\n".join(
                    line
                    for line in text.split("\n")
                    if not failed & set(line.split()[1:2]) and not failed & set(line.split()[2:3])
                )
            else:
                text = "\n".join(line for number, line in enumerate(text.split("\n"), 1) if number not in wrong)
        return done.stderr, text

    # --- sending and seeing

    def fence(self) -> None:
        """Everything sent before has been dealt with when this returns: frames of one queue stay in order."""
        mark = struct.pack("!I", next(_NUMBER)) + bytes(56)
        kind = struct.pack("!H", _FENCE)
        self.taps["left"].send(_MA_MAC + _LEFT_MAC + kind + mark)
        _await(self.taps["ma"], mark)
        for mine, mac, far, place in (("ma", _MA_MAC, _LEFT_MAC, "left"), ("mb", _MB_MAC, _RIGHT_MAC, "right")):
            self.taps[mine].send(far + mac + kind + mark)
            self._seen[place] += _await(self.taps[place], mark)

    _seen: dict[str, list[bytes]] = field(default_factory=lambda: {"left": [], "right": []})

    def send(self, spec: dict[str, Any], key: int) -> dict[str, Any]:
        """Send one packet; returns where it arrived: {local, left, right: what it looked like | None, answer, error}."""
        self._seen = {"left": [], "right": []}
        self._drain_raw()
        error = ""
        if spec["way"] == "in":
            ip = build(spec, key, spec["saddr"])
            kind = struct.pack("!H", 0x0800 if spec["family"] == 4 else 0x86DD)
            self.taps["left"].send(_MA_MAC + _LEFT_MAC + kind + ip)
        else:
            sock = self.out[spec["family"]]
            if spec["family"] == 6:  # policy rules see the address a socket is bound to, not the one in the header
                sock.bind((spec["from"], 0))
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, spec["mark"])
            try:
                sock.sendto(build(spec, key, spec["from"]), (spec["daddr"], 0))
            except OSError as problem:
                error = problem.strerror or str(problem)
        self.fence()
        found: dict[str, Any] = {"local": None, "left": None, "right": None, "answer": False, "error": error}
        for place in ("left", "right"):
            for frame in self._seen[place]:
                said = key_of(frame[14:])
                if said is None:
                    continue
                if said.get("ackkey") == key or (said["answer"] and said["key"] == key):
                    found["answer"] = True
                elif said["key"] == key and not said["answer"]:
                    found[place] = said
        for said in self._drain_raw():
            if said["key"] == key and not said["answer"]:
                found["local"] = said
        return found

    def _drain_raw(self) -> list[dict[str, Any]]:
        seen = []
        for sock in self.raw:
            while True:
                try:
                    data, extra, _flags, sender = sock.recvmsg(2048, 256)
                except BlockingIOError:
                    break
                if sock.family == socket.AF_INET:
                    said = key_of(data)
                else:
                    daddr = next((socket.inet_ntop(socket.AF_INET6, raw[:16]) for _level, kind, raw in extra if kind == 50), "")
                    said = _body({"saddr": sender[0].split("%")[0], "daddr": daddr, "answer": False}, sock.proto, data)
                if said is not None:
                    seen.append(said)
        return seen


def _await(tap: socket.socket, mark: bytes) -> list[bytes]:
    """Frames up to the one that carries the mark."""
    frames = []
    deadline = time.monotonic() + 10
    while True:
        try:
            data, sender = tap.recvfrom(4096)
        except BlockingIOError:
            assert time.monotonic() < deadline, "a frame of the test itself was lost"
            continue
        if data[12:14] == struct.pack("!H", _FENCE) and data[14 : 14 + len(mark)] == mark:
            if sender[2] != socket.PACKET_OUTGOING:
                return frames
        elif sender[2] != socket.PACKET_OUTGOING:
            frames.append(data)


def _enter(name: str) -> None:
    descriptor = os.open(f"/run/netns/{name}", os.O_RDONLY)
    try:
        assert _libc.setns(descriptor, 0x40000000) == 0, os.strerror(ctypes.get_errno())
    finally:
        os.close(descriptor)


def _write(path: str, value: str) -> None:
    try:
        with open(f"/proc/sys/{path}", "w") as file:
            file.write(value)
    except FileNotFoundError:
        pass


# --- one case


_REFUSED = re.compile(r"(?:/dev/stdin:|[Ll]ine:? )(\d+)")
_COUNTER = re.compile(r"\bcounter packets (\d+)")


def counters() -> dict[tuple[str, str, str, str, int], int]:
    """Packets of every rule, asked of the tools: (backend, family, table, chain, handle or line) -> count."""
    found: dict[tuple[str, str, str, str, int], int] = {}
    text = subprocess.run(["nft", "-a", "list", "ruleset"], capture_output=True, text=True, check=True).stdout
    table, chain = ("", ""), ""
    for line in text.splitlines():
        words = line.split()
        if line.startswith("table "):
            table = (words[1], words[2])
        elif line.startswith("\tchain "):
            chain = words[1]
        elif line.startswith("\t\t") and " # handle " in line:
            body, _mark, handle = line.rpartition(" # handle ")
            hits = _COUNTER.findall(body)
            if hits:
                found["nft", table[0], table[1], chain, int(handle)] = int(hits[0])
    for family, word in (("ip", "ip"), ("ip6", "ip6")):
        try:
            with open(f"/proc/net/{word}_tables_names") as file:
                names = file.read().split()
        except OSError:
            names = []
        for name in names:
            saved = subprocess.run(
                [f"{word}tables-legacy-save", "-c", "-t", name], capture_output=True, text=True, check=True
            ).stdout
            lines: dict[str, int] = {}
            for one in saved.splitlines():
                hit = re.match(r"\[(\d+):\d+\] -A (\S+)", one)
                if hit:
                    lines[hit[2]] = lines.get(hit[2], 0) + 1
                    found["iptables-legacy", family, name, hit[2], lines[hit[2]]] = int(hit[1])
    return found


def place_of(rule: model.Rule) -> tuple[str, str, str, str, int]:
    if rule.backend == model.IPTABLES_LEGACY:
        return (rule.backend, rule.family, rule.table, rule.chain, rule.line)
    return ("nft", rule.family, rule.table, rule.chain, rule.handle or 0)


def as_packet(spec: dict[str, Any]) -> Packet:
    icmp = spec["proto"] in (ICMP, ICMPV6)
    kind = {ICMP: 8, ICMPV6: 128}.get(spec["proto"])
    flags = spec["flags"] if spec["proto"] == TCP else None
    return Packet(
        family=spec["family"],
        proto=spec["proto"],
        saddr=spec["saddr"] if spec["way"] == "in" else spec["from"] if spec["family"] == 6 else None,
        daddr=spec["daddr"],
        sport=None if icmp else spec["sport"],
        dport=None if icmp else spec["dport"],
        iif="ma" if spec["way"] == "in" else "",
        oif="" if spec["way"] == "in" else None,
        ct_state=first_state(spec["proto"], flags, kind),
        tcp_flags=flags,
        icmp_type=kind,
        icmp_code=0 if icmp else None,
        mark=spec["mark"],
        tos=spec["tos"],
        ttl=64,
        length=len(build(spec, 1, spec["saddr"] or spec["from"])),
        uid=0,
        gid=0,
        smac=_mac(_LEFT_MAC) if spec["way"] == "in" else None,
        dmac=_mac(_MA_MAC) if spec["way"] == "in" else None,
    )


def judge(spec: dict[str, Any], decision: walk.Decision, seen: dict[str, Any], hits: set[Any]) -> str:
    """ "agree", "unknown", or what is wrong."""
    arrived = next((place for place in ("local", "left", "right") if seen[place]), None)
    if decision.verdict == "unknown":
        return "unknown"
    if decision.verdict == "accept":
        if arrived is None:
            return f"walk accepts, the kernel does not: {seen}"
        end = decision.packet
        assert end is not None
        wanted = "local" if end.oif in ("", "lo") else {"ma": "left", "mb": "right"}.get(end.oif or "", arrived)
        if wanted != arrived:
            return f"walk sends it to {wanted}, it arrived at {arrived}"
        got = seen[arrived]
        for name in ("saddr", "daddr", "sport", "dport"):
            expected = getattr(end, name)
            if expected is not None and got[name] is not None and expected != got[name]:
                return f"{name} is {got[name]}, the walk says {expected}"
        return "agree"
    if arrived is not None:
        return f"walk says {decision.verdict}, it arrived at {arrived}"
    named = [decision.rule, *(one.rule for one in decision.possible if one.verdict == decision.verdict)]
    places = {place_of(one) for one in named if one is not None}
    policy = any(one.rule is None and one.hook is None for one in decision.possible if one.verdict == decision.verdict)
    if decision.rule is not None and not places & hits and not policy:
        return f"walk names {decision.rule.where()}, which the kernel did not reach"
    return "agree"


def case(seed: int, packets: int) -> list[dict[str, Any]]:
    """One random case; a list of {seed, packet, result, ...}; empty when a tool refused the rules."""
    made = Maker(seed).make(packets)
    return run_case(made.to_dict(), seed)


def run_case(made: dict[str, Any], seed: int = 0) -> list[dict[str, Any]]:
    net = Net()
    try:
        net.open()
        for name, value in made["sysctls"].items():
            _write(name.replace(".", "/"), value)
        for place, (argv, text) in enumerate(made["commands"]):
            refused, text = net.load(list(argv), text)
            made["commands"][place] = (argv, text)
            if refused:
                return [{"seed": seed, "result": "refused", "why": f"{argv}: {refused[:400]}"}]
        host = world.read(programs=False)
        walker = host.walker()
        results = []
        after = counters()
        for number, spec in enumerate(made["packets"]):
            net.fence()
            spec["from"] = spec["saddr"] or ("0.0.0.0" if spec["family"] == 4 else "fd78::2")
            decision = (walker.incoming if spec["way"] == "in" else walker.outgoing)(as_packet(spec))
            before = after
            seen = net.send(spec, 0x01000000 + seed % 4096 * 4096 + number)
            after = counters()
            hits = {place for place, count in after.items() if count > before.get(place, 0)}
            result = judge(spec, decision, seen, hits)
            entry = {"seed": seed, "packet": number, "verdict": decision.verdict, "result": result}
            if result != "agree":
                entry.update(spec=spec, path=decision.path, why=decision.why, seen=seen, hits=sorted(map(str, hits)),
                             gaps=[gap.to_dict() for gap in host.gaps])  # fmt: skip
            results.append(entry)
        return results
    finally:
        net.close()


def main(first: int, count: int, packets: int) -> None:
    home = os.open("/proc/self/ns/net", os.O_RDONLY)
    os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[0]})
    results = []
    try:
        for seed in range(first, first + count):
            results += case(seed, packets)
            _libc.setns(home, 0x40000000)
    finally:
        remove_ends()
    print(json.dumps(results))


if __name__ == "__main__":
    main(*(int(one) for one in sys.argv[1:4]))
