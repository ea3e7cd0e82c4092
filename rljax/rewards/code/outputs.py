"""Whether what a program wrote is what was expected (the rule of LiveCodeBench)."""

from decimal import Decimal, InvalidOperation

_LONGEST_NUMBER = 1000  # digits; longer ones are compared as text


def same_output(written: str, expected: str) -> bool:
    """Line by line, without white space at the ends; a line may be equal as a list of numbers."""
    lines = [text.strip().split("\n") for text in (written, expected)]
    if len(lines[0]) != len(lines[1]):
        return False
    return all(map(_same_line, *lines))


def _same_line(written: str, expected: str) -> bool:
    written, expected = written.strip(), expected.strip()
    if written == expected:
        return True
    numbers = _numbers(written), _numbers(expected)
    return numbers[0] is not None and numbers[0] == numbers[1]


def _numbers(line: str) -> list[Decimal] | None:
    words = line.split()
    if not words or max(map(len, words)) > _LONGEST_NUMBER:
        return None
    try:
        return [Decimal(word) for word in words]
    except InvalidOperation:
        return None
