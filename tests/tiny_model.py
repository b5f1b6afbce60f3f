"""A randomly initialised Llama with a tokenizer of words and digits: no model of language, but every part of one.

It is for the plumbing of local models: files, chat template, batching, sampling. What it says means nothing.
"""

import json
import tarfile
from pathlib import Path

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

CHAT_TEMPLATE = (
    "{% for m in messages %}{{ m.role }} {{ m.content }} "
    "{% if not loop.last %}end {% endif %}{% endfor %}"
    "{% if add_generation_prompt %}end assistant {% endif %}"
)
WORDS = ["<pad>", "end", "user", "assistant", "system", "Answer", ":", *map(str, range(10)), *"abcdefghijklmnop"]


def save_tiny_model(
    folder: Path,
    *,
    seed: int = 0,
    template: str | None = CHAT_TEMPLATE,
    context: int = 256,
    width: int = 32,
    layers: int = 2,
) -> Path:
    """A model folder, weights drawn with this seed."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(WORDS),
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=context,
        bos_token_id=None,
        eos_token_id=WORDS.index("end"),
        pad_token_id=0,
        initializer_range=0.5,  # wide, so that its choices are far from ties
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    words = Tokenizer(WordLevel({word: index for index, word in enumerate(WORDS)}, unk_token="<pad>"))
    words.pre_tokenizer = Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, eos_token="end", pad_token="<pad>", unk_token="<pad>")
    if template is not None:
        tokenizer.chat_template = template
    tokenizer.save_pretrained(folder)
    return folder


def pack(folder: Path, tar: Path) -> Path:
    """The folder as one uncompressed tar, as artifacts and uploads are."""
    with tarfile.open(tar, "w:") as archive:
        for path in sorted(folder.iterdir()):
            archive.add(path, path.name)
    return tar


def edit_config(folder: Path, **changes: object) -> None:
    """Overwrite fields of config.json."""
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changes))
