# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts with long lists of rules, for the scenario "firewall": ``python -m tests.lab.fences LAB FOLDER`` brings them in.

gpu01 and gpu02: the same rules of nftables. gpu03: iptables on nft. gpu04: iptables-legacy. Each loads them at boot, and then
what stands in for docker writes its chains. A snapshot of each host goes to FOLDER.
"""

from __future__ import annotations

import json
import re
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tests.lab import faults, tuning
from tests.lab.lab import Host, Lab

COUNT = 60
KINDS = {"gpu01": "native", "gpu02": "native", "gpu03": "nft", "gpu04": "legacy"}
#: host → the one that it keeps from the port, as the last of its list.
BLOCKED = {"gpu01": "gpu04", "gpu02": "gpu04", "gpu03": "gpu04", "gpu04": "gpu03"}
NFTABLES, RULES = "/etc/nftables.conf", "/etc/iptables/rules.v4"
#: Files of the next boot that a change may write.
FILES = (NFTABLES, RULES, "/etc/netops.fleet", "/etc/systemd/system/netops-fleet-sets.service")
_UNIT = """[Unit]
Description={what}
After={after}
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart={command}
[Install]
WantedBy=multi-user.target
"""


def _put(host: Host, path: str, text: str, mode: str = "0644") -> None:
    host.run(["install", "-D", "-m", mode, "/dev/stdin", path], input=text.encode())


def listed(address: str) -> list[str]:
    """Addresses that are kept from the port."""
    return [*(f"203.0.113.{number}" for number in range(1, COUNT)), address]


def _native(address: str) -> str:
    drops = "\n".join(f'ip saddr {one} tcp dport {faults.PORT} counter drop comment "case {one}"' for one in listed(address))
    return (
        "table inet fence {\nchain input {\ntype filter hook input priority 0; policy accept;\n"
        f'ct state established,related accept\niif "lo" accept\n{drops}\ntcp dport {{ 22, {faults.PORT} }} accept\n}}\n}}\n'
    )


def _iptables(address: str) -> str:
    drops = [
        f'-A INPUT -s {one}/32 -p tcp -m tcp --dport {faults.PORT} -m comment --comment "case {one}" -j DROP'
        for one in listed(address)
    ]
    accepts = [f"-A INPUT -p tcp -m tcp --dport {port} -j ACCEPT" for port in (22, faults.PORT)]
    first = ["-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT", "-A INPUT -i lo -j ACCEPT"]
    return "\n".join(["*filter", ":INPUT ACCEPT", ":FORWARD ACCEPT", ":OUTPUT ACCEPT", *first, *drops, *accepts, "COMMIT", ""])


def _docker(backend: str) -> str:
    """What docker does when it starts, with a bridge's name that no other host has."""
    return f"""#!/bin/sh -e
echo 1 >/proc/sys/net/ipv4/ip_forward
bridge=br-$(hostname | md5sum | cut -c1-12)
iptables-{backend}-restore --noflush <<END
*filter
:DOCKER - [0:0]
:DOCKER-USER - [0:0]
-A DOCKER -d 172.17.0.2/32 ! -i $bridge -o $bridge -p tcp -m tcp --dport 80 -j ACCEPT
-A DOCKER-USER -j RETURN
-A FORWARD -j DOCKER-USER
-A FORWARD -o $bridge -j DOCKER
-A FORWARD -i $bridge ! -o $bridge -j ACCEPT
COMMIT
*nat
:DOCKER - [0:0]
-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
-A DOCKER -i docker0 -j RETURN
-A DOCKER ! -i $bridge -p tcp -m tcp --dport 8080 -j DNAT --to-destination 172.17.0.2:80
COMMIT
END
"""


def _plain(text: str) -> str:
    """A listing without what moves by itself."""
    text = re.sub(r"\[\d+:\d+\]|^#.*\n", "", text, flags=re.MULTILINE)
    return re.sub(r"counter packets \d+ bytes \d+", "counter", text)


def rules(host: Host) -> dict[str, str]:
    """All rules and sets of a host, as its tools list them."""
    # Members of an ipset stand in no order, and what they are hashed with is new at every boot.
    lines = ["nft list ruleset", "iptables-nft-save", "iptables-legacy-save", "ipset save | sed 's/ initval .*//' | sort"]
    return {line.split(" |")[0]: _plain(host.run(f"({line}) 2>/dev/null", timeout=120).stdout) for line in lines}


def foreign(found: dict[str, str]) -> list[str]:
    """What stands in for docker, as it is listed."""
    text = "\n".join(found[name] for name in ("iptables-nft-save", "iptables-legacy-save"))
    return [line for line in text.split("\n") if "DOCKER" in line]


def snapshot(host: Host) -> dict[str, Any]:
    """What a change could have changed: rules, sets, the files of the next boot."""
    files = host.run(f"find {' '.join(FILES)} -type f -exec sha256sum {{}} + 2>/dev/null | sort", check=False).stdout
    return {"rules": rules(host), "files": files}


def ready(host: Host, blocked: str) -> dict[str, Any]:
    kind = KINDS[host.name]
    unit = "nftables.service" if kind == "native" else "netfilter-persistent.service"
    if kind == "native":
        host.run("nft -f -", input=_native(blocked).encode())
        host.run(f"(echo '#!/usr/sbin/nft -f'; echo 'flush ruleset'; nft -s list ruleset) >{NFTABLES}")
    else:
        # What loads rules at boot is the variant that the host calls iptables.
        host.run(f"update-alternatives --set iptables /usr/sbin/iptables-{kind}")
        host.run("iptables-restore", input=_iptables(blocked).encode())
        host.run(f"mkdir -p /etc/iptables && iptables-{kind}-save >{RULES}")
        command = f"/usr/sbin/iptables-restore {RULES}"
        text = _UNIT.format(what="Rules of iptables", after="local-fs.target", command=command)
        _put(host, f"/etc/systemd/system/{unit}", text)
    _put(host, "/usr/local/sbin/docker-like", _docker("legacy" if kind == "legacy" else "nft"), "0755")
    text = _UNIT.format(what="Chains as docker's", after=unit, command="/usr/local/sbin/docker-like")
    _put(host, "/etc/systemd/system/docker-like.service", text)
    host.run(f"systemctl daemon-reload && systemctl enable --quiet {unit} docker-like.service")
    tuning.reboot(host)
    return snapshot(host)


def prepare(name: str, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    lab = Lab.attach(name)
    hosts = list(lab.hosts.values())
    addresses = [lab.hosts[BLOCKED[host.name]].address for host in hosts]
    with ThreadPoolExecutor(max_workers=4) as pool:
        for host, found in zip(hosts, pool.map(ready, hosts, addresses)):
            (folder / f"{host.name}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    prepare(sys.argv[1], Path(sys.argv[2]))
