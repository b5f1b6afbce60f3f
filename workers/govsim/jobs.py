"""The entry functions of GOVSIM's kinds: load inputs, run the method, write artifacts."""

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import closing
from itertools import islice
from pathlib import Path

from shared.jobs.catalog.govsim import (
    AnalyseParams,
    AnalyseResult,
    SimulatedRun,
    SimulateParams,
    SimulateResult,
    SubskillsParams,
    SubskillsResult,
    TrainCloneParams,
    TrainCloneResult,
)
from shared.jobs.context import JobContext
from shared.jobs.references import Ref
from shared.llm.chat import ChatModel
from shared.llm.kept import KeptReplies
from shared.llm.models import check_models, open_models
from shared.models.sentences import Encoder, KeptVectors, open_encoder
from shared.settings import Settings
from workers.govsim.agents import mind_of
from workers.govsim.analysis import Analysis
from workers.govsim.asking import Voice
from workers.govsim.decisions import choose
from workers.govsim.discussion import discussion_of
from workers.govsim.examined import examined_figures, read_scores
from workers.govsim.figures import Condition, figures
from workers.govsim.hosts import open_hosts
from workers.govsim.imported import ImportedRun
from workers.govsim.interactions import Spoken
from workers.govsim.links import RunLinks
from workers.govsim.log_env import write_tar
from workers.govsim.parsing import parser_of
from workers.govsim.records import describe
from workers.govsim.report import FIRST_RUNS, RESULT_BYTES, bytes_of, first_outcomes, statistics, write_summary
from workers.govsim.run_figures import of_runs
from workers.govsim.simulation import RUNS, Simulation, made_runs
from workers.govsim.subskill_figures import Scored, subskill_bars
from workers.govsim.subskills import SubskillTests
from workers.govsim.talking import TalkingSociety, llm_agents
from workers.govsim.together import collecting_rarely, watched
from workers.govsim.waves import CONVERSATIONS, TRANSCRIPT, TalkingSimulation


def simulate(params: SimulateParams, ctx: JobContext) -> SimulateResult:
    """Run one condition's societies and measure them."""
    if params.talks:
        return asyncio.run(_simulate_talking(params, ctx))
    simulation = Simulation(params, ctx)
    with ctx.timed("simulate"), open_hosts(ctx, params) as hosts:
        simulation.run(hosts)
    return conclude(simulation, params, ctx)


async def _simulate_talking(params: SimulateParams, ctx: JobContext) -> SimulateResult:
    refs = {policy.model for policy in llm_agents(params).values()} | {framework_of(params)}
    settings = Settings()
    checked = check_models(refs, ctx, settings)
    encoder = open_encoder(params.memory_encoder, ctx, settings)  # small: it is tried by opening it
    async with checked.open() as models:
        return await talk_through(params, ctx, models, encoder)


async def talk_through(
    params: SimulateParams, ctx: JobContext, models: Mapping[Ref, ChatModel], encoder: Encoder
) -> SimulateResult:
    """Run societies whose agents answer through these models."""
    kept = {ref: KeptReplies(model, ctx) for ref, model in models.items()}
    with closing(KeptVectors(encoder)) as vectors:
        voices = {
            number: Voice(policy.model, kept[policy.model], parser_of(policy.parser or params.parser))
            for number, policy in llm_agents(params).items()
        }
        mind, framework = mind_of(params, vectors), framework_of(params)
        discussion = discussion_of(params, mind, Voice(framework, kept[framework], parser_of(params.parser)))
        simulation = TalkingSimulation(params, ctx, TalkingSociety(params, mind, discussion, voices))
        with ctx.timed("simulate"), collecting_rarely():
            await watched(simulation.run(), ctx.check)
    return conclude(simulation, params, ctx)


def subskills(params: SubskillsParams, ctx: JobContext) -> SubskillsResult:
    """Ask one model the paper's test questions."""
    return asyncio.run(_subskills(params, ctx))


async def _subskills(params: SubskillsParams, ctx: JobContext) -> SubskillsResult:
    async with open_models({params.model}, ctx, Settings()) as models:
        return await examine(params, ctx, models[params.model])


