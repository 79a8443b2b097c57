# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The image of the lab's hosts: Debian with systemd, made from Debian's packages and kept by the hash of its recipe."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import time
from pathlib import Path

from tests.lab import engine

HERE = Path(__file__).resolve().parent / "image"
SUITE = "bookworm"
MIRROR = os.environ.get("NETOPS_LAB_MIRROR", "")
PACKAGES = (
    "bpftool",
    "ca-certificates",
    "dbus",
    "iproute2",
    "ipset",
    "iptables",
    "iputils-ping",
    "keepalived",
    "kmod",
    "nftables",
    "openssh-server",
    "procps",
    "python3",
    "systemd",
    "systemd-resolved",
    "systemd-sysv",
    "tcpdump",
)
#: Pages nobody reads in a container; a third of the image.
LEFT_OUT = ("/usr/share/doc/*", "/usr/share/locale/*", "/usr/share/man/*", "/usr/share/info/*")
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")


def reference() -> str:
    """The image's name; it changes when the recipe does."""
    digest = hashlib.sha256()
    for part in (SUITE, MIRROR, *PACKAGES, *LEFT_OUT):
        digest.update(part.encode() + b"\0")
    for path in sorted(HERE.iterdir()):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return f"localhost/{engine.LABEL}:{digest.hexdigest()[:16]}"


def ensure() -> str:
    """Return the image's reference; build it when the storage lacks it. Raises LabError."""
    name = reference()
    with engine.locked("image"):
        if engine.podman("image", "exists", name, check=False).returncode == 0:
            return name
        started = time.monotonic()
        engine.say(f"lab: building the hosts' image ({SUITE}, {len(PACKAGES)} packages and what they need)")
        _build(name)
        engine.say(f"lab: image built in {time.monotonic() - started:.0f} s")
    return name


def _build(name: str) -> None:
    for left in engine.CACHE.glob("build-*"):  # of a run that was killed
        shutil.rmtree(left, ignore_errors=True)
    room = engine.CACHE / f"build-{os.getpid()}"
    room.mkdir(mode=0o700)
    tar = room / "root.tar"
    command = ["mmdebstrap", "--variant=minbase", f"--include={','.join(PACKAGES)}", '--aptopt=Acquire::Languages "none"']
    command += [f"--dpkgopt=path-exclude={pattern}" for pattern in LEFT_OUT]
    if KEYRING.exists():
        command.append(f"--keyring={KEYRING}")
    command += [
        f'--customize-hook=install -m 0755 {HERE / "lab-init"} "$1"/sbin/lab-init',
        f'--customize-hook={HERE / "customize"} "$1"',
    ]
    command += [SUITE, str(tar), *([MIRROR] if MIRROR else [])]
    try:
        engine.run(command, timeout=900, env={**os.environ, "TMPDIR": str(room), "LC_ALL": "C"})
        engine.podman("import", "--quiet", "--change", 'CMD ["/sbin/lab-init"]', str(tar), name, timeout=300)
        _drop_old(name)
    except subprocess.TimeoutExpired as error:
        raise engine.LabError(f"the image could not be built: {error.cmd[:1]} ran longer than {error.timeout:.0f} s") from error
    finally:
        shutil.rmtree(room, ignore_errors=True)


def _drop_old(current: str) -> None:
    """Remove images of older recipes that no container uses."""
    listed = engine.podman("images", "--format", "{{.Repository}}:{{.Tag}}").stdout.decode().split()
    for name in listed:
        if name.startswith(f"localhost/{engine.LABEL}:") and name != current:
            engine.podman("image", "rm", name, check=False)
