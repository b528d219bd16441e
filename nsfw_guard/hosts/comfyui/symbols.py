"""What the adapter relies on in a checkout of ComfyUI, read from its source: nothing of the host is imported."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from pathlib import Path

from nsfw_guard.hosts.comfyui.enforce import NEEDED

Found = ast.FunctionDef | ast.AsyncFunctionDef
VIDEO_FILES = ("comfy_api/latest/_input_impl/video_types.py", "comfy_api/input_impl/video_types.py")
PART_FILES = ("comfy_api/latest/_util/video_types.py", "comfy_api/util/video_types.py")
METHODS = (
    ("latent_preview.py", "LatentPreviewer", "decode_latent_to_preview_image"),
    ("server.py", "PromptServer", "add_on_prompt_handler"),
    ("server.py", "PromptServer", "trigger_on_prompt"),
    ("server.py", "PromptServer", "send_sync"),
)


def missing_comfy_symbols(checkout: Path) -> list[str]:
    """Return the names that are gone from a checkout, as "file: name"; none where the adapter fits it."""
    gone = []
    runs = _function(_tree(checkout, ["execution.py"]), "get_output_data")
    if runs is None:
        gone.append("execution.py: get_output_data")
    else:
        parameters = {one.arg for one in (*runs.args.posonlyargs, *runs.args.args, *runs.args.kwonlyargs)}
        gone += [f"execution.py: get_output_data({name})" for name in sorted(NEEDED - parameters)]
    for file, owner, method in METHODS:
        if _function(_class(_tree(checkout, [file]), owner), method) is None:
            gone.append(f"{file}: {owner}.{method}")
    if not _assigns(_class(_tree(checkout, ["server.py"]), "PromptServer"), "instance"):
        gone.append("server.py: PromptServer.instance")
    if not _says(_tree(checkout, ["nodes.py"]), "OUTPUT_NODE"):
        gone.append("nodes.py: OUTPUT_NODE")
    return gone + (_missing_video(checkout) if (checkout / "comfy_api").is_dir() else [])  # older ones have no VIDEO


def _missing_video(checkout: Path) -> list[str]:
    gone = []
    video_class = _class(_tree(checkout, VIDEO_FILES), "VideoFromComponents")
    if _function(video_class, "get_components") is None:
        gone.append(f"{VIDEO_FILES[0]}: VideoFromComponents.get_components")
    if not _assigns(_class(_tree(checkout, PART_FILES), "VideoComponents"), "images"):
        gone.append(f"{PART_FILES[0]}: VideoComponents.images")
    return gone


def _tree(checkout: Path, files: Sequence[str]) -> ast.Module:
    """The first of the files that is there; an empty module where none is, or none can be read."""
    for file in files:
        try:
            return ast.parse((checkout / file).read_text(encoding="utf-8"))
        except (OSError, SyntaxError, ValueError):
            continue
    return ast.Module(body=[], type_ignores=[])


def _function(owner: ast.Module | ast.ClassDef | None, name: str) -> Found | None:
    body = owner.body if owner is not None else []
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return next((one for one in body if isinstance(one, kinds) and one.name == name), None)


def _class(tree: ast.Module, name: str) -> ast.ClassDef | None:
    return next((one for one in tree.body if isinstance(one, ast.ClassDef) and one.name == name), None)


def _assigns(owner: ast.ClassDef | None, name: str) -> bool:
    """Whether a class has an attribute, set in its body or through its name inside a method."""
    if owner is None:
        return False
    for node in ast.walk(owner):
        targets: list[ast.expr] = []
        if isinstance(node, ast.Assign):
            targets = node.targets
        elif isinstance(node, ast.AnnAssign):
            targets = [node.target]
        if any(name in {getattr(target, "id", ""), getattr(target, "attr", "")} for target in targets):
            return True
    return False


def _says(tree: ast.Module, name: str) -> bool:
    return any(isinstance(node, ast.Name) and node.id == name for node in ast.walk(tree))
