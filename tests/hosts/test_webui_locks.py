"""What the owner locked stays locked, whoever asks; the page and the routes say what is in effect."""

from __future__ import annotations

import base64
import io
import runpy
import sys
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from nsfw_guard.errors import WeightsMissingError
from nsfw_guard.hosts.build import build_guard
from nsfw_guard.hosts.settings import Settings
from nsfw_guard.hosts.webui import api, settings
from tests.hosts.fake_webui import ADAPTER, INTEGRATIONS, Dropdown, Job, OptionInfoRestricted, Params
from tests.hosts.webui_worlds import RULES, World, holds, leaks, red, safe

FAMILIES = ["sdnext", "a1111"]
LOOSE = {"nsfw_guard_enabled": False, "nsfw_guard_action": "flag", "nsfw_guard_previews": "check",
         "nsfw_guard_thresholds": "red=1.0", "nsfw_guard_policy": "lenient", "nsfw_guard_prompts": False}  # fmt: skip


@pytest.fixture
def owned(monkeypatch):
    """The owner of the machine fixed the action."""
    monkeypatch.setenv("NSFW_GUARD_ACTION", "block")
    monkeypatch.setenv("NSFW_GUARD_PREVIEWS", "check")


@pytest.mark.parametrize("family", FAMILIES)
def test_saved_options_cannot_loosen_what_is_locked(family, owned, monkeypatch):
    world = World(family, monkeypatch, **LOOSE)
    world.host.process_images(Job(red(), previews=True))
    assert not leaks(world.host)
    assert world.adapter.guard.settings.action == "block"


@pytest.mark.parametrize("family", FAMILIES)
def test_options_set_by_page_or_api_cannot_loosen_what_is_locked(family, owned, monkeypatch):
    world = World(family, monkeypatch)
    for key, value in LOOSE.items():
        world.host.opts.set(key, value, is_api=True)
        world.host.opts.set(key, value)
    world.host.process_images(Job(red(), prompt="a dragon", previews=True))
    world.host.process_images(Job(red(), previews=True))
    assert not leaks(world.host)
    world.host.opts.set("nsfw_guard_previews", "hide")
    assert world.adapter.guard.settings.previews == "hide"  # stricter is heard


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_locked_is_not_loosened_in_store_either(family, owned, monkeypatch):
    """Stored, it would come into effect in silence when the lock goes."""
    world = World(family, monkeypatch)
    before = dict(world.host.opts.data)
    for key, value in LOOSE.items():
        if key not in {
            "nsfw_guard_previews",
            "nsfw_guard_thresholds",
        }:  # as it is; held against the policy's when it is used
            assert not world.host.opts.set(key, value)
    assert world.host.opts.data == before
    assert world.host.opts.set("nsfw_guard_thresholds", "red=0.2")
    assert world.host.opts.nsfw_guard_thresholds == "red=0.2"


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    ("key", "wrong", "right"),
    [
        ("disabled_extensions", ["a", "{}"], ["a", "another"]),
        ("disabled_extensions", "{}", []),
        ("disable_all_extensions", "all", "none"),
        ("disable_all_extensions", "user", "none"),
    ],
)
def test_no_option_takes_a_locked_guard_out(family, key, wrong, right, owned, monkeypatch, caplog):
    world = World(family, monkeypatch)
    options = world.host.opts
    options.data |= {"disabled_extensions": [], "disable_all_extensions": "none"}
    options.data_labels |= {name: OptionInfoRestricted("") for name in options.data if name not in options.data_labels}
    folder = ADAPTER.name.upper()
    wrong = [part.format(folder) for part in wrong] if isinstance(wrong, list) else wrong.format(folder)
    before = dict(options.data)
    assert not options.set(key, wrong)
    with pytest.raises(RuntimeError, match="locked by the owner"):
        setattr(options, key, wrong)  # as the Extensions tab does
    assert options.data == before
    assert f"{key} stays as it is" in caplog.text
    assert options.set(key, right)
    monkeypatch.setattr(world.adapter.guard, "locked_settings", None)
    assert options.set(key, wrong)
    world.host.load()  # a reload of the page wraps nothing twice
    assert options.set(key, right)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_job_loosens_nothing_whether_locked_or_not(family, monkeypatch):
    world = World(family, monkeypatch)
    payload = {"override_settings": LOOSE, "script_args": (False, False), "previews": True}
    world.host.process_images(Job(red(), **payload))
    assert not leaks(world.host)
    world.host.process_images(Job(red(), script_args=(None, "", [], {}), override_settings=LOOSE))
    assert not leaks(world.host)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_job_tightens(family, monkeypatch):
    world = World(family, monkeypatch, nsfw_guard_action="flag")
    world.host.process_images(Job(red()))
    assert holds(world.host, "disk", red())
    world.host.sinks.clear()
    world.host.process_images(Job(red(), script_args=(True,)))
    assert not leaks(world.host)
    world.host.sinks.clear()
    world.host.process_images(Job(red()))  # and only this one
    assert holds(world.host, "disk", red())


