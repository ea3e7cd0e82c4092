"""Rewards: functions (prompt, completion, reference) -> float, or (float, feedback).

Feedback is what a reward says of a sample in words, for a teacher that is told of it; a text or
None.

Keyword-only arguments are a reward's options, set in its config entry. Three names are special: a
reward with a keyword `completion_tokens` is given the number of sampled tokens (lengths are counted
in tokens, and not in characters), one with a keyword `right` is told whether the sample is right by
the rewards that stand before it, one with a keyword `episode` is given what became of the episode
whose last reply the completion is (episodes/record.py). A reward must be deterministic. A user's
own reward is named "path/to/file.py:function" and follows the same rules.
"""

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from rljax.errors import unknown_name
from rljax.rewards.actions import shop_action
from rljax.rewards.answers import answer_text, ends_with_one_tag, last_tagged
from rljax.rewards.code import reward as code
from rljax.rewards.countdown import countdown, countdown_boxed
from rljax.rewards.instructions.reward import instructions
from rljax.rewards.judges.agreement import score_agreement
from rljax.rewards.judges.rewards import (
    REQUESTS,
    check_options,
    judge_pair,
    judge_score,
    nothing_to_prepare,
)
from rljax.rewards.lengths import boxed_in_thinking, cosine_length, length
from rljax.rewards.math_strings import math_string, math_tags_format
from rljax.rewards.mathematics.reward import math
from rljax.rewards.reasoning_tags import (
    integer_answer,
    tagged_correctness,
    xml_count,
    xml_soft_format,
    xml_strict_format,
)
from rljax.rewards.references import gold_texts
from rljax.rewards.stacks.table import STACK_REWARDS
from rljax.rewards.sudoku import sudoku, sudoku_cells, sudoku_valid_grid
from rljax.rewards.symbols import symbols
from rljax.rewards.text_metrics.rewards import bleu, chrf, rouge
from rljax.rewards.tool_calls import tool_call
from rljax.rewards.user_rewards import FIELD, find_user_reward, is_user_reward
from rljax.tasks import reasoning_gym as gym

Reward = Callable[..., float | tuple[float, str | None]]

# The keywords that the scorer fills in; never options.
COMPLETION_TOKENS = "completion_tokens"
RIGHT = "right"
EPISODE = "episode"
FILLED_IN = (COMPLETION_TOKENS, RIGHT, EPISODE)


def reasoning_gym(
    prompt: str, completion: str, reference: Any, *, binary: bool = True, tag: str = "answer"
) -> float:
    """Scores the last <answer>...</answer> with the task's own scorer; no tag scores 0.

    Args:
        prompt: not read.
        completion: the model's text.
        reference: of `rljax.tasks.reasoning_gym`.
        binary: 1.0 for a full score, else 0.0. The package's partial credit rewards copying the
            clues, or padding the gold answer.
        tag: name of the answer tag.
    """
    answer = last_tagged(completion, tag)
    if answer is None:  # some of the package's scorers give credit for None
        return 0.0
    score = gym.score(answer, reference)
    return float(score == 1.0) if binary else score


def exact_match(
    prompt: str,
    completion: str,
    reference: Any,
    *,
    tag: str | None = None,
    ignore_case: bool = False,
) -> float:
    """1.0 if the stripped text equals the stripped gold answer, or one of several.

    Args:
        prompt: not read.
        completion: the model's text.
        reference: the gold answer, see `rljax.rewards.references.gold_texts`.
        tag: compare the content of the last such tag (no tag scores 0); None: the whole text.
        ignore_case: compare without case.
    """
    golds = [text.strip() for text in gold_texts(reference)]
    answer = answer_text(completion, tag)
    if answer is None:
        return 0.0
    if ignore_case:
        return float(answer.casefold() in map(str.casefold, golds))
    return float(answer in golds)


def format_reward(prompt: str, completion: str, reference: Any, *, tag: str = "answer") -> float:
    """1.0 if the text ends with a non-empty <tag>...</tag> that is its only one."""
    return float(ends_with_one_tag(completion, tag))


def environment(prompt: str, completion: str, reference: Any, *, episode: Mapping) -> float:
    """What the environment gave for all turns of an episode, added up.

    Args:
        prompt: not read.
        completion: not read.
        reference: not read.
        episode: see environments/record.py.
    """
    return float(sum(turn["reward"] for turn in episode["turns"]))


REWARDS: dict[str, Reward] = {
    "environment": environment,
    "reasoning_gym": reasoning_gym,
    "math": math,
    "exact_match": exact_match,
    "format": format_reward,
    "length": length,
    "cosine_length": cosine_length,
    "boxed_in_thinking": boxed_in_thinking,
    "symbols": symbols,
    "countdown": countdown,
    "countdown_boxed": countdown_boxed,
    "sudoku": sudoku,
    "sudoku_cells": sudoku_cells,
    "sudoku_valid_grid": sudoku_valid_grid,
    "xml_count": xml_count,
    "xml_soft_format": xml_soft_format,
    "xml_strict_format": xml_strict_format,
    "integer_answer": integer_answer,
    "tagged_correctness": tagged_correctness,
    "math_string": math_string,
    "math_tags_format": math_tags_format,
    "tool_call": tool_call,
    "shop_action": shop_action,
    "bleu": bleu,
    "chrf": chrf,
    "rouge": rouge,
    "instructions": instructions,
    "judge_score": judge_score,
    "judge_pair": judge_pair,
    "score_agreement": score_agreement,
    "python_tests": code.python_tests,
    **STACK_REWARDS,
}

# Imported when a worker starts, so that no sample's time pays for it.
WARM_IMPORTS = {
    "reasoning_gym": "reasoning_gym",
    "math": "math_verify",
    **dict.fromkeys(STACK_REWARDS, "latex2sympy2_extended"),
}


class Preparation(NamedTuple):
    """What a reward does besides scoring.

    Attributes:
        check: (time limit of a sample, options) -> raises ValueError before a run starts.
        prepare: (options) -> what a scoring process does before its first sample.
    """

    check: Callable[..., None]
    prepare: Callable[..., None]


# Rewards that need something outside of this process.
PREPARED = {
    "python_tests": Preparation(code.check_options, code.prepare),
    **{
        name: Preparation(functools.partial(check_options, name), nothing_to_prepare)
        for name in REQUESTS
    },
}

# The value from which a sample is right, where it is not 1.0 (config key "right_at").
RIGHT_AT = {"tagged_correctness": 2.0, "math_string": 2.0}


def find_reward(name: str) -> Reward:
    """Returns the reward of that name, or the user's function for "path/to/file.py:function".

    Raises:
        ValueError: unknown name, missing file or function, or parameters that are no reward's.
    """
    if name in REWARDS:
        return REWARDS[name]
    if not is_user_reward(name):
        raise unknown_name("reward", name, [*REWARDS, "path/to/file.py:function"], FIELD)
    return find_user_reward(name)


def option_defaults(function: Reward) -> dict[str, Any]:
    """Returns a reward's options and their defaults; `inspect.Parameter.empty` if required."""
    return {
        p.name: p.default
        for p in inspect.signature(function).parameters.values()
        if p.kind is p.KEYWORD_ONLY and p.name not in FILLED_IN
    }


def filled_in(function: Reward) -> frozenset[str]:
    """Which of `FILLED_IN` the scorer must pass."""
    return frozenset(FILLED_IN) & inspect.signature(function).parameters.keys()
