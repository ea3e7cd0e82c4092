"""Beam search over pieces of completions, which a reward or value model compares.

    N first pieces -> score -> keep the best N / M -> M children of each -> score -> ...

With lookahead a piece is scored behind the further pieces that the policy writes greedily after
it (arXiv:2408.03314, section 5.2); what is kept is the piece alone. A beam that has ended stays
among the candidates with its score. The answer is the best beam that is left.
"""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
from jax import Array

from rljax.models.network import Params
from rljax.sampling.engine import Engine
from rljax.sampling.request import Requests
from rljax.training.collect.branches import Branch, grow

# What is thought of beginnings of completions: [N] f64.
Value = Callable[[Sequence[Branch]], np.ndarray]


@dataclasses.dataclass(frozen=True)
class BeamSearch:
    """A search with N beams for each of B problems.

    Attributes:
        pieces: engine that writes M children of a piece's length.
        ahead: engine that writes one continuation of the length of the lookahead; None: none.
        value: of beginnings.
        beams: N, a multiple of M.
        slots: tokens of a whole completion, at most.
        key, step: of the noise.
    """

    pieces: Engine
    ahead: Engine | None
    value: Value
    beams: int
    slots: int
    key: Array
    step: int = 0

    def __call__(self, weights: Params, prompts: Requests) -> tuple[list[Branch], np.ndarray]:
        """The best completion of each prompt, and [B] i64, the tokens that it took.

        Args:
            weights: of the policy, `Engine.load`.
            prompts: B prompts with masks and ids.
        """
        count, width = len(prompts.prompts), self.pieces.config.samples_per_prompt
        kept = self.beams // width
        spent = np.zeros(count, np.int64)
        beams: list[list[Branch]] = [[Branch(place)] * kept for place in range(count)]
        scores: list[list[float]] = [[-np.inf] * kept for _ in range(count)]
        while any(not beam.ended for own in beams for beam in own):
            live = [
                (place, number, beam)
                for place, own in enumerate(beams)
                for number, beam in enumerate(own)
                if not beam.ended
            ]
            ids = np.array([number for _, number, _ in live])[:, None] * width + np.arange(width)
            families = self._grown(self.pieces, weights, prompts, [x[2] for x in live], ids)
            children = [child for family in families for child in family]
            parents = np.repeat([beam.length for _, _, beam in live], width)
            for child, before in zip(children, parents, strict=True):
                spent[child.prompt] += child.length - before
            values = self._values(weights, prompts, children, ids.reshape(-1, 1), spent)
            for place in range(count):
                own = [i for i, child in enumerate(children) if child.prompt == place]
                ended = [i for i, beam in enumerate(beams[place]) if beam.ended]
                pool = [beams[place][i] for i in ended] + [children[i] for i in own]
                worth = [scores[place][i] for i in ended] + [float(values[i]) for i in own]
                # Of equal scores the first; a stable order needs no tie to be broken by chance.
                best = np.argsort(-np.array(worth), kind="stable")[:kept]
                beams[place] = [pool[i] for i in best]
                scores[place] = [worth[i] for i in best]
        return [own[0] for own in beams], spent

    def _values(
        self,
        weights: Params,
        prompts: Requests,
        children: list[Branch],
        ids: np.ndarray,
        spent: np.ndarray,
    ) -> np.ndarray:
        """What is thought of the children, behind their lookahead where there is one."""
        if self.ahead is None:
            return self.value(children)
        paused = [i for i, child in enumerate(children) if not child.ended]
        seen = list(children)
        found = self._grown(
            self.ahead, weights, prompts, [children[i] for i in paused], ids[paused], greedy=True
        )
        for i, (further,) in zip(paused, found, strict=True):
            spent[further.prompt] += further.length - children[i].length
            seen[i] = further
        return self.value(seen)

    def _grown(
        self,
        engine: Engine,
        weights: Params,
        prompts: Requests,
        branches: list[Branch],
        ids: np.ndarray,
        *,
        greedy: bool = False,
    ) -> list[list[Branch]]:
        rows = len(prompts.prompts) * self.beams // engine.config.samples_per_prompt
        return grow(
            engine,
            weights,
            prompts,
            branches,
            ids,
            slots=self.slots,
            rows=rows,
            key=self.key,
            step=self.step,
            temperature=0.0 if greedy else None,
        )
