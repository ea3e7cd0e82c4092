"""chrF: the F-score of character n-grams (Popovic 2015), as sacrebleu computes it."""

from rljax.rewards.text_metrics.bleu import ngrams


def chrf(prediction: str, reference: str, *, max_order: int = 6, beta: float = 2.0) -> float:
    """F-score of the mean precision and the mean recall over the orders 1 ... `max_order`.

        F = (1 + beta^2) P R / (beta^2 P + R)

    Blanks do not count. An order that either text is too short for is left out.

    Args:
        prediction: a text.
        reference: a text.
        max_order: longest n-grams, in characters.
        beta: how many times recall counts what precision does.

    Returns:
        A number in [0, 1]; 0 where a text is empty.
    """
    ours, theirs = ("".join(text.split()) for text in (prediction, reference))
    precisions, recalls = [], []
    for n in range(1, min(max_order, len(ours), len(theirs)) + 1):
        own, known = ngrams(ours, n), ngrams(theirs, n)
        matches = (own & known).total()
        precisions.append(matches / own.total())
        recalls.append(matches / known.total())
    return f_score(sum(precisions), sum(recalls), beta) / len(precisions) if precisions else 0.0


def f_score(precision: float, recall: float, beta: float = 1.0) -> float:
    """Weighted harmonic mean; 0 where both are 0."""
    weighed = beta**2 * precision + recall
    return (1 + beta**2) * precision * recall / weighed if weighed else 0.0
