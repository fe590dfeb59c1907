"""Small files are written whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from ris_pipeline.errors import DataError
from ris_pipeline.files import check_file, check_folder, write_text


def test_a_file_appears_whole_in_a_new_folder_and_nothing_else_does(tmp_path):
    write_text(tmp_path / "new" / "a.json", "{}")
    assert [(path.name, path.read_text()) for path in (tmp_path / "new").iterdir()] == [("a.json", "{}")]


def test_a_folder_in_the_place_of_a_file_is_refused_and_nothing_is_left(tmp_path):
    (tmp_path / "a.json").mkdir()
    for attempt in (lambda: write_text(tmp_path / "a.json", "{}"), lambda: check_file(tmp_path / "a.json")):
        with pytest.raises(DataError, match=r"a\.json"):
            attempt()
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_a_folder_below_a_file_is_refused_before_any_work(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"expected a folder to write to, got .*file, which is a file$"):
        check_folder(tmp_path / "file" / "below")


def test_a_folder_that_nobody_can_write_to_is_refused():
    with pytest.raises(DataError, match=r"^cannot write to /"):
        check_folder(Path("/proc/none"))


def test_checking_creates_nothing(tmp_path):
    check_folder(tmp_path / "a" / "b")
    check_file(tmp_path / "a" / "c.json")
    assert list(tmp_path.iterdir()) == []
