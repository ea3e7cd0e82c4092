r"""One spelling for what is written in many: Unicode, wrappings, groups of digits, sentences."""

import re
import unicodedata

from rljax.rewards.answers import box_content, last_boxed

# Fractions such as ½ are not here: Unicode itself says of what they consist.
_SIGNS = str.maketrans(
    {
        **dict.fromkeys("−–—‐‑﹣", "-"),
        **dict.fromkeys("⋅·∙", r"\cdot "),
        **dict.fromkeys("×✕", r"\times "),
        "÷": r"\div ",
        "∞": r"\infty ",
        "π": r"\pi ",
        "θ": r"\theta ",
        "α": r"\alpha ",
        "β": r"\beta ",
        "≤": r"\le ",
        "⩽": r"\le ",
        "≥": r"\ge ",
        "⩾": r"\ge ",
        "≠": r"\ne ",
        "≈": r"\approx ",
        "±": r"\pm ",
        "∪": r"\cup ",
        "∩": r"\cap ",
        "∈": r"\in ",
        "∅": r"\emptyset ",
        "ℝ": r"\mathbb{R}",
        "ℤ": r"\mathbb{Z}",
        "ℕ": r"\mathbb{N}",
        "ℚ": r"\mathbb{Q}",
        "ℂ": r"\mathbb{C}",
        "°": r"^\circ ",
        "′": "'",
        "’": "'",
        "‘": "'",
        "“": '"',
        "”": '"',
        "，": ", ",
        "、": ", ",
        "。": ".",
        "；": ";",
        "：": ":",
        "…": "...",
        "⁄": "/",
        "∕": "/",
        "∶": ":",
        "⟨": r"\langle ",
        "⟩": r"\rangle ",
    }
)
_BLANKS = re.compile(r"[\s\u00a0\u2000-\u200b\u202f\u205f\u3000\ufeff]+")
_POWERS = re.compile("[⁺⁻⁰¹²³⁴⁵⁶⁷⁸⁹ⁿ]+")
_INDICES = re.compile("[₊₋₀₁₂₃₄₅₆₇₈₉]+")
_ROOT = re.compile(r"([√∛∜])\s*(?:\(([^()]*)\)|(\{[^{}]*\})|(\d+(?:\.\d+)?|\\?[a-zA-Z]+))")
_ROOTS = {"√": r"\sqrt", "∛": r"\sqrt[3]", "∜": r"\sqrt[4]"}
_WIDE = re.compile(r"[\uff01-\uff5e]")

# Between digits these are layout: \, \! \; \: {,} \ ~ and an apostrophe.
_GROUP = re.compile(r"(?<=\d)(?:\\[,!;: ]|\{,\}|\\,\s|~|,\\!|'|_)\s?(?=\d{3}(?!\d))")
_THOUSANDS = re.compile(r"(?<![\d.,])(\d{1,3}(?:,\d{3})+)(?![\d,])")

# In this order.
_LAYOUT = [
    (re.compile(pattern), by)
    for pattern, by in (
        (r"\\[dtc]frac(?![a-zA-Z])", r"\\frac"),
        (r"\\(?:degree|textdegree)(?![a-zA-Z])|\^\s*\{\s*\\circ\s*\}", r"^\\circ "),
        (r"\\text\s*\{\s*(\\\$|\\%|[€£¥])\s*\}", r"\1"),
        (r"(?<!\\)\$(?![\s$])([^$]*[^\s$\\])\$(?!\d)", r"\1"),
        (r"\\\(\s*(.*?)\s*\\\)", r"\1"),
        (r"\\varnothing(?![a-zA-Z])", r"\\emptyset"),
        # 12th, 12^{th}, 12^{\text{th}}
        (r"(?<=\d)(?:st|nd|rd|th)(?![a-zA-Z])", ""),
        (r"(?<=\d)\s*\^\s*\{\s*(?:\\(?:text|mathrm|rm)\s*\{\s*)?(?:st|nd|rd|th)\s*\}{1,2}", ""),
    )
]

