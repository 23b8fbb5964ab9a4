"""What the families of Hugging Face Transformers that stem from BART have in common: config.json, names of tensors."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dragoman_export.imports.architecture import Embeddings, Part, Sizes, layer_tensors
from dragoman_export.imports.files import digests, object_if_there, read_object
from dragoman_export.imports.formats.weights import read_weights
from dragoman_export.imports.imported import ImportOptions
from dragoman_export.imports.lazy import Claims, LazyTensor
from dragoman_export.imports.licence import licence_of
from dragoman_export.imports.switches import Switches, listed
from dragoman_service.errors import InvalidInput

ACTIVATIONS = {
    "relu": "relu",
    "swish": "swish",
    "silu": "swish",
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "quick_gelu": "gelu_sigmoid",
}
"""`activation_function` -> our name."""
PARTS = {
    "self_attention.query": "self_attn.q_proj",
    "self_attention.key": "self_attn.k_proj",
    "self_attention.value": "self_attn.v_proj",
    "self_attention.output": "self_attn.out_proj",
    "self_attention_residual.norm": "self_attn_layer_norm",
    "cross_attention.query": "encoder_attn.q_proj",
    "cross_attention.key": "encoder_attn.k_proj",
    "cross_attention.value": "encoder_attn.v_proj",
    "cross_attention.output": "encoder_attn.out_proj",
    "cross_attention_residual.norm": "encoder_attn_layer_norm",
    "feed_forward.inner": "fc1",
    "feed_forward.outer": "fc2",
    "feed_forward_residual.norm": "final_layer_norm",
}
"""Our name within a layer -> theirs."""
DROPOUTS = ("dropout", "attention_dropout", "activation_dropout")
_MOST_POSITIONS = 2**16
"""Most positions of a model. The families of today have 1,024 or fewer."""
LAYER_NORM_EPSILON = 1e-5
"""PyTorch's default, which these classes use."""
NO_EFFECT = frozenset(
    listed(
        """
    architectures attn_implementation auto_map chunk_size_feed_forward classif_dropout classifier_dropout
    decoder_layerdrop dtype encoder_layerdrop extra_pos_embeddings finetuning_task gradient_checkpointing
    hidden_size id2label init_std is_encoder_decoder label2id name_or_path num_attention_heads num_hidden_layers
    output_attentions output_hidden_states output_past prefix problem_type return_dict sep_token_id
    task_specific_params tf_legacy_loss tokenizer_class torch_dtype torchscript transformers_version use_bfloat16
    use_cache
    """
    )
)
"""Fields of config.json on which no translation depends: training, other frameworks, and names of other fields."""
GENERATION = frozenset(
    listed(
        """
    bad_words_ids begin_suppress_tokens diversity_penalty do_sample early_stopping encoder_no_repeat_ngram_size
    exponential_decay_length_penalty forced_bos_token_id forced_eos_token_id length_penalty max_length
    max_new_tokens min_length no_repeat_ngram_size num_beam_groups num_beams num_return_sequences output_scores
    remove_invalid_values renormalize_logits repetition_penalty return_dict_in_generate suppress_tokens
    temperature top_k top_p typical_p
    """
    )
)
"""Fields of generation_config.json, which stand in config.json of older checkpoints; `generation` reads them."""


