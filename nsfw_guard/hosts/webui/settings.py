"""The settings page of a web UI: one option for each thing a user may choose, read when it is changed and never else.

A job may bring settings of its own (`override_settings`); hosts write those into their options without telling anybody,
so the options are read at the start and when they tell of a change, not when an image comes.
"""

from __future__ import annotations

import functools
import inspect
import logging
from collections.abc import Callable, Mapping
from typing import Any

from nsfw_guard.backends.registry import list_models
from nsfw_guard.errors import NsfwGuardError
from nsfw_guard.hosts.session import HostGuard
from nsfw_guard.hosts.settings import ACTIONS, PRESETS, PREVIEWS, Settings
from nsfw_guard.hosts.webui.host import Host

log = logging.getLogger(__name__)

PREFIX = "nsfw_guard_"
SLIDERS = {"strength": (0.1, 1.0, 0.05), "timeout": (1.0, 300.0, 1.0)}
FREE = "allow_custom_value"  # gradio's name for a list whose field takes any text
SECTION = ("nsfw_guard", "NSFW guard")
LABELS: Mapping[str, str] = {
    "enabled": "Check every image",
    "model": "Model: a name, a folder, or hf:owner/name@commit",
    "weights": "Folder of the weights (empty: the model's own)",
    "device": "Device (empty: chosen)",
    "policy": "Policy: default, strict, lenient, or a TOML file",
    "action": "What becomes of blocked images",
    "strength": "Strength of blur and pixelate, a share of the short side",
    "thresholds": "Thresholds of your own, such as: sexual=0.5, gore=0.3",
    "label": "Write on covered images that they are covered, and why",
    "prompts": "Refuse prompts that the policy refuses",
    "previews": "Live previews",
    "metadata": "Write the verdict into the metadata",
    "originals": "Folder where covered images are kept as they were (empty: nowhere)",
    "timeout": "Seconds that the model may take",
}


class Page:
    """The options of the guard on the settings page of a host."""

    def __init__(self, host: Host, apply: Callable[..., Settings]) -> None:
        self.host, self._apply = host, apply
        self.chosen: dict[str, Any] = {}
        self.read = False

    def add(self) -> None:
        """Adds the options; the first time in a process they are read as well."""
        shared, options = self.host.module("modules.shared"), self.host.options
        if not hasattr(options, "add_option"):
            raise NsfwGuardError("this host has no settings page: set NSFW_GUARD_... in its environment")
        for name in LABELS:
            options.add_option(PREFIX + name, self._option(shared.OptionInfo, name))
        if not self.read:
            self.read = True
            self.chosen = {name: getattr(options, PREFIX + name) for name in LABELS}
            self._tell()

    def changed(self, name: str) -> None:
        """Take over one option that was changed on purpose. What cannot be used is refused, and the option says why."""
        before = dict(self.chosen)
        self.chosen[name] = getattr(self.host.options, PREFIX + name)
        try:
            wanted = settings_of(self.chosen)
            if _loosens(name, wanted, self._apply(wanted, try_out=True)):
                raise NsfwGuardError(f"{name} is locked by the owner of this machine: it can be made stricter only")
        except Exception:
            self.chosen = before
            raise

    def _tell(self) -> None:
        """What was saved, one by one: one that is wrong does not take the others with it."""
        good: dict[str, Any] = {}
        for name, value in self.chosen.items():
            try:
                settings_of({**good, name: value})
            except NsfwGuardError as error:
                log.error("the saved setting %s is not used: %s", name, error)
                continue
            good[name] = value
        self.chosen = good
        self._apply(settings_of(good))

    def _option(self, kind: Any, name: str) -> Any:
        default = getattr(Settings(), name)
        component, args = _component(name)
        known = inspect.signature(kind).parameters
        extra: dict[str, Any] = {"restrict_api": True} if "restrict_api" in known else {}
        return kind(
            _text(default) if isinstance(default, Mapping) else default,
            LABELS[name],
            component,
            args,
            onchange=functools.partial(self.changed, name),
            section=SECTION,
            **extra,
        )


