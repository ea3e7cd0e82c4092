"""What the samples of a stage are worth: by verifiers of text, or by a model beside the policy."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from rljax.config.stage import Stage
from rljax.data.data_files import kind_of_files
from rljax.data.encode import check_length, pad_completions, pad_prompts
from rljax.data.rows import answered_prompt
from rljax.data.sources import open_source, place_of
from rljax.rewards.pool import Scores
from rljax.rewards.right_watch import ConstraintWatch, HackingWatch, RightWatch
from rljax.training.collect.judge_scorer import JudgeScorer
from rljax.training.collect.model_scorer import ModelScorer
from rljax.training.collect.model_scores import ScoreParts, reference_statistics
from rljax.training.collect.rollouts import Samples, score_texts
from rljax.training.run.context import Context
from rljax.training.run.models import Model, role_names
from rljax.training.run.phases import phase
from rljax.training.run.problems import BUDGET
from rljax.training.update.rows import Rows, completion_rows, rollout_rows

# Labels of models' scores among the parts of a reward.
PART, DISAGREEMENT = "reward_model", "reward_disagreement"


class Reward(Protocol):
    """Scores samples."""

    def score(self, samples: Samples) -> Scores:
        """Scores of the N samples, in their order."""
        ...


class TextReward:
    """The verifiers of config.scoring, in their pool of processes."""

    def __init__(self, context: Context) -> None:
        self.context = context
        composition = context.scorer.composition
        self.watches = (
            RightWatch(composition.first),
            ConstraintWatch(composition.members),
            HackingWatch(composition.members),
        )

    def score(self, samples: Samples) -> Scores:
        """See `Scorer.score` (rewards/pool.py)."""
        scores = score_texts(self.context, samples)
        for watch in self.watches:
            watch.see(scores)
        return scores


class ModelReward:
    """A reward model, or several, that read the tokens of prompt and completion.

        total = weight * parts(scores of the models) + text_weight * total of the texts

    The parts are those of collect/model_scores.py: normalisation, clipping, a penalty of length.
    The verifiers are always asked: without a weight they tell how often samples are right, and add
    nothing. A sample that they fail on has the score of the model, and the failure reward as the
    other summand. One that none of them judges has the score of the model alone.
    """

    def __init__(self, context: Context, stage: Stage) -> None:
        fields, where = stage.models["reward"], f"config.{stage.name}.models.reward"
        self.text = TextReward(context)
        self.weight, self.text_weight = fields["weight"], fields["text_weight"]
        self.members = [
            make_scorer(
                context, context.models[role], fields, stage.batch.sequences_per_micro_batch, where
            )
            for role in role_names(stage, "reward")
        ]
        self.parts = self._parts(context, stage)

    def _parts(self, context: Context, stage: Stage) -> ScoreParts:
        """The named parts, with the statistics of the reference completions where they are read."""
        fields = stage.models["reward"]
        names = ("normalise", "ensemble", "ensemble_weight", "clip", "length_penalty")
        parts = ScoreParts(**{name: fields[name] for name in names})
        rows = reference_rows(context, stage)
        if rows is None:
            return parts
        found = [reference_statistics(one(rows), _reference_field(stage)) for one in self.members]
        means, deviations = zip(*found, strict=True)
        return dataclasses.replace(parts, means=means, deviations=deviations)

    def score(self, samples: Samples) -> Scores:
        """The composed reward; `parts` are those of the texts, then "reward_model".

        Of several models that is the mean of their scores, and "reward_disagreement" the standard
        deviation of what their scores are once normalised.
        """
        texts = self.text.score(samples)
        own = self.scores(samples)
        said = np.where(texts.left_out, 0.0, texts.total)
        shaped = self.parts(own, samples.flat("mask").sum(axis=1))
        parts = {PART: own.mean(axis=0).astype(np.float32)}
        if len(own) > 1:
            parts[DISAGREEMENT] = self.parts.normalised(own).std(axis=0).astype(np.float32)
        total = self.weight * shaped + self.text_weight * said
        return texts._replace(
            total=total.astype(np.float32),
            parts={**texts.parts, **parts},
            left_out=np.zeros_like(texts.left_out),
        )

    @phase("scoring")
    def scores(self, samples: Samples) -> np.ndarray:
        """[M, N] f32, the scores of each model, which reads all of an episode to its last reply.

        A judge reads texts, and of an episode the last reply.
        """
        if isinstance(self.members[0], JudgeScorer):
            return np.stack([one.of_samples(samples) for one in self.members])
        rollouts = samples.rollouts
        read = np.asarray(rollouts.mask)
        if rollouts.inserted is not None:
            read = read | rollouts.inserted
        rows = rollout_rows(
            samples.prompts,
            samples.prompt_mask,
            np.asarray(rollouts.tokens),
            read,
            share_prompts=False,
        )
        return np.stack([one(rows) for one in self.members])


def make_scorer(
    context: Context, model: Model, fields: Mapping[str, Any], rows_per_pass: int, where: str
) -> ModelScorer | JudgeScorer:
    """What reads samples by one model: their tokens, or a question about their texts.

    Args:
        context: of the stage.
        model: with its parameters.
        fields: of the stage's role.
        rows_per_pass: which divide over the devices that split rows.
        where: path of the role in the config, for errors.
    """
    if fields["judge"]:
        return JudgeScorer(context, model, fields, rows_per_pass, where)
    return ModelScorer(model, fields, context.tokenizer, context.mesh, rows_per_pass, where)


def reference_rows(context: Context, stage: Stage) -> Rows | None:
    """The completions that a stage's reward model is normalised by, as separate rows.

    They are the rows of models.reward.reference_path: prompt and completion, or messages
    (data/rows.py).

    Args:
        context: of the stage.
        stage: of the context.

    Returns:
        The rows; None for a stage that reads no such file.

    Raises:
        ValueError: for a file or a row that cannot be read, or a prompt that is too long.
    """
    if stage.models.get("reward", {}).get("normalise") != "reference":
        return None
    path, field = stage.models["reward"]["reference_path"], _reference_field(stage)
    records = open_source(kind_of_files(path, field), path=path, path_field=field)
    budget, text_format = context.config.data.max_prompt_tokens, context.text_format
    prompts, completions = [], []
    for index in range(len(records)):
        where = place_of(records, index)
        prompt, answer = answered_prompt(records[index], text_format, where=where, field=field)
        check_length(prompt.tokens, budget, f"The prompt of {where}", f"{BUDGET}; {field}")
        prompts.append(prompt.tokens)
        completions.append(text_format.completion(prompt, answer, where))
    pad_id = context.tokenizer.pad_id
    tokens, mask = pad_completions(completions, pad_id, max_new_tokens=max(map(len, completions)))
    return completion_rows(*pad_prompts(prompts, pad_id, max_prompt_tokens=budget), tokens, mask)


def _reference_field(stage: Stage) -> str:
    return f"config.{stage.name}.models.reward.reference_path"


def make_reward(context: Context, stage: Stage) -> Reward:
    """What a stage is trained on: its reward model where it has one, else the verifiers.

    Args:
        context: of the stage, with the parameters of its models (run/stages.py).
        stage: of the context.

    Raises:
        ValueError: for a context without the reward model that the stage names.
    """
    if "reward" not in stage.models:
        return TextReward(context)
    if "reward" not in context.models:
        raise ValueError(
            f"The reward model of stage {stage.name!r} is not read here; only a whole run does so "
            f"(config.{stage.name}.models.reward.start_from)."
        )
    return ModelReward(context, stage)
