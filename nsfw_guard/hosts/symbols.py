"""What an adapter relies on in its host, looked up in a checkout without running a line of it.

A host that renames one of these would leave a way out open; this says so before anybody starts it.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

from nsfw_guard.errors import ConfigError, UnknownNameError

# By host: what is looked for, and the files of which one has it. "Class.name" is a method, or an attribute that is set
# anywhere in the class, also through the name of the class; "name(argument)" is a parameter of a function or a method.
SYMBOLS: dict[str, dict[str, tuple[str, ...]]] = {}

_SCRIPTS = ("modules/scripts_manager.py", "modules/scripts.py")
_CALLBACKS = ("modules/script_callbacks.py",)
_VIDEO = ("modules/video_models/video_save.py",)
_BOTH: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(("on_ui_settings", "on_app_started", "on_before_image_saved", "on_image_grid"), _CALLBACKS),
    **dict.fromkeys((f"ImageSaveParams.{name}" for name in ("image", "p", "pnginfo")), _CALLBACKS),
    "ImageGridLoopParams.imgs": _CALLBACKS,
    "before_image_saved_callback": _CALLBACKS,
    **dict.fromkeys(("AlwaysVisible", "PostprocessImageArgs.image", "PostprocessBatchListArgs.images"), _SCRIPTS),
    **dict.fromkeys(
        (
            f"Script.{name}"
            for name in ("before_process", "process", "before_process_batch", "postprocess_batch",
                         "postprocess_batch_list", "postprocess_image", "postprocess")
        ),
        _SCRIPTS,
    ),
    "ScriptPostprocessing.order": ("modules/scripts_postprocessing.py",),
    "ScriptPostprocessing.process": ("modules/scripts_postprocessing.py",),
    "PostprocessedImage.image": ("modules/scripts_postprocessing.py",),
    "ScriptRunner.run(p)": _SCRIPTS,
    "State.current_image": ("modules/shared_state.py",),
    "State.do_set_current_image": ("modules/shared_state.py",),
    "process_images_inner(p)": ("modules/processing.py",),
    "Processed.images": ("modules/processing.py",),
    "Processed.__init__(infotexts)": ("modules/processing.py",),
    "run_postprocessing": ("modules/postprocessing.py",),
    "OptionInfo.__init__(onchange)": ("modules/options.py", "modules/shared.py"),
    "Options.add_option": ("modules/options_handler.py", "modules/options.py", "modules/shared.py"),
    "is_installed": ("launch.py", "modules/launch_utils.py"),
    "run_pip": ("launch.py", "modules/launch_utils.py"),
}  # fmt: skip
SYMBOLS["sdnext"] = {
    **_BOTH,
    "on_before_process": _CALLBACKS,
    "on_after_process": _CALLBACKS,
    "after_process_callback": _CALLBACKS,
    "processed": ("modules/processing.py",),
    "Processed.bytes": ("modules/processing.py",),
    "control_extensions": ("installer.py",),
    **dict.fromkeys(("save_video(pixels)", "save_video(binary)", "save_video(reclamp)"), _VIDEO),
    "atomic_save_video(tensor)": _VIDEO,
    "save_video(images)": ("modules/video.py",),
    "save_video_atomic(images)": ("modules/video.py",),
    "vae_decode(vae_type)": ("modules/framepack/framepack_vae.py",),
}
SYMBOLS["a1111"] = {**_BOTH, "Script.postprocess_image_after_composite": _SCRIPTS}
SYMBOLS["comfyui"] = {
    "get_output_data(obj)": ("execution.py",),
    "get_output_data(input_data_all)": ("execution.py",),
    "LatentPreviewer.decode_latent_to_preview_image": ("latent_preview.py",),
    **dict.fromkeys(
        (f"PromptServer.{name}" for name in ("add_on_prompt_handler", "trigger_on_prompt", "send_sync", "instance")),
        ("server.py",),
    ),
    "SaveImage.OUTPUT_NODE": ("nodes.py",),
    "VideoFromComponents.get_components": (
        "comfy_api/latest/_input_impl/video_types.py",
        "comfy_api/input_impl/video_types.py",
    ),
    "VideoComponents.images": ("comfy_api/latest/_util/video_types.py", "comfy_api/util/video_types.py"),
}
# What lies in these folders is looked for only where the folder is there: older versions have no such thing.
OPTIONAL_FOLDERS = ("comfy_api",)


def missing_symbols(checkout: Path, host: str) -> list[str]:
    """Return what of the host's symbols is gone from a checkout, each with the files that should have it.

    Raises:
        ConfigError: there is no such host in the table, or no such folder.
    """
    if host not in SYMBOLS:
        raise UnknownNameError("host", host, SYMBOLS)
    if not checkout.is_dir():
        raise ConfigError(f"{checkout} is not a folder: give the checkout of {host}")
    read: dict[str, set[str]] = {}
    gone = []
    for symbol, files in SYMBOLS[host].items():
        folder = Path(files[0]).parts[0]
        if folder in OPTIONAL_FOLDERS and not (checkout / folder).is_dir():
            continue
        for file in files:
            if file not in read:
                read[file] = _found(checkout / file)
        if not any(symbol in read[file] for file in files):
            gone.append(f"{symbol} ({' or '.join(files)})")
    return gone


def _found(path: Path) -> set[str]:
    """Every symbol of a file, in the spelling of the table; none where it is not there or no Python."""
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except (OSError, SyntaxError, ValueError):
        return set()
    return set(_of(tree.body, ""))


def _of(body: list[ast.stmt], within: str) -> Iterator[str]:
    for node in body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield within + node.name
            spec = node.args
            for argument in (*spec.posonlyargs, *spec.args, *spec.kwonlyargs):
                yield f"{within}{node.name}({argument.arg})"
            if within:
                yield from (within + name for name in _set_on_self(node))
        elif isinstance(node, ast.ClassDef):
            yield node.name
            yield from _of(node.body, f"{node.name}.")
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            yield from (within + target.id for target in targets if isinstance(target, ast.Name))
        elif isinstance(node, (ast.If, ast.Try, ast.With)):
            yield from _of([*node.body, *getattr(node, "orelse", [])], within)
        elif isinstance(node, ast.ImportFrom):
            yield from (within + (alias.asname or alias.name) for alias in node.names)


def _set_on_self(function: ast.AST) -> Iterator[str]:
    for node in ast.walk(function):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr
