"""Engines behind HTTP, DeepL- and LibreTranslate-style, as entries of TENFOLD_ENDPOINTS.

Answers are kept by the digest of what was asked: a sentence is paid for once, whatever becomes of the job. 429 and 5xx
are tried again after a growing wait; 456 (DeepL: quota used up) ends the attempt at once, with everything kept so far.
"""

import hashlib
import html
import json
import random
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import httpx

from shared.endpoints import Endpoint
from shared.jobs.errors import Permanent, Retryable
from shared.llm.pace import retry_after, wait_before_retry
from shared.llm.secrets import Secret
from workers.docre.translators import EngineInfo, Marks, Segment, Translated, text_of

MOST_TEXTS = 50  # per request: DeepL's limit
QUOTA = 456
PASSING = frozenset({408, 425, 429})
MESSAGE_CHARS = 300
ISO = {
    "eng": "en", "spa": "es", "jpn": "ja", "fra": "fr", "deu": "de", "ita": "it", "por": "pt", "nld": "nl", "pol": "pl",
    "rus": "ru", "zho": "zh", "kor": "ko", "cat": "ca", "ces": "cs", "tur": "tr", "ukr": "uk", "swe": "sv", "dan": "da",
}  # fmt: skip


class Kept(Protocol):
    """What remembers answers between attempts: a job's context."""

    def kept_reply(self, key: str) -> bytes | None: ...
    def keep_replies(self, replies: Mapping[str, bytes]) -> dict[str, bytes]: ...


class Languages(NamedTuple):
    source: str
    target: str


class HttpTranslator:
    """One endpoint, open. May be used from several threads; all keep one pace."""

    marks: Marks = "tags"

    def __init__(self, entry: Endpoint, secret: Secret | None, languages: Languages, kept: Kept, retries: int) -> None:
        self._entry, self._secret, self._kept, self._retries = entry, secret, kept, retries
        self._languages = Languages(*(ISO.get(code, code) for code in languages))
        headers = {}
        if secret is not None and entry.protocol == "deepl":
            headers = {"Authorization": secret.authorization()["Authorization"].replace("Bearer", "DeepL-Auth-Key")}
        self._client = httpx.Client(timeout=entry.timeout_s, headers=headers, follow_redirects=False)
        self._in_flight = threading.Semaphore(entry.max_in_flight)
        self._pacing, self._next = threading.Lock(), 0.0
        self.characters = 0
        """Asked of the server in this attempt."""
        self.info = EngineInfo(entry.protocol, {"protocol": entry.protocol, "url": entry.url})

    def close(self) -> None:
        self._client.close()

    def translate(self, segments: Sequence[Segment]) -> list[Translated]:
        texts = [text_of(segment) for segment in segments]
        answers: dict[str, str] = {}
        missing: list[str] = []
        for text in dict.fromkeys(texts):
            kept = self._kept.kept_reply(self._key(text))
            if kept is None:
                missing.append(text)
            else:
                answers[text] = kept.decode()
        for begin in range(0, len(missing), MOST_TEXTS):
            batch = missing[begin : begin + MOST_TEXTS]
            made = self._ask(batch)
            stored = self._kept.keep_replies({self._key(t): m.encode() for t, m in zip(batch, made, strict=True)})
            answers.update({text: stored[self._key(text)].decode() for text in batch})
        return [Translated(answers[text], raw=answers[text]) for text in texts]

    def _key(self, text: str) -> str:
        asked = json.dumps([self._entry.protocol, self._entry.url, *self._languages, text], ensure_ascii=False)
        return f"translation/{hashlib.sha256(asked.encode()).hexdigest()}"

    def _ask(self, texts: list[str]) -> list[str]:
        """Send until there is an answer or `retries` are used up. Raises Retryable, Permanent."""
        jitter = random.Random(texts[0])
        for failures in range(self._retries + 1):
            self._wait_turn()
            reason, after_s = self._send(texts)
            if isinstance(reason, list):
                self.characters += sum(map(len, texts))
                return reason
            if failures < self._retries:
                time.sleep(max(wait_before_retry(failures + 1, jitter), after_s))
        raise Retryable(
            f"translator: no answer in {self._retries + 1} requests: {reason}; translated sentences are kept, "
            "the job goes on from there"
        )

    def _send(self, texts: list[str]) -> tuple[list[str] | str, float]:
        """The translations, or why there are none and how long the server asks to wait."""
        with self._in_flight:
            try:
                response = self._client.post(self._url(), json=self._body(texts))
            except httpx.TransportError as error:
                return f"{type(error).__name__}: {self._words(str(error))}", 0.0
        said = self._words(response.text)
        if response.status_code == QUOTA:
            raise Retryable(f"translator: the quota is used up (456 {said}); translated sentences are kept")
        if response.status_code in PASSING or response.status_code >= 500:
            return f"{response.status_code} {said}", retry_after(response.headers.get("Retry-After")) or 0.0
        if response.status_code != httpx.codes.OK:
            raise Permanent(f"translator answered {response.status_code}: {said}")
        return self._read(response, len(texts)), 0.0

    def _url(self) -> str:
        return f"{self._entry.url}/translate"

    def _body(self, texts: list[str]) -> dict[str, Any]:
        """Texts are markup already: `&`, `<` and `>` of the text itself are escaped."""
        source, target = self._languages
        if self._entry.protocol == "deepl":
            return {"text": texts, "source_lang": source.upper(), "target_lang": target.upper(), "tag_handling": "xml",
                    "tag_handling_version": "v2", "split_sentences": "0", "preserve_formatting": True}  # fmt: skip
        body: dict[str, Any] = {"q": texts, "source": source, "target": target, "format": "html"}
        if self._secret is not None:
            body["api_key"] = self._secret.authorization()["Authorization"].removeprefix("Bearer ")
        return body

    def _read(self, response: httpx.Response, wanted: int) -> list[str] | str:
        try:
            said = response.json()
            if self._entry.protocol == "deepl":
                texts = [entry["text"] for entry in said["translations"]]
            else:
                texts = said["translatedText"]
        except (ValueError, KeyError, TypeError):
            return f"an answer that is no {self._entry.protocol} translation: {self._words(response.text)}"
        if not isinstance(texts, list) or len(texts) != wanted or not all(isinstance(text, str) for text in texts):
            return f"an answer with another number of translations than the {wanted} asked for"
        return texts

    def _wait_turn(self) -> None:
        if self._entry.requests_per_minute is None:
            return
        with self._pacing:
            now = time.monotonic()
            at, self._next = max(now, self._next), max(now, self._next) + 60.0 / self._entry.requests_per_minute
        time.sleep(max(0.0, at - now))

    def _words(self, text: str) -> str:
        """A server's own words, fit to be shown: without the key, on one line, short."""
        hidden = self._secret.hide(text) if self._secret else text
        return html.escape(" ".join(hidden.split())[:MESSAGE_CHARS], quote=False)
