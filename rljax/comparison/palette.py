"""The colours of a comparison: seven and the ink, told apart without red-green or blue vision.

Any two differ by at least 18 units of CIELAB for normal sight, deuteranopia, protanopia and
tritanopia alike, and each has a contrast of at least 3 to the card that it is drawn on. The
baseline is always the ink, dashed.
"""

from __future__ import annotations

INK = 8  # the colour of the baseline; the others are 0 ... 6, and 7 is the grey of context
OTHERS = 7

LIGHT = {
    "paper": "#ffffff",
    "ink": "#1c1e22",
    "muted": "#646870",
    "rule": "#e3dfd6",
    "c0": "#014ed1",
    "c1": "#e7751a",
    "c2": "#007153",
    "c3": "#b13d8a",
    "c4": "#aa7d3e",
    "c5": "#2b98c9",
    "c6": "#5b2e88",
    "c7": "#b4b6ba",
    "c8": "#1c1e22",
}
DARK = {
    "paper": "#1a1d22",
    "ink": "#e7e5df",
    "muted": "#9da1aa",
    "rule": "#2d3139",
    "c0": "#8ba5ff",
    "c1": "#ea8755",
    "c2": "#229e81",
    "c3": "#cf73b5",
    "c4": "#e2b63f",
    "c5": "#66c4ec",
    "c6": "#815db7",
    "c7": "#575b63",
    "c8": "#e7e5df",
}
COLOURS = tuple(name for name in LIGHT if name.startswith("c"))


def page_style() -> str:
    """What the page's style sheet must say differently from that of a run's report."""
    light, dark = (
        " ".join(f"--{name}: {look[name]};" for name in COLOURS) for look in (LIGHT, DARK)
    )
    return (
        f":root {{ {light} }}\n"
        f"@media (prefers-color-scheme: dark) {{ :root {{ {dark} }} }}\n"
        ".c8 { --c: var(--c8); }\n"
        ".band { fill: var(--c); fill-opacity: .16; stroke: none; }\n"
        ".context { fill: none; stroke: var(--c7); stroke-width: 1; }\n"
        ".whisker { stroke: var(--c); stroke-width: 2; }\n"
        ".zero { stroke: var(--muted); stroke-width: 1; stroke-dasharray: 2 3; }\n"
        ".name { font: 12px var(--sans); fill: var(--ink); }\n"
        ".charts + .scroll, .scroll + .more, .scroll + .meaning { margin-top: 16px; }\n"
        "td.verdict { font-weight: 600; }\n"
        "tr.baseline th { font-style: italic; }\n"
    )


def picture_style(*, both: bool = True) -> str:
    """The style sheet within a picture that stands alone; `both` adds the dark look.

    Colours are written out: many programs that draw SVG know no CSS variables.
    """
    dark = f"@media (prefers-color-scheme: dark) {{ {_concrete(DARK)} }}" if both else ""
    return (
        "text { font-family: system-ui, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, "
        "'DejaVu Sans', sans-serif; } "
        ".tick { font-size: 11.5px; } .heading { font-size: 15px; font-weight: 600; } "
        ".label { font-size: 12px; font-weight: 600; } .axis { font-size: 12px; } "
        ".line, .context, .grid, .leader { fill: none; } .line { stroke-width: 2; "
        "stroke-linejoin: round; stroke-linecap: round; } .context, .grid { stroke-width: 1; } "
        ".leader { stroke-width: 1; stroke-opacity: .6; } "
        ".dashed { stroke-dasharray: 5 4; } .band { fill-opacity: .16; } "
        f".grid.base {{ opacity: .6; }} {_concrete(LIGHT)} {dark}"
    )


def _concrete(look: dict[str, str]) -> str:
    rules = [
        f".paper {{ fill: {look['paper']}; }}",
        f".tick, .axis {{ fill: {look['muted']}; }}",
        f".heading {{ fill: {look['ink']}; }}",
        f".grid {{ stroke: {look['rule']}; }} .grid.base {{ stroke: {look['muted']}; }}",
        f".context {{ stroke: {look['c7']}; }}",
    ]
    for name in COLOURS:
        colour = look[name]
        rules.append(
            f".line.{name}, .leader.{name} {{ stroke: {colour}; }} "
            f".band.{name}, .label.{name}, .dot.{name} {{ fill: {colour}; }}"
        )
    return " ".join(rules)
