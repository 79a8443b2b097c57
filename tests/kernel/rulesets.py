# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Random packet filters of every back end, routes and packets, drawn from small pools so that rules and packets meet.

Seeds from WIDE on know more of the languages; below it a seed makes what it always made, because some are kept as regressions.

Every rule counts its packets: the kernel's own word on which rule decided. The same seed gives the same case.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

#: Where packets come from and go to; see differential.Net for the topology.
SADDR = {
    4: ("10.77.0.1", "10.77.0.5", "10.77.0.200", "10.91.2.3", "10.90.1.1", "192.0.2.7", "10.77.0.1", "10.77.0.5"),
    6: ("fd77::1", "fd77::5", "fd77::c8", "fd91::3", "fd90::1", "2001:db8::7", "fd77::1", "fd77::5"),
}
DADDR = {
    4: ("10.77.0.2", "10.77.0.2", "10.78.0.2", "10.78.0.1", "10.78.0.5", "10.90.3.3", "10.91.4.4", "10.92.0.1", "192.0.2.99"),
    6: ("fd77::2", "fd77::2", "fd78::2", "fd78::1", "fd78::5", "fd90::3", "fd91::4", "fd92::1", "2001:db8::99"),
}
PREFIXES = {
    4: ("10.77.0.0/24", "10.77.0.0/29", "10.78.0.0/24", "10.0.0.0/8", "192.0.2.0/24", "10.88.0.0/13", "10.77.0.128/25"),
    6: ("fd77::/64", "fd77::/125", "fd78::/64", "fd00::/8", "2001:db8::/32", "fd90::/15", "fd77::80/121"),
}
PORTS = (22, 53, 80, 443, 1678, 8080)
WIDE = 100_000
MARKS = (1, 2, 0x10, 0x33)
PROTOCOLS = {"tcp": 6, "udp": 17, "icmp": 1, "sctp": 132}


@dataclass
class Case:
    """commands: (argv, stdin) in order. sysctls: of the host. packets: what is sent."""

    commands: list[tuple[list[str], str]] = field(default_factory=list)
    sysctls: dict[str, str] = field(default_factory=dict)
    packets: list[dict[str, Any]] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        return {"commands": self.commands, "sysctls": self.sysctls, "packets": self.packets}


