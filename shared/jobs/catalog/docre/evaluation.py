"""Params and results of `docre.evaluate`."""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from shared.jobs.references import Ref, Schemes
from shared.jobs.spec import Params, Result, Seed, Text

DataRef = Annotated[Ref, Schemes("file", "job")]
Name = Annotated[Text, Field(min_length=1, max_length=100)]


class Entry(BaseModel):
    """One cell of the cross-lingual table: what was predicted, for which gold."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    predictions: DataRef = Field(description="[{title, h_idx, t_idx, r, evidence}], or documents with labels.")
    gold: DataRef = Field(description="Documents with labels.")
    trained_on: Name = Field("train", description="The row: what the model was trained on.")
    tested_on: Name = Field("test", description="The column: what it was tested on.")
    train: DataRef | None = Field(None, description="Its training documents, in the language of gold; for Ign F1.")


class EvaluateParams(Params):
    """Measure predictions against gold; several entries make a table and a transfer-gap report."""

    entries: list[Entry] = Field(min_length=1, max_length=100, description="What to measure.")
    relations: Annotated[Ref, Schemes("file", "job")] | None = Field(
        None, description="Names: {P17: 'country', …} or {names: {…}}; others are refused."
    )
    compat: Literal["none", "docred", "redocred"] = Field("none", description="Follow an official script's slips.")
    only_shared_relations: bool = Field(False, description="Score the 33 relations that DocRED and JacRED share.")
    gap: tuple[Name, Name] | None = Field(
        None, description="[native, transferred]: two trained_on names tested on the same set; writes the gap report."
    )
    seed: Seed = 66

    @model_validator(mode="after")
    def _cells_are_one(self) -> Self:
        cells = [(entry.trained_on, entry.tested_on) for entry in self.entries]
        twice = sorted({cell for cell in cells if cells.count(cell) > 1})
        if twice:
            raise ValueError(f"the cell {' → '.join(twice[0])} is given twice; name trained_on or tested_on otherwise")
        rows = {entry.trained_on for entry in self.entries}
        for name in self.gap or ():
            if name not in rows:
                raise ValueError(f"gap names {name!r}, which is no trained_on; known: {', '.join(sorted(rows))}")
        return self


class Prf(Result):
    """Precision, recall, F1."""

    p: float = Field(description="Precision.")
    r: float = Field(description="Recall.")
    f1: float = Field(description="F1.")


class Cell(Result):
    """One entry, measured."""

    trained_on: str = Field(description="Row.")
    tested_on: str = Field(description="Column.")
    predicted: int = Field(description="Merged predictions.")
    gold: int = Field(description="Merged gold labels.")
    relation: Prf = Field(description="Over all labels.")
    ign: Prf | None = Field(description="Without facts of the training set; null without train.")
    evidence: Prf = Field(description="Evidence sentences.")
    parts: dict[str, Prf] = Field(description="intra, inter, long, frequent, long_tail, seen, unseen.")
    recall_by_evidence: dict[str, float] = Field(description="Recall by the number of evidence sentences.")
    mean_steps: float = Field(description="Edit steps per document from these predictions to gold.")


class FalseNegatives(Result):
    """A relation that is missed more after transfer."""

    relation: str = Field(description="Its id.")
    name: str | None = Field(description="Its name.")
    gold: int = Field(description="Labels.")
    missed_native: int = Field(description="Missed by the model trained on native documents.")
    missed_transferred: int = Field(description="Missed by the model trained on transferred ones.")


class Gap(Result):
    """Native against transferred training, on one test set."""

    tested_on: str = Field(description="The test set.")
    recall_difference: float = Field(description="recall(native) − recall(transferred).")
    precision_difference: float = Field(description="The same of precision.")
    f1_difference: float = Field(description="The same of F1.")
    label_divergence: float | None = Field(
        description="Jensen–Shannon divergence of the training sets' relations, in bits; null without train."
    )
    vocabulary_overlap: float | None = Field(description="Share of test word forms that transferred training has.")
    native_vocabulary_overlap: float | None = Field(description="Share that native training has.")
    false_negatives: list[FalseNegatives] = Field(description="Top 20 by what transfer misses more.")
    says: str = Field(description="How to read it.")


class EvaluateResult(Result):
    """Every entry, and the gap."""

    cells: list[Cell] = Field(description="In the order of entries.")
    gap: list[Gap] = Field(description="One per test set that both models were tested on.")
