"""Trains the model of `checkpoints/marian-toy` with Marian itself: it turns letters into capitals.

Needs pymarian 1.12. `expected.json` has the word scores that Marian prints for it with `--word-scores`:

    python -m support.foreign.train_marian FOLDER
"""

from __future__ import annotations

import os
import random
import sys
from pathlib import Path

import _pymarian

OPTIONS = (
    "--type transformer --train-sets train.src train.trg --vocabs vocab.yml vocab.yml --model model.npz --dim-emb 64 "
    "--transformer-heads 4 --enc-depth 2 --dec-depth 2 --transformer-dim-ffn 128 --transformer-ffn-activation swish "
    "--tied-embeddings-all --transformer-postprocess dan --transformer-postprocess-emb d --transformer-dropout 0 "
    "--label-smoothing 0.1 --learn-rate 0.002 --lr-warmup 60 --optimizer-params 0.9 0.98 1e-09 --clip-norm 5 "
    "--mini-batch 64 --maxi-batch 10 --after 500u --cpu-threads 1 --max-length 40 --workspace 512 --seed 1 --overwrite"
)
SEARCH = (
    "--models model.npz --vocabs vocab.yml vocab.yml --beam-size 4 --normalize 1 --n-best --word-scores --cpu-threads 1"
)
SENTENCES = ("a b c d e", "p o n m l k j i h g f e d c b a a b")


def main(folder: Path) -> None:
    """Write the text, train, and print what the model makes of two sentences."""
    folder.mkdir(parents=True, exist_ok=True)
    os.chdir(folder)
    rng, letters = random.Random(0), "abcdefghijklmnop"
    lines = [" ".join(rng.choices(letters, k=rng.randint(2, 12))) for _ in range(6000)]
    Path("train.src").write_text("\n".join(lines) + "\n")
    Path("train.trg").write_text("\n".join(lines).upper() + "\n")
    pieces = ["</s>", "<unk>", *letters, *letters.upper(), '\\"']
    Path("vocab.yml").write_text("".join(f'"{piece}": {place}\n' for place, piece in enumerate(pieces)))
    _pymarian.Trainer(OPTIONS).train()
    print(_pymarian.Translator(SEARCH).translate(list(SENTENCES)))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
