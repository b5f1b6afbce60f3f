"""Params and results of `docre.train` and `docre.recommend`."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from shared.jobs.references import Ref, Schemes
from shared.jobs.spec import Params, Result, Seed

DataRef = Annotated[Ref, Schemes("file", "job", "builtin")]
ModelKind = Literal["linear", "atlop", "dreeam"]
ModelRef = Annotated[Ref, Schemes("job", "file")]
EncoderRef = Annotated[Ref, Schemes("builtin", "file", "hub", "job")]


class TrainParams(Params):
    """Learn relations from documents: a linear baseline, ATLOP, or ATLOP with DREEAM's evidence."""

    train: DataRef = Field(description="DocRED JSON array or JSONL with labels; e.g. job:<transfer>/transferred.json.")
    dev: DataRef | None = Field(None, description="For the best epoch, margin and calibration; left out: held out.")
    dev_share: float = Field(0.1, gt=0, lt=1, description="Share of train held out where dev is left out.")
    relations: Annotated[Ref, Schemes("file", "job")] | None = Field(
        None, description="The inventory: {rel2id: {Na: 0, P17: 1, …}} or {P17: 'country', …}; left out: train's own."
    )
    model: ModelKind | None = Field(
        None, description="Left out: linear, or dreeam where the worker has a GPU. linear needs no encoder."
    )
    encoder: EncoderRef = Field(Ref("builtin:minilm"), description="atlop, dreeam: a BERT or RoBERTa folder.")
    start: ModelRef | None = Field(
        None, description="model.tar to go on from: DREEAM's fine-tuning after self-training, with its low rates."
    )
    teacher: ModelRef | None = Field(
        None, description="model.tar of dreeam whose attention stands for evidence: self-training on distant data."
    )
    types: Literal["own", "jacred"] = Field(
        "own",
        description="jacred: DocRED's TIME, NUM, MISC are read as DAT, %, ART; recommend does the same.",
    )
    epochs: int | None = Field(
        None, ge=1, le=1000, description="Left out: linear 12, else 30; teacher 2 (large encoder 5); start 10."
    )
    learning_rate: float | None = Field(
        None,
        gt=0,
        le=1,
        description="Of new layers; left out: linear 0.05, else 1e-4; teacher, large 5e-5; start 3e-6.",
    )
    encoder_learning_rate: float | None = Field(
        None, gt=0, le=1, description="Left out: 5e-5, large encoders 3e-5; teacher 3e-5, large 1e-5; start 1e-6."
    )
    batch: int | None = Field(None, ge=1, le=512, description="Documents per step; left out: linear 8, else 4.")
    accumulation: int | None = Field(
        None, ge=1, le=1024, description="Batches whose gradients are summed before a step; left out: 1, teacher 2."
    )
    max_len: int = Field(1024, ge=64, le=1024, description="Word pieces of a document; longer ones are cut.")
    num_labels: int = Field(4, ge=1, le=100, description="Most relations of one pair.")
    warmup: float = Field(0.06, ge=0, le=1, description="Share of steps with rising rate.")
    adam_epsilon: float = Field(1e-6, gt=0, le=1, description="ε of AdamW.")
    clip: float | None = Field(
        None, gt=0, description="Largest norm of the gradient; left out: 1.0, teacher 5.0, start 2.0."
    )
    emb_size: int = Field(768, ge=16, le=4096, description="Width of z_h and z_t; d.")
    block_size: int = Field(64, ge=1, le=1024, description="Group of the bilinear layer; k divides d.")
    evi_lambda: float = Field(0.1, ge=0, description="λ of the evidence loss; dreeam.")
    evi_thresh: float = Field(0.2, ge=0, le=1, description="A sentence with s_i above it is evidence.")
    attn_lambda: float = Field(1.0, ge=0, description="λ of the loss against the teacher's attention.")
    max_sent: int = Field(25, ge=1, le=1000, description="Sentences of a document that can be evidence; dreeam.")
    fusion: bool = Field(
        False, description="Also score every pair on its evidence alone (inference-stage fusion); dreeam."
    )
    compat_dreeam: bool = Field(
        False, description="Count pairs without any evidence in the loss, as the official code."
    )
    seed: Seed = 66

    @model_validator(mode="after")
    def _groups_fit(self) -> Self:
        if self.emb_size % self.block_size:
            raise ValueError(f"block_size {self.block_size} does not divide emb_size {self.emb_size}")
        return self

    @model_validator(mode="after")
    def _one_stage(self) -> Self:
        if self.teacher is not None and self.start is not None:
            raise ValueError("teacher is for self-training, start for the fine-tuning after it: a job each")
        for field, is_given in (("teacher", self.teacher is not None), ("fusion", self.fusion)):
            if is_given and self.model != "dreeam":
                raise ValueError(f"{field} needs model dreeam")
        if self.start is not None and self.model in (None, "linear"):
            raise ValueError("start needs model atlop or dreeam, as the one it goes on from")
        return self


