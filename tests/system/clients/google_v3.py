"""google-cloud-translate, as a user has it, against the server at an address: prints what it got as JSON.

Runs in `.venv-clients`: its generated code and ours cannot be in one process.
"""

import asyncio
import json
import sys
from concurrent.futures import ThreadPoolExecutor

import grpc
from google.api_core import exceptions
from google.cloud import translate_v3
from google.cloud.translate_v3.services.translation_service.transports import (
    TranslationServiceGrpcAsyncIOTransport,
    TranslationServiceGrpcTransport,
)

PARENT = "projects/any/locations/global"
ADDRESS, TEXTS = sys.argv[1], json.loads(sys.argv[2])


def client():
    channel = grpc.insecure_channel(ADDRESS)
    return translate_v3.TranslationServiceClient(transport=TranslationServiceGrpcTransport(channel=channel))


def translated(its_client, **fields):
    request = {
        "parent": PARENT, "contents": TEXTS, "mime_type": "text/plain", "source_language_code": "en",
        "target_language_code": "de", **fields,
    }  # fmt: skip
    return [it.translated_text for it in its_client.translate_text(request=request).translations]


async def translated_async():
    transport = TranslationServiceGrpcAsyncIOTransport(channel=grpc.aio.insecure_channel(ADDRESS))
    its_client = translate_v3.TranslationServiceAsyncClient(transport=transport)
    reply = await its_client.translate_text(
        parent=PARENT, contents=TEXTS, mime_type="text/plain", source_language_code="en", target_language_code="de"
    )
    return [it.translated_text for it in reply.translations]


def refused(act):
    try:
        act()
    except exceptions.GoogleAPICallError as error:
        return [type(error).__name__, error.reason]
    return None


def entries_of(its_client, glossary):
    pairs = (entry.terms_pair for entry in its_client.list_glossary_entries(parent=glossary))
    return [[pair.source_term.text, pair.target_term.text] for pair in pairs]


def glossaries(its_client):
    glossary = f"{PARENT}/glossaries/stock"
    pair = {"source_language_code": "en", "target_language_code": "de"}
    made = its_client.create_glossary(parent=PARENT, glossary={"name": glossary, "language_pair": pair}).result()
    terms = {"source_term": {"text": "house"}, "target_term": {"text": "Hütte"}}
    entry = its_client.create_glossary_entry(parent=glossary, glossary_entry={"terms_pair": terms})
    request = {
        "parent": PARENT, "contents": ["The house is old."], "mime_type": "text/plain", "source_language_code": "en",
        "target_language_code": "de", "glossary_config": {"glossary": glossary},
    }  # fmt: skip
    reply = its_client.translate_text(request=request)
    found = {
        "made": made.name,
        "listed": [it.name for it in its_client.list_glossaries(parent=PARENT)],
        "entries": entries_of(its_client, glossary),
        "applied": ["Hütte" in it[0].translated_text for it in (reply.translations, reply.glossary_translations)],
    }
    its_client.delete_glossary_entry(name=entry.name)
    found["left"] = entries_of(its_client, glossary)
    found["deleted"] = its_client.delete_glossary(name=glossary).result().name
    return found


def main():
    its_client = client()
    with ThreadPoolExecutor(8) as threads:
        side_by_side = list(threads.map(lambda _: translated(client()), range(8)))
    html = {"contents": ["<b>Good morning!</b>"], "mime_type": "", "source_language_code": ""}
    shown = its_client.get_supported_languages(parent=PARENT, display_language_code="en").languages
    found = {
        "sync": translated(its_client),
        "async": asyncio.run(translated_async()),
        "side_by_side": side_by_side,
        "html": translated(its_client, **html),
        "detected": its_client.detect_language(parent=PARENT, content="Guten Morgen!").languages[0].language_code,
        "languages": [[it.language_code, it.display_name, it.support_source, it.support_target] for it in shown],
        "glossaries": glossaries(its_client),
        "no_pair": refused(lambda: translated(its_client, target_language_code="xx")),
        "no_model": refused(lambda: translated(its_client, model=f"{PARENT}/models/nothing")),
        "no_texts": refused(lambda: translated(its_client, contents=[])),
        "unserved": refused(lambda: its_client.romanize_text(parent=PARENT, contents=["a"])),
        "late": refused(
            lambda: its_client.translate_text(
                parent=PARENT, contents=TEXTS * 50, target_language_code="de", timeout=0.02
            )
        ),
    }
    json.dump(found, sys.stdout)


main()
