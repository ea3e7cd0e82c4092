"""Where an answer is looked for in a completion."""

import re
from typing import Any


def last_tagged(completion: str, tag: str = "answer") -> str | None:
    """Returns the stripped content of the last <tag>...</tag>, or None; tags are case-sensitive.

    Agrees with reasoning-gym's own `extract_answer`, and takes time linear in the text.
    """
    opening, closing = f"<{tag}>", f"</{tag}>"
    content, start = None, 0
    while True:
        start = completion.find(opening, start)
        if start < 0:
            break
        end = completion.find(closing, start + len(opening))
        if end < 0:
            break
        content = completion[start + len(opening) : end].strip()
        start = end + len(closing)
    return content


def ends_with_one_tag(completion: str, tag: str = "answer") -> bool:
    """True if the text holds exactly one opening and one closing tag and ends with that pair."""
    opening, closing = f"<{tag}>", f"</{tag}>"
    text = completion.rstrip()
    if completion.count(opening) != 1 or completion.count(closing) != 1:
        return False
    start = text.find(opening) + len(opening)
    inner = text[start : -len(closing)]
    return text.endswith(closing) and start <= len(text) - len(closing) and bool(inner.strip())


def last_boxed(text: str) -> str | None:
    r"""Returns the text from the last \boxed on, up to its closing brace, or None.

    None also when the braces of that last box are unbalanced: a half-written answer is not read.
    """
    start = text.rfind("\\boxed")
    if start < 0:
        return None
    place = start + len("\\boxed")
    rest = re.match(r"\s*", text[place:]).end() + place
    if rest >= len(text) or text[rest] != "{":
        bare = re.match(r"\\boxed\s+[^\s$]+", text[start:])
        return bare.group(0) if bare else None
    depth = 0
    for end in range(rest, len(text)):
        depth += {"{": 1, "}": -1}.get(text[end], 0)
        if depth == 0:
            return text[start : end + 1]
    return None


def gold_text(reference: Any) -> str:
    """Returns the gold answer of a reference: a string, a number, or a mapping with "answer".

    Raises:
        ValueError: if there is none.
    """
    if isinstance(reference, dict):
        reference = reference.get("answer")
    if isinstance(reference, bool) or not isinstance(reference, str | int | float):
        raise ValueError(
            f"A gold answer must be text or a number, got {reference!r} "
            "(the reference column of the data)."
        )
    return str(reference)
