# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The documentation agrees with the code: findings, links, make targets, playbooks, modules, roles and their variables."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible_collections.netops.fleet.plugins.plugin_utils._fleet import checks, terminal

ROOT = Path(__file__).resolve().parents[2]
FINDINGS = ROOT / "docs" / "findings"
PAGES = sorted(path for path in FINDINGS.glob("*.md") if path.name != "README.md")
#: Where findings are made.
SOURCES = ("plugins/module_utils/_diagnosis", "plugins/plugin_utils/_fleet")
#: Functions that make a finding from an id given as their first argument.
MAKERS = ("Finding", "_listed", "_fold_list", "_finding")
HEADINGS = ["How it is detected", "What to do", "What it does not tell", "Try it in the lab"]
_ID = re.compile(r"\A[a-z]+(?:-[a-z]+)+\Z")


def documents() -> list[Path]:
    """Every page a reader meets: those at the top, docs/, and the roles'."""
    found = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "roles").rglob("*.md")]
    return sorted(path for path in found if path.name != "CHANGELOG.md")


def shown(path: Path) -> str:
    return str(path.relative_to(ROOT))


# --- findings


class _Findings(ast.NodeVisitor):
    """Ids, requirement ids and severities of the findings that a source file makes."""

    def __init__(self, tree: ast.Module) -> None:
        self.constants = {
            target.id: node.value
            for node in tree.body
            if isinstance(node, ast.Assign)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        self.functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
        self.requirements: dict[str, set[str]] = {}
        self.visit(tree)

    def visit_Call(self, node: ast.Call) -> None:
        name = node.func.id if isinstance(node.func, ast.Name) else ""
        if name in MAKERS:
            given = {word.arg: word.value for word in node.keywords}
            first = given.get("id", node.args[0] if node.args else None)
            for found in self._texts(first):
                wanted = given.get("requirement") or next((one for one in reversed(node.args) if self._ids(one)), None)
                ids = self._ids(wanted) or self._of_function(name)
                self.requirements.setdefault(found, set()).update(ids)
        self.generic_visit(node)

    def _of_function(self, name: str) -> set[str]:
        """Requirement ids of the findings that a maker makes itself, or through another maker."""
        found: set[str] = set()
        for node in ast.walk(self.functions[name]) if name in self.functions else ():
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in MAKERS and node.func.id != name:
                own = set().union(*(self._ids(one) for one in [*node.args, *(word.value for word in node.keywords)]))
                found |= own or self._of_function(node.func.id)
        return found

    @staticmethod
    def _texts(node: ast.expr | None) -> list[str]:
        return [node.value] if isinstance(node, ast.Constant) and isinstance(node.value, str) and _ID.match(node.value) else []

    def _ids(self, node: ast.expr | None) -> set[str]:
        if isinstance(node, ast.Name):
            node = self.constants.get(node.id)
        if not isinstance(node, ast.List):
            return set()
        texts = [str(one.value) for one in node.elts if isinstance(one, ast.Constant)]
        return {text for text in texts if re.match(r"\A[A-Z][0-9]{2}\Z", text)}


def findings_in_code() -> dict[str, set[str]]:
    """Finding id → requirement ids."""
    found: dict[str, set[str]] = {}
    for folder in SOURCES:
        for path in sorted((ROOT / folder).glob("*.py")):
            for name, wanted in _Findings(ast.parse(path.read_text(encoding="utf-8"))).requirements.items():
                found.setdefault(name, set()).update(wanted)
    return found


def test_collecting_ids_finds_the_known_ones() -> None:
    """Guards the collector of this file: one id made by each way of making findings."""
    found = findings_in_code()
    assert {"port-not-listening", "bpf-program-foreign", "sysctl-differs", "object-differs", "clock-offset"} <= set(found)
    assert found["firewall-drops-target"] == {"D09", "D10", "D15", "D33"}
    assert "D03" in found["connections-piled-up"]


def test_every_finding_has_a_page_and_every_page_a_finding() -> None:
    assert sorted(path.stem for path in PAGES) == sorted(findings_in_code())


def test_index_lists_every_finding_once() -> None:
    rows = re.findall(r"^\| \[([a-z-]+)\]\(([a-z-]+)\.md\) \|", (FINDINGS / "README.md").read_text(), re.MULTILINE)
    assert all(name == link for name, link in rows)
    assert sorted(name for name, _link in rows) == sorted(findings_in_code())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_page_has_its_parts(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    lines = text.splitlines()
    assert lines[0] == f"# {page.stem}"
    assert lines[2] and not lines[2].startswith(("#", "**")), "the third line says in a sentence what it means"
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == HEADINGS
    facts = re.search(r"^\*\*Severity\*\* (.+) · \*\*Grade\*\* (.+) · \*\*Serves\*\* (.+)$", text, re.MULTILINE)
    assert facts is not None
    severities = set(re.findall(r"critical|warning|info", facts[1]))
    assert severities
    assert set(re.findall(r"proven|likely|different", facts[2]))
    assert set(facts[3].split(", ")) == findings_in_code().get(page.stem)
    row = re.search(rf"^\| \[{page.stem}\]\(.*?\) \| (.+?) \|", (FINDINGS / "README.md").read_text(), re.MULTILINE)
    assert row is not None
    assert set(row[1].split(", ")) == severities


# --- links and names


def plain(text: str) -> str:
    """A page without its code, where brackets are no links."""
    text = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    return re.sub(r"`[^`\n]*`", "", text)


def anchors(path: Path) -> set[str]:
    """Headings as the names they are linked by."""
    heads = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```", "", path.read_text(), flags=re.MULTILINE | re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", documents(), ids=shown)
def test_relative_links_resolve(page: Path) -> None:
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", plain(page.read_text(encoding="utf-8"))):
        if re.match(r"[a-z]+:", link):
            continue
        name, _hash, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        if (
            not target.exists()
            or not target.is_relative_to(ROOT)
            or (anchor and target.suffix == ".md" and anchor not in anchors(target))
        ):
            broken.append(link)
    assert broken == []


def make_targets() -> set[str]:
    return set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def role_variables() -> dict[str, set[str]]:
    """Role → its public variables, from its argument specs."""
    out = {}
    for path in sorted((ROOT / "roles").glob("*/meta/argument_specs.yml")):
        specs = yaml.safe_load(path.read_text())["argument_specs"]
        out[path.parents[1].name] = {name for spec in specs.values() for name in spec.get("options") or {}}
    return out


def other_variables() -> set[str]:
    """Variables that playbooks take, that roles set, and that are set per host."""
    sources = [
        *(ROOT / "playbooks").glob("*.yml"),
        *(ROOT / "roles").glob("*/tasks/*.yml"),
        *(ROOT / "plugins" / "action").glob("*.py"),
    ]
    return {name for path in sources for name in re.findall(r"[a-z]+(?:_[a-z]+)+", path.read_text(encoding="utf-8"))}


@pytest.mark.parametrize("page", documents(), ids=shown)
def test_only_what_exists_is_named(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    code = "\n".join(re.findall(r"`[^`\n]+`|^```.*?^```", text, re.MULTILINE | re.DOTALL))
    missing = [f"make {name}" for name in re.findall(r"\bmake ([a-z][a-z-]*)", code) if name not in make_targets()]
    missing += [name for name in re.findall(r"\bplaybooks/([a-z_]+\.yml)", text) if not (ROOT / "playbooks" / name).is_file()]
    roles, modules = role_variables(), {path.stem for path in (ROOT / "plugins" / "modules").glob("*.py")}
    playbooks = {path.stem for path in (ROOT / "playbooks").glob("*.yml")}
    modules |= {path.stem for path in (ROOT / "plugins" / "filter").glob("*.yml")}
    for name in re.findall(r"\bnetops\.fleet\.([a-z_]+)", text):
        if name not in modules | playbooks | set(roles):
            missing.append(f"netops.fleet.{name}")
    known = set().union(*roles.values()) | other_variables()
    for prefix in roles:
        missing += [name for name in re.findall(rf"\b{prefix}_[a-z_]+\b", text) if name not in known]
    missing += [
        name
        for name in re.findall(r"`(roles/[a-z_]+|plugins/[a-z_/]+(?:\.py)?|tests/[a-z_/]+(?:\.py)?)`", text)
        if not (ROOT / name).exists()
    ]
    assert missing == []


@pytest.mark.parametrize("role", sorted(path.name for path in (ROOT / "roles").iterdir()) if (ROOT / "roles").is_dir() else [])
def test_every_role_variable_is_documented(role: str) -> None:
    """In the role's own README, and for diagnose in docs/diagnose.md as well."""
    wanted = role_variables()[role]
    assert wanted
    for page in [ROOT / "roles" / role / "README.md", *([ROOT / "docs" / "diagnose.md"] if role == "diagnose" else [])]:
        text = page.read_text(encoding="utf-8")
        assert [name for name in sorted(wanted) if f"`{name}`" not in text] == [], page


def test_defaults_in_the_page_are_the_role_s() -> None:
    """The table of docs/diagnose.md: | `variable` | default | meaning |."""
    options: dict[str, Any] = yaml.safe_load((ROOT / "roles/diagnose/meta/argument_specs.yml").read_text())
    known = options["argument_specs"]["main"]["options"]
    rows = re.findall(r"^\| `(diagnose_[a-z_]+)` \| (.+?) \|", (ROOT / "docs" / "diagnose.md").read_text(), re.MULTILINE)
    assert rows
    for name, default in rows:
        if name in known and "default" in known[name]:
            value = known[name]["default"]
            given = "none" if value in (None, "", [], {}) else str(value)
            assert default.strip("`") == given, name


def test_readme_shows_the_two_commands_and_the_modules() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    screen = text[:2500]
    assert "make diagnose" in screen and "make test" in screen
    for path in (ROOT / "plugins" / "modules").glob("*.py"):
        assert f"`{path.stem}`" in text, path.stem
    for path in (ROOT / "playbooks").glob("*.yml"):
        assert f"| `netops.fleet.{path.stem}` |" in text, path.stem
    for path in (ROOT / "roles").iterdir():
        assert f"[`{path.name}`](roles/{path.name}/README.md)" in text, path.name
    assert f"[{len(findings_in_code())} findings]" in text


def test_readme_shows_the_columns_that_are_printed() -> None:
    head = next(line for line in (ROOT / "README.md").read_text(encoding="utf-8").splitlines() if line.startswith("host  "))
    assert head.split() == ["host", *(terminal._SHORT[column] for column in checks.ORDER)]


def test_execution_environment_names_files_that_are_there() -> None:
    named = yaml.safe_load((ROOT / "meta" / "execution-environment.yml").read_text())["dependencies"]
    assert all((ROOT / path).is_file() for path in named.values()), named
    assert set(named) == {"python", "system"}


def test_pages_speak_of_the_product_only() -> None:
    """No path of a developer's machine, no word left to be written."""
    for page in documents():
        found = re.findall(
            r"(?<![\w/])/(?:work|home/\w+|root/\.pyenv)/|\b(?:TODO|FIXME|TBD|lorem ipsum)\b", page.read_text(), re.IGNORECASE
        )
        assert found == [], page
