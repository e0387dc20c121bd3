"""Records as frames and files, for TensorBoard, and from the callbacks of other libraries."""

import csv
import importlib
import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pyinit import Monitor
from pyinit.inspection.monitor import Record
from pyinit.inspection.monitor.records import COLUMNS


@pytest.fixture
def monitor() -> Monitor:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with Monitor(model, optimizer, every=1, start="copy") as found:
        for _ in range(2):
            model(torch.ones(2, 3)).sum().backward()
            optimizer.step()
    found.records.append(Record(2, "nowhere", 0, mean=math.nan, distance=math.inf))
    return found


def same(value: object, expected: float | str | None) -> bool:
    if isinstance(expected, float) and math.isnan(expected):
        return isinstance(value, float) and math.isnan(value)
    return value == expected


def test_csv_holds_every_value(monitor: Monitor, tmp_path: Path) -> None:
    path = tmp_path / "training.csv"
    monitor.save(path)
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(monitor.records)
    for row, record in zip(rows, monitor.records, strict=True):
        assert list(row) == list(COLUMNS)
        for name in COLUMNS:
            expected = getattr(record, name)
            kind = type(expected)
            assert same(None if row[name] == "" and kind is not str else kind(row[name]), expected)


def test_json_holds_every_value_that_is_finite(monitor: Monitor, tmp_path: Path) -> None:
    path = tmp_path / "training.json"
    monitor.save(str(path))
    found = json.loads(path.read_text(encoding="utf-8"))["records"]
    assert [Record(**row) for row in found[:-1]] == monitor.records[:-1]
    assert found[-1]["mean"] is found[-1]["distance"] is None


