"""google-cloud-translate, v3 over REST. Argument: address of the server, https://... or http://..."""

import json
import sys

from google.api_core.exceptions import GoogleAPICallError
from google.auth.credentials import AnonymousCredentials
from google.cloud.translate_v3 import TranslationServiceClient
from google.cloud.translate_v3.services.translation_service.transports import TranslationServiceRestTransport

scheme, _, host = sys.argv[1].partition("://")
client = TranslationServiceClient(
    transport=TranslationServiceRestTransport(host=host, url_scheme=scheme, credentials=AnonymousCredentials())
)
parent = "projects/p/locations/global"
reply = client.translate_text(
    parent=parent,
    contents=["Good morning!"],
    mime_type="text/plain",
    source_language_code="en",
    target_language_code="de",
)
found = {
    "translate": [it.translated_text for it in reply.translations],
    "detect": client.detect_language(parent=parent, content="This is English.").languages[0].language_code,
    "languages": [it.language_code for it in client.get_supported_languages(parent=parent).languages],
}
name = f"{parent}/glossaries/rest"
pair = {"source_language_code": "en", "target_language_code": "de"}
made = client.create_glossary(parent=parent, glossary={"name": name, "language_pair": pair}).result(timeout=30)
terms = {"source_term": {"text": "house"}, "target_term": {"text": "Haus"}}
entry = client.create_glossary_entry(parent=name, glossary_entry={"terms_pair": terms})
terms["target_term"]["text"] = "Hütte"
client.update_glossary_entry(glossary_entry={"name": entry.name, "terms_pair": terms})
entries = [it.terms_pair for it in client.list_glossary_entries(parent=name)]
with_glossary = client.translate_text(
    request={
        "parent": parent,
        "contents": ["A house."],
        "mime_type": "text/plain",
        "glossary_config": {"glossary": name},
        **pair,
    }
).glossary_translations
renamed = client.update_glossary(glossary={"name": name, "display_name": "Renamed"}).result(timeout=30)
found["glossaries"] = {
    "made": made.name,
    "listed": [it.name for it in client.list_glossaries(parent=parent)],
    "entries": [[it.source_term.text, it.target_term.text] for it in entries],
    "applied": "Hütte" in with_glossary[0].translated_text,
    "renamed": renamed.display_name,
    "deleted": client.delete_glossary(name=name).result(timeout=30).name,
    "left": [it.name for it in client.list_glossaries(parent=parent)],
}
try:
    client.translate_text(parent=parent, contents=["a"], target_language_code="zz")
except GoogleAPICallError as error:
    found["error"] = [type(error).__name__, error.code]
print(json.dumps(found))
