"""Look for failures of pyinit's kernels by random cases: see ``python scripts/fuzz.py --help``."""

import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import click
from fuzzing.case import Case
from fuzzing.failures import GOOD, Failure, Findings, program_text
from fuzzing.pool import SCRIPTS, Answer, Worker, python_environment
from fuzzing.shrink import shrink
from fuzzing.subjects import SUBJECTS, case_of, drawn
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

_AT_A_TIME = 60  # cases between two looks at the clock
_SAME = {"hang": "slow"}  # a kind of failure that may become another when a case is made shorter


def available_isas() -> list[str]:
    program = "from pyinit import _core; print(*_core.available_isas())"
    command, place = [sys.executable, "-c", program], {"cwd": SCRIPTS, "env": python_environment()}
    return subprocess.run(
        command, check=True, stdout=subprocess.PIPE, text=True, **place
    ).stdout.split()


def names_of(known: Sequence[str], wanted: str, option: str) -> list[str]:
    names = wanted.split(",") if wanted else list(known)
    unknown = [name for name in names if name not in known]
    if unknown:
        raise click.BadParameter(f"{unknown[0]!r} is none of {', '.join(known)}", param_hint=option)
    return names


def judged_by(workers: Sequence[Worker], case: Case) -> Answer:
    """The first failure among the workers' answers, or else the answer of the last worker."""
    answers = [worker.judge(case) for worker in workers]
    for answer in answers:
        if answer.kind not in GOOD:
            return answer
    return differing(workers, answers, case)[1] or answers[-1]


def differing(
    workers: Sequence[Worker], answers: Sequence[Answer], case: Case
) -> tuple[tuple[Worker, ...], Answer | None]:
    """Two workers whose bits must be the same and are not, with an answer that says so."""
    fused = [
        (worker, answer)
        for worker, answer in zip(workers, answers, strict=True)
        if answer.kind == "ok" and (case.same_bits == "all" or worker.isa != "baseline")
    ]
    for worker, answer in fused[1:]:
        if answer.digest != fused[0][1].digest:
            text = f"other bits on {worker.isa} than on {fused[0][0].isa}"
            found = Answer(answer.index, answer.subject, answer.label, "bits", text, "")
            return (fused[0][0], worker), found
    return (), None


class Fuzzing:
    """A run over cases, each of which all instruction sets judge at the same time."""

    def __init__(self, workers: list[Worker], seed: int, subjects: list[str]) -> None:
        self.workers = workers
        self.findings = Findings()
        self._seed, self._subjects = seed, subjects

    def take(self, start: int, stop: int) -> None:
        def answers(worker: Worker) -> dict[int, Answer]:
            found = worker.cases(self._seed, start, stop, self._subjects)
            return {answer.index: answer for answer in found}

        with ThreadPoolExecutor(len(self.workers)) as threads:
            together = list(threads.map(answers, self.workers))
        for index in range(start, stop):
            case = drawn(self._seed, index, self._subjects)
            if case is not None:
                self._note(index, case, [of[index] for of in together])

    def _note(self, index: int, case: Case, answers: list[Answer]) -> None:
        for worker, answer in zip(self.workers, answers, strict=True):
            failure = Failure(case, index, (worker.isa,), answer)
            is_good = answer.kind in GOOD
            self.findings.note(None if is_good else failure, case.name, answer.kind)
        between, answer = differing(self.workers, answers, case)
        if answer is not None:
            isas = tuple(worker.isa for worker in between)
            self.findings.note(Failure(case, index, isas, answer), case.name, answer.kind)

    def shortened(self, failure: Failure, seconds: float) -> Failure:
        """The shortest case that fails as this one does, or the case itself if it does not fail again."""
        workers = [worker for worker in self.workers if worker.isa in failure.isas]
        kind = failure.answer.kind

        def same(other: str) -> bool:
            return _SAME.get(other, other) == _SAME.get(kind, kind)

        case = shrink(failure.case, lambda c: same(judged_by(workers, c).kind), seconds)
        answer = judged_by(workers, case)
        if not same(answer.kind):
            text = f"{failure.answer.text}, but not when it was judged again"
            answer = Answer(failure.index, case.name, case.label(), kind, text, "")
        return Failure(case, failure.index, failure.isas, answer)


def shortest(fuzzing: Fuzzing, seconds: float) -> list[tuple[Failure, int]]:
    """The shortest failure of each label and kind, and how many failures it stands for."""
    found: dict[tuple[str, str], tuple[Failure, int]] = {}
    for place, failure in fuzzing.findings.shortest.items():
        short, times = fuzzing.shortened(failure, seconds), fuzzing.findings.times[place]
        known, before = found.get((short.case.label(), place[1]), (short, 0))
        least = min(known, short, key=lambda f: len(f.case.to_json()))
        found[short.case.label(), place[1]] = least, before + times
    return list(found.values())


