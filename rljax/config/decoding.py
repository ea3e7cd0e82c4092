"""How held-out problems are decoded: as the stage that is judged samples, unless the config says
otherwise.
"""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

from ml_collections import ConfigDict

from rljax.config.resolve import bias_pairs
from rljax.config.schema import EVALUATION
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


def check_evaluation(evaluation: ConfigDict) -> None:
    """Raises ValueError for the form of answers that are not scored."""
    for name in ("answer_phrase", "answer_end", "max_answer_tokens"):
        value, default = evaluation[name], EVALUATION[name].default
        if not evaluation.answer_samples and value != default:
            raise ValueError(
                f"{name}={value!r} is never read with answer_samples=0 (config.evaluation.{name}, "
                "config.evaluation.answer_samples)."
            )
    if not evaluation.answer_phrase:
        raise ValueError(
            "answer_phrase='' ends no chain of thought: give a text that is not empty "
            "(config.evaluation.answer_phrase)."
        )


def longest_evaluated(evaluation: ConfigDict) -> int:
    """Tokens behind a prompt in the longest rows of the evaluation."""
    answer = evaluation.max_answer_tokens if evaluation.answer_samples else 0
    return evaluation.max_new_tokens + answer
