"""The file of records: whole lines, a torn last one, and what is refused."""

from __future__ import annotations

import json

import pytest

from bwn.errors import FileError
from bwn.experiment.record import RESULTS, add_record, read_records


def test_records_come_back_as_they_were(tmp_path, made_up):
    records = [made_up("float", 0, 0.1), made_up("margin", 3, 0.2)]
    assert read_records(tmp_path) == []
    for record in records:
        add_record(tmp_path, record)
    assert read_records(tmp_path) == records
    first = json.loads((tmp_path / RESULTS).read_text().splitlines()[1])
    assert first["lambda"] == 1e-4
    assert sum(first["epochs"][2]["histogram"]) == 200


def test_a_torn_last_line_is_left_out_and_replaced(tmp_path, made_up):
    add_record(tmp_path, made_up("float", 0, 0.1))
    add_record(tmp_path, made_up("float", 1, 0.1))
    path = tmp_path / RESULTS
    path.write_bytes(path.read_bytes()[:-20])
    assert [record.seed for record in read_records(tmp_path)] == [0]
    add_record(tmp_path, made_up("float", 2, 0.1))
    assert [record.seed for record in read_records(tmp_path)] == [0, 2]
    assert len(path.read_text().splitlines()) == 2


@pytest.mark.parametrize("line", ["{}", "not JSON", ""])
def test_a_whole_line_that_is_no_record_is_refused(tmp_path, made_up, line):
    add_record(tmp_path, made_up("float", 0, 0.1))
    path = tmp_path / RESULTS
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(FileError, match=r"results\.jsonl: line 2 is not a record: ") as caught:
        read_records(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_folder_in_the_place_of_the_file_is_refused(tmp_path):
    (tmp_path / RESULTS).mkdir()
    with pytest.raises(FileError, match="cannot be read"):
        read_records(tmp_path)
