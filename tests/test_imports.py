"""Imports run one way, from what is fundamental to what is built on it; and who only looks loads nothing heavy."""

import ast
import graphlib
import pkgutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

PACKAGE = Path(__file__).parent.parent / "latenteditor"
HEAVY = ("diffusers", "transformers", "nerfstudio")

LAYERS = (
    ("devices", "figures", "pictures", "options", "peak_memory", "runs"),
    ("watched",),
    ("language", "editing"),
    ("networks",),
    ("black_box",),
    ("nerf",),
    ("methods",),
    ("evaluation", "handoff", "recipes"),
    ("worlds",),
    ("miniature",),
    ("benchmark",),
    ("commands",),
    ("cli",),
)
"""Folders and files of the package: of it, each imports itself and what stands in rows above its own."""

NEVER = {
    "language": HEAVY,
    "editing": HEAVY,
    "networks": ("nerfstudio",),
    "black_box": HEAVY,
    "nerf": ("diffusers", "transformers"),
    "evaluation": ("diffusers", "transformers"),
    "worlds": HEAVY,
    "miniature": ("nerfstudio", "latenteditor.nerf"),
    "benchmark": ("diffusers", "transformers"),
    "commands": ("diffusers", "transformers"),
}
"""What else a folder must not import, in a function or out of one."""

ONLY_IN_FUNCTIONS = {
    "networks": ("diffusers", "transformers"),
    "cli": ("torch", "tyro", "latenteditor.commands", *HEAVY),
}
"""What a folder may import when it is needed and not before."""

FILES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


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


def part_of(path: Path) -> str:
    """The folder or file of the package that a source belongs to."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_every_part_imports_only_what_it_is_built_on(path):
    part = part_of(path)
    (row,) = (row for row, parts in enumerate(LAYERS) if part in parts)
    below = (part, *(name for parts in LAYERS[:row] for name in parts))
    for found in imports_of(path.read_text("utf8")):
        where = f"{name_of(path)}:{found.line} imports {found.module}"
        if lies_in(found.module, ("latenteditor",)) and found.module not in (
            "latenteditor",
            "latenteditor.__version__",
        ):
            assert found.module.split(".")[1] in below, where
        assert not lies_in(found.module, NEVER.get(part, ())), where
        if not found.in_function:
            assert not lies_in(found.module, ONLY_IN_FUNCTIONS.get(part, ())), f"{where} outside a function"


def modules_of(package: Path) -> dict[str, Path]:
    """Every module of a package by the name it is imported under."""
    files = {".".join(path.relative_to(package.parent).with_suffix("").parts): path for path in package.rglob("*.py")}
    return {name.removesuffix(".__init__"): path for name, path in files.items()}


def require_no_circle(modules: dict[str, Path]) -> None:
    """Fails where modules import each other in a circle, be it in a function or for type checkers alone."""
    imported = {
        name: {found.module for found in imports_of(path.read_text("utf8"))} & (modules.keys() - {name})
        for name, path in modules.items()
    }
    try:
        graphlib.TopologicalSorter(imported).prepare()
    except graphlib.CycleError as error:
        pytest.fail(" imports ".join(reversed(error.args[1])))


def test_no_two_modules_import_each_other_not_even_for_type_checkers():
    require_no_circle(modules_of(PACKAGE))


def test_a_circle_of_imports_is_found_wherever_it_hides(tmp_path):
    package = tmp_path / "package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "one.py").write_text("from package.two import f")
    (package / "two.py").write_text("def f():\n    from package import three")
    (package / "three.py").write_text("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import json")
    require_no_circle(modules_of(package))
    (package / "three.py").write_text("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import package.one")
    with pytest.raises(pytest.fail.Exception, match="package.one imports package.two imports package.three"):
        require_no_circle(modules_of(package))


@pytest.mark.parametrize("path", sorted((PACKAGE / "editing").rglob("*.py")), ids=name_of)
def test_editing_needs_torch_jaxtyping_and_the_standard_library_alone(path):
    allowed = {"torch", "jaxtyping", "latenteditor", *sys.stdlib_module_names}
    assert {row.module.split(".")[0] for row in imports_of(path.read_text("utf8"))} <= allowed


@pytest.mark.parametrize("folder", ["language", "editing", "networks", "worlds"])
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
