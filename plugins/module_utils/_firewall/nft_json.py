# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""Statements of ``nft -j`` read into parts of the model: the second opinion for rules whose text is beyond :mod:`nft_text`,
and the source of set elements.

libnftables-json(5) is the reference; the differences between 0.9.9 and 1.1.6 that listings are known to show are read alike:
single flags as a word or a list, ``|`` with two or more operands, ``fib`` results ``oif`` and ``check``, rules without ``expr``.
Nothing raises on another shape: what is not understood becomes an Unknown with its JSON as text.
"""

from __future__ import annotations

import json
from typing import Any

from ansible_collections.netops.fleet.plugins.module_utils._firewall import nft_text, symbols
from ansible_collections.netops.fleet.plugins.module_utils._firewall.model import (
    Action,
    Match,
    Part,
    Unknown,
    Verdict,
    VerdictMap,
)
from ansible_collections.netops.fleet.plugins.module_utils._firewall.nft_text import NOT_STATIC, Parsed
from ansible_collections.netops.fleet.plugins.module_utils._firewall.symbols import OddError

_TEXT_LIMIT = 500
_PLAIN = ("accept", "drop", "return", "continue")
#: Targets of iptables that never end a rule's chain; seen when a table of iptables is read through nft.
_XT_GOES_ON = frozenset(
    {"LOG", "NFLOG", "MARK", "CONNMARK", "TCPMSS", "CT", "NOTRACK", "CLASSIFY", "DSCP", "TOS", "TTL", "HL", "CHECKSUM", "SET"}
    | {"TRACE", "AUDIT", "SECMARK", "CONNSECMARK", "TEE", "IDLETIMER", "LED", "RATEEST", "TCPOPTSTRIP", "ECN", "HMARK"}
)
_XT_NAT = frozenset({"DNAT", "SNAT", "MASQUERADE", "REDIRECT", "NETMAP"})


def read_rule(rule: Any, family: str) -> Parsed:
    """A rule object of the JSON listing. Never raises."""
    parsed = Parsed()
    if not isinstance(rule, dict):
        parsed.parts.append(Unknown(_text(rule)))
        parsed.verdict = Verdict("unknown")
        return parsed
    comment = rule.get("comment")
    # Half of a surrogate pair is valid in JSON text, but cannot be written out again.
    parsed.comment = comment.encode("utf-8", "replace").decode("utf-8") if isinstance(comment, str) else None
    expressions, unread = rule.get("expr", []), ""
    for expression in expressions if isinstance(expressions, list) else [expressions]:
        try:
            _statement(expression, family, parsed)
        except (OddError, ValueError, TypeError, KeyError, AttributeError, IndexError, RecursionError):
            parsed.parts.append(Unknown(_text(expression)))
            if not _harmless(expression):
                unread = unread or _text(expression)[:200]
            parsed.odd = parsed.odd or "not understood"
    if unread:
        # It may decide before whatever stands behind it.
        parsed.verdict = Verdict("unknown", None, unread)
    return parsed


def _text(value: Any) -> str:
    try:
        return json.dumps(value, ensure_ascii=True, default=str)[:_TEXT_LIMIT]
    except (ValueError, RecursionError):
        return "(too deep)"


def _harmless(expression: Any) -> bool:
    """An unread match or change of the packet cannot decide by itself."""
    return isinstance(expression, dict) and list(expression)[:1] in (
        ["match"],
        ["mangle"],
        ["set"],
        ["map"],
        ["counter"],
        ["log"],
    )


def _only(expression: Any) -> tuple[str, Any]:
    """What an object with one key says. Raises OddError for any other."""
    if not isinstance(expression, dict) or len(expression) != 1:
        raise OddError("an expression of this shape")
    ((name, data),) = expression.items()
    return name, data


def _statement(expression: Any, family: str, parsed: Parsed) -> None:
    if isinstance(expression, str) and expression in _PLAIN:
        parsed.verdict = Verdict(expression)
        return
    name, data = _only(expression)
    add = parsed.parts.append
    if name in _PLAIN or name in ("jump", "goto"):
        parsed.verdict = _verdict(expression)
    elif name == "match":
        add(_match(data))
    elif name == "vmap":
        add(_vmap(data))
    elif name == "counter":
        if isinstance(data, dict):
            parsed.packets, parsed.bytes = _count(data.get("packets")), _count(data.get("bytes"))
        elif data is not None:
            add(Action("counter", {"name": str(data)}))
    elif name == "reject":
        parsed.verdict = Verdict("reject", None, _reject(data, family))
    elif name in ("limit", "quota", "ct count", "ct timeout", "ct expectation", "last", "connlimit", "osf"):
        add(Unknown(_text(expression), NOT_STATIC))
    elif name == "log":
        add(Action("log", _log(data)))
    elif name == "mangle":
        add(_mangle(data))
    elif name == "notrack":
        add(Action("notrack"))
    elif name in ("snat", "dnat", "masquerade", "redirect", "tproxy"):
        if name == "tproxy":
            add(Unknown("tproxy", "depends on the sockets of the host"))
        add(Action(name, _nat(data), terminal=name != "tproxy"))
    elif name == "queue":
        parsed.verdict = Verdict("queue", None, _queue(data))
    elif name == "set":
        _set(data, expression, add)
    elif name == "flow":
        add(Unknown("flow add", "depends on the connection"))
        add(Action("flow add", {"flowtable": str(data["flowtable"]).lstrip("@")}))
    elif name in ("dup", "fwd"):
        to = data.get("addr", data.get("dev"))
        add(Action(name, {"to": to if isinstance(to, str) else _text(to)}, terminal=name == "fwd"))
    elif name == "synproxy":
        add(
            Action("synproxy", {key: _listed(value) if key == "flags" else value for key, value in (data or {}).items()}, True)
            if isinstance(data, dict) or data is None
            else Action("synproxy", {"name": str(data)}, True)
        )
    elif name in ("ct helper", "secmark"):
        add(Action(name, {"name": str(data)}))
    elif name == "meter":
        add(Unknown(_text(expression), NOT_STATIC))
        add(Action("set update", {"op": "add", "set": str(data["name"]), "elem": _text(data["key"])}))
    elif name == "reset":
        ((option, what),) = data.items()
        add(Action("reset", {"option": f"{option} {what['name']}"}))
    elif name == "xt":
        _xt(data, expression, parsed)
    else:
        raise OddError(name)


def _xt(data: Any, expression: Any, parsed: Parsed) -> None:
    """A match or target of iptables: nft tells its name only."""
    kind, name = data.get("type"), str(data.get("name"))
    if kind in ("match", "watcher"):
        parsed.parts.append(Unknown(f"xt match {name}", "iptables match, read through nft"))
    elif kind == "target" and name in _XT_GOES_ON:
        parsed.parts.append(Action(f"xt {name}"))
        if name in ("MARK", "CONNMARK"):
            parsed.parts.append(Action("mark" if name == "MARK" else "ct mark", {"expression": f"xt {name}"}))
    elif kind == "target" and name in _XT_NAT:
        parsed.parts.append(Action(name.lower(), {"addr": {"expression": f"xt {name}"}}, terminal=True))
    elif kind == "target" and name == "REJECT":
        parsed.verdict = Verdict("reject")
    else:
        raise OddError(_text(expression))


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _listed(value: Any) -> list[Any]:
    """Flags: one word in some versions, a list in others."""
    return value if isinstance(value, list) else [value]


def _verdict(expression: Any) -> Verdict:
    if isinstance(expression, str):
        expression = {expression: None}
    name, data = _only(expression)
    if name in ("jump", "goto"):
        target = data["target"]
        if not isinstance(target, str):
            raise OddError("a computed jump")
        return Verdict(name, target)
    if name not in _PLAIN:
        raise OddError(name)
    return Verdict(name)


def left_of(expression: Any) -> list[tuple[str, str]]:
    """(selector, kind of value) of an expression; several for a concatenation. Raises OddError."""
    name, data = _only(expression)
    if name == "concat":
        found: list[tuple[str, str]] = []
        for one in data:
            found += left_of(one)
        return found
    if name in ("numgen", "jhash", "symhash"):
        return [(name, symbols.DYNAMIC)]
    if name == "payload" and "tunnel" in data:
        # A field of the packet inside another one.
        return [(f"{data['tunnel']} {data['protocol']} {data['field']}", "word")]
    if name == "payload" and "base" in data:
        return [(f"@{data['base']},{data['offset']},{data['len']}", "int")]
    if name == "payload":
        key, place = str(data["field"]), symbols.FIELDS.get(str(data["protocol"]), {})
        if data["protocol"] == "arp" and key in ("saddr ip", "daddr ip", "saddr ether", "daddr ether"):
            return [(f"arp {key}", "addr" if key.endswith("ip") else "ether")]
        if key in place:
            return [place[key]]
        return [(f"{data['protocol']} {key}", "word")]
    if name in ("meta", "socket", "rt", "ct"):
        key = str(data["key"])
        if name == "ct" and "dir" in data:
            directed = symbols.ct_directed(str(data["dir"]), key)
            if directed is not None:
                return [directed]
            raise OddError(f"ct {key}")
        if name == "rt" and key == "nexthop":
            return [(f"rt {data.get('family', 'ip')} nexthop", "addr")]
        known = symbols.FIELDS[name].get(key)
        return [known if known is not None else (f"{name} {key}", "word")]
    if name == "fib":
        result = "oif" if data["result"] == "check" else str(data["result"])
        return [(f"fib {' . '.join(_listed(data['flags']))} {result}", "ifname" if result == "oifname" else "word")]
    if name in ("tcp option", "ip option", "exthdr", "sctp chunk", "dccp option"):
        words = [str(data[key]) for key in ("name", "field", "type") if key in data]
        return [(" ".join([name, *words]), "word" if "field" not in data else "int")]
    raise OddError(name)


def _match(data: dict[str, Any]) -> Part:
    operator, left, right = data.get("op", "=="), data["left"], data["right"]
    mask: int | None = None
    if isinstance(left, dict) and "&" in left:
        operands = left["&"]
        fields = left_of(operands[0])
        if len(operands) != 2 or len(fields) != 1:
            raise OddError("a mask of this form")
        mask, left = _mask(operands[1], fields[0][1]), operands[0]
    fields = left_of(left)
    name, kind = " . ".join(one for one, _kind in fields), fields[0][1]
    if any(one == symbols.DYNAMIC for _name, one in fields):
        return Unknown(_text({"match": data}), NOT_STATIC)
    form = {"==": "in", "!=": "not in", "in": "in"}.get(operator, operator)
    if isinstance(right, str) and right[:1] == "@":
        if form not in ("in", "not in"):
            raise OddError(operator)
        return Match(name, form, None, right[1:], mask)
    if isinstance(right, dict) and "set" in right:
        if form not in ("in", "not in"):
            raise OddError(operator)
        return Match(name, form, [element(fields, one) for one in _listed(right["set"])], None, mask)
    if len(fields) == 1 and kind in symbols.FLAG_KINDS and mask is None:
        return nft_text.flag_match(name, kind, operator, _flags(right))
    if operator == "in":  # another bitmask type, or a list of flags
        raise OddError("in, for a type that is no bitmask")
    if operator == "!":
        raise OddError("! for a value that is no flag")
    if len(fields) == 1 and kind == "tcpflags":
        return Match(name, form, [_number(right, kind)], None, mask)
    if isinstance(right, bool):
        words = ("exists", "missing") if name.startswith("fib") else (1, 0)
        return Match(name, form, [words[0] if right else words[1]])
    return Match(name, form, [element(fields, right)], None, mask)


def _flags(value: Any) -> list[Any]:
    """Names of bits: "a", ["a", "b"], {"|": ["a", "b", ...]} nested or not."""
    if isinstance(value, dict) and "|" in value:
        return [name for one in value["|"] for name in _flags(one)]
    if isinstance(value, list):
        return [name for one in value for name in _flags(one)]
    return [value]


def _mask(value: Any, kind: str) -> int:
    return symbols.address(value) if kind == "addr" else _number(value, kind)


def _number(value: Any, kind: str) -> int:
    number = 0
    for one in _flags(value):
        number |= symbols.integer(symbols.scalar(kind, one))
    return number


def element(fields: list[tuple[str, str]], value: Any) -> Any:
    """A member of a set, anonymous or named, by the kinds of its fields. Raises OddError."""
    if isinstance(value, dict) and "elem" in value:
        value = value["elem"]["val"]
    if len(fields) > 1:
        parts = value.get("concat") if isinstance(value, dict) else None
        if not isinstance(parts, list) or len(parts) != len(fields):
            raise OddError("another number of fields")
        return ["concat", *(element([one], part) for one, part in zip(fields, parts))]
    left, kind = fields[0]
    if kind == "addr" and isinstance(value, str) and value[:1].isdigit():
        return value  # most members of large sets
    if isinstance(value, dict):
        if "prefix" in value:
            return ["prefix", symbols.scalar(kind, value["prefix"]["addr"]), symbols.integer(value["prefix"]["len"])]
        if "range" in value:
            low, high = value["range"]
            return ["range", symbols.scalar(kind, low), symbols.scalar(kind, high)]
        if "|" in value and kind == "tcpflags":
            return _number(value, kind)
        raise OddError("an element of this shape")
    if isinstance(value, list) and kind == "tcpflags":
        return _number(value, kind)
    if value == "*":
        return symbols.everything(left, kind)
    return symbols.scalar(kind, value)


def map_pair(fields: list[tuple[str, str]], data_fields: list[tuple[str, str]], pair: Any) -> list[Any]:
    """A member of a named map as ["pair", key, value]; a verdict as its dict. Raises OddError."""
    key, value = pair
    if data_fields[0][1] == "verdict":
        return ["pair", element(fields, key), _verdict(value).to_dict()]
    return ["pair", element(fields, key), element(data_fields, value)]


def _vmap(data: dict[str, Any]) -> Part:
    fields, target = left_of(data["key"]), data["data"]
    name = " . ".join(one for one, _kind in fields)
    if isinstance(target, str) and target[:1] == "@":
        return VerdictMap(name, None, target[1:])
    # Over something that changes (numgen, jhash) it is not known which verdict a packet gets, but that it gets one of these is.
    fields = [(one, "int" if kind == symbols.DYNAMIC else kind) for one, kind in fields]
    return VerdictMap(name, [(element(fields, key), _verdict(value)) for key, value in target["set"]])


def _reject(data: Any, family: str) -> str:
    default = nft_text.DEFAULT_REJECT.get(family, "icmpx port-unreachable")
    if not isinstance(data, dict) or not data:
        return default
    if data.get("type") == "tcp reset":
        return "tcp reset"
    return f"{data.get('type', 'icmpx')} {data.get('expr', 'port-unreachable')}"


def _log(data: Any) -> dict[str, Any]:
    if not isinstance(data, dict):
        return {}
    return {key: _listed(value) if key == "flags" else value for key, value in data.items()}


def _mangle(data: dict[str, Any]) -> Part:
    (name, kind), *_more = left_of(data["key"])
    value = data["value"]
    if name in ("meta mark", "ct mark"):
        action = "mark" if name == "meta mark" else name
        try:
            if isinstance(value, dict) and "map" in value:
                return Action(action, {"value": _looked_up(value, "int")})
            return Action(action, _mark(value))
        except (OddError, KeyError, TypeError, ValueError):
            return Action(action, {"expression": _text(value)})
    if isinstance(value, (str, int)):
        return Action(f"{name} set", {"value": symbols.scalar(kind, value) if kind in symbols.NUMERIC else value})
    return Action(f"{name} set", {"expression": _text(value)})


def _mark(value: Any) -> dict[str, Any]:
    if isinstance(value, (int, str)):
        return {"value": symbols.integer(value)}
    source, keep, change = _bits(value)
    return {"from": source, "from_mask": keep, "xor": change}


def _bits(value: Any) -> tuple[str, int, int]:
    """``source & keep ^ change`` of nested operators."""
    name, data = _only(value)
    if name not in ("&", "|", "^"):
        ((source, _kind),) = left_of(value)
        if source not in ("meta mark", "ct mark"):
            raise OddError(source)
        return source, 0xFFFFFFFF, 0
    source, keep, change = _bits(data[0])
    for operand in data[1:]:
        keep, change = nft_text.fold(keep, change, name, symbols.integer(operand) & 0xFFFFFFFF)
    return source, keep, change


def _nat(data: Any) -> dict[str, Any]:
    args: dict[str, Any] = {}
    if not isinstance(data, dict):
        return args
    for key, value in data.items():
        if key == "flags":
            args["flags"] = [str(one) for one in _listed(value)]
        elif key == "type_flags":
            args[key] = _listed(value)
        elif key == "family":
            args["family"] = str(value)
        elif key in ("addr", "port"):
            args[key] = _looked_up(value, "addr" if key == "addr" else "port")
    return args


def _looked_up(value: Any, kind: str) -> Any:
    """A value, one that a map gives (shape: model.Action), or ``{expression}`` for one that is computed otherwise."""
    try:
        if not isinstance(value, dict) or "map" not in value:
            return element([("", kind)], value)
        fields, data = left_of(value["map"]["key"]), value["map"]["data"]
        left = " . ".join(one for one, _kind in fields)
        if any(one == symbols.DYNAMIC for _name, one in fields):
            return {"expression": _text(value)}
        if isinstance(data, str) and data[:1] == "@":
            return {"left": left, "map": data[1:]}
        return {"left": left, "entries": [[element(fields, key), _given(found, kind)] for key, found in data["set"]]}
    except (OddError, KeyError, TypeError, ValueError, AttributeError, IndexError):
        return {"expression": _text(value)}


def _given(value: Any, kind: str) -> Any:
    """What a map gives; an address with its port comes as a concatenation."""
    joined = isinstance(value, dict) and "concat" in value
    return element([("", kind), ("", "port")] if joined else [("", kind)], value)


def _queue(data: Any) -> str:
    number = data.get("num", 0) if isinstance(data, dict) else 0
    if isinstance(number, dict) and "range" in number:
        return "-".join(str(one) for one in number["range"])
    return str(number) if isinstance(number, int) else _text(number)


def _set(data: dict[str, Any], expression: Any, add: Any) -> None:
    statements = data.get("stmt") or []
    if data["op"] == "delete" or any(not isinstance(one, dict) or "counter" not in one for one in statements):
        add(Unknown(_text(expression), NOT_STATIC))
    add(Action("set update", {"op": str(data["op"]), "set": str(data["set"]).lstrip("@"), "elem": _text(data["elem"])}))
