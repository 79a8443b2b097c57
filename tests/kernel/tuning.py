# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the tests of tuning share: code that runs inside a namespace with folders of its own, gone with its process."""

from __future__ import annotations

#: Makes the host's folders private, and defines what the tests need: options(), tune, snapshot().
PRELUDE = '''
import json, os, signal, subprocess, sys
from pathlib import Path
for folder in ("/etc/sysctl.d", "/etc/udev", "/etc/security", "/etc/systemd", "/var/lib", "/run"):
    os.makedirs(folder, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "none", folder], check=True)
for folder in ("/etc/udev/rules.d", "/etc/security/limits.d", "/etc/systemd/system"):
    os.mkdir(folder)
from ansible_collections.netops.fleet.plugins.module_utils._kernel import sysctl
from ansible_collections.netops.fleet.plugins.module_utils._safety import cli, deadman, journal, lock, objects, rollback
from ansible_collections.netops.fleet.plugins.module_utils._tuning import boot_order, sysctl_plan, tune
FOLDER = "/var/lib/netops.fleet"

def options(**given):
    return tune.Options(**given)

def snapshot():
    """All of sysctl(8), and every file that a changer could have touched. Counters and random numbers are left out."""
    # Keys that change by themselves: counters, clocks, keys.
    moving = ("_count", "fastopen_key", "random", "stable_secret", "fib_multipath_hash_seed", "/flush", "nr_inodes", "dentry",
              "inode-", "file-nr", "ns_last_pid", "entropy", "pty.nr", "aio-nr", "perf_event", "cad_pid", "uuid", "boot_id")
    shown = subprocess.run(["sysctl", "-a"], capture_output=True, text=True).stdout.splitlines()
    values = sorted(line for line in shown if not any(word in line.split(" = ")[0] for word in moving))
    files = {}
    for top in ("/etc/sysctl.d", "/etc/udev", "/etc/security", "/etc/systemd"):
        for path in sorted(Path(top).rglob("*")):
            found = path.lstat()
            content = os.readlink(path) if path.is_symlink() else path.read_text() if path.is_file() else ""
            files[str(path)] = [oct(found.st_mode), found.st_uid, content]
    return [values, files]
'''
