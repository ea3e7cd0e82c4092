"""BLEU of one sentence against its references (Papineni et al. 2002), as BLEUBERI rewards it."""

import math
import re
from collections import Counter
from collections.abc import Hashable, Sequence
from typing import NamedTuple

Words = Sequence[Hashable]

_ENTITIES = (("&quot;", '"'), ("&amp;", "&"), ("&lt;", "<"), ("&gt;", ">"))
# In this order: signs stand alone; a point or comma does unless digits are on both of its sides;
# so does a dash behind a digit.
_SPLITS = [
    (re.compile(pattern), by)
    for pattern, by in (
        (r"([{-~\[-` -&(-+:-@/])", r" \1 "),
        (r"([^0-9])([.,])", r"\1 \2 "),
        (r"([.,])([^0-9])", r" \1 \2"),
        (r"([0-9])(-)", r"\1 \2 "),
    )
]


class Bleu(NamedTuple):
    """BLEU = brevity penalty * geometric mean of the precisions."""

    score: float
    precisions: list[float]  # of n-grams, n = 1 ... max_order
    brevity_penalty: float
    length_ratio: float  # words of the prediction / words of the shortest reference


def words_13a(text: str) -> list[str]:
    """The words of mteval-v13a, which BLEU counts by default in sacrebleu and evaluate."""
    text = text.replace("<skipped>", "").replace("-\n", "").replace("\n", " ")
    for entity, sign in _ENTITIES:
        text = text.replace(entity, sign)
    text = f" {text} "
    for pattern, by in _SPLITS:
        text = pattern.sub(by, text)
    return text.split()


def sentence_bleu(
    prediction: Words, references: Sequence[Words], *, max_order: int = 4, smooth: bool = True
) -> Bleu:
    """BLEU as Hugging Face's evaluate computes it, of one sentence.

        p_n = (matches + 1) / (n-grams of the prediction + 1), without `smooth` matches / n-grams
        penalty = exp(1 - r / c) for c <= r, else 1; r: words of the shortest reference

    Matches of an n-gram are clipped by its largest count in a reference. The smoothed precision of
    an order that the prediction is too short for is 1.

    Args:
        prediction: c words.
        references: one or more, none of them empty.
        max_order: longest n-grams.
        smooth: see above; without it a sentence without a common 4-gram is worth 0.

    Returns:
        All its parts; an empty prediction has the score and the precisions 0.

    Raises:
        ValueError: for an empty reference, or none.
    """
    if not references or not all(references):
        raise ValueError("BLEU needs a reference, and every reference a word")
    if not prediction:
        return Bleu(0.0, [0.0] * max_order, 0.0, 0.0)
    precisions = [_precision(prediction, references, n, smooth) for n in range(1, max_order + 1)]
    ratio = len(prediction) / min(map(len, references))
    penalty = 1.0 if ratio > 1 else math.exp(1 - 1 / ratio)
    mean = math.exp(sum(map(math.log, precisions)) / max_order) if all(precisions) else 0.0
    return Bleu(penalty * mean, precisions, penalty, ratio)


def _precision(prediction: Words, references: Sequence[Words], n: int, smooth: bool) -> float:
    known: Counter[Hashable] = Counter()
    for reference in references:
        known |= ngrams(reference, n)
    own = ngrams(prediction, n)
    matches, possible = (own & known).total() + smooth, own.total() + smooth
    return matches / possible if possible else 0.0


def ngrams(words: Words, n: int) -> Counter[Hashable]:
    """How often each n-gram of a sequence is there."""
    return Counter(tuple(words[i : i + n]) for i in range(len(words) - n + 1))
