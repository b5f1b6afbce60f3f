"""A search step beside nanoGCG on the same model, prompt, width and topk, and what each part of ours is worth.

    python -m tests.bench.bench_dsn [--quick]

One thread, CPU milliseconds (`process_time`), contenders interleaved, medians of five rounds; the load is printed. Rows
whose peer is absent say `skipped`. nanoGCG calls `gc.collect` at each step, which costs what the process's heap is
large, so both ratios are given. `pip install nanogcg --no-deps` brings it without moving torch.
"""

import importlib.util
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import nll_loss

from shared.data.builtin import shipped
from shared.jobs.local import LocalContext
from shared.jobs.references import Ref
from shared.llm.local import load_model
from shared.settings import Settings
from tests.bench import nanogcg_peer
from tests.bench.nanogcg_peer import GOAL, SUFFIX, TARGET, TOPK, NoCollect
from workers.dsn.candidate_losses import CandidateLosses
from workers.dsn.candidates import forbidden_tokens, positions
from workers.dsn.conversation import Chat, Conversation
from workers.dsn.objective import LARGEST_P, RefusalWeights, window_losses
from workers.dsn.phrases import LOSS_PHRASES
from workers.dsn.prompts import Objective, Prompt
from workers.dsn.reachability import Reachability
from workers.dsn.search import Search, Width

ROUNDS = 5
GCG, DSN = Objective(0.0, False), Objective(10.0, True)
Run = Callable[[], float]


def machine() -> str:
    return f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"


