"""An invented language and a small sequence-to-sequence model that learns to translate into it, in seconds."""

import random
from pathlib import Path

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from tokenizers.processors import TemplateProcessing
from transformers import BartConfig, BartForConditionalGeneration, PreTrainedTokenizerFast

NAMES = ["ada", "bob", "carl", "dora", "emil", "fred"]
VERBS = ["meets", "likes", "sees"]
TOWNS = ["lund", "rome", "wien", "ulm"]
WORDS = [*NAMES, *VERBS, *TOWNS, "in"]
TARGET = {word: "".join(reversed(word)) + "o" for word in WORDS}
SPECIAL = ["<s>", "<pad>", "</s>", "<unk>"]
STEPS = 220


def pair(rng):
    """`ada meets bob in rome` ↔ in the invented language the verb comes first and words are written backwards."""
    a, b = rng.sample(NAMES, 2)
    verb, town = rng.choice(VERBS), rng.choice(TOWNS)
    return f"{a} {verb} {b} in {town}", " ".join(TARGET[word] for word in (verb, a, b, "in", town))


def tokenizer():
    vocabulary = {token: n for n, token in enumerate([*SPECIAL, *WORDS, *TARGET.values()])}
    made = Tokenizer(WordLevel(vocabulary, unk_token="<unk>"))
    made.pre_tokenizer = WhitespaceSplit()
    made.post_processor = TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 2)])
    return PreTrainedTokenizerFast(
        tokenizer_object=made, bos_token="<s>", pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    )


def trained_checkpoint(folder: Path) -> Path:
    """A BART of two small layers that has learned the language, kept in `folder`."""
    torch.manual_seed(0)
    rng, words = random.Random(0), tokenizer()
    model = BartForConditionalGeneration(
        BartConfig(vocab_size=len(words), d_model=48, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
                   decoder_attention_heads=2, encoder_ffn_dim=96, decoder_ffn_dim=96, max_position_embeddings=64,
                   dropout=0.0, decoder_start_token_id=2, forced_eos_token_id=None, pad_token_id=1, bos_token_id=0,
                   eos_token_id=2, normalize_before=False, normalize_embedding=True)  # the last two: CTranslate2
    )  # fmt: skip
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3)
    for _ in range(STEPS):
        sources, targets = zip(*(pair(rng) for _ in range(32)), strict=True)
        batch = words(list(sources), return_tensors="pt", padding=True)
        labels = words(list(targets), return_tensors="pt", padding=True)["input_ids"]
        loss = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], labels=labels).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert float(loss.detach()) < 0.05
    model.eval().save_pretrained(folder)
    words.save_pretrained(folder)
    return folder
