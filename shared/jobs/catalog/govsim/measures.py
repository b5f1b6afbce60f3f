"""What `govsim.simulate` finds: the paper's metrics, run by run and over the runs."""

from pydantic import Field

from shared.jobs.spec import Result


class Statistic(Result):
    """One metric over the runs in which it is defined; every number is null where it isn't."""

    mean: float | None = Field(description="Mean over runs.")
    std: float | None = Field(description="Sample standard deviation (divides by runs − 1); null for one run.")
    std_population: float | None = Field(description="Population standard deviation; null for no run.")
    ci95: float | None = Field(description="Half-width of the 95 % t-interval of the mean; null for one run.")


class Metrics(Result):
    """The paper's metrics over the runs of one condition."""

    survival_time: Statistic = Field(
        description="m, months: the first month in which fewer than C units are left after the harvest; T if none is."
    )
    survival_rate: Statistic = Field(description="q, share of runs in which the resource never falls below C.")
    gain: Statistic = Field(description="Units per agent over the run: mean over agents of R_i.")
    efficiency: Statistic = Field(description="u = 1 − max(0, T·f(0) − ΣR_i) / (T·f(0)), 0 to 1.")
    equality: Statistic = Field(description="e = 1 − Gini of the gains R_i, 1/n to 1; undefined if nothing was taken.")
    over_usage: Statistic = Field(description="o, share of harvest actions whose grant exceeds the month's thr.")
    over_usage_demanded: Statistic = Field(description="Share of harvest actions whose demand exceeds the thr.")
    over_usage_published: Statistic = Field(
        description="As over_usage, but over harvest actions plus agents' utterances, as the published figures count."
    )


class RunOutcome(Result):
    """One run, month by month. The rows of a month hold the agents present, a newcomer last."""

    survival_time: int = Field(description="m, months.")
    survived: bool = Field(description="Whether the resource never fell below C.")
    gain: float = Field(description="Units per agent.")
    efficiency: float | None = Field(description="u, 0 to 1; null where T·f(0) is 0.")
    equality: float | None = Field(description="e, 1/n to 1; null when nothing was taken.")
    over_usage: float | None = Field(description="Share of harvest actions above thr, by grant.")
    over_usage_demanded: float | None = Field(description="Share of harvest actions above thr, by demand.")
    over_usage_published: float | None = Field(description="Share above thr of harvest actions and utterances.")
    gains: list[int] = Field(description="R_i, units per agent over the whole run.")
    pool: list[list[int]] = Field(description="[before, after] the harvest, units, one pair per month.")
    granted: list[list[int]] = Field(description="Units granted, one row per month.")
    demanded: list[list[int]] = Field(description="Units asked for, w, one row per month.")


class SimulatedRun(RunOutcome):
    """One simulated run; the last five fields tell of its language models, if any."""

    invalid: bool = Field(False, description="Whether too many replies were unreadable: it is left out of the means.")
    fallback_rate: float | None = Field(
        None, description="Share of replies that could not be read and were replaced by a default; null without any."
    )
    model_calls: int = Field(0, description="Replies asked of models, repairs included.")
    tokens_in: int = Field(0, description="Prompt tokens.")
    tokens_out: int = Field(0, description="Reply tokens.")


class ModelUse(Result):
    """What a job asked of language models, over all its runs."""

    model_calls: int = Field(0, description="Replies asked of models, repairs included.")
    tokens_in: int = Field(0, description="Prompt tokens.")
    tokens_out: int = Field(0, description="Reply tokens.")


class SimulateResult(Metrics, ModelUse):
    """The metrics of the condition and as many of its first 40 runs as fit; all runs are in `runs.jsonl`."""

    invalid_runs: int = Field(0, description="Runs left out of the means: too many replies were unreadable.")
    fallback_rate: float | None = Field(
        None, description="Share of replies, over all runs, that could not be read; null where nothing was asked."
    )
    runs: list[SimulatedRun] = Field(description="The first runs in order.")
