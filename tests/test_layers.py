"""Imports go down only, and optional libraries stay inside functions. One table, one test."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "nsfw_guard"
LAYERS = [  # bottom first; a room may import from lower ones, and from itself
    {"version", "errors"},
    {"scores", "jsonfile"},
    {"verdict"},
    {"policy", "imaging"},
    {"listeners"},
    {"calibration", "actions"},
    {"relaxed"},
    {"backends"},
    {"guard_folder", "testing"},
    {"guard"},
    {"pipelines", "tools", "serve", "hosts"},
    {"demo"},
    {"cli"},
    {"__main__"},
]
LEVEL = {name: i for i, layer in enumerate(LAYERS) for name in layer}
LIGHT = ("errors", "jsonfile", "scores", "verdict", "version", "policy/*", "listeners/*", "imaging/views")
HEAVY = {"timm", "transformers", "diffusers", "accelerate", "torchvision", "huggingface_hub", "safetensors", "tqdm",
         "av", "onnx", "onnxruntime", "openvino", "openvino_telemetry", "nudenet", "cv2", "skimage",
         "fastapi", "uvicorn", "ray", "pymilvus", "lancedb", "faiss", "pyarrow", "tomli", "tomllib"}  # fmt: skip
# They subclass a class of such a library, and are loaded when their name is first asked for.
LEAVES = {"pipelines/blocks.py", "pipelines/early/callback.py", "pipelines/checker.py"}
MODULES = sorted(p for p in ROOT.rglob("*.py") if p != ROOT / "__init__.py")


def top(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imports(path: Path):
    """Every import of a module: (line, dotted name, whether it stands at the top of the module)."""
    tree = ast.parse(path.read_text())
    typing = {id(n) for node in ast.walk(tree) if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
              for n in ast.walk(node)}  # fmt: skip
    at_top = {id(n) for n in tree.body}
    for node in ast.walk(tree):
        if id(node) in typing:
            continue
        if isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path.name}:{node.lineno} imports relatively"
            if (ROOT.parent / (node.module or "").replace(".", "/")).is_dir():
                for alias in node.names:
                    yield node.lineno, f"{node.module}.{alias.name}", id(node) in at_top
            else:
                yield node.lineno, node.module or "", id(node) in at_top
        elif isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name, id(node) in at_top


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_every_module_has_a_layer_and_imports_go_down(path) -> None:
    assert top(path) in LEVEL, "a new room: give it a layer above"
    for line, name, _ in imports(path):
        parts = name.split(".")
        if parts[0] != "nsfw_guard" or len(parts) < 2 or parts[1] == top(path):
            continue
        assert LEVEL[parts[1]] < LEVEL[top(path)], f"{path.name}:{line} imports {name}"


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_optional_libraries_are_imported_inside_functions(path) -> None:
    leaf = str(path.relative_to(ROOT)) in LEAVES
    leaves = {"nsfw_guard." + name.removesuffix(".py").replace("/", ".") for name in LEAVES}
    for line, name, at_top in imports(path):
        heavy = name.split(".")[0] in HEAVY and not leaf
        assert not (at_top and (heavy or name in leaves)), f"{path.name}:{line} imports {name} at the top"


def test_no_modules_import_each_other_in_a_circle() -> None:
    """Also within a room, and also inside functions."""
    known = {".".join(path.relative_to(ROOT.parent).with_suffix("").parts): path for path in MODULES}
    left = {name: {needed for _, needed, _ in imports(path)} & known.keys() - {name} for name, path in known.items()}
    while free := {name for name, needs in left.items() if not needs}:
        left = {name: needs - free for name, needs in left.items() if name not in free}
    assert left == {}, "these, or what they need, stand in a circle"


def is_light(path: Path) -> bool:
    return any(path.relative_to(ROOT).with_suffix("").match(room) for room in LIGHT)


@pytest.mark.parametrize("path", list(filter(is_light, MODULES)), ids=lambda p: str(p.relative_to(ROOT)))
def test_the_light_modules_do_not_import_torch(path) -> None:
    for line, imported, _ in imports(path):
        parts = imported.split(".")
        assert parts[0] not in {"torch", "numpy", "PIL"}, f"{path.name}:{line}"
        known = ROOT.joinpath(*parts[1:]).with_suffix(".py")
        assert parts[0] != "nsfw_guard" or is_light(known), f"{path.name}:{line} imports {imported}"


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_modules_and_functions_stay_small(path) -> None:
    source = path.read_text()
    assert len(source.splitlines()) <= 300
    assert ast.get_docstring(ast.parse(source)), "say in a line or two what this room is for"
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            length = node.end_lineno - node.lineno + 1
            assert length <= 60, f"{path.name}:{node.lineno} {node.name} has {length} lines"


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_names_are_spelt_out(path) -> None:
    """A name says what a thing is, not that somebody told, made, found or owns it."""
    names = {
        getattr(node, "id", None) or getattr(node, "arg", None)
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, (ast.Name, ast.arg))
    }
    assert not names & {"told", "made", "found", "own"}


NO_VERBS = {"A", "All", "An", "Each", "Every", "How", "One", "The", "What", "Whether", "Which", "Why"}


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_docstrings_of_public_functions_begin_with_a_verb(path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and not node.name.startswith("_"):
            is_value = any("property" in ast.unparse(decorator) for decorator in node.decorator_list)
            words = (ast.get_docstring(node) or "").split()
            assert is_value or not words or words[0] not in NO_VERBS, f"{path.name}:{node.lineno} {node.name}"


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_no_foreign_code_is_run_or_unpickled(path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            assert called not in {"eval", "exec", "torch.load", "pickle.load", "pickle.loads", "joblib.load"}
            trust = [ast.unparse(k.value) for k in node.keywords if k.arg == "trust_remote_code"]
            assert set(trust) <= {"False"}  # said, since transformers asks on the terminal where it is not
