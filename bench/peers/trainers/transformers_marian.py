"""Worker for MarianMT of Hugging Face transformers, in a minimal training loop.

Batches are sorted by length, as Dragoman's are. MarianMT has only post-norm, which takes the same time. In bf16 its
`eager` attention is faster than `sdpa`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import worker


def prepare(settings: worker.Settings) -> Callable[[], worker.Round]:
    """Set up a model and its optimiser before the first update."""
    import torch  # noqa: PLC0415
    from torch.nn import functional  # noqa: PLC0415
    from torch.nn.utils.rnn import pad_sequence  # noqa: PLC0415
    from transformers import MarianConfig, MarianMTModel  # noqa: PLC0415

    torch.set_num_threads(settings.threads)
    ids = worker.read_ids(settings)
    config = MarianConfig(
        vocab_size=ids.vocabulary,
        d_model=256,
        encoder_layers=6,
        decoder_layers=2,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=1024,
        decoder_ffn_dim=1024,
        activation_function="relu",
        dropout=0.1,
        attention_dropout=0.0,
        activation_dropout=0.0,
        max_position_embeddings=256,
        scale_embedding=True,
        share_encoder_decoder_embeddings=True,
        use_cache=False,
        pad_token_id=worker.PAD,
        bos_token_id=worker.BEGIN,
        eos_token_id=worker.END,
        decoder_start_token_id=worker.BEGIN,
        forced_eos_token_id=None,
        attn_implementation="eager" if settings.precision == "bf16" else "sdpa",
    )
    model = MarianMTModel(config).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4, betas=(0.9, 0.98), eps=1e-9, fused=True)
    sources = [torch.tensor([*source, worker.END]) for source in ids.source]
    targets = [torch.tensor([worker.BEGIN, *target, worker.END]) for target in ids.target]
    batches = worker.batches_for_ever(ids, settings.batch_tokens)

    def update() -> int:
        indices = next(batches)
        source = pad_sequence([sources[i] for i in indices], batch_first=True, padding_value=worker.PAD)
        target = pad_sequence([targets[i] for i in indices], batch_first=True, padding_value=worker.PAD)
        gold = target[:, 1:].flatten()
        tokens = int((gold != worker.PAD).sum())
        with torch.autocast("cpu", torch.bfloat16, enabled=settings.precision == "bf16"):
            logits = model(
                input_ids=source, attention_mask=(source != worker.PAD).long(), decoder_input_ids=target[:, :-1]
            ).logits
        loss = functional.cross_entropy(
            logits.flatten(0, 1).float(), gold, ignore_index=worker.PAD, reduction="sum", label_smoothing=0.1
        )
        optimizer.zero_grad(set_to_none=True)
        (loss / tokens).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        float(loss)
        return tokens

    return worker.rounds_of(update, settings)


if __name__ == "__main__":
    worker.serve(prepare, ["torch", "transformers"])
