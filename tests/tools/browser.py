"""A page in a real browser, as wide as a phone: Debian's chromium, where it is installed."""

from __future__ import annotations

import html
import re
import shutil
import subprocess
from pathlib import Path

import pytest

PHONE = 390  # pixels
chromium = pytest.mark.skipif(shutil.which("chromium") is None, reason="needs chromium")


def read_on_a_phone(page: Path, work: Path) -> None:
    """Assert that a page has no error on the console, and that nothing but what scrolls by itself is too wide."""
    shown = _browse(page, f"--screenshot={work / 'page.png'}")
    assert "CONSOLE" not in shown.stderr
    # A window may have a least width, a frame has none.
    inside = html.escape(page.read_text(encoding="utf-8"))
    measure = "const d = f.contentDocument.documentElement; document.title = d.scrollWidth + ' of ' + d.clientWidth"
    frame = work / "frame.html"
    frame.write_text(
        f'<!doctype html><iframe id="f" style="border:0;width:{PHONE}px;height:800px" srcdoc="{inside}"></iframe>'
        f"<script>onload = () => {{ {measure} }}</script>"
    )
    widths = re.search(r"<title>(\d+) of (\d+)</title>", _browse(frame, "--dump-dom").stdout)
    assert widths is not None
    assert int(widths[1]) <= int(widths[2]) <= PHONE


def _browse(page: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    base = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr"]
    return subprocess.run(
        [*base, f"--window-size={PHONE},900", *flags, page.as_uri()],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
