"""A verifiable log of every verdict: one JSON line each, chained by hashes, never pixels or prompts.

Changing, dropping, moving or inserting a line breaks the chain. With a key only its owner can repair the chain, and
with a kept head a truncated log is noticed too.
"""

from __future__ import annotations

import json
import logging
import math
import os
import time
from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from typing import Any, Literal

from nsfw_guard.errors import AuditError, ConfigError
from nsfw_guard.listeners.audit_chain import AuditReport, Head, check_regular, describe_error, digest, verify
from nsfw_guard.listeners.audit_files import LogFiles
from nsfw_guard.verdict import Verdict

__all__ = ["Audit", "AuditReport", "Head", "verify"]

SCHEMA = 2  # schema 1 called the threshold "cut"; its lines still verify
LONGEST = 400  # characters of a text: names from models and users may have any length

_DECIDED = ("outcome", "reason", "category", "severity", "score", "threshold", "view", "scores")
_BY = ("model", "revision", "policy", "policy_hash", "requested", "state")

_encode = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False, default=str).encode
_log = logging.getLogger(__name__)


class Audit:
    """A listener that appends a line for each verdict; several threads and processes may share a file.

    Args:
        path: the log. `<path>.lock` and `<path>.head` are written beside it.
        key: makes the hashes HMACs, so that only the owner of the key can write or repair lines, and a known image
            cannot be found by its plain hash.
        on_failure: `stop` raises AuditError when a line cannot be written; `warn` logs it and counts it in `lost`.
            In both cases the line is taken back, and the next one records how many are `unwritten`.
        fsync: wait for the disk after every call, so that a power failure loses nothing.
        clock: returns the seconds since 1970.

    Example:
        ```python
        guard = Guard(load_model("demo-shapes"), listeners=[Audit("log.jsonl")])
        guard.check([image])  # nsfw-guard audit verify log.jsonl
        ```
    """

    wants_digests = True

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        key: bytes | None = None,
        on_failure: Literal["stop", "warn"] = "stop",
        fsync: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.path = os.path.abspath(os.fspath(path))
        if on_failure not in {"stop", "warn"}:
            raise ConfigError(f"on_failure must be 'stop' or 'warn', got {on_failure!r}")
        if key is not None and not (isinstance(key, bytes) and key):
            raise ConfigError("the audit key must be non-empty bytes: pass 32 random bytes, or None")
        if os.path.isdir(self.path) or not os.path.isdir(os.path.dirname(self.path)):
            raise ConfigError("the audit log must be a file in an existing folder: pass another path")
        for end in ("", ".lock", ".head"):
            check_regular(f"{self.path}{end}")
        self.on_failure = on_failure
        self.fsync = fsync
        self.clock = clock
        self.lost = 0
        self._unwritten = 0
        self._key = key
        self._files: dict[int, LogFiles] = {}

    def __call__(self, verdicts: Sequence[Verdict]) -> None:
        """Write one line for each verdict, in order.

        Raises:
            AuditError: a line may not have been written, with `on_failure="stop"`.
        """
        if not verdicts:
            return
        # Per process: a lock copied by a fork may be held for ever, and a file lock is shared with the parent.
        files = self._files.setdefault(os.getpid(), LogFiles(self.path))
        try:
            records = [self._record(verdict) for verdict in verdicts]
            with files.locked():
                self._append(files, records)
        except Exception as error:  # every fault means the same: the disk, the clock, a verdict
            why = (
                f"the audit log cannot be written ({describe_error(error)}): check the disk and the file's permissions"
            )
            why = str(error) if isinstance(error, AuditError) else why
            self._unwritten += len(verdicts)
            if self.on_failure == "stop":
                raise AuditError(why) from error
            missed = len(verdicts)
            self.lost += missed
            _log.warning("%s; verdicts not written so far: %d", why, self.lost)

    def close(self) -> None:
        """Close the files; the next call opens them again."""
        for files in (self._files.pop(pid, None) for pid in list(self._files)):
            if files:
                files.close()

    def __getstate__(self) -> dict[str, Any]:
        # locks and open files stay in their process
        return {**vars(self), "_files": {}, "_unwritten": 0}

    def _record(self, verdict: Verdict) -> dict[str, Any]:
        whole = verdict.to_dict()
        record = {name: _plain(whole[name]) for name in (*_DECIDED, *_BY)}
        image = whole["digest"]
        record["image"] = digest(self._key, image.encode()) if image and self._key else image
        record["schema"] = SCHEMA
        record["time"] = datetime.fromtimestamp(self.clock(), timezone.utc).isoformat(timespec="microseconds")
        return record

    def _append(self, files: LogFiles, records: list[dict[str, Any]]) -> None:
        head, torn, unfinished = files.end(self._key)
        lines = ["\n"] if torn else []
        missing = self._unwritten
        # Lines that could not be taken back are named: they may say "allow" of an image that was held back.
        gaps = {name: value for name, value in (("unwritten", missing), ("unfinished", unfinished)) if value}
        records = [{**record, **gaps} if i == 0 else record for i, record in enumerate(records)]
        for record in records:
            body = _encode({**record, "n": head.count + 1, "prev": head.hash})
            head = Head(head.count + 1, digest(self._key, body.encode("ascii")))
            lines.append(f'{body[:-1]},"hash":"{head.hash}"}}\n')
        files.append("".join(lines).encode("ascii"), head, self.fsync)
        self._unwritten -= missing


def _plain(value: Any) -> Any:
    """JSON with every text shortened, and NaN and infinity as their names."""
    if isinstance(value, str):
        return value[:LONGEST]
    if isinstance(value, dict):
        return {str(name)[:LONGEST]: _plain(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
