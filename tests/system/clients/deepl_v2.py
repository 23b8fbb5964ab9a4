"""DeepL's client. Argument: address of the server."""

import json
import sys

import deepl

client = deepl.DeepLClient("any key", server_url=sys.argv[1])
both = client.translate_text(["Good morning!", "Two."], target_lang="DE")
html = client.translate_text("<b>Good morning!</b>", source_lang="EN", target_lang="DE", tag_handling="html")
found = {
    "translate": [[it.text, it.detected_source_lang, it.billed_characters] for it in both],
    "html": html.text,
    "sources": [it.code for it in client.get_source_languages()],
    "targets": [[it.code, it.name] for it in client.get_target_languages()],
    "usage": client.get_usage().character.valid,
}
try:
    client.translate_text("a", target_lang="FR")
except deepl.DeepLException as error:
    found["error"] = f"{type(error).__name__}: {error}"
print(json.dumps(found))
