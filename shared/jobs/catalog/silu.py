"""The kinds of SiLU, x·σ(x): its properties verified, compared with other activations, and as the core of SwiGLU.

`silu.properties` finds every known fact numerically and refutes the popular wrong ones; `silu.compare` trains paired
networks and says what the numbers say; `silu.swiglu` times f(g)·u, eager, compiled and fused.
"""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from shared.jobs.references import Ref, Schemes
from shared.jobs.spec import JobSpec, Params, Result, Seed, Text

SEEDS_FOR_SIGNIFICANCE = 10
Activation = Literal["relu", "gelu", "silu", "mish"]
Dataset = Annotated[Ref, Schemes("builtin", "file")]


class PropertiesParams(Params):
    """Which facts hold of x·σ(βx)."""

    beta: float = Field(1.0, gt=0, le=1e3, description="β; the facts' closed forms are scaled with it.")
    tolerance: float = Field(1e-9, gt=0, le=1e-2, description="Most error against the closed form, absolute.")
    points: int = Field(401, ge=11, le=10_001, description="Points of the figure.")
    seed: Seed = 42


class Fact(Result):
    """One fact, found numerically."""

    name: str = Field(description="What is stated.")
    expected: float = Field(description="By its closed form.")
    found: float = Field(description="By search, quadrature or differentiation.")
    error: float = Field(description="Absolute difference.")
    passed: bool = Field(description="Whether it is within the tolerance.")


class Claim(Result):
    """A popular claim beside the numbers."""

    claim: str = Field(description="As it is told.")
    verdict: Literal["true", "false"] = Field(description="What the numbers say.")
    evidence: str = Field(description="The numbers.")


class PropertiesResult(Result):
    """Every fact and claim."""

    properties: list[Fact] = Field(description="Facts.")
    passed: int = Field(description="How many hold.")
    failed: int = Field(description="How many don't.")
    claims: list[Claim] = Field(description="Popular claims.")


class CompareParams(Params):
    """Activations on the same data, splits, batches and weights."""

    activations: list[Activation] = Field(
        ["relu", "gelu", "silu", "mish"], min_length=2, max_length=4, description="relu is the baseline if it is in."
    )
    beta: Annotated[float, Field(gt=0, le=1e3)] | Literal["learn"] = Field(
        1.0, description="β of silu; learn: one per layer and network."
    )
    datasets: list[Dataset] = Field(
        [Ref("builtin:digits"), Ref("builtin:breast_cancer")],
        min_length=1,
        max_length=3,
        description="builtin:digits, builtin:breast_cancer, or CSV / NPZ: features first, integer label last.",
    )
    label: Annotated[Text, Field(min_length=1, max_length=200)] | None = Field(
        None, description="The label's column in a CSV with header; left out: the last."
    )
    scaling: Literal["auto", "global", "standard", "none"] = Field(
        "auto", description="Of inputs, by the training split. auto: digits one global scale, others standardised."
    )
    hidden: int = Field(128, ge=1, le=4096, description="Width of hidden layers.")
    depth: int = Field(3, ge=1, le=16, description="Hidden layers.")
    epochs: int = Field(40, ge=1, le=10_000, description="Passes over the training split.")
    batch_size: int = Field(64, ge=1, le=65_536, description="Examples per step.")
    lr_grid: list[Annotated[float, Field(gt=0, le=1)]] = Field(
        [3e-4, 1e-3, 3e-3], min_length=1, max_length=16, description="Of Adam; the best on validation is each one's."
    )
    seeds: int = Field(30, ge=2, le=1_000, description="Paired networks; below 10 nothing is called significant.")
    noise_sigmas: list[Annotated[float, Field(gt=0, le=1e3)]] = Field(
        [0.25, 0.5, 1.0, 2.0], min_length=1, max_length=6, description="Noise on test inputs, in their own sd."
    )
    gain: Literal["he", "own"] = Field(
        "he", description="Initial weights: He's for all, or each activation's own gain."
    )
    threshold: float | None = Field(
        None, gt=0, le=1, description="Accuracy that counts as converged; left out: 0.95 of the best mean."
    )
    alpha: float = Field(0.05, gt=0, lt=1, description="Level of tests.")
    correction: Literal["holm"] = Field("holm", description="Over all comparisons of one table.")
    cost_elements: int = Field(2**20, ge=0, le=2**26, description="Elements of the cost measurement; 0: none.")
    seed: Seed = 42

    @field_validator("activations", "lr_grid", "noise_sigmas", "datasets")
    @classmethod
    def _name_each_once(cls, given: list[Any], info: ValidationInfo) -> list[Any]:
        if len(set(given)) < len(given):
            raise ValueError(f"{info.field_name} names one twice; name each once")
        return given

    @field_validator("datasets")
    @classmethod
    def _know_the_builtins(cls, given: list[Ref]) -> list[Ref]:
        for ref in given:
            if ref.scheme == "builtin" and ref.target not in ("digits", "breast_cancer"):
                raise ValueError(f"{ref} is no data set; known: builtin:digits, builtin:breast_cancer")
        return given