def _loosens(name: str, wanted: Settings, effective: Settings) -> bool:
    """Whether a setting did not come into effect, since a lock stands above it."""
    asked, held = getattr(wanted, name), getattr(effective, name)
    if isinstance(asked, Mapping):
        return any(held.get(category) != threshold for category, threshold in asked.items())
    return bool(asked != held)


def settings_of(chosen: Mapping[str, Any]) -> Settings:
    """Settings from what a settings page holds.

    Raises:
        ConfigError: something on it cannot be used.
    """
    values = dict(chosen)
    if isinstance(values.get("thresholds"), str):
        values["thresholds"] = _thresholds(values["thresholds"])
    for name in ("strength", "timeout"):
        if isinstance(values.get(name), int) and not isinstance(values[name], bool):
            values[name] = float(values[name])
    return Settings.of(values)


def _thresholds(text: str) -> dict[str, float | str]:
    """ "sexual=0.5, gore=0.3" as a table; what is no number stays a text, which Settings refuses with its cure."""
    thresholds: dict[str, float | str] = {}
    for part in (piece for piece in text.split(",") if piece.strip()):
        category, _, threshold = part.partition("=")
        try:
            thresholds[category.strip()] = float(threshold)
        except ValueError:
            thresholds[category.strip()] = threshold.strip()
    return thresholds


def _text(thresholds: Mapping[str, float]) -> str:
    return ", ".join(f"{category}={threshold}" for category, threshold in thresholds.items())


def _component(name: str) -> tuple[Any, dict[str, Any]]:
    """The kind of field on the page, from gradio, which every host has, and its arguments, for `update` as well."""
    import importlib

    try:
        gradio: Any = importlib.import_module("gradio")
    except ImportError:
        return None, {}
    if name in {"action", "previews"}:
        return gradio.Dropdown, {"choices": list(ACTIONS if name == "action" else PREVIEWS)}
    if name in {"enabled", "label", "prompts", "metadata"}:
        return gradio.Checkbox, {}
    if name in SLIDERS:
        return gradio.Slider, dict(zip(("minimum", "maximum", "step"), SLIDERS[name], strict=True))
    if name in {"model", "policy"} and FREE in inspect.signature(gradio.Dropdown).parameters:
        # Any folder or file may be written there too; a gradio that knows lists only gets a field. The hosts hand the
        # arguments to `update` when a page is opened, and no gradio takes this one there: every setting would fail.
        free = functools.partial(gradio.Dropdown, **{FREE: True})
        return free, {"choices": list(PRESETS if name == "policy" else _models())}
    return gradio.Textbox, {}


def _models() -> tuple[str, ...]:
    """The models that there are names for; none where a plug-in cannot even be listed."""
    try:
        return list_models()
    except Exception:
        log.exception("the models could not be listed: any name can be written")
        return ()


def job_fields(counter: Callable[[], str]) -> list[Any]:
    """Return what a user may set for one job (both only tighten), under what was counted so far."""
    import importlib

    gradio: Any = importlib.import_module("gradio")
    with gradio.Accordion("NSFW guard", open=False):
        gradio.Markdown(counter)  # a function: it is asked whenever the page is loaded
        solid = gradio.Checkbox(value=False, label="Cover blocked images by one colour")
        review = gradio.Checkbox(value=False, label="Cover what is under review too")
    return [solid, review]


def counted(guard: HostGuard) -> str:
    """Return what the guard did since the start, in a line."""
    if guard.startup_error:
        return f"**every image is covered until this is mended: {guard.startup_error}**"
    if not guard.settings.enabled:
        return "**off**: nothing is checked"
    counts = guard.counts
    seen = sum(counts[name] for name in ("allow", "review", "block", "error"))
    held = f"{seen} checked, {counts['block'] + counts['error']} covered, {counts['prompts refused']} prompts refused"
    locked = ", locked by the owner" if guard.locked_settings is not None else ""
    return f"on, {guard.settings.model}, {guard.settings.action}{locked}: {held}"
