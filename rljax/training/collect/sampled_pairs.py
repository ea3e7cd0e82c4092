"""Pairs and labelled completions that a stage makes of its policy's own samples.

They are chosen by a named rule (data/sample_rules.py), and kept in WORKDIR/pairs, a file for each
round: prompt, chosen and rejected, with the score of each; or prompt, completion and label, with
its score. The ids of all texts are kept and learned: text that is tokenised anew may become other
tokens. What is made so can be read as a file of any stage.
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from rljax.config.stage import Stage
from rljax.data.pairs import SCORES, SIDES
from rljax.data.sample_rules import PairOptions, labels_by_rule, pairs_by_rule
from rljax.models.network import Params
from rljax.training.collect.round_prompts import RoundPrompts
from rljax.training.collect.sampled_once import (
    Rounds,
    Sampled,
    answer_columns,
    by_prompt,
    prompt_columns,
    round_sampler,
    sample_once,
)
from rljax.training.run.context import Context

# Of the workdir.
FOLDER = "pairs"

Row = dict[str, Any]


def pair_rounds(context: Context, stage: Stage, start: Params | None) -> Rounds:
    """The rounds of a stage with source="sampled_pairs"; see `Rounds`."""
    return _rounds(context, stage, start, functools.partial(pairs_of, context, stage))


def label_rounds(context: Context, stage: Stage, start: Params | None) -> Rounds:
    """The rounds of a stage with source="sampled_labels"; see `Rounds`."""
    return _rounds(context, stage, start, lambda found, number: labelled_of_samples(stage, found))


def _rounds(
    context: Context,
    stage: Stage,
    start: Params | None,
    rows_of: Callable[[Sampled, int], Iterator[Row]],
) -> Rounds:
    """Rounds whose rows are made of the samples of some prompts, and the number of the round."""
    sampler = functools.cache(lambda: round_sampler(context, stage))

    def make(params: Params, number: int) -> list[Row]:
        places, rows = prompts.begin(number), []
        for found in sample_once(context, stage, params, places, number, own=sampler()):
            rows += rows_of(found, number)
            prompts.observe(found)
        rows = rows or _placeholders(context, stage, places) or _raise_for_none(stage, number)
        prompts.end(number)
        return rows

    rounds = Rounds(context, stage, start, FOLDER, make)
    prompts = RoundPrompts(context, stage, rounds.path)
    return rounds


def pairs_of(context: Context, stage: Stage, found: Sampled, number: int) -> Iterator[Row]:
    """The pairs of some prompts, as rows of the file.

    Args:
        context: of the run; its seed decides what a rule chooses at random.
        stage: whose rule it is.
        found: the samples.
        number: of the round.
    """
    rule, samples = stage.data["pair_rule"], found.samples
    margin, most = stage.data["pair_margin"], stage.data["pairs_most"]
    for (rows, candidates), record in zip(
        by_prompt(found, stage.data["unfinished"]), samples.records, strict=False
    ):
        draw = np.random.default_rng((context.config.seed, number, record["id"]))
        for places in pairs_by_rule(rule, candidates, PairOptions(margin, most, draw)):
            sides = [rows[place] for place in places]
            row = prompt_columns(samples, sides[0])
            for side, score, n in zip(SIDES, SCORES, sides, strict=True):
                row |= answer_columns(samples, n, side) | {score: float(found.scores.total[n])}
            if row["chosen_tokens"] != row["rejected_tokens"]:  # a verifier may be of two minds
                yield row


def labelled_of_samples(stage: Stage, found: Sampled) -> Iterator[Row]:
    """The labelled completions of some prompts, as rows of the file; arguments as `pairs_of`."""
    rule, threshold = stage.data["label_rule"], stage.data["label_threshold"]
    for rows, candidates in by_prompt(found, stage.data["unfinished"]):
        labels = labels_by_rule(rule, candidates, threshold)
        for n, label in zip(rows, labels, strict=True):
            if label is not None:
                answer = answer_columns(found.samples, n, "completion")
                score = {"score": float(found.scores.total[n]), "label": label}
                yield prompt_columns(found.samples, n) | answer | score


def _placeholders(context: Context, stage: Stage, places: Sequence[int]) -> list[Row]:
    """Made-up rows that say nothing, where the stage asks for them: pairs, or their two sides."""
    if not stage.data["placeholder_pairs"]:
        return []
    return [row for place in places for row in _made_up(context, stage, place)]


def _made_up(context: Context, stage: Stage, place: int) -> list[Row]:
    (prompt,) = context.prompts([{**context.train_problems[place], "id": place}])
    own = {"prompt": prompt.text, "prompt_tokens": prompt.tokens, "problem": place}
    sides = ("1", "0")
    ids = [context.text_format.completion(prompt, text, f"problem {place}") for text in sides]
    if stage.data["source"] == "sampled_labels":
        return [
            {**own, "completion": text, "completion_tokens": tokens, "label": text == "1"}
            for text, tokens in zip(sides, ids, strict=True)
        ]
    for side, text, tokens in zip(SIDES, sides, ids, strict=True):
        own |= {side: text, f"{side}_tokens": tokens}
    return [own]


def _raise_for_none(stage: Stage, number: int) -> list[Row]:
    where, data = f"config.{stage.name}", stage.data
    rule = "pair_rule" if data["source"] == "sampled_pairs" else "label_rule"
    raise ValueError(
        f"{rule}={data[rule]!r} finds nothing in round {number + 1}: none of "
        f"{data['pair_prompts']} prompts has what it needs among the "
        f"{stage.batch.samples_per_prompt} samples "
        f"({where}.data.{rule}, {where}.data.pair_prompts, {where}.batch.samples_per_prompt, "
        f"{where}.data.unfinished, {where}.sampling.max_new_tokens)."
    )