def test_a_job_may_cover_what_is_under_review(monkeypatch):
    monkeypatch.setitem(RULES, "rules", {"*": {"block": "default", "review": "default"}})
    world = World("a1111", monkeypatch)
    half = safe()
    half[:9] = red()[:9]  # 37% of it: between the threshold for review and the one for block
    world.host.process_images(Job(half.copy()))
    assert holds(world.host, "disk", half)
    world.host.sinks.clear()
    world.host.process_images(Job(half.copy(), script_args=(False, True)))
    assert not holds(world.host, "disk", half)
    assert not holds(world.host, "api", half)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_page_has_every_setting_and_keeps_it_from_the_api_where_the_host_can(family, monkeypatch):
    world = World(family, monkeypatch)
    labels = world.host.opts.data_labels
    assert {name.removeprefix("nsfw_guard_") for name in labels} == set(vars(Settings()))
    assert all(info.section == settings.SECTION for info in labels.values())
    kept = {getattr(info, "restrict_api", False) for info in labels.values()}
    assert kept == ({True} if isinstance(labels["nsfw_guard_action"], OptionInfoRestricted) else {False})


@pytest.mark.parametrize("family", FAMILIES)
def test_the_page_changes_what_is_in_effect_and_refuses_what_cannot_be(family, monkeypatch):
    world = World(family, monkeypatch)
    assert world.host.opts.set("nsfw_guard_action", "replace")
    assert world.adapter.guard.settings.action == "replace"
    assert not world.host.opts.set("nsfw_guard_strength", 7.0)
    assert not world.host.opts.set("nsfw_guard_thresholds", "red=often")
    assert world.host.opts.nsfw_guard_strength == 0.5
    assert world.host.opts.set("nsfw_guard_thresholds", "red=0.3")
    assert world.host.opts.set("nsfw_guard_timeout", 5)
    assert world.adapter.guard.settings.thresholds == {"red": 0.3}
    assert world.host.opts.set("nsfw_guard_enabled", False)
    world.host.process_images(Job(red()))
    assert holds(world.host, "disk", red())


@pytest.mark.parametrize("family", FAMILIES)
def test_models_policies_and_actions_are_lists_and_any_text_can_be_written(family, monkeypatch):
    world = World(family, monkeypatch)
    fields = {name: world.host.opts.data_labels[f"nsfw_guard_{name}"] for name in ("model", "policy", "action")}
    result = {name: info.component(**info.component_args) for name, info in fields.items()}
    assert {"marqo", "demo-shapes"} <= set(result["model"].choices)
    assert result["policy"].choices == ["lenient", "default", "strict"]
    assert result["action"].choices == ["flag", "blur", "pixelate", "replace", "block"]
    assert {name: one.allow_custom_value for name, one in result.items()} == {
        "model": True, "policy": True, "action": False,
    }  # fmt: skip


@pytest.mark.parametrize("family", FAMILIES)
def test_a_page_that_is_opened_shows_every_setting(family, monkeypatch):
    world = World(family, monkeypatch)
    for name, info in world.host.opts.data_labels.items():
        field = info.component(**info.component_args)
        if isinstance(field, Dropdown):  # as get_value_for_setting does in each of the hosts
            assert field.update(value=info.default, **info.component_args)["value"] == info.default
        else:
            assert set(info.component_args) <= {"minimum", "maximum", "step"}, name


def test_an_older_gradio_gets_fields(monkeypatch):
    World("a1111", monkeypatch, load=False)
    monkeypatch.setattr(
        sys.modules["gradio"], "Dropdown", type("Dropdown", (), {"__init__": lambda self, choices: None})
    )
    assert settings._component("model") == (sys.modules["gradio"].Textbox, {})
    assert settings._component("action")[0] is sys.modules["gradio"].Dropdown


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("name", "wrong"), [
    ("model", "no-such-model"), ("model", "./no/folder"), ("policy", "nowhere.toml"), ("policy", "strictest"),
    ("thresholds", "gore=0.3"), ("device", "warp:9"),
])  # fmt: skip
def test_a_setting_that_cannot_work_is_refused_and_the_last_one_stays(family, name, wrong, monkeypatch):
    world = World(family, monkeypatch, nsfw_guard_model="demo-shapes")
    monkeypatch.setattr(world.adapter.guard, "_build", build_guard)
    before = getattr(world.host.opts, f"nsfw_guard_{name}")
    assert not world.host.opts.set(f"nsfw_guard_{name}", wrong)
    assert getattr(world.host.opts, f"nsfw_guard_{name}") == before
    assert getattr(world.adapter.guard.settings, name) == getattr(Settings(model="demo-shapes"), name)
    assert world.adapter.guard.startup_error == ""
    assert world.host.opts.set("nsfw_guard_action", "replace")  # what was refused is not in the way of others


