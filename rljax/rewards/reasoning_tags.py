r"""Rewards for <reasoning> and <answer> blocks, as d1 (arXiv:2504.12216) adds them for GSM8K.

The papers' reward is the sum of five: `xml_count`, `xml_soft_format`, `xml_strict_format`,
`integer_answer` and `tagged_correctness`, at most 4.0 less the tax on length.
"""

import re
from typing import Any

from rljax.rewards.references import gold_text

_SOFT = re.compile(r"<reasoning>.*?</reasoning>\s*<answer>.*?</answer>")
_STRICT = re.compile(r"<reasoning>\n.*?\n</reasoning>\n<answer>\n.*?\n</answer>\n$")
_TAXED = {"answer": "\n<answer>\n", "tail": "\n</answer>\n"}


def xml_count(
    prompt: str,
    completion: str,
    reference: Any,
    *,
    per_character: float = 0.001,
    taxed: str = "tail",
) -> float:
    r"""0.125 for each of four tags that stands exactly once on its line, less a tax on length.

    The tags are "<reasoning>\n", "\n</reasoning>\n", "\n<answer>\n" and "\n</answer>". With the
    third, `per_character` is taken for each character behind the last mark that `taxed` names (of
    the whole text without that mark), with the fourth for each but one behind "\n</answer>".

    Args:
        prompt: not read.
        completion: the model's text.
        reference: not read.
        per_character: the tax.
        taxed: "tail" counts from "\n</answer>\n" (d1's code), "answer" from "\n<answer>\n", so the
            answer itself too (SPG's code).

    Raises:
        ValueError: another `taxed`.
    """
    if taxed not in _TAXED:
        raise ValueError(
            f"taxed of the reward 'xml_count' must be 'answer' or 'tail', got {taxed!r} "
            "(config.scoring.rewards)."
        )
    value = 0.0
    for tag in ("<reasoning>\n", "\n</reasoning>\n", "\n<answer>\n", "\n</answer>"):
        value += 0.125 * (completion.count(tag) == 1)
    if completion.count("\n<answer>\n") == 1:
        value -= per_character * len(completion.rsplit(_TAXED[taxed], 1)[-1])
    if completion.count("\n</answer>") == 1:
        value -= per_character * (len(completion.rsplit("\n</answer>", 1)[-1]) - 1)
    return value


def xml_soft_format(prompt: str, completion: str, reference: Any) -> float:
    """0.5 if the text begins with a reasoning and an answer block, each on one line."""
    return 0.5 * bool(_SOFT.match(completion))


def xml_strict_format(prompt: str, completion: str, reference: Any) -> float:
    """0.5 if the text is the two blocks, tags and one line of content each on a line of its own."""
    return 0.5 * bool(_STRICT.match(completion))


def integer_answer(prompt: str, completion: str, reference: Any) -> float:
    """0.5 if the tagged answer holds digits only: no sign, no point."""
    return 0.5 * tagged_answer(completion).isdigit()


def tagged_correctness(prompt: str, completion: str, reference: Any) -> float:
    """2.0 if the tagged answer is the gold text, of which "#### ANSWER" may be the end."""
    return 2.0 * (tagged_answer(completion) == gold_text(reference).split("####")[-1].strip())


def tagged_answer(completion: str) -> str:
    """Text behind the last <answer> up to the next </answer>, either of which may be missing."""
    return completion.split("<answer>")[-1].split("</answer>")[0].strip()
