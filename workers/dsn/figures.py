"""The figures of DSN's kinds, as Plotly JSON: each function draws one."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from shared.jobs.catalog.dsn.judging import Agreement, Rate
from shared.jobs.context import JobContext
from shared.metrics.verdicts import roc, wilson
from workers.dsn.steps import STEPS_CSV

if TYPE_CHECKING:
    from shared.jobs.catalog.dsn.cards import EvaluateResult
    from workers.dsn.defending import Defending
    from workers.dsn.evaluation import Evaluation
    from workers.dsn.judging import Judged

Figure = dict[str, Any]
Trace = dict[str, Any]
MOST_POINTS = 500  # of a curve
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C564B", "#666666", "#000000")


def evaluation_figures(evaluation: Evaluation, result: EvaluateResult, defending: Defending) -> dict[str, Figure]:
    """Every figure of one evaluation, by artifact name."""
    drawn = {
        "losses": loss_curves(steps_by_attack(evaluation.ctx)), "success_steps": success_curves(evaluation),
        "loss_success": loss_against_success(evaluation.found), "success": success_bars(result),
        "agreement": agreement_map(result.judge_agreement), "defences": defence_trade_off(result),
    }  # fmt: skip
    if len(evaluation.params.alphas) > 1:
        drawn["alpha"] = alpha_curve(evaluation, result)
    if defending.perplexities:
        drawn["perplexity"] = perplexity_histogram(defending)
    return {f"{name}.plotly.json": figure for name, figure in sorted(drawn.items())}


def judge_figures(
    said: Judged, agreement: Mapping[str, Agreement], kappa: Mapping[str, float | None]
) -> dict[str, Figure]:
    """Agreement between judges; with labels confusion matrices and the ROC of the vote count too."""
    drawn = {"agreement": agreement_map({pair: k for pair, k in kappa.items() if "|" in pair})}
    if agreement:
        drawn["confusion"] = confusion_maps(agreement)
    judged = [i for i, count in enumerate(said.counts) if count is not None]
    if said.labels is not None and judged:
        labels = [said.labels[i] for i in judged]
        drawn["roc"] = vote_roc([float(said.counts[i] or 0) for i in judged], labels)
    return {f"{name}.plotly.json": figure for name, figure in sorted(drawn.items())}


def steps_by_attack(ctx: JobContext) -> dict[str, list[dict[str, str]]]:
    """The rows of steps.csv by arm and run; of long searches every so many steps."""
    journal = ctx.journal(STEPS_CSV)
    journal.handle.flush()
    attacks: dict[str, list[dict[str, str]]] = {}
    with journal.path.open(newline="") as table:
        for row in csv.DictReader(table):
            attacks.setdefault(f"{row['arm']} {row['run']}", []).append(row)
    return {name: rows[:: -(-len(rows) // MOST_POINTS)] for name, rows in attacks.items()}


def loss_curves(attacks: Mapping[str, Sequence[Mapping[str, str]]]) -> Figure:
    """Target and refusal loss of the suffix of every step, the latter on the right axis."""
    traces = []
    for number, (attack, rows) in enumerate(attacks.items()):
        steps = [int(row["step"]) for row in rows]
        traces.append(_line(steps, [float(row["target_loss"]) for row in rows], f"{attack}: target", number))
        right = _line(steps, [float(row["refusal_loss"]) for row in rows], f"{attack}: refusal", number)
        traces.append({**right, "yaxis": "y2", "line": {**right["line"], "dash": "dot"}})
    axis = {"overlaying": "y", "side": "right", "title": {"text": "refusal loss"}}
    return _figure(traces, "Losses of every step's suffix", "step", "target loss, nats per token", yaxis2=axis)


def success_curves(evaluation: Evaluation) -> Figure:
    """Success with its 95 % interval, and the share refused by keywords, over steps."""
    trial = evaluation.trial
    traces = []
    for number, ((arm, run), attack) in enumerate(evaluation.found.items()):
        looks, steps = attack["looks"], [look["step"] for look in attack["looks"]]
        train, test = len(trial.split.train), len(trial.split.test)
        for split, key, n in (("train", "successes", train), ("test", "test_successes", test)):
            if split == "train" or evaluation.params.test_curve:
                traces += _banded(steps, [look[key] for look in looks], n, f"{arm} {run}, {split}", number)
        refused = _line(steps, [look["refused"] for look in looks], f"{arm} {run}: refused", number)
        traces.append({**refused, "line": {**refused["line"], "dash": "dot"}})
    return _figure(traces, "Success and refusals over steps, 95 % interval", "step", "share of prompts",
                   yaxis={"range": [0, 1]})  # fmt: skip


def loss_against_success(found: Mapping[tuple[str, int], dict[str, Any]]) -> Figure:
    """The mismatch: the lowest loss isn't the highest success."""
    traces = [
        {"type": "scatter", "mode": "markers", "name": f"{arm} {run}", "x": [look["total"] for look in attack["looks"]],
         "y": [look["success"] for look in attack["looks"]],
         "text": [f"step {look['step']}" for look in attack["looks"]],
         "marker": {"color": COLOURS[number % len(COLOURS)]}}
        for number, ((arm, run), attack) in enumerate(found.items())
    ]  # fmt: skip
    return _figure(
        traces, "Loss against success on the train prompts", "total loss", "success", yaxis={"range": [0, 1]}
    )


