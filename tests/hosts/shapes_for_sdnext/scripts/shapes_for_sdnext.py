"""Lets a test write videos of the shapes world with an sdnext's own writers: POST /sdapi/v1/shapes/video.

Link the folder above into `extensions` for `tests/hosts/test_webui_live.py`. The writers are called as the video tabs
call them, without a video model.
"""

import os

import numpy as np
import torch
from modules import paths, processing, script_callbacks, shared
from modules import video as plain
from modules.video_models import video_save

from nsfw_guard.demo import shapes


def frames(prompts):
    return [shapes.draw(shapes.parse(prompt), side=64) for prompt in prompts]


def floats(images):
    """Shape: (1, 3, T, H, W) in [-1, 1]."""
    stack = torch.stack([torch.from_numpy(np.asarray(one)) for one in images])
    return stack.permute(3, 0, 1, 2)[None].float() / 127.5 - 1


FORMS = {
    "tensor": floats,
    "array": lambda images: np.stack([np.asarray(one) for one in images]).astype(np.float32) / 255,
    "list": list,
}


def write(payload: dict):
    """Writes a clip; says which files are new in the folder of videos."""
    folder = paths.resolve_output_path(shared.opts.outdir_samples, shared.opts.outdir_video)
    os.makedirs(folder, exist_ok=True)
    before = set(os.listdir(folder))
    clip, way = frames(payload["prompts"]), payload["way"]
    p = processing.StableDiffusionProcessingVideo(prompt="a clip", negative_prompt="", seed=1, steps=1)
    if way in FORMS:
        video_save.save_video(p, FORMS[way](clip), mp4_sf=True, mp4_frames=True, mp4_fps=8)
    elif way == "bytes":
        video_save.save_video(p, binary=b"nobody can look into this")
    else:
        plain.save_video(None, clip, filename=f"clip{len(before)}", video_type=way, sync=True)
    return {"files": sorted(os.path.join(folder, one) for one in set(os.listdir(folder)) - before)}


script_callbacks.on_app_started(lambda _, app: app.add_api_route("/sdapi/v1/shapes/video", write, methods=["POST"]))
