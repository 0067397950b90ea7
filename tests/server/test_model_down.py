"""What the coordinator takes a site to hold: the model of the last round that it answered, or nothing."""

import numpy as np

from sarco_models.messages import Describe, Masking, Train, TrainOn
from sarco_models.parameters import Manifest, Parameters
from server.model_down import ModelDown

MANIFEST = Manifest(("w",), ((50,),))


def round_(number: int) -> Train:
    return Train("study", "setup", number, Parameters(MANIFEST, np.full(50, 1 + number / 1000, dtype=np.float32)))


def base_of(request: object) -> str:
    assert isinstance(request, TrainOn)
    return request.base


def test_who_answered_a_round_gets_the_next_as_its_difference_and_all_get_one_object() -> None:
    model, first, second = ModelDown(on=True), round_(1), round_(2)
    assert model.lightest("a", first) is first
    for site in "ab":
        model.has(site, first)
    assert base_of(model.lightest("a", second)) == first.parameters.digest
    assert model.lightest("a", second) is model.lightest("b", second)
    assert model.lightest("c", second) is second


def test_a_study_that_does_not_compress_sends_everything_whole() -> None:
    model = ModelDown(on=False)
    model.has("a", round_(1))
    assert isinstance(model.lightest("a", round_(2)), Train)


def test_nothing_is_taken_for_granted_after_a_failure() -> None:
    model = ModelDown(on=True)
    model.has("a", round_(1))
    assert model.lost("a")
    assert not model.lost("a")
    assert isinstance(model.lightest("a", round_(2)), Train)


def test_a_round_that_is_repeated_goes_whole_to_who_has_its_model() -> None:
    model, first = ModelDown(on=True), round_(1)
    model.has("a", first)
    assert model.lightest("a", first) is first


def test_other_requests_are_left_as_they_are() -> None:
    model, masked = ModelDown(on=True), Train("study", "setup", 2, round_(2).parameters, Masking(1, 60, "[]"))
    model.has("a", round_(1))
    for request in (masked, Describe("study")):
        assert model.lightest("a", request) is request


def test_no_more_than_the_last_two_models_are_remembered() -> None:
    model, rounds = ModelDown(on=True), [round_(k) for k in range(1, 8)]
    model.has("away", rounds[0])
    for request in rounds:
        model.lightest("a", request)
        model.has("a", request)
        assert len({id(held) for held in model.held.values()}) <= 2
    assert "away" not in model.held
