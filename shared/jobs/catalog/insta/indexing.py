"""`insta.index`: a library of tasks becomes an index."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from shared.jobs.catalog.insta.fields import Backend, IndexRef, Name, RefineMode
from shared.jobs.references import Ref, Schemes
from shared.jobs.spec import Params, Result, Seed


class IndexParams(Params):
    """A library of instruction tasks, and how to embed it."""

    library: Annotated[Ref, Schemes("file", "job", "builtin")] | None = Field(
        None, description="JSONL (.gz), CSV, or promptsource / natural-instructions folders as .tar or .zip."
    )
    encoder: Annotated[Ref, Schemes("builtin", "file", "hub", "job")] = Field(
        Ref("builtin:minilm"),
        description="Any Sentence-Transformers folder; file:, job: packed as .tar.",
    )
    backend: Backend = Field("best", description="What computes the vectors; best: the fastest that reads the encoder.")
    max_tokens: int = Field(256, ge=8, le=8192, description="Longer instructions are cut; at most the model's own.")
    batch_size: int = Field(16, ge=1, le=512, description="Instructions per forward pass.")
    refine: RefineMode = Field("names", description="Placeholders of templates: their names, nothing, or as they are.")
    original_task_only: bool = Field(
        True, description="Keep templates flagged original_task (P3); all of a task's where none is flagged."
    )
    samples: bool | None = Field(
        None,
        description="Embed each task's example too, for the method data_sample. Left out: a merge keeps those of "
        "base_index, else false.",
    )
    graph: bool = Field(
        False,
        description="Build HNSW graphs too, for queries with search graph; from a million instructions on, without a "
        "head.",
    )
    base_index: IndexRef | None = Field(None, description="An index whose vectors are reused where nothing changed.")
    update: Literal["replace", "merge"] = Field(
        "replace",
        description="replace: the library is the whole; merge: it adds to base_index or replaces; a head stays",
    )
    remove: list[Name] = Field([], max_length=100_000, description="Task ids that leave base_index; merge only.")
    seed: Seed = 42

    @model_validator(mode="after")
    def _say_what_to_index(self) -> Self:
        if self.update == "merge" and self.base_index is None:
            raise ValueError("update merge needs a base_index to merge into; give one or leave update out")
        if self.remove and self.update != "merge":
            raise ValueError("remove needs update merge and a base_index; without them leave the tasks out of library")
        if self.library is None and not self.remove:
            raise ValueError("library is missing; give one, or update merge with ids to remove")
        return self


class IndexResult(Result):
    """What the index holds and what it took."""

    tasks: int = Field(description="Tasks; T.")
    instructions: int = Field(description="Instructions, one vector each; N.")
    encoded: int = Field(description="Different texts that were encoded.")
    reused: int = Field(description="Instructions whose vector was copied from base_index.")
    duplicates: int = Field(description="Instructions that share their text with another one: encoded once.")
    truncated: int = Field(description="Encoded texts longer than max_tokens; their ends were cut.")
    empty_instructions: int = Field(description="Templates of which refinement left nothing; dropped.")
    tasks_left_out: int = Field(description="Tasks left with no instruction; the log names them.")
    categories: int = Field(description="Different categories.")
    dimensions: int = Field(description="Length of a vector; d.")
    encoder: str = Field(description="SHA-256 of the encoder.")
    backend: str = Field(description="What computed the vectors.")
    version: str = Field(description="Names this index by its content.")
