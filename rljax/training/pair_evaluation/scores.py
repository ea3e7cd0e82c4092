"""What its scores of held-out pairs say of a reward model: accuracy, calibration, where it errs.

Everything is computed on the host; a model's difference of scores d claims that the chosen side
wins with probability sigmoid(d) (Bradley-Terry).
"""

import numpy as np

CALIBRATION_BINS = 10
QUARTERS = 4
# Completions of which all pairs are compared, and partners of each where there are more.
ALL_COMPARED = 500
PARTNERS = 16


def accuracy(chosen: np.ndarray, rejected: np.ndarray) -> float:
    """Share of pairs whose chosen side scores higher, strictly; NaN without pairs."""
    return float(np.mean(chosen > rejected)) if len(chosen) else float("nan")


def calibration_error(margins: np.ndarray, bins: int = CALIBRATION_BINS) -> float:
    """Expected calibration error of sigmoid(margin), between 0 and 1.

        error = sum_b n_b / n * | share of pairs that are right - mean confidence |

    A pair's confidence is the probability of the side that the model prefers, sigmoid(|margin|); it
    is right where that side is the chosen one. Bins have equal widths between 1/2 and 1.

    Args:
        margins: [B] f32, score of the chosen side minus that of the rejected one.
        bins: number of bins.

    Returns:
        NaN without pairs.
    """
    margins = np.asarray(margins, np.float64)
    if not len(margins):
        return float("nan")
    confidence = 1.0 / (1.0 + np.exp(-np.abs(margins)))
    right = margins > 0
    place = np.minimum(((confidence - 0.5) * 2 * bins).astype(int), bins - 1)
    gap = np.bincount(place, right - confidence, minlength=bins)
    return float(np.abs(gap).sum() / len(margins))


def accuracy_by_margin(margins: np.ndarray) -> dict[str, float]:
    """Accuracy in quarters of the pairs, by how sure the model is.

    Args:
        margins: [B] f32, as for `calibration_error`.

    Returns:
        `accuracy_by_margin/1` (the smallest |margin|) to `/4`; nothing for fewer than four pairs.
    """
    if len(margins) < QUARTERS:
        return {}
    order = np.argsort(np.abs(margins), kind="stable")
    parts = enumerate(np.array_split(np.asarray(margins)[order] > 0, QUARTERS), 1)
    return {f"accuracy_by_margin/{number}": float(part.mean()) for number, part in parts}


def accuracy_by_length(
    margins: np.ndarray, chosen_lengths: np.ndarray, rejected_lengths: np.ndarray
) -> dict[str, float]:
    """Accuracy where the chosen side is the longer one, and where it is the shorter one.

    A model that goes by length is right in the one and wrong in the other.

    Args:
        margins: [B] f32, as for `calibration_error`.
        chosen_lengths: [B] i32, tokens.
        rejected_lengths: [B] i32, tokens.

    Returns:
        `accuracy_by_length/longer` and `/shorter`, each where there are such pairs.
    """
    right, more = margins > 0, chosen_lengths - rejected_lengths
    groups = {"longer": right[more > 0], "shorter": right[more < 0]}
    return {f"accuracy_by_length/{k}": float(v.mean()) for k, v in groups.items() if len(v)}


def judged_pairs(
    chosen: np.ndarray,
    rejected: np.ndarray,
    chosen_lengths: np.ndarray,
    rejected_lengths: np.ndarray,
) -> dict[str, float]:
    """What is logged of held-out pairs; arguments [B], see above."""
    margins = chosen - rejected
    return {
        "reward_accuracy": accuracy(chosen, rejected),
        "reward_margin": float(margins.mean()) if len(margins) else float("nan"),
        "calibration_error": calibration_error(margins),
        **accuracy_by_margin(margins),
        **accuracy_by_length(margins, chosen_lengths, rejected_lengths),
    }


