"""Clients that people have installed go on working: the client and the stubs of an old commit, against this server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from dragoman_service.bundle.bundle import Bundle
from dragoman_service.client import Options, Sampling, TranslationClient
from support.server_process import server_process
from support.tiny import sentences

OLD = Path(__file__).parents[1] / "old_client"
SCRIPT = """
import asyncio, json, sys
from dragoman_service.client import AsyncTranslationClient, TranslationClient
from dragoman_service.client_errors import InvalidRequest, ModelNotFound
from dragoman_service.client_values import Options, Sampling

address, texts = sys.argv[1], json.loads(sys.argv[2])
options = Options(beam_size=3, num_hypotheses=2, max_length=20, return_tokens=True, return_token_scores=True)

def shown(translation):
    return [[it.text, it.score, it.tokens, it.token_scores, it.finish_reason.value] for it in translation.hypotheses]

with TranslationClient(address) as client:
    found = {"translated": [shown(it) for it in client.translate(texts, options)]}
    *pieces, last = client.translate_stream("\\n".join(texts), Options(beam_size=1, max_length=20))
    found["streamed"] = ["".join(pieces), last.text]
    drawn = client.translate(texts[:1], Options(max_length=20, sampling=Sampling(seed=7)))
    found["drawn"] = [it.text for it in drawn]
    found["models"] = [model.name for model in client.list_models()]
    faults = {"invalid": (InvalidRequest, Options(beam_size=99)), "missing": (ModelNotFound, Options(model="x"))}
    for name, (kind, bad) in faults.items():
        try:
            client.translate(["a"], bad)
        except kind as error:
            found[name] = [str(error), getattr(error, "field", ""), bool(error.request_id)]

async def many():
    async with AsyncTranslationClient(address) as client:
        return [it.text for it in await client.translate(texts, Options(beam_size=1, max_length=20))]

found["async"] = asyncio.run(many())
print(json.dumps(found))
"""


def test_the_client_and_the_stubs_of_an_old_commit_work(tiny_bundle: Bundle) -> None:
    texts = sentences(12, seed=5)
    with server_process([tiny_bundle.path]) as server:
        environment = os.environ | {"PYTHONPATH": str(OLD)}
        command = [sys.executable, "-c", SCRIPT, server.address, json.dumps(texts)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        found = json.loads(done.stdout)
        with TranslationClient(server.address) as client:
            shown = {"return_tokens": True, "return_token_scores": True}
            now = client.translate(texts, Options(beam_size=3, num_hypotheses=2, max_length=20, **shown))
            greedy = client.translate(texts, Options(beam_size=1, max_length=20))
            (drawn,) = client.translate(texts[:1], Options(max_length=20, sampling=Sampling(seed=7)))
    expected = [
        [[it.text, it.score, [*it.tokens], [*it.token_scores], it.finish_reason.value] for it in each.hypotheses]
        for each in now
    ]
    assert found["translated"] == expected
    assert found["async"] == [it.text for it in greedy]
    assert found["streamed"][0] == found["streamed"][1]
    assert found["drawn"] == [drawn.text]
    assert found["models"] == ["tiny"]
    assert found["invalid"][0].startswith("options.beam_size: got 99; allowed: 1 to 16")
    assert found["invalid"][1:] == ["options.beam_size", True]
    assert found["missing"][0].startswith("no model 'x'")
