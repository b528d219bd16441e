"""A policy of one's own over a graded model: small is reviewed, large is blocked."""

from nsfw_guard import Guard
from nsfw_guard.demo.shapes import draw, parse

policy = {
    "name": "large ones only",
    "rules": {"red-disc": {"block": 0.5, "severity": "high"}},
}
guard = Guard.from_pretrained("demo-shapes-graded", policy=policy, action="replace")

for size in ("small", "medium", "large"):
    (verdict,) = guard.check(draw(parse(f"a {size} red disc on white"), side=128))
    print(size, verdict.outcome.name, verdict.reason)
