"""Documents through DeepL's client. Arguments: the server's address, a file, and where its translation is written."""

import json
import sys

import deepl

url, path, output = sys.argv[1:]
client = deepl.DeepLClient("any key", server_url=url)
status = client.translate_document_from_filepath(path, output, target_lang="DE")
found = {"done": status.done, "characters": status.billed_characters}
try:
    client.translate_document(b"{", sys.stdout.buffer, target_lang="DE", filename="broken.json")
except deepl.DocumentTranslationException as error:
    found["error"] = str(error)
try:
    client.translate_document_upload(b"One.", target_lang="FR", filename="a.txt")
except deepl.DeepLException as error:
    found["refused"] = str(error)
print(json.dumps(found))
