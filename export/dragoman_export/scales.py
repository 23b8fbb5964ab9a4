"""Verification of the scales of an int8 bundle, by its activations.

The graphs and their reference share the scales, so a comparison of the two does not detect wrong scales.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from torch import Tensor

from dragoman_export.calibration import calibrate
from dragoman_export.precision import Prepared

SENTENCES = 64
"""Largest number of sentences of the calibration that are run again."""
CLOSE = 0.01
"""Tolerance of a range, as a share. The scales are computed from ranges that were measured before equalisation."""
LEAST_USED = 0.5
"""Least share of a range that the activations must use on average, if the calibration has more than `SENTENCES`."""
_DEAD = 1e-3
"""Channels below this share of the largest channel are not checked. Their numbers are small, and mostly rounding."""


def scale_problems(prepared: Prepared) -> Iterator[str]:
    """Run the unrounded model again on sentences of the calibration, and yield the problems of the scales.

    A scale must not clip numbers, and must not be so large that a large part of the 8 bits is never used.
    """
    rounding = prepared.rounding
    if not prepared.calibration:
        return
    forced = prepared.forced and prepared.forced[:SENTENCES]
    ranges = calibrate(prepared.unrounded, prepared.calibration[:SENTENCES], prepared.max_length, forced)
    steps = {name: scale * (255 + rounding.least(name)) for name, scale in rounding.inputs.items()}
    inputs = {name: ranges.inputs[name].amax().view(1) for name in steps}
    yield from _misfits("the inputs of matrices", inputs, steps, prepared)
    caches = {name: scale * 127 for name, scale in rounding.caches.items()}
    yield from _misfits("the caches", {name: ranges.outputs[name] for name in caches}, caches, prepared)


def _misfits(
    kind: str, ranges: Mapping[str, Tensor], largest: Mapping[str, Tensor], prepared: Prepared
) -> Iterator[str]:
    """Yield the scales that do not fit.

    Args:
        kind: Kind of the scales, for the message.
        ranges: Name -> measured ranges, [n].
        largest: Name -> the largest numbers that 8 bits can represent, [n] or one for all.
        prepared: The model.
    """
    shares = {name: (found / largest[name])[found > _DEAD * found.max()] for name, found in ranges.items()}
    alive = {name: share for name, share in shares.items() if len(share)}
    for name, share in alive.items():
        if not float(share.max()) <= 1 + CLOSE:
            yield f"the scale of {kind}, {name}, cuts off numbers that exceed its range by {float(share.max()) - 1:.1%}"
    if not alive:
        return
    everything = len(prepared.calibration) <= SENTENCES
    used = [float(share.min() if everything else share.mean()) for share in alive.values()]
    got, allowed = (min(used), 1 - CLOSE) if everything else (sum(used) / len(used), LEAST_USED)
    if not got >= allowed:
        yield f"the scales of {kind} use {got:.1%} of 8 bits; allowed: {allowed:.0%} or more"
