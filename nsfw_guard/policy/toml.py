"""Reads policies from TOML into plain tables: presets of the package, files of a user, and policies they extend."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nsfw_guard.errors import PolicyError, UnknownNameError, suggest
from nsfw_guard.policy.rules import EVERY

PRESETS = Path(__file__).parent / "presets"


def presets() -> tuple[str, ...]:
    """Return the names of the policies that come with the package."""
    return tuple(sorted(p.stem for p in PRESETS.glob("*.toml")))


def policy_table(source: str | Path | Mapping[str, Any]) -> dict[str, Any]:
    """Read a policy from a preset's name, a TOML file, or a mapping of the same shape.

    Returns:
        "name", "description", "rules" (the settings of each rule, by category), "prompts" (or None) and "clips": known
        keys only, merged with the policy that it extends.
    """
    table, name = _read(source, ())
    _known_keys("policy", table, ("name", "description", "rules", "prompts", "clips"))
    rules = _rules_of(table)
    for category, rule in rules.items():
        _known_keys(f"rule {category!r}", rule, ("block", "review", "severity", "views"))
    prompts = _prompts_of(table) if "prompts" in table else None
    content = {"name": name, "description": str(table.get("description", "")), "rules": rules, "prompts": prompts}
    return {**content, "clips": _clips_of(table)}


def _read(source: str | Path | Mapping[str, Any], seen: tuple[str, ...]) -> tuple[dict[str, Any], str]:
    """The table of a name, a path or a mapping, merged with the policy that it extends; and its name."""
    if not isinstance(source, (str, Path, Mapping)):
        raise PolicyError(f"a policy must be a preset's name, a TOML file or a mapping, got {source!r}")
    if not isinstance(source, Mapping):
        here = source if isinstance(source, str) and _is_preset(source) else str(Path(source).resolve())
        if here in seen:
            circle = " -> ".join(Path(step).name for step in (*seen, here))
            raise PolicyError(f"policies extend each other in a circle ({circle}): remove one extends")
        seen = (*seen, here)
    name, table = _table(source)
    name = str(table.get("name", name))
    parent = table.pop("extends", None)
    if parent is None:
        return table, name
    if not (isinstance(parent, str) and parent):
        raise PolicyError(f"extends must be the name of one preset or file, got {parent!r}")
    if not isinstance(source, Mapping) and _names_file(parent):
        parent = Path(source).parent / parent
    base, _ = _read(parent, seen)
    rules = dict(base.get("rules", {}))
    asked = _rules_of(table)
    every = {**rules.get(EVERY, {}), **asked.get(EVERY, {})}
    for category, rule in asked.items():
        # A rule with review only keeps the block threshold that its category inherits.
        kept = ("block", "views", "severity") if "block" not in rule else ()
        blocks = {name: every[name] for name in kept if name in every}
        rules[category] = {**(rules.get(category) or blocks), **rule}
    return {**base, **table, "rules": rules, **_joined(base, table), "clips": _clips(base, table)}, name


def _table(source: str | Path | Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    if isinstance(source, Mapping):
        return "policy", dict(source)
    path = PRESETS / f"{source}.toml" if _is_preset(source) else Path(source)
    known = presets()
    if not (_is_preset(source) or _names_file(source)):
        if _is_file(path):
            raise PolicyError(f"{source!r} is not a preset ({', '.join(known)}): use './{source}' for the file here")
        raise UnknownNameError("policy", source, known)
    if not _is_file(path):
        missing = path.name[:120]
        raise PolicyError(f"the policy file {missing!r} does not exist: pass a TOML file, or one of {', '.join(known)}")
    return path.stem, read_toml(path)


def read_toml(path: Path) -> dict[str, Any]:
    """Read the table in a TOML file."""
    try:
        table: dict[str, Any] = _toml().loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise PolicyError(f"{path.name} cannot be read as TOML ({error}): correct the file") from error
    return table


def _is_preset(source: object) -> bool:
    return isinstance(source, str) and source in presets()


def _names_file(source: str | Path) -> bool:
    """Whether it is written as a path: a bare word is always a preset's name, also where such a file exists."""
    if isinstance(source, Path):
        return True
    return source.endswith(".toml") or source.startswith((".", "~")) or "/" in source or "\\" in source


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # too long, a NUL
        return False


def _toml() -> Any:
    return importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")


def _rules_of(table: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    rules = table.get("rules", {})
    if not (isinstance(rules, Mapping) and all(isinstance(r, Mapping) for r in rules.values())):
        raise PolicyError('rules must be a table of tables, such as [rules.sexual] or [rules."*"]')
    return {category: dict(rule) for category, rule in rules.items()}


def _joined(base: Mapping[str, Any], child: Mapping[str, Any]) -> dict[str, Any]:
    """Prompt rules of both, the parent's first: a policy adds its own to those that it extends."""
    both = [_prompts_of(which) for which in (base, child) if "prompts" in which]
    names = dict.fromkeys(name for which in both for name in which)
    joined = {name: [value for which in both for value in which.get(name, [])] for name in names}
    return {"prompts": joined} if joined else {}


def _clips(base: Mapping[str, Any], child: Mapping[str, Any]) -> dict[str, Any]:
    """The rule for clips: the parent's, with the child's settings; k and n go with another rule than theirs."""
    asked = _clips_of(child)
    inherited = {} if asked.get("rule") == "worst" else _clips_of(base)
    return {**inherited, **asked}


def _clips_of(table: Mapping[str, Any]) -> dict[str, Any]:
    clips = table.get("clips", {})
    if not isinstance(clips, Mapping):
        raise PolicyError('clips must be a table: [clips] with rule = "worst", or rule = "k-of-n", k and n')
    _known_keys("clips", clips, ("rule", "k", "n"))
    return dict(clips)


def _prompts_of(table: Mapping[str, Any]) -> dict[str, Any]:
    prompts = table["prompts"]
    if not isinstance(prompts, Mapping):
        raise PolicyError("prompts must be a table: [prompts] with words = [...] or patterns = [...]")
    _known_keys("prompts", prompts, ("words", "patterns"))
    for name, value in prompts.items():
        if not isinstance(value, list):
            raise PolicyError(f"prompts: {name} must be a list of strings, got {value!r}")
    return dict(prompts)


def _known_keys(where: str, table: Mapping[str, Any], known: tuple[str, ...]) -> None:
    for key in table:
        if key not in known:
            raise PolicyError(f"unknown key {key!r} in {where}: {suggest(key, known)}")
