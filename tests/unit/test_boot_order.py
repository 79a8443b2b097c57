# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writers that come after systemd-sysctl. The order of sysctl.d: tests/kernel/test_boot_order.py, systemd is the witness."""

from __future__ import annotations

from pathlib import Path

from ansible_collections.netops.fleet.plugins.module_utils._tuning import boot_order

KEY = "net.ipv4.tcp_fin_timeout"


def tree(root: Path, **files: str) -> str:
    """Makes files; the name is the path with ``/`` as ``__``, given through a mapping."""
    for name, content in files.items():
        path = root / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return str(root)


def later(root: str, name: str = KEY) -> list[tuple[str, str | None, str, int, bool]]:
    found = boot_order.read(root).after(name)
    return [(one.writer, one.value, one.file, one.line, one.certain) for one in found]


def test_tuned_counts_only_when_it_is_on(tmp_path: Path) -> None:
    files = {
        "/etc/tuned/active_profile": "mine\n",
        "/etc/tuned/profiles/mine/tuned.conf": f"[main]\ninclude=base\n[sysctl]\n{KEY} = 20\n",
        "/usr/lib/tuned/profiles/base/tuned.conf": "[sysctl]\nnet.core.somaxconn=>2048\nvm.swappiness=${x}\n",
    }
    root = tree(tmp_path, **files)
    assert later(root) == []
    wants = tmp_path / "etc/systemd/system/multi-user.target.wants"
    wants.mkdir(parents=True)
    (wants / "tuned.service").symlink_to("/usr/lib/systemd/system/tuned.service")
    assert later(root) == [("tuned", "20", "/etc/tuned/profiles/mine/tuned.conf", 4, True)]
    assert later(root, "net.core.somaxconn") == [("tuned", "2048", "/usr/lib/tuned/profiles/base/tuned.conf", 2, True)]
    assert later(root, "vm.swappiness")[0][1] is None


def test_tuned_sets_huge_pages_too(tmp_path: Path) -> None:
    files = {
        "/etc/tuned/active_profile": "mine\n",
        "/etc/tuned/mine/tuned.conf": "[main]\ninclude=latency\n[vm]\ntransparent_hugepages=madvise\n",
        "/usr/lib/tuned/latency/tuned.conf": "[vm]\ntransparent_hugepages=never\n[sysctl]\nvm.swappiness=1\n",
    }
    root = tree(tmp_path, **files)
    assert boot_order.huge_page_writers(root) == []
    tree(tmp_path, **{"/etc/systemd/system/multi-user.target.wants/tuned.service": ""})
    assert [one.value for one in boot_order.huge_page_writers(root)] == ["never", "madvise"]


def test_tuned_applies_sysctl_d_again_so_a_file_there_beats_its_profile(tmp_path: Path) -> None:
    root = tree(
        tmp_path,
        **{
            "/etc/tuned/active_profile": "mine",
            "/etc/tuned/mine/tuned.conf": f"[sysctl]\n{KEY}=20\n",
            "/etc/systemd/system/multi-user.target.wants/tuned.service": "",
            "/etc/sysctl.d/zz.conf": f"{KEY}=30\n",
        },
    )
    assert later(root) == []
    tree(tmp_path, **{"/etc/sysctl.conf": f"# old\n{KEY} = 60\n"})
    assert later(root) == [("tuned", "60", "/etc/sysctl.conf", 2, True)]
    tree(tmp_path, **{"/etc/tuned/tuned-main.conf": "daemon = 1\nreapply_sysctl = 0\n"})
    assert later(root) == [("tuned", "20", "/etc/tuned/mine/tuned.conf", 2, True)]


def test_ufw_writes_its_own_file_when_it_is_on(tmp_path: Path) -> None:
    root = tree(
        tmp_path,
        **{
            "/etc/ufw/ufw.conf": "ENABLED=no\n",
            "/etc/ufw/sysctl.conf": "net/ipv4/conf/all/rp_filter=1\n",
        },
    )
    assert later(root, "net.ipv4.conf.all.rp_filter") == []
    tree(tmp_path, **{"/etc/ufw/ufw.conf": "# x\nENABLED=yes\n"})
    assert later(root, "net.ipv4.conf.all.rp_filter") == [("ufw", "1", "/etc/ufw/sysctl.conf", 1, True)]
    tree(
        tmp_path, **{"/etc/default/ufw": 'IPT_SYSCTL="/etc/other.conf"\n', "/etc/other.conf": "net.ipv4.conf.all.rp_filter = 2\n"}
    )
    assert later(root, "net.ipv4.conf.all.rp_filter") == [("ufw", "2", "/etc/other.conf", 1, True)]


def test_networkd_sets_parameters_of_its_links(tmp_path: Path) -> None:
    root = tree(
        tmp_path,
        **{
            "/etc/systemd/network/10-a.network": "[Match]\nName=eth0.5\n[Network]\nIPv4ReversePathFilter=strict\n",
            "/etc/systemd/system/multi-user.target.wants/systemd-networkd.service": "",
        },
    )
    found = later(root, "net.ipv4.conf.eth0/5.rp_filter")
    assert found == [("systemd-networkd", "1", "/etc/systemd/network/10-a.network", 4, True)]


def test_scripts_that_call_sysctl(tmp_path: Path) -> None:
    root = tree(
        tmp_path,
        **{
            "/etc/rc.local": f"#!/bin/sh\n# sysctl -w {KEY}=1\nsysctl -w {KEY}=15; true\n",
            "/etc/cloud/cloud.cfg.d/50-x.cfg": f'bootcmd:\n - [ sysctl, "-w", "{KEY}=16" ]\n',
            "/etc/systemd/system/hpc.service": "[Service]\nExecStart=/sbin/sysctl -p\n",
            "/etc/sysctl.conf": f"{KEY}=17\n",
            "/etc/udev/rules.d/70-x.rules": f'ACTION=="add", RUN+="/sbin/sysctl -w {KEY}=18"\n',
        },
    )
    found = later(root)
    assert ("rc.local", "15", "/etc/rc.local", 3, False) in found
    assert ("cloud-init", "16", "/etc/cloud/cloud.cfg.d/50-x.cfg", 2, False) in found
    assert ("udev", "18", "/etc/udev/rules.d/70-x.rules", 1, False) in found
    assert ("a unit /etc/systemd/system/hpc.service line 2", "17", "/etc/sysctl.conf", 1, False) in found
    assert len(found) == 4