@dataclass
class Folder:
    """A folder of Hugging Face while it is being read."""

    path: Path
    model_type: str
    options: ImportOptions
    config: Switches = field(init=False)
    tokenizer: dict[str, Any] = field(init=False)
    """tokenizer_config.json; empty if there is none."""
    tensors: Claims = field(init=False)
    notes: list[str] = field(default_factory=list)
    licence: str | None = field(init=False)
    used: list[Path] = field(init=False)
    """The files that the import depends on."""

    def __post_init__(self) -> None:
        self.config = Switches("config.json", read_object(self.path / "config.json"))
        self.config.fixed(
            model_type=self.model_type, is_decoder=False, is_encoder_decoder=True, add_cross_attention=False
        )
        self.config.fixed(tie_encoder_decoder=False, pruned_heads={}, quantization_config=None)
        self.tokenizer = object_if_there(self.path / "tokenizer_config.json")
        if given := self.tokenizer.get("sp_model_kwargs"):  # such as sampling of splits
            raise InvalidInput("tokenizer_config.json: sp_model_kwargs", given, "{}, SentencePiece as it is")
        tensors, files = read_weights(self.path)
        self.tensors = Claims(files[0].name, tensors)
        self.licence = self.options.licence or licence_of(self.path)
        self.used = [self.path / "config.json", *files]

    def sizes(self) -> Sizes:
        """The sizes of the layers."""
        it = self.config
        heads = it.integer("encoder_attention_heads")
        it.among("decoder_attention_heads", heads)
        names = ("encoder_layers", "decoder_layers", "encoder_ffn_dim", "decoder_ffn_dim")
        return Sizes(it.integer("d_model"), heads, *map(it.integer, names))

    def max_positions(self) -> int:
        """Most tokens of a source or target. Formulas have any number of positions, which become a table here."""
        return self.config.integer("max_position_embeddings", most=_MOST_POSITIONS)

    def settings(self) -> dict[str, Any]:
        """Fields of `ModelConfig` that are fields of config.json."""
        return {
            "activation": self.config.choice("activation_function", ACTIVATIONS),
            "embedding_scale": None if self.config.flag("scale_embedding") else 1.0,
            "layer_norm_epsilon": LAYER_NORM_EPSILON,
            **{name: self.config.number(name, 0.0) for name in DROPOUTS},
        }

    def layers(self, sizes: Sizes) -> dict[str, LazyTensor]:
        """Our parameters of all layers."""

        def find(part: Part) -> tuple[LazyTensor, LazyTensor]:
            theirs = f"model.{part.stack}.layers.{part.layer}.{PARTS[part.name]}"
            weight = self.tensors.take(f"{theirs}.weight", part.shape)
            return weight, self.tensors.take(f"{theirs}.bias", part.shape[:1])

        return layer_tensors(sizes, find)

    def norms(self, width: int, ours: str, theirs: str) -> dict[str, LazyTensor]:
        """Our parameters of a layer norm of each stack, such as `encoder_norm` for `model.encoder.layer_norm`."""
        return {
            f"{stack}_{ours}.{kind}": self.tensors.take(f"model.{stack}.{theirs}.{kind}", (width,))
            for stack in ("encoder", "decoder")
            for kind in ("weight", "bias")
        }

    def embeddings(self, source_words: int, target_words: int, width: int, bias: bool) -> Embeddings:
        """The embedding matrices as they stand in the file. Nothing is tied: a matrix of its own counts."""
        shared = (
            self.tensors.find("model.shared.weight", (target_words, width)) if source_words == target_words else None
        )
        source = self.tensors.find("model.encoder.embed_tokens.weight", (source_words, width)) or shared
        target = self.tensors.find("model.decoder.embed_tokens.weight", (target_words, width)) or shared
        if source is None:
            source = self.tensors.take("model.encoder.embed_tokens.weight", (source_words, width))
        if target is None:
            target = self.tensors.take("model.decoder.embed_tokens.weight", (target_words, width))
        output = self.tensors.find("lm_head.weight", (target_words, width))
        tied = self.config.flag("tie_word_embeddings", True)
        if output is None and not tied:
            self.tensors.take("lm_head.weight", (target_words, width))
        if output is not None and tied and not output.equals(target):
            self.notes.append(
                "lm_head.weight differs from the embeddings, although config.json ties them: it is the output layer, "
                "as in the file. Hugging Face Transformers ties them, and translates otherwise."
            )
        row = self.tensors.find("final_logits_bias", (1, target_words)) if bias else None
        return Embeddings(source, target, output or target, row.flat() if row else None)

    def origin(self, family: str) -> dict[str, Any]:
        """The origin for the manifest. All files must be in `used` by then."""
        return {"family": family, "name": self.path.resolve().name, "files": digests(self.used)}
