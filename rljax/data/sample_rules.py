"""Which samples of a prompt become a preference pair, or a labelled completion: rules by name.

A rule sees the K usable samples of one prompt, in the order in which they were drawn. The score of
a sample is the stage's reward: that of its reward model, where it names one, else the composed
rewards of config.scoring. Right and wrong is what the verifier says.

    pairs                    chosen, rejected
    first_right_first_wrong  the first right one, the first wrong one (arXiv:2404.19733, section 2)
    random_right_wrong       some of all combinations of a right and a wrong one (the same paper)
    best_worst               highest and lowest score (TRL's OnlineDPO, which draws two; Llama 3;
                             Self-Rewarding, arXiv:2401.10020)
    best_random              highest score, any of a lower one (Zephyr, arXiv:2310.16944)
    all_above_margin         all two whose scores differ enough, those that differ most first
    top_lower                each of the k best, any of a lower score that is not among them (FenCE,
                             arXiv:2410.18359)

    constrained              highest score among those that satisfy all constraints, lowest score
                             among those that do not, or of all where all do (CODPO, 2409.20370)

    labels                   good, bad
    right                    right, wrong
    above_mean               above the mean of the prompt's scores, below it
    best_worst               highest score, lowest score
    above_threshold          above a number, all others

A sample that did not end is left out, or counts as the worst of its prompt (`UNFINISHED`). Where
such samples are never rejected a policy that learns from its own may unlearn to end: both sides of
every pair end, and the loss says nothing of what does not.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np


class Candidates(NamedTuple):
    """The K usable samples of a prompt.

    Attributes:
        scores: [K] f32; -inf of a sample that did not end, where it is the worst.
        right: [K] bool.
        wrong: [K] bool; a sample without a verdict is neither.
        satisfied: [K] bool, all constraints are satisfied; None where there are none.
    """

    scores: np.ndarray
    right: np.ndarray
    wrong: np.ndarray
    satisfied: np.ndarray | None = None


class PairOptions(NamedTuple):
    """What rules of pairs read besides the samples.

    Attributes:
        margin: >= 0; the scores of a pair differ by more than this.
        most: pairs of a prompt, for rules that find several.
        draw: random numbers of this prompt, for rules that choose at random.
    """

    margin: float
    most: int
    draw: np.random.Generator


Pairs = list[tuple[int, int]]  # places of the chosen and of the rejected sample


def pairs_by_rule(rule: str, found: Candidates, options: PairOptions) -> Pairs:
    """The pairs of one prompt, by a rule of `PAIR_RULES`; [] where there is none."""
    return PAIR_RULES[rule](found, options)


def labels_by_rule(rule: str, found: Candidates, threshold: float) -> list[bool | None]:
    """A label for each sample of one prompt, by a rule of `LABEL_RULES`; None leaves it out."""
    return LABEL_RULES[rule](found, threshold)


def _first_right_first_wrong(found: Candidates, options: PairOptions) -> Pairs:
    right, wrong = np.flatnonzero(found.right), np.flatnonzero(found.wrong)
    return [(int(right[0]), int(wrong[0]))] if len(right) and len(wrong) else []


def _random_right_wrong(found: Candidates, options: PairOptions) -> Pairs:
    right, wrong = np.flatnonzero(found.right), np.flatnonzero(found.wrong)
    count = len(right) * len(wrong)
    chosen = options.draw.permutation(count)[: options.most]
    return [(int(right[n // len(wrong)]), int(wrong[n % len(wrong)])) for n in chosen]


def _best_worst(found: Candidates, options: PairOptions) -> Pairs:
    if not len(found.scores):
        return []
    return _apart(found, [(int(found.scores.argmax()), int(found.scores.argmin()))], options)


def _best_random(found: Candidates, options: PairOptions) -> Pairs:
    if not len(found.scores):
        return []
    best = int(found.scores.argmax())
    pairs = _apart(found, [(best, other) for other in range(len(found.scores))], options)
    return [pairs[options.draw.integers(len(pairs))]] if pairs else []


def _all_above_margin(found: Candidates, options: PairOptions) -> Pairs:
    count = range(len(found.scores))
    pairs = _apart(found, [(i, j) for i in count for j in count], options)
    pairs.sort(key=lambda pair: -_difference(found, pair))  # stable: of equals the first
    return pairs[: options.most]


def _top_lower(found: Candidates, options: PairOptions) -> Pairs:
    order = np.argsort(-found.scores, kind="stable").tolist()
    top, others = order[: options.most], order[options.most :]
    pairs = []
    for best in top:
        lower = _apart(found, [(best, other) for other in others], options)
        pairs += [lower[options.draw.integers(len(lower))]] if lower else []
    return pairs


def _constrained(found: Candidates, options: PairOptions) -> Pairs:
    kept, violating = np.flatnonzero(found.satisfied), np.flatnonzero(~found.satisfied)
    if not len(kept):
        return []
    best = int(kept[found.scores[kept].argmax()])
    if len(violating):
        return [(best, int(violating[found.scores[violating].argmin()]))]
    return _apart(found, [(best, int(found.scores.argmin()))], options)


def _apart(found: Candidates, pairs: Pairs, options: PairOptions) -> Pairs:
    """The pairs whose scores differ by more than the margin, the chosen one's being higher."""
    return [pair for pair in pairs if _difference(found, pair) > options.margin]


