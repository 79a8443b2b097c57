# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""`ansible-test sanity` passes on what is shipped, without ignore files."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests import tools

TREE = tools.CACHE / "sanity" / "ansible_collections" / "netops" / "fleet"

# ansible-test fills its own virtual environments with a script that it downloads. The same is done with the pip that is here.
BOOTSTRAP = """
import subprocess, sys
words = [word for word in sys.argv[1:] if word not in ("--no-setuptools", "--no-wheel")]
sys.exit(subprocess.call([{python!r}, "-m", "pip", "--python", sys.executable, "install", *words]))
"""


def _copy() -> None:
    """The collection as it is built: what git holds, less galaxy.yml's build_ignore. A real path, as ansible-test wants it."""
    ignored = set(yaml.safe_load((tools.ROOT / "galaxy.yml").read_text())["build_ignore"])
    shutil.rmtree(TREE, ignore_errors=True)
    for path in tools.shipped_files():
        if path.parts[0] not in ignored:
            (TREE / path.parent).mkdir(parents=True, exist_ok=True)
            shutil.copy2(tools.ROOT / path, TREE / path)
    # ansible-test asks git which files there are; the copy lies in a folder that the checkout's git ignores.
    subprocess.run(["git", "init", "--quiet", "."], cwd=TREE, check=True)


def _home() -> Path:
    """A home of its own, with the bootstrap script under each name that this ansible-test may look for."""
    import ansible_test

    source = Path(ansible_test.__file__).parent / "_internal" / "python_requirements.py"
    versions = set(re.findall(r"""\bpip=['"]([0-9.]+)['"]""", source.read_text()))
    assert versions, f"{source} names no version of pip"
    home = tools.CACHE / "sanity" / "home"
    cache = home / ".ansible" / "test" / "cache"
    cache.mkdir(parents=True, exist_ok=True)
    for version in versions:
        (cache / f"get_pip_{version.replace('.', '_')}.py").write_text(BOOTSTRAP.format(python=sys.executable))
    return home


def test_no_ignore_files() -> None:
    assert not [str(path) for path in tools.shipped_files() if path.match("tests/sanity/ignore*")]


@pytest.mark.slow
def test_ansible_test_sanity() -> None:
    _copy()
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    done = tools.run(
        ["ansible-test", "sanity", "--color", "no", "-v", "--python", python],
        cwd=TREE,
        env={"HOME": str(_home()), "PYTHONDONTWRITEBYTECODE": ""},
    )
    # The commands it ran fill pages; what is wrong is a line each.
    wrong = [line for line in done.stdout.splitlines() if line.startswith(("ERROR", "FATAL"))]
    assert done.returncode == 0, "\n".join(wrong) or done.stdout[-5000:]
    assert "Running sanity test" in done.stdout, done.stdout
    shutil.rmtree(TREE)