def test_what_fails_already_keeps_no_other_setting_from_being_changed(monkeypatch):
    world = World("sdnext", monkeypatch, WeightsMissingError("fetch them"))
    assert "fetch them" in world.adapter.guard.startup_error
    assert world.host.opts.set("nsfw_guard_action", "pixelate")
    assert world.adapter.guard.settings.action == "pixelate"
    world.host.process_images(Job(red()))
    assert not leaks(world.host)


def test_one_saved_option_that_is_wrong_does_not_take_the_others_with_it(monkeypatch, caplog):
    world = World("sdnext", monkeypatch, nsfw_guard_strength="strong", nsfw_guard_action="pixelate")
    assert world.adapter.guard.settings == Settings(action="pixelate", previews="check")
    assert "strength" in caplog.text


def ask(world: World, payload: object) -> dict:
    return world.host.app.call(api.CHECK, payload)


def encoded(image: np.ndarray) -> str:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


@pytest.mark.parametrize("family", FAMILIES)
def test_the_routes_answer(family, monkeypatch):
    world = World(family, monkeypatch)
    assert ask(world, {"image": encoded(red())})["outcome"] == "block"
    assert ask(world, {"image": "data:image/png;base64," + encoded(safe())})["outcome"] == "allow"
    for wrong in ({}, [], {"image": 3}, {"image": ""}, {"image": "%%%"}, {"image": base64.b64encode(b"no").decode()}):
        assert ask(world, wrong)["outcome"] == "error"
    monkeypatch.setattr(api, "MAX_BASE64_CHARS", 10)
    assert "smaller" in ask(world, {"image": encoded(safe())})["reason"]
    payload = world.host.app.call(api.STATUS)
    assert payload["enabled"]
    assert payload["open"] == []
    assert {row["state"] for row in payload["coverage"]} == {"closed", "cannot be closed"}


def test_sdnext_adds_the_routes_behind_its_own_password(monkeypatch):
    world = World("sdnext", monkeypatch, load=False)
    added: list[str] = []
    world.host.modules["modules.shared"].api = Params(add_api_route=lambda path, payload, methods: added.append(path))
    world.host.load()
    assert added == [api.CHECK, api.STATUS]
    assert world.host.app.routes == []


def test_without_a_way_to_ask_for_the_password_there_are_no_routes(monkeypatch, caplog):
    world = World("a1111", monkeypatch, load=False)
    world.host.modules["modules.shared"].cmd_opts.api_auth = "user:word"
    monkeypatch.setitem(sys.modules, "fastapi", None)
    world.host.load()
    assert world.host.app.routes == []
    assert "no routes" in caplog.text


def test_the_password_of_a1111_is_asked_for(monkeypatch):
    world = World("a1111", monkeypatch, load=False)
    world.host.modules["modules.shared"].cmd_opts.api_auth = "user:word,other:more"

    class HTTPException(Exception):  # noqa: N818
        """As fastapi's."""

        def __init__(self, status, detail, headers):
            super().__init__(detail)
            self.status = status

    fastapi, security = ModuleType("fastapi"), ModuleType("fastapi.security")
    fastapi.HTTPException, fastapi.Depends = HTTPException, lambda payload: payload
    security.HTTPBasic, security.HTTPBasicCredentials = lambda: None, object
    monkeypatch.setitem(sys.modules, "fastapi", fastapi)
    monkeypatch.setitem(sys.modules, "fastapi.security", security)
    world.host.load()
    for route in world.host.app.routes:
        (asked,) = route.dependencies
        assert asked(Params(username="other", password="more"))
        for name, word in (("user", "more"), ("nobody", "word"), ("user", "")):
            with pytest.raises(HTTPException):
                asked(Params(username=name, password=word))


def test_what_lies_in_the_hosts_stays_thin():
    for path in INTEGRATIONS.rglob("*.py"):
        assert len(path.read_text().splitlines()) <= 150


@pytest.mark.parametrize("has", [set(), {"timm", "nsfw_guard"}])
def test_install_adds_what_is_missing_and_exchanges_nothing(has, monkeypatch):
    ran: list[str] = []
    launch = ModuleType("launch")
    launch.is_installed, launch.run_pip = has.__contains__, lambda text, name: ran.append(text)
    monkeypatch.setitem(sys.modules, "launch", launch)
    runpy.run_path(str(ADAPTER / "install.py"))
    assert ("install --no-deps nsfw-guard" in ran) is ("nsfw_guard" not in has)
    assert all(text.startswith("install --no-deps ") for text in ran)
    assert not [text for text in ran if "torch" in text or "onnxruntime" in text or "opencv" in text or "-U" in text]
