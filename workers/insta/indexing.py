"""Encoding a library shard by shard, and assembling the index.

What is to be encoded is a list of different texts in order of first appearance, cut into shards of 512 by position; so
a kill never changes a batch, and a resumed job leaves the same bytes. Vectors of texts that a base index knows are
copied. `Indexing` is the entry point.
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from shared.data.instruction_tasks import read_tasks
from shared.jobs.catalog.insta import IndexParams
from shared.jobs.context import JobContext
from shared.jobs.errors import InvalidInput, Permanent
from shared.models.folder import describe_folder
from shared.models.sentence_encoder import SentenceEncoder, can_run
from workers.insta import graph
from workers.insta.encoders import digest_of_folder, folder_of, open_encoder
from workers.insta.index import Index, open_index
from workers.insta.library import Dropped, Library, merge, refine_library, text_hash

SHARD = 512
ENCODED = ".encoded"  # the journal of vectors; no artifact
LINKED = ".linked"  # that of graphs


class Known(NamedTuple):
    """Vectors a base index already has, of instructions and of examples, by the hash of their text."""

    vectors: NDArray[np.float16]  # (N, d)
    samples: NDArray[np.float16]  # (T, d), or none
    row_of: dict[bytes, int]  # N + t: the example of task t

    def of(self, texts: list[str]) -> NDArray[np.float16]:
        """(texts, d) of known texts."""
        rows = np.array([self.row_of[text_hash(text)] for text in texts], np.int64)
        found = np.empty((len(rows), self.vectors.shape[1]), np.float16)
        of_sample = rows >= len(self.vectors)
        found[~of_sample] = self.vectors[rows[~of_sample]]
        found[of_sample] = self.samples[rows[of_sample] - len(self.vectors)]
        return found


@dataclass(frozen=True)
class Embedded:
    """Every text of the library with its vector, and what it took."""

    vectors: NDArray[np.float16]  # (N, d)
    samples: NDArray[np.float16] | None  # (T, d)
    encoded: int
    reused: int
    duplicates: int
    truncated: int


class Indexing:
    """One insta.index job up to its vectors."""

    def __init__(self, params: IndexParams, ctx: JobContext) -> None:
        self.params, self.ctx = params, ctx
        self.base = open_index(params.base_index, ctx) if params.base_index else None
        self.library, self.dropped = self._read()
        self._check_graph()
        self.restored = ctx.restored()
        self.state: dict[str, Any] = dict(self.restored.state) if self.restored else {"done": 0, "truncated": 0}
        self.encoder = self._open_encoder()
        self.known = self._known()

    def run(self) -> Embedded:
        """Encode what is new."""
        texts, samples = self.library.texts, self._samples()
        new = [text for text in dict.fromkeys([*texts, *samples.values()]) if text_hash(text) not in self.known.row_of]
        truncated = self._encode(new, len(texts))
        encoded = self._journalled(len(new))
        place = {text: number for number, text in enumerate(new)}
        vectors = self._assembled(texts, encoded, place)
        reused = sum(text not in place for text in texts)
        return Embedded(
            vectors, self._assembled_samples(samples, encoded, place), len(new), reused,
            len(texts) - reused - len({text for text in texts if text in place}), truncated,
        )  # fmt: skip

    def link(self, vectors: NDArray[np.float16]) -> tuple[Path, dict[str, Any]]:
        """(links of the graphs, what the manifest says of them), shard by shard."""
        journal, sizes = self.ctx.journal(LINKED), list(self.state.get("linked", []))
        for start, end in graph.shards(len(vectors))[len(sizes) :]:
            packed = graph.built(vectors[start:end], partial(self._linked, start, len(vectors)))
            journal.append(packed)
            sizes.append(len(packed))
            self.state = {**self.state, "backend": self.encoder.backend, "linked": sizes}
            self.ctx.checkpoint(self.state)
        journal.handle.flush()
        return journal.path, {"links": graph.LINKS, "construction": graph.CONSTRUCTION, "bytes": sizes}

    def _linked(self, before: int, rows: int, done: int) -> None:
        encoded = int(self.state["done"])
        self.ctx.progress(encoded + before + done, encoded + rows, "instructions", "linking graphs")

    # Reading --------------------------------------------------------------------------------------------------------

    def _read(self) -> tuple[Library, Dropped]:
        params, changed, dropped = self.params, Library([]), Dropped(0, [])
        if params.library:
            tasks = read_tasks(self.ctx.input(params.library), str(params.library))
            changed, dropped = refine_library(tasks, params.refine, params.original_task_only)
            for task_id in dropped.tasks[:20]:
                self.ctx.log(f"left out: {task_id} has no instruction after refinement")
        library = merge(self._base_tasks(), changed, params.remove) if params.update == "merge" else changed
        if not library.tasks:
            raise InvalidInput(f"{params.library or params.base_index}: no task is left to index")
        return library, dropped

    def _base_tasks(self) -> list[Any]:
        assert self.base is not None
        for field in ("refine", "original_task_only"):
            theirs, ours = self.base.manifest[field], getattr(self.params, field)
            if theirs != ours:
                raise InvalidInput(
                    f"base_index was made with {field} {theirs}, this job asks for {ours}; merge needs the same: set "
                    f"{field} to {theirs}"
                )
        return list(self.base.tasks())

    def _samples(self) -> dict[int, str]:
        """Example text by task number."""
        if not self.with_samples:
            return {}
        return {number: task.example.text for number, task in enumerate(self.library.tasks) if task.example}

    @property
    def with_samples(self) -> bool:
        """As this job says; if it doesn't, a merge keeps what base_index has."""
        if self.params.samples is None:
            return self.params.update == "merge" and self.base is not None and self.base.samples is not None
        return self.params.samples

    @property
    def alignment(self) -> dict[str, Any]:
        """What the manifest says of a head that stays: one that base_index has, for what is merged into it."""
        keeps = self.params.update == "merge" and self.base is not None and self.base.is_aligned
        return {"alignment": self.base.manifest["alignment"]} if keeps and self.base else {}

    @property
    def head(self) -> NDArray[np.float32]:
        """(d, d) of base_index."""
        assert self.base is not None
        return self.base.head

    def _check_graph(self) -> None:
        """Raises InvalidInput where no graph can be built, or none is needed."""
        if self.params.graph:
            if self.alignment:
                raise InvalidInput("graph links vectors without a head, and base_index has one; leave graph out")
            graph.check_rows(len(self.library.texts))

    # Encoder and base -----------------------------------------------------------------------------------------------

    def _open_encoder(self) -> SentenceEncoder:
        backend = self.restored.state["backend"] if self.restored else self._backend()
        if backend != "best" and not can_run(backend) and self.restored:
            raise Permanent(f"this job began with backend {backend}, which this worker lacks; submit it again")
        if self.base is not None:
            self._check_base(self.base)
        return open_encoder(self.params.encoder, backend, self.params.max_tokens, self.ctx)

    def _backend(self) -> str:
        """What the base was made with, unless this job says otherwise."""
        said = str(self.base.manifest["encoder"]["backend"]) if self.base else "best"
        return said if self.params.backend == "best" and (said == "best" or can_run(said)) else self.params.backend

    def _check_base(self, base: Index) -> None:
        """Vectors of two encoders don't go together. Raises InvalidInput, before any weights load."""
        said, folder = base.manifest["encoder"], folder_of(self.params.encoder, self.ctx)
        digest, cut_at = digest_of_folder(folder, str(self.params.encoder)), describe_folder(folder).cut_at
        asked = said["backend"] if self.params.backend == "best" else self.params.backend
        for what, theirs, ours in (
            ("an encoder of digest", said["digest"][:12], digest[:12]),
            ("max_tokens", said["max_tokens"], cut_at(self.params.max_tokens)),
            ("backend", said["backend"], asked),
        ):
            if theirs != ours:
                raise InvalidInput(
                    f"mixed encoders: base_index was made with {what} {theirs}, this job has {ours}; use the same, or "
                    "leave base_index out"
                )

    def _known(self) -> Known:
        if self.base is None:
            nothing = np.zeros((0, self.encoder.dimensions), np.float16)
            return Known(nothing, nothing, {})
        return known_vectors(self.base, self.with_samples)

    # Encoding -------------------------------------------------------------------------------------------------------

    def _encode(self, texts: list[str], total: int) -> int:
        """Append the vectors of the texts to the journal, shard by shard; how many texts were cut."""
        truncated, journal = int(self.state["truncated"]), self.ctx.journal(ENCODED)
        all_rows = len(texts) + (total if self.params.graph else 0)
        for start in range(int(self.state["done"]), len(texts), SHARD):
            shard = self.encoder.tokenise(texts[start : start + SHARD])
            vectors, done = np.zeros((len(shard), self.encoder.dimensions), np.float16), start
            for rows, batch in self.encoder.batches(shard, self.params.batch_size):
                vectors[rows] = batch
                done += len(rows)
                self.ctx.progress(done, all_rows, "instructions")
            journal.append(vectors.tobytes())
            truncated += sum(text.truncated for text in shard)
            done = start + len(shard)
            self.state = {"done": done, "truncated": truncated, "backend": self.encoder.backend}
            self.ctx.checkpoint(self.state)
        self.ctx.progress(max(1, len(texts)), max(1, all_rows), "instructions", f"{total} instructions in all")
        return truncated

    def _journalled(self, rows: int) -> NDArray[np.float16]:
        """(rows, d) what the journal holds, mapped."""
        journal = self.ctx.journal(ENCODED)
        journal.handle.flush()
        shape = (rows, self.encoder.dimensions)
        return np.memmap(journal.path, np.float16, "r", shape=shape) if rows else np.zeros(shape, np.float16)

    def _assembled(self, texts: list[str], encoded: NDArray[np.float16], place: dict[str, int]) -> NDArray[np.float16]:
        """One row per text: new ones from the journal, others from the base."""
        vectors = np.lib.format.open_memmap(
            self.ctx.work_dir / "vectors.npy", "w+", np.float16, (len(texts), self.encoder.dimensions)
        )
        new = [row for row, text in enumerate(texts) if text in place]
        vectors[new] = encoded[[place[texts[row]] for row in new]]
        old = [row for row, text in enumerate(texts) if text not in place]
        vectors[old] = self.known.of([texts[row] for row in old])
        return vectors

    def _assembled_samples(
        self, samples: dict[int, str], encoded: NDArray[np.float16], place: dict[str, int]
    ) -> NDArray[np.float16] | None:
        if not self.with_samples:
            return None
        vectors = np.zeros((len(self.library.tasks), self.encoder.dimensions), np.float16)
        new = [number for number, text in samples.items() if text in place]
        vectors[new] = encoded[[place[samples[number]] for number in new]]
        old = [number for number, text in samples.items() if text not in place]
        vectors[old] = self.known.of([samples[number] for number in old])
        return vectors


def known_vectors(base: Index, with_samples: bool) -> Known:
    """Vectors of an index by the hash of their text; of its examples too, where they are wanted."""
    packed = np.load(base.folder / "hashes.npy", mmap_mode="r").tobytes()
    row_of = {packed[32 * row : 32 * row + 32]: row for row in range(base.rows)}
    if not with_samples or base.samples is None:
        return Known(base.vectors, base.vectors[:0], row_of)
    for number, task in enumerate(base.tasks()):
        if task.example is not None and base.samples[number].any():
            row_of.setdefault(text_hash(task.example.text), base.rows + number)
    return Known(base.vectors, base.samples, row_of)
