"""Expansion of a corpus of a recipe that names several parts of a file."""

from __future__ import annotations

from typing import Any

from dragoman_service.errors import InvalidInput


def with_parts(settings: Any) -> Any:
    """The table `data`, with a corpus of its own for each item of a list in `where`.

    An item is a name, or a table with `name` and the fields `weight` and `limit`, which override those of the corpus.

    Raises:
        InvalidInput: an item is not of that form, or a name occurs twice.
    """
    if not isinstance(settings, dict) or not isinstance(settings.get("train"), list):
        return settings
    expanded: list[Any] = []
    for index, corpus in enumerate(settings["train"]):
        if not isinstance(corpus, dict) or not isinstance(corpus.get("where"), list):
            expanded.append(corpus)
            continue
        where = f"data.train[{index}].where"
        parts = [part if isinstance(part, dict) else {"name": part} for part in corpus["where"]]
        names = [part.get("name") for part in parts]
        if not names or not all(isinstance(name, str) for name in names):
            raise InvalidInput(where, corpus["where"], "names, or tables such as { name = 'tatoeba', weight = 2 }")
        if len(set(names)) < len(names):
            raise InvalidInput(where, corpus["where"], "each name once")
        for part in parts:
            own = {name: value for name, value in part.items() if name != "name"}
            if unknown := set(own) - {"weight", "limit"}:
                raise InvalidInput(f"{where}.{min(unknown)}", own[min(unknown)], "the fields name, weight, limit")
            expanded.append({**corpus, **own, "where": part["name"]})
    return {**settings, "train": expanded}