def print_failure(console: Console, failure: Failure, times: int, seed: int) -> None:
    answer, isas = failure.answer, ", ".join(failure.isas)
    console.rule(f"{failure.case.label()}: {answer.kind} ({times} times)")
    for line in (
        answer.text,
        f"on {isas}, first seen as index {failure.index} of seed {seed}",
        "",
        program_text(failure.case),
        "",
        f"PYINIT_ISA={failure.isas[0]}; python scripts/fuzz.py --isa {','.join(failure.isas)} \\",
        f"  --case '{failure.case.to_json()}'",
    ):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def print_counts(console: Console, findings: Findings) -> None:
    kinds = sorted({kind for _, kind in findings.kinds}, key=lambda k: (k not in GOOD, k))
    table = Table("subject", "judged", *kinds)
    for subject in SUBJECTS:
        counts = [findings.kinds[subject, kind] for kind in kinds]
        if any(counts):
            table.add_row(subject, str(sum(counts)), *(str(n) if n else "" for n in counts))
    console.print(table)


@click.command()
@click.option("--seconds", default=60.0, show_default=True, help="How long to look for failures.")
@click.option("--cases", type=int, help="How many indices to take at most.")
@click.option("--seed", default=0, show_default=True, help="Cases are functions of seed and index.")
@click.option("--start", default=0, show_default=True, help="The first index.")
@click.option("--subject", default="", help=f"Some of {','.join(SUBJECTS)} (default: all).")
@click.option("--isa", default="", help="Some instruction sets (default: all of the machine).")
@click.option("--case", "text", help="Judge this one case, as a failure prints it.")
@click.option(
    "--case-seconds",
    default=10.0,
    show_default=True,
    help="Processor seconds after which a case counts as a hang.",
)
@click.option(
    "--shrink-seconds",
    default=20.0,
    show_default=True,
    help="How long to look for a shorter case, for each kind of failure.",
)
def main(
    *,
    seconds: float,
    cases: int | None,
    seed: int,
    start: int,
    subject: str,
    isa: str,
    text: str | None,
    case_seconds: float,
    shrink_seconds: float,
) -> None:
    """Look for failures of pyinit's kernels by random cases.

    Each case runs on every instruction set of the machine, in a process for each, and is compared with an independent
    reference: torch in float64, mpmath, or the definitions in docs/random.md. It fails if its results are wrong, or differ
    in their bits with one thread or on another instruction set; if it writes beside its results; if it crashes, does not
    end, raises where torch does not, or accepts what torch refuses; if it takes more than 50 times torch's time and more
    than 50 ms, or 64 MiB more memory than torch. The shortest failing cases are printed at the end as programs, and the
    exit status is then 1.

    A run that was stopped can go on: it prints the index for --start. Under sanitizers time and memory are not judged.
    """
    isas = names_of(available_isas(), isa, "--isa")
    subjects = names_of(list(SUBJECTS), subject, "--subject")
    workers = [Worker(name, case_seconds) for name in isas]
    console = Console(soft_wrap=True)
    try:
        if text is not None:
            answer = judged_by(workers, case_of(text))
            console.print(f"{answer.kind} {answer.text}", markup=False)
            sys.exit(answer.kind not in GOOD)
        fuzzing = Fuzzing(workers, seed, subjects)
        stop = sys.maxsize if cases is None else start + cases
        begin = time.monotonic()
        index = look(fuzzing, start, stop, seconds)
        took = time.monotonic() - begin
        findings = fuzzing.findings
        failures = shortest(fuzzing, shrink_seconds)
    finally:
        for worker in workers:
            worker.close()
    for failure, times in failures:
        print_failure(console, failure, times, seed)
    print_counts(console, findings)
    judged = sum(findings.kinds.values())
    console.print(
        f"{judged} judgements on {', '.join(isas)} in {took:.0f} s, {judged / max(took, 1e-9):.0f} a second, "
        f"{len(failures)} kinds of failures; to go on: --seed {seed} --start {index}"
    )
    sys.exit(bool(failures))


def look(fuzzing: Fuzzing, start: int, stop: int, seconds: float) -> int:
    """Take cases until the time is over or the user interrupts, and return the next index."""
    progress = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )
    begin, index = time.monotonic(), start
    with progress:
        task = progress.add_task("", total=seconds)
        try:
            while index < stop and time.monotonic() - begin < seconds:
                after = min(index + _AT_A_TIME, stop)
                fuzzing.take(index, after)
                index = after
                failed = len(fuzzing.findings.shortest)
                text = f"{index - start} cases, {failed} kinds of failures"
                progress.update(task, completed=time.monotonic() - begin, description=text)
        except KeyboardInterrupt:
            pass
    return index


if __name__ == "__main__":
    main()
