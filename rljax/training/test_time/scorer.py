"""What a reward or value model says of completions, whole ones and half written ones."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jax.sharding import Mesh

from rljax.data.rows import prompt_of
from rljax.training.run.loaded import Model
from rljax.training.update.sequence_scores import make_head_scores
from rljax.training.win_rate.passes import in_passes


class TextScorer:
    """A model with one head output, which reads texts with its own tokenizer and template.

    The score of a text is that of its last token: of the end of a whole completion, of the last
    token that is there of a half written one.
    """

    def __init__(self, model: Model, mesh: Mesh, column: str) -> None:
        """Takes the model; nothing is compiled yet.

        Args:
            model: with a reward or value head.
            mesh: of its parameters.
            column: of the prompts in the problems.

        Raises:
            ValueError: for a model without such a head.
        """
        config = model.network.config
        if config.head not in ("reward", "value") or config.head_outputs != 1:
            raise ValueError(
                f"The model has the head {config.head!r} with {config.head_outputs} outputs; one "
                "that scores completions has 'reward' or 'value' with one (--scorer)."
            )
        self.model, self.mesh, self.column = model, mesh, column
        self.score = make_head_scores(model.network)

    def __call__(
        self, records: Sequence[dict[str, Any]], texts: Sequence[str], ended: Sequence[bool]
    ) -> np.ndarray:
        """[N] f64.

        Args:
            records: the problem of each text.
            texts: N completions or beginnings of some.
            ended: whether each is whole.
        """
        text_format, prompts, completions = self.model.text_format, [], []
        for record, text, whole in zip(records, texts, ended, strict=True):
            where = f"problem {record['id']}"
            prompt = prompt_of(record, text_format, where=where, column=self.column)
            prompts.append(prompt.tokens)
            if whole:
                completions.append(text_format.completion(prompt, text, where))
            else:
                completions.append(text_format.tokenizer.encode_inside(text) if text else [])
        remedy = "lower config.evaluation.max_new_tokens (--scorer)"
        found = in_passes(self.model, self.mesh, self.score, prompts, completions, remedy)
        return found.astype(np.float64)
