"""The processes that judge cases, as the one that asks sees them: it survives their crashes and hangs."""

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from fuzzing.case import Case

_START_SECONDS = 120.0
# What messages of a broken heap say. One may appear later than what broke it.
_BROKEN_HEAP = ("free()", "malloc", "corrupt", "Sanitizer")
_IDLE = 20  # a case may take so many times its processor time, if it has to wait for a processor

SCRIPTS = Path(__file__).parents[1]


def python_environment() -> dict[str, str]:
    """The environment for a Python that is started in another folder: its paths are absolute."""
    paths = [
        os.path.abspath(path) for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path
    ]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


def _processor_seconds(pid: int) -> float:
    """How many seconds a process has run, on all processors together."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Answer:
    """What a worker says of a case."""

    index: int
    subject: str
    label: str
    kind: str
    text: str
    digest: str


class Worker:
    """A process with one instruction set, which is started again after a crash."""

    def __init__(self, isa: str, case_seconds: float) -> None:
        self.isa = isa
        self._seconds = case_seconds
        self._process: subprocess.Popen[bytes] | None = None
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  until the end
        self._rest = b""

    def cases(self, seed: int, start: int, stop: int, subjects: list[str]) -> Iterator[Answer]:
        """The answers to those cases from ``start`` to ``stop`` that are of these subjects."""
        while start < stop:
            request = {"seed": seed, "start": start, "stop": stop, "subjects": subjects}
            last = start - 1
            for answer in self._answers(request):
                last = answer.index
                yield answer
            if self._process is not None:
                return
            start = last + 1

    def judge(self, case: Case) -> Answer:
        answers = list(self._answers({"case": case.to_json()}))
        return answers[-1] if answers else Answer(0, case.name, case.label(), "unjudged", "", "")

    def close(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _answers(self, request: dict[str, Any]) -> Iterator[Answer]:
        self._send(request)
        phase, index = "", int(request.get("start", 0))
        for line in iter(self._line, None):
            if line.get("done"):
                return
            if "phase" in line:
                phase, index = line["phase"], line["index"]
            else:
                yield Answer(index, line["subject"], line["label"], **line["outcome"])
                phase = ""
        # There is no answer: the process has died, or it hangs.
        kind, text = self._end()
        is_torchs = phase == "torch" and not any(word in text for word in _BROKEN_HEAP)
        yield Answer(index, "", "", "unjudged" if is_torchs else kind, text, "")

    def _send(self, request: dict[str, Any]) -> None:
        if self._process is None or self._process.poll() is not None:
            self._start()
        process = self._process
        assert process is not None
        assert process.stdin is not None
        process.stdin.write(json.dumps(request).encode() + b"\n")
        process.stdin.flush()

    def _start(self) -> None:
        self.close()
        self._rest = b""
        self._errors.seek(0)
        self._errors.truncate()
        environment = {
            **python_environment(),
            "PYINIT_ISA": self.isa,
            # Threads must not spin: there may be more of them than processors.
            "OMP_WAIT_POLICY": "passive",
            # Large blocks are given back when they are freed, so that the peak of memory shows.
            "MALLOC_MMAP_THRESHOLD_": "1048576",
        }
        self._process = subprocess.Popen(
            [sys.executable, "-m", "fuzzing.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=environment,
            cwd=SCRIPTS,  # the fuzzer is found there, and pyinit only if it is installed or in PYTHONPATH
        )
        if self._line(_START_SECONDS) is None:
            raise RuntimeError(f"no worker for {self.isa} can be started: {self._end()[1]}")

    def _line(self, seconds: float | None = None) -> dict[str, Any] | None:
        """The next line of the process; None if it ends or takes too long."""
        process = self._process
        assert process is not None
        assert process.stdout is not None
        descriptor, most = process.stdout.fileno(), seconds or self._seconds
        until, used = time.monotonic() + _IDLE * most, None
        while b"\n" not in self._rest:
            if select.select([descriptor], [], [], min(1.0, most))[0]:
                data = os.read(descriptor, 1 << 16)
                if not data:
                    return None
                self._rest += data
                continue
            # Processor time counts, since other processes may use the processors.
            now = _processor_seconds(process.pid)
            used = now if used is None else used
            if now - used > most or time.monotonic() > until:
                return None
        line, self._rest = self._rest.split(b"\n", 1)
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _end(self) -> tuple[str, str]:
        process = self._process
        assert process is not None
        try:
            status = process.wait(1)
        except subprocess.TimeoutExpired:
            self.close()
            return "hang", f"no end after {self._seconds:.0f} s"
        self._process = None
        name = signal.Signals(-status).name if status < 0 else f"status {status}"
        return "crash", f"{name} {self._stderr()}".strip()

    def _stderr(self) -> str:
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").splitlines()
        told = [
            line for line in lines if "ERROR" in line or "runtime error" in line or "Error" in line
        ]
        return (told or lines or [""])[0 if told else -1][:300]
