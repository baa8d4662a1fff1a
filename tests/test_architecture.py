"""The arrows between modules, read from their imports; a failure names the offender."""

import ast
import functools
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("engine", "kernels", "load_tests")
MODULES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
SHAPELESS = {"utils", "helpers", "common", "misc", "base", "core", "manager", "types", "constants"}

LEAVES = {"engine.errors": (), "engine.schema": (), "engine.config": ("engine.bundle",)}
"""Modules that import nothing of ours beyond the names given."""

FORBIDDEN = {
    "engine.batch": ("engine.realtime", "engine.cli", "engine.demo", "load_tests"),
    "engine.realtime": ("engine.batch", "engine.cli", "engine.demo", "load_tests"),
    "engine.importers": ("engine.scorer", "engine.batch", "engine.realtime", "engine.cli"),
    "engine.backends": ("engine.scorer", "engine.batch", "engine.realtime", "engine.cli"),
    "engine.prepare": ("engine.scorer", "engine.backends", "engine.batch", "engine.realtime", "engine.cli"),
    "engine.scorer": ("engine.packing", "engine.importers", "engine.batch", "engine.realtime", "engine.cli"),
    "engine.packing": ("engine.scorer", "engine.batch", "engine.realtime", "engine.cli"),
    "engine.bundle": ("engine.scorer", "engine.packing", "engine.batch", "engine.realtime", "engine.cli"),
    "kernels": ("engine", "load_tests"),
}
"""Who must not import whom: cli → {batch, realtime, …} → scorer → {prepare, schema, backends} → kernels."""


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@functools.cache
def imports(path: Path) -> list[str]:
    names: list[str] = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names += (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide where a name lives"
            names += (f"{node.module}.{alias.name}" for alias in node.names)
    return names


def within(name: str, package: str) -> bool:
    return name == package or name.startswith(package + ".")


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_a_module_imports_only_along_the_arrows(path: Path) -> None:
    name = module_name(path)
    for package, forbidden in FORBIDDEN.items():
        if within(name, package):
            wrong = [i for i in imports(path) for target in forbidden if within(i, target)]
            assert not wrong, f"{name} must not import {wrong}"


@pytest.mark.parametrize("leaf", LEAVES)
def test_a_leaf_imports_nothing_of_ours(leaf: str) -> None:
    path = ROOT / (leaf.replace(".", "/") + ".py")
    ours = [name for name in imports(path) if name.split(".")[0] in PACKAGES]
    assert not [name for name in ours if not any(within(name, allowed) for allowed in LEAVES[leaf])]


def test_kernels_import_only_numpy_and_numba() -> None:
    allowed = {"numpy", "numba", "llvmlite", "kernels", *sys.stdlib_module_names}
    for path in (ROOT / "kernels").rglob("*.py"):
        wrong = [name for name in imports(path) if name.split(".")[0] not in allowed]
        assert not wrong, f"{module_name(path)} imports {wrong}"


def test_the_name_kernels_is_ours() -> None:
    import kernels

    assert Path(kernels.__file__).is_relative_to(ROOT)


def test_private_surfaces_of_ray_are_touched_in_one_file_only() -> None:
    private = ("ray._private", "ray.serve._private", "ray.data._internal", "ray._raylet")
    for path in MODULES:
        if module_name(path) != "engine.ray_compat":
            wrong = [name for name in imports(path) if any(within(name, p) for p in private)]
            assert not wrong, f"{module_name(path)} imports {wrong}"


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_a_module_has_a_telling_name_and_a_readable_length(path: Path) -> None:
    assert path.stem not in SHAPELESS
    assert len(path.read_text().splitlines()) <= 400


@pytest.mark.parametrize("path", sorted(ROOT.glob("[ekl]*/**/__init__.py")), ids=str)
def test_a_package_file_is_a_docstring(path: Path) -> None:
    if path.parent != ROOT / "engine":
        assert len(ast.parse(path.read_text()).body) <= 1
