"""Held-out pairs of a preference stage: what the policy ranks right, and what it could."""

from collections.abc import Callable, Sequence

import numpy as np

from rljax.data.batches import equal_batches
from rljax.data.pairs import SIDES
from rljax.data.rows import Record
from rljax.data.sources import place_of
from rljax.errors import typed
from rljax.models.network import Params
from rljax.parallel.host import to_host
from rljax.parallel.rules import put_rows
from rljax.training.pair_evaluation.ranking import (
    idealised_accuracies,
    ranked_right,
    required_loss,
)
from rljax.training.pair_evaluation.scores import accuracy
from rljax.training.run.context import Context
from rljax.training.update.logprobs import model_rows
from rljax.training.update.rows import Rows, per_sample

# Column of a pair: the share of people who prefer the chosen side.
SHARE = "preferred_share"


class PairEvaluation:
    """Log-probabilities of held-out pairs; those of the reference are computed once."""

    def __init__(
        self,
        context: Context,
        records: Sequence[Record],
        pairs_per_pass: int,
        rows_of: Callable[[list[Record]], Rows],
        score: Callable[[Params, Rows], np.ndarray],
        *,
        moving_reference: bool = False,
    ) -> None:
        """Reads the pairs.

        Args:
            context: of the stage.
            records: the held-out pairs.
            pairs_per_pass: pairs of one forward pass.
            rows_of: pairs to rows, two completions to each.
            score: (params, rows) to the log-probabilities of the completions' tokens.
            moving_reference: the reference changes, and is asked every time.
        """
        self.context, self.records, self.pairs = context, records, pairs_per_pass
        self.rows_of, self.score = rows_of, score
        self.shares = preferred_shares(records)
        self.reference: tuple[np.ndarray, np.ndarray] | None = None
        self.moving_reference = moving_reference

    def __call__(
        self, params: Params, reference: Params | None, beta: float | None
    ) -> dict[str, float]:
        """The metrics of `ranking_metrics`.

        Args:
            params: all parameters of the policy.
            reference: all of the frozen reference, where the stage has one.
            beta: of the objective, where it has one.
        """
        sums, lengths = self.logprobs(params)
        if reference is not None and (self.moving_reference or self.reference is None):
            self.reference = self.logprobs(reference)
        before = None if self.reference is None else self.reference[0]
        return ranking_metrics(sums, lengths, self.shares, before, beta)

    def logprobs(self, params: Params) -> tuple[np.ndarray, np.ndarray]:
        """Summed log-probabilities and lengths of both sides: [B, 2] each."""
        count, sums, lengths = len(self.records), [], []
        for index in equal_batches(count, self.pairs):
            rows = self.rows_of([{**self.records[i], "id": i} for i in index])
            placed = put_rows(model_rows(rows), self.context.mesh)
            mask = per_sample(rows["mask"])
            logprobs = per_sample(to_host(self.score(params, placed)))
            sums.append(np.where(mask, logprobs, 0.0).sum(axis=-1).reshape(-1, len(SIDES)))
            lengths.append(mask.sum(axis=-1).reshape(-1, len(SIDES)))
        return np.concatenate(sums)[:count], np.concatenate(lengths)[:count]


def ranking_metrics(
    sums: np.ndarray,
    lengths: np.ndarray,
    shares: np.ndarray,
    reference: np.ndarray | None,
    beta: float | None,
) -> dict[str, float]:
    """Ranking accuracy, and with a reference what it could be (arXiv:2405.19534).

    Pairs with an empty side say nothing, and those that people are divided on have no right order:
    both are left out.

    Args:
        sums: [B, 2] f32, log-probabilities under the policy, chosen first.
        lengths: [B, 2] i32, tokens.
        shares: [B] f32, of people who prefer the chosen side.
        reference: [B, 2] f32, as `sums`, under the reference.
        beta: of the objective.
    """
    kept = (lengths > 0).all(axis=1) & (shares != 0.5)
    if not kept.any():
        return {}
    sums, lengths, shares = sums[kept], lengths[kept], shares[kept]
    found = _of_ranks("ranking_accuracy", ranked_right(*sums.T), ranked_right(*(sums / lengths).T))
    if reference is None:
        return found
    before = reference[kept]
    wrong = ~ranked_right(*before.T)
    changes = sums - before
    found["reward_accuracy"] = accuracy(*changes.T)
    found["reference_ranking_accuracy"] = float(1.0 - wrong.mean())
    if wrong.any():
        found["flipped_share"] = float(ranked_right(*sums[wrong].T).mean())
    for suffix, scale in (("", 1.0), ("_per_token", lengths)):
        ideal = idealised_accuracies(*(before / scale).T, shares)
        for name, value in zip(
            ("lowest", "median", "highest"), np.quantile(ideal, (0, 0.5, 1)), strict=True
        ):
            found[f"idealised_ranking_accuracy{suffix}/{name}"] = float(value)
    if beta is not None:
        found["required_loss"] = float(required_loss(*before.T, beta).mean())
    return found


def _of_ranks(name: str, whole: np.ndarray, per_token: np.ndarray) -> dict[str, float]:
    return {name: float(whole.mean()), f"{name}_per_token": float(per_token.mean())}


def preferred_shares(records: Sequence[Record]) -> np.ndarray:
    """The column `preferred_share` of pairs, 1 where a pair has none: [B] f32.

    Raises:
        ValueError: for a value that is no number in [0.5, 1], with its row.
    """
    shares = np.ones(len(records))
    for index in range(len(records)):
        value = records[index].get(SHARE)
        if value is None:
            continue
        number = isinstance(value, int | float) and not isinstance(value, bool)
        # Below a half the other side would be the preferred one, and every accuracy inverted.
        if not number or not 0.5 <= value <= 1:
            raise ValueError(
                f"{place_of(records, index)}: the column {SHARE!r} must be a number in [0.5, 1], "
                f"got {typed(value)}."
            )
        shares[index] = value
    return shares
