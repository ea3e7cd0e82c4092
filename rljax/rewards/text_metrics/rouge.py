"""ROUGE: the F-score of words that two texts share (Lin 2004), as rouge-score computes it."""

import re
from collections.abc import Sequence

from rljax.errors import unknown_name
from rljax.rewards.text_metrics.bleu import ngrams
from rljax.rewards.text_metrics.chrf import f_score

_NO_WORD = re.compile(r"[^a-z0-9]+")

# Longest common subsequences cost the product of two lengths; further words are not read.
MOST_WORDS = 4000

KINDS = ("rouge1", "rouge2", "rougeL")


def rouge_words(text: str) -> list[str]:
    """Words of Latin letters and digits in lower case, without a stemmer."""
    return _NO_WORD.sub(" ", text.lower()).split()


def rouge(prediction: str, reference: str, *, kind: str = "rougeL") -> float:
    """F-score of shared words ("rouge1"), pairs of words ("rouge2"), or words in order ("rougeL").

    Of "rougeL" precision and recall are the longest common subsequence over the words of either
    text.

    Raises:
        ValueError: for another kind.
    """
    if kind not in KINDS:
        raise unknown_name("kind of ROUGE", kind, KINDS, "config.scoring.rewards[...].options")
    ours, theirs = (rouge_words(text)[:MOST_WORDS] for text in (prediction, reference))
    if kind == "rougeL":
        shared, own, known = common_subsequence(ours, theirs), len(ours), len(theirs)
    else:
        left, right = (ngrams(words, int(kind[-1])) for words in (ours, theirs))
        shared, own, known = (left & right).total(), left.total(), right.total()
    return f_score(shared / own, shared / known) if shared else 0.0


def common_subsequence(left: Sequence[str], right: Sequence[str]) -> int:
    """Length of the longest sequence that is in both, in order and with gaps."""
    best = [0] * (len(right) + 1)
    for word in left:
        before = 0
        for place, other in enumerate(right, start=1):
            before, best[place] = (
                best[place],
                before + 1 if word == other else max(best[place], best[place - 1]),
            )
    return best[-1]
