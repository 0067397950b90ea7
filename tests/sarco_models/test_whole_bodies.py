"""Bodies in one piece: nothing of them is lost or added, and a request that breaks off is no request."""

import asyncio
from typing import Any

import pytest

from sarco_models.whole_bodies import with_whole_bodies


def heard(messages: list[dict[str, Any]], kind: str = "http", *, times: int = 1) -> list[Any]:
    """What an application receives where these messages come."""
    coming, got = iter(messages), []

    async def receive() -> Any:
        return next(coming)

    async def send(_message: Any) -> None:
        raise AssertionError("nothing is sent")

    async def app(_scope: Any, receive: Any, _send: Any) -> None:
        got.extend([await receive() for _ in range(times)])

    asyncio.run(with_whole_bodies(app)({"type": kind}, receive, send))
    return got


def pieces(*bodies: bytes) -> list[dict[str, Any]]:
    last = len(bodies) - 1
    return [{"type": "http.request", "body": body, "more_body": at < last} for at, body in enumerate(bodies)]


@pytest.mark.parametrize("bodies", [(b"",), (b"abc",), (b"a", b"", b"bc"), (b"a" * 70_000, b"b" * 70_000)])
def test_a_body_comes_in_one_piece(bodies: tuple[bytes, ...]) -> None:
    assert heard(pieces(*bodies)) == pieces(b"".join(bodies))


def test_what_comes_after_the_body_is_passed_on() -> None:
    gone = {"type": "http.disconnect"}
    assert heard([*pieces(b"a", b"b"), gone], times=2) == [*pieces(b"ab"), gone]


def test_of_a_request_that_breaks_off_no_part_is_given() -> None:
    gone = {"type": "http.disconnect"}
    assert heard([*pieces(b"a", b"b")[:1], gone]) == [gone]


def test_what_is_no_request_is_left_as_it_is() -> None:
    started = {"type": "lifespan.startup"}
    assert heard([started], "lifespan") == [started]
