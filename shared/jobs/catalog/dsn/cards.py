"""Results of `dsn.evaluate` and `dsn.transfer`: rates and digests, never a suffix's or an answer's text."""

from pydantic import Field

from shared.jobs.catalog.dsn.judging import Agreement, JudgeAbout, Rate
from shared.jobs.spec import Result

Rates = dict[str, Rate]


class Suffix(Result):
    """What may be told of a suffix."""

    arm: str = Field(description="gcg, dsn, or dsn@α.")
    run: int = Field(description="From 0; its seed is seed + run.")
    sha256: str = Field(description="First 16 digits of its text's digest.")
    tokens: int = Field(description="L.")
    characters: int = Field(description="Of its text.")
    step: int = Field(description="The step it was found at.")
    steps: int = Field(description="Steps of the search; fewer than n_steps after an early stop.")
    target_loss: float = Field(description="Mean over train prompts, nats per target token.")
    refusal_loss: float = Field(description="Mean over train prompts.")
    train_success: float | None = Field(description="On the train prompts, by the choosing judge.")
    lowest_loss_train_success: float | None = Field(description="The same of the suffix with the lowest loss.")


class Paired(Result):
    """GCG against one DSN attack on the test items of one run."""

    arm: str = Field(description="The DSN attack.")
    run: int = Field(description="The run.")
    only_gcg: int = Field(description="b: items that only GCG wins.")
    only_dsn: int = Field(description="c: items that only DSN wins.")
    mcnemar_p: float = Field(description="Exact, two-sided; of this run's items, which share one suffix.")


class SeedTest(Result):
    """The verdict over runs: the seed is the unit."""

    arm: str = Field(description="The DSN attack.")
    better: int = Field(description="Runs in which it beats GCG on the test prompts.")
    worse: int = Field(description="Runs in which GCG beats it.")
    sign_p: float = Field(description="Exact sign test, two-sided.")


class Defended(Result):
    """One defence."""

    asr: Rates = Field(description="By arm, on the test prompts of all its runs, by the choosing judge.")
    benign_refusal: Rate = Field(description="Harmless prompts refused or blocked.")
    benign_refusal_filled: Rate = Field(description="The same with a random suffix of the attack's length.")
    cost: float = Field(description="Forward passes or answers per prompt beyond the plain answer.")


class Provenance(Result):
    """What was measured with what."""

    model: str = Field(description="The entry of the list.")
    model_digest: str = Field(description="SHA-256 of the weights, as pinned.")
    tokenizer_digest: str = Field(description="SHA-256 of tokenizer.json.")
    behaviours_digest: str = Field(description="SHA-256 of the behaviours file.")
    seed: int = Field(description="The seed.")
    dtype: str = Field(description="Of the computation.")
    device: str = Field(description="cpu or cuda.")
    versions: dict[str, str] = Field(description="Of torch and transformers.")


class Counts(Result):
    """How much was done; goes into the audit trail."""

    train: int = Field(description="Train prompts.")
    test: int = Field(description="Test prompts.")
    benign: int = Field(description="Harmless prompts.")
    skipped: int = Field(description="Behaviours left out (copyright).")
    suffixes: int = Field(description="Suffixes made or tried.")
    answers: int = Field(description="Different answers decoded.")


class CardResult(Result):
    """What both kinds tell."""

    asr: dict[str, dict[str, Rates]] = Field(description="By arm, split, and judge or vote.")
    asr_at_n: dict[str, Rates] = Field(description="Test items won by any of an arm's runs; by arm and judge.")
    benign_refusal: Rates = Field(description="Harmless prompts refused (29 phrases): by arm.")
    judges: list[JudgeAbout] = Field(description="The judges.")
    choosing_judge: str = Field(description="Whose verdict chose suffixes and is used for defences.")
    judge_agreement: dict[str, float | None] = Field(description="Cohen's κ between judges on all answers, `a|b`.")
    judge_against_exact: dict[str, Agreement] = Field(description="Against the colour world's truth; else empty.")
    counts: Counts = Field(description="How much was done.")
    provenance: Provenance = Field(description="Model, data, versions.")
    sealed: bool = Field(description="Whether suffixes were kept, encrypted; without a key they never are.")
    warnings: list[str] = Field(description="What a reader should know before trusting the card.")


class EvaluateResult(CardResult):
    """The robustness card."""

    suffixes: list[Suffix] = Field(description="Each attack's runs.")
    paired: list[Paired] = Field(description="Per run; empty unless both attacks ran.")
    seed_test: list[SeedTest] = Field(description="Over runs; says nothing for one.")
    defences: dict[str, Defended] = Field(description="By defence; `none` is the plain model.")
    phrases_said: float | None = Field(description="Refusal loss × pairs / keywords without an attack; trap below .05.")


class TransferResult(CardResult):
    """Stored suffixes on this model."""

    from_model: str = Field(description="Digest of the model that the suffixes were made on.")
    tried: list[Suffix] = Field(description="The suffixes, with their losses on the first model.")
