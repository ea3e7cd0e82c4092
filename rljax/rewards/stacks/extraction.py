r"""Where other stacks look for an answer: a completion -> candidates, one of which must be right.

An empty list is no answer.
"""

import re

from rljax.rewards.answers import box_content, last_boxed, last_tagged
from rljax.rewards.stacks.normal_forms import minerva

# verl looks at the end of a completion only, so many characters.
_TAIL = 300
_STRICT_BOX_TAIL = 100

_NUMBER = re.compile(r"[-+]?(?:\d*\.\d+|\d+)")
_RUN = re.compile(r"-?[0-9.,]+")
_MARKED = re.compile(r"#### (-?[0-9.,]+)")
_ANSWER_LINE = re.compile(r"answer\s*:\s*([^\n]+)", re.IGNORECASE)
_MINERVA_SENTENCE = re.compile(
    r"Final Answer: The final answer is(.*?)\. I hope it is correct\.", re.DOTALL
)
_SENTENCE = "The answer is: "


def last_number(text: str) -> list[str]:
    """The last number, commas between digits left out; the whole text where there is none."""
    text = re.sub(r"(?<=\d),(?=\d)", "", text)
    numbers = _NUMBER.findall(text)
    return [numbers[-1] if numbers else text]


def marked_number(text: str) -> list[str]:
    """The last "#### NUMBER" of the tail, without commas and dollars."""
    numbers = _MARKED.findall(text[-_TAIL:])
    return [re.sub(r"[,$]", "", numbers[-1])] if numbers else []


def last_run_of_digits(text: str) -> list[str]:
    """The last run of digits, points and commas in the tail that is not a lone point."""
    runs = [run for run in _RUN.findall(text[-_TAIL:]) if run != "."]
    return runs[-1:]


def last_box(text: str) -> list[str]:
    r"""What stands in the last \boxed{} or \fbox{}; "\boxed 7" counts."""
    box = last_boxed(text)
    return [] if box is None else [box_content(box)]


def braced_box(text: str) -> list[str]:
    r"""What stands in the last \boxed{...}, which must have braces."""
    box = last_boxed(text)
    return [box_content(box)] if box is not None and box.endswith("}") else []


def strict_box(text: str) -> list[str]:
    r"""The last \boxed{...} of the last 100 characters."""
    return braced_box(text[-_STRICT_BOX_TAIL:])


def box_after_thought(text: str) -> list[str]:
    r"""The last \boxed{...} behind the first </think>, which must be there."""
    _, thought, answer = text.partition("</think>")
    return braced_box(answer) if thought else []


def answer_line(text: str) -> list[str]:
    """The last line "answer: ..." of the tail in Minerva's form; without one, its last box."""
    lines = _ANSWER_LINE.findall(text[-_TAIL:])
    return [minerva(lines[-1])] if lines else braced_box(text[-_TAIL:])


def anything_mathematical(text: str) -> list[str]:
    """The last box and Minerva's sentence; else what is between the last two dollars; else all."""
    candidates = last_box(text) + _minerva_sentence(text)
    if candidates:
        return candidates
    dollars = [match.start() for match in re.finditer(r"\$", text)]
    if len(dollars) > 1:
        return [minerva(text[dollars[-2] + 1 : dollars[-1]])]
    return [minerva(text), text]


def minerva_sentence(text: str) -> list[str]:
    """What Minerva's sentence, "Final Answer: The final answer is X. I ...", says; else all."""
    return _minerva_sentence(text) or [minerva(text), text]


def after_sentence(text: str) -> list[str]:
    """What follows the last "The answer is: ", without a punctuation mark at its end."""
    answer = text.rpartition(_SENTENCE)[2].strip()
    return [re.sub(r"[^\w\s]$", "", answer)]


def tagged(text: str) -> list[str]:
    """The last <answer>...</answer>."""
    answer = last_tagged(text)
    return [] if answer is None else [answer]


def tagged_or_rest(text: str) -> list[str]:
    """The last <answer>...</answer>; without one, what follows the last </think>."""
    return tagged(text) or after_thought(text)


def after_thought(text: str) -> list[str]:
    """What follows the last </think>, without <answer> tags."""
    return [re.sub(r"</?answer>", "", text.rpartition("</think>")[2])]


def _minerva_sentence(text: str) -> list[str]:
    match = _MINERVA_SENTENCE.search(text)
    return [minerva(match[1])] if match else []
