"""The `tenfold` command. `main` is the entry point; each module of verbs adds its own.

Exit codes: 0 done, 1 the job failed, 2 wrong usage, 3 the cluster can't be reached, 4 it refuses.
"""

import sys

import typer

from services.cli import admin, artifacts, cluster, jobs, kinds, sweeps, watching
from services.cli.output import complain
from services.client import ClientError, Refused, Unreachable

FAILED = 1
UNREACHABLE = 3
REFUSED = 4
INTERRUPTED = 130

app = typer.Typer(
    name="tenfold",
    help="Jobs on a Tenfold cluster: TENFOLD_URL and TENFOLD_TOKEN say which one and as whom.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for verbs in (kinds, jobs, watching, artifacts, sweeps, cluster, admin):
    verbs.add_to(app)


def main(arguments: list[str] | None = None) -> None:
    """Run one verb and exit with its code."""
    try:
        app(arguments, prog_name="tenfold")
    except Unreachable as unreachable:
        complain(f"{unreachable}. Is it up (`./tenfold up`)? TENFOLD_URL names another one.")
        sys.exit(UNREACHABLE)
    except Refused as refused:
        complain(str(refused))
        sys.exit(REFUSED)
    except ClientError as failure:
        complain(str(failure))
        sys.exit(FAILED)
    except BrokenPipeError:  # the reader of our output, `head` for one, has seen enough
        sys.stderr.close()
        sys.exit(0)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
