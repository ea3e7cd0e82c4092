"""Rewards that compare a text with reference texts; of several references see each."""

from typing import Any

from rljax.rewards.answers import answer_text
from rljax.rewards.references import gold_texts
from rljax.rewards.text_metrics import chrf as chrf_metric
from rljax.rewards.text_metrics import rouge as rouge_metric
from rljax.rewards.text_metrics.bleu import sentence_bleu, words_13a


def bleu(
    prompt: str,
    completion: str,
    reference: Any,
    *,
    tag: str | None = None,
    max_order: int = 4,
    smooth: bool = True,
) -> float:
    """BLEU of the text against one reference or several (BLEUBERI, arXiv:2505.11080), in [0, 1].

    Args:
        prompt: not read.
        completion: the model's text.
        reference: the reference texts, see `rljax.rewards.references.gold_texts`.
        tag: compare the content of the last such tag (no tag scores 0); None: the whole text.
        max_order: longest n-grams, in words.
        smooth: one more match and one more n-gram for each order.
    """
    answer = answer_text(completion, tag)
    references = [words_13a(text) for text in gold_texts(reference)]
    return sentence_bleu(
        words_13a(answer or ""), references, max_order=max_order, smooth=smooth
    ).score


def chrf(
    prompt: str,
    completion: str,
    reference: Any,
    *,
    tag: str | None = None,
    max_order: int = 6,
    beta: float = 2.0,
) -> float:
    """chrF of the text, in [0, 1]: F-score of character n-grams; of several references the best.

    Args:
        prompt: not read.
        completion: the model's text.
        reference: the reference texts, see `rljax.rewards.references.gold_texts`.
        tag: compare the content of the last such tag (no tag scores 0); None: the whole text.
        max_order: longest n-grams, in characters.
        beta: how many times recall counts what precision does.
    """
    answer = answer_text(completion, tag) or ""
    return max(
        chrf_metric.chrf(answer, text, max_order=max_order, beta=beta)
        for text in gold_texts(reference)
    )


def rouge(
    prompt: str,
    completion: str,
    reference: Any,
    *,
    tag: str | None = None,
    kind: str = "rougeL",
) -> float:
    """ROUGE of the text, in [0, 1]: F-score of shared words; of several references the best.

    Args:
        prompt: not read.
        completion: the model's text.
        reference: the reference texts, see `rljax.rewards.references.gold_texts`.
        tag: compare the content of the last such tag (no tag scores 0); None: the whole text.
        kind: "rouge1": words; "rouge2": pairs of words; "rougeL": words in order.
    """
    answer = answer_text(completion, tag) or ""
    return max(rouge_metric.rouge(answer, text, kind=kind) for text in gold_texts(reference))
