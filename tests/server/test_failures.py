"""Every reason why a contribution is missing has plain words that say what to do."""

import pytest
from flwr.common.constant import ErrorCode

from sarco_models.wire import Code
from server.failures import NO_ANSWER, flower_error, in_words, refused


@pytest.mark.parametrize("code", list(Code))
def test_every_code_of_a_refusal_is_said_in_words(code: Code) -> None:
    words = in_words(refused(code))
    assert words.startswith("refused: ")
    assert len(words.split()) > 5
    assert str(code) not in words


def test_every_error_of_the_installed_flower_is_said_in_words() -> None:
    numbers = [value for name, value in vars(ErrorCode).items() if name.isupper()]
    assert len(numbers) == 9
    for number in numbers:
        words = in_words(flower_error(number))
        assert not words.startswith("Flower error")
        assert str(number) not in words


def test_what_nobody_knows_stays_as_it_is() -> None:
    for reason in ("Flower error 99", "Flower error x", "refused: because", "answers in the name of north", ""):
        assert in_words(reason) == reason


@pytest.mark.parametrize("reason", [NO_ANSWER, "away"])
def test_a_site_that_is_silent_or_away_is_told_when_it_is_asked_again(reason: str) -> None:
    assert in_words(reason) != reason
    assert "again" in in_words(reason)
