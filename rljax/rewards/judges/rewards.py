"""Rewards that a language model gives: a score of one answer, or which of two is better."""

from typing import Any

from rljax.rewards.judges.answers import expected_score, last_score, verdict
from rljax.rewards.judges.client import Judge, ask
from rljax.rewards.judges.options import with_judge
from rljax.rewards.judges.questions import (
    PAIR_ANSWERS,
    PAIR_QUESTION,
    SCORE_QUESTION,
    filled,
    pair_values,
    score_values,
)
from rljax.rewards.references import gold_text
from rljax.rewards.user_rewards import FIELD


@with_judge(max_tokens=1)
def judge_score(
    prompt: str,
    completion: str,
    reference: Any,
    *,
    judge: Judge,
    question: str = SCORE_QUESTION,
    rubric: str = "",
    lowest: int = 0,
    highest: int = 9,
    expected: bool = True,
) -> float:
    """A judge's score of the completion, asked at an OpenAI-compatible address (2603.12246).

    Args:
        prompt: shown to the judge.
        completion: shown to the judge.
        reference: not read.
        judge: the config gives its fields one by one (`address`, `model` and so on).
        question: {prompt}, {completion}, {rubric}, {lowest} and {highest} are filled in.
        rubric: what a good answer is.
        lowest: score.
        highest: score.
        expected: the mean over the scores that it might have written, which hardly ever ties; else
            the score that it wrote.

    Raises:
        JudgeError: if it cannot be reached, or its answer has no score.
    """
    values = score_values(prompt, completion, rubric, lowest, highest)
    choice = ask(judge, [{"role": "user", "content": filled(question, values)}])
    if expected:
        return expected_score(choice, lowest, highest)
    return float(last_score(choice["message"]["content"], lowest, highest))


@with_judge(max_tokens=4)
def judge_pair(
    prompt: str,
    completion: str,
    reference: Any,
    *,
    judge: Judge,
    question: str = PAIR_QUESTION,
    rubric: str = "",
) -> float:
    """1.0 if a judge prefers the completion to the reference answer in both orders, 0.0 if in none.

    A judge that goes by the place alone, and prefers it in one order, gives 0.5.

    Args:
        prompt: shown to the judge.
        completion: shown to the judge.
        reference: the answer that it is compared with.
        judge: the config gives its fields one by one (`address`, `model` and so on).
        question: {prompt}, {first}, {second} and {rubric} are filled in; it is answered A or B.
        rubric: what a good answer is.

    Raises:
        JudgeError: if it cannot be reached, or answers neither A nor B.
    """
    other, wins = gold_text(reference), 0
    for own in (0, 1):
        first, second = (completion, other) if own == 0 else (other, completion)
        values = pair_values(prompt, first, second, rubric)
        choice = ask(judge, [{"role": "user", "content": filled(question, values)}])
        wins += verdict(choice["message"]["content"], PAIR_ANSWERS) == own
    return wins / 2


# Requests of a sample, one after the other.
REQUESTS = {"judge_score": 1, "judge_pair": 2}


def check_options(
    name: str, sample_seconds: float, *, address: str, model: str, **options: Any
) -> None:
    """Raises ValueError for options that cannot work.

    Args:
        name: of the reward.
        sample_seconds: time limit of a sample.
        address: of the judge.
        model: of the judge.
        options: the others.
    """
    where = f"{FIELD}[{name}].options"
    if not address.startswith(("http://", "https://")):
        raise ValueError(f"address must begin with http:// or https://, got {address!r} ({where}).")
    lowest, highest = options.get("lowest", 0), options.get("highest", 9)
    if not lowest < highest or (options.get("expected", True) and not 0 <= lowest < highest <= 9):
        raise ValueError(
            f"Scores must be from lowest to highest, of one digit each where they are expected "
            f"ones, got {lowest=}, {highest=} ({where})."
        )
    limits = {key: options[key] for key in ("timeout_seconds", "retries") if key in options}
    judge = Judge(address, model, **limits)
    if not judge.timeout_seconds > 0 or judge.retries < 0:
        raise ValueError(f"timeout_seconds must be > 0 and retries >= 0, got {limits} ({where}).")
    needed = REQUESTS[name] * judge.longest_seconds
    if needed > sample_seconds:
        raise ValueError(
            f"The judge may take {needed:g} s with all attempts, and a sample has "
            f"{sample_seconds:g} s: raise config.scoring.timeout_seconds, or lower timeout_seconds "
            f"or retries ({where})."
        )


def nothing_to_prepare(**options: Any) -> None:
    """Nothing is done before the first sample."""
