"""Files that are written: there whole or not at all, under names that say what they hold."""

import json
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from pyinit import initialize_, load_pretrained_
from pyinit.reports.files import check_output, replacing, write_json


@pytest.fixture
def umask() -> Iterator[Callable[[int], None]]:
    usual = os.umask(0o022)
    yield lambda mask: (os.umask(mask), None)[1]
    os.umask(usual)


def test_writers_with_one_process_number_do_not_meet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "getpid", lambda: 7)
    path, stale = tmp_path / "x.json", tmp_path / ".x.json.7.partial"
    stale.write_text("of a writer that was killed")
    with replacing(path) as one, replacing(path) as other:
        one.write_text("1")
        other.write_text("2")
    assert path.read_text() == "1"
    write_json(path, 3)
    assert path.read_text() == "3\n"
    assert set(tmp_path.iterdir()) == {path, stale}


def test_threads_may_save_one_report(tmp_path: Path) -> None:
    report, path = initialize_(nn.Linear(2, 2), "xavier", seed=1), tmp_path / "r.json"
    with ThreadPoolExecutor(8) as pool:
        for _ in pool.map(lambda _: report.save(path), range(100)):
            pass
    assert json.loads(path.read_text()) == json.loads(json.dumps(report.to_dict()))
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("length", [240, 255])
def test_a_name_may_be_as_long_as_the_system_lets_it_be(length: int, tmp_path: Path) -> None:
    path = tmp_path / ("x" * (length - 5) + ".json")
    write_json(path, 1)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("write", [lambda p: check_output(p, ".json"), lambda p: write_json(p, 1)])
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing/x.json", "No such file"),
        ("file/x.json", "Not a directory"),
        ("folder", "not a regular file"),
        (".", "not a regular file"),
        (os.devnull, "not a regular file"),
        ("x" * 256, "File name too long"),
        ("loop", "symbolic links"),
        ("astray", "No such file"),
    ],
)
def test_what_cannot_be_written_is_known_before_the_work(
    write: Callable[[Path], None], name: str, message: str, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "astray").symlink_to("missing/x.json")
    before = set(tmp_path.iterdir())
    with pytest.raises(OSError, match=message) as caught:
        write(tmp_path / name)
    assert caught.value.filename == str(tmp_path / name)
    assert set(tmp_path.iterdir()) == before


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_file_that_is_write_protected_stays(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text("old")
    path.chmod(0o444)
    with pytest.raises(PermissionError, match="write-protected"):
        write_json(path, 1)
    assert path.read_text() == "old"


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_after_an_error_the_old_file_is_there_and_nothing_else(
    error: type[BaseException], tmp_path: Path
) -> None:
    path = tmp_path / "x.json"
    path.write_text("old")

    def work() -> None:
        with replacing(path) as partial:
            partial.write_text("half")
            raise error

    with pytest.raises(error):
        work()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_a_new_file_has_the_permissions_of_any_new_file(
    mask: int, mode: int, tmp_path: Path, umask: Callable[[int], None]
) -> None:
    umask(mask)
    write_json(tmp_path / "x.json", 1)
    assert (tmp_path / "x.json").stat().st_mode & 0o777 == mode


def test_a_file_that_is_replaced_passes_on_its_permissions(
    tmp_path: Path, umask: Callable[[int], None]
) -> None:
    umask(0o022)
    path = tmp_path / "x.json"
    path.write_text("old")
    path.chmod(0o660)
    write_json(path, 1)
    assert path.stat().st_mode & 0o777 == 0o660


@pytest.mark.parametrize("is_there", [False, True])
def test_a_link_stays_and_what_it_leads_to_is_written(is_there: bool, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    link, path = tmp_path / "link.json", tmp_path / "folder" / "x.json"
    link.symlink_to("folder/x.json")
    if is_there:
        path.write_text("old")
    write_json(link, 1)
    assert link.is_symlink()
    assert path.read_text() == "1\n"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("name", ["r", "r.json", "r.JSON", "r.2", "r.txt", "a.csv.json", ".csv"])
def test_names_of_json_files(name: str, tmp_path: Path) -> None:
    write_json(tmp_path / name, 1)
    assert (tmp_path / name).read_text() == "1\n"


@pytest.mark.parametrize(
    "suffix",
    [
        "pt",
        "pth",
        "bin",
        "ckpt",
        "npy",
        "npz",
        "h5",
        "gguf",
        "onnx",
        "csv",
        "html",
        "PT",
        "yaml",
        "gz",
    ],
)
@pytest.mark.parametrize("own", [".json", ".safetensors"])
def test_a_name_of_another_format_is_refused(suffix: str, own: str, tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=rf"x\.{suffix} would be a {own} file, so its name must end in {own}"
    ):
        check_output(tmp_path / f"x.{suffix}", own)
    assert not list(tmp_path.iterdir())


def of_initialization() -> Any:
    return initialize_(nn.Linear(2, 2), "xavier", seed=1)


def of_load() -> Any:
    return load_pretrained_(nn.Linear(2, 2), nn.Linear(2, 2).state_dict())


@pytest.mark.parametrize("make", [of_initialization, of_load])
def test_reports_are_not_saved_under_names_of_other_formats(
    make: Callable[[], Any], tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=r"r\.csv would be a \.json or \.html file"):
        make().save(tmp_path / "r.csv")
    assert not list(tmp_path.iterdir())
