"""What DocRE transfer is measured beside: what a script's author would write, and other aligners.

eflomal is GPL: it runs in a process of its own, where it is installed (`pip install eflomal`), and is never imported
here.
"""

import html
import importlib.util
import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from shared.relations.text import word_spans
from workers.docre.aligning import grow_diag_final
from workers.docre.locating import pieces_of
from workers.docre.marking import read_tags
from workers.docre.runs import SourceSentence
from workers.docre.targets import Rules, TargetSentence, by_pieces
from workers.docre.translators import Segment, Translated
from workers.docre.translators.apertium import ApertiumTranslator
from workers.docre.translators.wordbound import escape, parse_stream

ALIGN = """
import sys
from eflomal import Aligner
source, target, forward, backward = sys.argv[1:]
with open(source) as s, open(target) as t:
    Aligner().align(s, t, links_filename_fwd=forward, links_filename_rev=backward)
"""


def html_call(sentence: SourceSentence) -> str:
    """One `apertium -f html` for one sentence, tags around its mentions."""
    marked = "".join(
        html.escape(text, quote=False) if run is None else f'<b id="{run}">{html.escape(text, quote=False)}</b>'
        for text, run in sentence.chunks()
    )
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "in.html"
        source.write_text(marked)
        command = [shutil.which("apertium") or "apertium", "-f", "html", "eng-spa", str(source)]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120).stdout


def html_names(answer: str, runs: int) -> list[str | None]:
    """The text between each run's tags, None where a tag is gone or holds nothing."""
    found = {int(n): html.unescape(text).strip() for n, text in re.findall(r'<b id="(\d+)">(.*?)</b>', answer)}
    return [found.get(n) or None for n in range(runs)]


class SuperblankTranslator(ApertiumTranslator):
    """The same pipeline without its word-bound programs: tags are blanks, which stay where they are."""

    def __init__(self) -> None:
        super().__init__("eng", "spa", 600)
        self._commands = [command for command in self._commands if not command[0].startswith("apertium-wblank")]

    def written(self, segment: Segment) -> str:
        return "".join(escape(text) if run is None else f"[<m{run}>]{escape(text)}[</m{run}>]" for text, run in segment)

    def read(self, raw: str) -> Translated:
        with_tags = re.sub(r"(?<!\\)\[(</?m\d+>)\]", "\x01\\1\x02", raw)
        text = parse_stream(with_tags).text  # drops other blanks, unescapes
        plain, pieces = read_tags(text.replace("\x01", "").replace("\x02", ""), False)
        return Translated(plain, raw=raw, pieces=tuple(pieces))


def eflomal_is_missing() -> str | None:
    return "eflomal is not installed" if importlib.util.find_spec("eflomal") is None else None


def by_eflomal(sentences: Sequence[SourceSentence], answers: Sequence[Translated]) -> list[TargetSentence]:
    """Mentions by eflomal's links of both directions, joined by grow-diag-final."""
    pairs = [(sentence.text, answer.text) for sentence, answer in zip(sentences, answers, strict=True)]
    spans = [tuple(word_spans(text) for text in pair) for pair in pairs]
    with tempfile.TemporaryDirectory() as folder:
        files = [str(Path(folder) / name) for name in ("source", "target", "forward", "backward")]
        for side in (0, 1):
            lines = [
                " ".join(pair[side][start:end].lower() for start, end in own[side])
                for pair, own in zip(pairs, spans, strict=True)
            ]
            Path(files[side]).write_text("\n".join(lines) + "\n")
        subprocess.run([sys.executable, "-c", ALIGN, *files], check=True, capture_output=True, timeout=600)
        both = [Path(name).read_text().split("\n") for name in files[2:]]
    found = []
    for n, (sentence, answer) in enumerate(zip(sentences, answers, strict=True)):
        links = grow_diag_final(*({tuple(map(int, link.split("-"))) for link in side[n].split()} for side in both))
        source, target = spans[n]
        pieces = pieces_of(sentence, [(source[i], target[j]) for i, j in sorted(links)])
        found.append(by_pieces(sentence, replace(answer, raw=""), pieces, Rules()))
    return found


def looped(documents: Sequence[Sequence[str]], send: "Send", batch: int) -> int:
    """MultiTACRED's loop: batches one after the other, a failed one is skipped; the documents that lost a sentence."""
    flat = [(number, text) for number, texts in enumerate(documents) for text in texts]
    lost = set()
    for begin in range(0, len(flat), batch):
        part = flat[begin : begin + batch]
        if not send([text for _, text in part]):
            lost |= {number for number, _ in part}
    return len(lost)


class Send:
    """Asks a DeepL-style server once."""

    def __init__(self, url: str) -> None:
        import httpx

        self._client = httpx.Client(base_url=url, trust_env=False, timeout=30)

    def __call__(self, texts: list[str]) -> bool:
        answer = self._client.post("/translate", json={"text": texts})
        return answer.status_code == 200 and len(json.loads(answer.text)["translations"]) == len(texts)
