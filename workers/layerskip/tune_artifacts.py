"""What a tuning leaves behind: the table of all (E, K), the choice for later jobs, figures."""

from collections.abc import Sequence
from typing import Any

from shared.jobs.catalog.layerskip import TuneResult
from workers.layerskip import figures as draw
from workers.layerskip.packing import csv_of
from workers.layerskip.simulation import simulate
from workers.layerskip.tuning import Confirmed, Priced, Tuning

SWEEP_COLUMNS = (
    "exit_layer", "num_speculations", "acceptance_rate", "total_time", "time_per_token", "tokens_per_second",
    "predicted_speedup", "measured_speedup",
)  # fmt: skip
GRID_POSITIONS = 48


def sweep_csv(tuning: Tuning, priced: Sequence[Priced], confirmed: Confirmed) -> str:
    """The official sweep's columns and both speed-ups; seconds are measured where a run was, else predicted."""
    tokens = sum(len(each.tokens) for each in tuning.records) / len(tuning.records)
    lines: list[dict[str, Any]] = []
    for each in sorted(priced, key=lambda one: (one.exit_layer, one.drafts)):
        measured = confirmed.speedups.get((each.exit_layer, each.drafts))
        per_token = confirmed.plain_s / (measured or each.predicted)
        lines.append({
            "exit_layer": each.exit_layer, "num_speculations": each.drafts, "acceptance_rate": each.acceptance,
            "total_time": per_token * tokens, "time_per_token": per_token, "tokens_per_second": 1 / per_token,
            "predicted_speedup": each.predicted, "measured_speedup": measured,
        })  # fmt: skip
    return csv_of(SWEEP_COLUMNS, lines)


def tune_json(result: TuneResult) -> dict[str, Any]:
    """What `generate` takes: the choice, c and h."""
    return {
        "pays": result.pays, "exit_layer": result.exit_layer, "num_speculations": result.num_speculations,
        "costs": result.costs.model_dump(mode="json"),
    }  # fmt: skip


def measured_figures(priced: Sequence[Priced], confirmed: Confirmed, result: TuneResult) -> dict[str, draw.Figure]:
    """Those that clocks decide."""
    predicted = {(each.exit_layer, each.drafts): round(each.predicted, 4) for each in priced}
    points = [
        (f"E{each.exit_layer} K{each.drafts}", each.predicted, confirmed.speedups[each.exit_layer, each.drafts])
        for each in priced if (each.exit_layer, each.drafts) in confirmed.speedups
    ]  # fmt: skip
    c, c_head = ({int(n): value for n, value in known.items()} for known in (result.costs.c, result.costs.c_head))
    return {
        "speedup.plotly.json": draw.speedup_map(predicted, "Speed-up predicted with measured c and h"),
        "predicted.plotly.json": draw.predicted_against_measured(points),
        "costs.plotly.json": draw.costs_curve(c, c_head),
    }


def recorded_figures(tuning: Tuning) -> dict[str, draw.Figure]:
    """Those that the model alone decides."""
    rates = {}
    for exit_layer in tuning.exits:
        for drafts in tuning.params.speculations:
            steps = [counts for each in tuning.records for counts in simulate(each, exit_layer, drafts)]
            drafted = sum(each.drafted for each in steps)
            if drafted:
                rates[exit_layer, drafts] = round(sum(each.accepted for each in steps) / drafted, 6)
    deepest = max(tuning.params.speculations)
    steps = [counts for each in tuning.records for counts in simulate(each, tuning.exits[0], deepest)]
    return {
        "acceptance.plotly.json": draw.speedup_map(rates, "Acceptance, simulated"),
        "accepted.plotly.json": draw.accepted_lengths([(each.accepted, each.drafted) for each in steps]),
        "tokens.plotly.json": _grid(tuning),
    }


def _grid(tuning: Tuning) -> draw.Figure:
    recorded, tokens = tuning.records[0], tuning.opened.tokens
    shown = recorded.tokens[:GRID_POSITIONS]

    def text(token: int) -> str:
        return repr(tokens.decode([token]))[1:-1] if tokens is not None and token >= 0 else str(token)

    said = [*recorded.said, recorded.tokens]
    return draw.token_grid(
        [text(token) for token in shown],
        [[text(token) for token in row[:GRID_POSITIONS]] for row in said],
        [[one == token for one, token in zip(row, shown, strict=False)] for row in said],
    )
