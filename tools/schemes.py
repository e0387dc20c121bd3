"""Pictures by matplotlib in the colours of reports, light or dark as the reader's page.

matplotlib draws by ``SETTINGS``, and ``in_both_schemes`` gives the colours of its SVG the names that they
have in the style sheet of reports, with a value for each scheme.
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

STYLE = Path(__file__).parent.parent / "pyinit" / "reports" / "page.css"
DIGITS = 1  # of coordinates
FONT = "system-ui, -apple-system, 'Segoe UI', Helvetica, Arial, sans-serif"
# Colours that matplotlib is given, by the names that they have in the style sheet.
NAMED = {"ground": "#fffffe", "ink": "#1b1f24", "soft": "#5b6470", "line": "#dde1e6"}
FIELD = "#0102"  # and two digits: how far a field of a heat map is on the scale
SETTINGS: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "pyinit",
    "font.size": 12,
    "figure.constrained_layout.h_pad": 0.06,
    "figure.constrained_layout.w_pad": 0.1,
    "figure.facecolor": NAMED["ground"],
    "axes.facecolor": NAMED["ground"],
    "axes.edgecolor": NAMED["soft"],
    "axes.labelcolor": NAMED["soft"],
    "axes.labelsize": "small",
    "grid.color": NAMED["line"],
    "text.color": NAMED["ink"],
    "xtick.color": NAMED["soft"],
    "ytick.color": NAMED["soft"],
    "xtick.labelsize": "small",
    "ytick.labelsize": "small",
}


def in_both_schemes(svg: str) -> str:
    """An SVG of matplotlib's, drawn by the settings, with the colours of light and of dark pages."""
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, flags=re.DOTALL)
    text = re.sub(r'"[^"]*"', _short, text)
    text = re.sub(r"(font: [^;\"]*?px) [^;\"]*", rf"\1 {FONT}", text)
    text = re.sub(rf"{FIELD}(..)", _field, text)
    light, dark = schemes()
    for name, value in {**NAMED, **series()}.items():
        text = text.replace(value, f"var(--{name})")
    used = [name for name in light if f"var(--{name})" in text]
    style = "\n".join(
        [
            f"svg {{ {_declared(light, used)} }}",
            f"@media (prefers-color-scheme: dark) {{ svg {{ {_declared(dark, used)} }} }}",
        ]
    )
    text = text.replace('<style type="text/css">', f'<style type="text/css">\n{style}\n', 1)
    return "\n".join(line.rstrip() for line in text.splitlines()) + "\n"


def schemes() -> list[dict[str, str]]:
    """The colours of reports by name, light and dark."""
    css = STYLE.read_text(encoding="utf-8")
    blocks = re.findall(r":root \{([^}]*--ground[^}]*)\}", css)
    light, dark = (dict(re.findall(r"--([\w-]+): ([^;]+);", block)) for block in blocks)
    return [light, {**light, **dark}]


def series() -> dict[str, str]:
    """The colours of lines by name, on a light page."""
    light = schemes()[0]
    return {f"s{i}": light[f"s{i}"] for i in range(8)}


def _short(attribute: re.Match[str]) -> str:
    """An attribute whose numbers have no more digits than can be seen."""
    return re.sub(r"-?\d+\.\d{2,}", lambda found: f"{float(found[0]):.{DIGITS}f}", attribute[0])


def _field(found: re.Match[str]) -> str:
    """The colour of a field, mixed as in reports."""
    return f"color-mix(in oklab, var(--s0) {4 + 0.9 * int(found[1], 16):.0f}%, var(--raised))"


def _declared(colours: Mapping[str, str], names: Iterable[str]) -> str:
    return " ".join(f"--{name}: {colours[name]};" for name in names)


def write_settings(path: Path) -> None:
    """The settings as a file that matplotlib reads, for the scripts of tutorials."""
    colours = ", ".join(f"'{value}'" for value in series().values())
    settings = SETTINGS | {
        "axes.prop_cycle": f"cycler('color', [{colours}])",
        "axes.grid": True,
        "axes.spines.right": False,
        "axes.spines.top": False,
        "axes.titlelocation": "left",
        "axes.titlesize": "medium",
        "axes.titleweight": "bold",
        "figure.constrained_layout.use": True,
        "figure.figsize": "5.2, 3.4",
        "legend.fontsize": "small",
        "legend.frameon": False,
        "lines.linewidth": 1.8,
        "lines.markersize": 4,
    }
    # matplotlib takes what follows # for a comment, and colours without it
    lines = (f"{name}: {value}".replace("#", "") for name, value in settings.items())
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
