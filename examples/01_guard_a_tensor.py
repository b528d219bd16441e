"""Guard the tensors of a pipeline: flagged images are blurred, the others keep every bit."""

from nsfw_guard import Guard
from nsfw_guard.demo.run import load_pipeline

guard = Guard.from_pretrained("demo-shapes", action="blur")  # "marqo" for real images
pipe = load_pipeline()  # any diffusers pipeline

prompts = ["a large red disc on white", "a large blue disc on white"]
drawn = pipe(prompts, guidance_scale=3.0, num_inference_steps=20, output_type="pt").images
released, verdicts = guard(drawn)

for verdict in verdicts:
    print(verdict.outcome.name, verdict.reason)
print("the allowed one is untouched:", bool((released[1] == drawn[1]).all()))
