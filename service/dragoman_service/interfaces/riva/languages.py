"""ListSupportedLanguagePairs: its messages from those of `dragoman.v1`."""

from __future__ import annotations

from collections.abc import Sequence

from dragoman_protos.riva import nmt_pb2 as pb
from dragoman_protos.v1 import translation_pb2 as v1
from dragoman_service.interfaces.models import chosen, sources_of, targets_of

_MODEL_END = ":"


def language_pairs(
    request: pb.AvailableLanguageRequest, models: Sequence[v1.ModelInfo]
) -> pb.AvailableLanguageResponse:
    """The models, each with its sources and targets.

    The reply says that every source of a name is translated into every target. A model for which that is not so is
    listed once for each source, as NAME:SOURCE, which may be used as the name of the model. Raises NotFound.
    """
    reply = pb.AvailableLanguageResponse()
    for model in chosen(models, request.model.partition(_MODEL_END)[0]):
        sources, targets = sources_of(model), targets_of(model)
        into = {source: _targets_from(model, source) for source in sources}
        if all(len(into[source]) == len([target for target in targets if target != source]) for source in sources):
            reply.languages[model.name].src_lang.extend(sources)
            reply.languages[model.name].tgt_lang.extend(targets)
            continue
        for source in sources:
            name = f"{model.name}{_MODEL_END}{source}"
            reply.languages[name].src_lang.append(source)
            reply.languages[name].tgt_lang.extend(into[source])
    return reply


def _targets_from(model: v1.ModelInfo, source: str) -> list[str]:
    listed = [pair.target_language for pair in model.language_pairs if pair.source_language == source]
    product = model.target_languages if source in model.source_languages else ()
    return [target for target in dict.fromkeys([*listed, *product]) if target != source]