async def examine(params: SubskillsParams, ctx: JobContext, model: ChatModel) -> SubskillsResult:
    """Ask this model the test questions."""
    tests = SubskillTests(params, ctx, Voice(params.model, KeptReplies(model, ctx), parser_of(params.parser)))
    with ctx.timed("ask"):
        await watched(tests.run(), ctx.check)
    keys = tests.keys()
    scored = [Scored(one, [{"source": None, "key": key} for key in keys[one.test]]) for one in tests.scores]
    ctx.write_json("subskills.plotly.json", subskill_bars({str(params.model): scored}))
    counts = tests.counts
    return SubskillsResult(
        model=str(params.model),
        scenario=params.scenario,
        scores=tests.scores,
        model_calls=counts.model_calls,
        tokens_in=counts.tokens_in,
        tokens_out=counts.tokens_out,
    )


def train_clone(params: TrainCloneParams, ctx: JobContext) -> TrainCloneResult:
    """Train a small model on logged decisions."""
    from workers.govsim.clone import Training  # torch and transformers: seconds

    chosen = choose(ctx.input(params.replies), str(params.replies), params.models)
    training = Training(params, ctx, chosen.decisions)
    with ctx.timed("train"):
        training.run()
    return TrainCloneResult(
        decisions=len(chosen.decisions),
        universalized_decisions=sum(decision.universalized for decision in chosen.decisions),
        runs=len({decision.run for decision in chosen.decisions}),
        left_out=chosen.left_out,
        parameters=training.model.num_parameters(),
        loss=training.loss,
    )


def framework_of(params: SimulateParams) -> Ref:
    """Who summarises and reads the agreed limit."""
    return params.framework_model or next(iter(llm_agents(params).values())).model


def conclude(simulation: Simulation | TalkingSimulation, params: SimulateParams, ctx: JobContext) -> SimulateResult:
    """Figures, tables and the result of runs that are all made."""
    tally, journal = simulation.tally, Path(ctx.journal(RUNS).path)
    first = tuple(map(RunLinks.of, islice(made_runs(journal), FIRST_RUNS)))
    valid = (run for run in made_runs(journal) if not run.invalid)  # what enters no mean stands behind no mean's point
    links = tuple(map(RunLinks.of, islice(valid, FIRST_RUNS)))
    condition = Condition(describe(params)["group"], tally, params.communication, params.capacity, links)
    with ctx.timed("write"):
        if tally.runs:
            for name, figure in figures([condition]).items():
                ctx.write_json(name, figure)
        if params.talks:
            for name, figure in of_runs(condition.name, first):
                ctx.write_json(name, figure)
        write_summary(ctx, {condition.name: tally})
        with ctx.artifact("log_env.tar") as out:
            write_tar(out, _logged(made_runs(journal), params, ctx))
    counts, metrics = simulation.counts, statistics(tally)
    room = RESULT_BYTES - bytes_of({name: statistic.model_dump() for name, statistic in metrics.items()})
    return SimulateResult(
        **metrics,
        invalid_runs=simulation.invalid_runs,
        fallback_rate=counts.fallback_rate,
        model_calls=counts.model_calls,
        tokens_in=counts.tokens_in,
        tokens_out=counts.tokens_out,
        runs=first_outcomes(journal, SimulatedRun, room),
    )


def _logged(runs: Iterator[ImportedRun], params: SimulateParams, ctx: JobContext) -> Iterator[ImportedRun]:
    """The runs that are logged: where models spoke all of them, with what was said; else the first."""
    if not params.talks:
        return islice(runs, FIRST_RUNS)
    transcript, conversations = (Path(ctx.journal(name).path) for name in (TRANSCRIPT, CONVERSATIONS))
    return Spoken(transcript, conversations, params.runs).logged(runs)


def analyse(params: AnalyseParams, ctx: JobContext) -> AnalyseResult:
    """Read logs of finished runs into metrics, figures and log_env.json."""
    analysis = Analysis(params, ctx)
    with ctx.timed("read"):
        analysis.run()
    with ctx.timed("write"):
        if analysis.conditions:
            for name, figure in figures(analysis.conditions).items():
                ctx.write_json(name, figure)
        for name, figure in examined_figures(read_scores(params, ctx), analysis.conditions):
            ctx.write_json(name, figure)
        write_summary(ctx, {condition.name: condition.tally for condition in analysis.conditions})
        with ctx.artifact("log_env.tar") as out:
            write_tar(out, analysis.imported())
    return analysis.result()