def success_bars(result: EvaluateResult) -> Figure:
    """Success on the test prompts by arm and judge, with 95 % intervals."""
    arms = [arm for arm, splits in result.asr.items() if "test" in splits]
    judges = list(result.asr[arms[0]]["test"])
    traces = [
        {"type": "bar", "name": judge, "x": arms, "y": [result.asr[arm]["test"][judge].rate for arm in arms],
         "error_y": _errors([result.asr[arm]["test"][judge] for arm in arms]),
         "marker": {"color": COLOURS[number % len(COLOURS)]}}
        for number, judge in enumerate(judges)
    ]  # fmt: skip
    return _figure(traces, "Success on the test prompts, 95 % interval", "", "share of prompts", barmode="group",
                   yaxis={"range": [0, 1]})  # fmt: skip


def alpha_curve(evaluation: Evaluation, result: EvaluateResult) -> Figure:
    """Success over α by judge, and GCG as a level line."""
    arms = sorted((arm for arm in evaluation.arms if arm.name != "gcg"), key=lambda arm: arm.alpha)
    judges = list(result.asr[arms[0].name]["test"])
    traces = []
    for number, judge in enumerate(judges):
        rates = [result.asr[arm.name]["test"][judge] for arm in arms]
        line = _line([arm.alpha for arm in arms], [rate.rate for rate in rates], judge, number, mode="lines+markers")
        traces.append({**line, "error_y": _errors(rates)})
        if "gcg" in result.asr:
            level = result.asr["gcg"]["test"][judge].rate
            flat = _line([arms[0].alpha, arms[-1].alpha], [level, level], f"GCG, {judge}", number)
            traces.append({**flat, "line": {**flat["line"], "dash": "dash"}})
    return _figure(traces, "Success over α on the test prompts", "α", "share of prompts", xaxis={"type": "log"},
                   yaxis={"range": [0, 1]})  # fmt: skip


def agreement_map(kappa: Mapping[str, float | None]) -> Figure:
    """Cohen's κ of every two judges."""
    names = list(dict.fromkeys(name for pair in kappa for name in pair.split("|")))
    z: list[list[float | None]] = [
        [1.0 if a == b else kappa.get(f"{a}|{b}", kappa.get(f"{b}|{a}")) for b in names] for a in names
    ]
    trace = {"type": "heatmap", "x": names, "y": names, "z": z, "zmin": -1, "zmax": 1, "colorscale": "RdBu",
             "colorbar": {"title": {"text": "κ"}}}  # fmt: skip
    return _figure([trace], "Agreement between judges", "", "")


def confusion_maps(agreement: Mapping[str, Agreement]) -> Figure:
    """Each judge's confusion matrix as one row: shares of refusals and of compliances judged right and wrong."""
    names = list(agreement)
    z = [[each.tn, each.fp, each.fn, each.tp] for each in agreement.values()]
    kinds = ["refused, right", "refused, judged complied", "complied, judged refused", "complied, right"]
    trace = {"type": "heatmap", "y": names, "x": kinds, "z": z, "text": z, "texttemplate": "%{text}",
             "colorscale": "Blues"}  # fmt: skip
    return _figure([trace], "Verdicts against labels", "", "", yaxis={"autorange": "reversed"})


