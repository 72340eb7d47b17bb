"""Imports run one way: editing <- diffusion <- nerf <- methods; and who only looks loads nothing heavy."""

import ast
import pkgutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

PACKAGE = Path(__file__).parent.parent / "latenteditor"
HEAVY = ("diffusers", "transformers", "nerfstudio")

NEVER = {
    "editing": (*HEAVY, "latenteditor.diffusion", "latenteditor.nerf", "latenteditor.miniature"),
    "diffusion": ("nerfstudio", "latenteditor.nerf"),
    "nerf": ("diffusers", "transformers", "latenteditor.benchmark"),
    "miniature": ("nerfstudio", "latenteditor.nerf", "latenteditor.benchmark"),
    "benchmark": ("diffusers", "transformers"),
}
"""What a folder must not import, in a function or out of one."""

ONLY_IN_FUNCTIONS = {"diffusion": ("diffusers", "transformers")}
"""What a folder may import when it is needed and not before."""

FILES = [path for folder in NEVER for path in sorted((PACKAGE / folder).rglob("*.py"))]


class Import(NamedTuple):
    module: str
    line: int
    in_function: bool


def imports_of(source: str) -> list[Import]:
    """Every module that a source imports, wherever the statement stands."""
    found = []

    def visit(node: ast.AST, in_function: bool) -> None:
        if isinstance(node, ast.Import):
            found.extend(Import(alias.name, node.lineno, in_function) for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: imports are absolute"
            found.append(Import(node.module or "", node.lineno, in_function))
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            found.extend(Import(name, node.lineno, in_function) for name in names)
        inside = in_function or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for child in ast.iter_child_nodes(node):
            visit(child, inside)

    visit(ast.parse(source), False)
    return found


def lies_in(module: str, packages: tuple[str, ...]) -> bool:
    return any(module == package or module.startswith(f"{package}.") for package in packages)


def name_of(path: Path) -> str:
    return str(path.relative_to(PACKAGE))


def test_the_reader_of_imports_finds_them_all():
    source = "import a.b\nfrom c import d\ndef f():\n    if True:\n        import e\n"
    modules = {(row.module, row.in_function) for row in imports_of(source)}
    assert modules == {("a.b", False), ("c", False), ("c.d", False), ("e", True)}
    assert lies_in("diffusers.models", ("diffusers",))
    assert not lies_in("diffusers_extra", ("diffusers",))


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_folders_import_only_what_they_may(path):
    folder = path.relative_to(PACKAGE).parts[0]
    for row in imports_of(path.read_text("utf8")):
        where = f"{name_of(path)}:{row.line} imports {row.module}"
        assert not lies_in(row.module, NEVER[folder]), where
        if not row.in_function:
            assert not lies_in(row.module, ONLY_IN_FUNCTIONS.get(folder, ())), f"{where} outside a function"


@pytest.mark.parametrize("path", sorted((PACKAGE / "editing").rglob("*.py")), ids=name_of)
def test_editing_needs_torch_jaxtyping_and_the_standard_library_alone(path):
    allowed = {"torch", "jaxtyping", "latenteditor", *sys.stdlib_module_names}
    assert {row.module.split(".")[0] for row in imports_of(path.read_text("utf8"))} <= allowed


@pytest.mark.parametrize("folder", ["editing", "diffusion"])
def test_importing_loads_nothing_heavy(folder):
    found = pkgutil.iter_modules([str(PACKAGE / folder)], f"latenteditor.{folder}.")
    modules = [module.name for module in found]
    assert modules
    script = f"""
import sys, latenteditor, {", ".join(modules)}
sys.exit(" ".join(module for module in {HEAVY!r} if module in sys.modules) or 0)
"""
    finished = subprocess.run(
        [sys.executable, "-c", script], cwd=PACKAGE.parent, capture_output=True, text=True, check=False
    )
    assert finished.returncode == 0, finished.stderr
