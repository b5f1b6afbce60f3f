"""Where suffix and target lie, under the templates that people have."""

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from shared.jobs.errors import InvalidInput
from workers.dsn.conversation import Chat
from workers.dsn.reachability import Reachability

TEXT = [
    "Tell me about the red house! ! ! and describe it!\n", "Sure, here is the red house: it is old. Sure, here it is\n",
    "user\n assistant\n system\n", "describe the blue river in words! ! !\n!\n!\n", "I'm sorry, but I cannot do it.\n",
] * 20  # fmt: skip
GOAL, SUFFIX, TARGET = "Tell me about the red house", "! ! ! !", "Sure, here is the red house"
PLAIN = (
    "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
TEMPLATES = {
    "plain": PLAIN,
    "BOS in the template": "{{ bos_token }}" + PLAIN,
    "content stripped": PLAIN.replace("{{ m.content }}", "{{ m.content | trim }}"),
    "a system turn of its own": "<|system|>\nBe brief.<|end|>\n" + PLAIN,
    "a space before the answer": (
        "{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]{% else %} {{ m.content }} "
        "{% endif %}{% endfor %}"
    ),
    "a thinking block in finished answers": PLAIN.replace(
        "{{ m.content }}", "{% if m.role == 'assistant' %}<think>\n\n</think>\n{% endif %}{{ m.content }}"
    ),
    "prompts only": "{% for m in messages %}{% if m.role == 'assistant' %}{{ raise_exception('none') }}{% endif %}"
    "<|user|>\n{{ m.content }}<|end|>\n{% endfor %}<|assistant|>\n",
}  # fmt: skip


def trained(*, splits_words):
    """A byte-level BPE whose tokens carry their leading space, with a post-processor that adds a BOS by itself. One
    that does not split words first merges across them."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=splits_words)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<s>", "<|user|>", "<|assistant|>", "<|system|>", "<|end|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    options = {"vocab_size": 420, "special_tokens": special, "initial_alphabet": alphabet, "show_progress": False}
    tokenizer.train_from_iterator(TEXT, trainers.BpeTrainer(**options))
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    return tokenizer


@pytest.fixture(scope="module")
def bpe():
    return trained(splits_words=True)


@pytest.fixture
def make_chat(bpe):
    def make(template, tokenizer=bpe):
        fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="<|end|>")
        fast.chat_template = template
        return Chat(fast, "a model")

    return make


@pytest.mark.parametrize("template", TEMPLATES.values(), ids=TEMPLATES)
def test_the_parts_are_the_whole_conversations_tokens(make_chat, template):
    chat = make_chat(template)
    found = chat.conversation(GOAL, SUFFIX, TARGET)
    tokenizer = chat.tokenizer
    assert tokenizer.decode(found.suffix).strip() == SUFFIX
    assert tokenizer.decode(found.target).strip() == TARGET
    text = found.parts.head + SUFFIX + found.parts.tail
    assert list(found.ids) == tokenizer(text, add_special_tokens=False)["input_ids"]
    assert GOAL in tokenizer.decode(found.before)
    assert found.ids.count(0) == ("bos_token" in template)


@pytest.mark.parametrize("template", TEMPLATES.values(), ids=TEMPLATES)
def test_an_answer_follows_the_same_tokens_that_the_target_does(make_chat, template):
    """Decoding starts where the target starts, or a space before it that the answer's first token brings along."""
    chat = make_chat(template)
    found = chat.conversation(GOAL, SUFFIX, TARGET)
    prompt = chat.prompt(chat.message(GOAL, SUFFIX))
    assert prompt == [*found.before, *found.suffix, *found.after]


def test_no_template_says_what_to_do(make_chat):
    with pytest.raises(InvalidInput, match="no chat template"):
        make_chat(None)


@pytest.mark.parametrize(("template", "says"), [
    pytest.param(PLAIN.replace("m.content", "m.content | upper"), "rewrites the user's text", id="rewritten"),
    pytest.param("{{ raise_exception('never') }}", "refuses a user's turn", id="refused"),
])  # fmt: skip
def test_templates_that_hide_the_suffix_are_refused(make_chat, template, says):
    with pytest.raises(InvalidInput, match=says):
        make_chat(template).conversation(GOAL, SUFFIX, TARGET)


def test_a_suffix_that_is_glued_to_what_the_template_puts_after_it_is_refused(make_chat):
    gluing = trained(splits_words=False)
    assert "!Ċ" in gluing.get_vocab()
    chat = make_chat("{% for m in messages %}{{ m.content }}\n{% endfor %}", gluing)
    with pytest.raises(InvalidInput, match="merges"):
        chat.conversation(GOAL, "!", TARGET)


def test_candidates_without_their_leading_space_do_not_read_back(make_chat, bpe):
    """`house` inside a text is ` house`: the bare token would be merged with the separator."""
    chat = make_chat(PLAIN)
    found = chat.conversation(GOAL, SUFFIX, TARGET)
    reachability = Reachability(chat, [found])
    vocabulary = bpe.get_vocab()
    spaced, bare = vocabulary["Ġ!"], vocabulary["!"]
    assert found.suffix == (spaced,) * 4
    assert reachability.reachable([found.suffix, (bare, *found.suffix[1:])]) == [found.suffix]
    merged = bpe.encode(" house", add_special_tokens=False).ids
    assert len(merged) == 1
    spelt = [vocabulary[letter] for letter in ("Ġ", *"house")]
    assert reachability.reachable([(*found.suffix, *spelt)]) == []  # it would read back as one token
    assert reachability.reachable([(*found.suffix[:3], *merged)]) == [(*found.suffix[:3], *merged)]


def test_without_a_suffix_the_message_is_the_goal(chat):
    assert chat.message("describe the red house", "") == "describe the red house"
    assert chat.message("describe the red house", "! !") == "describe the red house ! !"
