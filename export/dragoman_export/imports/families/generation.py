"""Decoding as Hugging Face's generation_config.json describes it, or config.json of older checkpoints."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from dragoman_export.imports.families.hugging_face import Folder
from dragoman_export.imports.files import object_if_there
from dragoman_export.imports.imported import Generation
from dragoman_export.imports.switches import Switches, listed
from dragoman_service.errors import InvalidInput

_OPTIONS = {
    "constraints": None,
    "do_sample": False,
    "dola_layers": None,
    "encoder_no_repeat_ngram_size": 0,
    "encoder_repetition_penalty": 1.0,
    "exponential_decay_length_penalty": None,
    "force_words_ids": None,
    "forced_decoder_ids": None,
    "guidance_scale": None,
    "max_time": None,
    "min_length": 0,
    "min_new_tokens": None,
    "no_repeat_ngram_size": 0,
    "num_beam_groups": 1,
    "penalty_alpha": None,
    "repetition_penalty": 1.0,
    "sequence_bias": None,
    "stop_strings": None,
}
"""Options of a request in Dragoman, or not there -> the value that changes nothing."""
_FIELDS = (
    "bad_words_ids",
    "begin_suppress_tokens",
    "forced_bos_token_id",
    "forced_eos_token_id",
    "length_penalty",
    "num_beams",
    "suppress_tokens",
)
_NO_EFFECT = frozenset(
    listed(
        """
    assistant_confidence_threshold assistant_early_exit assistant_ensemble_weight assistant_lookbehind bos_token_id
    cache_config cache_implementation compile_config continuous_batching_config disable_compile diversity_penalty
    early_stopping epsilon_cutoff eta_cutoff is_assistant low_memory max_cache_len max_length max_matching_ngram_size
    max_new_tokens min_p num_assistant_tokens num_assistant_tokens_schedule num_return_sequences output_attentions
    output_hidden_states output_logits output_scores prefill_chunk_size prompt_lookup_num_tokens
    remove_invalid_values renormalize_logits return_dict return_dict_in_generate speculation_type target_lookbehind
    temperature top_h top_k top_p transformers_version typical_p use_cache use_mtp
    """
    )
)
"""Fields of kinds of decoding that are off, of memory and speed, and limits, which Dragoman takes from positions."""


@dataclass(frozen=True, slots=True)
class Decoding:
    """How a checkpoint wants to be decoded."""

    generation: Generation
    banned: frozenset[int]
    """Ids that the checkpoint never wants to see."""


def read_decoding(folder: Folder, *, begin_id: int, end_id: int, pad_id: int, max_positions: int) -> Decoding:
    """Read both files; what stands in generation_config.json counts. Without a number of beams, decoding is greedy.

    Args:
        folder: The folder.
        begin_id: Id that the decoder is fed first.
        end_id: Id of the end of the sentence.
        pad_id: Id of padding.
        max_positions: Most tokens of a source or target.

    Raises:
        InvalidInput: a field has a value that Dragoman cannot follow.
    """
    path = folder.path / "generation_config.json"
    newer = object_if_there(path)
    if path.is_file():
        folder.used.append(path)
    older = {name: folder.config.get(name) for name in (*_FIELDS, *_OPTIONS)}
    values = Switches(path.name if newer else "config.json", older | newer)
    values.among("forced_eos_token_id", end_id, [end_id])
    for name, number in (("eos_token_id", end_id), ("decoder_start_token_id", begin_id), ("pad_token_id", pad_id)):
        values.among(name, number, [number])  # Transformers decodes with these, not with those of config.json
    values.among("begin_suppress_tokens", [], None)
    if values.get("forced_bos_token_id") is not None:
        folder.notes.append("forced_bos_token_id is not applied: the target language of a request decides.")
    generation = Generation(
        beam_size=values.integer("num_beams", default=1),
        length_penalty=values.number("length_penalty", 1.0, least=0),
        length_form="power",
        max_source_tokens=max_positions,
        max_target_tokens=max_positions,
    )
    banned = _single(values.get("bad_words_ids", []), values) | _ids(values.get("suppress_tokens", []), values)
    ignored = [f"{name} {values.get(name)}" for name, usual in _OPTIONS.items() if values.get(name, usual) != usual]
    ignored += [
        f"{name} {newer[name]}"
        for name in sorted(newer)
        if newer[name] is not None and not (values.is_read(name) or name in _NO_EFFECT or name.startswith("_"))
    ]
    if ignored:
        folder.notes.append(
            f"Options of decoding that are not applied: {', '.join(ignored)}. A request may set its own."
        )
    return Decoding(generation, frozenset(banned))


def _single(words: Any, values: Switches) -> set[int]:
    if not isinstance(words, list) or not all(isinstance(it, list) and len(it) == 1 for it in words):
        raise values.refusal("bad_words_ids", "a list of lists of one id each")
    return _ids([it[0] for it in words], values, "bad_words_ids")


def _ids(ids: Any, values: Switches, name: str = "suppress_tokens") -> set[int]:
    if not isinstance(ids, list) or not all(type(it) is int and it >= 0 for it in ids):
        raise values.refusal(name, "a list of ids")
    return set(ids)


def banned_ids(ids: set[int], *, end_id: int, words: int) -> tuple[int, ...]:
    """The field of `ModelConfig`.

    Raises:
        InvalidInput: an id is not in the vocabulary, or ends the sentence.
    """
    for it in sorted(ids):
        if it >= words or it == end_id:
            raise InvalidInput("ids that no translation contains", it, f"less than {words}, and not {end_id}, the end")
    return tuple(sorted(ids))
