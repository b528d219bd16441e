"""A log that proves the guard ran, and a head to keep elsewhere."""

import tempfile
from pathlib import Path

from nsfw_guard import Audit, Guard
from nsfw_guard.demo.shapes import draw, parse
from nsfw_guard.listeners.audit import verify

log = Path(tempfile.mkdtemp()) / "log.jsonl"
guard = Guard.from_pretrained("demo-shapes", listeners=[Audit(log, key=b"kept elsewhere")])
guard.check([draw(parse(c)) for c in ("a red disc on white", "a green cross on sky")])

report = verify(log, key=b"kept elsewhere")
print("verified:", report.ok, "lines:", report.lines, "head:", report.head.hash[:12])
log.write_text(log.read_text().replace("block", "allow"))
print("after an edit:", verify(log, key=b"kept elsewhere").faults)
