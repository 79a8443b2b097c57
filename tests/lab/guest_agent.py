# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs inside a virtual machine and does what tests outside ask for: commands, and calls of the collection's code.

One connection, one request: a line of JSON in, a line of JSON out. The collection is imported once and calls run in a fork,
because starting Python takes seconds where a processor is emulated.
"""

from __future__ import annotations

import base64
import ctypes
import importlib
import json
import os
import signal
import socketserver
import subprocess
import sys
import tempfile
import time
import traceback
import types
import zipimport
from typing import Any

PORT = 7070
_STARTED: dict[int, subprocess.Popen[bytes] | _Forked] = {}


class _Forked:
    """A fork of this process, waited for as a Popen is."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._status: int | None = None

    def poll(self) -> int | None:
        if self._status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self._status = os.waitstatus_to_exitcode(status) if pid else None
        return self._status

    def wait(self, timeout: float) -> int:
        deadline = time.monotonic() + timeout
        while (status := self.poll()) is None:
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired([str(self.pid)], timeout)
            time.sleep(0.05)
        return status


def _exec(request: dict[str, Any]) -> dict[str, Any]:
    argv = list(request["argv"])
    if request.get("netns"):
        argv = ["ip", "netns", "exec", request["netns"], *argv]
    try:
        done = subprocess.run(
            argv,
            input=base64.b64decode(request.get("stdin", "")),
            capture_output=True,
            timeout=request.get("timeout", 60),
            check=False,
            env={**os.environ, **request.get("env", {})},
        )
    except subprocess.TimeoutExpired as error:
        return {"rc": -2, "out": (error.stdout or b"").decode("utf-8", "replace"), "err": f"no end within {error.timeout} s"}
    return {"rc": done.returncode, "out": done.stdout.decode("utf-8", "replace"), "err": done.stderr.decode("utf-8", "replace")}


def _start(request: dict[str, Any]) -> dict[str, Any]:
    argv = list(request["argv"])
    if request.get("netns"):
        argv = ["ip", "netns", "exec", request["netns"], *argv]
    with open(request["log"], "ab", buffering=0) as log:
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
    _STARTED[process.pid] = process
    return {"pid": process.pid}


def _spawn(request: dict[str, Any]) -> dict[str, Any]:
    """Run ``code`` in a fork that goes on, its words to the log; a fresh Python would take seconds to start."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.setsid()
            os.closerange(3, 65536)
            os.dup2(os.open("/dev/null", os.O_RDONLY), 0)
            log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
            os.dup2(log, 1)
            os.dup2(log, 2)
            try:
                _run_code(request)
                status = 0
            except BaseException:
                os.write(2, traceback.format_exc().encode())
        finally:
            os._exit(status)
    _STARTED[child] = _Forked(child)
    return {"pid": child}


def _run_code(request: dict[str, Any]) -> Any:
    """Inside the namespace; its variable ``result`` is the answer."""
    from ansible_collections.netops.fleet.plugins.module_utils._kernel import modules, netns

    # A fresh process would look again which modules are there.
    for cached in (modules._loaded, modules._builtin, modules._symbols):
        cached.cache_clear()
    if request.get("netns"):
        netns.enter(request["netns"])
    scope: dict[str, Any] = {"args": request.get("args", []), "result": None, "__name__": "__call__"}
    exec(compile(request["code"], "<call>", "exec"), scope)
    return scope["result"]


def _end(request: dict[str, Any]) -> dict[str, Any]:
    process = _STARTED.get(request["pid"])
    if process is None:
        return {"rc": None}
    if process.poll() is None:
        try:
            os.killpg(process.pid, request.get("signal", signal.SIGTERM))
        except ProcessLookupError:
            pass
    try:
        return {"rc": process.wait(request.get("timeout", 30))}
    except subprocess.TimeoutExpired:
        return {"rc": None}


def _call(request: dict[str, Any]) -> dict[str, Any]:
    """Run ``code`` in a fork and wait for its result."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            # Pipes of commands that other threads start at this moment: held open here, their readers would wait for us.
            os.closerange(3, writer)
            os.closerange(writer + 1, 65536)
            try:
                answer = {"result": _run_code(request)}
            except BaseException:
                answer = {"error": traceback.format_exc()}
            data = json.dumps(answer).encode()
            with os.fdopen(writer, "wb") as stream:
                stream.write(data)
            status = 0
        finally:
            os._exit(status)
    os.close(writer)
    with os.fdopen(reader, "rb") as stream:
        data = stream.read()
    os.waitpid(child, 0)
    found: dict[str, Any] = json.loads(data) if data else {"error": "the call ended without an answer"}
    return found


