"""A second policy that is only asked: what it would have said is counted and logged, and changes nothing."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nsfw_guard.policy.policy import Policy, ScoredModel
from nsfw_guard.verdict import Verdict


class Shadow:
    """A listener that asks another policy about the same scores.

    Of an image with several frames it sees the scores of the frame that decided.

    Args:
        policy: the other policy: a preset's name, a TOML file, a mapping or a Policy.
        model: the record of the guard's model.
        path: a file that gets a line of JSON for each image on which both differ; None only counts.

    Example:
        ```python
        backend = load_model("demo-shapes")
        shadow = Shadow("strict", backend.spec)
        guard = Guard(backend, listeners=[shadow])
        guard.check([image])
        print(shadow.counts)
        ```
    """

    def __init__(
        self, policy: Policy | str | Path | Mapping[str, Any], model: ScoredModel, path: str | Path | None = None
    ) -> None:
        self.policy = Policy.load(policy).bind(model)
        self.path = None if path is None else Path(path)
        self.counts: Counter[tuple[str, str]] = Counter()
        self._lock = threading.Lock()

    def __call__(self, verdicts: Sequence[Verdict], /) -> None:
        """Ask the other policy about each verdict that has scores."""
        lines = []
        for verdict in verdicts:
            if verdict.scores is None or not verdict.scores.views:
                continue
            other = self.policy.decide(verdict.scores)
            names = verdict.outcome.name.lower(), other.outcome.name.lower()
            with self._lock:
                self.counts[names] += 1
            if verdict.outcome is not other.outcome:
                facts = {
                    "outcome": names[0],
                    "shadow": names[1],
                    "reason": verdict.reason,
                    "shadow_reason": other.reason,
                }
                lines.append(json.dumps({**facts, "policy": verdict.policy_hash, "shadow_policy": other.policy_hash}))
        if lines and self.path is not None:
            with self._lock, self.path.open("a", encoding="utf-8") as file:
                file.write("".join(f"{line}\n" for line in lines))
