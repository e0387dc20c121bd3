"""Makes docs/tutorials/*.md and their pictures from examples/tutorials/*.py, with what these print.

    python tools/make_tutorials.py                      # all of them
    python tools/make_tutorials.py choose_a_start

A tutorial is a script. Its docstring has the title in its first line and then what the page begins with, and a
line that begins with ``# %%`` begins a step, with the step's heading; comments right below that line are the page's
text. Pictures are the SVG files that the script writes, with the title in their metadata; the page has them in the
step whose code names them. A script whose docstring names ``torchrun`` is run by two processes.
"""

import argparse
import ast
import os
import re
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
SCRIPTS = ROOT / "examples" / "tutorials"
PAGES = ROOT / "docs" / "tutorials"
WIDTH = 88  # of the lines that the page shows
BETWEEN_STEPS = "\x1e"  # what a script that is run here prints as each step begins
MARK = (
    '__import__("os").environ.get("RANK", "0") == "0" and '
    f"print({BETWEEN_STEPS!r}, end='', flush=True)"
)
# At an ordinary end of a rank, a thread of torch's aborts the process now and then.
END = "__import__('sys').stdout.flush()\n__import__('os')._exit(0)"


@dataclass(frozen=True)
class Step:
    """A part of a tutorial.

    heading: what it is called
    text: what the page says before the code, as Markdown
    code: Python
    """

    heading: str
    text: str
    code: str

    @property
    def pictures(self) -> list[str]:
        """The files that the code writes."""
        return re.findall(r'"([\w-]+\.svg)"', self.code)


@dataclass(frozen=True)
class Tutorial:
    """A script, read.

    title: of the page
    text: what the page begins with, as Markdown
    steps: its parts
    """

    title: str
    text: str
    steps: Sequence[Step]


def read(script: Path) -> Tutorial:
    """The tutorial that a script is."""
    source = script.read_text(encoding="utf-8")
    docstring = ast.get_docstring(ast.parse(source)) or ""
    title, _, text = docstring.partition("\n")
    _, *parts = re.split(r"^# %% ", source, flags=re.MULTILINE)
    return Tutorial(title.removesuffix("."), text.strip(), [_step(part) for part in parts])


def _step(part: str) -> Step:
    heading, *lines = part.splitlines()
    count = next((i for i, line in enumerate(lines) if not line.startswith("#")), len(lines))
    text = "\n".join(line.removeprefix("#").removeprefix(" ") for line in lines[:count])
    return Step(heading, text, "\n".join(lines[count:]).strip())


def run(script: Path, folder: Path, seconds: float = 900) -> list[str]:
    """What each step of a script prints; its files are left in the folder."""
    source = script.read_text(encoding="utf-8")
    marked = folder / script.name
    lines = [MARK if line.startswith("# %% ") else line for line in source.splitlines()]
    by_ranks = "torchrun" in source
    if by_ranks:
        lines.append(END)
    marked.write_text("\n".join(lines) + "\n", encoding="utf-8")
    ranks = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [sys.executable, *(ranks if by_ranks else []), str(marked)],
        cwd=folder,
        env={**os.environ, "MPLBACKEND": "agg", "OMP_NUM_THREADS": "1", "COLUMNS": str(WIDTH)}
        | ({"MATPLOTLIBRC": str(folder)} if (folder / "matplotlibrc").exists() else {}),
        capture_output=True,
        text=True,
        check=False,
        timeout=seconds,
    )
    if done.returncode:
        raise SystemExit(f"{script.name} failed:\n{done.stdout}{done.stderr}")
    _, *printed = done.stdout.split(BETWEEN_STEPS)
    return ["\n".join(map(_fitted, each.strip("\n").splitlines())) for each in printed]


def _fitted(line: str) -> str:
    """A printed line, wrapped if it is a long sentence."""
    if len(line) <= WIDTH or "   " in line:  # tables stay
        return line.rstrip()
    return textwrap.fill(line, WIDTH, subsequent_indent="  ", break_on_hyphens=False)


def page(script: Path, printed: Sequence[str], titles: Mapping[str, str]) -> str:
    """The page of a script.

    printed: what each step printed
    titles: of the pictures, by file
    """
    tutorial = read(script)
    lines = [f"# {tutorial.title}", "", tutorial.text, ""]
    for step, output in zip(tutorial.steps, printed, strict=True):
        lines += [f"## {step.heading}", "", step.text, ""]
        if step.code:
            lines += ["```python", step.code, "```", ""]
        if output:
            lines += ["```text", output, "```", ""]
        for name in step.pictures:
            lines += [f"![{titles[name]}]({name})", ""]
    return re.sub(r"\n{3,}(?=## )", "\n\n", "\n".join(lines).rstrip()) + "\n"


def title_of(svg: str) -> str:
    """What a picture says of itself."""
    found = re.search(r"<title>(.*?)</title>", svg, re.DOTALL)
    if not found:
        raise SystemExit("a picture has no title: savefig(..., metadata={'Title': ...})")
    return found[1].strip()


def make(script: Path) -> None:
    """Write the page and the pictures of a script."""
    from schemes import in_both_schemes, write_settings  # noqa: PLC0415  # they need matplotlib

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_settings(folder / "matplotlibrc")
        printed = run(script, folder)
        drawn = [picture for step in read(script).steps for picture in step.pictures]
        pictures = {each: (folder / each).read_text(encoding="utf-8") for each in drawn}
    PAGES.mkdir(exist_ok=True)
    titles = {each: title_of(svg) for each, svg in pictures.items()}
    for each, svg in pictures.items():
        (PAGES / each).write_text(in_both_schemes(svg), encoding="utf-8")
    text = page(script, printed, titles)
    (PAGES / f"{script.stem}.md").write_text(text, encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    scripts = {script.stem: script for script in sorted(SCRIPTS.glob("*.py"))}
    parser.add_argument("names", nargs="*", choices=[[], *scripts], help="these tutorials alone")
    for name in parser.parse_args().names or scripts:
        print(name, flush=True)
        make(scripts[name])


if __name__ == "__main__":
    main()