def vote_roc(counts: Sequence[float], labels: Sequence[bool]) -> Figure:
    """Sensitivity over false alarms as the number of votes asked for falls."""
    points = roc(counts, labels)
    line = _line([x for x, _ in points], [y for _, y in points], "votes", 0, mode="lines+markers")
    chance = _line([0, 1], [0, 1], "chance", 7)
    return _figure([line, chance], "ROC of the number of votes", "false positive rate", "true positive rate")


def defence_trade_off(result: EvaluateResult) -> Figure:
    """Success under a defence against the harmless prompts that it refuses; down and left is better."""
    arms = list(next(iter(result.defences.values())).asr)
    traces = [
        {"type": "scatter", "mode": "markers+text", "name": arm, "textposition": "top center",
         "x": [defended.benign_refusal.rate for defended in result.defences.values()],
         "y": [defended.asr[arm].rate for defended in result.defences.values()], "text": list(result.defences),
         "marker": {"color": COLOURS[number % len(COLOURS)], "size": 10}}
        for number, arm in enumerate(arms)
    ]  # fmt: skip
    return _figure(traces, "Defences", "harmless prompts refused", "success of the attack", yaxis={"range": [0, 1]})


def perplexity_histogram(defending: Defending) -> Figure:
    """Mean NLL of clean and attacked texts, with the threshold."""
    values = [value for each in defending.perplexities.values() for value in each]
    edges = np.histogram_bin_edges(values, bins=30)
    middle = ((edges[1:] + edges[:-1]) / 2).tolist()
    traces = [
        {"type": "bar", "name": name, "x": middle, "y": np.histogram(each, edges)[0].tolist(), "opacity": 0.6,
         "marker": {"color": COLOURS[number % len(COLOURS)]}}
        for number, (name, each) in enumerate(defending.perplexities.items())
    ]  # fmt: skip
    limit = defending.thresholds["perplexity"]
    line = {"type": "line", "x0": limit, "x1": limit, "yref": "paper", "y0": 0, "y1": 1, "line": {"dash": "dash"}}
    return _figure(traces, "Perplexity of texts, and the filter's threshold", "mean NLL, nats per token", "texts",
                   barmode="overlay", shapes=[line])  # fmt: skip


def _banded(steps: Sequence[int], successes: Sequence[int], n: int, name: str, number: int) -> list[Trace]:
    """A line with its Wilson band."""
    ends = [wilson(s, n) for s in successes]
    band = {
        "type": "scatter", "x": [*steps, *reversed(steps)], "fill": "toself", "opacity": 0.2, "showlegend": False,
        "y": [*(e.high if e else None for e in ends), *reversed([e.low if e else None for e in ends])],
        "line": {"width": 0}, "fillcolor": COLOURS[number % len(COLOURS)], "hoverinfo": "skip",
    }  # fmt: skip
    return [band, _line(steps, [s / n for s in successes], name, number, mode="lines+markers")]


def _errors(rates: Sequence[Rate]) -> dict[str, Any]:
    up = [(r.high or 0) - (r.rate or 0) if r.high is not None else 0 for r in rates]
    down = [(r.rate or 0) - (r.low or 0) for r in rates]
    return {"type": "data", "array": up, "arrayminus": down}


def _figure(traces: list[Trace], title: str, x: str, y: str, **layout: Any) -> Figure:
    xaxis = {"title": {"text": x}, **layout.pop("xaxis", {})}
    yaxis = {"title": {"text": y}, **layout.pop("yaxis", {})}
    frame = {"title": {"text": title}, "xaxis": xaxis, "yaxis": yaxis, "template": "none"}
    return {"data": traces, "layout": {**frame, **layout}}


def _line(x: Sequence[float], y: Sequence[float | None], name: str, number: int, mode: str = "lines") -> Trace:
    line = {"color": COLOURS[number % len(COLOURS)]}
    return {"type": "scatter", "mode": mode, "name": name, "x": list(x), "y": list(y), "line": line}
