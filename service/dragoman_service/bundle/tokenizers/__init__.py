"""Tokenizers of our own and of other families of translation models, behind one protocol.

Begin with `protocol`. `loading` makes a tokenizer from its description in a manifest; each kind has a module that reads
its files into the parts (`subwords`) that all kinds share: text to ids (`encoding`) and ids to text (`decoding`).

| kind | files: roles | settings |
|---|---|---|
| `dragoman` | `model` | |
| `marian` | `source_model`, `target_model`; if the vocabulary is not that of the models, `vocabulary`, and for a target side of its own `target_vocabulary` | `languages` of several targets |
| `m2m` | `model`, `vocabulary` | `languages`, `language_ids`; `target_in_source` (SMaLL-100) |
| `fairseq` | `model` | `languages`, `language_ids`; `legacy` (the source language stands last) |
| `pieces` | `vocabulary`, or `source_vocabulary` and `target_vocabulary`; `model`, or `source_model` and `target_model`, or none | see `pieces` |

Every kind but `dragoman` also has the settings `vocab_size` and `source_vocab_size`: rows of the model's tables, if they
are more than the vocabulary has ids. Files named `model` are SentencePiece models. A vocabulary is a JSON object, piece
-> id, and for `pieces` a JSON list. `languages` is BCP 47 tag -> the model's own code, `language_ids` that code -> id.
"""  # noqa: E501
