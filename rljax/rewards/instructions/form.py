"""IFEval's checks of paragraphs, lists, case, beginning and end: (text, arguments) -> followed."""

import json
import re

from rljax.rewards.instructions.content import compares

_ANSWERS = ("My answer is yes.", "My answer is no.", "My answer is maybe.")
_FENCE = re.compile(r"\A```(?:json|Json|JSON)?|```\Z")


def number_paragraphs(text: str, *, num_paragraphs: int) -> bool:
    """Exactly so many paragraphs, divided by "***"; none in the middle is empty."""
    parts = re.split(r"\s?\*\*\*\s?", text)
    return _none_empty_inside(parts) and len(_written(parts)) == num_paragraphs


def nth_paragraph_first_word(
    text: str, *, num_paragraphs: int, nth_paragraph: int, first_word: str
) -> bool:
    """So many paragraphs, divided by an empty line, of which one begins with a word.

    The paragraph is counted with the empty ones, as IFEval does.
    """
    parts = text.split("\n\n")
    written = len(_written(parts))
    if not 1 <= nth_paragraph <= min(written, len(parts)):
        return False
    words = parts[nth_paragraph - 1].split()
    if not words:
        return False
    first = re.split(r"[.,?!'\"]", words[0].lstrip("'").lstrip('"'))[0]
    return written == num_paragraphs and first.lower() == first_word.lower()


def number_bullet_lists(text: str, *, num_bullets: int) -> bool:
    """Exactly so many lines that begin with "*" or "-"."""
    lines = re.findall(r"^\s*\*[^*].*$|^\s*-.*$", text, flags=re.MULTILINE)
    return len(lines) == num_bullets


def number_highlighted_sections(text: str, *, num_highlights: int) -> bool:
    """At least so many passages *like this*; one **like this** counts in both ways."""
    single = re.findall(r"\*[^\n*]*\*", text)
    double = re.findall(r"\*\*[^\n*]*\*\*", text)
    count = sum(bool(found.strip("*").strip()) for found in single)
    count += sum(bool(found[2:-2].strip()) for found in double)
    return count >= num_highlights


def multiple_sections(text: str, *, section_spliter: str, num_sections: int) -> bool:
    """At least so many sections, each headed by a word and a number ("Section 1")."""
    return len(re.findall(rf"\s?{re.escape(section_spliter)}\s?\d+\s?", text)) >= num_sections


def constrained_response(text: str) -> bool:
    """One of three answers is in the text: "My answer is yes.", "... no.", "... maybe."."""
    return any(answer in text for answer in _ANSWERS)


def json_format(text: str) -> bool:
    """The whole text is JSON, perhaps in a fence."""
    try:
        json.loads(_FENCE.sub("", text.strip()).strip())
    except (ValueError, RecursionError):
        return False
    return True


def title(text: str) -> bool:
    """A title in double angular brackets, <<like this>>."""
    found = re.findall(r"<<[^\n]+>>", text)
    return any(each.lstrip("<").rstrip(">").strip() for each in found)


def two_responses(text: str) -> bool:
    """Two different answers, divided by six asterisks."""
    parts = text.split("******")
    written = _written(parts)
    return _none_empty_inside(parts) and len(written) == 2 and written[0] != written[1]


def repeat_prompt(text: str, *, prompt_to_repeat: str) -> bool:
    """The text begins with the prompt, in any case."""
    return text.strip().lower().startswith(prompt_to_repeat.strip().lower())


def end_checker(text: str, *, end_phrase: str) -> bool:
    """The text ends with a phrase, in any case; quotation marks around the text do not count."""
    return text.strip().strip('"').lower().endswith(end_phrase.strip().lower())


def quotation(text: str) -> bool:
    """The whole text stands in double quotation marks."""
    text = text.strip()
    return len(text) > 1 and text[0] == text[-1] == '"'


def no_comma(text: str) -> bool:
    """There is no comma."""
    return "," not in text


def english_capital(text: str) -> bool:
    """No letter is small. Here the language is not asked; IFEval's check also wants English."""
    return text.isupper()


def english_lowercase(text: str) -> bool:
    """No letter is a capital. Here the language is not asked; IFEval's check wants English."""
    return text.islower()


def capital_word_frequency(text: str, *, capital_frequency: int, capital_relation: str) -> bool:
    """So many words without a small letter; words end at blanks, IFEval's as nltk has them."""
    count = sum(word.isupper() for word in text.split())
    return compares(count, capital_relation, capital_frequency)


def _written(parts: list[str]) -> list[str]:
    return [part.strip() for part in parts if part.strip()]


def _none_empty_inside(parts: list[str]) -> bool:
    return all(part.strip() for part in parts[1:-1])
