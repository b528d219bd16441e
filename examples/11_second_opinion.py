"""A quick model for every image, a second one where the first is in doubt, and what each of them said."""

from PIL import Image

from nsfw_guard import Cascade, Guard, load_model
from nsfw_guard.demo.shapes import draw, parse

cascade = Cascade(load_model("demo-shapes"), load_model("demo-shapes-graded"), band=(0.05, 0.95))
guard = Guard(cascade)  # in earnest: Cascade(load("marqo"), load("freepik"), band=(0.1, 0.9))

disc, ring = (draw(parse(f"a large red {shape} on white"), side=128) for shape in ("disc", "ring"))
for blend in (0.0, 0.65, 0.75, 1.0):
    (verdict,) = guard.check(Image.blend(ring, disc, blend))
    said = {who: round(p, 3) for who, p in verdict.scores.views[0].details.items()}
    print(f"{verdict.outcome.name:<6} {blend:.0%} disc: {said}")
print("asked:", cascade.asked, "of", cascade.seen, "|", guard.state["second_opinion"])
