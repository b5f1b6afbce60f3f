"""Instruction refinement: what is left of a template."""

import json

import pytest

from shared.data.instruction_tasks import Template, read_tasks
from workers.insta.refinement import kept, refine, refined

REAL = {  # run on promptsource 7dab96a: strip, names
    ("p3/super_glue/rte", "GPT-3 style"): (
        "Question: True or False?",
        "premise Question: hypothesis True or False?",
    ),
    ("p3/quarel", "choose_between"): (
        "Choose between and. Question:",
        'Choose between "answer choices" and "answer choices". Question: question',
    ),
    ("p3/super_glue/wic", "affirmation_true_or_false"): (
        "Sentence A: Sentence B: has a similar meaning in sentences A and B. True or False?",
        'Sentence A: sentence Sentence B: sentence "word" has a similar meaning in sentences A and B. True or False?',
    ),
    ("p3/hellaswag", "Appropriate continuation - Yes or No"): (
        "Consider the following description: Is the following an appropriate continuation? Yes or No?",
        "Consider the following description: ctx a Is the following an appropriate continuation? ctx b endings "
        "Yes or No?",
    ),
    ("p3/ag_news", "classify_with_choices"): (
        "Is this a piece of news regarding?",
        "text Is this a piece of news regarding world politics, sports, business, or science and technology?",
    ),
}


@pytest.fixture(scope="module")
def promptsource(real_data):
    path = real_data / "p3_tasks.jsonl"
    names = {
        record["id"]: [t["name"] for t in record["templates"]]
        for record in map(json.loads, path.read_text().splitlines())
    }
    return {(task.id, name): template for task in read_tasks(path, "p3")
            for name, template in zip(names[task.id], task.templates, strict=True)}  # fmt: skip


@pytest.mark.parametrize(("template", "strip", "names"), [pytest.param(k, *v, id=k[0]) for k, v in REAL.items()])
def test_real_templates_are_refined_as_stated(promptsource, template, strip, names):
    assert refine(promptsource[template], "strip") == strip
    assert refine(promptsource[template], "names") == names


@pytest.mark.parametrize(
    ("text", "names"),
    [
        pytest.param("Read {{text}} ||| {{label}}", "Read text", id="the-target-side-goes"),
        pytest.param("{# note #}A{% if x %}B{% endif %}", "AB", id="comments-and-blocks-go"),
        pytest.param("Is it {{['yes','no'][0]}}?", "Is it yes?", id="first-literal-of-a-list"),
        pytest.param("{{('red', 'blue') | join}} ball", "red ball", id="first-literal-of-a-tuple"),
        pytest.param('{{"Hello" ~ name}}!', "Hello!", id="first-literal-of-a-string"),
        pytest.param("{{answer_choices[0]}}", "answer choices", id="first-identifier"),
        pytest.param("{{ options | map('upper') | join(', ') }}", "options", id="before-the-filter"),
        pytest.param("{{sentence1}} and {{sentence_12}}", "sentence and sentence", id="digits-and-underscores"),
        pytest.param('the "{{word}}" here', 'the "word" here', id="no-blank-beside-a-quote"),
        pytest.param("of{{text}}.", "of text.", id="padded-and-tidied"),
        pytest.param("{{1}}", "", id="nothing-nameable"),
    ],
)
def test_names_keeps_what_placeholders_are_called(text, names):
    assert refine(Template(text, "jinja"), "names") == names


@pytest.mark.parametrize(
    ("style", "text", "mode", "wanted"),
    [
        pytest.param("python", "{premise}\n\n{options_}\nSo?", "names", "premise So?", id="options-vanish"),
        pytest.param("python", "{sentence_1} x", "names", "sentence x", id="python-names"),
        pytest.param("python", 'a "{b}" {c} d', "strip", "a d", id="python-strip"),
        pytest.param("python", "{a}  b", "raw", "{a} b", id="python-raw"),
        pytest.param("jinja", "{{a}}  b ||| c", "raw", "{{a}} b", id="jinja-raw"),
        pytest.param("plain", " Sort {{these}} ||| now ", "names", "Sort {{these}} ||| now", id="plain-stays"),
    ],
)
def test_every_style_and_mode(style, text, mode, wanted):
    assert refine(Template(text, style), mode) == wanted


def test_instructions_of_a_task_are_different_and_not_empty():
    templates = tuple(Template(text, "jinja") for text in ("A {{x}}", "{{1}}", "A {{ x }}", "B"))
    assert refined(templates, "names", True) == ["A x", "B"]


@pytest.mark.parametrize(
    ("flags", "only", "left"),
    [
        pytest.param((True, False, None), True, 1, id="the-flagged-one"),
        pytest.param((True, False, None), False, 3, id="all-when-not-asked"),
        pytest.param((False, False), True, 2, id="all-where-none-is-flagged"),
        pytest.param((None, None), True, 2, id="all-where-nobody-says"),
    ],
)
def test_templates_of_the_original_task(flags, only, left):
    assert len(kept(tuple(Template("x", "jinja", flag) for flag in flags), "names", only)) == left
