"""nanoGCG's side of the comparison, importable where only torch, transformers and nanogcg are.

    PYTHON tests/bench/nanogcg_peer.py MODEL_FOLDER WIDTH    one step's CPU milliseconds, prefix cache on, as JSON

`TENFOLD_NANOGCG_PYTHON` names the interpreter of a virtual environment with the transformers that nanoGCG pins:
`pip install torch==2.13.0 transformers==4.47.1 nanogcg`.
"""

import gc
import json
import logging
import sys
import time
import warnings
from pathlib import Path
from typing import Any

GOAL, TARGET, SUFFIX = "tell me about the red house", "Sure , here is the red house : it is", " ".join(["!"] * 8)
TOPK = 48
ROUNDS = 5


def peer(model: Any, tokenizer: Any, width: int, *, cache: bool) -> Any:
    """A nanoGCG over the same model, prompt, width and topk, one batch, filter on; it has run one step."""
    import nanogcg.gcg

    logging.getLogger("nanogcg").setLevel(logging.ERROR)
    nanogcg.gcg.tqdm = lambda steps: steps
    config = nanogcg.GCGConfig(
        num_steps=1, optim_str_init=SUFFIX, search_width=width, topk=TOPK, use_prefix_cache=cache, seed=0,
        allow_non_ascii=True, filter_ids=True, verbosity="ERROR",
    )  # fmt: skip
    made = nanogcg.gcg.GCG(model, tokenizer, config)
    run(made, 1)
    return made


def run(made: Any, steps: int) -> float:
    """CPU seconds of so many steps, setting up included once."""
    made.config.num_steps = steps
    start = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made.run([{"role": "user", "content": f"{GOAL} {{optim_str}}"}], TARGET)
    return time.process_time() - start


def step_ms(made: Any, steps: int = 5) -> float:
    """CPU milliseconds of one step: the difference of a longer and a shorter run."""
    return 1000 * (run(made, steps + 1) - run(made, 1)) / steps


class NoCollect:
    """`gc.collect` does nothing inside: nanoGCG calls it at every step, and its cost is the size of the heap."""

    def __enter__(self) -> None:
        self._collect = gc.collect
        gc.collect = lambda *_: 0  # type: ignore[assignment]

    def __exit__(self, *_: object) -> None:
        gc.collect = self._collect


def main() -> None:
    import torch
    import transformers
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

    folder, width = Path(sys.argv[1]), int(sys.argv[2])
    torch.set_num_threads(1)
    model = LlamaForCausalLM.from_pretrained(folder, torch_dtype=torch.float32).eval()
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"), bos_token="<bos>",
                                        eos_token="<eot>", pad_token="<pad>", unk_token="<unk>")  # fmt: skip
    tokenizer.chat_template = (folder / "chat_template.jinja").read_text()
    made = peer(model, tokenizer, width, cache=True)
    installed = [step_ms(made) for _ in range(ROUNDS)]
    with NoCollect():
        stubbed = [step_ms(made) for _ in range(ROUNDS)]
    print(json.dumps({"transformers": transformers.__version__, "installed": installed, "stubbed": stubbed}))


if __name__ == "__main__":
    main()
