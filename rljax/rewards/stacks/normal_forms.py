r"""Texts without what other stacks do not count. Hendrycks' form is `math_strings.normal_form`."""

import re
import string

from rljax.rewards.math_strings import normal_form

# Minerva (arXiv:2206.14858, appendix D.1), in this order.
_MINERVA_REPLACED = [
    ("an ", ""),
    ("a ", ""),
    (".$", "$"),
    ("\\$", ""),
    ("\\ ", ""),
    (" ", ""),
    ("mbox", "text"),
    (",\\text{and}", ","),
    ("\\text{and}", ","),
    ("\\text{m}", "\\text{}"),
]
_MINERVA_REMOVED = (
    "square ways integers dollars mph inches hours km units \\ldots sue points feet minutes digits"
    " cents degrees cm gm pounds meters meals edges students childrentickets multiples \\text{s}"
    ' \\text{.} \\text{}^2 \\text{}^3 \\text{} \\mathrm{th} ^\\circ ^{\\circ} \\; ,\\! {,} " \\dots'
).split()
_MINERVA_PATTERNS = [
    (re.compile(pattern), by)
    for pattern, by in (
        (r"(.*?)\$(.*?)\$(.*)", r"\2"),
        (r"\\text\{(.*?)\}", r"\1"),
        (r"\\textbf\{(.*?)\}", r"\1"),
        (r"\\overline\{(.*?)\}", r"\1"),
        (r"\\boxed\{(.*)\}", r"\1"),
        (r"(frac)([^{])(.)", r"\1{\2}{\3}"),
        (r"(sqrt)([^{])", r"\1{\2}"),
        (r"\$", ""),
    )
]

_UNITS = (
    "degree cm centimeter meter mile second minute hour day week month year foot feet inch yard"
).split()
_UNIT = re.compile(rf"(?:{'|'.join(_UNITS)})(?:es)?s? *(?:\^[0-9]+)?")
_SCALES = {"million": "*10^6", "billion": "*10^9", "trillion": "*10^12"}
_WHOLE = re.compile(r"-?\d{1,3}(?:,\d{3})+|-?\d+")


def minerva(text: str) -> str:
    """Minerva's form of a final answer: what follows the last "=", no units, blanks or dollars."""
    text = text.rpartition("=")[2]
    for old, new in _MINERVA_REPLACED:
        text = text.replace(old, new)
    for piece in _MINERVA_REMOVED:
        text = text.replace(piece, "")
    for pattern, by in _MINERVA_PATTERNS:
        text = pattern.sub(by, text)
    digits = text.replace(",", "")
    return digits if digits.isdigit() else text


def mathd(text: str) -> str:
    r"""Hendrycks' form of what stands in a \text{} around it all."""
    match = re.fullmatch(r"\\text\{(.+?)\}", text.strip())
    return normal_form(match[1] if match else text.strip())


def prm800k(text: str) -> str:
    r"""The form that PRM800K's grader (arXiv:2305.20050) compares: no units, dollars, %, blanks."""
    match = re.fullmatch(r"\\text\{(.+?)\}", text.strip())
    text = match[1] if match else text
    text = re.sub(r"\\?[%$]", "", text)
    text = text.replace(" or ", " , ").replace(" and ", " , ")
    for word, factor in _SCALES.items():
        text = text.replace(word, factor)
    text = re.sub(r"\^ *\{?\\circ\}?", "", _UNIT.sub("", text))
    if text.startswith("{") and text.endswith("}"):
        text = text[1:-1]
    text = re.sub(r",\\! *", "", text)
    text = re.sub(r"(-) +", r"\1", text)
    text = re.sub(r"(\d) +(\d+/\d)", r"\1+\2", text)
    text = text.replace(" ", "").lower()
    if re.fullmatch(r"-?\d+\.0+", text):
        text = text.partition(".")[0]
    return text.replace(",", "") if _WHOLE.fullmatch(text) else text


def squad(text: str) -> str:
    """SQuAD's form (arXiv:1606.05250): lower case, no punctuation, no articles, single blanks."""
    text = "".join(sign for sign in text.lower() if sign not in string.punctuation)
    return " ".join(re.sub(r"\b(?:a|an|the)\b", " ", text).split())
