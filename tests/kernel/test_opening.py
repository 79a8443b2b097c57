# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A port that is open for a while. The witness is a connection, before, while and after; nothing alive could close it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.kernel.conftest import Namespace, until

pytestmark = pytest.mark.kernel

_RUN = """
import json, sys
from ansible_collections.netops.fleet.plugins.module_utils._firewall import opening, set_plan
from ansible_collections.netops.fleet.plugins.module_utils._safety import change
folder, given, check = sys.argv[1], json.loads(sys.argv[2]), sys.argv[3] == "check"
params = {name: spec.get("default") for name, spec in opening.ARGUMENTS.items()} | given
try:
    print(json.dumps(opening.run(params, check, folder)))
except (set_plan.SetsError, change.ChangeError) as error:
    print(json.dumps({"error": str(error)}))
"""
_LISTEN = """
import socket
listener = socket.create_server(("::", 8888), family=socket.AF_INET6, dualstack_ipv6=True)
print("ready")
while True:
    listener.accept()[0].close()
"""
_CONNECT = """
import socket, sys
sock = socket.socket(socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET)
sock.settimeout(0.3)
print(sock.connect_ex((sys.argv[1], 8888)))
"""
_NFT = """
table inet filter {
  chain input {
    type filter hook input priority 0; policy drop;
    ct state established accept
    tcp dport 22 accept
  }
}
table ip firewalld { chain filter_INPUT { type filter hook input priority 10; tcp dport 1 drop; }; }
table inet other { chain out { type filter hook output priority 0; policy accept; }; }
"""


@pytest.fixture
def run(ns: Namespace, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    def call(check: bool = False, **given: Any) -> dict[str, Any]:
        given = {"port": "tcp/8888", **given}
        answer: dict[str, Any] = ns.python_json(_RUN, str(tmp_path / "journal"), json.dumps(given), "check" if check else "run")
        return answer

    return call


def connects(ns: Namespace, address: str = "127.0.0.1") -> bool:
    return ns.python(_CONNECT, address).stdout.strip() == "0"


def rules(ns: Namespace) -> str:
    """Of all back ends, without counters."""
    saves = [f"{tool}-{kind}-save" for tool in ("iptables", "ip6tables") for kind in ("nft", "legacy")]
    texts = [ns.run(["nft", "-s", "list", "ruleset"]).stdout, *(ns.run([save]).stdout for save in saves)]
    return "\n".join(line for text in texts for line in text.splitlines() if not line.startswith(("#", ":")))


def close(ns: Namespace, backend: str) -> None:
    """Refuse the port, as ``backend`` does."""
    if backend == "nft":
        ns.run(["nft", "-f", "-"], input=_NFT)
        return
    tools = ["iptables-legacy", "ip6tables-legacy"] if backend == "legacy" else ["iptables", "ip6tables"]
    for tool in tools:
        ns.run([tool, "-A", "INPUT", "-m", "conntrack", "--ctstate", "ESTABLISHED", "-j", "ACCEPT"])
        ns.run([tool, "-A", "INPUT", "-p", "tcp", "--dport", "8888", "-j", "DROP"])


@pytest.mark.parametrize("backend", ["nft", "iptables", "legacy"])
def test_open_for_a_while_and_closed_by_the_kernel(ns: Namespace, run: Callable[..., dict[str, Any]], backend: str) -> None:
    close(ns, backend)
    ns.start_python(_LISTEN)
    before = rules(ns)
    assert not connects(ns) and not connects(ns, "::1")
    assert run(check=True)["changed"] and rules(ns) == before
    done = run(seconds=4)
    assert done["changed"] and connects(ns) and connects(ns, "::1"), done
    # The module's process is gone and no timer runs; time alone closes it.
    until(lambda: not connects(ns))
    assert not connects(ns, "::1")
    again = run(seconds=900)
    assert again["changed"] and connects(ns) and rules(ns).count("netops.fleet opening") == (1 if backend == "nft" else 2)
    assert not run(seconds=900)["changed"]
    assert run(seconds=1800, extend=True)["changed"] and rules(ns).count("netops.fleet opening") == (1 if backend == "nft" else 2)
    assert run(state="closed")["changed"] and not connects(ns)
    assert rules(ns) == before and not run(state="closed")["changed"]


def test_for_one_source_only_and_others_are_left_alone(ns: Namespace, run: Callable[..., dict[str, Any]]) -> None:
    close(ns, "nft")
    ns.start_python(_LISTEN)
    done = run(source="127.0.0.0/8")
    assert connects(ns) and not connects(ns, "::1")
    assert done["chains"] == ["nft inet filter input"] and "firewall-cmd --add-port=8888/tcp" in done["notes"][0]
    assert "opening" not in ns.run(["nft", "list", "table", "ip", "firewalld"]).stdout


def test_nothing_refuses_and_nothing_is_changed(ns: Namespace, run: Callable[..., dict[str, Any]]) -> None:
    ns.run(
        ["nft", "-f", "-"], input="table inet filter { chain input { type filter hook input priority 0; tcp dport 22 accept; }; }"
    )
    done = run()
    assert not done["changed"] and "nothing is to be opened" in done["notes"][0]


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"port": "8888"}, "it is like tcp/8080"),
        ({"port": "tcp/99999"}, "it is like tcp/8080"),
        ({"source": "here; drop"}, "an address or a prefix"),
        ({"seconds": 0}, "allowed are 1 to 86400"),
    ],
)
def test_wrong_options_are_named(run: Callable[..., dict[str, Any]], given: dict[str, Any], says: str) -> None:
    assert says in run(**given)["error"]