def _python(request: dict[str, Any]) -> dict[str, Any]:
    """Run ``source`` as ``python3`` would from its standard input, in a fork that has Ansible's libraries already."""
    sys.path.extend(one for one in request["libraries"] if one not in sys.path)
    importlib.import_module("ansible.module_utils.basic")
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        child = os.fork()
        if child == 0:
            status = 1
            try:
                for number, file in enumerate((os.open("/dev/null", os.O_RDONLY), out.fileno(), err.fileno())):
                    os.dup2(file, number)
                os.closerange(3, 65536)
                try:
                    status = _as_main(request)
                except BaseException:
                    os.write(2, traceback.format_exc().encode())
            finally:
                os._exit(status)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        said = []
        for stream in (out, err):
            stream.seek(0)
            said.append(stream.read().decode("utf-8", "replace"))
    return {"rc": status, "out": said[0], "err": said[1]}


def _own_sys() -> None:
    """A /sys of the present network namespace, as ``ip netns exec`` gives; os.unshare came with Python 3.12."""
    libc = ctypes.CDLL(None, use_errno=True)
    new_mounts, private, detach = 0x20000, 1 << 18 | 1 << 14, 2  # CLONE_NEWNS; MS_PRIVATE, MS_REC; MNT_DETACH
    if (
        libc.unshare(new_mounts)
        or libc.mount(None, b"/", None, private, None)
        or libc.umount2(b"/sys", detach)
        or libc.mount(b"sysfs", b"/sys", b"sysfs", 0, None)
    ):
        raise OSError(ctypes.get_errno(), "the namespace's /sys cannot be mounted")


def _as_main(request: dict[str, Any]) -> int:
    """The exit status of ``source``, as the program of this process, in the namespace and its view of /sys."""
    from ansible_collections.netops.fleet.plugins.module_utils._kernel import netns

    sys.stdin, sys.stdout, sys.stderr = os.fdopen(0), os.fdopen(1, "w"), os.fdopen(2, "w")
    if request.get("netns"):
        netns.enter(request["netns"])
        _own_sys()
    # Ansible sends its libraries along in an archive, from which Python compiles them at every run. Here they are files.
    sys.path_hooks.remove(zipimport.zipimporter)
    sys.path_importer_cache.clear()
    sys.argv = [""]
    program = types.ModuleType("__main__")
    sys.modules["__main__"] = program
    try:
        exec(compile(request["source"], "<stdin>", "exec"), program.__dict__)
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:
        traceback.print_exc()
        return 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
    return 0


def _load(request: dict[str, Any]) -> dict[str, Any]:
    for name in request["names"]:
        importlib.import_module(name)
    return {}


class _Handler(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        line = self.rfile.readline()
        if not line:
            return
        try:
            request = json.loads(line)
            operation = {
                "exec": _exec,
                "start": _start,
                "spawn": _spawn,
                "end": _end,
                "call": _call,
                "load": _load,
                "python": _python,
            }[request["op"]]
            answer = operation(request)
        except BaseException:
            answer = {"error": traceback.format_exc()}
        self.wfile.write(json.dumps(answer).encode() + b"\n")


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 64


def main() -> None:
    sys.path.insert(0, sys.argv[1])
    sys.pycache_prefix = "/tmp/pyc"
    subprocess.run(["modprobe", "virtio_net"], check=True)
    while not (links := sorted(name for name in os.listdir("/sys/class/net") if name.startswith("e"))):
        time.sleep(0.05)
    for command in (
        ["ip", "link", "set", "lo", "up"],
        ["ip", "link", "set", links[0], "up"],
        ["ip", "address", "add", "10.0.2.15/24", "dev", links[0]],
    ):
        subprocess.run(command, check=True)
    import ansible_collections.netops.fleet.plugins.module_utils._kernel.modules
    import ansible_collections.netops.fleet.plugins.module_utils._kernel.netlink
    import ansible_collections.netops.fleet.plugins.module_utils._kernel.netns  # noqa: F401

    with _Server(("0.0.0.0", PORT), _Handler) as server:
        server.serve_forever()


if __name__ == "__main__":
    main()