def _difference(found: Candidates, pair: tuple[int, int]) -> float:
    chosen, rejected = (float(found.scores[place]) for place in pair)
    return chosen - rejected if chosen > rejected else 0.0


def _right(found: Candidates, threshold: float) -> list[bool | None]:
    return _either(found.right, found.wrong)


def _above_mean(found: Candidates, threshold: float) -> list[bool | None]:
    scores = found.scores.astype(np.float64)
    ended = scores[np.isfinite(scores)]
    # The mean of equal numbers may be off by a rounding error.
    differ = len(ended) > 0 and ended.max() > ended.min()
    mean = ended.mean() if differ else 0.0
    return _either(differ & (scores > mean), differ & (scores < mean) | np.isneginf(scores))


def _best_and_worst(found: Candidates, threshold: float) -> list[bool | None]:
    labels: list[bool | None] = [None] * len(found.scores)
    if len(labels) and found.scores.max() > found.scores.min():
        labels[int(found.scores.argmax())] = True
        labels[int(found.scores.argmin())] = False
    return labels


def _above_threshold(found: Candidates, threshold: float) -> list[bool | None]:
    above = found.scores > threshold
    return _either(above, ~above)


def _either(good: Sequence[bool], bad: Sequence[bool]) -> list[bool | None]:
    return [True if yes else False if no else None for yes, no in zip(good, bad, strict=True)]


PAIR_RULES: dict[str, Callable[[Candidates, PairOptions], Pairs]] = {
    "first_right_first_wrong": _first_right_first_wrong,
    "random_right_wrong": _random_right_wrong,
    "best_worst": _best_worst,
    "best_random": _best_random,
    "all_above_margin": _all_above_margin,
    "top_lower": _top_lower,
    "constrained": _constrained,
}
LABEL_RULES: dict[str, Callable[[Candidates, float], list[bool | None]]] = {
    "right": _right,
    "above_mean": _above_mean,
    "best_worst": _best_and_worst,
    "above_threshold": _above_threshold,
}

# What becomes of samples that did not end.
UNFINISHED = ("left_out", "worst")

# Rules that go by the verifier alone: they never read a score.
OF_VERDICTS = frozenset({"first_right_first_wrong", "random_right_wrong", "right"})
# Rules that ask whether a sample satisfies the constraints of config.scoring.
OF_CONSTRAINTS = frozenset({"constrained"})
# Rules of pairs that find several for a prompt.
SEVERAL = frozenset({"random_right_wrong", "all_above_margin", "top_lower"})
