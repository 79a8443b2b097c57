# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""One rule as ``nft -a list`` prints it, read into parts of the model.

Why text: a text listing takes half the time of the JSON one, is exactly what the admin sees, and exists in every build of nft.
The grammar here covers what rules are made of in practice; a rule with words beyond it raises nothing: it comes back with
``odd`` set, its unread end as an Unknown, and the reader asks nft for the JSON form of that table (:mod:`nft_json`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Callable

from ansible_collections.netops.fleet.plugins.module_utils._firewall import symbols
from ansible_collections.netops.fleet.plugins.module_utils._firewall.model import (
    Action,
    Match,
    Part,
    Unknown,
    Verdict,
    VerdictMap,
)
from ansible_collections.netops.fleet.plugins.module_utils._firewall.symbols import FIELDS, SINGLE, OddError

NOT_STATIC = "not static"
#: What a plain ``reject`` answers, by family of the table.
DEFAULT_REJECT = {"ip": "icmp port-unreachable", "ip6": "icmpv6 port-unreachable"}

_TOKEN = re.compile(r'(?:"[^"]*"|[^\s"])+')
_OPERATORS = frozenset({"==", "!=", "<", ">", "<=", ">=", "!", "&", "and", "vmap", "set", ".", "/", "|", "^", "{"})
_NAT_TO = re.compile(
    r"\A(?:\[(?P<six>[0-9a-fA-F:.]+)(?:\]-\[(?P<six2>[0-9a-fA-F:.]+))?\]|(?P<addr>[0-9a-fA-F.:-]*?))(?::(?P<port>[0-9-]+))?\Z"
)
_NAT_FLAGS = frozenset({"random", "fully-random", "persistent"})
_PLAIN = {kind: Verdict(kind) for kind in ("accept", "drop", "return", "continue")}


@dataclass
class Parsed:
    """A rule's content. odd: why it is not fully understood; None when it is."""

    parts: list[Part] = field(default_factory=list)
    verdict: Verdict | None = None
    packets: int | None = None
    bytes: int | None = None
    comment: str | None = None
    odd: str | None = None


def read_rule(text: str, family: str) -> Parsed:
    """Read one rule (without its ``# handle``); ``family`` of its table. Never raises."""
    tokens = text.split(" ") if '"' not in text and "\t" not in text else _TOKEN.findall(text)
    rule = Parsed()
    at, count = 0, len(tokens)
    try:
        while at < count:
            word = tokens[at]
            group = FIELDS.get(word)
            if group is not None and at + 2 < count:
                found, value = group.get(tokens[at + 1]), tokens[at + 2]
                # The everyday clause, selector and plain value, is read here without a call.
                if found is not None and value not in _OPERATORS and value[0] != "@" and found[1] in ("addr", "port", "proto"):
                    rule.parts.append(Match(found[0], "in", [symbols.text_element(found[1], value)]))
                    at += 3
                    continue
            plain = _PLAIN.get(word)
            if plain is not None:
                rule.verdict = plain
                at += 1
                continue
            statement = _STATEMENTS.get(word)
            after = statement(tokens, at, rule, family) if statement is not None else None
            at = after if after is not None else _clause(tokens, at, rule)
    except (OddError, IndexError, ValueError) as error:
        _give_up(tokens, at, rule, str(error) or "ends too early")
    return rule


def _give_up(tokens: list[str], at: int, rule: Parsed, why: str) -> None:
    """Keep what was read; the rest is one Unknown. A closing verdict is still a verdict, else anything may happen."""
    rest = tokens[at:]
    if len(rest) > 1 and rest[-2] == "comment" and rest[-1][:1] == '"':
        rule.comment, rest = rest[-1][1:-1], rest[:-2]
    rule.odd, rule.verdict = why, Verdict("unknown", None, " ".join(rest)[:200])
    if rest and rest[-1] in _PLAIN:
        rule.verdict, rest = _PLAIN[rest[-1]], rest[:-1]
    elif len(rest) > 1 and rest[-2] in ("jump", "goto"):
        rule.verdict, rest = Verdict(rest[-2], rest[-1]), rest[:-2]
    rule.parts.append(Unknown(" ".join(rest)))


def _left(tokens: list[str], at: int) -> tuple[str, str, int]:
    """One selector: its name, kind of value, and the index behind it."""
    word = tokens[at]
    group = FIELDS.get(word)
    second = tokens[at + 1] if at + 1 < len(tokens) else ""
    if group is not None and second in group:
        return (*group[second], at + 2)
    if word == "ct" and second in ("original", "reply"):
        for size in (2, 1):
            found = symbols.ct_directed(second, " ".join(tokens[at + 2 : at + 2 + size]))
            if found is not None:
                return (*found, at + 2 + size)
    if word == "arp" and second in ("saddr", "daddr") and tokens[at + 2] in ("ip", "ether"):
        return f"arp {second} {tokens[at + 2]}", "addr" if tokens[at + 2] == "ip" else "ether", at + 3
    if word == "fib":
        end = at + 1
        while tokens[end] not in ("type", "oif", "oifname", "check"):
            if end > at + 8:
                raise OddError("fib")
            end += 1
        keys = " ".join(tokens[at + 1 : end])
        result = "oif" if tokens[end] == "check" else tokens[end]
        return f"fib {keys} {result}", "word" if result != "oifname" else "ifname", end + 1
    if word[:1] == "@" and word.count(",") == 2:
        return word, "int", at + 1
    if word in ("numgen", "jhash", "symhash"):
        end = tokens.index("mod", at) + 2
        while tokens[end : end + 1] in (["seed"], ["offset"]):
            end += 2
        return " ".join(tokens[at:end]), symbols.DYNAMIC, end
    if word in SINGLE:
        return (*SINGLE[word], at + 1)
    raise OddError(f"{word!r} is not understood")


def lefts(tokens: list[str], at: int) -> tuple[list[tuple[str, str]], int]:
    """A selector or a concatenation of some."""
    name, kind, at = _left(tokens, at)
    found = [(name, kind)]
    while at < len(tokens) and tokens[at] == ".":
        name, kind, at = _left(tokens, at + 1)
        found.append((name, kind))
    return found, at


def _clause(tokens: list[str], start: int, rule: Parsed) -> int:
    """A match, a verdict map or ``SELECTOR set VALUE``."""
    fields, at = lefts(tokens, start)
    left = " . ".join(name for name, _kind in fields)
    word = tokens[at]
    dynamic = any(kind == symbols.DYNAMIC for _name, kind in fields)
    if word == "set":
        return _assign(tokens, at + 1, left, fields[0][1], rule)
    if word == "vmap":
        data, at = braces(tokens, at + 1)
        if isinstance(data, str):
            rule.parts.append(VerdictMap(left, None, data.lstrip("@")))
        else:
            # Which verdict a packet gets may not be known, but that it gets one of these is.
            fields = [(name, "int" if kind == symbols.DYNAMIC else kind) for name, kind in fields]
            rule.parts.append(VerdictMap(left, [(_key(fields, key), verdict(value)) for key, value in map(_pair, data)]))
        return at
    mask = None
    if word in ("&", "and") and len(fields) == 1:
        mask, at = _mask(tokens, at + 1, fields[0][1])
        word = tokens[at]
    operator = "=="
    explicit = word in ("==", "!=", "<", ">", "<=", ">=", "!")
    if explicit:
        operator, at = word, at + 1
    data, at = braces(tokens, at)
    slash = at < len(tokens) and tokens[at] == "/" and fields[0][1] == "tcpflags"
    if slash:
        mask, explicit, at = combined(tokens[at + 1], "tcpflags"), True, at + 2
    if dynamic:
        rule.parts.append(Unknown(" ".join(tokens[start:at]), NOT_STATIC))
        return at
    if isinstance(data, str) and data[:1] != "@":
        rule.parts.append(_single(left, fields, operator, explicit, data, mask))
        return at
    form = {"==": "in", "!=": "not in"}.get(operator)
    if form is None:
        raise OddError(f"{operator} with a set")
    if isinstance(data, str):
        rule.parts.append(Match(left, form, None, data[1:], mask))
    else:
        rule.parts.append(Match(left, form, [_key(fields, one) for one in data], None, mask))
    return at


def _single(left: str, fields: list[tuple[str, str]], operator: str, explicit: bool, data: str, mask: int | None) -> Match:
    """A match against one value that is no set."""
    kind = fields[0][1]
    if len(fields) > 1 or data[:1] in "{}|^&" or data in _OPERATORS:
        raise OddError(f"{data!r} for {left}")
    if kind in symbols.FLAG_KINDS and mask is None:
        return flag_match(left, kind, operator if explicit else "", data.split(","))
    if operator == "!":
        raise OddError("! for a value that is no flag")
    if kind == "tcpflags":
        value: Any = combined(data, kind)
    else:
        value = symbols.text_element(kind, data)
    return Match(left, {"==": "in", "!=": "not in"}.get(operator, operator), [value], None, mask)


def flag_match(left: str, kind: str, operator: str, names: list[Any]) -> Match:
    """``ct state new`` tests bits, ``ct state != new`` compares the whole value."""
    if operator in ("", "in", "!"):
        values: list[Any] = [symbols.scalar(kind, name) for name in names]
        return Match(left, "not bits" if operator == "!" else "bits", values)
    if operator not in ("==", "!="):
        raise OddError(f"{operator} for {left}")
    if len(names) > 1 and kind != "tcpflags":
        raise OddError(f"{left} compared with several bits at once")
    value = combined(",".join(map(str, names)), kind) if kind == "tcpflags" else symbols.scalar(kind, names[0])
    return Match(left, "in" if operator == "==" else "not in", [value])


def combined(text: str, kind: str) -> int:
    """Flags joined by ``,`` or ``|`` as one number."""
    value = 0
    for name in re.split(r"[,|]", text.replace(" ", "")):
        value |= symbols.integer(symbols.scalar(kind, name))
    return value


def _mask(tokens: list[str], at: int, kind: str) -> tuple[int, int]:
    """What stands behind ``&``: a number or (fin | syn)."""
    if tokens[at][:1] == "(":
        end = at
        while not tokens[end].endswith(")"):
            end += 1
        return combined("".join(tokens[at : end + 1]).strip("()"), kind), end + 1
    if kind == "addr":
        return symbols.address(tokens[at]), at + 1
    return symbols.integer(symbols.scalar(kind, tokens[at])), at + 1


def braces(tokens: list[str], at: int) -> tuple[str | list[str], int]:
    """What follows a selector: one word, "@set" or the elements between braces as they are written."""
    if tokens[at] != "{":
        return tokens[at], at + 1
    try:
        end = tokens.index("}", at)
    except ValueError:
        raise OddError("a brace that does not close") from None
    inner = " ".join(tokens[at + 1 : end])
    if inner == "..." or ('"' in inner and ", " in inner and _quoted_comma(inner)):
        raise OddError("elements that are not shown")
    return inner.split(", "), end + 1


def _quoted_comma(text: str) -> bool:
    return any(", " in piece for piece in text.split('"')[1::2])


def _pair(element: str) -> tuple[str, str]:
    key, colon, value = element.rpartition(" : ")
    if not colon:
        raise OddError(f"{element!r} is no pair")
    return key, value


def _key(fields: list[tuple[str, str]], element: str) -> Any:
    """An element of an anonymous set; each field of a concatenation by its own kind."""
    if len(fields) == 1:
        left, kind = fields[0]
        if element == "*":
            return symbols.everything(left, kind)
        if " " in element and kind == "tcpflags":
            return combined(element, kind)
        if " " in element.replace('"', "") and '"' not in element:
            raise OddError(f"{element!r} is not understood")
        if kind == "tcpflags" and "," in element:
            return combined(element, kind)
        return symbols.text_element(kind, element)
    words = element.split(" . ")
    if len(words) != len(fields):
        raise OddError(f"{element!r} has another number of fields")
    return ["concat", *(_key([one], word) for one, word in zip(fields, words))]


def verdict(text: str) -> Verdict:
    """A verdict of a map; raises OddError."""
    plain = _PLAIN.get(text)
    if plain is not None:
        return plain
    words = text.split(" ")
    if len(words) == 2 and words[0] in ("jump", "goto"):
        return Verdict(words[0], words[1])
    raise OddError(f"{text!r} is no verdict")


def _assign(tokens: list[str], at: int, left: str, kind: str, rule: Parsed) -> int:
    """``meta mark set ...`` and other changes of the packet."""
    if left in ("meta mark", "ct mark"):
        args, at = _mark(tokens, at)
        rule.parts.append(Action("mark" if left == "meta mark" else left, args))
        return at
    value: Any = tokens[at]
    if value == "{" or value in FIELDS:
        raise OddError(f"{left} set to something computed")
    if kind in symbols.NUMERIC:
        value = symbols.text_element(kind, value)
    rule.parts.append(Action(f"{left} set", {"value": value.strip('"') if isinstance(value, str) else value}))
    return at + 1


def _mark(tokens: list[str], at: int) -> tuple[dict[str, Any], int]:
    """A new mark: a number, or a mark with ``&``, ``|``, ``^`` applied from left to right."""
    full = 0xFFFFFFFF
    if tokens[at] not in ("meta", "ct", "mark"):
        value = symbols.integer(tokens[at])
        if at + 1 < len(tokens) and tokens[at + 1] in ("&", "|", "^", "map"):
            raise OddError("a computed mark")
        return {"value": value}, at + 1
    name, _kind, at = _left(tokens, at)
    if name not in ("meta mark", "ct mark"):
        raise OddError("a computed mark")
    keep, change = full, 0
    while at < len(tokens) and tokens[at] in ("&", "|", "^", "and", "or", "xor"):
        value = symbols.integer(tokens[at + 1]) & full
        keep, change = fold(keep, change, tokens[at], value)
        at += 2
    return {"from": name, "from_mask": keep, "xor": change}, at


def fold(keep: int, change: int, operator: str, value: int) -> tuple[int, int]:
    """``x & keep ^ change`` with one more operator applied."""
    if operator in ("&", "and"):
        return keep & value, change & value
    if operator in ("|", "or"):
        return keep & ~value, (change & ~value) | value
    return keep, change ^ value


# --- statements: each takes (tokens, index, rule, family) and gives the index behind it, or None when it is a match ---


def _comment(tokens: list[str], at: int, rule: Parsed, _family: str) -> int:
    rule.comment = tokens[at + 1][1:-1]
    return at + 2


def _counter(tokens: list[str], at: int, rule: Parsed, _family: str) -> int:
    if at + 1 < len(tokens) and tokens[at + 1] == "name":
        rule.parts.append(Action("counter", {"name": tokens[at + 2].strip('"')}))
        return at + 3
    if at + 4 < len(tokens) and tokens[at + 1] == "packets" and tokens[at + 3] == "bytes":
        rule.packets, rule.bytes = int(tokens[at + 2]), int(tokens[at + 4])
        return at + 5
    return at + 1  # a stateless listing leaves the numbers out


def _jump(tokens: list[str], at: int, rule: Parsed, _family: str) -> int:
    rule.verdict = Verdict(tokens[at], tokens[at + 1])
    return at + 2


def _reject(tokens: list[str], at: int, rule: Parsed, family: str) -> int:
    at += 1
    detail = DEFAULT_REJECT.get(family, "icmpx port-unreachable")
    if at < len(tokens) and tokens[at] == "with":
        kind = tokens[at + 1]
        at += 3 if tokens[at + 2] == "type" else 2
        detail = f"{kind} {'reset' if tokens[at] == 'reset' else tokens[at]}"
        at += 1
    rule.verdict = Verdict("reject", None, detail)
    return at


def _unknown_until(keys: dict[str, int], why: str = NOT_STATIC) -> Callable[[list[str], int, Parsed, str], int]:
    """A statement of words with a fixed number of values each: an Unknown."""

    def read(tokens: list[str], at: int, rule: Parsed, _family: str) -> int:
        end = at + 1
        while end < len(tokens) and tokens[end] in keys:
            end += 1 + keys[tokens[end]]
        rule.parts.append(Unknown(" ".join(tokens[at:end]), why))
        return end

    return read


def _limit(tokens: list[str], at: int, rule: Parsed, _family: str) -> int:
    end = at + 1
    if tokens[end] == "name":
        end += 2
    else:
        end += 2 if tokens[end + 1] == "over" else 1
        end += 1 if "/" in tokens[end] else 2
        if end < len(tokens) and tokens[end] == "burst":
            end += 3
    rule.parts.append(Unknown(" ".join(tokens[at:end]), NOT_STATIC))
    return end


def _quota(tokens: list[str], at: int, rule: Parsed, _family: str) -> int:
    end = at + 1
    if tokens[end] == "name":
        end += 2
    else:
        end += 1 if tokens[end] in ("over", "until") else 0
        end += 2
        if end < len(tokens) and tokens[end] == "used":
            end += 3
    rule.parts.append(Unknown(" ".join(tokens[at:end]), NOT_STATIC))
    return end


def _ct(tokens: list[str], at: int, rule: Parsed, _family: str) -> int | None:
    if tokens[at + 1] != "count":
        return None
    end = at + (4 if tokens[at + 2] == "over" else 3)
    rule.parts.append(Unknown(" ".join(tokens[at:end]), NOT_STATIC))
    return end


def _log(tokens: list[str], at: int, rule: Parsed, _family: str) -> int:
    args: dict[str, Any] = {}
    at += 1
    while at < len(tokens) and tokens[at] in ("prefix", "group", "snaplen", "queue-threshold", "level", "flags"):
        key, value = tokens[at], tokens[at + 1]
        at += 2
        if key == "flags":
            if value in ("tcp", "ip"):
                value, at = f"{value} {tokens[at]}", at + 1
            args.setdefault(key, []).append(value)
        else:
            args[key] = int(value) if value.isdigit() else value.strip('"')
    rule.parts.append(Action("log", args))
    return at


def _nat(tokens: list[str], at: int, rule: Parsed, _family: str) -> int:
    name = tokens[at]
    args: dict[str, Any] = {}
    at += 1
    if at < len(tokens) and tokens[at] in ("ip", "ip6"):
        args["family"] = tokens[at]
        at += 1
    if at < len(tokens) and tokens[at] in ("prefix", "interval", "addr"):
        raise OddError(f"{name} of this form")
    if at < len(tokens) and tokens[at] == "to":
        args.update(nat_to(tokens[at + 1]))
        at += 2
    if at < len(tokens) and set(tokens[at].split(",")) <= _NAT_FLAGS:
        args["flags"] = tokens[at].split(",")
        at += 1
    if at < len(tokens) and tokens[at] not in ("comment", "accept", "counter", "meta"):
        raise OddError(f"{name} of this form")
    if name == "tproxy":
        # Without a listening socket the rule ends here.
        rule.parts.append(Unknown("tproxy", "depends on the sockets of the host"))
    rule.parts.append(Action(name, args, terminal=name != "tproxy"))
    return at


def nat_to(text: str) -> dict[str, Any]:
    """``10.0.0.1-10.0.0.9:80-90``, ``[fd00::1]:80``, ``:8080`` as {addr, port}; raises OddError."""
    found = _NAT_TO.match(text)
    if found is None and ":" in text and "." not in text:
        return {"addr": symbols.text_element("addr", text)}  # a bare IPv6 address
    if found is None or not text:
        raise OddError(f"{text!r} is no address and port")
    args: dict[str, Any] = {}
    address, port = found["six"] or found["addr"], found["port"]
    if text.count(":") > 1 and found["six"] is None:
        address, port = text, None
    if found["six2"]:
        address = f"{address}-{found['six2']}"
    if address:
        args["addr"] = symbols.text_element("addr", address)
    if port:
        args["port"] = symbols.text_element("port", port)
    return args


def _queue(tokens: list[str], at: int, rule: Parsed, _family: str) -> int:
    number, at = "0", at + 1
    while at < len(tokens) and tokens[at] in ("to", "num", "flags", "bypass", "fanout", "bypass,fanout", "fanout,bypass"):
        if tokens[at] in ("to", "num"):
            number = tokens[at + 1]
            if not number.replace("-", "").isdigit():
                raise OddError("a computed queue")
        at += 2 if tokens[at] in ("to", "num", "flags") else 1
    rule.verdict = Verdict("queue", None, number)
    return at


def _set_statement(tokens: list[str], at: int, rule: Parsed, _family: str) -> int:
    inner, end = braces(tokens, at + 2)
    text = " ".join(tokens[at:end])
    if tokens[at + 1][:1] != "@":
        raise OddError(text)
    words = text.split(" ")
    if tokens[at] == "delete" or {"limit", "quota", "count", "last"} & set(words[2:]):
        rule.parts.append(Unknown(text, NOT_STATIC))
    rule.parts.append(Action("set update", {"op": tokens[at], "set": tokens[at + 1][1:], "elem": ", ".join(inner)}))
    return end


def _meter(tokens: list[str], at: int, rule: Parsed, _family: str) -> int:
    """``meter NAME [size N] { KEY limit rate ... }``: which of its elements is over its limit is not known."""
    brace = tokens.index("{", at)
    inner, end = braces(tokens, brace)
    rule.parts.append(Unknown(" ".join(tokens[at:end]), NOT_STATIC))
    rule.parts.append(Action("set update", {"op": "add", "set": tokens[at + 1], "elem": ", ".join(inner)}))
    return end


def _reset(tokens: list[str], at: int, rule: Parsed, _family: str) -> int:
    """``reset tcp option NAME``: the option is taken out of the packet."""
    if tokens[at + 1 : at + 3] != ["tcp", "option"]:
        raise OddError("reset")
    rule.parts.append(Action("reset", {"option": f"tcp option {tokens[at + 3]}"}))
    return at + 4


def _notrack(_tokens: list[str], at: int, rule: Parsed, _family: str) -> int:
    rule.parts.append(Action("notrack"))
    return at + 1


def _flow(tokens: list[str], at: int, rule: Parsed, _family: str) -> int:
    if tokens[at + 1] not in ("add", "offload"):
        raise OddError("flow")
    rule.parts.append(Unknown("flow add", "depends on the connection"))
    rule.parts.append(Action("flow add", {"flowtable": tokens[at + 2].lstrip("@")}))
    return at + 3


def _device(tokens: list[str], at: int, rule: Parsed, _family: str) -> int:
    """``dup to X [device Y]`` and ``fwd to X``."""
    if tokens[at + 1] != "to" or (at + 3 < len(tokens) and tokens[at + 3] != "comment"):
        raise OddError(f"{tokens[at]} of this form")
    rule.parts.append(Action(tokens[at], {"to": tokens[at + 2].strip('"')}, terminal=tokens[at] == "fwd"))
    return at + 3


def _synproxy(tokens: list[str], at: int, rule: Parsed, _family: str) -> int:
    args: dict[str, Any] = {}
    at += 1
    while at < len(tokens) and tokens[at] in ("mss", "wscale", "timestamp", "sack-perm", "name"):
        if tokens[at] in ("mss", "wscale", "name"):
            args[tokens[at]] = tokens[at + 1].strip('"') if tokens[at] == "name" else int(tokens[at + 1])
            at += 2
        else:
            args.setdefault("flags", []).append(tokens[at])
            at += 1
    rule.parts.append(Action("synproxy", args, terminal=True))
    return at


_STATEMENTS: dict[str, Callable[[list[str], int, Parsed, str], int | None]] = {
    "comment": _comment,
    "counter": _counter,
    "jump": _jump,
    "goto": _jump,
    "reject": _reject,
    "limit": _limit,
    "quota": _quota,
    "ct": _ct,
    "log": _log,
    "masquerade": _nat,
    "redirect": _nat,
    "snat": _nat,
    "dnat": _nat,
    "tproxy": _nat,
    "queue": _queue,
    "add": _set_statement,
    "update": _set_statement,
    "delete": _set_statement,
    "meter": _meter,
    "reset": _reset,
    "notrack": _notrack,
    "flow": _flow,
    "dup": _device,
    "fwd": _device,
    "synproxy": _synproxy,
    "last": _unknown_until({"used": 1}, "only tells when it was last used"),
}
