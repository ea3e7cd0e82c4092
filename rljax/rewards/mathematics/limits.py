"""Which answers are no school answers but attacks on the algebra system. They are never parsed."""

import re

MAX_CHARACTERS = 500
MAX_POWERS = 20
_HUGE = re.compile(
    r"\d{60}"  # a number of sixty digits
    r"|(?:\^|\*\*)[{(\s+-]*\d{4}"  # an exponent of four
    r"|(?:\^|\*\*)[{(\s+-]*\d+[)}\s]*(?:\^|\*\*)"  # a tower, such as 9^{9^9}
    r"|\d{4}[)}\s]*!"  # a factorial
)


def is_tame(text: str) -> bool:
    """True unless the text is over-long, or holds huge numbers, huge exponents or towers."""
    if len(text) > MAX_CHARACTERS or _HUGE.search(text):
        return False
    return text.count("^") + text.count("**") <= MAX_POWERS
