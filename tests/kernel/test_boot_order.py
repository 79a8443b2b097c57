# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which value wins at boot: systemd-sysctl itself applies the same files in a namespace, sysctl(8) says what is in force."""

from __future__ import annotations

import json

import pytest

pytestmark = pytest.mark.kernel

TOOL = "/lib/systemd/systemd-sysctl"
#: Applies a tree of files with systemd-sysctl and asks the resolver about the same tree. Mounts end with the process.
CODE = """
import json, os, subprocess, sys
files, keys = json.loads(sys.argv[1])
subprocess.run(["mount", "-t", "tmpfs", "none", "/etc/sysctl.d"], check=True)
subprocess.run(["mount", "-t", "tmpfs", "none", "/usr/lib/sysctl.d"], check=True)
subprocess.run(["mount", "-t", "tmpfs", "none", "/run"], check=True)
os.mkdir("/run/sysctl.d")
for path, content in files.items():
    if content.startswith("->"):
        os.symlink(content[2:], path)
    else:
        open(path, "w").write(content)
subprocess.run(["@TOOL@", "--prefix=/net/ipv4"])  # 1: it did not like a line, and applied the others
from ansible_collections.netops.fleet.plugins.module_utils._tuning import boot_order
boot = boot_order.read()
out = {}
for key in keys:
    real = subprocess.run(["sysctl", "-n", key], capture_output=True, text=True, check=True).stdout.split()
    winner = boot.winner(key)
    out[key] = [" ".join(real), winner and winner.value, winner and winner.file]
print(json.dumps(out))
""".replace("@TOOL@", TOOL)
FIN, RMEM, RP, RP_LO = (
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_rmem",
    "net.ipv4.conf.all.rp_filter",
    "net.ipv4.conf.lo.rp_filter",
)


def ask(ns, files: dict[str, str], *keys: str) -> dict[str, list[str | None]]:
    return ns.python_json(CODE, json.dumps([files, keys]))


def test_the_files_name_decides_across_folders(ns) -> None:
    files = {
        "/etc/sysctl.d/10-a.conf": f"{FIN}=11\n",
        "/usr/lib/sysctl.d/99-b.conf": f"{FIN}=12\n",
        "/run/sysctl.d/50-c.conf": f"{FIN}=13\n",
    }
    assert ask(ns, files, FIN)[FIN] == ["12", "12", "/usr/lib/sysctl.d/99-b.conf"]


def test_zz_beats_every_number_and_999_beats_99_sysctl(ns) -> None:
    files = {
        "/etc/sysctl.d/99-sysctl.conf": f"{FIN}=11\n{RMEM}=4096 8192 16384\n",
        "/etc/sysctl.d/999-vendor.conf": f"{FIN} = 12\n",
        "/etc/sysctl.d/zz-netops-fleet.conf": f"{RMEM} =\t4096  131072\t 16777216\n",
    }
    found = ask(ns, files, FIN, RMEM)
    assert found[FIN] == ["12", "12", "/etc/sysctl.d/999-vendor.conf"]
    assert found[RMEM] == ["4096 131072 16777216", "4096 131072 16777216", "/etc/sysctl.d/zz-netops-fleet.conf"]


def test_etc_hides_the_same_name_elsewhere(ns) -> None:
    files = {
        "/usr/lib/sysctl.d/50-x.conf": f"{FIN}=11\n",
        "/run/sysctl.d/50-x.conf": f"{FIN}=12\n",
        "/etc/sysctl.d/50-x.conf": "# nothing\n",
        "/usr/lib/sysctl.d/40-y.conf": f"{FIN}=14\n",
        "/etc/sysctl.d/60-z.conf": "->/dev/null",
        "/usr/lib/sysctl.d/60-z.conf": f"{FIN}=15\n",
    }
    assert ask(ns, files, FIN)[FIN] == ["14", "14", "/usr/lib/sysctl.d/40-y.conf"]


def test_the_last_line_of_a_file_wins_and_slashes_are_dots(ns) -> None:
    files = {"/etc/sysctl.d/50-x.conf": f"# c\n; c\n{FIN}=11\nnet/ipv4/tcp_fin_timeout = 12\n-{RMEM}=4096 8192 65536\nnonsense\n"}
    found = ask(ns, files, FIN, RMEM)
    assert found[FIN][:2] == ["12", "12"]
    assert found[RMEM][:2] == ["4096 8192 65536", "4096 8192 65536"]


def test_a_pattern_gives_way_to_a_name(ns) -> None:
    files = {
        "/etc/sysctl.d/10-x.conf": f"{RP} = 0\n",
        "/etc/sysctl.d/90-y.conf": "net.ipv4.conf.*.rp_filter = 2\n",
    }
    found = ask(ns, files, RP, RP_LO)
    assert found[RP] == ["0", "0", "/etc/sysctl.d/10-x.conf"]
    assert found[RP_LO] == ["2", "2", "/etc/sysctl.d/90-y.conf"]


def test_a_name_taken_out_of_patterns_is_not_set(ns) -> None:
    ns.run(["sysctl", "-q", "-w", f"{RP}=1"])
    files = {"/etc/sysctl.d/90-y.conf": f"net.ipv4.conf.*.rp_filter = 2\n-{RP}\n"}
    found = ask(ns, files, RP, RP_LO)
    assert found[RP] == ["1", None, None]
    assert found[RP_LO][:2] == ["2", "2"]


def test_sysctl_conf_is_not_read_unless_linked(ns) -> None:
    before = ns.run(["sysctl", "-n", FIN]).stdout.strip()
    assert ask(ns, {"/run/sysctl.d/50-other.conf": f"{RP}=0\n"}, FIN)[FIN] == [before, None, None]
