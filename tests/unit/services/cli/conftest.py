from typing import NamedTuple

import pytest

from services.cli.main import main


class Outcome(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def run(server, monkeypatch, capsys):
    """The command as a shell would run it, against the test's server."""
    monkeypatch.setenv("TENFOLD_URL", server.url)

    def run(*arguments: str) -> Outcome:
        with pytest.raises(SystemExit) as ended:
            main(list(arguments))
        said = capsys.readouterr()
        return Outcome(ended.value.code or 0, said.out, said.err)

    return run
