"""The rewards of other stacks: for each where it looks for an answer and what is right there.

The verdicts are those of the released code, defects included: see the test against its outputs.
Where a stack parses LaTeX, latex2sympy2_extended does it here.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from rljax.rewards.references import gold_texts
from rljax.rewards.stacks import comparison, extraction
from rljax.rewards.stacks.golds import check_number, check_text, latex_golds, number_golds


class Rule(NamedTuple):
    """A reward: the best of its candidates against the best of its golds.

    Attributes:
        extract: completion -> candidates; none of them scores `wrong`.
        compare: (candidate, gold) -> 0 to 1.
        golds: reference -> golds, each of which is right.
        summary: what it scores, in a sentence.
        wrong: the reward for 0.
    """

    extract: Callable[[str], list[str]]
    compare: Callable[[str, str], float]
    golds: Callable[[Any], list[str]]
    summary: str
    wrong: float = 0.0

    @property
    def gold_kind(self) -> str:
        """What its golds are, in a word."""
        return {number_golds: "number", latex_golds: "LaTeX"}.get(self.golds, "text")

    def read_golds(self, reference: Any) -> list[str]:
        """The golds, checked.

        Raises:
            ValueError: for a gold that no completion could ever match.
        """
        golds = self.golds(reference)
        for gold in golds:
            (check_number if self.golds is number_golds else check_text)(gold)
        return golds


# open-instruct: Tulu 3 (arXiv:2411.15124). verl: arXiv:2409.19256. DAPO: arXiv:2503.14476.
RULES: dict[str, Rule] = {
    "gsm8k_open_instruct": Rule(
        extraction.last_number,
        comparison.same_without_case,
        number_golds,
        "1.0 if the text's last number is the gold one, digit by digit (3.0 is not 3); no format.",
    ),
    "gsm8k_verl_strict": Rule(
        extraction.marked_number,
        comparison.same_text,
        number_golds,
        'verl\'s strict rule for GSM8K: 1.0 if the last "#### NUMBER" is the gold text.',
    ),
    "gsm8k_verl_flexible": Rule(
        extraction.last_run_of_digits,
        comparison.same_text,
        number_golds,
        "verl's flexible rule: 1.0 if the last run of digits, points and commas is the gold text.",
    ),
    "math_open_instruct": Rule(
        extraction.anything_mathematical,
        comparison.same_form_or_value,
        latex_golds,
        "open-instruct's rule for MATH: 1.0 if a box, Minerva's sentence, the last $...$ or the "
        "whole text is equal in Hendrycks' form or by sympy.",
    ),
    "math_strict_open_instruct": Rule(
        extraction.minerva_sentence,
        comparison.same_form_or_value,
        latex_golds,
        "The same, of Minerva's sentence or the whole text alone.",
    ),
    "math_verl": Rule(
        extraction.last_box,
        comparison.same_in_hendrycks_form,
        latex_golds,
        "verl's rule for MATH: 1.0 if the last box is equal in Hendrycks' form, uncomputed.",
    ),
    "math_dapo": Rule(
        extraction.answer_line,
        comparison.same_text,
        latex_golds,
        "DAPO's rule in verl: 1.0 if the last line \"Answer: ...\" in Minerva's form, or else the "
        "last box, is the gold text; -1.0 if not.",
        wrong=-1.0,
    ),
    "math_dapo_strict_box": Rule(
        extraction.strict_box,
        comparison.same_text,
        latex_golds,
        "Its strict option: 1.0 if the last box is the gold text, character by character, else -1.",
        wrong=-1.0,
    ),
    "math_deepscaler": Rule(
        extraction.braced_box,
        comparison.same_for_deepscaler,
        latex_golds,
        "DeepScaleR's rule (rllm): 1.0 if the last box is equal by PRM800K's rules: text, tuples "
        "by element, sympy except for fractions and integers.",
    ),
    "math_deepscaler_think": Rule(
        extraction.box_after_thought,
        comparison.same_for_deepscaler,
        latex_golds,
        "The same, of the text behind the first </think>, which must be there.",
    ),
    "flan_open_instruct": Rule(
        extraction.after_sentence,
        comparison.same_words,
        gold_texts,
        '1.0 if what follows the last "The answer is: " (or else the text) is equal in SQuAD\'s '
        "form.",
    ),
    "string_match_open_instruct": Rule(
        extraction.tagged,
        comparison.same_words,
        gold_texts,
        "1.0 if the last <answer>...</answer> is equal in SQuAD's form.",
    ),
    "puzzle_open_instruct": Rule(
        extraction.tagged_or_rest,
        comparison.same_words,
        gold_texts,
        "The same; without the tags, of the text behind </think>.",
    ),
    "f1_open_instruct": Rule(
        extraction.after_thought,
        comparison.shared_words,
        gold_texts,
        "F1 of the words behind </think> and those of the gold text, in SQuAD's form.",
    ),
}


def _reward(rule: Rule) -> Callable[[str, str, Any], float]:
    def score(prompt: str, completion: str, reference: Any) -> float:
        golds, candidates = rule.golds(reference), rule.extract(completion)
        pairs = ((candidate, gold) for candidate in candidates for gold in golds)
        return max((rule.compare(*pair) for pair in pairs), default=0.0) or rule.wrong

    score.__doc__ = rule.summary
    return score


STACK_REWARDS = {name: _reward(rule) for name, rule in RULES.items()}