class Interval(Result):
    """A mean over seeds."""

    mean: float = Field(description="Mean.")
    sd: float | None = Field(description="Standard deviation; null for one seed.")
    low: float | None = Field(description="Lower end of the 95 % t-interval.")
    high: float | None = Field(description="Upper end.")


class Paired(Result):
    """A measure against the baseline, paired by seed."""

    difference: float = Field(description="Mean of the paired differences.")
    low: float | None = Field(description="Lower end of the 95 % t-interval.")
    high: float | None = Field(description="Upper end.")
    bootstrap_low: float | None = Field(description="Of 10,000 bootstrap draws; for fewer than 10 seeds only.")
    bootstrap_high: float | None = Field(description="Upper end.")
    effect: float | None = Field(description="Mean difference / sd of differences; null where they are all equal.")
    p: float | None = Field(description="Wilcoxon signed-rank, two-sided; null for fewer than 10 seeds.")
    p_holm: float | None = Field(description="After Holm's correction over the table.")
    significant: bool | None = Field(description="p_holm < alpha; null for fewer than 10 seeds.")


class Cell(Result):
    """One activation on one data set."""

    dataset: str = Field(description="The data set.")
    activation: str = Field(description="The activation.")
    lr: float = Field(description="Chosen on validation.")
    accuracy: Interval = Field(description="Test accuracy.")
    loss: Interval = Field(description="Test cross-entropy, nats.")
    against: Paired | None = Field(description="Accuracy against the baseline; null for it.")


class Convergence(Result):
    """Epochs to the threshold."""

    dataset: str = Field(description="The data set.")
    activation: str = Field(description="The activation.")
    threshold: float = Field(description="Validation accuracy.")
    epochs: Interval = Field(description="First epoch at or above it; epochs + 1 where it was never reached.")
    not_reached: int = Field(description="Seeds that never reached it.")
    against: Paired | None = Field(description="Against the baseline.")


class Robustness(Result):
    """Test accuracy under noise."""

    dataset: str = Field(description="The data set.")
    activation: str = Field(description="The activation.")
    sigma: float = Field(description="In standard deviations of the inputs.")
    accuracy: Interval = Field(description="Same noise for every activation.")
    against: Paired | None = Field(description="Against the baseline.")


class Cost(Result):
    """Time of an activation by itself."""

    activation: str = Field(description="The activation.")
    forward_ms: float = Field(description="Median of 20, turns interleaved, CPU time.")
    forward_backward_ms: float = Field(description="With its backward.")


class Verdict(Result):
    """One claim by the numbers."""

    claim: str = Field(description="As it is told.")
    verdict: Literal["supported", "not supported", "mixed"] = Field(description="Over all data sets.")
    sentence: str = Field(description="The numbers in a sentence.")


