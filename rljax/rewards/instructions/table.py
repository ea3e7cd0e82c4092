"""Which check an instruction of IFEval has, and the instructions that a reference names."""

import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from rljax.errors import unknown_name
from rljax.rewards.instructions import content, form

FIELD = "config.data.reference_column"

INSTRUCTIONS: dict[str, Callable[..., bool]] = {
    "keywords:existence": content.existence,
    "keywords:frequency": content.frequency,
    "keywords:forbidden_words": content.forbidden_words,
    "keywords:letter_frequency": content.letter_frequency,
    "language:response_language": content.response_language,
    "length_constraints:number_sentences": content.number_sentences,
    "length_constraints:number_paragraphs": form.number_paragraphs,
    "length_constraints:number_words": content.number_words,
    "length_constraints:nth_paragraph_first_word": form.nth_paragraph_first_word,
    "detectable_content:number_placeholders": content.number_placeholders,
    "detectable_content:postscript": content.postscript,
    "detectable_format:number_bullet_lists": form.number_bullet_lists,
    "detectable_format:constrained_response": form.constrained_response,
    "detectable_format:number_highlighted_sections": form.number_highlighted_sections,
    "detectable_format:multiple_sections": form.multiple_sections,
    "detectable_format:json_format": form.json_format,
    "detectable_format:title": form.title,
    "combination:two_responses": form.two_responses,
    "combination:repeat_prompt": form.repeat_prompt,
    "startend:end_checker": form.end_checker,
    "startend:quotation": form.quotation,
    "change_case:capital_word_frequency": form.capital_word_frequency,
    "change_case:english_capital": form.english_capital,
    "change_case:english_lowercase": form.english_lowercase,
    "punctuation:no_comma": form.no_comma,
}

# What the two columns are called: IFEval's data, and open-instruct's.
_NAMES = ("instruction_id_list", "instruction_id")


class Instruction(NamedTuple):
    """One thing that a text was asked for."""

    name: str
    arguments: dict[str, Any]

    def followed(self, text: str) -> bool:
        """Whether a text does so; an empty one follows nothing."""
        return bool(text.strip()) and INSTRUCTIONS[self.name](text, **self.arguments)


def read_instructions(reference: Any) -> list[Instruction]:
    """The instructions of a reference.

    Args:
        reference: {"instruction_id_list": [name, ...], "kwargs": [{...}, ...]}, or that as JSON
            text; "instruction_id" is read as well, and a list with one such mapping. Arguments
            that are null are left out.

    Raises:
        ValueError: for another reference, an unknown instruction, or arguments that are not its
            own; or for langdetect, where a language is asked for and it is not installed.
    """
    given = reference
    if isinstance(reference, str):
        try:
            reference = json.loads(reference)
        except ValueError:
            reference = None
    if isinstance(reference, list) and len(reference) == 1:
        reference = reference[0]
    names = arguments = None
    if isinstance(reference, Mapping):
        names = next((reference[key] for key in _NAMES if key in reference), None)
        arguments = reference.get("kwargs")
    lists = [
        isinstance(each, Sequence) and not isinstance(each, str) for each in (names, arguments)
    ]
    if not all(lists) or not names or len(names) != len(arguments):
        raise ValueError(
            "the reward 'instructions' needs a reference with 'instruction_id_list' and, for each "
            f"of these, 'kwargs', got {given!r} ({FIELD})"
        )
    return [_read(*pair) for pair in zip(names, arguments, strict=True)]


def _read(name: Any, arguments: Any) -> Instruction:
    if name not in INSTRUCTIONS:
        raise unknown_name("instruction", name, INSTRUCTIONS, FIELD)
    known = list(inspect.signature(INSTRUCTIONS[name]).parameters)[1:]
    given = {key: value for key, value in (arguments or {}).items() if value is not None}
    if set(given) != set(known):
        wanted = ", ".join(known) or "no arguments"
        raise ValueError(f"the instruction {name!r} takes {wanted}, got {given!r} ({FIELD})")
    if name == "language:response_language":
        _need_langdetect()
    return Instruction(name, given)


def _need_langdetect() -> None:
    try:
        import langdetect  # noqa: F401
    except ImportError as error:
        raise ValueError(
            "the instruction 'language:response_language' needs the package langdetect: "
            "pip install -e '.[instructions]'"
        ) from error
