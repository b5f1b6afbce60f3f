"""Instruction refinement: from a template to the text that is embedded. `refine` is the whole rule.

The authors' cleaning rules are unpublished; these are ours. A placeholder's *name* says something of the task
(premise, hypothesis, choices), so `names` keeps it; `strip` drops placeholders, `raw` keeps the template as it is.
"""

import re
from collections.abc import Callable
from typing import Literal

from shared.data.instruction_tasks import Template

Refine = Literal["names", "strip", "raw"]

TARGET = "|||"  # what follows it is the answer's side
BLOCK = re.compile(r"\{#.*?#\}|\{%.*?%\}", re.S)
EXPRESSION = re.compile(r"\{\{(.*?)\}\}", re.S)
QUOTED_EXPRESSION = re.compile(r'"\{\{.*?\}\}"', re.S)
LITERAL = re.compile(r"'([^']*)'|\"([^\"]*)\"", re.S)
IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
PLACEHOLDER = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")
BEFORE_POINT = re.compile(r" ([,.?!:;])")


def refine(template: Template, mode: Refine) -> str:
    """The refined text; empty where nothing is left of the template."""
    if template.style == "plain":
        return template.text.strip()
    if template.style == "python":
        return _python(template.text, mode)
    text = template.text.partition(TARGET)[0]
    if mode == "raw":
        return " ".join(text.split())
    text = BLOCK.sub("", text)
    if mode == "strip":
        return _tidy(EXPRESSION.sub(" ", QUOTED_EXPRESSION.sub(" ", text)))
    return _tidy(_padded(EXPRESSION, text, lambda found: expression_name(found.strip())))


def expression_name(expression: str) -> str:
    """The words that a Jinja expression stands for: its first literal, or the name of its variable."""
    if expression.startswith(("[", "(", "'", '"')):
        literal = LITERAL.search(expression)
        return next((text for text in literal.groups() if text is not None), "") if literal else ""
    identifier = IDENTIFIER.search(expression.partition("|")[0])
    return variable_words(identifier.group()) if identifier else ""


def variable_words(name: str) -> str:
    """`sentence1` → sentence, `answer_choices` → answer choices."""
    return name.rstrip("0123456789").replace("_", " ")


def refined(templates: tuple[Template, ...], mode: Refine, original_task_only: bool) -> list[str]:
    """A task's instructions: refined, empty ones dropped, the first of equal ones kept."""
    texts = (refine(template, mode) for template in kept(templates, mode, original_task_only))
    return list(dict.fromkeys(text for text in texts if text))


def kept(templates: tuple[Template, ...], mode: Refine, original_task_only: bool) -> tuple[Template, ...]:
    """Templates of the data set's original task; all where these leave no text, or none is flagged (app_reviews)."""
    flagged = tuple(template for template in templates if template.original)
    return flagged if original_task_only and any(refine(template, mode) for template in flagged) else templates


def _python(text: str, mode: Refine) -> str:
    if mode == "raw":
        return " ".join(text.split())
    if mode == "strip":
        return _tidy(PLACEHOLDER.sub(" ", re.sub(r'"\{[A-Za-z_][A-Za-z0-9_]*\}"', " ", text)))
    text = text.replace("{options_}", "")
    return _tidy(_padded(PLACEHOLDER, text, variable_words))


def _padded(pattern: re.Pattern[str], text: str, words: Callable[[str], str]) -> str:
    """Each match replaced by its words, a blank on each side except beside a double quote."""

    def replace(match: re.Match[str]) -> str:
        left = "" if match.start() > 0 and text[match.start() - 1] == '"' else " "
        right = "" if match.end() < len(text) and text[match.end()] == '"' else " "
        return f"{left}{words(match.group(1))}{right}"

    return pattern.sub(replace, text)


def _tidy(text: str) -> str:
    """Single blanks, trimmed, none in front of a point."""
    return BEFORE_POINT.sub(r"\1", " ".join(text.split()))
