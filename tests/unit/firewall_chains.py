# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Chains for tests of fold and certificate: rules as the readers make them, random ones, and a judge that is neither of the two.

The judge follows a list of rules for one packet with the matching of packet_verdict, which the kernel has been compared with.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import Any

from ansible_collections.netops.fleet.plugins.module_utils._firewall import consolidate, iptables, matching, nft_text
from ansible_collections.netops.fleet.plugins.module_utils._firewall.fold import Folded
from ansible_collections.netops.fleet.plugins.module_utils._firewall.model import Action, Match, Rule, Set, Unknown, VerdictMap
from ansible_collections.netops.fleet.plugins.module_utils._firewall.packet import Packet

CHAINS = frozenset({"INPUT", "quiet", "loud"})


def nft(texts: Iterable[str], family: str = "inet", chain: str = "input") -> list[Rule]:
    rules = []
    for line, text in enumerate(texts, 1):
        read = nft_text.read_rule(text, family)
        assert read.odd is None, (text, read.odd)
        rules.append(Rule("nft", family, "filter", chain, line, text, read.parts, read.verdict, line, read.packets, read.bytes))
        rules[-1].comment = read.comment
    return rules


def iptables_rules(texts: Iterable[str], family: str = "ip", types: dict[str, str] | None = None) -> list[Rule]:
    saved = iptables.parse_save(
        "*filter\n:INPUT ACCEPT [0:0]\n:quiet - [0:0]\n:loud - [0:0]\n"
        + "".join(f"[1:60] -A INPUT {text}\n" for text in texts)
        + "COMMIT\n",
        "iptables-nft",
        family,
        types,
    )
    assert not saved.odd
    return saved.rules


def after(rules: list[Rule], folded: Folded) -> tuple[list[Rule], list[Set]]:
    """What fold made, read again."""
    sets = [consolidate.model_set(made, rules[0]) for made in folded.sets]
    return consolidate.read_after(rules, folded.after, sets, CHAINS), sets


def trace(rules: list[Rule], sets: list[Set], packet: Packet) -> list[str]:
    """What happens to a packet: effects in order, then the end."""
    known = matching.Sets(sets)
    found: list[str] = []
    for rule in rules:
        acts: list[str] = []
        for part in rule.parts:
            if isinstance(part, Match):
                answer = matching.matches(part, rule, packet, known)
                if answer is False:
                    break
                if answer is None:
                    acts.append(f"maybe {part.to_dict()}")
            elif isinstance(part, Action):
                acts.append(f"{part.name} {part.args}")
            elif isinstance(part, (Unknown, VerdictMap)):
                acts.append(str(part.to_dict()))
        else:
            found += acts
            if rule.verdict is not None and rule.verdict.kind != "continue":
                found.append(f"{rule.verdict.kind} {rule.verdict.target} {rule.verdict.detail}")
                if rule.verdict.kind in ("accept", "drop", "reject", "return", "goto") and not any(
                    one.startswith(("maybe", "{")) for one in acts
                ):
                    return found
    return found


# --- random chains, from small pools so that rules meet

ADDRESSES = {
    4: ["10.0.0.1", "10.0.0.2", "10.0.0.9", "10.0.1.1", "10.0.1.2", "10.0.2.5", "192.0.2.1", "192.0.2.77", "198.51.100.4"],
    6: ["fd00::1", "fd00::2", "fd00::9", "fd00:0:0:1::1", "fd00:0:0:1::2", "2001:db8::5", "2001:db8::77", "fe80::1", "fd01::1"],
}
NETS = {
    4: ["10.0.0.0/24", "10.0.0.0/16", "10.0.1.0/24", "192.0.2.0/24", "10.0.0.0/30", "198.51.100.0/24"],
    6: ["fd00::/64", "fd00::/16", "fd00:0:0:1::/64", "2001:db8::/32", "fd00::/126", "fe80::/10"],
}
PORTS = [22, 80, 443, 53, 1678]
LINKS = ["eth0", "eth1", "lo"]
STATES = ["new", "established", "related", "invalid"]


