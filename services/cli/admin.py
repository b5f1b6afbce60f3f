"""`tenfold token | redteam | gc | reindex`: what an operator does; needs the scope `admin`."""

from pathlib import Path
from typing import Annotated

import typer

from services.cli.options import AsJson, connect
from services.cli.output import age, complain, print_json, print_pairs, print_table, size

FAILED = 1

token = typer.Typer(help="Access tokens.", no_args_is_help=True)
redteam = typer.Typer(help="The models that dsn.* may attack, and the audit of it.", no_args_is_help=True)


def add_to(app: typer.Typer) -> None:
    app.add_typer(token, name="token")
    app.add_typer(redteam, name="redteam")
    app.command("gc")(collect_garbage)
    app.command()(reindex)


@token.command("create")
def create_token(
    name: Annotated[str, typer.Argument(help="What it is for.")],
    owner: Annotated[str, typer.Option("--owner", help="Whose jobs it submits.")],
    scope: Annotated[
        list[str] | None,
        typer.Option("--scope", help="jobs:read, jobs:write, redteam, redteam:reveal, admin. Repeats."),
    ] = None,
    expires_days: Annotated[float | None, typer.Option("--expires-days", help="Without: never.")] = None,
    as_json: AsJson = False,
) -> None:
    """Make a token. It is shown now and never again."""
    with connect() as tenfold:
        made = tenfold.admin.create_token(name, owner, scope or ["jobs:read", "jobs:write"], expires_days)
    if as_json:
        print_json(made)
        return
    complain(f"token {made.id} of {made.owner}, scopes {' '.join(made.scopes)}; it is shown this once:")
    typer.echo(made.token or "")


@token.command("list")
def list_tokens(as_json: AsJson = False) -> None:
    """The tokens, without their secrets."""
    with connect() as tenfold:
        found = tenfold.admin.tokens()
    if as_json:
        print_json(found)
        return
    rows = [(t.id, t.name, t.owner, " ".join(t.scopes), t.expires_at or "never", age(t.last_used_at)) for t in found]
    print_table(("id", "name", "owner", "scopes", "expires", "last used"), rows)


@token.command("revoke")
def revoke_token(token_id: Annotated[str, typer.Argument(metavar="ID")]) -> None:
    """End a token at once."""
    with connect() as tenfold:
        tenfold.admin.revoke_token(token_id)


@redteam.command("allow")
def allow_model(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Used in parameters as allowed:NAME.")],
    ref: Annotated[str, typer.Argument(metavar="REF", help="The model's reference.")],
    digest: Annotated[
        str | None, typer.Option("--digest", help="Of its weights, where the gateway can't see them.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Put a model on the list, pinned by the digest of its weights."""
    with connect() as tenfold:
        model = tenfold.admin.allow_model(name, ref, digest)
    if as_json:
        print_json(model)
    else:
        typer.echo(f"allowed:{model.name} {model.ref}")


@redteam.command("list")
def list_models(as_json: AsJson = False) -> None:
    """The models on the list."""
    with connect() as tenfold:
        found = tenfold.admin.allowed_models()
    if as_json:
        print_json(found)
    else:
        rows = [(model.name, model.ref, model.digest[:16], model.added_by, model.added_at) for model in found]
        print_table(("name", "model", "weights", "added by", "at"), rows)


@redteam.command("remove")
def forbid_model(name: Annotated[str, typer.Argument(metavar="NAME")]) -> None:
    """Take a model off the list."""
    with connect() as tenfold:
        tenfold.admin.forbid_model(name)


@redteam.command("open")
def open_sealed(
    file: Annotated[Path, typer.Argument(help="A downloaded suffixes.enc or revealed.enc.")],
    key: Annotated[Path, typer.Option("--key", help="The operator's key file.")],
) -> None:
    """Decrypt what an evaluation kept back; only who holds the operator's key can."""
    from shared.sealed import SealError, read_key

    try:
        text = read_key(key).unseal(file.read_bytes(), file.name)
    except (SealError, OSError) as refused:
        complain(f"{file}: {refused}")
        raise typer.Exit(FAILED) from None
    typer.echo(text.decode())


@redteam.command("audit")
def audit(
    verify: Annotated[bool, typer.Option("--verify", help="Check that no line was changed or removed.")] = False,
    as_json: AsJson = False,
) -> None:
    """Who did what with which model. With --verify: exit code 1 when the record was tampered with."""
    with connect() as tenfold:
        if verify:
            verdict = tenfold.admin.verify_audit()
            says = f"whole, {verdict.entries} entries" if verdict.ok else f"BROKEN at {verdict.broken_at}"
            print_json(verdict) if as_json else typer.echo(f"the audit is {says}")
            raise typer.Exit(0 if verdict.ok else FAILED)
        entries = list(tenfold.admin.audit())
    if as_json:
        print_json(entries)
    else:
        print_table(("at", "owner", "action", "detail"), [(e.at, e.owner, e.action, e.detail) for e in entries])


def collect_garbage(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    as_json: AsJson = False,
) -> None:
    """Remove what nobody needs: superseded attempts, old checkpoints, unreferenced uploads."""
    with connect() as tenfold:
        collected = tenfold.admin.collect_garbage(dry_run=dry_run)
    if as_json:
        print_json(collected)
        return
    for item in collected.removed:
        typer.echo(item)
    typer.echo(f"{'would free' if dry_run else 'freed'} {size(collected.bytes)} in {len(collected.removed)} items")


def reindex(as_json: AsJson = False) -> None:
    """Rebuild the records of finished jobs from the artifact store."""
    with connect() as tenfold:
        done = tenfold.admin.reindex()
    if as_json:
        print_json(done)
    else:
        print_pairs([("restored", done.restored), ("already there", done.skipped)])
