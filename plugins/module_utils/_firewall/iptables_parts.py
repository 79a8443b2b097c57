# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""One rule of iptables-save as parts of the model: matches and targets in nft's words where their meaning is certain.

Sources: iptables-extensions(8), net/netfilter/xt_*.c. A match that depends on more than the packet (limit, recent, hashlimit,
statistic, string, bpf, u32, time, quota, connlimit ...) is an Unknown; so is every match this page does not list.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from typing import Any, Callable

from ansible_collections.netops.fleet.plugins.module_utils._firewall import symbols
from ansible_collections.netops.fleet.plugins.module_utils._firewall.model import Action, Match, Part, Unknown, Verdict
from ansible_collections.netops.fleet.plugins.module_utils._firewall.nft_text import NOT_STATIC, Parsed
from ansible_collections.netops.fleet.plugins.module_utils._firewall.symbols import OddError

#: One option of a match: negated, its name, its values.
Option = tuple[bool, str, "list[str]"]

_FULL = 0xFFFFFFFF
_NOT_STATIC = frozenset(
    {"limit", "hashlimit", "recent", "statistic", "string", "bpf", "u32", "time", "quota", "connlimit", "connbytes", "cluster"}
    | {"rateest", "nfacct", "condition", "random", "account", "quota2", "geoip", "asn"}
)
#: Matches that are known and not followed.
_NOT_FOLLOWED = {
    "connlabel": "labels of a connection are not read",
    "eui64": "not followed",
    "ipv6header": "not followed",
    "ipvs": "depends on virtual services",
    "osf": "depends on fingerprints",
    "policy": "IPsec policies are not followed",
    "socket": "depends on the sockets of the host",
}
_REJECTS = {
    "icmp-net-unreachable": "icmp net-unreachable",
    "icmp-host-unreachable": "icmp host-unreachable",
    "icmp-proto-unreachable": "icmp prot-unreachable",
    "icmp-port-unreachable": "icmp port-unreachable",
    "icmp-net-prohibited": "icmp net-prohibited",
    "icmp-host-prohibited": "icmp host-prohibited",
    "icmp-admin-prohibited": "icmp admin-prohibited",
    "icmp6-no-route": "icmpv6 no-route",
    "icmp6-adm-prohibited": "icmpv6 admin-prohibited",
    "icmp6-addr-unreachable": "icmpv6 addr-unreachable",
    "icmp6-port-unreachable": "icmpv6 port-unreachable",
    "icmp6-policy-fail": "icmpv6 policy-fail",
    "icmp6-reject-route": "icmpv6 reject-route",
    "tcp-reset": "tcp reset",
}
#: What each dimension of an ipset type looks at; {} is the side (s or d) that the rule's flag names.
_SET_FIELDS = {
    "ip": ("{ip} {side}addr",),
    "net": ("{ip} {side}addr",),
    "port": ("meta l4proto", "th {side}port"),
    "iface": ("meta {direction}ifname",),
    "mac": ("ether {side}addr",),
    "mark": ("meta mark",),
}


def basic(negated: bool, option: str, value: str, family: str) -> Part | None:
    """``-s -d -i -o -p``; None for a condition that always holds. Raises OddError."""
    form = "not in" if negated else "in"
    ip = "ip6" if family == "ip6" else "ip"
    if option in ("-s", "-d"):
        return _address(f"{ip} {'saddr' if option == '-s' else 'daddr'}", form, value)
    if option in ("-i", "-o"):
        if value == "+" and not negated:
            return None
        name = value[:-1] + "*" if value.endswith("+") else value
        return Match("meta iifname" if option == "-i" else "meta oifname", form, [name])
    if option == "-p":
        if value == "all" or value == "0":
            if negated:
                raise OddError("no protocol at all")
            return None
        return Match("meta l4proto", form, [symbols.protocol(value)])
    raise OddError(option)


