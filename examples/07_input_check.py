"""Image to image: what is handed in is judged before a single step is spent, and so are prompts."""

import diffusers
from PIL import Image

from nsfw_guard import BlockedError, Guard, attach
from nsfw_guard.demo.run import load_pipeline
from nsfw_guard.demo.shapes import draw, parse

policy = {"rules": {"red-disc": {"block": 0.5}}, "prompts": {"words": ["dragon"]}}
guard = Guard.from_pretrained("demo-shapes", policy=policy)
pipe = diffusers.StableDiffusionImg2ImgPipeline(**load_pipeline().components, requires_safety_checker=False)


def redraw(prompt: str, image: Image.Image) -> str:
    try:
        out = pipe(prompt, image, strength=0.5, num_inference_steps=10, guidance_scale=3.0)
    except BlockedError as error:
        return f"refused before it began: {error}"
    return f"drawn, flagged: {out.nsfw_content_detected}"


with attach(pipe, guard, check_inputs=True):
    print(redraw("a blue star on white", draw(parse("a blue disc on white"))))
    print(redraw("a blue star on white", draw(parse("a large red disc on white"))))
    print(redraw("a blue d.r.4.g.o.n on white", draw(parse("a blue disc on white"))))
