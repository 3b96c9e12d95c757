"""The house keeps its shape: folders, packages, and who may import whom."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOTS = ("compiler", "hw", "runtime")
FOLDERS = {*ROOTS, "sim_tests", "examples", "docs", ".ci", ".pysrc"}
PROJECT = Path(__file__).resolve().parent.parent


def committed_files() -> list[str]:
    """Paths that git knows, so that builds and caches of a work tree do not count."""
    listing = subprocess.run(
        ["git", "ls-files", "-z"], cwd=PROJECT, capture_output=True, text=True, check=True
    )
    return [name for name in listing.stdout.split("\0") if name and (PROJECT / name).exists()]


def modules(folder: str) -> list[Path]:
    """Python files below a folder of the project."""
    return sorted((PROJECT / folder).rglob("*.py"))


def imported_names(source: str) -> Iterator[str]:
    """Dotted names that a module imports, wherever in it the import stands.

    `from a.b import c` counts as a.b.c, because c may be a module.
    """
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports are banned by ruff"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def is_under(name: str, packages: tuple[str, ...]) -> bool:
    """Whether a dotted name is one of the packages or inside one."""
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def forbidden_imports(folder: str, packages: tuple[str, ...]) -> list[str]:
    """`file: name` for every import, below a folder, of one of the packages."""
    return [
        f"{path.relative_to(PROJECT)}: {name}"
        for path in modules(folder)
        for name in imported_names(path.read_text())
        if is_under(name, packages)
    ]


def test_top_level_holds_the_agreed_folders_and_nothing_else() -> None:
    folders = {name.split("/")[0] for name in committed_files() if "/" in name}
    assert folders == FOLDERS


def test_pyproject_lists_every_package_and_no_other() -> None:
    setuptools = tomllib.loads((PROJECT / "pyproject.toml").read_text())["tool"]["setuptools"]
    found = {
        f"qcompile.{path.parent.relative_to(PROJECT).as_posix().replace('/', '.')}"
        for root in ROOTS
        for path in modules(root)
    }
    assert set(setuptools["packages"]) == found
    assert setuptools["package-dir"] == {f"qcompile.{root}": root for root in ROOTS}


def test_pyproject_ships_every_file_that_is_no_python() -> None:
    setuptools = tomllib.loads((PROJECT / "pyproject.toml").read_text())["tool"]["setuptools"]
    shipped = {
        path
        for package, patterns in setuptools["package-data"].items()
        for pattern in patterns
        for path in (PROJECT / package.removeprefix("qcompile.").replace(".", "/")).glob(pattern)
    }
    data = {
        PROJECT / name
        for name in committed_files()
        if name.split("/")[0] in ROOTS and not name.endswith(".py")
    }
    assert data - shipped == set()


def test_every_package_folder_has_an_init_and_qcompile_itself_has_none() -> None:
    folders = {path.parent for root in ROOTS for path in modules(root)}
    assert [folder for folder in folders if not (folder / "__init__.py").is_file()] == []
    assert not (PROJECT / ".pysrc/qcompile/__init__.py").exists()
    for root in ROOTS:
        link = PROJECT / ".pysrc/qcompile" / root
        assert link.is_symlink(), f"{link} must be a link for the type checkers"
        assert link.resolve() == PROJECT / root


@pytest.mark.parametrize(
    ("folder", "packages", "reason"),
    [
        ("hw", ("onnx", "onnxruntime", "qcompile.compiler"), "hw knows no graph and no ONNX"),
        ("runtime", ("qcompile.compiler", "qcompile.hw"), "a board host has no HDL tools"),
        ("compiler/quantize", ("qcompile.hw", "qcompile.compiler.golden"), "it makes ONNX only"),
        ("compiler/golden", ("qcompile.hw", "onnxruntime", "onnx"), "golden is the definition"),
    ],
)
def test_folder_does_not_import(folder: str, packages: tuple[str, ...], reason: str) -> None:
    assert forbidden_imports(folder, packages) == [], reason


def test_hw_shares_nothing_with_runtime_but_the_host_protocol() -> None:
    shared = forbidden_imports("hw", ("qcompile.runtime.protocol",))
    assert forbidden_imports("hw", ("qcompile.runtime",)) == shared


def test_runtime_imports_numpy_pyserial_and_the_standard_library_only() -> None:
    allowed = (*sys.stdlib_module_names, "numpy", "serial", "qcompile.runtime")
    foreign = [
        f"{path.relative_to(PROJECT)}: {name}"
        for path in modules("runtime")
        for name in imported_names(path.read_text())
        if not is_under(name, allowed)
    ]
    assert foreign == []


def test_only_frontend_and_quantizer_import_onnx() -> None:
    importers = {entry.split(":")[0] for entry in forbidden_imports("compiler", ("onnx",))}
    allowed = ("compiler/frontend/", "compiler/quantize/")
    assert {path for path in importers if not path.startswith(allowed)} == set()


def test_runtime_starts_where_only_numpy_and_pyserial_are_installed() -> None:
    program = (
        "import sys\n"
        "blocked = ('amaranth', 'onnx', 'onnxruntime', 'cocotb', 'rich', 'qcompile.hw',"
        " 'qcompile.compiler')\n"
        "sys.modules.update(dict.fromkeys(blocked))\n"
        "import importlib, pkgutil, qcompile.runtime as runtime\n"
        "for module in pkgutil.walk_packages(runtime.__path__, 'qcompile.runtime.'):\n"
        "    if not module.name.endswith('__main__'):\n"
        "        importlib.import_module(module.name)\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr


def test_import_scanner_sees_imports_inside_functions_and_of_submodules() -> None:
    source = "def f():\n    from onnx import helper\nimport qcompile.hw.config as c\n"
    assert set(imported_names(source)) == {"onnx.helper", "qcompile.hw.config"}
    assert is_under("onnx.helper", ("onnx",))
    assert not is_under("onnxruntime.quantization", ("onnx",))