class Maker:
    """One random case."""

    def __init__(self, seed: int) -> None:
        self.r = random.Random(seed)
        self.case = Case()
        self.wide = seed >= WIDE

    def one(self, values: Any) -> Any:
        return self.r.choice(values)

    def chance(self, probability: float) -> bool:
        return self.r.random() < probability

    # --- nft

    def address(self, family: int, side: str) -> str:
        pool = SADDR[family] if side == "saddr" else DADDR[family]
        kind = self.r.random()
        if kind < 0.35:
            return str(self.one(pool))
        if kind < 0.6:
            return str(self.one(PREFIXES[family]))
        if kind < 0.8:
            return "{ " + ", ".join(dict.fromkeys(self.one(pool) for _ in range(self.r.randint(1, 4)))) + " }"
        low, high = ("10.77.0.1", "10.77.0.100") if family == 4 else ("fd77::1", "fd77::64")
        return f"{low}-{high}"

    def port(self) -> str:
        kind = self.r.random()
        if kind < 0.4:
            return str(self.one(PORTS))
        if kind < 0.7:
            return "{ " + ", ".join(str(one) for one in self.r.sample(PORTS, self.r.randint(1, 4))) + " }"
        low = self.r.randint(1, 2000)
        return f"{low}-{low + self.r.randint(1, 3000)}"

    def nft_rare(self, table: str, hook: str | None, family: int) -> str:
        """Matches that few rulesets have."""
        ip = "ip" if family == 4 else "ip6"
        pool = [
            "ip saddr & 255.255.255.0 == 10.77.0.0" if family == 4 else "ip6 saddr & ffff:ffff:ffff:ffff:: == fd77::",
            f"{ip} daddr . th dport {{ {self.one(DADDR[family])} . {self.one(PORTS)}, {self.one(DADDR[family])} . 1-2000 }}",
            f"{ip} saddr . {ip} daddr {{ {self.one(PREFIXES[family])} . {self.one(DADDR[family])} }}",
            f"counter {ip} saddr . tcp dport"
            f" vmap {{ {self.one(SADDR[family])} . {self.one(PORTS)} : {self.one(('accept', 'drop'))} }}",
            f"{ip} length {self.one(('< 41', '> 40', '1-60'))}" if family == 4 else "meta length 40-80",
            f"{ip} ecn {self.one(('not-ect', 'ce'))}",
            "meta protocol ip6" if family == 6 else "meta protocol ip",
            "tcp flags { syn, ack }",
            "tcp flags & (fin | syn | rst | ack) == syn",
            "tcp flags syn / syn,ack",
            "numgen random mod 2 0",
            "sctp dport 22-8080",
            "th dport { 53, 1678, 8080-9000 }",
            "meta l4proto . th dport { tcp . 1678, udp . 53 }",
            f"meta mark . {ip} saddr {{ 0 . {self.one(SADDR[family])} }}",
        ]  # fmt: skip
        if family == 6:
            pool += ["exthdr hbh exists", "exthdr frag missing", "ip6 nexthdr { tcp, udp }"]
        else:
            pool += ["ip protocol != tcp", "ip frag-off & 0x1fff == 0", "ip version 4"]
        if table != "netdev":
            pool += [
                f"ct state new {ip} saddr != {self.one(PREFIXES[family])}",
                "counter ct state vmap { established : accept, invalid : drop }",
                "ct original proto-dst 1678" if hook in ("input", "forward") else "ct l3proto ipv4",
                "ct direction reply",
                "ct status != confirmed",
                "ct protocol tcp",
            ]
            if hook == "postrouting":
                pool += ['oifname { "ma", "lo" }', "oif mb", "meta skuid 0", "meta skuid != 0"]
            if hook in ("prerouting", "input", "forward"):
                pool += [
                    f"ether saddr {self.one(('02:00:00:00:00:01', '02:00:00:00:00:02'))}",
                    "ether daddr != 02:00:00:00:00:11",
                    'iifname . meta l4proto { "ma" . tcp, "lo" . udp }',
                ]
            if hook in ("prerouting", "input"):
                pool += [
                    "fib saddr type local",
                    "fib saddr oif exists",
                    "fib saddr . iif oif != 0",
                    "fib daddr type { local, unicast }",
                ]
        return str(self.one(pool))

    def nft_rare_done(self, table: str, hook: str | None, family: int) -> str:
        """Statements that few rulesets have; the rule goes on behind them or ends."""
        ip = "ip" if family == 4 else "ip6"
        keys = self.r.sample(PORTS, 3)
        pool = [
            f"update @seen{family} {{ {ip} saddr }} counter",
            f"{ip} saddr @seen{family} counter",
            f"add @seen{family} {{ {ip} saddr }} counter accept",
            f"counter tcp dport vmap {{ {keys[0]} : accept, {keys[1]}-{keys[1] + 20} : drop, * : return }}",
            "counter udp dport vmap { 53 : accept, 80-1000 : drop, * : continue }",
            'counter log prefix "seen " accept',
            "counter quota over 1000 mbytes drop",
            "counter ct count over 100 drop" if table != "netdev" else "counter",
            f"counter numgen inc mod 2 vmap {{ 0 : accept, 1 : {self.one(('accept', 'drop'))} }}",
        ]
        if table != "netdev":
            marks = ", ".join(f"{key} : {self.one(MARKS)}" for key in keys)
            pool += [
                f"counter meta mark set tcp dport map {{ {marks} }}",
                "counter meta mark set tcp dport map @marks",
                f"counter meta mark set {ip} saddr map {{ {self.one(SADDR[family])} : 2 }} accept",
                "counter ct mark set meta mark",
                "counter ct mark set ct mark & 0xf0 | 0x2",
                f"counter {ip} dscp set {self.one(('cs1', 'ef'))}",
            ]
        return str(self.one(pool))

    def nft_match(self, table: str, hook: str | None) -> str:
        if self.wide and self.chance(0.2):
            return self.nft_rare(table, hook, self.one({"ip": (4,), "ip6": (6,)}.get(table, (4, 6))))
        families = {"ip": (4,), "ip6": (6,)}.get(table, (4, 6))
        family = self.one(families)
        ip = "ip" if family == 4 else "ip6"
        bang = "!= " if self.chance(0.15) else ""
        side = self.one(("saddr", "daddr"))
        kind = self.r.randint(0, 25)
        if kind < 5:
            return f"{ip} {side} {bang}{self.address(family, side)}"
        if kind < 9:
            return f"{self.one(('tcp', 'tcp', 'udp', 'th' if table == 'netdev' else 'tcp'))} dport {bang}{self.port()}"
        if kind == 9:
            return f"{ip} {side} {bang}@{self.one(('plain', 'inter'))}{family}"
        if kind == 10:
            return f"{ip} saddr . {self.one(('tcp', 'udp'))} dport {bang}@pair{family}"
        if kind == 11:
            return self.one(("tcp flags syn", "tcp flags & (syn | ack) == syn", "tcp flags ! ack", "tcp flags != syn"))
        if kind == 12:
            return self.one(("meta l4proto tcp", "meta l4proto { tcp, udp }", "meta l4proto != udp", "meta nfproto ipv4"))
        if kind == 13:
            return self.one(("icmp type echo-request", "icmpv6 type echo-request")) if table in ("inet", "netdev") else (
                "icmp type { echo-request, echo-reply }" if table == "ip" else "icmpv6 type echo-request"
            )  # fmt: skip
        if kind == 14:
            return self.one((f"meta mark {self.one(MARKS)}", "meta mark & 0x3 == 0x1", "meta mark != 0", "meta mark < 0x10"))
        if kind == 15:
            return self.one(('iifname "ma"', 'iifname != "ma"', 'iifname "m*"', "iif lo")) if hook != "output" else 'oifname "m*"'
        if kind in (16, 17) and table != "netdev":
            return self.one(
                ("ct state new", "ct state established,related", "ct state { new, established }", "ct state != new",
                 "ct state invalid", "ct direction original", "ct status dnat", "ct status ! dnat", "ct mark 0",
                 "ct mark & 1 == 1",
                 "ct state untracked")
            )  # fmt: skip
        if kind == 18 and table != "netdev" and hook in ("prerouting", "input", "forward"):
            return self.one(("fib daddr type local", "fib daddr type != local", "fib daddr . iif type local",
                             "fib saddr . iif oif missing" if hook != "forward" else "fib daddr type unicast"))  # fmt: skip
        if kind == 19:
            return f"{ip} {side} . meta l4proto {{ {self.one(SADDR[family] if side == 'saddr' else DADDR[family])} . tcp }}"
        if kind == 20:
            return f"tcp dport . {ip} {side} {{ {self.one(PORTS)} . {self.one(PREFIXES[family])} }}"
        if kind == 21 and table != "netdev":
            return (
                f"ct original {ip} daddr {self.one(DADDR[family])}"
                if hook not in ("prerouting", "output", None)
                else "meta pkttype host"
            )
        if kind == 22:
            return (
                f"{ip} dscp {bang}{self.one((0, 'cs1', 'ef'))}"
                if self.chance(0.5)
                else f"{ip} {'ttl' if ip == 'ip' else 'hoplimit'} > 10"
            )
        if kind == 23 and self.chance(0.3):
            return "limit rate 1/hour burst 1 packets"
        return f"udp dport {bang}{self.port()}"

    def nft_rule(self, table: str, hook: str | None, chains: list[str], nat: bool = False) -> str:
        matches = " ".join(self.nft_match(table, hook) for _ in range(self.r.choices((0, 1, 2, 3), (1, 6, 5, 2))[0]))
        kind = self.r.random()
        family = {"ip": 4, "ip6": 6}.get(table) or self.one((4, 6))
        if nat and kind < 0.55:
            return self.nft_nat(table, hook, family, matches)
        if self.wide and self.chance(0.12):
            return f"{matches} {self.nft_rare_done(table, hook, family)}"
        if kind < 0.08 and table != "netdev":
            done = self.one(
                (f"meta mark set {self.one(MARKS)}", "meta mark set meta mark or 0x10", "ct mark set 1", "meta mark set ct mark")
            )
            return f"{matches} counter {done}"
        if kind < 0.12 and hook in ("prerouting", "output") and table != "netdev":
            return f"{matches} counter meta mark set {self.one(MARKS)} {self.one(('', 'accept', 'return'))}"
        if kind < 0.18:
            keys = self.r.sample(PORTS, 3)
            verdicts = [self.one(("accept", "drop", "continue", *(f"jump {one}" for one in chains[-1:]))) for _ in keys]
            entries = ", ".join(f"{key} : {verdict}" for key, verdict in zip(keys, verdicts))
            where = self.one(("tcp", "udp"))
            return f"{matches} {where} dport {{ {', '.join(map(str, keys))} }} counter {where} dport vmap {{ {entries} }}"
        if kind < 0.21 and table != "netdev":
            return f"{matches} counter {'tcp' if self.chance(0.7) else 'udp'} dport vmap @ports"
        if kind < 0.24 and table in ("ip", "ip6", "inet"):
            saddr = f"{'ip' if family == 4 else 'ip6'} saddr"
            other = "172.16.0.0/12" if family == 4 else "fdff::/16"
            return f"{matches} {saddr} vmap {{ {self.one(SADDR[family])} : accept, {other} : drop }}"
        if chains and kind < 0.42:
            return f"{matches} counter {'goto' if self.chance(0.25) else 'jump'} {self.one(chains)}"
        verdicts = ["accept"] * 7 + ["drop"] * 3 + ["return"] + [""] * 3
        if hook in ("input", "forward", "output") and not nat and table != "netdev":
            verdicts += ["reject"] * 2
        return f"{matches} counter {self.one(verdicts)}"

    def nft_nat(self, table: str, hook: str | None, family: int, matches: str) -> str:
        name = "" if table in ("ip", "ip6") else " ip" if family == 4 else " ip6"
        ports = self.one(("tcp", "udp"))
        if self.wide and hook in ("prerouting", "output") and self.chance(0.4):
            one, two = self.r.sample(PORTS, 2)
            there = [self.one(DADDR[family][:6]) for _ in range(3)]
            shown = [f"{one} : {there[0]}", f"{two} : {there[1]}"]
            if self.chance(0.3):
                return f"{matches} counter dnat{name} to tcp dport map @goals{family}"
            if self.chance(0.4):
                shown = [f"{one} : {there[0]} . {self.one(PORTS)}", f"{two} : {there[1]} . {self.one(PORTS)}"]
            return f"{matches} counter dnat{name} to {ports} dport map {{ {', '.join(shown)} }}"
        if hook in ("prerouting", "output"):
            address = self.one(DADDR[family][:6])
            shown = address if family == 4 else f"[{address}]"
            kind = self.r.random()
            if kind < 0.35:
                return f"{matches} counter dnat{name} to {address}"
            if kind < 0.65:
                return f"meta l4proto {ports} {matches} counter dnat{name} to {shown}:{self.one(PORTS)}"
            return f"meta l4proto {ports} {matches} counter redirect to :{self.one(PORTS)}"
        if hook == "postrouting" and self.chance(0.5):
            return f"{matches} counter masquerade"
        address = "10.78.0.2" if family == 4 else "fd78::2"
        return f"{matches} counter snat{name} to {address}"

    def nft(self) -> None:
        lines: list[str] = []
        used: set[tuple[str, int]] = set()
        for number in range(self.r.randint(1, 3)):
            table = self.r.choices(("ip", "ip6", "inet", "netdev"), (3, 2, 5, 1))[0]
            lines.append(f"table {table} t{number} {{")
            lines += self.nft_sets()
            users = [f"u{one}" for one in range(self.r.randint(0, 3))] if table != "netdev" else []
            for place, name in enumerate(users):
                lines.append(f"chain {name} {{")
                lines += [self.nft_rule(table, None, users[:place]) for _ in range(self.r.randint(0, 4))]
                lines.append("}")
            if table == "netdev":
                lines.append('chain b0 { type filter hook ingress device "ma" priority 0; policy accept;')
                lines += [self.nft_rule(table, "ingress", users) for _ in range(self.r.randint(1, 3))]
                lines.append("}")
            else:
                for place in range(self.r.randint(1, 4)):
                    lines += self.nft_base(table, f"b{place}", users, used)
            lines.append("}")
        text = "\n".join(lines) + "\n"
        self.case.commands.append((["nft", "-f", "-"], text))

    def nft_sets(self) -> list[str]:
        lines = []
        for family, kind in ((4, "ipv4_addr"), (6, "ipv6_addr")):
            pool = [*SADDR[family], *DADDR[family]]
            some = ", ".join(dict.fromkeys(self.r.sample(pool, 4)))
            lines.append(f"set plain{family} {{ type {kind}; elements = {{ {some} }}; }}")
            nets = self.r.sample(PREFIXES[family][:1] + PREFIXES[family][2:3] + PREFIXES[family][4:5], 2)
            lines.append(f"set inter{family} {{ type {kind}; flags interval; elements = {{ {', '.join(nets)} }}; }}")
            pairs = ", ".join(dict.fromkeys(f"{self.one(SADDR[family])} . {self.one(PORTS)}" for _ in range(4)))
            lines.append(f"set pair{family} {{ type {kind} . inet_service; elements = {{ {pairs} }}; }}")
        entries = ", ".join(f"{port} : {self.one(('accept', 'drop', 'continue', 'return'))}" for port in self.r.sample(PORTS, 3))
        if self.wide:
            for family, kind in ((4, "ipv4_addr"), (6, "ipv6_addr")):
                lines.append(f"set seen{family} {{ type {kind}; flags dynamic; size 1000; }}")
                goals = ", ".join(f"{port} : {self.one(DADDR[family][:6])}" for port in self.r.sample(PORTS, 3))
                lines.append(f"map goals{family} {{ type inet_service : {kind}; elements = {{ {goals} }}; }}")
            marks = ", ".join(f"{port} : {self.one(MARKS)}" for port in self.r.sample(PORTS, 3))
            lines.append(f"map marks {{ type inet_service : mark; elements = {{ {marks} }}; }}")
        lines.append(f"map ports {{ type inet_service : verdict; elements = {{ {entries} }}; }}")
        return lines

    def nft_base(self, table: str, name: str, users: list[str], used: set[tuple[str, int]]) -> list[str]:
        hook = self.r.choices(("prerouting", "input", "forward", "output", "postrouting"), (4, 5, 4, 3, 2))[0]
        nat = hook != "forward" and self.chance(0.3)
        if nat:
            kind, priority = (
                "nat",
                {"prerouting": -100, "output": -100, "input": 100, "postrouting": 100}[hook] + self.r.randint(0, 5),
            )
        else:
            kind = "route" if hook == "output" and self.chance(0.5) else "filter"
            pool = (
                (-310, -250, -199, -160, -120, -60, -10, 5, 20, 70, 130)
                if hook in ("prerouting", "output")
                else (-170, -20, 5, 30, 60, 120)
            )
            priority = self.one(pool)
        if (hook, priority) in used:
            return []
        used.add((hook, priority))
        policy = "drop" if not nat and self.chance(0.2) else "accept"
        lines = [f"chain {name} {{ type {kind} hook {hook} priority {priority}; policy {policy};"]
        count = self.r.randint(1, 6)
        if hook in ("prerouting", "output") and priority < -200 and self.chance(0.3):
            lines.append(f"{self.nft_match(table, hook)} counter notrack")
        for _ in range(count):
            lines.append(self.nft_rule(table, hook, users, nat))
        if policy == "drop":
            lines.append(f"{self.nft_match(table, hook)} counter accept")
            lines.append(f"{self.nft_match(table, hook)} counter accept")
        return [*lines, "}"]

    # --- iptables

    def ipt_rare(self, family: int, chain: str, table: str) -> str:
        """Matches that few rulesets have."""
        bang = "! " if self.chance(0.3) else ""
        pool = [
            "-m ecn --ecn-ip-ect 0",
            f"-m tos {bang}--tos {self.one(('0x00', '0x20', '0x20/0xff'))}",
            f"-m dscp {bang}--dscp {self.one(('0x00', '0x08', '0x2e'))}",
            f"-p tcp -m tcp {bang}--sport 20000:20003",
            f"-p tcp -m tcp {bang}--tcp-flags FIN,SYN,RST,ACK SYN",
            "-m statistic --mode random --probability 0.5",
            "-m limit --limit 1/hour --limit-burst 1",
            "-m connmark ! --mark 0x1",
            "-m conntrack --ctdir ORIGINAL",
            f"-m conntrack {bang}--ctproto 6",
            f"-m conntrack {bang}--ctorigdst {self.one(DADDR[family])}",
            f"-m physdev {bang}--physdev-is-bridged",
        ]
        if chain in ("INPUT", "FORWARD", "PREROUTING"):
            pool += [f"-m mac {bang}--mac-source 02:00:00:00:00:01"]
        if table in ("raw", "mangle") and chain == "PREROUTING":
            pool += [f"-m rpfilter {self.one(('', '--loose', '--invert', '--validmark', '--loose --invert'))}".strip()] * 3
        if chain in ("OUTPUT", "POSTROUTING"):
            pool += [f"-m owner {bang}--uid-owner {self.one((0, 7))}", f"-m addrtype {bang}--src-type LOCAL"]
        if family == 6:
            pool += [f"-m {self.one(('hbh', 'frag', 'rt', 'dst'))}"]
        return str(self.one(pool))

    def ipt_match(self, family: int, chain: str, sets: list[tuple[str, str]], table: str = "") -> str:
        if self.wide and self.chance(0.2):
            return self.ipt_rare(family, chain, table)
        bang = "! " if self.chance(0.15) else ""
        kind = self.r.randint(0, 19)
        side = self.one("sd")
        pool = SADDR[family] if side == "s" else DADDR[family]
        if kind < 4:
            return f"{bang}-{side} {self.one((*pool, *PREFIXES[family]))}"
        if kind < 8:
            proto = self.one(("tcp", "tcp", "udp"))
            return f"-p {proto} -m {proto} {bang}--dport {self.one((*PORTS, '1:1000', '1024:65535'))}"
        if kind < 10:
            proto = self.one(("tcp", "udp"))
            ports = ",".join(str(one) for one in self.r.sample(PORTS, 3))
            return f"-p {proto} -m multiport {bang}--dports {ports},2000:3000"
        if kind == 10:
            return f"{bang}-p {self.one(('tcp', 'udp', 'icmp' if family == 4 else 'ipv6-icmp'))}"
        if kind == 11:
            states = self.one(("NEW", "ESTABLISHED,RELATED", "NEW,ESTABLISHED", "INVALID", "UNTRACKED", "DNAT"))
            return f"-m conntrack {bang}--ctstate {states}" if chain != "RAW" else ""
        if kind == 12:
            return f"-m mark {bang}--mark {self.one(('0x1', '0x1/0x3', '0x10/0x10', '0x0'))}"
        if kind == 13:
            return "-p icmp -m icmp --icmp-type 8" if family == 4 else "-p ipv6-icmp -m icmp6 --icmpv6-type 128"
        if kind == 14:
            return self.one(("-p tcp -m tcp --syn", "-p tcp -m tcp --tcp-flags SYN,ACK SYN", "-p tcp -m tcp ! --syn"))
        if kind == 15 and chain != "OUTPUT":
            return (
                f"{bang}-i {self.one(('ma', 'm+', 'mb', 'lo'))}"
                if chain != "POSTROUTING"
                else f"{bang}-o {self.one(('ma', 'mb', 'm+'))}"
            )
        if kind == 16:
            return f"-m addrtype {bang}--dst-type LOCAL"
        if kind == 17:
            low, high = ("10.77.0.1", "10.77.0.100") if family == 4 else ("fd77::1", "fd77::64")
            return f"-m iprange {bang}--src-range {low}-{high}"
        if kind == 18:
            return self.one(
                (
                    "-m length --length 0:100",
                    f"-m {'ttl --ttl-gt' if family == 4 else 'hl --hl-gt'} 10",
                    "-m pkttype --pkt-type unicast",
                )
            )
        if sets:
            name, sides = self.one(sets)
            return f"-m set {bang}--match-set {name} {sides}"
        return ""

    def iptables(self, variant: str, family: int) -> None:
        sets = self.ipsets(family) if self.chance(0.6) else []
        lines: list[str] = []
        for table in self.r.sample(("filter", "mangle", "raw", "nat"), self.r.randint(1, 3)):
            chains = {
                "filter": ("INPUT", "FORWARD", "OUTPUT"), "mangle": ("PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"),
                "raw": ("PREROUTING", "OUTPUT"), "nat": ("PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"),
            }[table]  # fmt: skip
            users = [f"U{one}" for one in range(self.r.randint(0, 2))]
            lines.append(f"*{table}")
            for name in chains:
                policy = "DROP" if table == "filter" and self.chance(0.2) else "ACCEPT"
                lines.append(f":{name} {policy} [0:0]")
            lines += [f":{name} - [0:0]" for name in users]
            for place, name in enumerate(users):
                for _ in range(self.r.randint(1, 3)):
                    lines.append(self.ipt_rule(table, name, family, users[:place], sets))
            for name in chains:
                for _ in range(self.r.randint(0, 4)):
                    lines.append(self.ipt_rule(table, name, family, users, sets))
            lines.append("COMMIT")
        six = "6" if family == 6 else ""
        self.case.commands.append(([f"ip{six}tables-{variant}-restore"], "\n".join(lines) + "\n"))

    def ipt_rule(self, table: str, chain: str, family: int, users: list[str], sets: list[tuple[str, str]]) -> str:
        place = "RAW" if table == "raw" else chain if chain[0] != "U" else "OUTPUT"
        matches = [
            self.ipt_match(family, chain if self.wide and place == "RAW" else place, sets, table)
            for _ in range(self.r.choices((0, 1, 2), (1, 6, 3))[0])
        ]
        protocols = [one for one in matches if one.startswith(("-p ", "! -p "))]
        matches = [one for one in matches if one and one not in protocols[1:]]
        if chain[0] == "U":
            hooked = ("addrtype", "-m owner", "-m mac", "-m rpfilter")  # fit for some hooks only
            matches = [one for one in matches if " -i " not in f" {one}" and not any(word in one for word in hooked)]
        target = self.ipt_target(table, chain, family, users, protocols[0] if protocols else "")
        return f"-A {chain} {' '.join(dict.fromkeys(matches))} {target}".replace("  ", " ")

    def ipt_target(self, table: str, chain: str, family: int, users: list[str], protocol: str) -> str:
        if users and self.chance(0.2):
            return f"{'-g' if self.chance(0.25) else '-j'} {self.one(users)}"
        if self.wide and table == "mangle" and self.chance(0.15):
            return self.one(("-j LOG", "-j DSCP --set-dscp 0x08", f"-j {'TTL --ttl-set' if family == 4 else 'HL --hl-set'} 33"))
        if self.wide and table == "nat" and chain in ("PREROUTING", "OUTPUT", "POSTROUTING") and self.chance(0.2):
            return f"-j NETMAP --to {'10.78.0.0/29' if family == 4 else 'fd78::/125'}"
        if table == "nat":
            ported = protocol.startswith(("-p tcp", "-p udp"))
            if chain in ("PREROUTING", "OUTPUT") and self.chance(0.6):
                if ported and self.chance(0.4):
                    return f"-j REDIRECT --to-ports {self.one(PORTS)}"
                address = self.one(DADDR[family][:6])
                shown = address if family == 4 else f"[{address}]"
                return (
                    f"-j DNAT --to-destination {shown}:{self.one(PORTS)}"
                    if ported and self.chance(0.5)
                    else f"-j DNAT --to-destination {address}"
                )
            if chain == "POSTROUTING" and self.chance(0.6):
                return self.one(("-j MASQUERADE", f"-j SNAT --to-source {'10.78.0.2' if family == 4 else 'fd78::2'}"))
            return f"-j {self.one(('ACCEPT', 'RETURN'))}"
        if table == "mangle" and self.chance(0.5):
            return self.one(("-j MARK --set-xmark 0x1/0xffffffff", "-j MARK --set-xmark 0x10/0x10",
                             "-j CONNMARK --set-xmark 0x1/0xffffffff",
                             "-j CONNMARK --restore-mark", "-j MARK --set-xmark 0x2/0x2"))  # fmt: skip
        if table == "raw" and self.chance(0.3):
            return "-j CT --notrack"
        targets = ["ACCEPT"] * 5 + ["DROP"] * 3 + ["RETURN"]
        if table == "filter" and chain[0] != "U":
            targets += ["REJECT"] * 2
        return f"-j {self.one(targets)}"

    def ipsets(self, family: int) -> list[tuple[str, str]]:
        """Sets of most kinds; returns (name, flags) a rule may use."""
        word, tag = ("inet", "f") if family == 4 else ("inet6", "s")
        lines, found = [], []

        def make(name: str, kind: str, entries: list[str], flags: tuple[str, ...]) -> None:
            where = f" family {word}" if kind.startswith("hash:") else ""
            lines.append(f"create {tag}{name} {kind}{where}")
            lines.extend(f"add -exist {tag}{name} {one}" for one in entries)
            found.extend((f"{tag}{name}", one) for one in flags)

        some = [self.one(SADDR[family]) for _ in range(3)] + [self.one(DADDR[family])]
        make("ip", "hash:ip", some, ("src", "dst"))
        wide = "10.0.0.0/8" if family == 4 else "fd00::/8"
        nets = [wide] + [f"{one}{self.one(('', ' nomatch'))}" for one in self.r.sample(PREFIXES[family][:3], 2)]
        make("net", "hash:net", nets, ("src", "dst"))
        ports = [f"{self.one(SADDR[family])},{self.one(('tcp', 'udp'))}:{self.one(PORTS)}" for _ in range(5)]
        make("ipp", "hash:ip,port", ports, ("src,dst",))
        netports = [f"{one},{self.one(('tcp', 'udp'))}:{self.one(PORTS)}" for one in self.r.sample(PREFIXES[family], 4)]
        make("netp", "hash:net,port", netports + [f"{PREFIXES[family][1]},tcp:{self.one(PORTS)} nomatch"], ("src,dst",))
        make("netif", "hash:net,iface", [f"{one},ma" for one in self.r.sample(PREFIXES[family], 3)], ("src,src",))
        trio = [f"{self.one(SADDR[family])},tcp:{self.one(PORTS)},{self.one(DADDR[family])}" for _ in range(6)]
        make("ipi", "hash:ip,port,ip", trio, ("src,dst,dst",))
        trio = [f"{self.one(SADDR[family])},udp:{self.one(PORTS)},{self.one(PREFIXES[family])}" for _ in range(6)]
        make("ipn", "hash:ip,port,net", trio, ("src,dst,dst",))
        make("nn", "hash:net,net", [f"{self.one(PREFIXES[family])},{self.one(PREFIXES[family])}" for _ in range(4)], ("src,dst",))
        if family == 4:
            lines.append(f"create {tag}bp bitmap:port range 0-9000")
            lines.extend(f"add -exist {tag}bp {one}" for one in self.r.sample(PORTS, 3))
            found.append((f"{tag}bp", "dst"))
            lines.append(f"create {tag}bi bitmap:ip range 10.77.0.0/24")
            lines.extend(f"add -exist {tag}bi 10.77.0.{one}" for one in (1, 5))
            found.append((f"{tag}bi", "src"))
            lines.append(f"create {tag}mask hash:ip netmask 29")
            lines.append(f"add -exist {tag}mask 10.77.0.1")
            found.append((f"{tag}mask", "src"))
        if self.wide:
            echo = f"{'icmp' if family == 4 else 'icmpv6'}:{self.one(('echo-request', 'echo-reply'))}"
            make("ipc", "hash:ip,port", [f"{self.one(SADDR[family])},{echo}", *ports[:2]], ("src,dst", "src,src"))
            lines.append(f"create {tag}old hash:ip family {word} timeout 600 counters comment")
            lines.extend(f"add -exist {tag}old {self.one(SADDR[family])} comment nomatch" for _ in range(2))
            found.append((f"{tag}old", "src"))
        lines.append(f"create {tag}list list:set")
        lines.extend(f"add {tag}list {tag}{one}" for one in self.r.sample(("ip", "net", "ipp", "netif"), 2))
        found += [(f"{tag}list", "src"), (f"{tag}list", "src,dst")]
        self.case.commands.append((["ipset", "-exist", "restore"], "\n".join(lines) + "\n"))
        return found

    # --- routes and packets

    def routes(self) -> None:
        if self.chance(0.3):
            # fmt: off
            self.case.sysctls["net.ipv4.conf.all.rp_filter"] = self.one(("0", "1", "2"))
            self.case.sysctls["net.ipv4.conf.ma.rp_filter"] = self.one(("0", "1", "2"))
            # fmt: on
        if self.chance(0.1):
            self.case.sysctls["net.ipv4.conf.ma.forwarding"] = "0"
        for family, wide in ((4, "10.92.0.0/16"), (6, "fd92::/16")):
            ip = ["ip", f"-{family}"]
            if self.chance(0.4):
                kind = self.one(("blackhole", "unreachable", "prohibit"))
                self.case.commands.append(([*ip, "route", "add", kind, wide], ""))
            if self.chance(0.3):
                mark = self.one(MARKS)
                self.case.commands.append(([*ip, "rule", "add", "pref", "100", "fwmark", f"{mark}/0xff", "lookup", "100"], ""))
                kind = self.r.random()
                default = "0.0.0.0/0" if family == 4 else "::/0"
                if kind < 0.3:
                    self.case.commands.append(([*ip, "route", "add", "unreachable", default, "table", "100"], ""))
                else:
                    via = "10.77.0.1" if family == 4 else "fd77::1"
                    self.case.commands.append(([*ip, "route", "add", default, "via", via, "dev", "ma", "table", "100"], ""))
            if self.chance(0.15):
                source = self.one(PREFIXES[family])
                self.case.commands.append(
                    ([*ip, "rule", "add", "pref", "90", "from", source, self.one(("prohibit", "blackhole"))], "")
                )

    def packet(self, number: int) -> dict[str, Any]:
        family = self.r.choices((4, 6), (3, 2))[0]
        proto = self.r.choices(("tcp", "udp", "icmp", "sctp"), (10, 6, 3, 1))[0]
        way = self.r.choices(("in", "out"), (4, 1))[0]
        flags = self.r.choices((0x02, 0x10, 0x12, 0x04), (12, 2, 1, 1))[0]
        found: dict[str, Any] = {
            "way": way, "family": family, "proto": PROTOCOLS[proto] if not (proto == "icmp" and family == 6) else 58,
            "saddr": self.one(SADDR[family]), "daddr": self.one(DADDR[family]), "dport": self.one((*PORTS, 2500)),
            "sport": 20000 + number, "flags": flags, "mark": self.one((0, 0, 1, 16)) if way == "out" else 0,
            "tos": self.one((0, 0, 0, 0x20, 0xB8)),
        }  # fmt: skip
        if way == "out":
            found.update(saddr=None, flags=2, tos=0)
            if proto == "sctp":
                found["proto"] = 17
        return found

    def make(self, packets: int) -> Case:
        self.routes()
        backends = self.r.choices(
            (("nft",), ("legacy",), ("nftvariant",), ("nft", "legacy"), ("nft", "nftvariant"), ("nft", "legacy", "nftvariant")),
            (10, 3, 3, 3, 3, 2),
        )[0]
        if "legacy" in backends:
            for family in self.r.sample((4, 6), self.r.randint(1, 2)):
                self.iptables("legacy", family)
        if "nftvariant" in backends and "legacy" not in backends:
            for family in self.r.sample((4, 6), self.r.randint(1, 2)):
                self.iptables("nft", family)
        if "nft" in backends:
            self.nft()
        self.case.packets = [self.packet(number) for number in range(packets)]
        return self.case