class CompareResult(Result):
    """What the numbers say."""

    baseline: str = Field(description="What others are compared with.")
    seeds: int = Field(description="Paired networks.")
    table: list[Cell] = Field(description="Activation × data set.")
    convergence: list[Convergence] = Field(description="Epochs to the threshold.")
    robustness: list[Robustness] = Field(description="Accuracy under noise.")
    cost: list[Cost] = Field(description="Measured; empty for cost_elements 0.")
    verdict: list[Verdict] = Field(description="One per claim.")
    warnings: list[str] = Field(description="What a reader should know.")


class SwigluParams(Params):
    """The elementwise core f(g)·u, timed."""

    shapes: list[tuple[Annotated[int, Field(ge=1, le=2**24)], Annotated[int, Field(ge=1, le=2**20)]]] = Field(
        [(1, 688), (64, 688), (2048, 688), (2048, 2752), (64, 2752)],
        max_length=32,
        description="(tokens, d_ff) each.",
    )
    model: Annotated[Ref, Schemes("file", "job", "hub", "builtin")] | None = Field(
        None, description="Take d_ff from this Llama folder instead, at 1, 64 and 2,048 tokens."
    )
    impl: Literal["auto", "eager", "compile", "native", "triton"] = Field(
        "auto", description="auto: all that can run here."
    )
    dtype: Literal["fp32", "bf16", "fp16"] = Field("fp32", description="Storage type.")
    save: Literal["recompute", "keep"] = Field(
        "recompute", description="Of compile, for backward: g and u only, or what the compiler likes."
    )
    repetitions: int = Field(20, ge=20, le=10_000, description="Medians of so many, turns interleaved.")
    seed: Seed = 42

    @model_validator(mode="after")
    def _give_shapes(self) -> Self:
        if not self.shapes and self.model is None:
            raise ValueError("give shapes, or a model to take them from")
        if any(rows * width > 2**27 for rows, width in self.shapes):
            raise ValueError("a shape has more than 2^27 elements; give smaller ones")
        return self


class SwigluRow(Result):
    """One implementation on one shape."""

    tokens: int = Field(description="Rows.")
    d_ff: int = Field(description="Width.")
    impl: str = Field(description="Implementation.")
    forward_ms: float = Field(description="Median.")
    forward_backward_ms: float = Field(description="Median, backward included.")
    gb_per_s: float = Field(description="Forward: 2 reads and 1 write per element.")
    saved_bytes: int = Field(description="Tensors that wait for backward.")
    peak_bytes: int | None = Field(description="On CUDA: most memory of forward and backward; null on the CPU.")
    max_error: float = Field(description="Largest |error| against float64.")
    relative_rms_error: float = Field(description="Root mean square error / root mean square.")
    fastest: bool = Field(description="Whether it was the fastest forward and backward of this shape.")


class SwigluResult(Result):
    """Every shape and implementation."""

    rows: list[SwigluRow] = Field(description="Measured.")
    auto: dict[str, str] = Field(description="What `auto` takes for each shape, trained.")
    copy_gb_per_s: float = Field(description="This machine's copy bandwidth, read + write: the roof.")
    skipped: list[str] = Field(description="What could not run here, and why.")


KINDS = [
    JobSpec(
        "silu.properties", PropertiesParams, PropertiesResult, pool="cpu",
        summary="Verify every known fact of SiLU numerically, and refute the popular wrong ones.",
        progress_unit="facts", checkpoint_grain="none (seconds)",
    ),
    JobSpec(
        "silu.compare", CompareParams, CompareResult, pool="gpu",
        summary="Compare activations on paired networks: accuracy, convergence, robustness, with tests.",
        progress_unit="epochs", checkpoint_grain="10 epochs of the batch of seeds",
        measured=("cost", "results.json", "cost.plotly.json"),
    ),
    JobSpec(
        "silu.swiglu", SwigluParams, SwigluResult, pool="gpu",
        summary="Time the SwiGLU core, eager, compiled and fused, with its error against float64.",
        progress_unit="shapes", checkpoint_grain="none: starts again",
        measured=("rows", "auto", "copy_gb_per_s", "results.json", "time.plotly.json", "roofline.plotly.json"),
    ),
]  # fmt: skip
