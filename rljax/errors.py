"""One wording for every "unknown name" error: given, allowed, where to set it, nearest spelling."""

import difflib
from collections.abc import Iterable


def unknown_name(kind: str, given: object, known: Iterable[str], field: str) -> ValueError:
    """Builds (does not raise) the error for a name that is not in a table.

    Args:
        kind: what the name stands for, such as "reward".
        given: what the user wrote.
        known: every allowed name.
        field: the config field to change, such as "config.rewards".
    """
    names = sorted(known)
    near = difflib.get_close_matches(str(given), names, n=1, cutoff=0.5)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    listed = ", ".join(repr(name) for name in names) or "none"
    return ValueError(f"Unknown {kind} {given!r}; known: {listed} ({field}).{hint}")
