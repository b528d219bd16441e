"""One job of a web UI: what its prompts and its own arguments say, from its start to its end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nsfw_guard.hosts.covers import stand_in
from nsfw_guard.hosts.label import describe
from nsfw_guard.hosts.session import HostGuard
from nsfw_guard.hosts.webui.host import Host
from nsfw_guard.hosts.webui.job_images import Job
from nsfw_guard.verdict import Outcome, Verdict

TITLE = "NSFW guard"
JOB = "nsfw_guard_job"  # the attribute of a job's own object
PROMPTS = ("prompt", "all_prompts", "hr_prompt", "all_hr_prompts", "refiner_prompt", "detailer_prompt")
MAX_NESTED_JOBS = 8  # jobs within jobs


class Jobs:
    """Knows the jobs that run, one within the other. Negative prompts are not read: they say what is not wanted."""

    def __init__(self, host: Host, guard: HostGuard) -> None:
        self.host, self.guard = host, guard
        self._running: list[tuple[Any, Job]] = []

    @property
    def current(self) -> Job:
        """The innermost job that runs."""
        return self._running[-1][1] if self._running else Job()

    def of(self, p: Any) -> Job:
        """Return the job of the host's own object, else the one that runs."""
        job = getattr(p, JOB, None)
        return job if isinstance(job, Job) else self.current

    def start(self, p: Any, *args: Any, running: bool = False) -> None:
        """Begin a job, or know its prompts better. Its arguments can only tighten.

        `running`: the host is certain to report the end of the job. Earlier it may abort without a callback.
        """
        old = self.of(p)
        if not isinstance(getattr(p, JOB, None), Job):
            self.guard.faults.begin_job()
        solid, review = ([_said(arg) for arg in args] + [False, False])[:2]
        refused = self.refusal([getattr(p, name, None) for name in (*PROMPTS, *_captions(p))])
        self._keep(p, Job(solid=solid or old.solid, review=review or old.review, refused=refused), old, running)
        if refused is None and old.refused is not None and self.host.family == "sdnext" and hasattr(p, "dummy"):
            del p.dummy  # the same object, with another prompt

    def runs(self, p: Any) -> bool:
        """Return whether this very job runs already, as the host told."""
        return any(held is p for held, _ in self._running)

    def batch(self, p: Any, prompts: Sequence[Any]) -> None:
        """See the prompts of a batch for the last time."""
        old = self.of(p)
        refused = old.refused if old.refused is not None else self.refusal(prompts)
        self._keep(p, Job(solid=old.solid, review=old.review, refused=refused), old)

    def end(self, p: Any) -> None:
        """End this job."""
        self._running = [(held, job) for held, job in self._running if held is not p]

    def refusal(self, prompts: Sequence[Any]) -> Verdict | None:
        """Return why these prompts are refused, or None. What cannot be read is refused."""
        try:
            texts: list[Any] = []
            for one in prompts:
                parts = list(one) if isinstance(one, (list, tuple)) else [one]
                texts += [text for text in parts if text is not None and text != "" and text not in texts]
            return self.guard.refuse(texts) if texts else None
        except Exception as error:  # noqa: BLE001
            self.guard.faults.say("the prompts of a job could not be read: it is refused", error)
            return Verdict.error(f"{type(error).__name__} in its prompts")

    def instead(self, p: Any) -> Any:
        """Return a result of solid images where the prompt was refused, so that nothing is drawn; else None."""
        refused = self.of(p).refused
        if refused is None:
            return None
        try:
            label = self.guard.settings.label
            count = max(1, int(getattr(p, "batch_size", 1)) * int(getattr(p, "n_iter", 1)))
            stand_ins = [stand_in((int(p.width), int(p.height)), refused, label=label) for _ in range(count)]
            text = f"{TITLE}: {describe(refused)}"
            kind = self.host.get("modules.processing", "Processed")
            return kind(p, stand_ins, seed=getattr(p, "seed", -1), info=text, infotexts=[text] * count)
        except Exception as error:  # noqa: BLE001
            self.guard.faults.say("no result could be made for a refused prompt: every image of it is covered", error)
            return None

    def _keep(self, p: Any, job: Job, old: Job, running: bool = False) -> None:
        if job.refused is not None and old.refused is None:
            self.guard.count_refusal(job.refused.reason, is_fault=job.refused.outcome is Outcome.ERROR)
        known = running or self.runs(p)
        try:
            setattr(p, JOB, job)
        except AttributeError:
            known = True
        if known:
            self.end(p)
            self._running = [*self._running[1 - MAX_NESTED_JOBS :], (p, job)]
        if job.refused is not None and self.host.family == "sdnext":
            p.dummy = True  # sdnext then draws one black image and runs no model


def _captions(p: Any) -> list[str]:
    """What other pipelines of a host call their prompts: Forge Neo has captions, built by a script from its fields."""
    held = getattr(p, "__dict__", {})
    asked = (name for name in held if "caption" in name and "negative" not in name)
    return [name for name in asked if isinstance(held[name], (str, list))]


def _said(arg: Any) -> bool:
    """Whether an argument asks for more; one that is of no known kind does."""
    return bool(arg) if isinstance(arg, (bool, int, float, str, type(None))) else True
