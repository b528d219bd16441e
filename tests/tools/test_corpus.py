"""benchmarks.corpus gathers images from archives: on tiny ones, and on the rules of its own table."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import stat
import struct
import subprocess
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.corpus import __main__ as corpus
from benchmarks.corpus import archives, images, rules, sources


def drawn(seed: int, size: tuple[int, int] = (64, 48), form: str = "PNG") -> bytes:
    """An image of smooth noise, the same at every size but for scaling."""
    blocks = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(blocks).resize(size, Image.Resampling.BICUBIC).save(file, form)
    return file.getvalue()


def tgz(path: Path, files: dict[str, bytes], *, link: str = "") -> Path:
    """A npm package: its files, and a link to /etc/passwd."""
    with tarfile.open(path, "w:gz") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
        if link:
            info = tarfile.TarInfo(link)
            info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
            tar.addfile(info)
    return path


def wheel(path: Path, files: dict[str, bytes], *, link: str = "") -> Path:
    """A wheel: its files, and a link to /etc/passwd."""
    with zipfile.ZipFile(path, "w") as zipped:
        for name, content in files.items():
            zipped.writestr(name, content)
        if link:
            info = zipfile.ZipInfo(link)
            info.external_attr = (stat.S_IFLNK | 0o777) << 16
            zipped.writestr(info, "/etc/passwd")
    return path


def npm(*table: object) -> object:
    """A source for the archive `tiny-1.0.tgz`."""
    return rules.Source("npm", "tiny", "1.0", table)


def names(path: Path) -> list[str]:
    with archives.entries(path) as listed:
        return [name for name, _ in listed]


def run(monkeypatch: pytest.MonkeyPatch, folder: Path, packages: Path, table: tuple[object, ...], *more: str) -> int:
    monkeypatch.setattr(corpus, "SOURCES", table)
    return corpus.main([str(folder), "--packages", str(packages), *more])


@pytest.fixture
def packages(tmp_path: Path) -> Path:
    (tmp_path / "packages").mkdir()
    return tmp_path / "packages"


def test_a_corpus_says_where_each_image_comes_from(
    tmp_path: Path, packages: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = json.dumps({"license": "MIT"}).encode()
    files = {"package/faces/a b.png": drawn(1), "package/art/c.jpg": drawn(2, form="JPEG"), "package/notes.txt": b""}
    archive = tgz(packages / "tiny-1.0.tgz", {"package/package.json": manifest, **files})
    table = (npm(rules.portraits("faces/*"), rules.photographs("package/*")),)
    folder = tmp_path / "corpus"
    assert run(monkeypatch, folder, packages, table) == 1  # two images are too few
    shown = capsys.readouterr()
    assert "| tiny | 1.0 | MIT | 2 | 0 | 0 | 0 | 1 |" in shown.out
    assert "expected at least 1500 images, got 2" in shown.err
    assert (folder / "photograph+people/tiny/a_b.png").read_bytes() == drawn(1)
    assert sorted(path.name for path in folder.iterdir()) == ["corpus.json", "photograph", "photograph+people"]
    first = (folder / "corpus.json").read_text()
    noted = json.loads(first)
    assert noted["packages"][0]["archive_sha256"] == hashlib.sha256(archive.read_bytes()).hexdigest()
    assert noted["files"][0] == {
        "path": "photograph+people/tiny/a_b.png", "package": "tiny", "path_in_package": "package/faces/a b.png",
        "sha256": hashlib.sha256(drawn(1)).hexdigest(), "width": 64, "height": 48,
    }  # fmt: skip
    assert run(monkeypatch, folder, packages, table, "--json") == 1  # over the earlier corpus
    assert (folder / "corpus.json").read_text() == first
    assert "files" not in json.loads(capsys.readouterr().out)
    assert not list(tmp_path.glob(".corpus-*"))


def test_a_folder_with_something_else_is_left_alone(tmp_path: Path, packages: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "letter.txt").touch()
    with pytest.raises(SystemExit, match=r"letter\.txt; name another folder"):
        corpus.main([str(tmp_path / "home"), "--packages", str(packages)])
    assert (tmp_path / "home" / "letter.txt").exists()


def test_the_first_rule_that_matches_decides() -> None:
    source = npm(rules.leave_out("thumbs/* *_small.png"), rules.icons("icons/*"), rules.drawings("package/*"))
    paths = ["package/thumbs/a.png", "package/b_small.png", "package/Icons/c.png", "package/d.png", "package/e.svg"]
    chosen = images.choose(source, [*paths, "elsewhere/f.png"])
    assert [(each.path, each.tags) for each in chosen] == [
        ("package/Icons/c.png", ("icon",)),
        ("package/d.png", ("drawing",)),
    ]


@pytest.mark.parametrize("name", ["Gun.png", "two_swords.png", "kiss-1.png", "nudes/x.png", "lena.png"])
def test_doubtful_words_leave_an_image_out(name: str) -> None:
    assert images.choose(npm(rules.drawings("package/*")), [f"package/{name}"]) == []


@pytest.mark.parametrize("name", ["gunnar.png", "wordsworth.png", "sextant.png", "bathyscape.png"])
def test_words_inside_other_words_do_not_matter(name: str) -> None:
    assert images.choose(npm(rules.drawings("package/*")), [f"package/{name}"])


def test_a_sample_is_the_same_each_time_and_even_over_folders() -> None:
    paths = [f"package/{folder}/{number}.png" for folder in ("a", "b", "c") for number in range(40)]
    source = npm(rules.drawings("package/*", at_most=9))
    chosen = [each.path for each in images.choose(source, paths)]
    assert chosen == [each.path for each in images.choose(source, paths[::-1])]
    assert [sum(f"/{folder}/" in path for path in chosen) for folder in ("a", "b", "c")] == [3, 3, 3]
    assert chosen != sorted(paths)[:9]


def test_of_sizes_in_names_the_one_nearest_full_hd_is_read() -> None:
    paths = [f"package/x/{size}.png" for size in ("1024x768", "1920x1200", "5120x2880", "1080x1920")]
    assert images.nearest_sizes([*paths, "package/y/1024x768.png"]) == [paths[1], "package/y/1024x768.png"]


def test_duplicates_by_bytes_and_by_pixels_count_once(
    tmp_path: Path, packages: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {
        "package/a.png": drawn(1), "package/b.png": drawn(1), "package/large.png": drawn(1, (640, 480)),
        "package/large.webp": drawn(1, (320, 240), "WEBP"), "package/other.png": drawn(2),
        "package/upright.png": drawn(1, (48, 64)),
    }  # fmt: skip
    tgz(packages / "tiny-1.0.tgz", files)
    run(monkeypatch, tmp_path / "corpus", packages, (npm(rules.drawings("package/*")),))
    kept = sorted(path.name for path in (tmp_path / "corpus/drawing/tiny").iterdir())
    assert kept == ["large.png", "other.png", "upright.png"]
    (noted,) = json.loads((tmp_path / "corpus/corpus.json").read_text())["packages"]
    assert noted["left_out"] == {"duplicate": 3}


def test_small_large_and_broken_images_are_counted(
    tmp_path: Path, packages: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images, "MOST_PIXELS", 640 * 480 - 1)
    files = {"a.png": drawn(1, (31, 200)), "b.png": drawn(2, (640, 480)), "c.png": drawn(3)[:90], "d.png": b"not one"}
    tgz(packages / "tiny-1.0.tgz", {f"package/{name}": content for name, content in files.items()})
    run(monkeypatch, tmp_path / "corpus", packages, (npm(rules.drawings("package/*")),))
    (noted,) = json.loads((tmp_path / "corpus/corpus.json").read_text())["packages"]
    assert noted["left_out"] == {"duplicate": 0, "large": 1, "small": 1, "unreadable": 2}


def test_equal_names_get_different_files(tmp_path: Path, packages: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {"package/x/A.png": drawn(1), "package/y/a.png": drawn(2), "package/-.png": drawn(3)}
    tgz(packages / "tiny-1.0.tgz", files)
    run(monkeypatch, tmp_path / "corpus", packages, (npm(rules.drawings("package/*")),))
    kept = sorted(path.name.lower() for path in (tmp_path / "corpus/drawing/tiny").iterdir())
    assert kept[0] == "a-" + hashlib.sha256(b"package/y/a.png").hexdigest()[:12] + ".png"
    assert kept[1:] == ["a.png", "png"]


@pytest.mark.parametrize("pack", [tgz, wheel])
def test_links_and_paths_outside_are_refused(tmp_path: Path, pack: object) -> None:
    path = tmp_path / ("tiny-1.0.tgz" if pack is tgz else "tiny-1.0-py3-none-any.whl")
    files = {"./in/a.png": b"a", "../up.png": b"b", "in/../../up.png": b"c", "/root.png": b"d"}
    assert names(pack(path, files, link="in/link.png")) == ["in/a.png"]


def test_a_broken_archive_is_named(tmp_path: Path) -> None:
    path = tgz(tmp_path / "tiny-1.0.tgz", {"a.png": drawn(1, (640, 480))})
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(archives.PackageError, match=r"tiny-1\.0\.tgz: expected a whole archive"):
        names(path)


@pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="dpkg-deb makes and reads Debian packages")
def test_a_debian_package_is_read_without_installing_it(
    tmp_path: Path, packages: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = tmp_path / "tree"
    contents = {
        "DEBIAN/control": b"Package: tiny\nVersion: 1:2.0-1\nArchitecture: all\nMaintainer: A\nDescription: x\n",
        "usr/share/doc/tiny/copyright": b"Files: *\nLicense: CC0-1.0\n\nFiles: x\nLicense: GPL-2+\n text\n",
        "usr/share/tiny/a.png": drawn(1),
    }
    for name, content in contents.items():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_bytes(content)
    (tree / "usr/share/tiny/link.png").symlink_to("/etc/passwd")
    archive = packages / "tiny_1%3a2.0-1_all.deb"
    subprocess.run(["dpkg-deb", "--root-owner-group", "--build", tree, archive], check=True, capture_output=True)
    source = rules.Source("apt", "tiny", "1:2.0-1", (rules.paintings("share/tiny/*"),))
    run(monkeypatch, tmp_path / "corpus", packages, (source,))
    noted = json.loads((tmp_path / "corpus/corpus.json").read_text())
    assert [file["path"] for file in noted["files"]] == ["art/tiny/a.png"]
    (package,) = noted["packages"]
    assert (package["licences"], package["version"]) == (["CC0-1.0", "GPL-2+"], "1:2.0-1")


def test_qt_resource_files_are_looked_into(tmp_path: Path) -> None:
    labels = [("img", 0), ("a.png", 1), ("b.png", 2)]
    text = b"".join(struct.pack(">HI", len(name), 0) + name.encode("utf-16-be") for name, _ in labels)
    at = {"img": 0, "a.png": 12, "b.png": 28}
    contents = b"".join(struct.pack(">I", len(part)) + part for part in (b"first", b"second"))
    tree = struct.pack(">IHII", 0, 2, 1, 1) + struct.pack(">IHII", at["img"], 2, 2, 2)
    tree += struct.pack(">IHHHI", at["a.png"], 0, 0, 1, 0) + struct.pack(">IHHHI", at["b.png"], 0, 0, 1, 9)
    data = struct.pack(">4s4I", b"qres", 1, 20, 20 + len(tree), 20 + len(tree) + len(contents))
    path = tgz(tmp_path / "tiny-1.0.tgz", {"package/x.rcc": data + tree + contents + text})
    with archives.entries(path) as listed:
        contained = {name: read() for name, read in listed}
    assert contained == {"package/x.rcc/img/a.png": b"first", "package/x.rcc/img/b.png": b"second"}


@pytest.mark.parametrize("manager", ["apt", "npm", "pip"])
def test_a_missing_client_is_reported_and_the_package_skipped(
    tmp_path: Path, packages: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], manager: str
) -> None:
    monkeypatch.setattr(archives.shutil, "which", lambda program: None)
    source = rules.Source(manager, "tiny", "1.0", (rules.drawings("*"),))
    assert run(monkeypatch, tmp_path / "corpus", packages, (source,)) == 1
    assert "tiny: expected " in capsys.readouterr().err
    assert len(json.loads((tmp_path / "corpus/corpus.json").read_text())["missing"]) == 1


def test_another_version_of_apt_is_taken_and_noted(
    tmp_path: Path, packages: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def download(source: object, folder: Path, *, any_version: bool) -> None:
        if not any_version:
            raise archives.PackageError("tiny: version 1.0 is gone")
        (folder / "tiny_1%3a1.1_all.deb").write_bytes(b"")

    monkeypatch.setattr(archives, "download", download)
    source = rules.Source("apt", "tiny", "1:1.0", ())
    assert archives.obtain(source, packages) == archives.Archive(packages / "tiny_1%3a1.1_all.deb", "1:1.1")
    with pytest.raises(archives.PackageError, match=r"version 1\.0 is gone"):
        archives.obtain(rules.Source("npm", "tiny", "1.0", ()), packages)


@pytest.mark.parametrize(
    ("manager", "path", "text", "licences"),
    [
        ("npm", "package/package.json", '{"license": {"type": "BSD"}}', ["BSD"]),
        ("npm", "package/package.json", "{}", ["not stated"]),
        ("npm", "package/node_modules/x/package.json", '{"license": "GPL"}', []),
        ("pip", "tiny-1.0.dist-info/METADATA", "License-Expression: MIT\nLicense: x\n\nbody", ["MIT"]),
        ("pip", "tiny-1.0.dist-info/METADATA", "Classifier: License :: OSI Approved :: MIT License", ["MIT License"]),
        ("apt", "usr/share/doc/tiny/copyright", "A plain text.", ["see its copyright file"]),
        ("apt", "usr/share/doc/other/copyright", "License: MIT", []),
    ],
)
def test_licences_come_from_the_package(manager: str, path: str, text: str, licences: list[str]) -> None:
    assert archives.licences(rules.Source(manager, "tiny", "1.0", ()), path, text) == licences


def test_the_table_is_sound() -> None:
    assert len({source.package for source in sources.SOURCES}) == len(sources.SOURCES)
    for source in sources.SOURCES:
        assert any(rule.tags for rule in source.rules)
        for rule in source.rules:
            assert not rule.tags or (rule.tags[0] in rules.KINDS and set(rule.tags[1:]) <= {"people"})
            assert all(pattern == pattern.lower() for pattern in rule.patterns)
