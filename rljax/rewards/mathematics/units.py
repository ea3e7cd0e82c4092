"""Units and currencies that may stand beside a number: dropped, but never taken for another one."""

import re

# One line for each unit: its names. A plural s is known too.
_UNITS = """
m meter metre
cm centimeter centimetre
mm millimeter millimetre
km kilometer kilometre
in inch inches
ft foot feet
yd yard
mi mile
g gram gm
kg kilogram kilo
mg milligram
lb lbs pound
oz ounce
s sec second
min minute mins
h hr hour
d day
week wk
month
yr year
l L liter litre
ml mL milliliter millilitre
cent ¢
dollar $ USD usd US$ buck
euro € EUR eur
pound-sterling £ GBP gbp
yen ¥ JPY jpy
yuan CNY RMB rmb 元
rupee ₹ Rs Rs. rs rs. INR
won ₩ KRW
degree deg ^\\circ ° 度
celsius °C ^\\circC
fahrenheit °F ^\\circF
radian rad
mph
kmh km/h kph
米
厘米
公里
千克
秒
N newton
J joule
W watt
V volt
K kelvin
A ampere amp
Pa pascal
Hz hertz
mol mole
"""
_SAME = {"米": "m", "厘米": "cm", "公里": "km", "千克": "kg", "秒": "s"}
NAMES: dict[str, str] = {}
for _line in _UNITS.splitlines():
    for _name in _line.split():
        _unit = _SAME.get(_line.split()[0], _line.split()[0])
        NAMES[_name] = _unit
        if len(_name) > 2 and _name.isalpha() and _name.isascii():
            NAMES.setdefault(_name + "s", _unit)

CURRENCIES = ("US$", "$", "€", "£", "¥", "₹", "₩", "Rs.", "Rs", "USD", "EUR", "GBP")

_LINKS = frozenset(("of", "the", "per", "a", "an"))

# A capital alone is a variable more often than a unit, unless the whole text says so.
_LONE_CAPITALS = frozenset("NJWVKA")

# Words that stand behind a number and change it, so that they are no units.
SCALES = {
    "hundred": 100,
    "thousand": 10**3,
    "million": 10**6,
    "billion": 10**9,
    "trillion": 10**12,
    "千": 10**3,
    "万": 10**4,
    "亿": 10**8,
}
NO_UNITS = frozenset(
    "or and to times plus minus over divided by squared cubed factorial dozen half halves third"
    " thirds quarter quarters fourth fourths fifth fifths less more than greater if when where for"
    " mod modulo not between at except with without but is are was were has have from as choose"
    " base e i pi sqrt sin cos tan log ln exp approximately about".split()
)


_TEXT = re.compile(r"\\(?:text|textrm|mathrm|mbox|operatorname|rm|hbox)\s*\{([^{}]*)\}")
_POWER = re.compile(r"\s*\^\s*\{?\s*(-?\d)\s*\}?")
_ASIAN = "\u3040-\u30ff\u4e00-\u9fff\uac00-\ud7af"
# Signs in these that multiply: ten, hundred, thousand, half and the like.
_ASIAN_SCALES = "千万亿百十半倍分"


def unit_of(text: str) -> str | None:
    r"""What stands behind a number, as one unit: "" for none, None where it is no unit.

    A known unit has one name ("meters" is "m"). Other words are units if they stand apart from the
    number or in \text{}: 5xy is a product.
    """
    apart = bool(_TEXT.search(text)) or text[:1].isspace()
    text = _TEXT.sub(r" \1 ", text)
    text = re.sub(r"\\[,;:! ]|~|\\quad|\\cdot|\{\}", " ", text)
    text = re.sub(r"\^\s*\\circ\s*(?=[CF]\b)", r"^\\circ", text)
    text = re.sub(r"(?<!\.)\.$", "", _POWER.sub(r"^\1", text).strip()).strip()
    if text in NAMES:
        return NAMES[text]
    words = [word for word in text.split() if word not in _LINKS]
    if len(words) > 6 or any(word.lower() in NO_UNITS or word in SCALES for word in words):
        return None
    parts = [[_one_name(part, apart) for part in word.split("/")] for word in words]
    if any(None in word for word in parts):
        return None
    return " ".join("/".join(word) for word in parts)


def is_known(unit: str) -> bool:
    """True for units of the table, with or without a power: these can be told apart."""
    return all(re.sub(r"\^-?\d$", "", part) in NAMES.values() for part in re.split(r"[ /]", unit))


def _one_name(word: str, apart: bool) -> str | None:
    """The unit that a word is, with its power; None for another word."""
    match = re.fullmatch(
        rf"([a-zA-Z][a-zA-Z'-]*|\\?\^?\\circ[CF]?|\$|[{_ASIAN}]+)(\^-?\d)?\.?", word
    )
    if match is None or match[1] in _LONE_CAPITALS:
        return None
    name, power = match[1], match[2] or ""
    if name in NAMES:
        return NAMES[name] + power
    if re.match(f"[{_ASIAN}]", name):
        return None if set(name) & set(_ASIAN_SCALES) else name + power
    is_word = len(name) > 2 and re.search("[aeiouAEIOU]", name)
    return name + power if apart and is_word else None
