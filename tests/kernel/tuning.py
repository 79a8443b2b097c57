# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the tests of tuning share: code that runs inside a namespace with files of its own, gone with its process."""

from __future__ import annotations

#: Makes the host's files private, and defines what the tests need: options(), tune, snapshot().
PRELUDE = '''
import json, os, signal, subprocess, sys
from pathlib import Path
for folder in ("/etc/sysctl.d", "/etc/udev", "/etc/security", "/etc/systemd", "/var/lib", "/run"):
    os.makedirs(folder, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "none", folder], check=True)
for folder in ("/etc/udev/rules.d", "/etc/security/limits.d", "/etc/systemd/system"):
    os.mkdir(folder)
# What a profile raises that belongs to the machine, tests beside this one included: files, of as many digits as what is written.
for name in ("nr_open", "file-max"):
    Path("/run", name).write_text("1000000\\n")
    subprocess.run(["mount", "--bind", f"/run/{name}", f"/proc/sys/fs/{name}"], check=True)
from ansible_collections.netops.fleet.plugins.module_utils._kernel import sysctl
from ansible_collections.netops.fleet.plugins.module_utils._safety import cli, deadman, journal, lock, objects, rollback
from ansible_collections.netops.fleet.plugins.module_utils._tuning import boot_order, sysctl_plan, tune
FOLDER = "/var/lib/netops.fleet"

def options(**given):
    return tune.Options(**given)

def snapshot():
    """Every parameter of the network and of open files as sysctl(8) shows it, and every file that a changer could have touched.

    The rest of kernel, vm and fs is the machine's, where others are at work, and moves by itself (fs.quota.syncs). Counters and
    random numbers are left out.
    """
    # Keys that change by themselves: counters, clocks, keys.
    moving = ("_count", "fastopen_key", "random", "stable_secret", "fib_multipath_hash_seed", "/flush", "nr_inodes", "dentry",
              "inode-", "file-nr", "ns_last_pid", "entropy", "pty.nr", "aio-nr", "perf_event", "cad_pid", "uuid", "boot_id")
    shown = subprocess.run(["sysctl", "-a"], capture_output=True, text=True).stdout.splitlines()
    own = ("net.", "fs.nr_open", "fs.file-max")
    values = sorted(line for line in shown if line.startswith(own) and not any(word in line.split(" = ")[0] for word in moving))
    files = {}
    for top in ("/etc/sysctl.d", "/etc/udev", "/etc/security", "/etc/systemd"):
        for path in sorted(Path(top).rglob("*")):
            found = path.lstat()
            content = os.readlink(path) if path.is_symlink() else path.read_text() if path.is_file() else ""
            files[str(path)] = [oct(found.st_mode), found.st_uid, content]
    return [values, files]

def unlike(one, other):
    """What differs between two snapshots, for messages."""
    found = sorted(set(one[0]) ^ set(other[0]))
    return found + [path for path in sorted(set(one[1]) | set(other[1])) if one[1].get(path) != other[1].get(path)]
'''
