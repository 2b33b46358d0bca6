"""The structure of the package: what may import what, and who knows what."""

import ast
import functools
import re

import pytest
from conftest import NOT_FAST, ROOT

KGREC = ROOT / "kgrec"
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(KGREC.rglob("*.py"))
}
# Packages from the top down: a package imports from those below it, never from those above.
LEVELS = [
    ("cli",), ("commands",), ("pipeline",), ("exporting", "reports", "serving", "sweeps"),
    ("config",), ("training", "tracking"), ("inference",), ("runs",), ("models",), ("evaluation",),
    ("data",), ("sharding",), ("files", "disk_errors", "errors", "interrupts"),
]  # fmt: skip


@functools.cache
def nodes(module: str) -> list[ast.AST]:
    return list(ast.walk(ast.parse(MODULES[module].read_text(encoding="utf-8"))))


@functools.cache
def imports(module: str) -> set[str]:
    """Modules of kgrec that a module imports, also inside functions and for types alone."""
    known = set()
    for node in nodes(module):
        if isinstance(node, ast.Import):
            known |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            known |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in known if name in MODULES and name != module}


def package(module: str) -> str:
    return [*module.split("."), ""][1]


def test_no_circle_of_imports():
    graph = {module: imports(module) for module in MODULES}
    # A package is what it re-exports; its own modules may name their neighbours through it.
    done: set[str] = set()

    def walk(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " -> ".join([*path, module])
        if module in done:
            return
        for other in sorted(graph[module]):
            if not module.startswith(f"{other}."):
                walk(other, (*path, module))
        done.add(module)

    for module in graph:
        walk(module, ())


@pytest.mark.parametrize("module", MODULES)
def test_packages_import_downwards_alone(module):
    level = {name: number for number, names in enumerate(LEVELS) for name in names}
    if package(module) == "":
        return
    for other in imports(module):
        if package(other) and package(other) != package(module):
            assert level[package(other)] >= level[package(module)], f"{module} imports {other}"


def test_few_modules_at_the_top():
    assert len(list(KGREC.glob("*.py"))) <= 6


@functools.cache
def strings(module: str) -> set[str]:
    """Strings of a module other than docstrings."""
    docs = {ast.get_docstring(n, clean=False) for n in nodes(module)
            if isinstance(n, ast.Module | ast.ClassDef | ast.FunctionDef)}  # fmt: skip
    return {n.value for n in nodes(module)
            if isinstance(n, ast.Constant) and isinstance(n.value, str)} - docs  # fmt: skip


@pytest.mark.parametrize(
    "name",
    ["metrics.json", "status.json", "dataset.json", "environment.json", "slices.json",
     "rows.parquet", "last.ckpt"],
)  # fmt: skip
def test_one_module_knows_the_files_of_a_run_folder(name):
    knowing = [m for m in MODULES if any(name in text for text in strings(m))]
    assert knowing in ([], ["kgrec.runs.folder"])


def test_the_architecture_names_every_module():
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    tree = set(re.findall(r"\w+", text.split("```")[1]))
    modules = {path.stem for path in MODULES.values()} - {"__init__"}
    assert modules - tree == set()


def test_slow_files_of_the_fast_subset_are_files_that_there_are():
    assert [path for path in NOT_FAST if not (ROOT / "tests" / path).is_file()] == []


def test_the_documentation_lists_every_package():
    pages = re.findall(r"reference/(\w+)\.md", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    assert sorted(pages) == sorted(path.parent.name for path in KGREC.glob("*/__init__.py"))