def _address(left: str, form: str, value: str) -> Part | None:
    address, slash, tail = value.partition("/")
    width = 128 if ":" in address else 32
    if not slash:
        return Match(left, form, [symbols.scalar("addr", address)])
    if not tail.isdigit():
        mask = symbols.address(tail)
        return Match(left, form, [symbols.scalar("addr", address)], None, mask)
    length = int(tail)
    if length == width:
        return Match(left, form, [symbols.scalar("addr", address)])
    if length == 0 and form == "in":
        return None
    return Match(left, form, [["prefix", symbols.scalar("addr", address), length]])


def match(module: str, options: list[Option], text: str, family: str, sets: dict[str, str], parsed: Parsed) -> None:
    """Add the parts of one ``-m MODULE ...``. sets: type of each known ipset, by name. Never raises."""
    reader = _MATCHES.get(module)
    if reader is None:
        why = NOT_STATIC if module in _NOT_STATIC else _NOT_FOLLOWED.get(module, "match not understood")
        parsed.parts.append(Unknown(text, why))
        return
    try:
        parts = reader(module, options, family, sets, parsed)
    except (OddError, IndexError, ValueError) as error:
        parsed.parts.append(Unknown(text, str(error) or "not understood"))
        return
    parsed.parts.extend(parts)


def _form(negated: bool) -> str:
    return "not in" if negated else "in"


def _range(text: str) -> Any:
    """``5``, ``5:9``, ``5:``, ``:9`` as an element of 16 bits."""
    low, colon, high = text.partition(":")
    if not colon:
        return symbols.integer(low)
    return ["range", symbols.integer(low) if low else 0, symbols.integer(high) if high else 65535]


def _ports(module: str, options: list[Option], _family: str, _sets: dict[str, str], _parsed: Parsed) -> list[Part]:
    parts: list[Part] = []
    for negated, option, values in options:
        if option in ("--sport", "--dport", "--source-port", "--destination-port"):
            end = "sport" if option in ("--sport", "--source-port") else "dport"
            parts.append(Match(f"{module} {end}", _form(negated), [_range(values[0])]))
        elif module == "tcp" and option == "--tcp-flags":
            mask, wanted = (_flags(one) for one in values[:2])
            parts.append(Match("tcp flags", _form(negated), [wanted], None, mask))
        elif module == "tcp" and option == "--syn":
            parts.append(Match("tcp flags", _form(negated), [2], None, 0x17))
        else:
            parts.append(Unknown(" ".join([f"-m {module}", *(["!"] if negated else []), option, *values]), "not followed"))
    return parts


def _flags(text: str) -> int:
    if text == "ALL":
        return 0x3F
    if text == "NONE":
        return 0
    value = 0
    for name in text.split(","):
        value |= symbols.integer(symbols.scalar("tcpflags", name.lower()))
    return value


def _multiport(_module: str, options: list[Option], _family: str, _sets: dict[str, str], _parsed: Parsed) -> list[Part]:
    parts: list[Part] = []
    for negated, option, values in options:
        if option not in _MULTIPORT:
            raise OddError(f"{option} is not understood")
        left = _MULTIPORT[option]
        form = _form(negated) if left != _EITHER_PORT else "not any in" if negated else "any in"
        parts.append(Match(left, form, [_range(one) for one in values[0].split(",")]))
    return parts


_EITHER_PORT = "th sport . th dport"
_MULTIPORT = {
    **dict.fromkeys(("--sports", "--source-ports"), "th sport"),
    **dict.fromkeys(("--dports", "--destination-ports"), "th dport"),
    "--ports": _EITHER_PORT,
}


def _icmp(module: str, options: list[Option], _family: str, _sets: dict[str, str], _parsed: Parsed) -> list[Part]:
    name = "icmp" if module == "icmp" else "icmpv6"
    parts: list[Part] = []
    for negated, option, values in options:
        if option not in ("--icmp-type", "--icmpv6-type"):
            raise OddError(f"{option} is not understood")
        kind, slash, code = values[0].partition("/")
        if kind in ("any", "255"):
            if negated or name == "icmpv6":
                raise OddError("no type at all")
            continue
        number = symbols.scalar(name, kind)
        if slash:
            parts.append(Match(f"{name} type . {name} code", _form(negated), [["concat", number, _dashed(code)]]))
        else:
            parts.append(Match(f"{name} type", _form(negated), [number]))
    return parts


