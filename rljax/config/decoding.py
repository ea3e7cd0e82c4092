"""How held-out problems are decoded: as the stage that is judged samples, unless the config says
otherwise.
"""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

from ml_collections import ConfigDict

from rljax.config.resolve import bias_pairs
from rljax.config.stage import Stage
from rljax.sampling.distribution import TokenFilter


class Decoding(NamedTuple):
    """What ends a held-out completion besides its end tokens, and which tokens it may hold.

    Attributes:
        stop_strings: texts that end it.
        token_filter: biases and forbidden tokens; the evaluation says at which temperatures.
    """

    stop_strings: tuple[str, ...] = ()
    token_filter: TokenFilter = TokenFilter()


PLAIN = Decoding()  # end tokens alone, every token allowed


def decoding_of(evaluation: ConfigDict, stages: Sequence[Stage], index: int) -> Decoding:
    """How the policy of a stage is judged.

    A field of `config.evaluation` counts for all stages. What is not set there is the stage's own;
    a stage that samples nothing is judged as the next one that does, which goes on from it.

    Args:
        evaluation: the section of the config.
        stages: of the run, in order.
        index: of the stage that is judged.
    """
    stops, token_filter = PLAIN
    sampling = [stage for stage in stages[index:] if stage.max_new_tokens]
    if sampling:
        stops = sampling[0].stop_strings
        token_filter = sampling[0].token_filter.at_temperature(1.0)
    if evaluation.stop_strings is not None:
        stops = tuple(evaluation.stop_strings)
    if evaluation.logit_bias is not None:
        bias = bias_pairs(evaluation.logit_bias)
        token_filter = dataclasses.replace(token_filter, logit_bias=bias)
    if evaluation.forbidden_tokens is not None:
        forbidden = tuple(evaluation.forbidden_tokens)
        token_filter = dataclasses.replace(token_filter, forbidden_tokens=forbidden)
    return Decoding(stops, token_filter)
