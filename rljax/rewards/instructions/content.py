"""IFEval's checks of words, letters and marks: (text, keyword arguments) -> followed."""

import re
from collections.abc import Sequence

from rljax.errors import unknown_name

LESS, AT_LEAST = RELATIONS = ("less than", "at least")


def compares(count: int, relation: str, than: int) -> bool:
    """Whether a count is in the relation that IFEval names: "less than" or "at least".

    Raises:
        ValueError: for another relation.
    """
    if relation not in RELATIONS:
        raise unknown_name("relation", relation, RELATIONS, "the reference column")
    return count < than if relation == LESS else count >= than


def _found(word: str, text: str) -> list[str]:
    return re.findall(re.escape(word), text, flags=re.IGNORECASE)


def existence(text: str, *, keywords: Sequence[str]) -> bool:
    """Every keyword is in the text, in any case, perhaps inside another word."""
    return all(_found(word, text) for word in keywords)


def frequency(text: str, *, keyword: str, frequency: int, relation: str) -> bool:
    """A keyword is there so often."""
    return compares(len(_found(keyword, text)), relation, frequency)


def forbidden_words(text: str, *, forbidden_words: Sequence[str]) -> bool:
    """None of the words is there as a word."""
    return not any(
        re.search(rf"\b{re.escape(word)}\b", text, flags=re.IGNORECASE) for word in forbidden_words
    )


def letter_frequency(text: str, *, letter: str, let_frequency: int, let_relation: str) -> bool:
    """A letter is there so often, in any case."""
    return compares(text.lower().count(letter.lower()), let_relation, let_frequency)


def number_words(text: str, *, num_words: int, relation: str) -> bool:
    """So many words, runs of letters, digits and underscores."""
    return compares(len(re.findall(r"\w+", text)), relation, num_words)


def number_sentences(text: str, *, num_sentences: int, relation: str) -> bool:
    """So many sentences: they end at . ! or ? before a blank, or with the text."""
    ends = re.split(r"(?<=[.!?])[\"')\]]*\s+", text.strip())
    return compares(sum(bool(end.strip()) for end in ends), relation, num_sentences)


def number_placeholders(text: str, *, num_placeholders: int) -> bool:
    """At least so many placeholders in square brackets."""
    return len(re.findall(r"\[.*?\]", text)) >= num_placeholders


def postscript(text: str, *, postscript_marker: str) -> bool:
    """A postscript that begins with the marker, in any case; "P.S." and "P.P.S" allow blanks."""
    spaced = {"P.P.S": r"p\.\s?p\.\s?s", "P.S.": r"p\.\s?s\."}
    marker = spaced.get(postscript_marker, re.escape(postscript_marker.lower()))
    return re.search(marker, text.lower()) is not None


def response_language(text: str, *, language: str) -> bool:
    """The text is in the language of an ISO 639-1 code, as langdetect finds it.

    A text that it cannot tell the language of counts as followed, as in IFEval. It draws at random
    by itself; here it begins with the same seed for every text.
    """
    from langdetect import DetectorFactory, LangDetectException, detect

    DetectorFactory.seed = 0
    try:
        return detect(text) == language
    except LangDetectException:
        return True
