"""How likely a diffusion model finds held-out demonstrations: its bound, on more draws of masks.

Every evaluation draws the same masks, so that two checkpoints differ by their weights alone.
"""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from rljax.config.stage import Stage
from rljax.data.batches import equal_batches
from rljax.data.packing import Example
from rljax.models.network import Params
from rljax.parallel.host import to_host
from rljax.parallel.rules import put_rows
from rljax.sampling.distribution import TokenFilter
from rljax.training.run.context import Context
from rljax.training.update.likelihood import likelihood_of, likelihood_rows
from rljax.training.update.logprobs import model_rows
from rljax.training.update.rows import Rows

# LLaDA takes 128 for the likelihood of one text; here the mean is over many.
DRAWS = 16


class BoundEvaluator:
    """Scores held-out demonstrations, each with so many draws of a number of hidden tokens."""

    def __init__(
        self,
        context: Context,
        stage: Stage,
        examples: Sequence[Example],
        rows_of: Callable[[Sequence[Example]], Rows],
    ) -> None:
        """Compiles nothing yet.

        Args:
            context: its network is the one that is judged.
            stage: supervised, with a likelihood that draws masks.
            examples: held-out demonstrations, on their canvas.
            rows_of: rows of a batch, one for each example, without keys.
        """
        self.context, self.examples, self.rows_of = context, examples, rows_of
        fields = {**stage.objective.values, "masking": "uniform_count", "mask_draws": DRAWS}
        objective = dataclasses.replace(stage.objective, values=fields)
        likelihood = likelihood_of(dataclasses.replace(stage, objective=objective))
        self.score = context.jit_score(TokenFilter(), micro_batches=1, likelihood=likelihood)

    def __call__(self, params: Params) -> dict[str, float]:
        """`heldout_bound`, nats: the sum of the bounds divided by the number of their tokens.

        Args:
            params: all parameters.
        """
        count, size = len(self.examples), self.context.config.evaluation.prompts_per_batch
        found = [self._batch(params, indices) for indices in equal_batches(count, size)]
        bounds, tokens = (np.concatenate(parts)[:count] for parts in zip(*found, strict=True))
        return {"heldout_bound": float(bounds.sum() / tokens.sum())}

    def _batch(self, params: Params, indices: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """The bound of each example, [N], and its number of tokens."""
        ids = np.asarray(indices)
        rows = self.rows_of([self.examples[index] for index in indices])
        rows |= likelihood_rows(self.context.config.seed, 0, ids, np.zeros_like(ids))
        logprobs = to_host(self.score(params, put_rows(model_rows(rows), self.context.mesh)))
        bounds = np.where(rows["mask"], logprobs, 0.0).sum(axis=1, dtype=np.float64)
        return bounds, rows["mask"].sum(axis=1)
