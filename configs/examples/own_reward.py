"""A reward of your own: any function of (prompt, completion, reference) that returns a number."""


def right_places(prompt: str, completion: str, reference: str, *, partial: bool = True) -> float:
    """1 for the reference itself, else the share of letters in their place (if `partial`)."""
    answer = completion.strip()
    if answer == reference:
        return 1.0
    hits = sum(a == b for a, b in zip(answer, reference, strict=False))
    return hits / max(len(answer), len(reference)) if partial else 0.0