def rows(quick: bool = False) -> list[dict[str, Any]]:
    """The table: what, ours, peer, peer_name, unit, ratio, spread, goal."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with tempfile.TemporaryDirectory() as folder:
            bench = Bench(Path(folder), 2 if quick else ROUNDS)
            return [*bench.beside_nanogcg(), *bench.pinned(), *bench.prefix(), *bench.groups(), *bench.refusal(quick),
                    bench.dsn_beside_gcg(), bench.floor()]  # fmt: skip
    finally:
        torch.set_num_threads(before)


class Bench:
    """The stand-in and everything measured on it."""

    def __init__(self, folder: Path, rounds: int) -> None:
        self.rounds = rounds
        self.loaded = load_model(Ref("builtin:colours"), LocalContext(folder), Settings())
        self.model = self.loaded.model.requires_grad_(False)
        self.chat = Chat(self.loaded.tokenizer)
        self.keywords = [self.loaded.tokenizer(p, add_special_tokens=False)["input_ids"] for p in LOSS_PHRASES]
        self.forbidden = forbidden_tokens(self.loaded.tokenizer, 226, allow_non_ascii=True)

    def conversation(self, suffix: str = SUFFIX) -> Conversation:
        """nanoGCG takes the BOS away and this tokenizer adds none: without it here too."""
        whole = self.chat.conversation(GOAL, suffix, TARGET)
        return replace(whole, before=whole.before[1:], parts=whole.parts._replace(head=whole.parts.head[6:]))

    def search(self, objective: Objective, width: int, suffix: str = SUFFIX) -> Search:
        one = self.conversation(suffix)
        prompts = [Prompt(self.model, one, self.keywords, cosine_decay=objective.cosine_decay)]
        search = Search(
            self.model, prompts, objective, Width(width, TOPK), self.forbidden, Reachability(self.chat, [one])
        )
        search.begin(one.suffix, 0)
        return search

    # Beside nanoGCG -----------------------------------------------------------------------------------------------

    def beside_nanogcg(self) -> list[dict[str, Any]]:
        if importlib.util.find_spec("nanogcg") is None:
            return [skipped("step beside nanoGCG", "nanoGCG", "pip install nanogcg --no-deps")]
        goals = {64: (2.0, 1.3), 256: (2.0, 1.8)}
        return [row for width, goal in goals.items() for row in self._width(width, goal)]

    def _width(self, width: int, goals: tuple[float, float]) -> list[dict[str, Any]]:
        peer = nanogcg_peer.peer(self.model, self.loaded.tokenizer, width, cache=False)
        search = self.search(GCG, width)
        difference = self.loss_difference(peer, search)
        assert difference <= 1e-5, f"losses of the same candidates differ by {difference}"

        def stubbed() -> float:
            with NoCollect():
                return nanogcg_peer.step_ms(peer)

        found = interleaved({"ours": lambda: steps_ms(search), "peer": lambda: nanogcg_peer.step_ms(peer),
                             "stubbed": stubbed}, self.rounds)  # fmt: skip
        what = f"GCG step, width {width}, same candidates equal to {difference:.0e} ({machine()})"
        return [row(what, found["ours"], found["peer"], "nanoGCG as installed, cache off", goals[0]),
                row(what, found["ours"], found["stubbed"], "nanoGCG, gc.collect stubbed", goals[1])]  # fmt: skip

    def loss_difference(self, peer: Any, search: Search) -> float:
        """The largest difference of both sides' losses on one candidate set."""
        ids = torch.tensor(search.draw())
        embed = self.model.get_input_embeddings()
        parts = [peer.before_embeds.repeat(len(ids), 1, 1), embed(ids), peer.after_embeds.repeat(len(ids), 1, 1),
                 peer.target_embeds.repeat(len(ids), 1, 1)]  # fmt: skip
        theirs = peer._compute_candidates_loss_original(len(ids), torch.cat(parts, 1)).double()
        return float((theirs - search.candidates.of(ids).target).abs().max())

    def pinned(self) -> list[dict[str, Any]]:
        """nanoGCG in an environment of its own, with the transformers it pins and its cache on. No goal."""
        what, name = "GCG step, width 64", "nanoGCG in its own environment, cache on"
        python = os.environ.get("TENFOLD_NANOGCG_PYTHON")
        if not python:
            return [skipped(what, name, "set TENFOLD_NANOGCG_PYTHON")]
        command = [python, str(Path(nanogcg_peer.__file__).resolve()), str(shipped("colours", Path("."))), "64"]
        try:
            out = subprocess.run(command, capture_output=True, text=True, timeout=600, check=True).stdout
        except (OSError, subprocess.SubprocessError) as error:
            why = str(getattr(error, "stderr", None) or error).strip()
            return [skipped(what, name, why[-200:])]
        peer, search = json.loads(out), self.search(GCG, 64)
        ours = interleaved({"ours": lambda: steps_ms(search)}, self.rounds)["ours"]
        name = f"nanoGCG, transformers {peer['transformers']}, cache on"
        return [row(what, ours, peer["installed"], name, None),
                row(what, ours, peer["stubbed"], f"{name}, gc.collect stubbed", None)]  # fmt: skip

    # Parts of ours ------------------------------------------------------------------------------------------------

    def prefix(self) -> list[dict[str, Any]]:
        """Prefix reuse at 6 and 54 tokens before the suffix, 59 candidates of 8 tokens."""
        found = []
        for tokens, goal in ((6, 1.1), (54, 2.0)):
            one = self._with_prefix(self.conversation(), tokens)
            drawn = torch.tensor(self.search(GCG, 64).draw())
            prompt = Prompt(self.model, one, self.keywords, cosine_decay=True)
            ways = {name: timed(CandidateLosses(self.model, [prompt], reuse=name == "ours", groups=1), drawn, None)
                    for name in ("ours", "peer")}  # fmt: skip
            times = interleaved(ways, self.rounds)
            what = f"candidates, {len(drawn)} × L 8, {tokens} tokens before the suffix"
            found.append(row(what, times["ours"], times["peer"], "without prefix reuse", goal))
        return found

    def _with_prefix(self, one: Conversation, tokens: int) -> Conversation:
        before = one.before * (tokens // len(one.before) + 1)
        return replace(one, before=before[:tokens])

    def groups(self) -> list[dict[str, Any]]:
        """Position groups at L 20, B 512, over the best-chunked plain reuse."""
        one = self.conversation(" ".join(["!"] * 20))
        generator = torch.Generator().manual_seed(0)
        drawn = torch.tensor([one.suffix] * 432)
        drawn[torch.arange(432), torch.tensor(positions(20, 432))] = torch.randint(6, 226, (432,), generator=generator)
        prompt = Prompt(self.model, one, self.keywords, cosine_decay=True)
        grouped = timed(CandidateLosses(self.model, [prompt]), drawn, one.suffix)
        plain = timed(CandidateLosses(self.model, [prompt], groups=1, most_rows=128), drawn, one.suffix)
        times = interleaved({"ours": grouped, "peer": plain}, self.rounds)
        return [
            row("candidates, 432 × L 20, groups of positions", times["ours"], times["peer"], "plain prefix reuse", 1.15)
        ]

    def refusal(self, quick: bool) -> list[dict[str, Any]]:
        """The vectorised refusal loss beside the loop over keywords and rows."""
        shapes = [(64, 10, 226)] if quick else [(64, 10, 226), (32, 20, 32_000)]
        found = []
        for batch, length, vocabulary in shapes:
            torch.manual_seed(0)
            logits = torch.randn(batch, length + 1, vocabulary)
            keywords = [[(7 * token) % vocabulary for token in keyword] for keyword in self.keywords]
            weights = RefusalWeights.build(keywords, length + 1)
            target, decay = torch.zeros(length, dtype=torch.long), torch.ones(length)
            fast = window_losses(logits, target, decay, weights).refusal
            difference = float((fast - looped(logits, keywords)).abs().max())
            assert difference <= 1e-7, difference

            def ours(logits: Any = logits, target: Any = target, decay: Any = decay, weights: Any = weights) -> float:
                return cpu_ms(lambda: window_losses(logits, target, decay, weights))

            def peer(logits: Any = logits, keywords: Any = keywords) -> float:
                return cpu_ms(lambda: looped(logits, keywords))

            times = interleaved({"ours": ours, "peer": peer}, self.rounds)
            what = f"refusal loss, B {batch}, T {length}, V {vocabulary:,}, difference {difference:.0e}"
            found.append(row(what, times["ours"], times["peer"], "loop over keywords and rows", 20.0))
        return found

    def dsn_beside_gcg(self) -> dict[str, Any]:
        gcg, dsn = self.search(GCG, 64), self.search(DSN, 64)
        times = interleaved({"ours": lambda: steps_ms(dsn), "peer": lambda: steps_ms(gcg)}, self.rounds)
        return row("DSN step, width 64", times["ours"], times["peer"], "GCG step, ours", 1 / 1.15)

    def floor(self) -> dict[str, Any]:
        """Candidates per second, and the FLOPs that they need at the rate of one large matrix product."""
        drawn = torch.tensor(self.search(DSN, 256).draw())
        prompt = Prompt(self.model, self.conversation(), self.keywords, cosine_decay=True)
        ms = interleaved({"ours": timed(CandidateLosses(self.model, [prompt]), drawn, None)}, self.rounds)["ours"]
        body = sum(p.numel() for name, p in self.model.named_parameters() if "embed" not in name)
        tokens = len(drawn) * (8 + len(prompt.end))
        flops = 2 * body * tokens + 2 * 64 * 226 * len(drawn) * prompt.rows
        a = torch.randn(768, 768)
        peak = 2 * 768**3 / (cpu_ms(lambda: a @ a) / 1000)
        floor_ms = 1000 * flops / peak
        rate = 1000 * len(drawn) / statistics.median(ms)
        what = f"{rate:,.0f} candidates/s ({flops / 1e9:.2f} GFLOP) against the FLOP floor at {peak / 1e9:.0f} GFLOP/s"
        return row(what, ms, [floor_ms], "FLOP floor", None)


def looped(logits: Any, keywords: list[list[int]]) -> Any:
    """As it reads: at every keyword and start row the unlikelihood of the whole vocabulary, then its mean."""
    pairs = []
    for keyword in keywords:
        labels = torch.tensor([keyword] * len(logits))
        for start in range(logits.shape[1] - len(keyword) + 1):
            p = logits[:, start : start + len(keyword)].softmax(-1)
            unlikely = (1 - p.clamp(max=LARGEST_P)).log()
            pairs.append(nll_loss(unlikely.transpose(1, 2), labels, reduction="none").mean(-1))
    return torch.stack(pairs).mean(0)


# Timing and the table -------------------------------------------------------------------------------------------------


def cpu_ms(work: Callable[[], Any], repeats: int = 3) -> float:
    work()
    start = time.process_time()
    for _ in range(repeats):
        work()
    return 1000 * (time.process_time() - start) / repeats


def timed(losses: CandidateLosses, candidates: Any, current: Any) -> Run:
    return lambda: cpu_ms(lambda: losses.of(candidates, current))


def steps_ms(search: Search, steps: int = 5) -> float:
    start = time.process_time()
    for _ in range(steps):
        search.step()
    return 1000 * (time.process_time() - start) / steps


def interleaved(contenders: dict[str, Run], rounds: int) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(rounds + 1):
        for name, run in contenders.items():
            value = run()
            if number:  # the first round warms up
                found[name].append(value)
    return found


def row(what: str, ours: list[float], peer: list[float], peer_name: str, goal: float | None) -> dict[str, Any]:
    mine, theirs = statistics.median(ours), statistics.median(peer)
    spread = f"ours {min(ours):.2f}–{max(ours):.2f}, peer {min(peer):.2f}–{max(peer):.2f}"
    return {"what": what, "ours": round(mine, 3), "peer": round(theirs, 3), "peer_name": peer_name, "unit": "CPU ms",
            "ratio": round(theirs / mine, 2), "spread": spread, "goal": goal}  # fmt: skip


def skipped(what: str, peer_name: str, why: str) -> dict[str, Any]:
    return {"what": what, "ours": None, "peer": None, "peer_name": peer_name, "unit": "CPU ms", "ratio": None,
            "spread": f"skipped: {why}", "goal": None}  # fmt: skip


if __name__ == "__main__":
    print(json.dumps(rows("--quick" in sys.argv), indent=1, ensure_ascii=False))