def test_parquet_holds_every_value(monitor: Monitor, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    monitor.save(tmp_path / "training.parquet")
    rows = parquet.read_table(tmp_path / "training.parquet").to_pylist()
    assert [Record(**row) for row in rows[:-1]] == monitor.records[:-1]
    assert math.isnan(rows[-1]["mean"])
    assert rows[-1]["distance"] == math.inf


def test_frames_hold_every_value(monitor: Monitor) -> None:
    pytest.importorskip("pandas")
    frame = monitor.to_frame()
    assert list(frame.columns) == list(COLUMNS)
    assert frame["step"].tolist() == [0, 0, 0, 1, 1, 1, 2]
    assert frame["mean"][0] == monitor.records[0].mean
    assert frame["gradient_norm"].isna().tolist() == [False, True, False] * 2 + [True]
    assert {str(frame[name].dtype) for name in COLUMNS[3:]} == {"float64"}


def test_frames_without_records_have_the_same_columns() -> None:
    pytest.importorskip("pandas")
    model = nn.Linear(2, 2)
    with Monitor(model, torch.optim.SGD(model.parameters())) as empty:
        frame = empty.to_frame()
    assert list(frame.columns) == list(COLUMNS)
    assert len(frame) == 0


def test_tensorboard_gets_each_value_at_its_step(monitor: Monitor, tmp_path: Path) -> None:
    tensorboard = pytest.importorskip("torch.utils.tensorboard")
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    with tensorboard.SummaryWriter(str(tmp_path)) as writer:
        monitor.to_tensorboard(writer)
    found = events.EventAccumulator(str(tmp_path))
    found.Reload()
    scalars = found.Scalars("2/update_ratio")
    assert [each.step for each in scalars] == [0, 1]
    expected = [each.update_ratio for each in monitor.records if each.layer == "2"]
    assert [each.value for each in scalars] == pytest.approx(expected)
    assert "1/gradient_norm" not in found.Tags()["scalars"]


@pytest.mark.parametrize("name", ["training.png", "training", "training.jsn"])
def test_other_formats_are_refused_by_name(monitor: Monitor, tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} names no format of records"):
        monitor.save(tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_a_path_that_cannot_be_written_is_refused(monitor: Monitor, tmp_path: Path) -> None:
    with pytest.raises(OSError, match="nowhere"):
        monitor.save(tmp_path / "nowhere" / "training.csv")


@pytest.mark.parametrize(
    ("library", "call"),
    [
        ("pandas", lambda monitor, _: monitor.to_frame()),
        ("pyarrow", lambda monitor, path: monitor.save(path / "training.parquet")),
    ],
)
def test_a_library_that_is_missing_is_named(
    monitor: Monitor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, library: str, call: Any
) -> None:
    hide(monkeypatch, library)
    with pytest.raises(ImportError, match=f"needs {library}: pip install {library}"):
        call(monitor, tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("library", "module"), [("lightning", "lightning"), ("transformers", "huggingface")]
)
def test_callbacks_name_the_library_that_is_missing(
    monkeypatch: pytest.MonkeyPatch, library: str, module: str
) -> None:
    hide(monkeypatch, library)
    monkeypatch.delitem(sys.modules, f"pyinit.inspection.monitor.{module}", raising=False)
    with pytest.raises(ImportError, match=f"needs {library}: pip install {library}"):
        importlib.import_module(f"pyinit.inspection.monitor.{module}")


def hide(monkeypatch: pytest.MonkeyPatch, library: str) -> None:
    """Let a library be one that is not installed."""
    for name in list(sys.modules):
        if name.partition(".")[0] == library:
            monkeypatch.delitem(sys.modules, name)

    class Nothing:
        def find_spec(self, name: str, *_: object) -> None:
            if name.partition(".")[0] == library:
                raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr(sys, "meta_path", [Nothing(), *sys.meta_path])


def test_importing_pyinit_imports_none_of_these_libraries() -> None:
    code = (
        "import sys, pyinit; "
        "print({'pandas', 'pyarrow', 'lightning', 'transformers', 'tensorboard'} & {*sys.modules})"
    )
    command = [sys.executable, "-c", code]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "set()"


class Regression(nn.Module):
    """A model as Hugging Face's Trainer takes it."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 1)

    def forward(self, x: Tensor, labels: Tensor) -> dict[str, Tensor]:
        return {"loss": (self.layer(x).squeeze(-1) - labels).square().mean()}


def raising(*_: Any) -> None:
    raise ZeroDivisionError


@pytest.mark.filterwarnings("ignore")  # of the libraries
def test_hugging_faces_trainer_calls_back(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("accelerate")
    ours = importlib.import_module("pyinit.inspection.monitor.huggingface")
    torch.manual_seed(0)
    data = [{"x": torch.randn(3), "labels": torch.tensor(1.0)} for _ in range(12)]
    arguments = transformers.TrainingArguments(
        output_dir=str(tmp_path),
        per_device_train_batch_size=2,
        gradient_accumulation_steps=2,
        num_train_epochs=2,
        report_to=[],
        save_strategy="no",
        use_cpu=True,
        disable_tqdm=True,
    )
    callback = ours.PyinitTrainerCallback(every=2, start="copy")
    model = Regression()
    trainer = transformers.Trainer(model, arguments, train_dataset=data, callbacks=[callback])
    trainer.train()
    assert callback.monitor.steps == trainer.state.global_step == 6
    records = callback.monitor.records
    assert [(each.step, each.layer, each.calls) for each in records] == [
        (step, "layer", 2) for step in (0, 2, 4)
    ]
    assert all(each.update_ratio > 0 for each in records[1:])
    assert not model.layer._forward_hooks

    handle = model.layer.register_full_backward_hook(raising)
    with pytest.raises(ZeroDivisionError):
        trainer.train()
    handle.remove()
    failed = callback.monitor
    trainer.train()
    assert (failed.steps, callback.monitor.steps) == (0, 6)
    assert not model.layer._forward_hooks


@pytest.mark.filterwarnings("ignore")  # of the libraries
def test_lightnings_trainer_calls_back(tmp_path: Path) -> None:
    lightning = pytest.importorskip("lightning.pytorch")
    ours = importlib.import_module("pyinit.inspection.monitor.lightning")

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(3, 1)

        def training_step(self, batch: Tensor, _: int) -> Tensor:
            return self.layer(batch).square().mean()

        validation_step = training_step

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.Adam(self.parameters(), lr=0.01)

    torch.manual_seed(0)
    loader = torch.utils.data.DataLoader(torch.randn(12, 3), batch_size=2)
    callback = ours.PyinitCallback(every=2, start="copy")
    trainer = lightning.Trainer(
        max_epochs=2,
        accumulate_grad_batches=2,
        gradient_clip_val=1e-3,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
        callbacks=[callback],
    )
    module = Module()
    trainer.fit(module, loader, loader)
    (monitor,) = callback.monitors
    assert monitor.steps == trainer.global_step == 6
    assert [(each.step, each.layer, each.calls) for each in monitor.records] == [
        (step, "layer", 2) for step in (0, 2, 4)
    ]
    for record in monitor.records:
        assert record.gradient_norm == pytest.approx(1e-3, rel=1e-3)
        assert record.unclipped_norm > 1e-3
    assert not module.layer._forward_hooks
