"""Logs of talking runs: `log_env.json` records with the conversation, beside each the prompts and replies it came of.

The official logs pair the interaction of an utterance with the utterance before it, since the report has none; here
each stands beside its own. All model text is escaped: the field's notebooks show it as HTML.
"""

import html
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from workers.govsim.imported import ImportedRun
from workers.govsim.log_env import harvest_records, record_of
from workers.govsim.talk import FRAMEWORK

SHOWN = frozenset({"harvest", "utterance", "summary", "limit"})  # what the field's log has records of
AGAIN = re.compile(r"/again\d+$")

Record = dict[str, Any]


class Spoken:
    """What the transcript and the conversations of a job say, run by run, without holding more than one run."""

    def __init__(self, transcript: Path, conversations: Path, runs: int) -> None:
        self._transcript, self._conversations = transcript, conversations
        self._calls = _offsets(transcript, runs, SHOWN)
        self._talks = _offsets(conversations, runs, None)

    def logged(self, runs: Iterable[ImportedRun]) -> Iterator[ImportedRun]:
        """The runs with the log they leave."""
        for number, run in enumerate(runs):
            yield replace(run, log=self._log(number, run))

    def _log(self, number: int, run: ImportedRun) -> list[Record]:
        shown = _interactions(_at(self._transcript, self._calls.get(number, [])))
        talks = {line["month"]: line for line in _at(self._conversations, self._talks.get(number, []))}
        log: list[Record] = []
        for month in range(len(run.pool)):
            for agent, record in enumerate(harvest_records(run, month)):
                key = f"run{number}/month{month + 1}/harvest/agent{agent}"
                log.append({**record, "html_interactions": shown.get(key)})
            if (month + 1) in talks:
                log += _talk_records(talks[month + 1], month, shown)
        return log


def _talk_records(talk: Record, month: int, shown: dict[str, str]) -> list[Record]:
    """Report, utterances, summary and limit; all of them carry the limit, as the official logs do."""
    said = [
        (_agent_id(line["agent"]), "utterance", line["name"], line["text"], line["key"]) for line in talk["utterances"]
    ]
    said.append((FRAMEWORK, "conversation_summary", FRAMEWORK, talk["summary"], talk["summary_key"]))
    said.append((FRAMEWORK, "conversation_resource_limit", FRAMEWORK, None, talk["limit_key"]))
    return [
        record_of(
            who, month, action, agent_name=name, utterance=text, resource_limit=talk["limit"],
            html_interactions=shown.get(key),
        )
        for who, action, name, text, key in said
    ]  # fmt: skip


def _agent_id(agent: int | None) -> str:
    return FRAMEWORK if agent is None else f"persona_{agent}"


def _interactions(calls: Iterable[Record]) -> dict[str, str]:
    """Call key → the interaction as HTML, a repeated question with its first one."""
    shown: dict[str, str] = {}
    for call in calls:
        key = AGAIN.sub("", call["key"])
        shown[key] = shown.get(key, "") + as_html(call)
    return shown


def as_html(call: Record) -> str:
    """One call of a transcript, escaped."""
    parts = [*((message["role"], message["content"]) for message in call["messages"]), ("reply", call["reply"])]
    turns = "".join(f'<div class="{role}"><pre>{html.escape(text)}</pre></div>' for role, text in parts)
    return f'<div class="interaction" id="{html.escape(call["key"])}">{turns}</div>'


def _offsets(path: Path, runs: int, kinds: frozenset[str] | None) -> dict[int, list[int]]:
    """Run → where its lines begin in a JSONL file, of the first so many runs."""
    found: dict[int, list[int]] = {}
    at = 0
    with path.open("rb") as handle:
        for line in handle:
            record = json.loads(line)
            if record["run"] < runs and (kinds is None or record["kind"] in kinds):
                found.setdefault(record["run"], []).append(at)
            at += len(line)
    return found


def _at(path: Path, offsets: list[int]) -> Iterator[Record]:
    with path.open("rb") as handle:
        for offset in offsets:
            handle.seek(offset)
            yield json.loads(handle.readline())
