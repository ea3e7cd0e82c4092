"""Where an answer is looked for in a completion."""

import re
from collections.abc import Sequence
from typing import NamedTuple

_BOX = re.compile(r"\\(?:boxed|fbox)(?![a-zA-Z])")
_BARE_BOX = re.compile(_BOX.pattern + r"\s*[^\s${}]+")
_BRACE = re.compile(r"(?<!\\)[{}]")


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


def answer_text(completion: str, tag: str | None) -> str | None:
    """The content of the last such tag, or None; without a name of a tag the whole text."""
    return completion.strip() if tag is None else last_tagged(completion, tag)


def ends_with_one_tag(completion: str, tag: str = "answer") -> bool:
    """True if the text holds exactly one opening and one closing tag and ends with that pair."""
    opening, closing = f"<{tag}>", f"</{tag}>"
    text = completion.rstrip()
    if completion.count(opening) != 1 or completion.count(closing) != 1:
        return False
    start = text.find(opening) + len(opening)
    inner = text[start : -len(closing)]
    return text.endswith(closing) and start <= len(text) - len(closing) and bool(inner.strip())


def voting_answers(texts: Sequence[str]) -> list[str | None]:
    """What votes among the completions of a prompt: the answer of each, None where it has none.

    Where none has a tagged or boxed answer, the whole texts vote.
    """
    answers = [answer_of(text) for text in texts]
    if any(answer is not None for answer in answers):
        return answers
    return [text.strip() or None for text in texts]


def answer_of(text: str) -> str | None:
    r"""The answer of a completion: the last tagged one, else the last \boxed, else None."""
    tagged = last_tagged(text)
    return tagged if tagged is not None else last_boxed(text)


class Box(NamedTuple):
    r"""A \boxed{...} or \fbox{...} of a text: where it begins and ends, and all of it."""

    start: int
    end: int
    text: str


def last_boxed(text: str) -> str | None:
    r"""Returns the text from the last \boxed or \fbox on, up to its closing brace, or None.

    None also when the braces of that last box are unbalanced: a half-written answer is not read.
    "\boxed 7" is a box too.
    """
    starts = [match.start() for match in _BOX.finditer(text)]
    box = _box_at(text, starts[-1]) if starts else None
    return None if box is None else box.text


def boxes(text: str) -> list[Box]:
    """All closed boxes of a text, in order; of nested ones the inner ones too."""
    found = (_box_at(text, match.start()) for match in _BOX.finditer(text))
    return [box for box in found if box is not None]


def box_content(box: str) -> str:
    r"""What stands in a box that `last_boxed` found."""
    content = _BOX.sub("", box, count=1).strip()
    return content[1:-1] if content.startswith("{") else content


def _box_at(text: str, start: int) -> Box | None:
    place = _BOX.match(text, start).end()
    place += len(text[place:]) - len(text[place:].lstrip())
    if text[place : place + 1] != "{":
        bare = _BARE_BOX.match(text, start)
        return Box(start, bare.end(), bare[0]) if bare else None
    depth = 0
    for match in _BRACE.finditer(text, place):
        depth += 1 if match[0] == "{" else -1
        if depth == 0:
            return Box(start, match.end(), text[start : match.end()])
    return None
