"""A job of talking societies in a process of its own, against an HTTP endpoint: something to kill."""

import asyncio
import json
import multiprocessing
from pathlib import Path

from shared.jobs.catalog.govsim import SimulateParams
from shared.jobs.local import LocalContext
from shared.llm.models import open_models
from shared.settings import Settings
from tests.unit.workers.govsim.scripted import MODEL, LetterEncoder
from workers.govsim.jobs import talk_through

POLICY = {"type": "llm", "model": MODEL}


def endpoints_file(folder: Path, url: str, **more) -> Path:
    """The operator's file with one endpoint, `test`."""
    file = folder / "endpoints.json"
    file.write_text(json.dumps({"test": {"base_url": url, **more}}))
    return file


async def talk_over_http(params: SimulateParams, ctx: LocalContext, endpoints: Path):
    """As the entry function does it, but for the encoder's weights."""
    async with open_models({MODEL}, ctx, Settings(endpoints=endpoints)) as models:
        return await talk_through(params, ctx, models, LetterEncoder())


def run_job(folder: Path, endpoints: Path, params: dict) -> None:
    """The whole job; the result lies beside its artifacts."""
    ctx = LocalContext(folder)
    try:
        result = asyncio.run(talk_over_http(SimulateParams(policies=POLICY, **params), ctx, endpoints))
        ctx.close()
    finally:
        ctx.release()
    (folder / "result.json").write_text(result.model_dump_json())


def start(folder: Path, endpoints: Path, params: dict) -> multiprocessing.Process:
    """The job in a new process; imports are paid once by a server process."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__, "shared.llm.http"])
    process = context.Process(target=run_job, args=(folder, endpoints, params), daemon=True)
    process.start()
    return process


def stored_keys(folder: Path) -> set[str]:
    """The call keys whose replies a killed job left stored, loose or packed: a line of name and length before each."""
    files = [*(folder / ".replies").glob("[0-9]*"), *(folder / ".work").glob("journal-.replies")]
    records = [line for file in files for line in file.read_bytes().splitlines()[1::2]]
    return {json.loads(record)["key"] for record in records if record.endswith(b"}")}