def _dashed(text: str) -> Any:
    """``5`` or ``5-9`` or ``5:9``."""
    low, dash, high = text.replace(":", "-").partition("-")
    return ["range", symbols.integer(low), symbols.integer(high)] if dash else symbols.integer(low)


def _conntrack(_module: str, options: list[Option], _family: str, _sets: dict[str, str], _parsed: Parsed) -> list[Part]:
    parts: list[Part] = []
    for negated, option, values in options:
        value, form = values[0], _form(negated)
        bits = "not bits" if negated else "bits"
        if option in ("--ctstate", "--state"):
            names: list[Any] = [name.lower() for name in value.split(",")]
            if len(options) > 1 and (negated or {"invalid", "untracked"} & set(names)):
                # The kernel does not look at the others where there is no connection.
                raise OddError("a state without a connection, and more of the connection")
            if {"snat", "dnat"} & set(names):
                parts.append(Match("ct state . ct status", "not any in" if negated else "any in", names))
            else:
                parts.append(Match("ct state", bits, names))
        elif option == "--ctstatus":
            status: list[Any] = [{"seen_reply": "seen-reply"}.get(one, one) for one in value.lower().split(",")]
            if "none" in status:
                raise OddError("no status at all")
            parts.append(Match("ct status", bits, status))
        elif option == "--ctproto":
            parts.append(Match("ct protocol", form, [symbols.protocol(value)]))
        elif option == "--ctdir":
            parts.append(Match("ct direction", form, [value.lower()]))
        elif option in _CT_ADDRESS:
            direction, key = _CT_ADDRESS[option]
            found = _address(f"ct {direction} ip{'6' if ':' in value else ''} {key}", form, value)
            if found is not None:
                parts.append(found)
        elif option in _CT_PORT:
            parts.append(Match(_CT_PORT[option], form, [_range(value)]))
        else:
            raise OddError(f"{option} is not static")
    return parts


_CT_ADDRESS = {
    "--ctorigsrc": ("original", "saddr"),
    "--ctorigdst": ("original", "daddr"),
    "--ctreplsrc": ("reply", "saddr"),
    "--ctrepldst": ("reply", "daddr"),
}
_CT_PORT = {
    "--ctorigsrcport": "ct original proto-src",
    "--ctorigdstport": "ct original proto-dst",
    "--ctreplsrcport": "ct reply proto-src",
    "--ctrepldstport": "ct reply proto-dst",
}


def _mark(module: str, options: list[Option], _family: str, _sets: dict[str, str], _parsed: Parsed) -> list[Part]:
    parts: list[Part] = []
    for negated, option, values in options:
        if option != "--mark":
            raise OddError(f"{option} is not understood")
        value, mask = _masked(values[0])
        parts.append(Match("meta mark" if module == "mark" else "ct mark", _form(negated), [value], None, mask))
    return parts


def _masked(text: str) -> tuple[int, int | None]:
    value, slash, mask = text.partition("/")
    number = symbols.integer(mask) if slash else _FULL
    return symbols.integer(value), None if number == _FULL else number


def _set(_module: str, options: list[Option], family: str, sets: dict[str, str], _parsed: Parsed) -> list[Part]:
    # Whether its own counters count changes nothing of what it matches.
    options = [one for one in options if one[1] not in ("--update-counters", "--update-subcounters")]
    nomatch = [one for one in options if one[1] == "--return-nomatch"]
    options = [one for one in options if one not in nomatch]
    if len(options) != 1 or options[0][1] not in ("--match-set", "--set"):
        raise OddError("a set match with more conditions")
    negated, _option, (name, sides) = options[0]
    kind = sets.get(name)
    if kind is None:
        raise OddError(f"the type of ipset {name} was not read")
    # Which fields a list:set looks at depends on each of its members.
    left = f"ipset {sides}" if kind == "list:set" else set_left(kind, sides, family)
    form = _form(negated) if not nomatch else "not nomatch" if negated else "nomatch"
    return [Match(left, form, None, name)]


