"""The bench of the real libraries: its split, and what it says where the files are absent."""

import json

import pytest

pytest.importorskip("sentence_transformers")
pytest.importorskip("faiss")

from tests.bench.bench_insta_libraries import development_split, rows


def test_absent_files_are_said(monkeypatch, tmp_path):
    monkeypatch.setenv("TENFOLD_REAL_DATA", str(tmp_path))
    (row,) = rows(quick=True)
    assert "skipped: no files under $TENFOLD_REAL_DATA/insta" in row["spread"]


def test_the_split_is_the_specified_one(real_data_root):
    path = real_data_root / "insta" / "niv2_tasks.jsonl"
    if not path.exists():
        pytest.skip(f"no real library at {path}; set TENFOLD_REAL_DATA")
    library, targets = development_split([json.loads(line) for line in path.read_text().splitlines()])
    assert (len(library), len(targets)) == (1_412, 112)
    assert {target["category"] for target in targets}.isdisjoint({None, "Translation"})
