"""Files of the cache appear complete, or not at all."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from nsfw_guard.backends.files.cache import cache_home, put


def test_the_cache_is_where_the_environment_says(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_home() == tmp_path / "nsfw-guard"
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    assert cache_home() == Path.home() / ".cache" / "nsfw-guard"


def test_a_file_that_cannot_be_written_leaves_nothing_behind(tmp_path) -> None:
    (tmp_path / "there" / "x").mkdir(parents=True)
    with pytest.raises(OSError, match="there"):
        put(tmp_path / "there", b"new")
    (tmp_path / "file").write_bytes(b"old")
    with pytest.raises(OSError, match="file"):
        put(tmp_path / "file" / "below", b"new")
    assert {path.name for path in tmp_path.iterdir()} == {"there", "file"}
    assert (tmp_path / "file").read_bytes() == b"old"


def test_a_reader_never_sees_a_part_while_others_write(tmp_path) -> None:
    path, contents = tmp_path / "new" / "file", [bytes([i]) * 300_000 for i in range(4)]
    put(path, contents[0])
    threads = [threading.Thread(target=lambda d=data: [put(path, d) for _ in range(30)]) for data in contents]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        assert path.read_bytes() in contents
    for thread in threads:
        thread.join()
    assert [each.name for each in path.parent.iterdir()] == ["file"]
