"""Stop a drawing that is sure to be blocked, and draw again, with fresh seeds, what was."""

import torch

from nsfw_guard import Guard, attach, fit_early_stop, regenerate
from nsfw_guard.demo.run import load_pipeline

call = {"guidance_scale": 3.0, "num_inference_steps": 20}
guard, pipe = Guard.from_pretrained("demo-shapes"), load_pipeline()

# A dozen prompts show how it goes; a few hundred prove a rate of false stops of 1%.
colours = ("blue", "green", "yellow", "purple", "red", "red")
early = fit_early_stop(pipe, guard, [f"a large {c} disc on white" for c in colours] * 2, decoder="vae", call=call)
print(f"saves {early.report.saved:.0%} of the steps of blocked images; rate proven: {early.report.proven}")

with attach(pipe, guard, early_stop=early):
    out = pipe("a large red disc on white", generator=torch.Generator().manual_seed(1), **call)
    print(out.verdicts[0].reason)

matches = regenerate(pipe, guard, attempts=2, prompt=["a large red disc on white", "a blue star on white"], **call)
print("tries:", matches.tries, "still blocked:", matches.nsfw_content_detected)
