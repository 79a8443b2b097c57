# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the scenario "tune" needs of the lab: hosts that apply sysctl.d when they boot, reboots, and snapshots.

python -m tests.lab.tuning prepare LAB FOLDER     hosts ready, a snapshot of each in FOLDER
"""

from __future__ import annotations

import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tests.lab import engine, network
from tests.lab import lab as labs
from tests.lab.lab import Host, Lab

#: A service whose health depends on the tuning, where the host holds /etc/fails-when-tuned.
PROBE_PORT = 1700
_PROBE = f"""import http.server, os
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        tuned = open("/proc/sys/net/ipv4/tcp_fin_timeout").read().strip() == "30"
        self.send_response(500 if tuned and os.path.exists("/etc/fails-when-tuned") else 200)
        self.end_headers()
        self.wfile.write(b"ok")
    def log_message(self, *_words):
        pass
http.server.ThreadingHTTPServer(("127.0.0.1", {PROBE_PORT}), Handler).serve_forever()
"""
_UNIT = """[Unit]
Description=A service whose health depends on the tuning
[Service]
ExecStart=/usr/bin/python3 /usr/local/bin/probe
[Install]
WantedBy=multi-user.target
"""
#: Another tool's file that sorts behind this collection's, on one host.
FOREIGN = "/etc/sysctl.d/zzz-vendor.conf"

#: Parts of the names of parameters that move by themselves. (eth0 is made from outside while systemd-sysctl runs.)
MOVING = (
    "_count", "fastopen_key", "random", "stable_secret", "hash_seed", "/flush", "nr_inodes", "dentry", "inode-", "file-nr",
    "fs.quota", "ns_last_pid", "entropy", "pty.nr", "aio-nr", "perf_", "cad_pid", "sched_domain", "epoll", "stat_refresh",
    "conf.eth0.",
)  # fmt: skip
#: All of sysctl -a that does not move by itself, every file of /etc with mode and owner, every unit.
_SNAPSHOT = (
    f"moving = {MOVING}"
    + r"""
import hashlib, json, os, subprocess
shown = subprocess.run(["sysctl", "-a"], capture_output=True, text=True).stdout.splitlines()
values = sorted(line for line in shown if not any(word in line.split(" = ")[0] for word in moving))
files = {}
for top, folders, names in os.walk("/etc"):
    for name in folders + names:
        path = os.path.join(top, name)
        found = os.lstat(path)
        if os.path.islink(path):
            content = os.readlink(path)
        elif os.path.isfile(path):
            content = hashlib.sha256(open(path, "rb").read()).hexdigest()
        else:
            content = ""
        files[path] = [oct(found.st_mode), found.st_uid, found.st_gid, content]
listed = subprocess.run(["systemctl", "list-unit-files", "--no-legend", "--plain"], capture_output=True, text=True).stdout
units = sorted(" ".join(line.split()[:2]) for line in listed.splitlines() if not line.startswith("run-"))
timers = subprocess.run(["systemctl", "list-timers", "--all", "--no-legend"], capture_output=True, text=True).stdout
print(json.dumps({"values": values, "files": files, "units": units, "deadman": "netops-fleet" in timers}))
"""
)


def snapshot(host: Host) -> dict[str, Any]:
    """What a changer could have changed, as other tools see it."""
    found: dict[str, Any] = json.loads(host.run(["python3", "-"], input=_SNAPSHOT.encode(), timeout=120).stdout)
    return found


def differences(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """For messages of tests."""
    found = [f"- {line}" for line in one["values"] if line not in other["values"]]
    found += [f"+ {line}" for line in other["values"] if line not in one["values"]]
    for path in sorted(set(one["files"]) | set(other["files"])):
        if one["files"].get(path) != other["files"].get(path):
            found.append(f"file {path}: {one['files'].get(path)} / {other['files'].get(path)}")
    found += [f"unit {unit}" for unit in set(one["units"]) ^ set(other["units"])]
    if one["deadman"] != other["deadman"]:
        found.append("the dead-man's timer")
    return found


def power_off(host: Host) -> None:
    """Cut the power; reboot() brings the host back."""
    name = host.lab._container(host.name)
    engine.podman("kill", name, check=False)  # it may be off already
    engine.podman("wait", name, timeout=60)


def reboot(host: Host) -> None:
    """Cut the power and boot again: a new first process, a new network namespace, the same disk."""
    lab = host.lab
    assert lab.net is not None
    name = lab._container(host.name)
    power_off(host)
    engine.run(["ip", "-n", lab.net.namespace, "link", "del", host.name], check=False)
    engine.podman("start", name)
    pid = int((lab.sockets / f"{host.name}.pid").read_text())
    network.connect(lab.net, host.name, pid, network.FIRST_HOST + lab.names.index(host.name))
    deadline = time.monotonic() + labs.BOOT_SECONDS
    while not labs._answers(host.address, 22):
        assert time.monotonic() < deadline, f"{host.name} did not come back"
        time.sleep(0.1)
    state = host.run("systemctl is-system-running --wait", check=False, timeout=labs.BOOT_SECONDS).stdout.strip()
    assert state == "running", f"{host.name}: systemd says {state}: {host.run('systemctl --failed --no-legend').stdout}"


def ready(host: Host) -> dict[str, Any]:
    """Let the host apply sysctl.d at boot, give it the probed service, boot it once, take a snapshot."""
    host.run("rm -f /etc/systemd/system/systemd-sysctl.service")
    host.run("cat >/usr/local/bin/probe", input=_PROBE.encode())
    host.run("cat >/etc/systemd/system/probe.service", input=_UNIT.encode())
    host.run("systemctl enable --quiet probe.service")
    if host.name.endswith("04"):
        host.run(f"printf '# vendor\\nnet.core.somaxconn = 1024\\n' >{FOREIGN}")
    reboot(host)
    return snapshot(host)


def prepare(name: str, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    hosts = list(Lab.attach(name).hosts.values())
    with ThreadPoolExecutor(max_workers=4) as pool:
        for host, found in zip(hosts, pool.map(ready, hosts)):
            (folder / f"{host.name}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    prepare(sys.argv[2], Path(sys.argv[3]))