def set_left(kind: str, sides: str, family: str) -> str:
    """What a rule looks up in an ipset of type ``hash:ip,port`` with flags ``src,dst``. Raises OddError."""
    method, _colon, dimensions = kind.partition(":")
    names, flags = dimensions.split(","), sides.split(",")
    if method not in ("hash", "bitmap") or len(flags) < len(names):
        raise OddError(f"a set of type {kind} looked up by {sides}")
    fields: list[str] = []
    for name, flag in zip(names, flags):
        if name not in _SET_FIELDS or flag not in ("src", "dst"):
            raise OddError(f"a set of type {kind} looked up by {sides}")
        form = _SET_FIELDS[name] if kind != "bitmap:port" else _SET_FIELDS["port"][1:]
        side, direction = ("s", "i") if flag == "src" else ("d", "o")
        fields += [one.format(ip="ip6" if family == "ip6" else "ip", side=side, direction=direction) for one in form]
    return " . ".join(fields)


def _comment(_module: str, options: list[Option], _family: str, _sets: dict[str, str], parsed: Parsed) -> list[Part]:
    parsed.comment = options[0][2][0]
    return []


#: Addresses that IPv6's addrtype does not call unicast: multicast, unspecified, IPv4-mapped.
_NOT_UNICAST: list[Any] = [["prefix", "ff00::", 8], "::", ["prefix", "::ffff:0:0", 96]]


def _addrtype(_module: str, options: list[Option], family: str, _sets: dict[str, str], _parsed: Parsed) -> list[Part]:
    limits = {option for _negated, option, _values in options if option.startswith("--limit-iface")}
    via = {"--limit-iface-in": " . iif", "--limit-iface-out": " . oif"}.get(next(iter(limits), ""), "")
    parts: list[Part] = []
    for negated, option, values in options:
        if option in ("--src-type", "--dst-type"):
            side = "saddr" if option == "--src-type" else "daddr"
            if family == "ip6" and values[0] != "LOCAL":
                # Not a question to the routes, as with IPv4: a local address is unicast too.
                if values[0] != "UNICAST":
                    raise OddError(f"{values[0]} of IPv6 is not followed")
                parts.append(Match(f"ip6 {side}", "in" if negated else "not in", _NOT_UNICAST))
                continue
            parts.append(Match(f"fib {side}{via} type", _form(negated), [one.lower() for one in values[0].split(",")]))
        elif option not in limits:
            raise OddError(f"{option} is not understood")
    return parts


def _simple(table: dict[str, tuple[str, Callable[[str], Any]]]) -> Callable[..., list[Part]]:
    """A match whose options each compare one field; "<" and ">" in front of the selector make it that comparison."""

    def read(_module: str, options: list[Option], family: str, _sets: dict[str, str], _parsed: Parsed) -> list[Part]:
        parts: list[Part] = []
        for negated, option, values in options:
            if option not in table:
                raise OddError(f"{option} is not understood")
            left, reader = table[option]
            left = left.replace("{ip}", "ip6" if family == "ip6" else "ip")
            if left[0] in "<>":
                parts.append(Match(left[1:], left[0], [reader(values[0])]))
            else:
                parts.append(Match(left, _form(negated), [reader(values[0])]))
        return parts

    return read


def _tos(_module: str, options: list[Option], family: str, _sets: dict[str, str], _parsed: Parsed) -> list[Part]:
    ((negated, _option, values),) = options
    value, mask = _masked(values[0])
    return [Match("ip6 tclass" if family == "ip6" else "@nh,8,8", _form(negated), [value], None, mask if mask != 0xFF else None)]


def _span(text: str) -> Any:
    """``10.0.0.1-10.0.0.9``."""
    return symbols.text_element("addr", text)


def _group(_module: str, options: list[Option], _family: str, _sets: dict[str, str], _parsed: Parsed) -> list[Part]:
    parts: list[Part] = []
    for negated, option, values in options:
        left = {"--src-group": "meta iifgroup", "--dst-group": "meta oifgroup"}.get(option)
        if left is None:
            raise OddError(f"{option} is not understood")
        value, mask = _masked(values[0])
        parts.append(Match(left, _form(negated), [value], None, mask))
    return parts


