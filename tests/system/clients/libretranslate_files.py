"""A file as LibreTranslate's documentation sends it, with requests. Arguments: the server's address and the file."""

import json
import sys
from pathlib import Path

import requests

url, path = sys.argv[1:]
with Path(path).open("rb") as file:
    fields = {"source": "en", "target": "de", "api_key": ""}
    sent = requests.post(f"{url}/translate_file", data=fields, files={"file": file}, timeout=60)
address = sent.json()["translatedFileUrl"]
print(json.dumps({"address": address, "content": requests.get(address, timeout=60).text}))