def judged_labels(scores: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """What is logged of held-out labelled completions, good where the score is positive.

    Args:
        scores: [B] f32; sigmoid(score) claims to be the probability of a good label.
        labels: [B] bool.
    """
    towards = np.where(labels, scores, -scores)
    return {
        "reward_accuracy": float((towards > 0).mean()),
        "calibration_error": calibration_error(towards),
        **accuracy_by_margin(towards),
        **balanced_accuracy(towards, labels),
        **area_under_curve(scores, labels),
    }


def balanced_accuracy(towards: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """The mean of the accuracies on good and on bad completions; {} where one kind lacks.

    With nine good labels in ten, a model that calls everything good has 0.9 of plain accuracy, and
    0.5 of this one (RATE-FT, arXiv:2505.12265).

    Args:
        towards: [B] f32, > 0 where the score says what the label says.
        labels: [B] bool.
    """
    if labels.all() or not labels.any():
        return {}
    right = towards > 0
    return {"balanced_accuracy": float((right[labels].mean() + right[~labels].mean()) / 2)}


def judged_steps(scores: np.ndarray, labels: np.ndarray, ends: np.ndarray) -> dict[str, float]:
    """What is logged of held-out answers with a label for each step.

    Of single steps as of labelled completions. `first_error_accuracy` is the share of answers of
    which the first step with a score that is not positive is the first wrong one, or there is
    neither (ProcessBench, arXiv:2412.06559). `outcome_auroc` compares whole answers: is the lowest
    score of an answer whose steps are all right above that of another one.

    Args:
        scores: [B, T] f32, read where a step ends.
        labels: [B, T] bool, the same.
        ends: [B, T] bool, at least one in a row.
    """
    positive = scores > 0
    errors, found = (np.where(ends, ~array, False) for array in (labels, positive))
    same = np.where(
        errors.any(axis=1) & found.any(axis=1),
        errors.argmax(axis=1) == found.argmax(axis=1),
        errors.any(axis=1) == found.any(axis=1),
    )
    right = ~errors.any(axis=1)
    lowest = np.where(ends, scores, np.inf).min(axis=1)
    whole = area_under_curve(lowest, right)
    return {
        **judged_labels(scores[ends], labels[ends]),
        "first_error_accuracy": float(same.mean()),
        **{f"outcome_{name}": value for name, value in whole.items()},
    }


def area_under_curve(scores: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """`auroc`: the chance that a good completion scores above a bad one, a tie counting half.

    Args:
        scores: [B] f32.
        labels: [B] bool.

    Returns:
        Nothing where all labels are alike.
    """
    good, bad = np.sort(scores[labels]), np.sort(scores[~labels])
    if not len(good) or not len(bad):
        return {}
    below = np.searchsorted(bad, good, side="left") + np.searchsorted(bad, good, side="right")
    return {"auroc": float(below.sum() / (2 * len(good) * len(bad)))}


def judged_ratings(
    scores: np.ndarray, ratings: np.ndarray, present: np.ndarray, lengths: np.ndarray
) -> dict[str, float]:
    """What is logged of held-out completions with ratings: every comparison is a pair.

    Completions of one prompt are compared; where no prompt has two of different ratings, those of
    different prompts are (`comparisons_of_all`).

    Args:
        scores: [B, K] f32.
        ratings: [B, K] f32.
        present: [B, K] bool.
        lengths: [B, K] i32, tokens.
    """
    better, worse = _comparisons(ratings, present)
    if not len(better):
        better, worse = comparisons_of_all(ratings.reshape(-1), present.reshape(-1))
    flat, tokens = scores.reshape(-1), lengths.reshape(-1)
    found = judged_pairs(flat[better], flat[worse], tokens[better], tokens[worse])
    gap = (scores - ratings)[present]
    return found | {"squared_error": float(np.mean(gap**2))}


def _comparisons(ratings: np.ndarray, present: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Indices into the flat array of the better and the worse completion of each pair."""
    both = present[:, :, None] & present[:, None, :]
    row, better, worse = np.nonzero(both & (ratings[:, :, None] > ratings[:, None, :]))
    count = ratings.shape[1]
    return row * count + better, row * count + worse


def comparisons_of_all(ratings: np.ndarray, present: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of completions of different ratings, whatever their prompts.

    All pairs of up to `ALL_COMPARED` completions; of more, each with `PARTNERS` others in an order
    that is always the same, so that the work grows with their number and no faster.

    Args:
        ratings: [N] f32.
        present: [N] bool.

    Returns:
        [P] i64 each: the better and the worse completion of a pair.
    """
    index = np.flatnonzero(present)
    if len(index) <= ALL_COMPARED:
        one, other = (index[side] for side in np.triu_indices(len(index), 1))
    else:
        order = np.random.default_rng(0).permutation(index)
        one = np.tile(order, PARTNERS)
        other = np.concatenate([np.roll(order, shift) for shift in range(1, PARTNERS + 1)])
    differ = ratings[one] != ratings[other]
    one, other = one[differ], other[differ]
    first = ratings[one] > ratings[other]
    return np.where(first, one, other), np.where(first, other, one)
