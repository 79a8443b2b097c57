# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A whole machine: a distribution's kernel and systemd in a virtual machine, with NUMA nodes and NICs with several queues.

Its disk is made from Debian's packages on first use and kept by the hash of its recipe; a machine writes to a copy that goes
with it. The checkout is mounted at its own path, to read.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from tests.lab import engine, image
from tests.lab.guest import ROOT, Guest, kernel

PACKAGES = (
    "dbus",
    "ethtool",
    "iproute2",
    "irqbalance",
    "kmod",
    "numactl",
    "procps",
    "python3",
    "systemd",
    "systemd-sysv",
    "udev",
)
#: Kernel modules on the disk: those of the network, of the share, and what they need.
_MODULES = ("net", "fs/9p", "fs/netfs", "fs/fscache", "drivers/net", "drivers/virtio", "lib", "crypto")
_FSTAB = "/dev/vda / ext4 rw 0 1\n"
_UNIT = f"""[Unit]
Description=Agent of the tests
RequiresMountsFor={ROOT}

[Service]
ExecStartPre=+/bin/mkdir -p {ROOT}
ExecStartPre=+/bin/mount -t 9p -o ro,trans=virtio,version=9p2000.L,msize=262144 checkout {ROOT}
ExecStart=/usr/bin/python3 {ROOT}/tests/lab/guest_agent.py {ROOT}/.collections

[Install]
WantedBy=multi-user.target
"""


@dataclass(frozen=True)
class Nic:
    """queues: receive and transmit pairs. node: NUMA node of its PCI bus, None where the firmware does not say."""

    queues: int = 1
    node: int | None = None


def disk() -> Path:
    """The disk's image; built when there is none of this recipe. Raises LabError."""
    digest = hashlib.sha256()
    for part in (image.SUITE, image.MIRROR, *PACKAGES, *_MODULES, kernel(), _UNIT, _FSTAB):
        digest.update(part.encode() + b"\0")
    path = engine.CACHE / f"machine-{digest.hexdigest()[:16]}.ext4"
    with engine.locked("machine"):
        if path.exists():
            return path
        started = time.monotonic()
        engine.say(f"lab: building the machine's disk ({image.SUITE}, {len(PACKAGES)} packages and what they need)")
        for old in engine.CACHE.glob("machine-*"):  # of older recipes, and of a run that was killed
            shutil.rmtree(old) if old.is_dir() else old.unlink()
        _build(path)
        engine.say(f"lab: disk built in {time.monotonic() - started:.0f} s")
    return path


def _build(path: Path) -> None:
    room = path.with_suffix(".build")
    room.mkdir(mode=0o700)
    root, fresh = room / "root", room / "disk"
    command = ["mmdebstrap", "--variant=minbase", f"--include={','.join(PACKAGES)}", '--aptopt=Acquire::Languages "none"']
    command += [f"--dpkgopt=path-exclude={pattern}" for pattern in image.LEFT_OUT]
    if image.KEYRING.exists():
        command.append(f"--keyring={image.KEYRING}")
    command += ["--format=directory", image.SUITE, str(root), *([image.MIRROR] if image.MIRROR else [])]
    try:
        engine.run(command, timeout=1200, env={**os.environ, "TMPDIR": str(room), "LC_ALL": "C"})
        _finish(root, fresh)
        fresh.rename(path)
    finally:
        shutil.rmtree(room, ignore_errors=True)


def _finish(root: Path, disk_image: Path) -> None:
    """Modules of the kernel, the agent, and the image."""
    release = kernel().split("vmlinuz-", 1)[1]
    source, target = Path("/lib/modules") / release, root / "lib/modules" / release
    for part in _MODULES:
        if (source / "kernel" / part).is_dir():
            shutil.copytree(source / "kernel" / part, target / "kernel" / part)
    for name in source.glob("modules.*"):
        shutil.copy2(name, target)
    engine.run(["depmod", "-b", str(root), release], timeout=120)
    (root / "etc/systemd/system/agent.service").write_text(_UNIT)
    wants = root / "etc/systemd/system/multi-user.target.wants"
    wants.mkdir(parents=True, exist_ok=True)
    (wants / "agent.service").symlink_to("/etc/systemd/system/agent.service")
    (root / "etc/modules").write_text("virtio_net\n9p\n9pnet_virtio\n")
    (root / "etc/fstab").write_text(_FSTAB)
    # 2 GiB that take on the host what is in them.
    engine.run(["mke2fs", "-q", "-t", "ext4", "-d", str(root), str(disk_image), "2G"], timeout=300)


