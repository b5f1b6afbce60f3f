"""`layerskip.train` and `layerskip.eval_exits`: their Params and Results."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from shared.jobs.catalog.layerskip.presets import PRESETS, Preset
from shared.jobs.references import Ref, Schemes
from shared.jobs.spec import Params, Result, Seed, Text

ModelRef = Annotated[Ref, Schemes("file", "job", "hub", "builtin")]
TextRef = Annotated[Ref, Schemes("file", "job", "builtin")]
Dtype = Literal["auto", "float32", "bfloat16", "float16"]
Scale = Literal["exp", "linear", "uniform", "log", "sin", "sigmoid"]


class TrainParams(Params):
    """Train a Llama so that its head can read tokens after any layer: from scratch, or on from a checkpoint."""

    model: ModelRef | None = Field(None, description="A Llama folder to continue from; left out: from scratch.")
    text: TextRef | None = Field(
        None, description="UTF-8 text, cut into blocks; builtin:stdlib is Python's own source."
    )
    data: TextRef | None = Field(None, description="JSONL, one {prompt, response} a line.")
    loss_on: Literal["response", "all"] = Field(
        "response", description="Of data: loss on responses only, or on one stream of prompt, tab, response, newline."
    )
    eval_data: TextRef | None = Field(
        None, description="Text or JSONL like the training's. Left out: its own held-out part (the last 5 %)."
    )
    tokenizer: TextRef | None = Field(
        None, description="A tokenizer.json. Left out: the model's own; from scratch: bytes, V = 256."
    )
    preset: Literal[
        "none", "short", "trl", "llama2-7b", "llama2-13b", "llama3-8b", "llama3.2-1b", "scratch-1.5b", "scratch-7b",
        "code-llama1-7b", "topv2-1.5b",
    ] = Field("none", description="A recipe: fills in what is left out. none: lr is required.")  # fmt: skip
    steps: int = Field(400, ge=1, le=10_000_000, description="Optimizer steps; T.")
    batch_size: int = Field(8, ge=1, le=4096, description="Windows, or examples, per step.")
    block_size: int = Field(128, ge=2, le=131_072, description="Tokens per window; longer examples are cut.")
    layers: int | None = Field(None, ge=1, le=200, description="L, from scratch; left out: 8.")
    d_model: int | None = Field(None, ge=8, le=16_384, description="Width, from scratch; left out: 128.")
    heads: int | None = Field(None, ge=1, le=256, description="Attention heads, from scratch; left out: 4.")
    kv_heads: int | None = Field(None, ge=1, le=256, description="Key-value heads (GQA); left out: as heads.")
    ffn: int | None = Field(
        None, ge=8, le=65_536, description="Width of the SwiGLU; left out: 8/3 of d_model, up to a multiple of 8."
    )
    context: int | None = Field(None, ge=8, le=1_048_576, description="Most positions, from scratch; left out: 2048.")
    tied: bool | None = Field(None, description="Head and embedding are one, from scratch; left out: false.")
    lr: float | None = Field(None, gt=0, le=1, description="Peak learning rate of AdamW.")
    warmup_steps: int = Field(50, ge=0, le=1_000_000, description="Linear warm-up; then cosine down to min_lr_ratio.")
    min_lr_ratio: float = Field(0.1, ge=0, le=1, description="Of lr, at the last step.")
    weight_decay: float = Field(0.1, ge=0, le=1, description="On matrices.")
    grad_clip: float = Field(1.0, gt=0, le=1e6, description="Most norm of the gradient.")
    p_max: float | None = Field(None, ge=0, lt=1, description="Layer dropout of the last layer; left out: 0.1.")
    dropout_scale: Scale | None = Field(None, description="How dropout grows over layers; left out: exp.")
    dropout_curriculum: Literal["none", "exp"] | None = Field(
        None, description="How dropout grows over steps; left out: exp from scratch, else none."
    )
    e_scale: float | None = Field(
        None, ge=0, le=1, description="Weight of early exits; left out: 0.2 from scratch, else 1; 0: last layer only."
    )
    loss_weights: Literal["sum", "uniform", "linear", "sqrt", "inv"] | None = Field(
        None, description="e(l) over layers; left out: sum, the paper's."
    )
    curriculum: Literal["rotational", "gradual", "none"] | None = Field(
        None, description="Which exits a step trains; left out: rotational."
    )
    R: int | None = Field(None, ge=1, le=200, description="Rotation: every R-th layer; left out: min(8, L).")
    rotation_mask: list[bool] | None = Field(
        None, min_length=1, max_length=200, description="One flag a layer, rolled by one each step, instead of R."
    )
    always_last: bool | None = Field(None, description="The last layer is in every step's loss; left out: true.")
    precision: Literal["float32", "bfloat16"] = Field("float32", description="bfloat16: autocast, weights in float32.")
    recompute: bool = Field(False, description="Recompute blocks in backward (gradient checkpointing).")
    eval_every: int | None = Field(None, ge=1, description="Steps between looks at every exit; left out: the end only.")
    eval_windows: int = Field(64, ge=1, le=100_000, description="Held-out windows (or examples) per look.")
    eval_block_size: int = Field(256, ge=2, le=131_072, description="Tokens per held-out window.")
    keep_as: Annotated[Text, Field(pattern=r"^[a-z0-9][a-z0-9.-]{0,63}$")] | None = Field(
        None, description="Also keep the model on the worker as builtin:<name>; the same recipe isn't trained twice."
    )
    seed: Seed = 42

    @model_validator(mode="after")
    def _say_what_to_learn(self) -> Self:
        if (self.text is None) == (self.data is None):
            raise ValueError("give exactly one of text and data")
        if self.preset == "none" and self.lr is None:
            raise ValueError("lr is required without a preset; give lr, or preset short")
        return self

    @model_validator(mode="after")
    def _leave_the_shape_to_the_checkpoint(self) -> Self:
        shape = ("layers", "d_model", "heads", "kv_heads", "ffn", "context", "tied")
        given = [name for name in shape if getattr(self, name) is not None]
        if self.model is not None and given:
            raise ValueError(f"{', '.join(given)} come from the checkpoint; leave them out, or leave model out")
        heads, width = self.heads or 4, self.d_model or 128
        if width % (2 * heads):
            raise ValueError(f"d_model {width} must be an even multiple of heads {heads}")
        if heads % (self.kv_heads or heads):
            raise ValueError(f"heads {heads} must be a multiple of kv_heads {self.kv_heads}")
        if self.model is None and self.block_size > (self.context or 2048):
            raise ValueError(f"block_size {self.block_size} is longer than context {self.context or 2048}")
        return self

    @model_validator(mode="after")
    def _rotate_one_way(self) -> Self:
        if self.rotation_mask is not None:
            if self.R is not None:
                raise ValueError("R and rotation_mask are both given; give one")
            if self.model is None and len(self.rotation_mask) != (self.layers or 8):
                raise ValueError(
                    f"rotation_mask has {len(self.rotation_mask)} flags for {self.layers or 8} layers; one a layer"
                )
        return self

    def recipe(self) -> Preset:
        """Every choice of the recipe, those left out filled in."""
        from_scratch = self.model is None
        chosen = PRESETS[self.preset](from_scratch)
        given: dict[str, Any] = {
            name: value for name in Preset._fields if (value := getattr(self, name, None)) is not None
        }
        return chosen._replace(**given)


class ExitFigures(Result):
    """Held-out quality after so many layers."""

    exit_layer: int = Field(description="Layers run; E. The last one is the whole model.")
    loss: float | None = Field(description="Cross-entropy in nats per token.")
    perplexity: float | None = Field(description="exp(loss); null where it overflows.")
    agreement: float | None = Field(description="Share of positions where its likeliest token is the last layer's.")
    overlap: float | None = Field(description="Mean Σ min(p, q) with the last layer's distribution at temperature 1.")


class TrainResult(Result):
    """The trained model's exits on held-out text."""

    parameters: int = Field(description="Weights.")
    layers: int = Field(description="L.")
    steps: int = Field(description="Optimizer steps done.")
    tokens: int = Field(description="Tokens seen.")
    skipped_steps: int = Field(description="Steps on which no enabled exit had weight: nothing was learnt.")
    loss_first: float = Field(description="Weighted loss J of the first step.")
    loss_last: float = Field(description="Of the last step.")
    exits: list[ExitFigures] = Field(description="One per layer.")
    eval_tokens: int = Field(description="Held-out tokens scored.")
    mean_dropout: float = Field(description="p of the last step, mean over layers.")
    warnings: list[str] = Field(description="What a reader should know.")


