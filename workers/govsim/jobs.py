"""The entry functions of GOVSIM's kinds: load inputs, run the method, write artifacts."""

from itertools import islice
from pathlib import Path

from shared.jobs.catalog.govsim import AnalyseParams, AnalyseResult, RunOutcome, SimulateParams, SimulateResult
from shared.jobs.context import JobContext
from workers.govsim.analysis import Analysis
from workers.govsim.figures import Condition, figures
from workers.govsim.hosts import open_hosts
from workers.govsim.log_env import write_tar
from workers.govsim.records import describe
from workers.govsim.report import FIRST_RUNS, RESULT_BYTES, bytes_of, first_outcomes, statistics, write_summary
from workers.govsim.simulation import RUNS, Simulation, made_runs


def simulate(params: SimulateParams, ctx: JobContext) -> SimulateResult:
    """Run one condition's societies and measure them."""
    simulation = Simulation(params, ctx)
    with ctx.timed("simulate"), open_hosts(ctx, params) as hosts:
        simulation.run(hosts)
    return conclude(simulation, params, ctx)


def conclude(simulation: Simulation, params: SimulateParams, ctx: JobContext) -> SimulateResult:
    """Figures, tables and the result of runs that are all made."""
    tally, journal = simulation.tally, Path(ctx.journal(RUNS).path)
    condition = Condition(describe(params)["group"], tally, params.communication, params.capacity)
    with ctx.timed("write"):
        for name, figure in figures([condition]).items():
            ctx.write_json(name, figure)
        write_summary(ctx, {condition.name: tally})
        with ctx.artifact("log_env.tar") as out:
            write_tar(out, islice(made_runs(journal), FIRST_RUNS))
    metrics = statistics(tally)
    room = RESULT_BYTES - bytes_of({name: statistic.model_dump() for name, statistic in metrics.items()})
    return SimulateResult(**metrics, runs=first_outcomes(journal, RunOutcome, room))


def analyse(params: AnalyseParams, ctx: JobContext) -> AnalyseResult:
    """Read logs of finished runs into metrics, figures and log_env.json."""
    analysis = Analysis(params, ctx)
    with ctx.timed("read"):
        analysis.run()
    with ctx.timed("write"):
        if analysis.conditions:
            for name, figure in figures(analysis.conditions).items():
                ctx.write_json(name, figure)
        write_summary(ctx, {condition.name: condition.tally for condition in analysis.conditions})
        with ctx.artifact("log_env.tar") as out:
            write_tar(out, analysis.imported())
    return analysis.result()
