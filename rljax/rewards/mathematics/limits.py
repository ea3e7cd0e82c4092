"""Which answers are no school answers but attacks on the algebra system. They are never parsed."""

import re

MAX_CHARACTERS = 500
MAX_POWERS = 20
# Brackets in brackets; the parser's time grows fast with them.
MAX_DEPTH = 12

_HUGE = re.compile(
    r"\d{60}"  # a number of sixty digits
    r"|(?:\^|\*\*)[{(\s+-]*\d{4}"  # an exponent of four
    r"|(?:\^|\*\*)[{(\s+-]*\d+[)}\s]*(?:\^|\*\*)"  # a tower, such as 9^{9^9}
    r"|\d{4}[)}\s]*!"  # a factorial
    r"|binom\W*\d{4}"  # a binomial coefficient
)
_BRACKET = re.compile(r"[(\[{}\])]")


def is_tame(text: str) -> bool:
    """True unless the text is over-long, deeply nested, or holds huge numbers, powers or towers."""
    if len(text) > MAX_CHARACTERS or _HUGE.search(text):
        return False
    if text.count("^") + text.count("**") > MAX_POWERS:
        return False
    depth = deepest = 0
    for bracket in _BRACKET.findall(text):
        depth += 1 if bracket in "([{" else -1
        deepest = max(deepest, depth)
    return deepest <= MAX_DEPTH
