"""Adapters go where they belong, replace only what came from here, and travel inside the wheel."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from nsfw_guard.cli.main import main
from nsfw_guard.errors import ConfigError, UnknownNameError
from nsfw_guard.hosts import integrate
from nsfw_guard.hosts.integrate import HOSTS, INSTALL_MARKER, adapters

ROOT = Path(__file__).parent.parent.parent
DOC = ROOT / "docs" / "hosts.md"


@pytest.fixture(params=sorted(HOSTS))
def host(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def checkout(host: str, tmp_path: Path) -> Path:
    """A folder that looks like the host."""
    for name in HOSTS[host].known_by:
        (tmp_path / "host" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "host" / name).write_text("")
    return tmp_path / "host"


def test_it_is_copied_found_replaced_and_removed(host, checkout):
    target = integrate.install(host, checkout)
    assert target == checkout / HOSTS[host].into / HOSTS[host].name
    source = adapters() / HOSTS[host].adapter
    there = {p.relative_to(target) for p in target.rglob("*") if p.is_file()} - {Path(INSTALL_MARKER)}
    assert there == {p.relative_to(source) for p in source.rglob("*") if p.is_file() and "__pycache__" not in p.parts}
    assert integrate.examine(host, checkout)["adapter"] == "installed"
    (target / INSTALL_MARKER).write_text("0.0.1\n")
    assert integrate.examine(host, checkout)["adapter"] == "installed, of version 0.0.1: integrate again"
    integrate.install(host, checkout)
    assert integrate.examine(host, checkout)["adapter"] == "installed"
    integrate.remove(host, checkout)
    assert not target.exists()
    assert integrate.examine(host, checkout)["adapter"] == "not installed"


def test_the_adapter_of_a1111_does_not_go_into_sdnext(tmp_path):
    for name in (*HOSTS["a1111"].known_by, *HOSTS["sdnext"].known_by):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    with pytest.raises(ConfigError, match="is a folder of sdnext: run nsfw-guard integrate sdnext"):
        integrate.install("a1111", tmp_path)
    assert integrate.install("sdnext", tmp_path).is_dir()


def started(host: str, checkout: Path, folder: Path) -> Path:
    """A start file that moves the folder of extensions below another one; gives the folder that is read."""
    option = {"comfyui": "--base-directory"}.get(host, "--data-dir")
    (checkout / "run.sh").write_text(f"exec ./start {option} {folder}\n")
    return folder / HOSTS[host].into


def test_it_goes_where_the_host_looks(host, checkout, tmp_path):
    folder = started(host, checkout, tmp_path / "data")
    target = integrate.install(host, checkout)
    assert target == folder / HOSTS[host].name
    assert target.is_dir()
    assert integrate.examine(host, checkout)["adapter"] == "installed"
    assert not (checkout / HOSTS[host].into / HOSTS[host].name).exists()
    assert integrate.remove(host, checkout) == target


def test_an_adapter_where_the_host_does_not_look_is_not_installed(host, checkout, tmp_path):
    integrate.install(host, checkout)
    started(host, checkout, tmp_path / "data")
    matches = integrate.examine(host, checkout)
    assert (matches["adapter"], matches["folder"]) == ("not installed", str(tmp_path / "data" / HOSTS[host].into))


def test_a_data_folder_and_a_folder_of_extensions_are_taken_themselves(host, checkout, tmp_path):
    folder = tmp_path / "data" / HOSTS[host].into
    folder.mkdir(parents=True)
    for path in (tmp_path / "data", folder):
        target = integrate.install(host, path)
        assert target == folder / HOSTS[host].name
        matches = integrate.examine(host, path)
        assert (matches["adapter"], matches["missing"]) == ("installed", None)
        integrate.remove(host, path)
    inside = checkout / HOSTS[host].into
    inside.mkdir()
    assert integrate.install(host, inside) == inside / HOSTS[host].name
    started(host, checkout, tmp_path / "data")
    with pytest.raises(ConfigError, match="reads its extensions from"):
        integrate.install(host, inside)


def test_a_folder_named_by_its_user_is_taken(host, checkout, tmp_path):
    started(host, checkout, tmp_path / "data")
    (tmp_path / "named").mkdir()
    target = integrate.install(host, checkout, into=tmp_path / "named")
    assert target == tmp_path / "named" / HOSTS[host].name
    matches = integrate.examine(host, checkout, into=tmp_path / "named")
    assert matches["adapter"] == "installed"
    assert matches["missing"] is not None  # the code of the host is known
    with pytest.raises(ConfigError, match="is not a folder: give the folder of extensions"):
        integrate.install(host, checkout, into=tmp_path / "absent")


def test_an_extension_that_its_host_will_not_load_does_not_fit(host, checkout, capsys):
    integrate.install(host, checkout)
    option = {"sdnext": "--safe", "a1111": "--disable-all-extensions", "comfyui": "--disable-all-custom-nodes"}[host]
    (checkout / "run.sh").write_text(f"./start {option}\n")
    assert main(["integrate", host, str(checkout), "--check"]) == 1
    assert f"switched off by {option} in run.sh" in capsys.readouterr().out


def test_the_running_host_is_asked(host, checkout, capsys, monkeypatch):
    from nsfw_guard.hosts import running

    answers = [("not there", ("the host runs without the guard",)), ("on: marqo, blur, as chosen", ())]
    monkeypatch.setattr(running, "ask", lambda host, url: running.Running(url, *answers.pop(0)))
    folder = checkout.parent / "data" / HOSTS[host].into
    folder.mkdir(parents=True)
    integrate.install(host, folder)
    check = ["integrate", host, str(folder), "--check", "--url", "http://127.0.0.1:1"]
    assert main(check) == 1
    payload = capsys.readouterr()
    assert "FAULT  the host runs without the guard" in payload.err
    assert "ask the running host by --url" in payload.out
    assert main([*check, "--json"]) == 0
    assert '"running": "on: marqo, blur, as chosen"' in capsys.readouterr().out
    assert main(["integrate", host, str(folder), "--url", "http://127.0.0.1:1"]) == 3


def test_it_is_linked_and_the_source_outlives_the_link(host, checkout):
    target = integrate.install(host, checkout, link=True)
    assert target.is_symlink()
    assert integrate.examine(host, checkout)["adapter"] == "linked"
    integrate.remove(host, checkout)
    assert not target.exists()
    assert (adapters() / HOSTS[host].adapter).is_dir()


def test_what_is_not_ours_is_never_touched(host, checkout):
    target = checkout / HOSTS[host].into / HOSTS[host].name
    target.mkdir(parents=True)
    (target / "mine.txt").write_text("kept")
    for act in (integrate.install, integrate.remove):
        with pytest.raises(ConfigError, match=r"move it away first|remove it by hand"):
            act(host, checkout)
    assert (target / "mine.txt").read_text() == "kept"
    assert integrate.examine(host, checkout)["adapter"] == "something else is there"


def test_a_folder_that_is_no_host_is_refused(host, tmp_path):
    with pytest.raises(ConfigError, match=f"is not a folder of {host}: it has neither"):
        integrate.install(host, tmp_path)
    with pytest.raises(UnknownNameError, match="did you mean 'sdnext'"):
        integrate.install("sdnxt", tmp_path)


def test_nothing_to_remove_is_said(host, checkout):
    with pytest.raises(ConfigError, match="nothing to remove"):
        integrate.remove(host, checkout)


def test_the_command_does_the_same(host, checkout, capsys):
    assert main(["integrate", host, str(checkout)]) == 0
    assert "copied: " in capsys.readouterr().out
    code = main(["integrate", host, str(checkout), "--check"])
    payload = capsys.readouterr()
    assert code == 1  # an empty file has none of the host's names
    assert f"lacks {payload.err.count('GONE')} of the names" in payload.out
    assert payload.err.count("GONE") > 3
    assert "installed" in payload.out
    assert main(["integrate", host, str(checkout), "--remove"]) == 0
    assert main(["integrate", host, str(checkout), "--remove"]) == 3


def test_the_table_of_ways_out_names_every_host(capsys):
    from nsfw_guard.hosts.__main__ import EXITS
    from nsfw_guard.hosts.__main__ import main as coverage

    assert coverage(["coverage"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(EXITS) + 2
    assert len({one.host for one in EXITS}) >= 3
    assert all(one.how for one in EXITS)
    assert any("**not closed**" in line for line in lines)
    assert coverage(["coverage", "--json"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == len(EXITS)


def test_a_reader_that_goes_away_is_no_traceback():
    code = "import sys; from nsfw_guard.hosts.__main__ import main; sys.exit(main(['coverage']))"
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(
            [sys.executable, "-c", code], stdout=writer, stderr=subprocess.PIPE, text=True, check=False
        )
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (3, "")


def written(text: str) -> str:
    """docs/hosts.md with its table written anew."""
    from nsfw_guard.hosts.__main__ import EXITS, lines

    table = "\n".join(lines(EXITS, as_json=False))
    part = f"<!-- exits -->\n{table}\n<!-- end of exits -->"
    return re.sub(r"<!-- exits -->.*<!-- end of exits -->", lambda _: part, text, flags=re.DOTALL)


def test_the_document_has_the_same_table():
    text = DOC.read_text()
    assert text == written(text), "docs/hosts.md drifted: run `python -m tests.hosts.test_integrate`"


@pytest.mark.parametrize("host", sorted(HOSTS))
def test_entry_files_are_thin(host):
    for file in (adapters() / HOSTS[host].adapter).rglob("*.py"):
        assert len(file.read_text().splitlines()) <= 150, file.name


def test_the_wheel_brings_the_adapters(tmp_path):
    pytest.importorskip("hatchling")
    build = "from hatchling.build import build_wheel; import sys; print(build_wheel(sys.argv[1]))"
    result = subprocess.run(
        [sys.executable, "-c", build, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    wheel = tmp_path / result.stdout.strip().splitlines()[-1]
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "unpacked")
        names = archive.namelist()
    for host in HOSTS.values():
        assert any(name.startswith(f"nsfw_guard/hosts/integrations/{host.adapter}/") for name in names)
    assert not any(name.startswith("integrations/") for name in names)
    code = "from nsfw_guard.hosts.integrate import adapters; print(adapters())"
    payload = subprocess.run(
        [sys.executable, "-P", "-c", f"import sys; sys.path.insert(0, {str(tmp_path / 'unpacked')!r}); {code}"],
        cwd=tmp_path, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert payload.stdout.strip() == str(tmp_path / "unpacked" / "nsfw_guard" / "hosts" / "integrations")


if __name__ == "__main__":
    DOC.write_text(written(DOC.read_text()))
