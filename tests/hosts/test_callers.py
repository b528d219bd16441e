"""Every caller of what draws, saves or sends stands in a row of the exits, or is named as new."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from nsfw_guard.cli.main import main
from nsfw_guard.errors import ConfigError, UnknownNameError
from nsfw_guard.hosts.__main__ import EXITS
from nsfw_guard.hosts.callers import RULES, Caller, State, new_callers, placed
from nsfw_guard.hosts.integrate import HOSTS
from nsfw_guard.policy.toml import read_toml

TABLE = read_toml(RULES)
WAYS = {host: {one.way for one in EXITS if one.host == host} for host in TABLE}
CHECKOUTS = {host: os.environ.get(f"NSFW_GUARD_{host.upper()}", "") for host in TABLE}


def write(folder: Path, name: str, text: str) -> Path:
    """A checkout with one file."""
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text)
    return folder


@pytest.mark.parametrize("host", sorted(TABLE))
def test_every_rule_names_a_row_that_exists_or_says_why_it_needs_none(host):
    assert set(TABLE) == set(HOSTS)
    known = {"calls", "files", "within", "routes", "way", "harmless"}
    for rule in TABLE[host]["rules"]:
        assert set(rule) <= known, rule
        assert ("way" in rule) != ("harmless" in rule), rule
        assert rule.get("way", "") in WAYS[host] | {""}, rule
        assert len(rule) > 1, "a rule that fits everything"
        assert set(rule.get("calls", ())) <= set(TABLE[host]["calls"]), rule


@pytest.mark.parametrize(("host", "file", "text", "new"), [
    ("sdnext", "modules/api/fresh.py", "def post(p):\n    return encode_pil_to_base64(p)\n",
     "modules/api/fresh.py: post calls encode_pil_to_base64"),
    ("sdnext", "scripts/fresh.py", "class S:\n    async def run(self, p):\n        p.image.save('a.png')\n",
     "scripts/fresh.py: S.run calls save"),
    ("sdnext", "modules/api/api.py", "app.add_api_route('/sdapi/v1/fresh', f)\n",
     "modules/api/api.py: route /sdapi/v1/fresh"),
    ("a1111", "modules/fresh.py", "cv2.imwrite('a.png', x)\n", "modules/fresh.py: the module calls imwrite"),
    ("a1111", "modules/fresh.py", "def f(:\n    image.save(x)\n",
     "modules/fresh.py: the file calls what cannot be read (SyntaxError)"),
    ("comfyui", "server.py", "@routes.get('/fresh')\nasync def f(request): ...\n", "server.py: route /fresh"),
    ("comfyui", "app/x.py", "@routes.get(f'/api/{{id:{UUID}}}/content')\nasync def f(request): ...\n",
     "app/x.py: route /api/{id:…}/content"),
    ("comfyui", "app/x.py", "@routes.get(PATH + '/content')\nasync def f(request): ...\n", "app/x.py: route …/content"),
    ("comfyui", "app/x.py", "app.router.add_get(path=PATH, handler=f)\n", "app/x.py: route …"),
    ("comfyui", "app/x.py", "app.add_routes([web.static('/' + name, folder)])\n", "app/x.py: route /…"),
    ("sdnext", "modules/x.py", "app.mount(path=f'/{name}', app=files)\n", "modules/x.py: route /…"),
    ("comfyui", "comfy_extras/x.py", "class N:\n    OUTPUT_NODE = False\n    def run(self, i):\n        i.save('x')\n",
     "comfy_extras/x.py: N.run calls save"),
])  # fmt: skip
def test_a_new_caller_is_named(tmp_path, host, file, text, new):
    assert new_callers(write(tmp_path, file, text), host) == [new]


@pytest.mark.parametrize(("host", "file", "text", "row"), [
    ("sdnext", "modules/x.py", "def f(p): return module.process_images(p)\n", "result list, gallery and API answer"),
    ("sdnext", "modules/x.py", "images.save_image(i)\n", "samples on disk"),
    ("comfyui", "comfy_extras/x.py", "class N:\n    OUTPUT_NODE = True\n    def run(self, i):\n        i.save('x')\n",
     "output nodes of the host"),
    ("comfyui", "comfy_extras/x.py",
     "class N(io.ComfyNode):\n    @classmethod\n    def define_schema(cls):\n"
     "        return io.Schema(node_id='n', is_output_node=True)\n    def execute(cls, i):\n        i.save('x')\n",
     "output nodes of the host"),
])  # fmt: skip
def test_a_known_caller_has_its_row(tmp_path, host, file, text, row):
    (one,) = placed(write(tmp_path, file, text), host)
    assert (one.state, one.text) == (State.IN_A_ROW, row)


@pytest.mark.parametrize("text", [
    "torch.save(x, y)\n", "shared.opts.save()\n", "x.get('a')\n", "d.get('/a?b')\n", "d.get(name)\n", "",
    "def add_api_route(self, path, f):\n    self.app.add_api_route(path, f)\n",
])  # fmt: skip
def test_what_sends_no_image_is_no_caller(tmp_path, text):
    assert placed(write(tmp_path, "modules/x.py", text), "sdnext") == []


def test_what_lies_outside_of_the_hosts_own_folders_is_not_read(tmp_path):
    assert placed(write(tmp_path, "extensions/x/scripts/x.py", "image.save(x)\n"), "sdnext") == []


def test_a_folder_that_is_none_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="is not a folder: give the checkout of sdnext"):
        placed(tmp_path / "absent", "sdnext")
    with pytest.raises(UnknownNameError):
        placed(tmp_path, "other")


def test_the_check_fails_on_a_new_caller(tmp_path, capsys):
    for name in HOSTS["comfyui"].known_by:
        write(tmp_path, name, "")
    write(tmp_path, "comfy_extras/x.py", "def f(i):\n    i.save('x')\n")
    main(["integrate", "comfyui", str(tmp_path)])
    assert main(["integrate", "comfyui", str(tmp_path), "--check"]) == 1
    payload = capsys.readouterr()
    assert "NEW   comfy_extras/x.py: f calls save: in no row" in payload.err
    assert "1 of what draws, saves or sends are in no row" in payload.out


def test_they_are_printed_with_their_rows(tmp_path, capsys):
    from nsfw_guard.hosts.__main__ import main as hosts

    write(tmp_path, "modules/x.py", "images.save_image(i)\nimage.save(x)\n")
    assert hosts(["callers", "sdnext", str(tmp_path)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert "| modules/x.py: the module calls save_image | closed | samples on disk |" in lines
    assert "| modules/x.py: the module calls save | **new** |  |" in lines
    assert hosts(["callers", "sdnext", str(tmp_path), "--json"]) == 1
    assert '"state": "new"' in capsys.readouterr().out


@pytest.mark.parametrize("host", [host for host, path in CHECKOUTS.items() if Path(path or "http:").is_dir()])
def test_a_real_checkout_has_no_new_caller(host):
    assert new_callers(Path(CHECKOUTS[host]), host) == []


def test_a_caller_says_where_it_stands():
    assert str(Caller("a.py", "f", "save")) == "a.py: f calls save"
    assert str(Caller("a.py", "", "", "/x")) == "a.py: route /x"
