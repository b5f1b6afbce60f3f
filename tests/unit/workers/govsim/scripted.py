"""Scripted models and a small encoder for talking societies: real classes of the interfaces, no network, no weights."""

import asyncio
import hashlib
import re

import numpy as np

from shared.jobs.catalog.govsim import SimulateParams
from shared.jobs.references import Ref
from shared.llm.chat import ChatCall
from shared.llm.scripted import ScriptedChat
from workers.govsim.jobs import talk_through

MODEL = Ref("endpoint:test/model")
OTHER = Ref("endpoint:test/other")


class LetterEncoder:
    """A vector of the text's letters: near enough to meaning for a test, the same every time, at no cost."""

    def encode(self, text):
        digest = hashlib.blake2b(text.encode(), digest_size=32).digest()
        return np.frombuffer(digest, dtype=np.uint8).astype(np.float32) - 127.5


def society_script(units=10, utterances=9, insights=2, names=("John", "Kate", "Jack", "Emma", "Luke"), limit="N/A"):
    """Well-formed answers to every prompt of the simulation, each with the call's key so that texts differ."""

    def answer(call: ChatCall) -> str:
        key = re.sub(r"/again\d+$", "", call.key)
        kind = key.split("/")[2]
        if kind == "harvest":
            wanted = units(call) if callable(units) else units
            return f"I think about {call.key}.\nAnswer: {wanted} tons of fish"
        if kind == "utterance":
            step = int(key.rpartition("step")[2])
            ends = "yes" if step >= utterances else "no"
            speaker = names[step % len(names)]
            return f"Response: I say {call.key}\nI conclude the conversation (yes/no): {ends}\nNext speaker: {speaker}"
        if kind == "limit":
            return f"Let me see.\nAnswer: {limit(call) if callable(limit) else limit}"
        if kind == "insights":
            return "\n".join(f"{n}. Insight {n} of {call.key} (because of {n})" for n in range(1, insights + 1))
        if kind == "importance":
            return f"Rating: {3 + len(call.key) % 5}"
        return f"A sentence on {call.key}. And more."

    return answer


def talk(ctx, script=None, models=None, **params):
    """(params, result) of a talking society whose models are scripted."""
    params.setdefault("policies", {"type": "llm", "model": MODEL})
    params = SimulateParams(**params)
    models = models or {MODEL: ScriptedChat(script or society_script())}
    return params, asyncio.run(talk_through(params, ctx, models, LetterEncoder()))
