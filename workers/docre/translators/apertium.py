"""Apertium: rule-based translation, offline, with the mode's own programs and word-bound blanks.

One fresh pipeline per call: Apertium's answer may depend on the sentences before it, so the same shard always meets the
same history. The whole shard goes in from a file and its answers go out to a file: nothing can block. Answers are
counted; on an early end the first unanswered segment is tried again alone, and costs only itself.
"""

import os
import re
import shlex
import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from shared.jobs.errors import InvalidInput, Retryable
from workers.docre.translators import EngineInfo, Marks, Segment, Translated, WordCount
from workers.docre.translators.wordbound import END, marked, parse_stream

MODES = Path("/usr/share/apertium/modes")
WBLANK = "apertium-wblank-mode"
NO_UNKNOWN_MARKS = "-n"
ANALYSED = re.compile(r"\^([^/^$]+)/(\*?)")  # ^form/analyses$, a star where there is none
Command = list[str]


class ApertiumTranslator:
    """One language pair. Raises InvalidInput when programs or pair are not installed."""

    marks: Marks = "provenance"

    def __init__(self, source: str, target: str, timeout_s: float, modes: Path = MODES) -> None:
        self._timeout_s = timeout_s
        self._commands = _pipeline(_mode_file(f"{source}-{target}", modes))
        self.info = EngineInfo("apertium", {"mode": f"{source}-{target}", **_versions(self._commands)})

    def translate(self, segments: Sequence[Segment]) -> list[Translated]:
        texts = [self.written(segment) for segment in segments]
        answers: list[Translated] = []
        while len(answers) < len(texts):
            answers += self._run(texts[len(answers) :])
            if len(answers) < len(texts):  # the pipe broke: this one alone, in a fresh pipeline
                alone = self._run([texts[len(answers)]])
                answers += alone or [Translated("", "engine_error", raw=texts[len(answers)])]
        return answers

    def written(self, segment: Segment) -> str:
        """A segment as the pipeline reads it."""
        return marked(segment)

    def read(self, raw: str) -> Translated:
        """An answer of the pipeline."""
        return parse_stream(raw)

    def _run(self, texts: Sequence[str]) -> list[Translated]:
        """The answers to the first texts, as many as came. Raises Retryable after the deadline."""
        with (
            tempfile.TemporaryFile() as source,
            tempfile.TemporaryFile() as target,
            tempfile.NamedTemporaryFile() as analysis,
        ):
            source.write("".join(text + END for text in texts).encode())
            source.seek(0)
            tee = ["tee", analysis.name]
            _drain([self._commands[0], tee, *self._commands[1:]], source.fileno(), target.fileno(), self._timeout_s)
            target.seek(0)
            answers = _whole(target.read().decode("utf-8", "replace"))[: len(texts)]
            analysed = analysis.read().decode("utf-8", "replace").split("\0")
        return [replace(self.read(raw), words=_words(said)) for raw, said in zip(answers, analysed, strict=False)]


def _whole(said: str) -> list[str]:
    """Answers up to the first that is none. What no NUL ends is a fragment; an engine that gave up goes on sending
    NULs without any text, which answer nothing."""
    answers = said.split("\0")[:-1]
    first_empty = next((n for n, answer in enumerate(answers) if not answer.endswith("\n")), len(answers))
    return [answer.removesuffix("\n") for answer in answers[:first_empty]]


def _words(analysed: str) -> WordCount:
    """Words, numbers and signs aside, and those without an analysis."""
    stars = [star for form, star in ANALYSED.findall(analysed) if form[0].isalpha() or any(map(str.isalpha, form))]
    return WordCount(len(stars), len(stars) - stars.count(""))


def _drain(commands: Sequence[Command], source: int, target: int, timeout_s: float) -> None:
    """Run the pipeline to its end. Its programs stay in our process group: whoever kills that ends them too."""
    environment = {**os.environ, "LC_ALL": "C.UTF-8"}
    started: list[subprocess.Popen[bytes]] = []
    try:
        for number, command in enumerate(commands):
            stdin = source if number == 0 else started[-1].stdout
            stdout = target if number == len(commands) - 1 else subprocess.PIPE
            started.append(
                subprocess.Popen(command, stdin=stdin, stdout=stdout, stderr=subprocess.DEVNULL, env=environment)
            )
            if number and (pipe := started[number - 1].stdout) is not None:
                pipe.close()  # ours: the next program holds its own
        deadline = time.monotonic() + timeout_s
        for process in started:
            process.wait(max(0.0, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        raise Retryable(
            f"apertium gave no answer within timeout_s = {timeout_s:g} s; raise it or lower shard_size"
        ) from None
    finally:
        for process in started:
            if process.poll() is None:
                process.kill()
            process.wait()


def _mode_file(pair: str, modes: Path) -> Path:
    for program in ("apertium", WBLANK):
        if shutil.which(program) is None:
            raise InvalidInput(f"backend apertium: {program} is not installed on this worker; apt install apertium")
    path = modes / f"{pair}.mode"
    if not path.is_file():
        have = ", ".join(sorted(found.stem for found in modes.glob("*.mode"))) or "none"
        raise InvalidInput(
            f"source_lang, target_lang: the Apertium pair {pair} is not installed on this worker; it has: {have}; "
            f"apt install apertium-{pair}, or choose another backend"
        )
    return path


def _pipeline(mode: Path) -> list[Command]:
    """The mode's programs with word-bound blanks attached and detached: $1 is how to mark unknown words, $2 nothing."""
    printed = subprocess.run([WBLANK, "-z", str(mode)], capture_output=True, text=True, check=False, timeout=60)
    if printed.returncode or not printed.stdout.strip():
        raise InvalidInput(f"{WBLANK} can't read the mode {mode.stem}: {printed.stderr.strip()[:200]}")
    commands: list[Command] = [[]]
    for part in shlex.split(printed.stdout):
        if part == "|":
            commands.append([])
        elif part != "$2":
            commands[-1].append(NO_UNKNOWN_MARKS if part == "$1" else part)
    return commands


def _versions(commands: Sequence[Command]) -> dict[str, str]:
    """What tells this installation from another: the engine's own version, and a digest of the pair's data."""
    import hashlib

    said = subprocess.run(["apertium", "--version"], capture_output=True, text=True, check=False, timeout=60)
    version = re.search(r"\d+(\.\d+)+", said.stdout + said.stderr)
    data = hashlib.sha256()
    for path in (Path(part) for command in commands for part in command if part.startswith("/")):
        data.update(f"{path.name} {path.stat().st_size}\n".encode())
        data.update(path.read_bytes())
    return {"apertium": version[0] if version else "unknown", "data": data.hexdigest()[:16]}
