"""The bench of the real libraries: its split, and what it says where the files are absent."""

import json

import pytest

pytest.importorskip("sentence_transformers")
pytest.importorskip("faiss")

from tests import published_selections
from tests.bench.bench_insta_libraries import development_split, rows


def test_absent_files_are_said(monkeypatch, tmp_path):
    monkeypatch.setenv("TENFOLD_REAL_DATA", str(tmp_path))
    (row,) = rows(quick=True)
    assert "skipped: no files under $TENFOLD_REAL_DATA/insta" in row["spread"]


def test_published_selections_are_read_from_a_clone(tmp_path):
    ids = ["niv2/task1_a", "niv2/task2_b", "niv2/task3_c"]
    assert published_selections.natural_instructions(tmp_path, ids) is None
    folder = tmp_path / published_selections.CLONE / "run_configs" / "niv2" / "insta_aligned"
    folder.mkdir(parents=True)
    config = {"mode": "train", "dataset_lists": ["Kind/task2_b", 'Kind/task9_x","Other/task3_c']}
    for name in ("kind_of_task_task1", "unknown_task77"):
        (folder / f"{name}.json").write_text(json.dumps(config))
    (found,) = published_selections.natural_instructions(tmp_path, ids)
    assert (found.target, found.selected[0]) == ("niv2/task1_a", "niv2/task2_b")
    assert len(found.selected) == 2


def test_the_split_is_the_specified_one(real_data_root):
    path = real_data_root / "insta" / "niv2_tasks.jsonl"
    if not path.exists():
        pytest.skip(f"no real library at {path}; set TENFOLD_REAL_DATA")
    library, targets = development_split([json.loads(line) for line in path.read_text().splitlines()])
    assert (len(library), len(targets)) == (1_412, 112)
    assert {target["category"] for target in targets}.isdisjoint({None, "Translation"})
