# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The container engine of the lab: podman with storage and settings of its own, so that the user's podman is untouched."""

from __future__ import annotations

import fcntl
import hashlib
import os
import resource
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

#: What the lab keeps between runs: the image, and a folder per lab that is up.
CACHE = Path(os.environ.get("NETOPS_LAB_CACHE") or Path.home() / ".cache" / "netops-fleet-lab").absolute()
_KEY = hashlib.sha256(str(CACHE).encode()).hexdigest()[:8]
#: Sockets, locks and the engine's short-lived state.
RUN = Path("/run/netops-fleet-lab") / _KEY
LABEL = "netops-fleet-lab"
#: Containers are named <PREFIX>-<lab>-<host>, everything else that has a name <PREFIX>-<lab>.
PREFIX = "nfl"

TOOLS = {
    "podman": "podman",
    "mmdebstrap": "mmdebstrap",
    "ip": "iproute2",
    "ssh": "openssh-client",
    "ssh-keygen": "openssh-client",
    "setpriv": "util-linux",
}


class LabError(Exception):
    """The lab cannot do what was asked; the message says what to do next."""


def require() -> None:
    """Root and the tools, or LabError that names the packages."""
    if os.geteuid() != 0:
        raise LabError("the lab needs root: it makes network namespaces and privileged containers")
    missing = sorted({package for tool, package in TOOLS.items() if shutil.which(tool) is None})
    if shutil.which("runc") is None and shutil.which("crun") is None:
        missing.append("runc")
    if missing:
        raise LabError(f"the lab needs tools that are not installed; run: apt-get install -y {' '.join(missing)}")


def run(
    argv: Sequence[str],
    *,
    check: bool = True,
    input: bytes | None = None,
    timeout: float = 120,
    env: dict[str, str] | None = None,
) -> subprocess.CompletedProcess[bytes]:
    """Run a tool of the controller. It ends with this process, also when that is killed."""
    command = ["setpriv", "--pdeathsig", "TERM", "--", *argv]
    # Without input the tool must not read the terminal, or the pipe, that the lab was started from.
    source: dict[str, Any] = {"stdin": subprocess.DEVNULL} if input is None else {"input": input}
    done: subprocess.CompletedProcess[bytes] = subprocess.run(
        command, capture_output=True, timeout=timeout, env=env, check=False, **source
    )
    if check and done.returncode != 0:
        said = (done.stderr or done.stdout).decode(errors="replace").strip()[-2000:]
        raise LabError(f"{' '.join(argv)[:300]}: exit status {done.returncode}: {said}")
    return done


def _settings() -> Path:
    """The engine's settings file, made for this machine."""
    # Where the machine's own limits are lower than the engine's defaults, containers could not start without these.
    limits = []
    for name, which, wanted in (("nofile", resource.RLIMIT_NOFILE, 65536), ("nproc", resource.RLIMIT_NPROC, 16384)):
        hard = resource.getrlimit(which)[1]
        hard = wanted if hard == resource.RLIM_INFINITY else min(hard, wanted)
        soft = min(1024, hard) if name == "nofile" else hard
        limits.append(f'"{name}={soft}:{hard}"')
    runtime = "runc" if shutil.which("runc") else "crun"
    text = (
        "[containers]\n"
        f"default_ulimits = [{', '.join(limits)}]\n"
        'log_driver = "k8s-file"\n'
        "log_size_max = 1048576\n"
        "[engine]\n"
        f'runtime = "{runtime}"\n'
        'cgroup_manager = "cgroupfs"\n'
        'events_logger = "none"\n'
        'lock_type = "file"\n'
    )
    path = CACHE / "containers.conf"
    _keep(path, text)
    return path


def _storage() -> Path:
    """The settings of the engine's storage."""
    path = CACHE / "storage.conf"
    _keep(path, f'[storage]\ndriver = "{_driver()}"\ngraphroot = "{CACHE / "storage"}"\nrunroot = "{RUN / "storage"}"\n')
    return path


def _keep(path: Path, text: str) -> None:
    """Write a file whose readers never see half of it."""
    if not path.exists() or path.read_text() != text:
        fresh = path.with_name(f"{path.name}.{os.getpid()}.{threading.get_ident()}")
        fresh.write_text(text)
        fresh.replace(path)


def _driver() -> str:
    """overlay cannot lie on overlay (a lab inside a container); there whole copies are made."""
    kind = subprocess.run(["stat", "-f", "-c", "%T", str(CACHE)], capture_output=True, text=True, check=True).stdout.strip()
    return "vfs" if kind == "overlayfs" else "overlay"


def podman(
    *arguments: str, check: bool = True, input: bytes | None = None, timeout: float = 120
) -> subprocess.CompletedProcess[bytes]:
    """Run podman on the lab's own storage."""
    prepare()
    env = {**os.environ, "CONTAINERS_CONF": str(_settings()), "CONTAINERS_STORAGE_CONF": str(_storage()), "LC_ALL": "C"}
    for name in ("CONTAINER_HOST", "DOCKER_HOST", "STORAGE_DRIVER"):
        env.pop(name, None)
    return run(["podman", "--tmpdir", str(RUN / "tmp"), *arguments], check=check, input=input, timeout=timeout, env=env)


def prepare() -> None:
    """Make the folders, readable for root alone."""
    for path in (CACHE, CACHE / "labs", RUN.parent, RUN):
        path.mkdir(mode=0o700, parents=True, exist_ok=True)


@contextmanager
def locked(name: str, timeout: float = 900) -> Iterator[None]:
    """Hold the lock of that name; waits for another run of the lab that holds it."""
    prepare()
    deadline = time.monotonic() + timeout
    with open(RUN / f"{name}.lock", "w") as handle:
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise LabError(f"another run of the lab has held {RUN / name}.lock for {timeout:.0f} s") from None
                time.sleep(0.1)
        yield


def say(text: str) -> None:
    """A line of progress."""
    print(text, file=sys.stderr, flush=True)
