"""Demonstrations that the policy wrote itself: the samples that a verifier finds good.

RFT (arXiv:2308.01825) keeps the right ones, each once; RAFT (arXiv:2304.06767) and Llama 3
(arXiv:2407.21783) keep the best of each prompt.
"""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from rljax.config.stage import Stage
from rljax.data.packing import Example, PackedEpochs
from rljax.data.sources import open_source
from rljax.models.network import Params
from rljax.rewards.pool import Scores
from rljax.training.collect.demonstrations import PackedDemonstrations
from rljax.training.collect.experience import Experience, Policy
from rljax.training.collect.prompts import State
from rljax.training.collect.rollouts import Samples
from rljax.training.collect.sampled_once import check_there, sample_once, written_once
from rljax.training.run.context import Context


class KeptSamples:
    """Experience that is read: packed samples, which the stage's start draws before step 1."""

    def __init__(
        self,
        context: Context,
        stage: Stage,
        start: Params | None,
        pack: Callable[[list[Example]], PackedEpochs],
    ) -> None:
        """Opens no file yet.

        Args:
            context: of the run.
            stage: supervised.
            start: all parameters that the stage starts from, where they are kept.
            pack: examples to the order of their rows.
        """
        self.context, self.stage, self.start, self.pack = context, stage, start, pack
        self.examples: list[Example] = []
        self.rows: PackedDemonstrations | None = None

    def first_state(self) -> State:
        """Nothing."""
        return {}

    def collect(self, policy: Policy, state: State, step: int) -> tuple[Experience, State]:
        """The rows of a step (from 1).

        Raises:
            ValueError: if no sample is kept; if the samples were lost, and the policy that drew
                them with them.
        """
        if self.rows is None:
            path = kept_file(self.context, self.stage)
            if self.start is None:
                check_there(path, step, self.stage)
            params = policy.params if self.start is None else self.start
            self.examples = read_kept(write_kept(self.context, self.stage, params))
            rows = self.stage.batch.sequences_per_update
            self.rows = PackedDemonstrations(self.pack(self.examples), rows, self.examples)
        return self.rows.collect(policy, state, step)


def kept_file(context: Context, stage: Stage) -> Path:
    """Where the kept samples of a stage lie: WORKDIR/samples/STAGE.jsonl."""
    return context.workdir / "samples" / f"{stage.name}.jsonl"


def write_kept(context: Context, stage: Stage, params: Params) -> Path:
    """Samples, verifies and writes WORKDIR/samples/STAGE.jsonl, unless it is already there.

    Returns:
        The file: columns prompt, completion, problem and score; and the ids of both texts, which
        are what is learned: text that is tokenised anew may become other tokens.

    Raises:
        ValueError: if no sample is kept.
    """

    def make() -> list[dict[str, Any]]:
        count = min(stage.data["sampled_prompts"], len(context.train_problems))
        rows = [
            _row(each.samples, each.scores, n)
            for each in sample_once(context, stage, params, count)
            for n in kept_rows(
                each.samples, each.scores, each.prompts, stage.data["keep"], stage.data["keep_most"]
            )
        ]
        if not rows:
            raise ValueError(
                f"keep={stage.data['keep']!r} keeps none of {stage.batch.samples_per_prompt} "
                f"samples of each of {count} prompts: none ended and was right "
                f"(config.{stage.name}.data.keep, config.{stage.name}.data.sampled_prompts, "
                f"config.{stage.name}.batch.samples_per_prompt)."
            )
        return rows

    return written_once(context, kept_file(context, stage), make)


def read_kept(path: Path) -> list[Example]:
    """The examples of the file."""
    rows: Iterable[dict[str, Any]] = open_source("jsonl", path=path, path_field="the file")
    return [
        Example(
            [*row["prompt_tokens"], *row["completion_tokens"]],
            [False] * len(row["prompt_tokens"]) + [True] * len(row["completion_tokens"]),
        )
        for row in rows
    ]


def kept_rows(samples: Samples, scores: Scores, prompts: int, keep: str, most: int) -> list[int]:
    """Which of the N samples are kept, in order; only those that ended and were scored.

    Args:
        samples: G of each prompt.
        scores: of the samples.
        prompts: the first so many are looked at.
        keep: "right": of each prompt the right ones, equal ones once; "best": those of the highest
            scores, equal ones once, of equal scores the first.
        most: of a prompt.
    """
    group, finished = samples.samples_per_prompt, samples.flat("finished")
    tokens, mask = samples.flat("tokens"), samples.flat("mask")
    usable = finished & ~scores.failed & ~scores.left_out
    if keep == "right":
        usable &= scores.judged & scores.correct
    kept = []
    for b in range(prompts):
        rows = [n for n in range(b * group, (b + 1) * group) if usable[n]]
        if keep == "best":
            rows.sort(key=lambda n: -scores.total[n])  # stable: of equals the first
        different: dict[tuple[int, ...], int] = {}
        for n in rows:
            different.setdefault(tuple(tokens[n][mask[n]].tolist()), n)
        kept += sorted(list(different.values())[:most])
    return kept


def _row(samples: Samples, scores: Scores, n: int) -> dict[str, Any]:
    b = n // samples.samples_per_prompt
    kept = samples.flat("mask")[n]
    return {
        "prompt": samples.prompt_texts[b],
        "completion": samples.texts[n],
        "problem": samples.records[b]["id"],
        "score": float(scores.total[n]),
        "prompt_tokens": samples.prompts[b][samples.prompt_mask[b]].tolist(),
        "completion_tokens": samples.flat("tokens")[n][kept].tolist(),
    }