def _rpfilter(_module: str, options: list[Option], _family: str, _sets: dict[str, str], _parsed: Parsed) -> list[Part]:
    """Would an answer leave by the interface the packet came in by? (xt_rpfilter; loose: by any)"""
    names = {option for _negated, option, _values in options}
    if "--accept-local" in names:
        raise OddError("--accept-local is not followed")
    keys = " . ".join(["saddr", *(["mark"] if "--validmark" in names else []), *([] if "--loose" in names else ["iif"])])
    return [Match(f"fib {keys} oif", "not in" if "--invert" in names else "in", ["exists"])]


def _physdev(_module: str, options: list[Option], _family: str, _sets: dict[str, str], _parsed: Parsed) -> list[Part]:
    parts: list[Part] = []
    for negated, option, values in options:
        if option in ("--physdev-in", "--physdev-out"):
            parts.append(
                Match(f"physdev {option[10:]}", _form(negated), [f"{values[0][:-1]}*" if values[0][-1:] == "+" else values[0]])
            )
        elif option in ("--physdev-is-in", "--physdev-is-out", "--physdev-is-bridged"):
            parts.append(Match(f"physdev {option[10:]}", _form(negated), [1]))
        else:
            raise OddError(f"{option} is not understood")
    return parts


def _ecn(_module: str, options: list[Option], family: str, _sets: dict[str, str], _parsed: Parsed) -> list[Part]:
    parts: list[Part] = []
    for negated, option, values in options:
        if option == "--ecn-ip-ect":
            parts.append(Match(f"{'ip6' if family == 'ip6' else 'ip'} ecn", _form(negated), [symbols.integer(values[0])]))
        elif option in ("--ecn-tcp-cwr", "--ecn-tcp-ece"):
            parts.append(Match("tcp flags", "not bits" if negated else "bits", [0x80 if option.endswith("cwr") else 0x40]))
        else:
            raise OddError(f"{option} is not understood")
    return parts


def _header(module: str, options: list[Option], family: str, _sets: dict[str, str], _parsed: Parsed) -> list[Part]:
    """Extension headers of IPv6: a packet without the header matches in no way, whatever is asked about it."""
    if family != "ip6":
        raise OddError("an extension header")
    return [Match(f"exthdr {module}", "in", ["exists"]), *([Unknown(f"-m {module}", "not followed")] if options else [])]


def _ah(module: str, options: list[Option], family: str, sets: dict[str, str], parsed: Parsed) -> list[Part]:
    if family == "ip6":  # no protocol has to be asked for beside it
        return _header(module, options, family, sets, parsed)
    return _simple({"--ahspi": ("ah spi", _dashed)})(module, options, family, sets, parsed)


