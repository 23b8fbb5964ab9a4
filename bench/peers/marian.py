"""MarianMT models of the same sizes, with random weights, for Hugging Face transformers and optimum-onnx.

They have other weights than Dragoman's models and are post-norm, but matrices of the same shapes, so only the engines'
speed can be compared. They never end a sentence, and are asked for a number of tokens.
"""

from __future__ import annotations

import logging
import shutil
import tempfile
import warnings
from pathlib import Path
from typing import Any

import torch
from transformers import GenerationConfig, MarianConfig, MarianMTModel

from bench.peers.grow import OUT_OF_REACH
from dragoman_model.config import ModelConfig
from dragoman_service.bundle.tokenizer import SPECIAL_IDS


def marian_config(config: ModelConfig) -> MarianConfig:
    """The configuration of MarianMT with the sizes of `config`."""
    pad, begin, end, _ = SPECIAL_IDS.values()
    return MarianConfig(
        vocab_size=config.vocab_size,
        d_model=config.d_model,
        encoder_layers=config.encoder_layers,
        decoder_layers=config.decoder_layers,
        encoder_attention_heads=config.num_heads,
        decoder_attention_heads=config.num_heads,
        encoder_ffn_dim=config.d_ff,
        decoder_ffn_dim=config.d_ff,
        activation_function="relu",
        max_position_embeddings=config.max_positions,
        scale_embedding=True,
        pad_token_id=pad,
        bos_token_id=begin,
        eos_token_id=end,
        decoder_start_token_id=begin,
        forced_eos_token_id=None,
    )


def write_marian(config: ModelConfig, output: Path) -> None:
    """Write a MarianMTModel folder with the sizes of `config`."""
    pad, begin, end, unknown = SPECIAL_IDS.values()
    torch.manual_seed(0)
    model = MarianMTModel(marian_config(config)).eval()
    model.final_logits_bias[0, [pad, begin, end, unknown]] = OUT_OF_REACH
    model.generation_config = GenerationConfig(
        pad_token_id=pad, eos_token_id=end, decoder_start_token_id=begin, forced_eos_token_id=None
    )
    model.save_pretrained(output)


def write_marian_onnx(marian: Path, output: Path, precision: str) -> None:
    """Export a MarianMTModel folder as optimum-onnx does: fp32, or dynamic int8 by `ORTQuantizer`."""
    _quiet()
    from optimum.onnxruntime import AutoQuantizationConfig, ORTModelForSeq2SeqLM, ORTQuantizer  # noqa: PLC0415

    with tempfile.TemporaryDirectory() as name:
        staging = Path(name)
        ORTModelForSeq2SeqLM.from_pretrained(str(marian), export=True, use_merged=True).save_pretrained(staging)
        if precision == "fp32":
            shutil.copytree(staging, output)
            return
        config = AutoQuantizationConfig.avx2(is_static=False, per_channel=True)
        shutil.copytree(staging, output, ignore=shutil.ignore_patterns("*.onnx"))
        for file in ("encoder_model.onnx", "decoder_model_merged.onnx"):
            ORTQuantizer.from_pretrained(str(staging), file_name=file).quantize(
                save_dir=str(output), quantization_config=config, file_suffix=""
            )


def load_marian(folder: Path) -> Any:
    """Load the PyTorch model."""
    return MarianMTModel.from_pretrained(folder).eval()


def load_marian_onnx(folder: Path, threads: int) -> Any:
    """Load the ONNX model."""
    _quiet()
    from optimum.onnxruntime import ORTModelForSeq2SeqLM  # noqa: PLC0415

    from dragoman_service.runtime.ort import onnxruntime  # noqa: PLC0415

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return ORTModelForSeq2SeqLM.from_pretrained(str(folder), session_options=options, use_merged=True)


def _quiet() -> None:
    """Turn off warnings: the exporters have many about their own internals."""
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
