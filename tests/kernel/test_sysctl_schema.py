# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the schema says about kernel parameters, held against the running kernel: sysctl(8) writes and reads back."""

from __future__ import annotations

import pytest

from ansible_collections.netops.fleet.plugins.module_utils._kernel import parameters, sysctl

pytestmark = pytest.mark.kernel


def keep(ns, name: str, value: str) -> str | None:
    """What the kernel makes of it: the value read back, or None when it refuses."""
    done = ns.run(["sysctl", "-q", "-w", f"{name}={value}"], check=False)
    if done.returncode:
        return None
    return " ".join(ns.run(["sysctl", "-n", name]).stdout.split())


def here(ns, name: str) -> bool:
    return (
        ns.run(["sysctl", "-n", name], check=False).returncode == 0
        and not ns.run(["sh", "-c", f"test $(stat -c %a /proc/sys/{name.replace('.', '/')}) = 644"], check=False).returncode
    )


def values(known: parameters.Key) -> list[str]:
    """Both ends and the middle of what is allowed."""
    middle = (known.low + known.high) // 2
    if known.count == 1:
        return [str(known.low), str(middle), str(known.high)]
    step = (known.high - known.low) // known.count
    rising = " ".join(str(known.low + number * step) for number in range(known.count))
    top = " ".join(str(known.high - known.count + number) for number in range(known.count))
    return [rising, top, f"{known.low} {rising.split(' ', 1)[1]}"]


def test_what_is_allowed_the_kernel_takes_and_keeps(ns) -> None:
    tried = 0
    ns.run(["sysctl", "-q", "-w", "net.ipv4.ip_unprivileged_port_start=0"])
    for name, known in parameters.KEYS.items():
        if known.count == 0 or known.scope == "global" or not here(ns, name):
            continue
        for value in values(known):
            assert parameters.check(name, value, None) is None, name
            assert keep(ns, name, value) == value, f"{name} = {value}"
            tried += 1
    assert tried > 60, "hardly any key was there to be tried"


@pytest.mark.parametrize(
    ("name", "value", "kept"),
    [
        # What the kernel makes of it, silently: this is why the schema refuses.
        ("net.ipv4.tcp_rmem", "16777216", "16777216 131072 33554432"),
        ("net.ipv4.tcp_rmem", "4096 87380", "4096 87380 33554432"),
        ("net.ipv4.tcp_rmem", "67108864 4096 1", "67108864 4096 1"),
        ("net.ipv4.tcp_wmem", "4096 16384 4194304 5", "4096 16384 4194304"),
        ("net.ipv4.ip_local_port_range", "32768", "32768 60999"),
        ("net.ipv4.tcp_abort_on_overflow", "7", "7"),
        ("net.ipv4.conf.all.rp_filter", "7", "7"),
        ("net.ipv4.tcp_fin_timeout", "-5", "-5"),
        ("net.ipv4.tcp_fin_timeout", "0", "0"),
        ("net.ipv4.tcp_fin_timeout", "030", "24"),
        ("net.ipv4.tcp_fin_timeout", "0x1e", "30"),
        ("net.ipv4.tcp_mtu_probing", "9", "9"),
        ("net.ipv4.tcp_max_syn_backlog", "-1", "-1"),
        # What it refuses, so that check mode must refuse it too.
        ("net.ipv4.tcp_rmem", "4096 131072 2147483648", None),
        ("net.ipv4.tcp_rmem", "0 1 99999999999", None),
        ("net.ipv4.tcp_tw_reuse", "3", None),
        ("net.ipv4.ip_local_port_range", "60000 1000", None),
        ("net.ipv4.ip_local_port_range", "1024 70000", None),
        ("net.ipv4.tcp_keepalive_time", "99999999", None),
        ("net.core.somaxconn", "-1", None),
        ("net.ipv4.tcp_fin_timeout", "5x", None),
    ],
)
def test_what_the_kernel_gets_wrong_or_refuses_is_caught_before(ns, name: str, value: str, kept: str | None) -> None:
    ns.run(["sysctl", "-q", "-w", "net.ipv4.tcp_rmem=4096 131072 33554432"])
    ns.run(["sysctl", "-q", "-w", "net.ipv4.ip_local_port_range=32768 60999"])
    assert keep(ns, name, value) == kept
    refused = parameters.check(name, value, "1")
    assert refused is not None and refused.startswith(name)


def test_a_key_without_rules_keeps_its_form(ns) -> None:
    present = ns.run(["sysctl", "-n", "net.ipv4.tcp_rto_min_us"]).stdout.strip()
    assert parameters.key("net.ipv4.tcp_rto_min_us") is None
    assert parameters.check("net.ipv4.tcp_rto_min_us", "200000", present) is None
    assert "2 parts" in str(parameters.check("net.ipv4.tcp_rto_min_us", "200000 5", present))
    assert "decimal" in str(parameters.check("net.ipv4.tcp_rto_min_us", "0200", present))


def test_names_are_the_kernels(ns) -> None:
    """Interfaces with a dot, and both ways to write a name."""
    ns.run(["ip", "link", "add", "va.7", "type", "veth", "peer", "name", "vb"])
    for name in ("net.ipv4.conf.va/7.rp_filter", "net/ipv4/conf/va.7/rp_filter"):
        full = sysctl.canonical(name)
        assert full == "net.ipv4.conf.va/7.rp_filter"
        ns.run(["test", "-f", sysctl.path(full)])
        known = parameters.key(full)
        assert known is not None and known.cuts
