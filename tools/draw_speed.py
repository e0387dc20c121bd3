"""Draws docs/speed.svg, the picture in the README, from a run of ``pyinit bench --json``.

    pyinit bench "$(python tools/draw_speed.py --pattern)" --json > run.json
    python tools/draw_speed.py run.json

The second command keeps what the picture shows in docs/speed.json; without a run, the picture is drawn
from that file again. Nothing but the standard library is needed for it.
"""

import argparse
import json
import math
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

DOCS = Path(__file__).parent.parent / "docs"

# Cases by their names in the bench, and how the picture calls them.
CASES = {
    "uniform_ float32 2^24": ("uniform_", "16.8 M"),
    "normal_ float32 2^24": ("normal_", "16.8 M"),
    "normal_ float32 2^24 rng=torch": ("normal_", "torch's own numbers"),
    "normal_ float32 16": ("normal_", "16 elements"),
    "normal_ bfloat16 2^22": ("normal_", "4.2 M, bfloat16"),
    "trunc_normal_ float32 2^24": ("trunc_normal_", "16.8 M"),
    "orthogonal_ float32 1024x1024": ("orthogonal_", "1024x1024"),
    "initialize_(torch) float32 gpt2": ("initialize_", "GPT-2, 124 M"),
    "initialize_(kaiming) float32 resnet50": ("initialize_", "ResNet-50"),
    "conv2d forward float32 resnet50 64>64 3x3 56px b16": ("conv2d", "3x3, batch 16"),
    "conv2d backward-weights float32 resnet50 256>64 1x1 56px b16": (
        "conv2d",
        "1x1, weight gradient",
    ),
    "activation gelu forward float32 2^22": ("gelu", "4.2 M"),
}

WIDTH, ROW, TOP, BOTTOM = 440, 23, 62, 36
LEFT, RIGHT = 224, 398  # of the bars
LEAST, MOST = 0.8, 130.0  # the ratios there
TICKS = (1, 3, 10, 30, 100)
ISAS = {"avx2": "AVX2", "avx512": "AVX-512", "baseline": "x86-64-v2", "neon": "NEON"}

# The picture brings its own background, so that it can be read on a page of any colour.
STYLE = """
text { font: 13px system-ui, -apple-system, "Segoe UI", Helvetica, Arial, sans-serif; fill: #1f2328 }
.card { fill: #ffffff; stroke: #d1d9e0 }
.title { font-size: 16px; font-weight: 600 }
.note, .detail { fill: #59636e }
.note { font-size: 12px }
.value { font-weight: 600 }
.grid { stroke: #d1d9e0 }
.even { stroke: #59636e }
.faster { fill: #1a7f64 }
.slower { fill: #bc4c00 }
@media (prefers-color-scheme: dark) {
  text { fill: #f0f6fc }
  .card { fill: #0d1117; stroke: #3d444d }
  .note, .detail { fill: #9198a1 }
  .grid { stroke: #3d444d }
  .even { stroke: #9198a1 }
  .faster { fill: #2ea886 }
  .slower { fill: #db6d28 }
}
"""


def name(case: dict[str, Any]) -> str:
    return f"{case['operation']} {case['dtype']} {case['size']}"


def shown(run: dict[str, Any]) -> dict[str, Any]:
    """What the picture needs of a run, in the picture's order."""
    measured = {name(case): case for case in run["cases"]}
    missing = CASES.keys() - measured.keys()
    if missing:
        raise SystemExit(f"the run lacks {', '.join(sorted(missing))}")
    machine = {key: run["machine"][key] for key in ("version", "torch", "threads", "isa")}
    keys = ("operation", "dtype", "size", "ratio")
    cases = [{key: measured[case][key] for key in keys} for case in CASES]
    return {"machine": machine, "cases": cases}


def position(ratio: float) -> float:
    """Where a ratio lies from left to right, on a logarithmic scale."""
    share = math.log(min(max(ratio, LEAST), MOST) / LEAST) / math.log(MOST / LEAST)
    return round(LEFT + share * (RIGHT - LEFT), 1)


def add(parent: ET.Element, tag: str, text: str | None = None, **attributes: Any) -> ET.Element:
    named = {key.rstrip("_").replace("_", "-"): str(value) for key, value in attributes.items()}
    element = ET.SubElement(parent, tag, named)
    element.text = text
    return element


def picture(run: dict[str, Any]) -> str:
    cases, machine = run["cases"], run["machine"]
    bottom = TOP + ROW * len(cases)
    height = bottom + BOTTOM
    svg = ET.Element("svg", xmlns="http://www.w3.org/2000/svg", viewBox=f"0 0 {WIDTH} {height}")
    svg.set("role", "img")
    listed = ", ".join(f"{' '.join(CASES[name(case)])} {case['ratio']:.1f}" for case in cases)
    add(svg, "title", f"pyinit, times as fast as torch: {listed}")
    add(svg, "style", STYLE)
    add(svg, "rect", x=0.5, y=0.5, width=WIDTH - 1, height=height - 1, rx=8, class_="card")
    version = machine["torch"].partition("+")[0]
    add(svg, "text", f"Times as fast as torch {version}", x=16, y=28, class_="title")
    for tick in TICKS:
        x = position(tick)
        line = "even" if tick == 1 else "grid"
        add(svg, "line", x1=x, x2=x, y1=TOP - 4, y2=bottom, class_=line)
        add(svg, "text", f"{tick}x", x=x, y=TOP - 9, text_anchor="middle", class_="note")
    for row, case in enumerate(cases):
        function, detail = CASES[name(case)]
        ratio, y = case["ratio"], TOP + ROW * row
        label = add(svg, "text", function, x=16, y=y + 16)
        add(label, "tspan", detail, dx=6, class_="detail")
        even, end = position(1), position(ratio)
        speed = "faster" if ratio >= 1 else "slower"
        x, width = min(even, end), round(abs(end - even), 1)
        add(svg, "rect", x=x, y=y + 4, width=width, height=ROW - 7, rx=2, class_=speed)
        digits = f"{ratio:.0f}" if ratio >= 10 else f"{ratio:.1f}"
        add(svg, "text", digits, x=max(even, end) + 5, y=y + 16, class_="value")
    isa = ISAS[machine["isa"]]
    note = f"M: million elements; {machine['threads']} threads, {isa}; logarithmic scale"
    add(svg, "text", note, x=16, y=height - 14, class_="note")
    ET.indent(svg)
    return ET.tostring(svg, encoding="unicode") + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("run", nargs="?", type=Path, help="the output of pyinit bench --json")
    parser.add_argument(
        "--pattern", action="store_true", help="print what pyinit bench has to measure, and end"
    )
    arguments = parser.parse_args()
    if arguments.pattern:
        print(f"^({'|'.join(map(re.escape, CASES))})$")
        return
    kept = DOCS / "speed.json"
    if arguments.run is not None:
        run = shown(json.loads(arguments.run.read_text()))
        kept.write_text(json.dumps(run, indent=1) + "\n")
    (DOCS / "speed.svg").write_text(picture(json.loads(kept.read_text())))


if __name__ == "__main__":
    main()
