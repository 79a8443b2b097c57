# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts with long lists of rules, for tests and figures of firewall_consolidate."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from tests.kernel.conftest import Namespace

_RUN = """
import json, sys
from ansible_collections.netops.fleet.plugins.module_utils._firewall import apply
from ansible_collections.netops.fleet.plugins.module_utils._firewall.consolidate import PlanError
from ansible_collections.netops.fleet.plugins.module_utils._safety.change import ChangeError
task = json.loads(sys.argv[1])
try:
    result = apply.run(task["params"], task["check"], task["folder"], task["root"])
except (PlanError, ChangeError) as error:
    result = {"error": str(error)}
print(json.dumps(result))
"""

_BACK = """
import json, sys
from ansible_collections.netops.fleet.plugins.module_utils._safety import act
print(json.dumps(act.run({"state": sys.argv[2], "change": sys.argv[3], "force": False, "owner": None}, False, sys.argv[1])))
"""

DEFAULTS: dict[str, Any] = {
    "state": "planned", "path": None, "chains": [], "rules": False, "minimum": 4, "order": False, "prefix": "nf_", "deadman": 0,
    "connection": None, "check_connection": True, "persist": True,
}  # fmt: skip


def arguments(folder: Path, check: bool = False, **params: Any) -> str:
    root = str(folder.parent / "root")  # no file of this machine is looked at
    return json.dumps({"params": {**DEFAULTS, **params}, "check": check, "folder": str(folder), "root": root})


def run(ns: Namespace, folder: Path, check: bool = False, **params: Any) -> Any:
    return ns.python_json(_RUN, arguments(folder, check, **params), timeout=300)


def journal(ns: Namespace, folder: Path, state: str, change: str) -> Any:
    return ns.python_json(_BACK, str(folder), state, change)


def plain(text: str) -> str:
    """A listing without what moves by itself."""
    return re.sub(r"\[\d+:\d+\] ?|# (Generated|Completed).*\n| packets \d+ bytes \d+| # handle \d+", "", text)


def save(ns: Namespace, backend: str, family: str = "ip") -> str:
    if backend == "native":
        return plain(ns.run(["nft", "list", "ruleset"], timeout=300).stdout)
    return plain(ns.run([f"ip{'6' if family == 'ip6' else ''}tables-{backend}-save"], timeout=300).stdout)


def address(number: int, family: str = "ip") -> str:
    if family == "ip6":
        return f"fd10:{(number >> 15) + 1:x}::{(number & 32767) + 1:x}"
    return f"10.{number >> 14 & 127}.{number >> 7 & 127}.{(number & 127) + 1}"


def blocked(count: int, backend: str, family: str = "ip", accept_port: int = 22) -> str:
    """A ruleset as scripts leave it: ``count`` addresses blocked one by one, docker-like chains beside them."""
    if backend == "native":
        word = "ip6" if family == "ip6" else "ip"
        drops = "\n".join(f'{word} saddr {address(n, family)} counter drop comment "case {n}"' for n in range(count))
        return (
            "table inet fence {\nchain theirs {\nip saddr 172.17.0.2 accept\n}\nchain input {\n"
            "type filter hook input priority 0; policy accept;\nct state established,related accept\niif lo accept\n"
            f"{drops}\ntcp dport {accept_port} accept\njump theirs\n}}\n}}\n"
            "table ip docker {\nchain DOCKER {\nip daddr 172.17.0.2 tcp dport 80 accept\n}\n}\n"
        )
    lines = [
        "*filter", ":INPUT ACCEPT [0:0]", ":FORWARD ACCEPT [0:0]", ":DOCKER - [0:0]", ":f2b-sshd - [0:0]",
        "-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT", "-A INPUT -i lo -j ACCEPT", "-A INPUT -j f2b-sshd",
        *(f'-A INPUT -s {address(n, family)} -m comment --comment "case {n}" -j DROP' for n in range(count)),
        f"-A INPUT -p tcp -m tcp --dport {accept_port} -j ACCEPT", "-A FORWARD -j DOCKER", "-A f2b-sshd -j RETURN",
        f"-A DOCKER -d {'172.17.0.2' if family == 'ip' else 'fd17::2'} -p tcp -m tcp --dport 80 -j ACCEPT", "COMMIT",
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def load(ns: Namespace, text: str, backend: str, family: str = "ip") -> None:
    argv = ["nft", "-f", "-"] if backend == "native" else [f"ip{'6' if family == 'ip6' else ''}tables-{backend}-restore"]
    ns.run(argv, input=text, timeout=300)
