"""Options that several verbs have, written once."""

from pathlib import Path
from typing import Annotated

import typer

from services.client import Tenfold

JobId = Annotated[str, typer.Argument(metavar="ID", help="The job's id.", show_default=False)]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
Assignments = Annotated[
    list[str] | None,
    typer.Option("-p", "--param", metavar="KEY=VALUE", help="One parameter; a.b=3 sets a field of a field. Repeats."),
]
ParamsFile = Annotated[
    Path | None, typer.Option("--params", metavar="FILE.json", help="All parameters; -p is laid over them.")
]
Name = Annotated[str | None, typer.Option("--name", help="A name for people.")]
Labels = Annotated[list[str] | None, typer.Option("--label", metavar="KEY=VALUE", help="To find it again. Repeats.")]
Priority = Annotated[str | None, typer.Option("--priority", metavar="low|normal|high", help="Its place in the queue.")]
MaxAttempts = Annotated[
    int | None, typer.Option("--max-attempts", help="Lost workers and passing errors it may survive, 1 to 100.")
]
TimeoutS = Annotated[float | None, typer.Option("--timeout-s", help="Running time allowed, in seconds.")]

PATIENCE_S = 60.0
"""How long a verb that follows a job bears with a cluster that doesn't answer."""


def connect() -> Tenfold:
    """The cluster of the environment. It has no patience: a person wants to know at once that nothing answers.

    Verbs that stay with a job set `patience_s` after their first call.
    """
    return Tenfold(patience_s=0)
