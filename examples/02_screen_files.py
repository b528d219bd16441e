"""Screen files: what cannot be read is an ERROR with a reason, never a pass."""

import tempfile
from pathlib import Path

from nsfw_guard import Guard
from nsfw_guard.demo.shapes import draw, parse

folder = Path(tempfile.mkdtemp())
for name, caption in {"red.png": "a large red disc on white", "blue.png": "a blue star on grey"}.items():
    draw(parse(caption), side=256).save(folder / name)
(folder / "broken.png").write_bytes(b"no image")

guard = Guard.from_pretrained("demo-shapes")
for path, verdict in zip(sorted(folder.iterdir()), guard.check(sorted(folder.iterdir())), strict=True):
    print(path.name, verdict.outcome.name, verdict.reason)
