"""promptsource's `templates.yaml`: templates of one data set, as Jinja with metadata."""

from typing import Any

import yaml

from shared.jobs.errors import InvalidInput


class _Loader(yaml.SafeLoader):
    """Reads promptsource's own tags (!Template, !TemplateMetadata) as plain mappings."""


def _mapping(loader: _Loader, suffix: str, node: yaml.Node) -> Any:
    if isinstance(node, yaml.MappingNode):
        return loader.construct_mapping(node, deep=True)
    return None


_Loader.add_multi_constructor("!", _mapping)


def read_yaml(data: bytes, where: str) -> dict[str, Any]:
    """{dataset, subset?, templates: [{name, jinja, answer_choices, original_task, …}]}. Raises InvalidInput."""
    try:
        given = yaml.load(data.decode("utf-8"), Loader=_Loader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{where} is no YAML: {error}") from None
    if not isinstance(given, dict) or not given.get("dataset") or not isinstance(given.get("templates"), dict):
        raise InvalidInput(f"{where} lacks dataset or templates: it is no promptsource file")
    templates = sorted(given["templates"].values(), key=lambda template: str(template.get("name")))
    return {
        "dataset": given["dataset"],
        **({"subset": given["subset"]} if given.get("subset") else {}),
        "templates": [_template(template) for template in templates],
    }


def _template(given: dict[str, Any]) -> dict[str, Any]:
    metadata = given.get("metadata") or {}
    return {
        "name": given.get("name"),
        "jinja": given.get("jinja"),
        "answer_choices": given.get("answer_choices"),
        "original_task": metadata.get("original_task"),
        "choices_in_prompt": metadata.get("choices_in_prompt"),
    }