_MATCHES: dict[str, Callable[[str, list[Option], str, dict[str, str], Parsed], list[Part]]] = {
    **dict.fromkeys(("tcp", "udp", "sctp", "dccp", "udplite"), _ports),
    "multiport": _multiport,
    **dict.fromkeys(("icmp", "icmp6", "icmpv6"), _icmp),
    **dict.fromkeys(("conntrack", "state"), _conntrack),
    **dict.fromkeys(("mark", "connmark"), _mark),
    "set": _set,
    "comment": _comment,
    "addrtype": _addrtype,
    "pkttype": _simple({"--pkt-type": ("meta pkttype", lambda text: symbols.PKTTYPES.get(text, text))}),
    "mac": _simple({"--mac-source": ("ether saddr", str.lower)}),
    "owner": _simple({"--uid-owner": ("meta skuid", _dashed), "--gid-owner": ("meta skgid", _dashed)}),
    "iprange": _simple({"--src-range": ("{ip} saddr", _span), "--dst-range": ("{ip} daddr", _span)}),
    "length": _simple({"--length": ("meta length", _range)}),
    "ttl": _simple(
        {
            "--ttl-eq": ("ip ttl", symbols.integer),
            "--ttl-lt": ("<ip ttl", symbols.integer),
            "--ttl-gt": (">ip ttl", symbols.integer),
        }
    ),
    "hl": _simple(
        {
            "--hl-eq": ("ip6 hoplimit", symbols.integer),
            "--hl-lt": ("<ip6 hoplimit", symbols.integer),
            "--hl-gt": (">ip6 hoplimit", symbols.integer),
        }
    ),
    "dscp": _simple({"--dscp": ("{ip} dscp", symbols.integer)}),
    "tos": _tos,
    "helper": _simple({"--helper": ("ct helper", str)}),
    "cpu": _simple({"--cpu": ("meta cpu", symbols.integer)}),
    "realm": _simple({"--realm": ("rt classid", symbols.integer)}),
    "cgroup": _simple({"--cgroup": ("meta cgroup", symbols.integer)}),
    "esp": _simple({"--espspi": ("esp spi", _dashed)}),
    "ah": _ah,
    "ipcomp": _simple({"--ipcompspi": ("comp cpi", _dashed)}),
    "tcpmss": _simple({"--mss": ("tcp option maxseg size", _range)}),
    "devgroup": _group,
    "rpfilter": _rpfilter,
    "physdev": _physdev,
    "ecn": _ecn,
    **dict.fromkeys(("frag", "hbh", "dst", "rt", "mh", "srh"), _header),
}

#: Targets that change or note something and let the packet go on to the next rule.
_GOES_ON = {
    "LOG": "log",
    "NFLOG": "log",
    "ULOG": "log",
    "TCPMSS": "tcpmss",
    "CLASSIFY": "classify",
    "DSCP": "dscp",
    "TOS": "tos",
    "TTL": "ttl",
    "HL": "hl",
    "CHECKSUM": "checksum",
    "SET": "set update",
    "TRACE": "trace",
    "AUDIT": "audit",
    "SECMARK": "secmark",
    "CONNSECMARK": "connsecmark",
    "TEE": "dup",
    "IDLETIMER": "idletimer",
    "LED": "led",
    "RATEEST": "rateest",
    "TCPOPTSTRIP": "tcpoptstrip",
    "ECN": "ecn",
    "HMARK": "mark",
}


def target(name: str, words: list[str], family: str, chains: AbstractSet[str], parsed: Parsed) -> None:
    """What ``-j NAME words`` does. chains: those of the table. Never raises."""
    text = " ".join([name, *words])[:500]
    try:
        _target(name, _pairs(words), family, chains, parsed, text)
    except (OddError, ValueError, KeyError) as error:
        parsed.odd = str(error)
        parsed.parts.append(Unknown(f"-j {text}", "target not understood"))
        parsed.verdict = Verdict("unknown", None, text)


def _pairs(words: list[str]) -> dict[str, str]:
    """Options of a target: {"--option": value, "" without}."""
    found: dict[str, str] = {}
    last = ""
    for word in words:
        if word.startswith("--"):
            last = word
            found[last] = ""
        elif last:
            found[last] = f"{found[last]} {word}".strip()
    return found


