"""A clone of real decisions: a small decoder that takes what the logged agents took, given the stock.

It is no reasoning model. Its tokenizer drops every word of a prompt but the stock, the universalization sentence and
the question, so it can be asked with the simulation's own prompts; it answers "Answer: 12 tons of fish", digit by
digit, and can't talk. `Training.run` is the entry point.
"""

import io
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from shared.jobs.catalog.govsim import SimulateParams, TrainCloneParams
from shared.jobs.context import JobContext
from workers.govsim.clock import Month
from workers.govsim.decisions import Decision
from workers.govsim.drawing import figure, line
from workers.govsim.memory import Memory
from workers.govsim.prompts import Prompts, Told, prompts_of
from workers.govsim.scenarios import Scene

CHECKPOINT_EVERY = 50  # steps
LAST_STEPS = 50  # whose mean loss is reported
CONTEXT = 64  # tokens; a prompt has about fifteen
PAD, END, ASKED = "<|pad|>", "<|end|>", "<|answer|>"
ANSWER = "Answer: "
MODEL = "model.tar"
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ message['content'] }}{% endfor %}"
    "{% if add_generation_prompt %}" + ASKED + "{% endif %}"
)
IGNORED = -100  # the loss skips the prompt


class Example(NamedTuple):
    """One decision in tokens."""

    prompt: list[int]
    target: list[int]


def tokenizer_of(scene: Scene) -> PreTrainedTokenizerFast:
    """Reads of a prompt: the stock's sentence and digits, universalization's, the question. All else is dropped."""
    phrases = [_opening(scene.stock_text), _opening(scene.universalization_text), f"decide how many {scene.unit}"]
    digits = [rf"\d(?=\d*{_escaped(_closing(text))})" for text in (scene.stock_text, scene.universalization_text)]
    kept = "|".join([*map(_escaped, phrases), *digits])
    words = [PAD, END, ASKED, ANSWER, f" {scene.unit}", *phrases, *map(str, range(10))]
    tokenizer = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token=PAD))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(kept), behavior="removed", invert=True)
    tokenizer.decoder = decoders.Fuse()
    fast: Any = PreTrainedTokenizerFast  # its types know nothing of its arguments
    built: PreTrainedTokenizerFast = fast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=END,
        additional_special_tokens=[ASKED],
        chat_template=CHAT_TEMPLATE,
        model_max_length=CONTEXT,
        clean_up_tokenization_spaces=False,
    )
    return built


