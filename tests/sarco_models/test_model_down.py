"""A model that goes down as a difference is the same model, and the same request."""

from dataclasses import replace

import numpy as np
import pytest

from sarco_models.errors import ProtocolError
from sarco_models.messages import Train, TrainOn
from sarco_models.model_down import shorter, whole
from sarco_models.parameters import Manifest, Parameters
from sarco_models.payload import digest_of

MANIFEST = Manifest(("w", "b"), ((100, 30), (40,)))
RNG = np.random.default_rng(4)
BEFORE = Parameters(MANIFEST, RNG.standard_normal(3040).astype(np.float32))
AFTER = Parameters(MANIFEST, BEFORE.vector * np.float32(1.0001))
REQUEST = Train("study", "setup", 2, AFTER)


def test_the_request_is_the_same_to_the_last_bit_in_fewer_bytes() -> None:
    short = shorter(REQUEST, BEFORE)
    found = whole(short, BEFORE)
    assert found is not None
    assert digest_of(found) == digest_of(REQUEST)
    assert len(short.difference.body) < 0.6 * AFTER.vector.nbytes


def test_it_builds_on_one_model_only() -> None:
    assert whole(shorter(REQUEST, BEFORE), AFTER) is None


def test_a_damaged_difference_is_refused() -> None:
    short = shorter(REQUEST, BEFORE)
    body = short.difference.body.copy()
    body[:] = 255
    with pytest.raises(ProtocolError, match="the message is damaged"):
        whole(replace(short, difference=replace(short.difference, body=body)), BEFORE)


def test_a_difference_of_other_tensors_is_refused() -> None:
    other = Parameters(Manifest(("v",), ((3040,),)), BEFORE.vector)
    short = shorter(Train("study", "setup", 2, other), other)
    with pytest.raises(ProtocolError, match="another study or version"):
        whole(TrainOn("study", "setup", 2, BEFORE.digest, short.difference), BEFORE)