class Figures(Result):
    """Relations on the dev set."""

    p: float = Field(description="Precision.")
    r: float = Field(description="Recall.")
    f1: float = Field(description="F1.")


class DevFigures(Result):
    """The dev set at one margin over TH."""

    margin: float = Field(description="A relation counts above TH + margin; of fused: above this fused score.")
    relation: Figures = Field(description="Over all labels.")
    ign_p: float = Field(description="Precision without facts of the training set.")
    ign_f1: float = Field(description="F1 of ign_p and recall.")
    evi_f1: float = Field(description="Evidence F1.")


class Baseline(Result):
    """The most frequent relation of each type pair, from the training labels."""

    all_pairs: Figures = Field(description="Predicted for every pair.")
    same_sentence: Figures = Field(description="Predicted for pairs that share a sentence, measured on those.")
    model_same_sentence: Figures = Field(description="The model at the best margin, on pairs that share a sentence.")


class TrainResult(Result):
    """What was learned."""

    model: ModelKind = Field(description="The model.")
    documents: int = Field(description="Trained on.")
    dev_documents: int = Field(description="Measured on.")
    relations: int = Field(description="Relations of the inventory, TH aside.")
    pairs: int = Field(description="Training pairs.")
    loss: float = Field(description="Mean loss of the last epoch.")
    best_epoch: int = Field(description="From 1; its model is kept.")
    at_th: DevFigures = Field(description="At the learned threshold.")
    at_best: DevFigures = Field(description="At the margin of the best dev F1.")
    fused: DevFigures | None = Field(description="With inference-stage fusion at its best threshold; null without.")
    baseline: Baseline = Field(description="What a table of types gets.")
    calibration: str = Field(description="What probabilities were calibrated on.")
    truncated: int = Field(description="Documents cut at max_len; linear: 0.")


class RecommendParams(Params):
    """Propose relations on native documents, those that save an annotator work."""

    model: ModelRef = Field(description="model.tar of docre.train.")
    documents: DataRef = Field(description="Documents with entities; labels, where given, are the simulated annotator.")
    calibration: DataRef | None = Field(None, description="Native documents with labels; used if 20 or more.")
    knowledge: DataRef | None = Field(
        None, description="Documents with labels whose facts, copied by name, are the recommender to compare with."
    )
    fusion: bool = Field(False, description="predictions.json by inference-stage fusion; of a model trained with it.")
    method: Literal["isotonic", "platt"] = Field("isotonic", description="From l_r − l_TH to a probability.")
    c_add: float = Field(1, gt=0, le=1000, description="Cost of adding a relation; 4 for working time.")
    c_del: float = Field(1, gt=0, le=1000, description="Cost of deleting a recommended one.")
    max_recommendations: int = Field(64, ge=1, le=10_000, description="Most per document.")
    batch: int = Field(8, ge=1, le=512, description="Documents per forward pass.")
    seed: Seed = 66


class Effort(Result):
    """Edit steps to the gold labels, mean per document; the gold labels are the annotator."""

    documents: int = Field(description="Documents with labels.")
    scratch: float = Field(description="|G|: from nothing.")
    deletes: float = Field(description="|R \\ G|.")
    adds: float = Field(description="|G \\ R|.")
    steps: float = Field(description="deletes + adds.")
    reduction: float | None = Field(description="1 − steps / scratch.")
    weighted: float = Field(description="c_add · adds + c_del · deletes.")
    weighted_scratch: float = Field(description="c_add · |G|.")
    weighted_reduction: float | None = Field(description="1 − weighted / weighted scratch.")
    knowledge_steps: float | None = Field(description="Steps from the list that knowledge gives.")
    knowledge_reduction: float | None = Field(description="1 − steps / knowledge_steps: against that recommender.")
    at_th_steps: float = Field(description="Steps if everything above TH were shown.")
    best_f1_steps: float | None = Field(
        description="Steps if the F1-optimal margin of dev decided; often above scratch."
    )


class RecommendResult(Result):
    """What is recommended and what that saves."""

    documents: int = Field(description="Documents.")
    recommended: int = Field(description="Relations shown.")
    threshold: float = Field(description="Shown iff p > c_del / (c_add + c_del).")
    calibrated_on: Literal["native", "dev"] = Field(description="What the probabilities were calibrated on.")
    calibration_documents: int = Field(description="How many documents that were.")
    expected_adds: float = Field(description="Mean per document, by p.")
    expected_deletes: float = Field(description="Mean per document, by p.")
    expected_steps: float = Field(description="Mean per document, by p.")
    effort: Effort | None = Field(description="Where the documents carry labels.")
