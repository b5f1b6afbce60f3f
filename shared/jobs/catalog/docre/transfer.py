"""Params and results of `docre.transfer` and `docre.merge`: a dataset in another language, annotations included."""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from shared.jobs.references import Ref, Schemes
from shared.jobs.spec import Params, Result, Seed, Text

Backend = Literal["apertium", "transformers", "ctranslate2", "http", "identity"]
Strategy = Literal["auto", "provenance", "tags", "brackets", "placeholder", "locate", "align", "locate+align"]
Language = Annotated[Text, Field(pattern=r"^[A-Za-z]{2,3}([_-][A-Za-z0-9]{2,8})*$")]
DocumentsRef = Annotated[Ref, Schemes("file", "job", "builtin")]
PROVENANCE_BACKENDS = ("apertium", "identity")
JAPANESE = frozenset({"jpn", "ja", "jpn_Jpan"})
MAX_LISTED = 200  # of titles or relations in a result; artifacts hold all


class Part(BaseModel):
    """Which share of the shards this job does."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    index: int = Field(ge=0, description="From 0.")
    count: int = Field(ge=1, le=10_000, description="Parts in all.")

    @model_validator(mode="after")
    def _within(self) -> Self:
        if self.index >= self.count:
            raise ValueError(f"part index {self.index} is outside 0..{self.count - 1}")
        return self


class TransferParams(Params):
    """Translate documents with their mentions, relations and evidence."""

    documents: DocumentsRef = Field(description="DocRED JSON array or JSONL, UTF-8; or doccano JSONL.")
    format: Literal["docred", "doccano", "failures"] = Field(
        "docred", description="The form of documents; failures: failures.jsonl of an earlier transfer, fed in again."
    )
    backend: Backend = Field("apertium", description="The translation engine; identity copies the text.")
    translator: Annotated[Ref, Schemes("endpoint", "hub", "file", "job")] | None = Field(
        None,
        description="transformers: a checkpoint; ctranslate2: a converted one (.tar); http: endpoint:<name>/<any>.",
    )
    source_lang: Language = Field("eng", description="As the engine writes it: eng (Apertium), eng_Latn (NLLB), en.")
    target_lang: Language = Field("spa", description="As the engine writes it.")
    strategy: Strategy = Field("auto", description="How mentions are found again; auto: by what the engine can do.")
    shard_size: int = Field(50, ge=1, le=10_000, description="Documents per shard; part of what decides the bytes.")
    max_gap_words: int = Field(3, ge=0, le=50, description="Foreign words that may stand inside a mention.")
    fuzzy_min_ratio: float = Field(0.7, ge=0, le=1, description="Strategy locate: likeness that counts as found.")
    max_lost_mentions: float = Field(0.2, ge=0, le=1, description="A document that loses a larger share is rejected.")
    max_failed_sentences: int = Field(0, ge=0, description="A document with more failed sentences is rejected.")
    particle_trim: Literal["auto", "on", "off"] = Field("auto", description="auto: for Japanese.")
    analyser: Literal["unidic-lite", "ipadic", "sudachi"] = Field("unidic-lite", description="For Japanese.")
    markup_damage: bool = Field(
        False, description="Translate without marks too, and report what marking changed; costs a second translation."
    )
    retries: int = Field(3, ge=0, le=20, description="Further requests after a failed one; http.")
    timeout_s: float = Field(60, gt=0, le=3600, description="Seconds an engine may take for one shard.")
    parallel: int | None = Field(None, ge=1, le=256, description="Shards at once; left out: cores/2, at least 1.")
    part: Part | None = Field(None, description="This job's share of the shards; docre.merge joins the parts.")
    seed: Seed = 66

    @property
    def trims_particles(self) -> bool:
        return self.particle_trim == "on" or (self.particle_trim == "auto" and self.target_lang in JAPANESE)

    @model_validator(mode="after")
    def _name_the_engine(self) -> Self:
        needs = {"transformers": ("hub", "file", "job"), "ctranslate2": ("hub", "file", "job"), "http": ("endpoint",)}
        accepted = needs.get(self.backend, ())
        if not accepted and self.translator is not None:
            raise ValueError(f"translator has no meaning for backend {self.backend}; leave it out")
        if accepted and (self.translator is None or self.translator.scheme not in accepted):
            raise ValueError(
                f"backend {self.backend} needs a translator: {', '.join(f'{each}:…' for each in accepted)}"
            )
        if self.strategy == "provenance" and self.backend not in PROVENANCE_BACKENDS:
            raise ValueError(
                f"strategy provenance needs an engine that says where words went ({', '.join(PROVENANCE_BACKENDS)}); "
                "choose auto"
            )
        if self.particle_trim == "on" and self.target_lang not in JAPANESE:
            raise ValueError(f"particle_trim on needs an analyser, which {self.target_lang} has none of; choose auto")
        return self


class Engine(Result):
    """What translated."""

    name: str = Field(description="The engine.")
    versions: dict[str, str] = Field(description="Versions and data digests: equal ones translate equally.")


class MentionStatus(Result):
    """How mentions were found again."""

    contiguous: int = Field(description="As one stretch.")
    gap: int = Field(description="With other words inside, which join the mention.")
    split: int = Field(description="In several places; the largest stands.")
    recovered_by_align: int = Field(description="A mark was lost; location or alignment found it.")
    lost: int = Field(description="Not found: dropped, with its reason in provenance.jsonl.")


class TransferResult(Result):
    """What came over."""

    documents_in: int = Field(description="Documents read (of this part).")
    documents_out: int = Field(description="Documents accepted.")
    documents_rejected: int = Field(description="Documents in failures.jsonl, with source and reason.")
    rejected: list[str] = Field(description="Titles of rejected documents, at most 200.")
    sentences: int = Field(description="Source sentences.")
    mentions: int = Field(description="Source mentions.")
    status: MentionStatus = Field(description="Mentions by how they were found.")
    mention_recovery: float | None = Field(description="Recovered / source mentions.")
    entity_retention: float | None = Field(description="Entities with a mention left / source entities.")
    relation_retention: float | None = Field(description="Labels with both entities / source labels.")
    documents_complete: float | None = Field(description="Share of documents with all entities.")
    sentence_flags: dict[str, int] = Field(description="engine_error, empty, identical, length_ratio.")
    mention_flags: dict[str, int] = Field(description="name_unchanged, long_span, only_function_words, new_overlap.")
    unknown_word_share: float | None = Field(description="Source words the engine does not know; null: it can't tell.")
    markup_chrf: float | None = Field(description="Mean chrF of marked against unmarked translation; markup_damage.")
    sentences_unchanged: float | None = Field(description="Share of sentences that marking left alone; markup_damage.")
    characters: int = Field(description="Source characters.")
    strategy: str = Field(description="The strategy that was used.")
    shards_done: int = Field(description="Shards in this result.")
    shards_total: int = Field(description="Shards of the whole dataset.")
    engine: Engine = Field(description="What translated.")


class MergeParams(Params):
    """Join the parts of one dataset; waits, `blocked`, until they are committed."""

    parts: list[Annotated[Ref, Schemes("job")]] = Field(
        min_length=1, max_length=10_000, description="docre.transfer jobs, job:<id>, every part once, in any order."
    )

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        twice = sorted({part for part in self.parts if self.parts.count(part) > 1})
        if twice:
            raise ValueError(f"{twice[0]} is given twice")
        return self
