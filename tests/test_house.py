"""The order of the house: who may import whom, what an import loads, how long a file is."""

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1] / "segkit"

# Each may import those before it. The longest name counts: `data.card` would be apart from `data`.
ORDER = (
    *("errors", "interrupt", "files", "console", "yaml_text", "labels", "units", "registry"),
    *("shipped", "invocation", "hub", "tensor_files", "network_size"),
    *("limits", "hardware", "distributed", "normalize"),
    *("channels_last", "features", "blocks", "upsample", "losses", "optim", "decoders", "encoders"),
    *("dry_run", "receptive_field", "config", "model", "descriptors", "summary", "streets", "data"),
    *("consistency",),
    *("tables", "checkpoint_schema", "model_folder", "checkpoint"),
    *("drawing", "inference", "evaluation", "publishing"),
    *("metrics", "doctor", "starter", "export", "experiment", "training", "benchmark"),
    *("comparison", "testing", "commands", "__main__"),
)
# files of more than 250 lines, and why
LONG = {
    "experiment.py": "each part of a run, from a config or by hand",
}


class Import(NamedTuple):
    """One name that a module imports; `name` is empty for a module as a whole."""

    module: str
    target: str
    name: str
    line: int

    def __str__(self) -> str:
        return f"{self.module}, line {self.line}: {self.target} {self.name}".rstrip()


def module_of(path: Path) -> str:
    parts = ("segkit", *path.relative_to(ROOT).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {module_of(path): path for path in sorted(ROOT.rglob("*.py"))}
TREES = {module: ast.parse(path.read_text("utf-8")) for module, path in FILES.items()}


def imports_of(module: str) -> Iterator[Import]:
    """List all imports of segkit's own modules, including those inside of functions."""
    return _imports_in(TREES[module], module)


def _imports_in(tree: ast.AST, module: str) -> Iterator[Import]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name in FILES:
                    yield Import(module, alias.name, "", node.lineno)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{module}, line {node.lineno}: a relative import"
            for alias in node.names:
                submodule = f"{node.module}.{alias.name}"
                if submodule in FILES:
                    yield Import(module, submodule, "", node.lineno)
                elif node.module in FILES:
                    yield Import(module, node.module, alias.name, node.lineno)


IMPORTS = [each for module in FILES for each in imports_of(module)]
TYPES = {  # imported for annotations alone
    each
    for module, tree in TREES.items()
    for node in ast.walk(tree)
    if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    for each in _imports_in(node, module)
}


def room_of(module: str) -> str:
    """Find the entry of ORDER that a module belongs to."""
    name = module.removeprefix("segkit.")
    found = [room for room in ORDER if name == room or name.startswith(f"{room}.")]
    assert found, f"{module} has no place in ORDER"
    return max(found, key=len)


def test_the_order_names_what_is_there():
    rooms = {room_of(module) for module in FILES if module != "segkit"}
    assert len(set(ORDER)) == len(ORDER)
    assert set(ORDER) - rooms == set()


def test_imports_only_go_down():
    upward = [
        str(each)
        for each in IMPORTS
        if "segkit" not in (each.module, each.target)  # the door opens to all, and holds no code
        and ORDER.index(room_of(each.target)) > ORDER.index(room_of(each.module))
    ]
    assert upward == []


def test_no_circles():
    graph: dict[str, set[str]] = {module: set() for module in FILES}
    for each in IMPORTS:
        if each not in TYPES:
            graph[each.module].add(each.target)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(reversed(error.args[1])))


def is_private(name: str) -> bool:
    of_named_tuples = name in ("_asdict", "_fields", "_make", "_replace")
    return name.startswith("_") and not name.startswith("__") and not of_named_tuples


def test_no_module_uses_what_is_private_to_another():
    used = [str(each) for each in IMPORTS if is_private(each.name)]
    used += [str(each) for each in IMPORTS if any(map(is_private, each.target.split(".")))]
    for module, tree in TREES.items():
        own = {each.target.rpartition(".")[2] for each in imports_of(module) if not each.name}
        own |= {each.name for each in imports_of(module)}
        used += [
            f"{module}, line {node.lineno}: {node.value.id}.{node.attr}"
            for node in ast.walk(tree)
            if isinstance(node, ast.Attribute)
            and is_private(node.attr)
            and isinstance(node.value, ast.Name)
            and node.value.id in own
        ]
    assert used == []


ALONE = """
import importlib, json, sys, torch
before, brought = set(sys.modules), {}
for name in sys.argv[1:]:
    importlib.import_module(name)
    brought[name] = sorted({each.partition(".")[0] for each in set(sys.modules) - before})
print(json.dumps(brought))
"""


def test_parts_bring_torch_alone():
    parts = "features blocks upsample decoders losses encoders encoders.weights"
    modules = [f"segkit.{part}" for part in parts.split()]
    code = [sys.executable, "-W", "ignore", "-c", ALONE, *modules]
    done = subprocess.run(code, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    foreign = {"segkit", "torch", *sys.stdlib_module_names}
    brought = {name: set(tops) - foreign for name, tops in json.loads(done.stdout).items()}
    assert brought == {name: set() for name in modules}


def test_one_module_leads_to_the_terminal():
    """All else prints by `segkit.console`, which shows what names hold and obeys nothing."""
    others = [(module, tree) for module, tree in TREES.items() if module != "segkit.console"]
    harmless = {"Table", "box", "BarColumn", "MofNCompleteColumn", "Progress"}
    found = []
    for module, tree in others:
        for node in ast.walk(tree):
            if isinstance(node, ast.Name) and node.id == "print":
                found.append(f"{module}, line {node.lineno}: print")
            if isinstance(node, ast.Import):
                names = {alias.name for alias in node.names if alias.name.startswith("rich")}
            elif isinstance(node, ast.ImportFrom) and str(node.module).startswith("rich"):
                names = {alias.name for alias in node.names} - harmless
            else:
                continue
            found += [f"{module}, line {node.lineno}: rich's {name}" for name in names]
    assert found == []


def test_long_files_have_a_reason():
    lengths = {
        path.relative_to(ROOT).as_posix(): len(path.read_text("utf-8").splitlines())
        for path in FILES.values()
    }
    assert {name for name, lines in lengths.items() if lines > 250} == set(LONG)
