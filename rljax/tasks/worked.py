"""Worked demonstrations: short step-by-step solutions for the tasks where the steps are plain.

Every line of reasoning is one arithmetic or string step that a small model can learn to copy, and
the final answer is the package's own.
"""

import math
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

from rljax.errors import unknown_name

ANSWER_TEMPLATE = "<answer>{answer}</answer>"


def worked_solution(entry: Mapping[str, Any], *, template: str = ANSWER_TEMPLATE) -> str:
    """Returns the steps that solve one reasoning-gym entry, and its answer.

    Args:
        entry: an item of a reasoning-gym data set.
        template: wraps the final answer; must contain "{answer}".

    Returns:
        "STEPS TEMPLATE", such as "4+3=7 7-2=5 <answer>5</answer>".

    Raises:
        ValueError: if the task has no worked solution, or the template no "{answer}".
    """
    check_template(template)
    task = entry["metadata"]["source_dataset"]
    if task not in WORKED:
        raise unknown_name("task with worked solutions", task, WORKED, "config.data.tasks")
    steps = WORKED[task](entry["metadata"])
    return f"{steps} {bare_answer(entry, template=template)}".strip()


def bare_answer(entry: Mapping[str, Any], *, template: str = ANSWER_TEMPLATE) -> str:
    """Returns the wrapped answer alone. Not `str.format`: a template may hold other braces."""
    return template.replace("{answer}", entry["answer"])


def check_template(template: str) -> None:
    """Raises ValueError unless the template has a place for the answer."""
    if "{answer}" not in template:
        raise ValueError(
            f"answer_template {template!r} must contain '{{answer}}' (config.data.answer_template)."
        )


def _chain_sum(metadata: Mapping[str, Any]) -> str:
    """Running totals: "4 + 3 - 2" -> "4+3=7 7-2=5"."""
    first, *rest = metadata["expression"].split(" ")
    total, steps = Decimal(first), []
    for operator, term in zip(rest[::2], rest[1::2], strict=True):
        before = total
        total = before + Decimal(term) if operator == "+" else before - Decimal(term)
        steps.append(f"{before}{operator}{term}={total}")
    return " ".join(steps)


def _spell_backward(metadata: Mapping[str, Any]) -> str:
    """Numbered letters, then from the last to the first: "sun" -> "1s2u3n 3n2u1s"."""
    letters = [f"{place}{letter}" for place, letter in enumerate(metadata["word"], start=1)]
    return f"{''.join(letters)} {''.join(reversed(letters))}"


def _number_sorting(metadata: Mapping[str, Any]) -> str:
    """The picks in order: "3.0>=1.5>=-2.0"."""
    sign = "<=" if metadata["direction"] == "ascending" else ">="
    return sign.join(metadata["sorted_numbers"])


def _count_bits(metadata: Mapping[str, Any]) -> str:
    """Halving with a running count: 5 -> "5%2=1:1 2%2=0:1 1%2=1:2"."""
    number, count, steps = metadata["number"], 0, []
    while number:
        count += number % 2
        steps.append(f"{number}%2={number % 2}:{count}")
        number //= 2
    return " ".join(steps)


def _gcd(metadata: Mapping[str, Any]) -> str:
    """Euclid's remainders: (12, 18) -> "12%18=12 18%12=6 12%6=0"."""
    steps: list[str] = []
    _fold_gcd(metadata["numbers"], steps)
    return " ".join(steps)


def _fold_gcd(numbers: list[int], steps: list[str]) -> int:
    result = numbers[0]
    for number in numbers[1:]:
        while number:
            steps.append(f"{result}%{number}={result % number}")
            result, number = number, result % number
    return result


def _lcm(metadata: Mapping[str, Any]) -> str:
    """Euclid, then the product over the divisor: (4, 6) -> "4%6=4 6%4=2 4%2=0 4*6/2=12"."""
    first, *rest = metadata["numbers"]
    result, steps = first, []
    for number in rest:
        divisor = _fold_gcd([result, number], steps)
        multiple = math.lcm(result, number)
        steps.append(f"{result}*{number}/{divisor}={multiple}")
        result = multiple
    return " ".join(steps)


def _products(metadata: Mapping[str, Any]) -> str:
    """One partial product per digit: "12 * 34" -> "12*4=48 12*30=360 48+360=408"."""
    first, *rest = [int(term) for term in metadata["expression"].split(" * ")]
    result, steps = first, []
    for number in rest:
        sign, digits = (-1 if number < 0 else 1), str(abs(number))
        total = None
        for power, digit in enumerate(reversed(digits)):
            place = sign * int(digit) * 10**power
            steps.append(f"{result}*{place}={result * place}")
            if total is not None:
                steps.append(f"{total}+{result * place}={total + result * place}")
            total = result * place + (total or 0)
        result = total
    return " ".join(steps)


def _letter_counting(metadata: Mapping[str, Any]) -> str:
    """Count per word with a running total: "banana=3:3 at=1:4"."""
    total, steps = 0, []
    for word in metadata["span"]:
        count = word.lower().count(metadata["target_letter"])
        total += count
        steps.append(f"{word}={count}:{total}")
    return " ".join(steps)


def _count_primes(metadata: Mapping[str, Any]) -> str:
    """The primes, numbered: "1:53 2:59"; an empty range gives no step."""
    return " ".join(f"{n}:{prime}" for n, prime in enumerate(metadata["primes"], start=1))


def _prime_factorization(metadata: Mapping[str, Any]) -> str:
    """Divisions by the smallest factor: 12 -> "12/2=6 6/2=3 3/3=1"."""
    number, steps = metadata["number"], []
    for factor in metadata["factors"]:
        steps.append(f"{number}/{factor}={number // factor}")
        number //= factor
    return " ".join(steps)


def _base_conversion(metadata: Mapping[str, Any]) -> str:
    """Horner into decimal, then remainders: "101" to base 3 -> "0*2+1=1 ... 5%3=2 1%3=1"."""
    source, target = metadata["source_base"], metadata["target_base"]
    value, steps = 0, []
    for digit in metadata["source_repr"]:
        before, value = value, value * source + int(digit, 36)
        steps.append(f"{before}*{source}+{int(digit, 36)}={value}")
    while value:
        steps.append(f"{value}%{target}={value % target}")
        value //= target
    return " ".join(steps)


def _word_sequence_reversal(metadata: Mapping[str, Any]) -> str:
    """Numbered words, last to first: "a b" -> "2:b 1:a"."""
    numbered = [f"{place}:{word}" for place, word in enumerate(metadata["words"], start=1)]
    return " ".join(reversed(numbered))


WORKED: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "base_conversion": _base_conversion,
    "chain_sum": _chain_sum,
    "count_bits": _count_bits,
    "count_primes": _count_primes,
    "decimal_chain_sum": _chain_sum,
    "gcd": _gcd,
    "lcm": _lcm,
    "letter_counting": _letter_counting,
    "number_sorting": _number_sorting,
    "prime_factorization": _prime_factorization,
    "products": _products,
    "spell_backward": _spell_backward,
    "word_sequence_reversal": _word_sequence_reversal,
}
