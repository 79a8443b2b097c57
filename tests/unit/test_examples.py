# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every EXAMPLES block is run as it is printed, and ansible-doc shows every module and role without a complaint.

Most examples only read this machine; those that name an object of somebody's host (a namespace, a saved run) get one here.
"""

from __future__ import annotations

import ast
import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
MODULES = sorted(path.stem for path in (ROOT / "plugins" / "modules").glob("*.py") if path.name != "__init__.py")
ROLES = sorted(path.name for path in (ROOT / "roles").iterdir() if path.is_dir())


def ansible(
    tool: str, *arguments: str, home: Path, cwd: Path | None = None, inside: str | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a tool of ansible-core that finds the collection in this checkout, and no settings of the user.

    inside: a network namespace.
    """
    environment = {
        "PATH": f"{BIN}:{os.environ['PATH']}",
        "HOME": str(home),
        "LANG": "C.UTF-8",
        "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
        "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".collections"),
        "ANSIBLE_HOME": str(home / ".ansible"),
        "ANSIBLE_STDOUT_CALLBACK": "ansible.builtin.default",
    }
    return subprocess.run(
        [*(["ip", "netns", "exec", inside] if inside else []), str(BIN / tool), *arguments],
        cwd=cwd or ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def documentation(module: str) -> dict[str, str]:
    """DOCUMENTATION, EXAMPLES and RETURN of a module, as text."""
    tree = ast.parse((ROOT / "plugins" / "modules" / f"{module}.py").read_text(encoding="utf-8"))
    return {
        node.targets[0].id: node.value.value
        for node in tree.body
        if isinstance(node, ast.Assign)
        and isinstance(node.targets[0], ast.Name)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    }


def examples(module: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = yaml.safe_load(documentation(module)["EXAMPLES"])
    return found


def needs_root(tasks: list[dict[str, Any]]) -> bool:
    return "netns" in json.dumps(tasks)


@contextlib.contextmanager
def namespace() -> Iterator[str]:
    """A network namespace with a link eth0; gone afterwards."""
    name = f"nf-{os.getpid()}-example"
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        add = ["ip", "-n", name, "link", "add", "eth0", "type", "veth", "peer", "name", "eth1"]
        subprocess.run(add, check=True)
        yield name
    finally:
        subprocess.run(["ip", "netns", "del", name], check=True)


@contextlib.contextmanager
def healthy_host() -> Iterator[str]:
    """A namespace where nothing is wrong: no neighbours, and no resolver that it could not reach."""
    with namespace() as name:
        folder = Path("/etc/netns") / name  # ip netns exec puts its files in place of those of /etc
        folder.mkdir(parents=True)
        try:
            (folder / "resolv.conf").write_text("# none\n")
            subprocess.run(["ip", "-n", name, "link", "set", "lo", "up"], check=True)
            yield name
        finally:
            shutil.rmtree(folder)
            with contextlib.suppress(OSError):
                folder.parent.rmdir()


@contextlib.contextmanager
def balanced_segment() -> Iterator[str]:
    """A namespace on a segment of documentation addresses, where another host answers for the virtual address 192.0.2.80."""
    with namespace() as name:
        other = f"{name}-director"
        subprocess.run(["ip", "netns", "add", other], check=True)
        try:
            for words in (
                f"-n {name} link set eth1 netns {other}",
                f"-n {name} address add 192.0.2.11/24 dev eth0",
                f"-n {name} -6 address add 2001:db8::11/64 dev eth0 nodad",
                f"-n {name} link set eth0 up",
                f"-n {name} link set lo up",
                f"-n {other} address add 192.0.2.80/24 dev eth1",
                f"-n {other} link set eth1 up",
            ):
                subprocess.run(["ip", *words.split()], check=True)
            yield name
        finally:
            subprocess.run(["ip", "netns", "del", other], check=True)


def with_objects(value: Any, objects: dict[str, str]) -> Any:
    """The tasks with names of objects that only their reader has replaced by those of the test."""
    if isinstance(value, dict):
        return {key: with_objects(one, objects) for key, one in value.items()}
    if isinstance(value, list):
        return [with_objects(one, objects) for one in value]
    return objects.get(value, value) if isinstance(value, str) else value


def test_examples_use_the_module_s_full_name() -> None:
    for module in MODULES:
        used = {key for task in examples(module) for key in task}
        assert f"netops.fleet.{module}" in used
        assert all(key.count(".") >= 2 for key in used if "." in key), used


@pytest.mark.parametrize("mode", ["check", "run"])
@pytest.mark.parametrize("module", MODULES)
def test_examples_run_as_printed(module: str, mode: str, tmp_path: Path) -> None:
    """In check mode all of them; for real those of modules that only read, which is what they say of themselves."""
    tasks = examples(module)
    reads_only = "attributes.reader" in documentation(module)["DOCUMENTATION"] or module in ("fleet_run", "fleet_report")
    if mode == "run" and not reads_only:
        mode = "check"  # a changer is run for real by its own tests, in a namespace
    with contextlib.ExitStack() as stack:
        objects: dict[str, str] = {"gpu:0": "node:0"}  # a machine without a GPU has a node
        if needs_root(tasks):
            name = stack.enter_context(namespace())
            objects |= {"blue": name, "/proc/4242/ns/net": f"/run/netns/{name}"}
        play: dict[str, Any] = {"name": "Examples", "hosts": "localhost", "connection": "local", "gather_facts": False}
        play["vars"] = {"ansible_python_interpreter": sys.executable}
        if module == "fleet_report":  # a report needs a run; reports/latest is relative to where the play is started
            play["pre_tasks"] = [{"name": "Run", "netops.fleet.fleet_run": {"output": str(tmp_path / "reports")}}]
        play["tasks"] = with_objects(tasks, objects)
        playbook = tmp_path / "examples.yml"
        playbook.write_text(yaml.safe_dump([play], sort_keys=False))
        words = ["-i", "localhost,", str(playbook), *(["--check"] if mode == "check" else [])]
        inside = None
        if module.startswith("lvs_"):
            inside = stack.enter_context(balanced_segment())
        elif module == "host_health":  # a host that is well, whatever this machine's neighbours are up to
            inside = stack.enter_context(healthy_host())
        done = ansible("ansible-playbook", *words, home=tmp_path, cwd=tmp_path, inside=inside)
    assert done.returncode == 0, done.stdout + done.stderr
    recap = done.stdout.rsplit("PLAY RECAP", 1)[1]
    assert "failed=0" in recap and "ignored=0" in recap and "rescued=0" in recap, done.stdout
    if reads_only:
        assert "changed=0" in recap, done.stdout
    assert "[WARNING]" not in done.stderr and "[DEPRECATION" not in done.stderr + done.stdout, done.stderr


@pytest.mark.parametrize("module", MODULES)
def test_ansible_doc_shows_the_module(module: str, tmp_path: Path) -> None:
    done = ansible("ansible-doc", "-t", "module", f"netops.fleet.{module}", "--json", home=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    shown = json.loads(done.stdout)[f"netops.fleet.{module}"]
    assert shown["doc"]["short_description"] and shown["examples"].strip() and shown["return"]
    text = ansible("ansible-doc", "-t", "module", f"netops.fleet.{module}", home=tmp_path)
    assert text.returncode == 0 and text.stderr == "", text.stderr
    assert f"MODULE netops.fleet.{module}" in text.stdout


@pytest.mark.parametrize("role", ROLES)
def test_ansible_doc_shows_the_role(role: str, tmp_path: Path) -> None:
    done = ansible("ansible-doc", "-t", "role", f"netops.fleet.{role}", "--json", home=tmp_path)
    assert done.returncode == 0, done.stderr
    # ansible-core 2.21 complains about a collection inside itself whenever roles are listed.
    assert [line for line in done.stderr.splitlines() if "_protomatter" not in line] == []
    shown = json.loads(done.stdout)[f"netops.fleet.{role}"]
    options = shown["entry_points"]["main"]["options"]
    defaults = yaml.safe_load((ROOT / "roles" / role / "defaults" / "main.yml").read_text())
    assert sorted(options) == sorted(defaults), "argument specs and defaults name the same variables"
    for name, option in options.items():
        assert option["description"], name
        assert option.get("default") == defaults[name], name