def _target(name: str, options: dict[str, str], family: str, chains: AbstractSet[str], parsed: Parsed, text: str) -> None:
    add = parsed.parts.append
    if name in chains:
        parsed.verdict = Verdict("jump", name)
    elif name in ("ACCEPT", "DROP", "RETURN"):
        parsed.verdict = Verdict(name.lower())
    elif name == "REJECT":
        default = "icmp6-port-unreachable" if family == "ip6" else "icmp-port-unreachable"
        wanted = options.get("--reject-with", default)
        parsed.verdict = Verdict("reject", None, _REJECTS.get(wanted, wanted))
    elif name in ("QUEUE", "NFQUEUE"):
        number = options.get("--queue-balance", options.get("--queue-num", "0")).replace(":", "-")
        parsed.verdict = Verdict("queue", None, number)
    elif name in ("DNAT", "SNAT", "MASQUERADE", "REDIRECT", "NETMAP"):
        add(Action(name.lower(), _nat(name, options, family), terminal=True))
    elif name in ("DNPT", "SNPT"):
        add(Action(f"ip6 {'daddr' if name == 'DNPT' else 'saddr'} set", {"expression": text}))
    elif name == "MARK":
        add(Action("mark", _set_mark(options)))
    elif name == "CONNMARK":
        _connmark(options, parsed)
    elif name == "NOTRACK" or (name == "CT" and "--notrack" in options):
        add(Action("notrack"))
    elif name == "CT":
        add(Action("ct", {key.lstrip("-"): value for key, value in options.items()}))
    elif name == "TPROXY":
        # Without a listening socket it drops, with one it accepts.
        add(Unknown(text, "depends on the sockets of the host"))
        args: dict[str, Any] = {"port": symbols.integer(options["--on-port"])}
        if options.get("--on-ip", "0.0.0.0") not in ("0.0.0.0", "::"):
            args["addr"] = options["--on-ip"]
        add(Action("tproxy", args))
        parsed.verdict = Verdict("unknown", None, text)
    elif name == "CLUSTERIP":
        add(Unknown(text, "drops what another node is to answer"))
        parsed.verdict = Verdict("unknown", None, text)
    elif name == "SYNPROXY":
        add(Action("synproxy", {key.lstrip("-"): value for key, value in options.items()}, terminal=True))
    elif name in _GOES_ON:
        args = {key.lstrip("-"): value for key, value in options.items()}
        add(Action(_GOES_ON[name], args if name != "HMARK" else {"expression": text}))
    else:
        raise OddError(f"target {name}")


def _nat(name: str, options: dict[str, str], family: str) -> dict[str, Any]:
    args: dict[str, Any] = {}
    to = options.get("--to-destination", options.get("--to-source", options.get("--to", "")))
    if name == "NETMAP":
        return {"to": symbols.text_element("addr", to if "/" in to else f"{to}/{128 if family == 'ip6' else 32}")}
    if name in ("REDIRECT", "MASQUERADE"):
        ports = options.get("--to-ports", to)
        if ports:
            args["port"] = _dashed(ports)
    elif to:
        address, port = to, ""
        if to.startswith("["):
            address, _bracket, port = to[1:].partition("]")
            port = port.lstrip(":")
        elif to.count(":") == 1:
            address, _colon, port = to.partition(":")
        if address:
            args["addr"] = symbols.text_element("addr", address.replace("]-[", "-"))
        if port:
            args["port"] = _dashed(port.partition("/")[0])
    flags = [key.lstrip("-").replace("random-fully", "fully-random") for key in options if key in _NAT_FLAGS]
    if flags:
        args["flags"] = flags
    return args


_NAT_FLAGS = ("--random", "--random-fully", "--persistent")


def _set_mark(options: dict[str, str]) -> dict[str, Any]:
    """``old & ~mask ^ value`` of the kernel's MARK target."""
    for option, text in options.items():
        value, _slash, mask = text.partition("/")
        number, bits = symbols.integer(value), symbols.integer(mask) if mask else _FULL
        if option == "--set-xmark":
            return {"value": number} if bits == _FULL else {"value": number, "mask": bits}
        if option == "--set-mark":
            return {"value": number} if bits == _FULL else {"value": number, "mask": bits | number}
        if option == "--and-mark":
            return {"value": 0, "mask": ~number & _FULL}
        if option == "--or-mark":
            return {"value": number, "mask": number}
        if option == "--xor-mark":
            return {"value": number, "mask": 0}
    raise OddError("MARK without a value")


def _connmark(options: dict[str, str], parsed: Parsed) -> None:
    for option, source, goal in (("--save-mark", "meta mark", "ct mark"), ("--restore-mark", "ct mark", "mark")):
        if option in options:
            both = options.get("--mask")
            into = symbols.integer(options.get("--ctmask" if goal == "ct mark" else "--nfmask", both or "0xffffffff"))
            of = symbols.integer(options.get("--nfmask" if goal == "ct mark" else "--ctmask", both or "0xffffffff"))
            parsed.parts.append(Action(goal, {"from": source, "from_mask": of, "mask": into}))
            return
    parsed.parts.append(Action("ct mark", _set_mark(options)))