class EvalExitsParams(Params):
    """Quality after every layer, on held-out text."""

    model: ModelRef = Field(description="A Llama folder, packed as .tar where it is a file or artifact.")
    eval_data: TextRef = Field(description="Text, or JSONL {prompt, response}; builtin:stdlib-valid.")
    baseline: ModelRef | None = Field(
        None, description="The same model trained without the recipe, scored on the same windows beside it."
    )
    loss_on: Literal["response", "all"] = Field("response", description="Of JSONL: responses only, or the stream.")
    windows: int = Field(64, ge=1, le=1_000_000, description="Most windows or examples, evenly spread.")
    block_size: int = Field(256, ge=2, le=131_072, description="Tokens per window.")
    batch_size: int = Field(8, ge=1, le=1024, description="Windows per pass.")
    task: Literal["none", "generate"] = Field(
        "none", description="generate: answer JSONL prompts greedily at every exit and score ROUGE, BLEU, exact match."
    )
    task_samples: int = Field(8, ge=1, le=10_000, description="Prompts answered at each exit.")
    max_new_tokens: int = Field(64, ge=1, le=100_000, description="Of an answer.")
    stop_token_ids: list[int] = Field([], max_length=64, description="End an answer, beside the model's own.")
    dtype: Dtype = Field("auto", description="auto: float32 on the CPU, bfloat16 on CUDA.")
    seed: Seed = 42


class TaskFigures(Result):
    """Answers at one exit against references."""

    exit_layer: int = Field(description="E.")
    samples: int = Field(description="Prompts answered.")
    rouge1: float = Field(description="ROUGE-1 F1, lower case, white-space words.")
    rouge2: float = Field(description="ROUGE-2.")
    rouge3: float = Field(description="ROUGE-3.")
    rougeL: float = Field(description="ROUGE-L.")
    bleu4: float = Field(description="Corpus BLEU-4, no smoothing.")
    exact_match: float = Field(description="Share of answers equal to the reference.")
    json_match: float = Field(description="Share equal as JSON; unreadable counts 0.")
    edit_distance: float = Field(description="Mean character edit distance; 0 is perfect.")


class EvalExitsResult(Result):
    """Every exit."""

    layers: int = Field(description="L.")
    tokens: int = Field(description="Tokens scored.")
    exits: list[ExitFigures] = Field(description="One per layer.")
    baseline: list[ExitFigures] = Field(description="Of the baseline; empty without one.")
    tasks: list[TaskFigures] = Field(description="Answers at every exit; empty for task none.")
    warnings: list[str] = Field(description="What a reader should know.")
