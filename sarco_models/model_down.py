"""The way down: a model as its difference to the one that a site holds already, exact to the last bit.

From round to round a model changes little, and a difference of bit patterns compresses to half of it or less, while the
model itself keeps nine tenths. A site that has lost the model says so and is sent it whole.
"""

from __future__ import annotations

from sarco_models.encoding import lengthen, shorten
from sarco_models.messages import Train, TrainOn
from sarco_models.parameters import Parameters


def shorter(request: Train, base: Parameters) -> TrainOn:
    """The same request, for a site that holds ``base``; it cannot be masked."""
    difference = shorten(request.parameters, base, encoding="float32", compress=True).update
    return TrainOn(request.study, request.setup, request.round, base.digest, difference)


def whole(request: TrainOn, base: Parameters) -> Train | None:
    """The request with its model, to the last bit; None where ``base`` is not the one that it builds on.

    Raises:
        ProtocolError: the difference is damaged, or of other tensors.
    """
    if base.digest != request.base:
        return None
    return Train(request.study, request.setup, request.round, lengthen(request.difference, base))
