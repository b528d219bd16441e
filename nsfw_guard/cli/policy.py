"""nsfw-guard policy show, lint, explain."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

from nsfw_guard.cli import show

NOTHING_BLOCKED = "nothing is ever blocked: it has review rules only, and images under review are released"


def add(commands: Any) -> None:
    """Add the commands."""
    group: argparse.ArgumentParser = commands.add_parser("policy", help="show, check or explain a policy")
    verbs = group.add_subparsers(required=True, metavar="VERB")
    for name, run, text in (
        ("show", show_policy, "print a policy, merged with those it extends"),
        ("lint", lint, "check that a policy is readable and fits a model; exit 1 when not"),
        ("explain", explain, "describe in sentences what a policy does with a model's scores"),
    ):
        verb: argparse.ArgumentParser = verbs.add_parser(name, help=text, description=text)
        verb.add_argument("policy", help="a preset or a TOML file")
        verb.add_argument("--model", metavar="NAME|FOLDER", help="the model it is meant for")
        show.json_flag(verb)
        verb.set_defaults(run=run)
    verb = verbs.add_parser(
        "diff", help="show in which rules two policies differ", description="Shows the differences."
    )
    verb.add_argument("policy", help="a preset or a TOML file")
    verb.add_argument("other", help="the policy that it is compared with")
    verb.add_argument("--model", metavar="NAME|FOLDER", help="the model they are meant for")
    show.json_flag(verb)
    verb.set_defaults(run=diff)


def diff(args: argparse.Namespace) -> int:
    """Print each setting that differs; 1 when there is one."""
    policy, _ = _read(args)
    args.policy = args.other
    other, _ = _read(args)
    first, second = (dict(_settings(one.to_dict())) for one in (policy, other))
    rows = [
        (name, str(first.get(name, "-")), str(second.get(name, "-")))
        for name in sorted({*first, *second})
        if first.get(name) != second.get(name)
    ]
    if args.json:
        show.as_json([{"setting": name, "first": first.get(name), "second": second.get(name)} for name, _, _ in rows])
    else:
        show.table(rows, ("setting", policy.name, other.name))
    return 1 if rows else 0


def _settings(content: dict[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """Every setting that decides, by its path."""
    for key, value in content.items():
        if isinstance(value, dict):
            yield from _settings(value, f"{above}{key}.")
        elif above:  # name and description decide nothing
            yield f"{above}{key}", value


def show_policy(args: argparse.Namespace) -> int:
    """Print the policy, bound to the model if one is named."""
    policy, _ = _read(args)
    content = policy.to_dict()
    if args.json:
        show.as_json({**content, "hash": policy.hash})
        return 0
    print(f"name = {_toml(policy.name)}\ndescription = {_toml(policy.description)}")
    for category, rule in content["rules"].items():
        print(f"\n[rules.{_toml(category)}]")
        views = rule.pop("views", {})
        for key, value in rule.items():
            print(f"{key} = {_toml(value)}")
        for kind, value in views.items():
            print(f"views.{_toml(kind)} = {_toml(value)}")
    if policy.prompts:
        print("\n[prompts]")
        for key, values in policy.prompts.to_dict().items():
            print(f"{key} = [{', '.join(map(_toml, values))}]")
    if "clips" in content:
        print("\n[clips]")
        for key, value in content["clips"].items():
            print(f"{key} = {_toml(value)}")
    return 0


def lint(args: argparse.Namespace) -> int:
    """Print "ok" with the hash, or what is wrong."""
    from nsfw_guard.errors import ConfigError

    try:
        policy, _ = _read(args)
    except ConfigError as error:
        show.say(f"nsfw-guard: {error}")
        return 1
    warnings = [] if policy.blocks else [NOTHING_BLOCKED]
    if policy.blocks:
        warnings += [f"{category} is never blocked: its rule has review only" for category in policy.reviews_only]
    for category, rule in policy.rules.items():
        if rule.views and min(rule.views.values()) >= 1.0:
            warnings.append(f"{category} is blocked in a view at 1.0 only, a score that models hardly reach")
        elif rule.block == 1.0:
            warnings.append(f"{category} is blocked at 1.0 only, a score that models hardly reach")
    if policy.clips.relaxes:
        warnings.append(f"{policy.clips}: what is shown more briefly is released")
    report: dict[str, Any] = {"name": policy.name, "hash": policy.hash, "categories": sorted(policy.rules)}
    if args.json:
        show.as_json(report | ({"warnings": warnings} if warnings else {}))
    else:
        print(show.clean(f"ok {policy.name} {policy.hash[:12]}: {', '.join(report['categories'])}"))
        print("".join(f"warning: {text}\n" for text in warnings), end="")
    return 0


def explain(args: argparse.Namespace) -> int:
    """Print one sentence per rule, and the sources of its thresholds."""
    args.model = args.model or "marqo"
    policy, spec = _read(args)
    lines = []
    for category, rule in policy.rules.items():
        level = rule.severity.name.lower() if rule.severity else "high"
        other = " in any other view" if rule.views else ""
        parts = [f"blocked from {rule.block:g}{other}"] if rule.block is not None else []
        parts += [f"held for review from {rule.review:g}"] if rule.review is not None else []
        parts += [f"blocked from {threshold:g} in a {kind} view" for kind, threshold in rule.views.items()]
        lines.append(f"{category} at severity {level} or worse is {', '.join(parts)}.")
    if policy.prompts:
        words = ", ".join(map(repr, (*policy.prompts.words, *policy.prompts.patterns)))
        lines.append(f"A prompt that contains one of these, in any spelling, is refused: {words}.")
    if policy.clips.relaxes:
        lines.append(f"In video, {policy.clips}; an error in any frame holds the clip back.")
    sources = [
        f"Threshold {name!r} of {spec.name}: {threshold.source}."
        for name, threshold in spec.thresholds.items()
        if threshold.source
    ]
    if args.json:
        show.as_json({"rules": lines, "sources": sources})
    else:
        print("\n".join(show.clean(line) for line in [*lines, *sources]))
    return 0


def _read(args: argparse.Namespace) -> tuple[Any, Any]:
    from nsfw_guard.backends import registry
    from nsfw_guard.backends.files import folder
    from nsfw_guard.backends.files.inside import folder_of, is_path
    from nsfw_guard.policy.policy import Policy

    policy = Policy.load(args.policy)
    if args.model is None:
        return policy, None
    spec = folder.read_spec(folder_of(args.model)) if is_path(args.model) else registry.spec(args.model)
    return policy.bind(spec), spec


def _toml(value: object) -> str:
    if not isinstance(value, str):
        return str(value)
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(c if c.isprintable() else f"\\U{ord(c):08x}" for c in escaped) + '"'