class Machine(Guest):
    """Use as a context manager. nics: beside the one that the tests come in through, eth1 and up in the machine.

    nodes: NUMA nodes that share processors and memory equally. append: words of the kernel's command line.
    """

    def __init__(
        self, cpus: int = 4, memory_mib: int = 1536, nodes: int = 2, nics: tuple[Nic, ...] = (), append: str = ""
    ) -> None:
        super().__init__(cpus, f"{memory_mib}M", boot_s=600)
        self._count, self._mib, self._nodes, self._nics, self._append = cpus, memory_mib, nodes, nics, append
        self._disk = disk()
        self.taps = [f"nf{os.getpid()}m{at}" for at in range(len(nics))]

    def __enter__(self) -> Machine:
        for path in Path("/sys/class/net").glob("nf*m*"):  # of a run that was killed
            owner = re.fullmatch(r"nf(\d+)m\d+", path.name)
            if owner and not Path(f"/proc/{owner[1]}").exists():
                subprocess.run(["ip", "link", "del", path.name], check=True)
        try:
            for tap, nic in zip(self.taps, self._nics):
                words = ["multi_queue"] if nic.queues > 1 else []
                subprocess.run(["ip", "tuntap", "add", "dev", tap, "mode", "tap", *words], check=True)
                subprocess.run(["ip", "link", "set", tap, "up"], check=True)
            super().__enter__()
        except BaseException:
            self._remove_taps()
            raise
        return self

    def __exit__(self, *unused: object) -> None:
        super().__exit__(*unused)
        self._remove_taps()

    def reboot(self) -> None:
        """Shut it down in order and wait until it is there again, as another boot; its disk keeps what was written."""
        boot = ["cat", "/proc/sys/kernel/random/boot_id"]
        before = self.run(boot).out
        with contextlib.suppress(OSError, ValueError):  # it may end before it has answered
            self.run(["systemctl", "--no-block", "reboot"])
        deadline = time.monotonic() + self._boot_s
        while True:
            with contextlib.suppress(OSError, ValueError):
                said = self._ask({"op": "exec", "argv": boot}, 10)
                if said["rc"] == 0 and said["out"] != before:
                    return
            assert self._process.poll() is None and time.monotonic() < deadline, f"it does not come back\n{self._said()}"
            time.sleep(0.5)

    def _remove_taps(self) -> None:
        for tap in self.taps:
            if Path(f"/sys/class/net/{tap}").exists():
                subprocess.run(["ip", "link", "del", tap], check=True)

    def _command(self) -> list[str]:
        release = kernel().split("vmlinuz-", 1)[1]
        append = f"root=/dev/vda rw console=ttyS0 net.ifnames=0 systemd.unified_cgroup_hierarchy=1 {self._append}"
        # The machine ends with the process that asked for it, however that ends.
        command = ["setpriv", "--pdeathsig", "KILL", "qemu-system-x86_64", "-machine", "q35,accel=tcg", "-cpu", "max"]
        command += ["-display", "none", "-serial", "stdio", "-monitor", "none"]
        command += ["-m", self._memory, "-smp", str(self._count), "-kernel", kernel(), "-initrd", f"/boot/initrd.img-{release}"]
        command += ["-append", append, "-drive", f"file={self._disk},if=none,id=disk,format=raw,snapshot=on"]
        command += ["-device", "virtio-blk-pci,drive=disk,bus=pcie.0"]
        command += ["-fsdev", f"local,id=checkout,path={ROOT},security_model=none,readonly=on"]
        command += ["-device", "virtio-9p-pci,fsdev=checkout,mount_tag=checkout,bus=pcie.0"]
        each = self._count // self._nodes
        for node in range(self._nodes):
            command += ["-object", f"memory-backend-ram,id=mem{node},size={self._mib // self._nodes}M"]
            command += ["-numa", f"node,nodeid={node},memdev=mem{node},cpus={node * each}-{node * each + each - 1}"]
        command += self._network()
        for at, (tap, nic) in enumerate(zip(self.taps, self._nics)):
            queues = f",queues={nic.queues}" if nic.queues > 1 else ""
            many = f",mq=on,vectors={2 * nic.queues + 2}" if nic.queues > 1 else ""
            bus = ",bus=pcie.0"
            if nic.node is not None:
                command += ["-device", f"pxb-pcie,id=pxb{at},bus_nr={32 + 16 * at},numa_node={nic.node},bus=pcie.0"]
                command += ["-device", f"pcie-root-port,id=port{at},bus=pxb{at},chassis={at + 1}"]
                bus = f",bus=port{at}"
            command += ["-netdev", f"tap,id=tap{at},ifname={tap},script=no,downscript=no{queues}"]
            command += ["-device", f"virtio-net-pci,netdev=tap{at}{many}{bus}"]
        return command
