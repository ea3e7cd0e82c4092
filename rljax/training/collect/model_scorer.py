"""What one reward model says of rows of samples: at their ends, of their steps, or by a verdict."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from rljax.data.batches import equal_batches
from rljax.data.step_ends import reduce_steps, step_ends
from rljax.data.tokenizers import Tokenizer
from rljax.models.network import Network, Params
from rljax.parallel.host import to_host
from rljax.parallel.rules import batch_sharding, put_rows
from rljax.training.run.models import Model
from rljax.training.update.rows import Rows, take_rows
from rljax.training.update.sequence_scores import make_head_scores, make_token_scores
from rljax.training.update.verdicts import make_verdict_scores, verdict_ids


class ModelScorer:
    """One frozen model that scores.

    fields          the score of a sample
    -               the head's score at its last token
    step_score      the head's scores at the ends of its steps are probabilities that these are
                    right, sigmoid(score); the last, the lowest, their mean or their product
    question        log p(good) - log p(bad), of the token that a language model writes behind
                    the sample and the question
    """

    def __init__(
        self,
        model: Model,
        fields: Mapping[str, Any],
        tokenizer: Tokenizer,
        mesh: Mesh,
        rows_per_pass: int,
        where: str,
    ) -> None:
        """Makes `program`, (params, rows) -> what the model says of them; nothing is compiled yet.

        Args:
            model: with its parameters.
            fields: of the stage's role (config/schema_stage.py).
            tokenizer: of the run.
            mesh: of the trainer.
            rows_per_pass: rows that are scored at once.
            where: path of the role in the config, for errors.
        """
        self.params, self.mesh, self.rows_per_pass = model.params, mesh, rows_per_pass
        self.step_score, self.separator = fields["step_score"], fields["step_separator"]
        self.token_bytes = tokenizer.token_bytes() if self.step_score else []
        self.question = tokenizer.encode_inside(fields["question"]) if fields["question"] else []
        verdicts = None
        if self.question:
            verdicts = verdict_ids(tokenizer, fields["verdicts"], f"{where}.verdicts")
        self.program = jax.jit(
            self._made(model.network, verdicts),
            in_shardings=(model.shardings(mesh), batch_sharding(mesh)),
            out_shardings=batch_sharding(mesh),
        )

    def _made(
        self, network: Network, verdicts: tuple[int, int] | None
    ) -> Callable[[Params, Rows], jax.Array]:
        if verdicts is not None:
            return make_verdict_scores(network, verdicts)
        return make_token_scores(network) if self.step_score else make_head_scores(network)

    def __call__(self, rows: Rows) -> np.ndarray:
        """[N] f32, the scores of separate rows (training/update/rows.py)."""
        asked = with_question(rows, self.question) if self.question else rows
        found = self._in_passes(asked)
        if not self.step_score:
            return found
        tokens = rows["tokens"][:, -rows["mask"].shape[1] :]
        ends = step_ends(tokens, rows["mask"], self.token_bytes, self.separator)
        # An answer without a token has no step; what it has is the state behind its prompt.
        return reduce_steps(1 / (1 + np.exp(-found.astype(np.float64))), ends, self.step_score)

    def _in_passes(self, rows: Rows) -> np.ndarray:
        """What the model says of the rows, [N] or [N, T]."""
        count, size = len(rows["mask"]), self.rows_per_pass
        passes = [
            self.program(self.params, put_rows(take_rows(rows, np.array(index)), self.mesh))
            for index in equal_batches(count, size)
        ]
        shape = rows["mask"].shape[1:] if self.step_score else ()
        return np.concatenate([np.zeros((0, *shape), np.float32), *to_host(passes)])[:count]


def with_question(rows: Rows, question: list[int]) -> Rows:
    """Separate rows with a question behind each completion, whatever its length.

    Args:
        rows: tokens, positions, segment_ids [N, S] i32 and mask [N, T] bool.
        question: Q ids.

    Returns:
        The same with S + Q and T + Q slots.
    """
    mask, asked = rows["mask"], np.asarray(question, np.int32)
    count, lead = len(mask), rows["tokens"].shape[1] - mask.shape[1]
    lengths, extra = mask.sum(axis=1)[:, None], len(asked)
    slots = lead + lengths + np.arange(extra)
    wider = {name: np.pad(rows[name], ((0, 0), (0, extra))) for name in rows}
    np.put_along_axis(wider["tokens"], slots, np.broadcast_to(asked, slots.shape), axis=1)
    before = (rows["segment_ids"][:, :lead] > 0).sum(axis=1)[:, None]
    positions = before + lengths + np.arange(extra)
    np.put_along_axis(wider["positions"], slots, positions.astype(np.int32), axis=1)
    np.put_along_axis(wider["segment_ids"], slots, np.ones((count, extra), np.int32), axis=1)
    np.put_along_axis(wider["mask"], slots - lead, np.ones((count, extra), bool), axis=1)
    return wider
