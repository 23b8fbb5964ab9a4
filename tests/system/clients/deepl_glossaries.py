"""DeepL's client: glossaries of v2 and v3. Argument: address of a server whose glossaries are writable."""

import json
import sys

import deepl
from deepl.api_data import MultilingualGlossaryDictionaryEntries as Entries

client = deepl.DeepLClient("any key", server_url=sys.argv[1])


def refused(act):
    try:
        act()
    except deepl.DeepLException as error:
        return type(error).__name__
    return None


pairs = client.get_glossary_languages()
made = client.create_glossary("Houses", source_lang="EN", target_lang="DE", entries={"house": "Hütte", "US": "USA"})
text = "A house."
found = {
    "pairs": [[it.source_lang, it.target_lang] for it in pairs],
    "made": [
        made.name,
        made.ready,
        made.source_lang,
        made.target_lang,
        made.entry_count,
        made.creation_time.year > 2000,
    ],
    "same": client.get_glossary(made.glossary_id).glossary_id == made.glossary_id,
    "entries": client.get_glossary_entries(made),
    "listed": [it.name for it in client.list_glossaries()],
    "applied": client.translate_text(text, source_lang="EN", target_lang="DE", glossary=made).text,
    "applied_by_call": client.translate_text_with_glossary(text, made).text,
}
from_csv = client.create_glossary_from_csv("Table", source_lang="EN", target_lang="DE", csv_data='house,"Hütte, die"')
found["csv"] = client.get_glossary_entries(from_csv)
client.delete_glossary(from_csv)
client.delete_glossary(made)
found["gone"] = refused(lambda: client.get_glossary(made.glossary_id))
found["bad"] = refused(lambda: client.create_glossary("x", source_lang="EN", target_lang="FR", entries={"a": "b"}))

several = client.create_multilingual_glossary("Both", [Entries("EN", "DE", {"house": "Hütte"})])
dictionary = Entries("EN", "DE", {"cat": "Kater"})
client.update_multilingual_glossary_name(several, "Renamed")
updated = client.update_multilingual_glossary_dictionary(several, dictionary)
found["updated"] = [updated.name, [[it.source_lang, it.target_lang, it.entry_count] for it in updated.dictionaries]]
found["several_applied"] = client.translate_text(text, source_lang="EN", target_lang="DE", glossary=updated).text
replaced = client.replace_multilingual_glossary_dictionary(several, dictionary)
found["replaced"] = replaced.entry_count
(whole,) = client.get_multilingual_glossary_entries(several, "EN", "DE").dictionaries
found["whole"] = whole.entries
client.delete_multilingual_glossary_dictionary(several, replaced)
found["left"] = [it.name for it in client.list_multilingual_glossaries()]
again = client.create_multilingual_glossary_from_csv("Table", "EN", "DE", "house,Hütte")
found["again"] = client.get_multilingual_glossary(again.glossary_id).name
client.delete_multilingual_glossary(again)
found["none"] = refused(lambda: client.get_multilingual_glossary(again.glossary_id))
print(json.dumps(found))
