"""Secrets: files hold the names of them, never their values.

A rendered file is committed, shown and mailed. What looks like a key is refused, by its form or by
the name of the variable that holds it.
"""

import re
from collections.abc import Iterable, Mapping

# Forms of well-known keys: hubs of models and code, clouds, chats, JSON web tokens, PEM.
FORMS = re.compile(
    r"\bhf_[A-Za-z0-9]{16,}|\bgh[pousr]_[A-Za-z0-9]{16,}|\bgithub_pat_\w{16,}|\bglpat-[\w-]{16,}"
    r"|\bsk-[\w-]{16,}|\bAKIA[A-Z0-9]{16}\b|\bASIA[A-Z0-9]{16}\b|\bAIza[\w-]{30,}|\bya29\.[\w-]{16,}"
    r"|\bxox[abprs]-[\w-]{10,}|\beyJ[\w-]{8,}\.[\w-]{8,}\.|-----BEGIN [A-Z ]*PRIVATE KEY"
    r"|://[^/\s:@]+:[^/\s@]+@"
)
# Variables and flags whose values are keys, whatever these look like.
NAMES = re.compile(r"(?i)(^|[_.-])(tokens?|secret|passw(or)?d|api[_-]?key|credentials?)$")
# Numbers, paths, names of variables and nothing are none.
HARMLESS = re.compile(r"-?\d+(\.\d+)?|true|false|none|null|\$\{?\w+\}?|(~|\.{0,2})/.*|", re.I)


def check_words(words: Iterable[str], field: str) -> None:
    """Raises ValueError if a word of a command looks like a key, or sets one.

    Args:
        words: of the command.
        field: named in the error.
    """
    for word in words:
        name, equals, value = word.partition("=")
        # Fields of a config, such as a stop token, hold no keys: of these only the form tells.
        named = equals and not name.startswith("--config.")
        _check(name.lstrip("-") if named else "", value if named else word, field)


def check_variables(variables: Mapping[str, str], field: str) -> None:
    """Raises ValueError if the value of a variable looks like a key, or its name says it is."""
    for name, value in variables.items():
        _check(name, value, field)


def check_text(text: str) -> None:
    """Raises ValueError if a rendered file holds what looks like a key: the last look at it."""
    _check("", text, "the rendered file")


def _check(name: str, value: str, field: str) -> None:
    """The value itself is never shown."""
    by_name = bool(name and NAMES.search(name)) and not HARMLESS.fullmatch(value)
    if by_name or FORMS.search(value):
        of = f"The value of {name}" if name else f"A value of {len(value)} letters"
        raise ValueError(
            f"{of} looks like a secret, and files must hold none: give the name of a Kubernetes "
            "secret (--secret=VARIABLE=SECRET:KEY) or of a variable that the hosts have "
            f"(--secret=VARIABLE) ({field})."
        )
