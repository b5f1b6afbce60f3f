"""Params and result of `docre.llm`."""

from typing import Annotated

from pydantic import Field

from shared.jobs.catalog.docre.evaluation import Prf
from shared.jobs.references import Ref, Schemes
from shared.jobs.spec import Params, Result, Seed

DataRef = Annotated[Ref, Schemes("file", "job", "builtin")]


class LlmParams(Params):
    """Relations from a chat model in context: entities are given with ids, so only relation quality is measured."""

    model: Annotated[Ref, Schemes("endpoint", "hub", "file", "job")] = Field(description="A chat model.")
    documents: DataRef = Field(
        description="Documents with entities; labels, where given, are what is measured against."
    )
    demonstrations: DataRef | None = Field(None, description="Documents with labels to show first.")
    k: int = Field(1, ge=0, le=20, description="Demonstrations per prompt, drawn by the seed.")
    relations: Annotated[Ref, Schemes("file", "job")] = Field(
        description="The inventory with names or definitions: {P17: 'country', …} or {names: {…}}."
    )
    temperature: float = Field(0, ge=0, le=2, description="0 is greedy.")
    max_tokens: int = Field(1024, ge=16, le=32_768, description="Of an answer.")
    seed: Seed = 66


class LlmResult(Result):
    """What the model found."""

    documents: int = Field(description="Documents asked about.")
    predicted: int = Field(description="Relations kept.")
    invalid_ids: int = Field(description="Answers dropped: no such entity, or head and tail the same.")
    invalid_relations: int = Field(description="Answers dropped: not in the inventory.")
    unreadable: int = Field(description="Lines that begin like JSON and are none.")
    cut_off: int = Field(description="Answers that reached max_tokens.")
    relation: Prf | None = Field(description="Where the documents carry labels.")
    tokens_in: int = Field(description="As the model counts.")
    tokens_out: int = Field(description="As the model counts.")
