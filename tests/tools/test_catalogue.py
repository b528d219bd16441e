"""docs/models.md is written from the records: drift fails here, and says how to mend it."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from nsfw_guard.backends import registry
from nsfw_guard.tools.catalogue import facts, markdown

DOC = Path(__file__).parent.parent.parent / "docs" / "models.md"
WRITE = "python -m tests.tools.test_catalogue"


def written(text: str) -> str:
    """The document with the part between its marks written anew, from the built-in records."""
    names = [name for name in registry.list_models() if registry.spec(name).source != "a test"]
    part = f"<!-- records -->\n{markdown(names)}<!-- end of records -->"
    return re.sub(r"<!-- records -->.*<!-- end of records -->", lambda _: part, text, flags=re.DOTALL)


def test_the_document_says_what_the_records_say() -> None:
    text = DOC.read_text()
    assert text == written(text), f"docs/models.md drifted from the records: run `{WRITE}`"


def test_every_record_has_a_page_and_every_cut_a_source() -> None:
    text = DOC.read_text()
    for name in registry.list_models():
        assert f"\n### {name}\n" in text
        spec = registry.spec(name)
        for threshold, cut in spec.thresholds.items():
            assert f"- `{threshold}`: block {cut.block:g}" in text
            assert cut.source


def test_facts_are_words_and_numbers() -> None:
    rows = facts(registry.spec("marqo"))
    assert rows["labels"] == "NSFW = sexual:high, SFW = harmless"
    assert rows["input"] == "384 px, shorter side, centre crop, bicubic"
    assert rows["embedding"] == 192
    assert rows["sha256"].startswith("6bf2e0f64a1d")
    assert facts(replace(registry.spec("marqo"), download_bytes=0))["size"] == "unknown"
    assert facts(registry.spec("stable-diffusion"))["repo"].endswith("/safety_checker")


if __name__ == "__main__":
    DOC.write_text(written(DOC.read_text()))
