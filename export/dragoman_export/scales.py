"""Whether the scales of an int8 bundle are those that its activations ask for.

Graphs and reference share them, so that no comparison of the two would notice.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from torch import Tensor

from dragoman_export.calibration import calibrate
from dragoman_export.precision import Prepared
from dragoman_export.quantise import least_integer

SENTENCES = 64
"""Sentences of the calibration that are looked at again, at most."""
CLOSE = 0.01
"""How far a range may be from one that was measured before channels were brought to a like size, as a share."""
LEAST_USED = 0.5
"""Share of its range that an activation must use on the average, where there are more sentences than are looked at."""
_DEAD = 1e-3
"""Of the largest channel: those below are of little account, and what they are is mostly rounding."""


def scale_problems(prepared: Prepared) -> Iterator[str]:
    """Run the model that is to be rounded once more on sentences of the calibration; yields what does not fit.

    Nothing may be cut off, and no scale may be so large that much of the 8 bits is never used.
    """
    rounding = prepared.rounding
    if not prepared.calibration:
        return
    ranges = calibrate(prepared.unrounded, prepared.calibration[:SENTENCES], prepared.max_length)
    steps = {name: scale * (255 + least_integer(name)) for name, scale in rounding.inputs.items()}
    inputs = {name: ranges.inputs[name].amax().view(1) for name in steps}
    yield from _misfits("what matrices read", inputs, steps, prepared)
    caches = {name: scale * 127 for name, scale in rounding.caches.items()}
    yield from _misfits("the caches", {name: ranges.outputs[name] for name in caches}, caches, prepared)


def _misfits(
    kind: str, ranges: Mapping[str, Tensor], largest: Mapping[str, Tensor], prepared: Prepared
) -> Iterator[str]:
    """Where ranges [n] are not those of the largest numbers that 8 bits can say, [n] or one for all."""
    shares = {name: (found / largest[name])[found > _DEAD * found.max()] for name, found in ranges.items()}
    alive = {name: share for name, share in shares.items() if len(share)}
    for name, share in alive.items():
        if not float(share.max()) <= 1 + CLOSE:
            yield f"the scale of {kind}, {name}, cuts off {float(share.max()) - 1:.1%} of its range"
    if not alive:
        return
    everything = len(prepared.calibration) <= SENTENCES
    used = [float(share.min() if everything else share.mean()) for share in alive.values()]
    got, allowed = (min(used), 1 - CLOSE) if everything else (sum(used) / len(used), LEAST_USED)
    if not got >= allowed:
        yield f"the scales of {kind} use {got:.1%} of 8 bits; allowed: {allowed:.0%} or more"