class Maker:
    def __init__(self, seed: int) -> None:
        self.r = random.Random(seed)

    def net(self, family: int) -> str:
        return str(self.r.choice(ADDRESSES[family] if self.r.random() < 0.65 else NETS[family]))

    def nft_rule(self, families: tuple[int, ...]) -> str:
        r, family = self.r, self.r.choice(families)
        ip = "ip" if family == 4 else "ip6"
        words: list[str] = []
        if r.random() < 0.15:
            words.append(f'iifname "{r.choice(LINKS)}"')
        if r.random() < 0.7:
            bang = "!= " if r.random() < 0.08 else ""
            value = self.net(family) if r.random() < 0.9 else "{ " + ", ".join(r.sample(ADDRESSES[family], 2)) + " }"
            words.append(f"{ip} {r.choice(('saddr', 'saddr', 'saddr', 'daddr'))} {bang}{value}")
        if r.random() < 0.6:
            port = r.choice((*PORTS, "1000-2000", "20-80"))
            words.append(f"{r.choice(('tcp', 'tcp', 'tcp', 'udp'))} dport {'!= ' if r.random() < 0.05 else ''}{port}")
        if r.random() < 0.06:
            words.append(r.choice(("tcp flags syn", "tcp flags & (syn | ack) == syn", "meta mark & 0x3 == 0x1", "ip ttl > 10"))
                         if family == 4 else "meta l4proto udp")  # fmt: skip
        if r.random() < 0.1:
            words.append(f"ct state {r.choice(STATES)}")
        if r.random() < 0.5:
            words.append("counter packets 3 bytes 180")
        kind = r.random()
        if kind < 0.03:
            words.append(r.choice(('log prefix "x: "', "limit rate 5/second", "meta mark set 0x1", "jump quiet", "jump loud")))
            if "jump" in words[-1] or r.random() < 0.5:
                return " ".join(words)
        words.append(r.choice(("accept", "accept", "drop", "drop", "drop", "return", "reject with tcp reset"))
                     if kind > 0.05 else "reject")  # fmt: skip
        if words[-1].startswith("reject with tcp") and not any(word.startswith("tcp ") for word in words):
            words[-1] = "drop"
        return " ".join(words)

    def iptables_rule(self, family: int) -> str:
        r = self.r
        words: list[str] = []
        bang = "! " if r.random() < 0.08 else ""
        if r.random() < 0.7:
            value = self.net(family)
            if "/" not in value:
                value += "/32" if family == 4 else "/128"
            words.append(f"{bang}{r.choice(('-s', '-s', '-s', '-d'))} {value}")
        if r.random() < 0.15:
            words.append(f"-i {r.choice(LINKS)}")
        if r.random() < 0.6:
            proto = r.choice(("tcp", "tcp", "tcp", "udp"))
            bang, port = "! " if r.random() < 0.06 else "", r.choice((*PORTS, "1000:2000", "20:80"))
            words.append(f"-p {proto} -m {proto} {bang}--dport {port}")
            if proto == "tcp" and r.random() < 0.08:
                words.append("--tcp-flags SYN,ACK SYN")
        if r.random() < 0.1:
            words.append(f"-m conntrack --ctstate {r.choice(STATES).upper()}")
        if r.random() < 0.2:
            words.append('-m comment --comment "ticket 4"')
        kind = r.random()
        if kind < 0.04:
            words.append(r.choice(('-m limit --limit 5/sec -j ACCEPT', '-j LOG --log-prefix "x: "', "-j MARK --set-xmark 0x1/0x1",
                                   "-j quiet", "-j loud", "-g quiet")))  # fmt: skip
        else:
            answer = f"-j REJECT --reject-with {'icmp' if family == 4 else 'icmp6'}-port-unreachable"
            words.append(r.choice(("-j ACCEPT", "-j ACCEPT", "-j DROP", "-j DROP", "-j DROP", "-j RETURN", answer)))
        return " ".join(words)

    def chain(self, count: int) -> list[Rule]:
        """A chain with whole runs of one shape, as admins and scripts leave them, between random rules."""
        kind = self.r.choice(("inet", "inet", "ip", "ip6", "iptables4", "iptables6"))
        native = not kind.startswith("iptables")
        families = {"inet": (4, 6), "ip": (4,), "ip6": (6,)}.get(kind, (4,) if kind[-1:] == "4" else (6,))
        texts: list[str] = []
        while len(texts) < count:
            texts.append(self.nft_rule(families) if native else self.iptables_rule(families[0]))
            if self.r.random() < 0.35:
                texts += self.run_of(texts[-1], families)
        texts = texts[:count]
        if native:
            return nft(texts, kind)
        return iptables_rules(texts, "ip" if kind[-1] == "4" else "ip6")

    def run_of(self, text: str, families: tuple[int, ...]) -> list[str]:
        """The same rule for other addresses or ports."""
        found = []
        words = text.split(" ")
        for _ in range(self.r.randint(2, 8)):
            copy = list(words)
            for at, word in enumerate(copy):
                family = 6 if ":" in word else 4
                if word.partition("/")[0] in (*ADDRESSES[family], *(one.partition("/")[0] for one in NETS[family])):
                    value = self.net(family if family in families else families[0])
                    if "/" in word and "/" not in value:
                        value += "/32" if family == 4 else "/128"
                    copy[at] = value
                elif copy[at - 1] in ("dport", "--dport") and word != "!=" and self.r.random() < 0.3:
                    copy[at] = str(self.r.choice(PORTS))
            found.append(" ".join(copy))
        return found

    def packet(self, rules: list[Rule]) -> Packet:
        r = self.r
        family = {"ip": 4, "ip6": 6}.get(rules[0].family) or r.choice((4, 6))
        near = [*ADDRESSES[family], "10.0.0.3" if family == 4 else "fd00::3", "203.0.113.9" if family == 4 else "2001::9"]
        proto = r.choice((6, 6, 6, 17, 1 if family == 4 else 58))
        return Packet(
            family=family, proto=proto, saddr=r.choice(near), daddr=r.choice(near),
            sport=r.choice((*PORTS, 40000)) if proto in (6, 17) else None,
            dport=r.choice((*PORTS, 79, 1500, 2001)) if proto in (6, 17) else None,
            iif=r.choice(LINKS), oif="", ct_state=r.choice(STATES), tcp_flags=r.choice((2, 16, 18)),
            mark=r.choice((0, 1)), ttl=64,
        )  # fmt: skip


def packet_of(witness: dict[str, Any], family: str) -> Packet | None:
    """The packet that a certificate names; None when it is none that can be sent."""
    number = {"ip": 4, "ip6": 6}.get(family) or witness.get("family", 4)
    proto = witness.get("protocol", 6)
    if number not in (4, 6) or proto == "none" or any(isinstance(value, bool) for value in witness.values()):
        return None
    word = "ip" if number == 4 else "ip6"
    ports = {side: witness.get(f"th {side}", 40000) for side in ("sport", "dport")}
    known = proto in (6, 17)
    return Packet(
        family=number, proto=proto, saddr=witness.get(f"{word} saddr", ADDRESSES[number][0]),
        daddr=witness.get(f"{word} daddr", ADDRESSES[number][0]), iif=witness.get("meta iifname", "eth9"), oif="",
        sport=(None if ports["sport"] == "none" else ports["sport"]) if known else None,
        dport=(None if ports["dport"] == "none" else ports["dport"]) if known else None,
        ct_state=witness.get("ct state", "new"), ttl=64,
    )  # fmt: skip
