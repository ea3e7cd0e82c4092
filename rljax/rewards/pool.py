"""Scoring in worker processes, with a time limit for every sample."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from rljax.errors import unknown_name
from rljax.processes.processes import ONE, Processes
from rljax.rewards.compose import Composition
from rljax.rewards.functions import PREPARED
from rljax.rewards.judging import NOTHING_PLAYED, WORK, Sample, judging
from rljax.rewards.member import LARGEST
from rljax.rewards.share import shared_outcomes
from rljax.rewards.worker import Job, Outcome, Timer, answer
from rljax.rewards.workers import FIELD, ScoringError, Workers

# What scores samples, in messages.
NOUN = "reward"

# What becomes of a sample that the verifier failed on.
FAILED_SAMPLES = ("failure_reward", "left_out")

# Each worker is an interpreter with its verifiers, some 100 MB.
MOST_WORKERS = 1024


class Scores(NamedTuple):
    """Results of N samples, in the order given.

    Attributes:
        total: [N] f32, the composed reward; the failure reward where `failed`, NaN where
            `left_out`.
        parts: label -> [N] f32, each member's value before gates and weights; NaN where it does not
            apply, 0 where `failed`.
        correct: [N] bool, the first reward that applies reaches its `right_at`.
        judged: [N] bool, there is a verdict: `correct` is False because the sample is wrong.
        failed: [N] bool, the verifier raised, hung, died or returned no number in range.
        left_out: [N] bool, there is no reward to train on: the sample is out of its group.
        first_error: text of the first failure, or None.
        feedback: [N] texts (dtype object), what the rewards say of each sample, "" where nothing;
            None where nobody was asked.
        satisfied: [N] bool, every constraint that applies is satisfied, False where `failed`; None
            where the rewards hold no constraint.
        components: [N, C] f32, what each member that is trained on counts as, before weights; 0
            where it does not count, or `failed`.
        applies: [N, C] bool, that member judges the sample; False where `failed`.
    """

    total: np.ndarray
    parts: dict[str, np.ndarray]
    correct: np.ndarray
    judged: np.ndarray
    failed: np.ndarray
    left_out: np.ndarray
    first_error: str | None
    feedback: np.ndarray | None = None
    satisfied: np.ndarray | None = None
    components: np.ndarray | None = None
    applies: np.ndarray | None = None


class Scorer:
    """Scores completions in a pool of processes; a context manager.

    Workers start in the background, so the constructor returns at once. Results do not depend on
    the number of workers.

    Args:
        spec: the composition, as for `rljax.rewards.compose.Composition`.
        workers: processes; 0 scores in this process (timed only in its main thread, and unable to
            stop a single long C call).
        timeout_seconds: limit for one sample, all its rewards together.
        failure_reward: total of a sample whose verifier failed.
        failed_samples: "failure_reward" gives failed samples that total, and they count as wrong;
            "left_out" leaves them out, as samples that no reward applies to.
        max_failed_share: largest share of failed samples in one call that is tolerated.
        memory_mb: address space of one worker.
        processes: of the run; each one scores an equal share of the samples with its own workers.

    Raises:
        ValueError: an invalid composition or limit.
    """

    def __init__(
        self,
        spec: Iterable[Any],
        *,
        workers: int = 2,
        timeout_seconds: float = 5.0,
        failure_reward: float = 0.0,
        failed_samples: str = "failure_reward",
        max_failed_share: float = 0.5,
        memory_mb: int = 4096,
        processes: Processes = ONE,
    ) -> None:
        _check_limits(workers, timeout_seconds, failure_reward, max_failed_share, memory_mb)
        if failed_samples not in FAILED_SAMPLES:
            raise unknown_name(
                "rule for failed samples", failed_samples, FAILED_SAMPLES, f"{FIELD}.failed_samples"
            )
        self.failed_samples, self.processes = failed_samples, processes
        self.composition = Composition(spec)
        for member in self.composition.members:
            if member.name in PREPARED:
                PREPARED[member.name].check(timeout_seconds, **member.options)
        self.timeout_seconds = float(timeout_seconds)
        self.failure_reward = float(failure_reward)
        self.max_failed_share = float(max_failed_share)
        spec = (self.composition.portable(),)
        job = Job(WORK, spec, NOUN, self.timeout_seconds, int(memory_mb))
        self._workers = Workers(job, int(workers)) if workers else None

    def __enter__(self) -> "Scorer":
        return self

    def __exit__(self, *exception: Any) -> None:
        self.close()

    def close(self) -> None:
        """Ends the workers; may be called twice."""
        if self._workers is not None:
            self._workers.close()

    def score(
        self,
        prompts: Sequence[str],
        completions: Sequence[str],
        references: Sequence[Any],
        completion_tokens: Sequence[int] | None = None,
        episodes: Sequence[Mapping[str, Any]] | None = None,
    ) -> Scores:
        """Scores N samples; safe to call from several threads.

        Args:
            prompts: N texts.
            completions: N texts.
            references: N JSON-able references.
            completion_tokens: N token counts; needed if a reward counts tokens.
            episodes: N of them (episodes/record.py); needed if a reward reads them.

        Raises:
            ValueError: lengths differ, or token counts or episodes are needed and missing.
            ScoringError: too many samples failed, or the workers cannot start.
        """
        samples = self._samples(prompts, completions, references, completion_tokens, episodes)
        scores = self._collect(shared_outcomes(self.processes, samples, self._outcomes))
        share = float(scores.failed.mean()) if samples else 0.0
        if share > self.max_failed_share:
            raise ScoringError(
                f"{int(scores.failed.sum())} of {len(samples)} samples could not be scored: share "
                f"{share:.3f}, allowed {self.max_failed_share:.3f} ({FIELD}.max_failed_share). "
                f"First failure:\n{scores.first_error}"
            )
        return scores

    def try_first(self, prompt: str, reference: Any) -> None:
        """Asks for one problem before a run begins, so that a broken reward is known at once.

        The completions are the empty one and the text of the reference: a reward that can score
        neither will hardly score a sample.

        Args:
            prompt: text of the problem.
            reference: of the problem.

        Raises:
            ValueError: with the line of the user's file that fails.
            ScoringError: the workers cannot start.
        """
        gold = reference.get("answer") if isinstance(reference, Mapping) else reference
        texts = ["", str(gold)]
        episode = NOTHING_PLAYED if self.composition.needs_episodes else None
        samples = [Sample(prompt, t, reference, len(t) + 1, episode) for t in texts]
        outcomes = self._outcomes(samples)
        if all(outcome.answer is None for outcome in outcomes):
            raise ValueError(
                "The rewards fail on the first problem, with an empty completion and with "
                f"{_cut(texts[1])!r}: {outcomes[-1].error} ({FIELD}.rewards; "
                f"{FIELD}.try_first=False starts anyway)."
            )

    def _outcomes(self, samples: list[Sample]) -> list[Outcome]:
        if not samples:
            return []
        return self._workers.ask(samples) if self._workers else self._in_process(samples)

    def _samples(
        self,
        prompts: Sequence[str],
        completions: Sequence[str],
        references: Sequence[Any],
        completion_tokens: Sequence[int] | None,
        episodes: Sequence[Mapping[str, Any]] | None,
    ) -> list[Sample]:
        if completion_tokens is None:
            if self.composition.needs_token_counts:
                raise ValueError(
                    "A reward of this composition counts tokens; pass completion_tokens."
                )
            counts: Sequence[int | None] = [None] * len(prompts)
        else:
            counts = [int(count) for count in completion_tokens]
        if episodes is None:
            if self.composition.needs_episodes:
                raise ValueError(
                    f"A reward of this composition reads what became of an episode, and nothing is "
                    f"played: name an environment (config.environment.name, {FIELD}.rewards)."
                )
            episodes = [None] * len(prompts)
        sizes = [len(each) for each in (prompts, completions, references, counts, episodes)]
        if len(set(sizes)) != 1:
            raise ValueError(
                "Prompts, completions, references, token counts and episodes differ in number: "
                f"{sizes}."
            )
        return list(map(Sample, prompts, completions, references, counts, episodes))

    def _in_process(self, samples: list[Sample]) -> list[Outcome]:
        timer = Timer(self.timeout_seconds, kill=False)
        with timer.installed():
            return [answer(judging(self.composition), each, timer, NOUN) for each in samples]

    def _collect(self, outcomes: list[Outcome]) -> Scores:
        count, labels = len(outcomes), self.composition.labels
        total = np.full(count, np.nan, np.float32)
        values = np.zeros((len(labels), count), np.float32)
        components = np.zeros((count, len(self.composition.weights)), np.float32)
        applies = np.zeros(components.shape, bool)
        correct, failed, satisfied = (np.zeros(count, bool) for _ in range(3))
        feedback = np.full(count, "", object)
        for place, outcome in enumerate(outcomes):
            if outcome.answer is None:
                failed[place] = True
                continue
            said, feedback[place] = outcome.answer
            worth = self.composition.total(said)
            total[place] = np.nan if worth is None else worth
            values[:, place] = [np.nan if v is None else v for v in said]
            correct[place] = self.composition.is_right(said)
            components[place] = self.composition.components(said)
            applies[place] = self.composition.applying(said)
            satisfied[place] = self.composition.satisfies(said)
        if self.failed_samples == "failure_reward":
            total[failed] = self.failure_reward
        left_out = np.isnan(total)
        return Scores(
            total=total,
            parts=dict(zip(labels, values, strict=True)),
            correct=correct,
            judged=~left_out,
            failed=failed,
            left_out=left_out,
            first_error=next((o.error for o in outcomes if o.answer is None), None),
            feedback=feedback,
            satisfied=satisfied if self.composition.constraints else None,
            components=components,
            applies=applies,
        )


def _cut(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:37]}..."


def _check_limits(
    workers: int,
    timeout_seconds: float,
    failure_reward: float,
    max_failed_share: float,
    memory_mb: int,
) -> None:
    for name, value, valid, allowed in (
        (
            "workers",
            workers,
            0 <= workers <= MOST_WORKERS and workers == int(workers),
            f"a whole number in [0, {MOST_WORKERS}]: each is a process of some 100 MB",
        ),
        ("timeout_seconds", timeout_seconds, 0 < timeout_seconds < 1e6, "in (0, 1e6)"),
        (
            "failure_reward",
            failure_reward,
            abs(failure_reward) <= LARGEST,
            f"a finite number of at most {LARGEST:g}",
        ),
        ("max_failed_share", max_failed_share, 0 <= max_failed_share <= 1, "in [0, 1]"),
        (
            "memory_mb",
            memory_mb,
            512 <= memory_mb <= 2**24 and memory_mb == int(memory_mb),
            "a whole number in [512, 2^24]: an interpreter with its verifiers needs some",
        ),
    ):
        if not valid:
            raise ValueError(f"{name} must be {allowed}, got {value!r} ({FIELD}.{name}).")
