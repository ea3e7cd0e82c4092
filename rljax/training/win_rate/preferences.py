"""Who prefers which of two completions: rewards of the files, a reward model, or a judge."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jax.sharding import Mesh

from rljax.data.rows import prompt_of
from rljax.data.text_format import Prompt
from rljax.training.run.loaded import Model
from rljax.training.update.sequence_scores import make_head_scores
from rljax.training.update.verdicts import make_verdicts, verdict_ids
from rljax.training.win_rate.completions import EVALUATED, Compared
from rljax.training.win_rate.passes import in_passes

# What a judge that is a language model is asked; the next token is the verdict.
QUESTION = """Two assistants have answered the same prompt. Which answer is better?

[Prompt]
{prompt}

[Answer A]
{first}

[Answer B]
{second}

Say A or B only."""
ANSWERS = ("A", "B")

Figures = dict[str, float]


def outcomes_of_scores(scores: np.ndarray, tie_margin: float = 0.0) -> np.ndarray:
    """Outcomes of comparisons whose sides have a score of their own.

    Args:
        scores: [N, K, 2] f64.
        tie_margin: scores that differ by no more than this are a tie.

    Returns:
        [N, K] f64: 1, 1/2 or 0.
    """
    difference = scores[..., 0] - scores[..., 1]
    return np.where(np.abs(difference) <= tie_margin, 0.5, (difference > 0).astype(np.float64))


def rewards_of_files(compared: Compared) -> np.ndarray:
    """[N, K, 2] f64, the rewards that the files themselves hold.

    Raises:
        ValueError: for a completion without one.
    """
    for place, row in zip(compared.places, compared.sides, strict=True):
        if any(one.reward is None for pair in row for one in pair):
            raise ValueError(f"{place}: a completion has no 'reward' (--by, FIRST, SECOND).")
    found = [[[one.reward for one in pair] for pair in row] for row in compared.sides]
    return np.array(found, np.float64)


def scores_of_model(compared: Compared, model: Model, mesh: Mesh) -> np.ndarray:
    """[N, K, 2] f64, what a reward model says of each completion by itself.

    Raises:
        ValueError: for a model without a reward head, or a prompt that cannot be read.
    """
    config = model.network.config
    if config.head not in ("reward", "value") or config.head_outputs != 1:
        raise ValueError(
            f"The model has the head {config.head!r} with {config.head_outputs} outputs; one that "
            "scores completions has 'reward' with one (--reward-model)."
        )
    prompts, completions = [], []
    for record, place, row in zip(compared.records, compared.places, compared.sides, strict=True):
        prompt = _prompt(record, model, place)
        for pair in row:
            for one in pair:
                prompts.append(prompt.tokens)
                completions.append(model.text_format.completion(prompt, one.text, place))
    scores = in_passes(model, mesh, make_head_scores(model.network), prompts, completions)
    return scores.reshape(len(compared.sides), -1, 2).astype(np.float64)


def judged_outcomes(
    compared: Compared,
    model: Model,
    mesh: Mesh,
    *,
    question: str = QUESTION,
    answers: Sequence[str] = ANSWERS,
) -> tuple[np.ndarray, Figures]:
    """Outcomes by a language model that reads both completions, in both orders.

    In each order it prefers the side whose letter is likelier as the next token. The outcome is the
    mean over both orders: a judge that goes by the place alone says a tie.

    Args:
        compared: the completions.
        model: with a language model's head.
        mesh: of its parameters.
        question: with the fields {prompt}, {first} and {second}; the user's message where the
            model has a chat template, else a text that the model goes on from.
        answers: of the first and of the second place, each one token.

    Returns:
        [N, K] f64; and `position_agreement`, the share of comparisons that both orders say the same
        of, and `first_place_share`, how often the first place is preferred.

    Raises:
        ValueError: for a model of another head, an answer that is no single token, a question
            without its fields.
    """
    if model.network.config.head != "language_model":
        raise ValueError(
            f"The model has the head {model.network.config.head!r}; a judge is a language model "
            "(--judge)."
        )
    tokens = verdict_ids(model.text_format.tokenizer, answers, "--answers")
    asked = []
    for record, place, row in zip(compared.records, compared.places, compared.sides, strict=True):
        prompt = _prompt(record, model, place).text
        for one, other in row:
            for first, second in ((one, other), (other, one)):
                text = _filled(question, prompt=prompt, first=first.text, second=second.text)
                asked.append(_asked(model, text, place))
    verdicts = make_verdicts(model.network, tokens)
    empty: list[list[int]] = [[] for _ in asked]
    found = in_passes(model, mesh, verdicts, asked, empty)
    # How much the first place is preferred, in the first and in the second order: 1, 1/2 or 0.
    first = (1 + np.sign(found[:, 0] - found[:, 1]).astype(np.float64)) / 2
    first = first.reshape(len(compared.sides), -1, 2)
    # Of the second order the first place is the second side.
    outcomes = (first[..., 0] + 1 - first[..., 1]) / 2
    agreed = float((first[..., 0] + first[..., 1] == 1).mean())
    return outcomes, {"position_agreement": agreed, "first_place_share": float(first.mean())}


def _prompt(record: Mapping[str, Any], model: Model, place: str) -> Prompt:
    """The prompt as the model reads it.

    Raises:
        ValueError: for a line of evaluate.py, which holds the prompt as another model read it.
    """
    if any(name in record for name in EVALUATED):
        raise ValueError(
            f"{place} holds the prompt as the model that was evaluated read it, with its template: "
            "a model scores completions of launch/generate.py (FIRST, --by=reward)."
        )
    return prompt_of(record, model.text_format, where=place, field="FIRST")


def _asked(model: Model, text: str, place: str) -> list[int]:
    chat = model.text_format.template is not None
    value: Any = [{"role": "user", "content": text}] if chat else text
    return model.text_format.prompt(value, where=place, field="--question").tokens


def _filled(question: str, **values: str) -> str:
    """The question with its fields; what stands in braces inside of an answer stays."""
    text = question
    for name in values:
        if f"{{{name}}}" not in question:
            raise ValueError(f"The question lacks the field {{{name}}} (--question).")
    marks = {name: f"\x00{name}\x00" for name in values}
    for name, mark in marks.items():
        text = text.replace(f"{{{name}}}", mark)
    for name, mark in marks.items():
        text = text.replace(mark, values[name])
    return text
