"""The benches run and every row has its columns."""

import pytest

from tests.bench.__main__ import COLUMNS
from tests.bench.bench_docre import lost_row, rows
from tests.bench.bench_docre_strategies import rows as strategy_rows
from workers.docre.marking import by_provenance
from workers.docre.targets import Rules


@pytest.mark.slow
@pytest.mark.parametrize("make", [rows, strategy_rows], ids=["docre", "docre_strategies"])
def test_every_row_of_the_bench_has_its_columns(make):
    table = make(quick=True)
    assert table
    assert all(set(row) == set(COLUMNS) for row in table)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_table_of_strategies_on_all_real_documents():
    """Word-bound blanks: every mention found, nothing lost, at least 99.5 % of sentences left alone."""
    from tests.bench.bench_docre_strategies import Corpus, real_documents, table

    if (documents := real_documents()) is None:
        pytest.skip("no real documents; set TENFOLD_REAL_DATA")
    corpus = Corpus(documents)
    found = {row["what"].partition(":")[0]: row for row in table(corpus)}
    for row in found.values():
        print(row["ours"], row["what"])
    blanks = corpus.figures(corpus.placed(lambda own: by_provenance(own, corpus.engine, Rules())))
    assert (blanks.recovered, blanks.entities, blanks.relations, blanks.documents) == (1, 1, 1, 1)
    assert blanks.unchanged >= 0.995
    assert found["plain + exact find"]["ours"] < found["word-bound blanks"]["ours"] == 1


def test_a_server_that_fails_costs_a_loop_documents_and_a_transfer_none():
    lost = lost_row()
    assert lost["ours"] == 0 < lost["peer"]
