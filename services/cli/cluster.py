"""`tenfold queues | me`: the cluster itself, and who it takes you for."""

import typer

from services.cli.options import AsJson, connect
from services.cli.output import print_json, print_pairs, print_table


def add_to(app: typer.Typer) -> None:
    app.command()(queues)
    app.command()(me)


def queues(as_json: AsJson = False) -> None:
    """Each pool of workers, and what waits for it."""
    with connect() as tenfold:
        found = tenfold.queues()
    if as_json:
        print_json(found)
        return
    columns = ("pool", "waiting", "running", "slots", "workers", "oldest wait", "workers desired")
    print_table(
        columns,
        [
            (
                queue.pool, queue.waiting, queue.running, queue.slots, queue.workers,
                "" if queue.oldest_wait_s is None else f"{queue.oldest_wait_s:.0f} s", queue.desired_workers,
            )
            for queue in found
        ],
    )  # fmt: skip


def me(as_json: AsJson = False) -> None:
    """Your name and scopes."""
    with connect() as tenfold:
        caller = tenfold.me()
        url = tenfold.url
    if as_json:
        print_json(caller)
    else:
        print_pairs([("cluster", url), ("owner", caller.owner), ("scopes", " ".join(caller.scopes))])
