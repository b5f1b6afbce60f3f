"""What several kinds of INSTA count in: bounds, methods, references."""

from typing import Annotated, Literal

from pydantic import Field

from shared.jobs.references import Ref, Schemes
from shared.jobs.spec import Text

MAX_RESULTS = 100  # in a result; artifacts hold all
MAX_INSTRUCTIONS = 50  # of one target
MAX_K = 100_000

Aggregate = Literal["max", "mean_of_max", "mean", "vote"]
Method = Literal["insta", "bm25", "random", "all", "data_sample", "rrf"]
Ranker = Literal["insta", "insta_unaligned", "bm25", "random", "data_sample", "rrf"]
Backend = Literal["best", "openvino-bf16", "openvino-f32", "onnx", "torch", "sentence-transformers"]
RefineMode = Literal["names", "strip", "raw"]
IndexRef = Annotated[Ref, Schemes("job", "file")]
Instruction = Annotated[Text, Field(min_length=1, max_length=20_000)]
Name = Annotated[Text, Field(min_length=1, max_length=300)]
AGGREGATE = "Task score from instruction cosines: max (ours), mean_of_max, mean (older official), vote (official P3)."


def not_blank(texts: list[str]) -> list[str]:
    for number, text in enumerate(texts):
        if not text.strip():
            raise ValueError(f"instruction {number} is empty; write what the task asks for")
    return texts