_PAIRS = [("$$", "$$"), ("$", "$"), (r"\(", r"\)"), (r"\[", r"\]"), ("**", "**"), ("`", "`")]
_PAIRS += [('"', '"'), ("``", "''")]
_WRAPPER = re.compile(
    r"\\(?:text|textbf|textit|textrm|textup|textnormal|texttt|mathrm|mathbf|mathit|mathsf|mbox|hbox"
    r"|boxed|fbox|boldsymbol|bm|operatorname|emph|ensuremath|displaystyle)\s*\{"
)
_ANSWER = re.compile(
    r"^(?:(?:so|thus|hence|therefore|finally)\b,?\s*)?(?:the\s+|my\s+|our\s+)?"
    r"(?:(?:final|correct|right|numerical)\s+)*"
    r"(?:answers?|ans|result|solution|option|choice)\b\s*"
    r"(?:(?:is|are|equals|to\s+the\s+(?:problem|question)\s+is)\b|[:=])\s*[:=]?\s*",
    re.IGNORECASE,
)
_LEADING_TEXT = re.compile(r"^\\(?:text|textbf|mathrm|mbox|textrm)\s*\{([^{}]*)\}")
_NEARLY = re.compile(r"^(?:approximately|about|roughly|\\approx|~(?=\d))\s*", re.IGNORECASE)
_EDGES = r"(?:\\[,;:! ]|~|\\quad|\\qquad|\\\\|\s)+"
_EDGE = re.compile(rf"^{_EDGES}|(?<!\\){_EDGES}$")
_OPTION = re.compile(r"^(?:option|choice)\s+(?=\(?[A-Z]\)?\.?$)", re.IGNORECASE)


def plain(text: str) -> str:
    r"""Unicode and layout replaced by LaTeX: "½" is \frac{1}{2}, "√2" \sqrt{2}, "1\,000" 1000.

    Blanks of any kind become one space, $...$ and \(...\) inside go away; the text is stripped.
    """
    text = _WIDE.sub(lambda sign: chr(ord(sign[0]) - 0xFEE0), text.translate(_SIGNS))
    text = _POWERS.sub(lambda run: f"^{{{_normal(run[0])}}}", text)
    text = _INDICES.sub(lambda run: f"_{{{_normal(run[0])}}}", text)
    text = "".join(map(_fraction_or_digit, text))
    text = _ROOT.sub(_latex_root, text)
    text = _BLANKS.sub(" ", text)
    for pattern, by in _LAYOUT:
        text = pattern.sub(by, text)
    return _GROUP.sub("", text).strip()


def unwrapped(text: str) -> str:
    r"""The text without what stands around it: $...$, \(...\), \text{...}, braces, **, stops."""
    while True:
        inner = _without_one(_EDGE.sub("", text).strip())
        if inner == text:
            return text
        text = inner


def without_sentence(text: str) -> str:
    """What follows "The answer is" and the like at the text's beginning."""
    text = text.strip()
    spoken = _LEADING_TEXT.sub(r"\1", text)
    if _ANSWER.match(spoken):
        text = _ANSWER.sub("", spoken, count=1)
    return _NEARLY.sub("", _OPTION.sub("", text))


def without_thousands(text: str) -> str:
    """Commas between groups of three digits dropped, unless they may part coordinates."""
    if re.search(r"[\[({]\d", text):
        return text
    return _THOUSANDS.sub(lambda number: number[1].replace(",", ""), text)


def words_of(text: str) -> str:
    r"""A text without the commands, braces, dollars and blanks of LaTeX around its words."""
    text = _WRAPPER.sub("{", text)
    text = re.sub(r"\\[,;:! ]|~|\\quad|\\qquad", " ", text)
    text = re.sub(r"[{}$]", "", text)
    return " ".join(text.split()).strip(" .")


def _without_one(text: str) -> str:
    if re.search(r"[^.]\.$|[;,。]$", text):
        text = text[:-1].rstrip()
    for start, end in _PAIRS:
        inner = text[len(start) : len(text) - len(end)]
        if text.startswith(start) and text.endswith(end) and len(text) > len(start) + len(end):
            if start not in inner:
                return inner.strip()
    if "\\boxed" in text or "\\fbox" in text:
        box = last_boxed(text)
        if box is not None:
            return box_content(box).strip()
    wrapper = _WRAPPER.match(text)
    begin = wrapper.end() - 1 if wrapper else 0
    if text[begin : begin + 1] == "{" and _closing(text, begin) == len(text) - 1:
        return text[begin + 1 : -1].strip()
    return text


def _closing(text: str, begin: int) -> int:
    """Place of the brace that closes the one at `begin`, or -1."""
    depth = 0
    for match in re.finditer(r"(?<!\\)[{}]", text[begin:]):
        depth += 1 if match[0] == "{" else -1
        if depth == 0:
            return begin + match.start()
    return -1


def _normal(run: str) -> str:
    return unicodedata.normalize("NFKC", run).replace("−", "-")


def _fraction_or_digit(sign: str) -> str:
    if sign.isascii():
        return sign
    if unicodedata.category(sign) == "Nd":
        return str(unicodedata.digit(sign))
    top, slash, bottom = unicodedata.normalize("NFKC", sign).partition("⁄")
    return rf"\frac{{{top}}}{{{bottom}}}" if slash and top and bottom else sign


def _latex_root(match: re.Match) -> str:
    content = match[2] or match[4] or match[3][1:-1]
    return f"{_ROOTS[match[1]]}{{{content}}}"