def example_of(decision: Decision, prompts: Prompts, agents: int, tokenizer: Any) -> Example:
    """The simulation's own harvest prompt with the stock (and universalization) in memory, and the demand."""
    memory, times = Memory(), (Month(1).harvest, Month(1).home)
    memory.store("event", prompts.scene.stock(decision.stock), times)
    if decision.universalized:
        memory.store("event", prompts.scene.universalization(decision.stock // 2 // agents), times)
    prompt = prompts.harvest(Told(0, Month(1).harvest, memory.nodes), decision.stock)
    turn = [{"role": "user", "content": prompt.text}]
    text = tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True)
    said = [ANSWER, *str(decision.wanted), f" {prompts.scene.unit}", END]
    return Example(tokenizer(text, add_special_tokens=False)["input_ids"], tokenizer.convert_tokens_to_ids(said))


class Training:
    """The state of one `govsim.train_clone` job. Always on the CPU: it is a hundred thousand parameters."""

    def __init__(self, params: TrainCloneParams, ctx: JobContext, decisions: Sequence[Decision]) -> None:
        self._params, self._ctx = params, ctx
        society = SimulateParams(scenario=params.scenario)
        prompts = prompts_of(society)
        self.tokenizer = tokenizer_of(prompts.scene)
        examples = [example_of(decision, prompts, society.agents, self.tokenizer) for decision in decisions]
        halves = [
            [e for e, d in zip(examples, decisions, strict=True) if d.universalized is told] for told in (False, True)
        ]
        self._halves = [half for half in halves if half]
        self.model = decoder(params, len(self.tokenizer), self.tokenizer.eos_token_id)
        self._optimizer = torch.optim.AdamW(self.model.parameters(), lr=params.learning_rate)
        self._batches = torch.Generator().manual_seed(params.seed)
        self.losses: list[float] = []
        self._resume()

    @property
    def loss(self) -> float:
        """Mean over the last steps, nats per token."""
        return float(np.mean(self.losses[-LAST_STEPS:]))

    def run(self) -> None:
        """Train to the last step, then write the clone."""
        self.model.train()
        while len(self.losses) < self._params.steps:
            self.losses.append(self._step(self._batch()))
            step = len(self.losses)
            self._ctx.metric("loss", step, self.losses[-1])
            self._ctx.progress(step, self._params.steps, "steps")
            if step % CHECKPOINT_EVERY == 0:
                self._save()
        with self._ctx.artifact(MODEL) as out:
            out.write(packed(self.model, self.tokenizer))
        steps = np.arange(1, len(self.losses) + 1)
        curve = line(steps, np.array(self.losses), "loss", 0)
        self._ctx.write_json("loss.plotly.json", figure([curve], "Training loss", "step", "nats per token"))

    def _batch(self) -> list[Example]:
        """Drawn with replacement, the same number from each condition."""
        size = self._params.batch_size
        batch: list[Example] = []
        for number, half in enumerate(self._halves):
            share = (size + number) // len(self._halves)
            places = torch.randint(len(half), (share,), generator=self._batches).tolist()
            batch += [half[place] for place in places]
        return batch

    def _step(self, batch: list[Example]) -> float:
        ids, mask, labels = padded(batch)
        logits: Tensor = self.model(input_ids=ids, attention_mask=mask).logits  # (batch, longest, tokens)
        loss = cross_entropy(logits[:, :-1].transpose(1, 2), labels[:, 1:], ignore_index=IGNORED)
        self._optimizer.zero_grad()
        torch.autograd.backward(loss)
        self._optimizer.step()
        return float(loss.detach())

    # Checkpoints ----------------------------------------------------------------------------------------------------

    def _save(self) -> None:
        buffer = io.BytesIO()
        state = {
            "model": self.model.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "batches": self._batches.get_state(),
        }
        torch.save(state, buffer)
        self._ctx.checkpoint({"losses": self.losses}, {"training": buffer.getvalue()})

    def _resume(self) -> None:
        restored = self._ctx.restored()
        if restored is None:
            return
        saved = torch.load(restored.blobs["training"], weights_only=True)
        self.model.load_state_dict(saved["model"])
        self._optimizer.load_state_dict(saved["optimizer"])
        self._batches.set_state(saved["batches"])
        self.losses = restored.state["losses"]


def decoder(params: TrainCloneParams, tokens: int, end: int) -> GPT2LMHeadModel:
    """An untrained decoder, its weights drawn by the seed."""
    config = GPT2Config(
        vocab_size=tokens, n_positions=CONTEXT, n_embd=params.width, n_layer=params.layers,
        n_head=params.width // (16 if params.width % 16 == 0 else 8), resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
        bos_token_id=end, eos_token_id=end, pad_token_id=0,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(params.seed)
        return GPT2LMHeadModel(config)


def padded(batch: Sequence[Example]) -> tuple[Tensor, Tensor, Tensor]:
    """Token ids, attention mask and labels, (batch, longest) each, padded on the right."""
    longest = max(len(example.prompt) + len(example.target) for example in batch)
    ids = torch.zeros(len(batch), longest, dtype=torch.long)
    mask, labels = torch.zeros_like(ids), torch.full_like(ids, IGNORED)
    for row, (prompt, target) in enumerate(batch):
        end = len(prompt) + len(target)
        ids[row, :end] = torch.tensor(prompt + target)
        mask[row, :end] = 1
        labels[row, len(prompt) : end] = torch.tensor(target)
    return ids, mask, labels


def packed(model: Any, tokenizer: Any) -> bytes:
    """A Hugging Face folder as a tar, the same bytes every time."""
    buffer = io.BytesIO()
    with tempfile.TemporaryDirectory() as folder, tarfile.open(fileobj=buffer, mode="w") as tar:
        model.save_pretrained(folder, safe_serialization=True)
        tokenizer.save_pretrained(folder)
        for path in sorted(Path(folder).iterdir()):
            data = path.read_bytes()
            member = tarfile.TarInfo(path.name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def _opening(text: str) -> str:
    """What a sentence says before its number."""
    return text.partition("{")[0].strip()


def _closing(text: str) -> str:
    return text.partition("}")[2]


def _escaped(text: str) -> str:
    """For the tokenizer's regular expressions."""
    return "".join(f"\\{c}" if not c.isalnum() and c != " " else c for c in text)
