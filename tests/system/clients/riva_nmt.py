"""nvidia-riva-client, as a user has it, against the server at an address: prints what it got as JSON.

Runs in `.venv-clients`: its generated code and ours cannot be in one process.
"""

import json
import sys
from concurrent.futures import ThreadPoolExecutor

import grpc
import riva.client

ADDRESS, TEXTS = sys.argv[1], json.loads(sys.argv[2])


def client():
    return riva.client.NeuralMachineTranslationClient(riva.client.Auth(uri=ADDRESS))


def translated(its_client, texts=TEXTS, model="", target="de-DE", **options):
    return [it.text for it in its_client.translate(texts, model, "en-US", target, **options).translations]


def refused(act):
    try:
        act()
    except grpc.RpcError as error:
        return [error.code().name, error.details()]
    return None


def main():
    its_client = client()
    with ThreadPoolExecutor(8) as threads:
        side_by_side = list(threads.map(lambda _: translated(client()), range(8)))
    phrases = {"NIM": "", "house": "Hütte"}
    later = its_client.translate(TEXTS, "", "en", "de", future=True)
    given_up = its_client.translate(TEXTS * 50, "", "en", "de", future=True)
    given_up.cancel()
    found = {
        "sync": translated(its_client),
        "future": [it.text for it in later.result().translations],
        "given_up": given_up.cancelled(),
        "side_by_side": side_by_side,
        "language": its_client.translate(["a"], "", "en", "de-DE").translations[0].language,
        "phrases": translated(its_client, ["The NIM house is old."], dnt_phrases_dict=phrases),
        "marked": translated(its_client, ["We use <dnt>Old House</dnt> here."]),
        "short": translated(its_client, ["This is a rather long sentence about the weather."], max_len_variation="0"),
        "languages": {
            name: [list(pair.src_lang), list(pair.tgt_lang)]
            for name, pair in its_client.get_config("").languages.items()
        },
        "no_pair": refused(lambda: translated(its_client, target="xx")),
        "no_model": refused(lambda: translated(its_client, model="nothing")),
        "no_number": refused(lambda: translated(its_client, max_len_variation="x")),
    }
    json.dump(found, sys.stdout)


main()
