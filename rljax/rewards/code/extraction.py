"""The code in a completion."""

import re

# Possessive: a text without end of line takes linear time.
_BLOCK = re.compile(r"^[ \t]*+```[ \t]*+([\w+#.-]*+)[^\n]*+\n(.*?)^[ \t]*+```", re.M | re.S)

# How blocks of a language are tagged.
TAGS = {"python": ("python", "py", "python3")}


def code_of(completion: str, language: str = "python") -> str:
    """The last fenced block of the language, or the last one without a tag, or the whole text.

    Args:
        completion: the model's text.
        language: the tag of its blocks.
    """
    wanted = (*TAGS.get(language, (language,)), "")
    blocks = [code for tag, code in _BLOCK.findall(completion) if tag.lower() in wanted]
    return blocks[-1] if blocks else completion
