"""In the place of the stock safety checker: saved with the pipeline, loaded with it, nothing else changes."""

import tempfile

import diffusers

import nsfw_guard  # must be imported before a folder that holds our checker is loaded
from nsfw_guard import Guard, SafetyChecker
from nsfw_guard.demo.run import load_pipeline

checker = SafetyChecker(Guard.from_pretrained("demo-shapes", action="pixelate"))  # "marqo" for real images
pipe = load_pipeline()  # or StableDiffusionPipeline.from_pretrained(..., safety_checker=checker, feature_extractor=...)
pipe.register_modules(safety_checker=checker, feature_extractor=checker.feature_extractor)

with tempfile.TemporaryDirectory() as folder:
    pipe.save_pretrained(folder)
    pipe = diffusers.StableDiffusionPipeline.from_pretrained(folder)

out = pipe(["a large red disc on white", "a blue star on grey"], guidance_scale=3.0, num_inference_steps=20)
print("flagged:", out.nsfw_content_detected)
print(pipe.safety_checker.verdicts[0].reason, "| nsfw_guard", nsfw_guard.__version__)
