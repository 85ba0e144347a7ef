"""Files are written whole, whoever else writes them."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path

import numpy as np
import pytest

from volatility.files import make_folder, plain, sync, write_json, write_once, write_whole


def test_a_failed_write_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_whole(tmp_path / "page.html", "old")

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write_whole(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_two_that_write_one_file_at_once_neither_fail_nor_mix(tmp_path: Path) -> None:
    path = tmp_path / "index.html"
    texts = ["a" * 100_000, "b" * 100_000]
    wrong: list[object] = []

    def write(text: str) -> None:
        try:
            for _ in range(50):
                write_whole(path, text)
                if path.read_text() not in texts:
                    wrong.append("a torn file")
        except OSError as error:
            wrong.append(error)

    writers = [threading.Thread(target=write, args=(text,)) for text in texts]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert wrong == []
    assert list(tmp_path.iterdir()) == [path]


def test_what_json_lacks_becomes_null(tmp_path: Path) -> None:
    value = {"a": [float("nan"), 1.0, (float("inf"),)], "b": {"c": -float("inf")}, "d": "NaN"}
    assert plain(value) == {"a": [None, 1.0, [None]], "b": {"c": None}, "d": "NaN"}
    assert plain({"e": np.float64("nan"), "f": np.arange(2)}) == {"e": None, "f": [0, 1]}
    assert write_json(tmp_path / "x.json", {"b": np.nan, "a": 1}).read_text() == (
        '{\n "a": 1,\n "b": null\n}\n'
    )


@pytest.mark.parametrize("content", [b"second", b""])
def test_a_file_that_exists_is_not_written_again(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "new" / "note"
    assert write_once(path, b"first") == b"first"
    assert write_once(path, content) == path.read_bytes() == b"first"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("code", [errno.EINVAL, errno.ENOTSUP, errno.EIO])
def test_a_file_system_that_syncs_no_folder_is_not_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    file = write_whole(tmp_path / "file", "text")

    def refuse(_handle: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(OSError, match=os.strerror(code)):
        sync(file)
    if code == errno.EIO:
        with pytest.raises(OSError, match=os.strerror(code)):
            sync(tmp_path)
    else:
        make_folder(tmp_path / "a" / "b")
        assert (tmp_path / "a" / "b").is_dir()
