"""Rates and room at the gate: so many and no more, and strangers never at the cost of hospitals."""

import socket
from collections.abc import Iterator

import pytest

from server.gate_access import BURST_S, Rates, _header, _wrong_clock, network_of
from server.gate_guests import Guest, Guests
from tests.server.gate_rig import Hospital


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def sockets() -> Iterator[list[socket.socket]]:
    made = [socket.socket() for _ in range(8)]
    yield made
    for each in made:
        each.close()


def test_a_burst_passes_and_then_the_rate(clock: Clock) -> None:
    rates = Rates(10, clock)
    assert [rates.take("a") for _ in range(60)].count(True) == 10 * BURST_S
    clock.now += 1
    assert [rates.take("a") for _ in range(20)].count(True) == 10
    clock.now += 1000
    assert [rates.take("a") for _ in range(60)].count(True) == 10 * BURST_S


def test_one_name_costs_another_nothing(clock: Clock) -> None:
    rates = Rates(1, clock)
    while rates.take("a"):
        pass
    assert rates.take("b")


def test_who_may_wait_is_let_in_later_in_turn(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr("server.gate_access.time.sleep", slept.append)
    rates = Rates(10, clock)
    assert all(rates.take("a", wait_s=5) for _ in range(100))
    assert slept == pytest.approx([k / 10 for k in range(1, 51)])
    assert not rates.take("a", wait_s=5)


def test_a_rate_below_one_lets_one_pass(clock: Clock) -> None:
    rates = Rates(0.01, clock)
    assert rates.take("a")
    assert not rates.take("a")


def test_addresses_are_forgotten_before_they_fill_the_memory(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.gate_access._MOST_ADDRESSES", 100)
    rates = Rates(1, clock)
    for k in range(1000):
        rates.take(f"address {k}")
    assert len(rates._left) == 100


def test_in_ipv6_a_network_is_one() -> None:
    assert network_of("2001:db8::1") == network_of("2001:db8::ffff:1")
    assert network_of("2001:db8::1") != network_of("2001:db8:0:1::1")
    assert network_of("192.0.2.1") != network_of("192.0.2.2")


def test_the_limits_of_a_clock_are_those_of_flower() -> None:
    from flwr.common.constant import SYSTEM_TIME_TOLERANCE, TIMESTAMP_TOLERANCE

    told = "2026-11-20T12:00:00+00:00"
    now = 1_795_176_000.0
    assert _wrong_clock(told, now) == ""
    assert _wrong_clock(told, now + TIMESTAMP_TOLERANCE + SYSTEM_TIME_TOLERANCE - 0.1) == ""
    assert "behind" in _wrong_clock(told, now + TIMESTAMP_TOLERANCE + SYSTEM_TIME_TOLERANCE)
    assert _wrong_clock(told, now - SYSTEM_TIME_TOLERANCE + 0.1) == ""
    assert "ahead" in _wrong_clock(told, now - SYSTEM_TIME_TOLERANCE)


def test_a_key_is_known_by_what_flowers_supernode_sends() -> None:
    from base64 import b64encode

    from flwr.supercore.primitives.asymmetric import public_key_to_bytes

    public = Hospital("a").key.public_key()
    assert _header(public) == b64encode(public_key_to_bytes(public)).decode("ascii")


def test_the_stranger_who_came_first_makes_room(clock: Clock, sockets: list[socket.socket]) -> None:
    guests = Guests(3, 3, 100, clock)
    known, first, second = (_entered(guests, sock, f"address {k}") for k, sock in enumerate(sockets[:3]))
    known.site = "alpha"
    third = _entered(guests, sockets[3], "address 3")
    assert guests.all() == [known, second, third]
    guests.leave(first)
    assert len(guests) == 3


def test_where_all_are_hospitals_nobody_has_to_leave(clock: Clock, sockets: list[socket.socket]) -> None:
    guests = Guests(2, 2, 100, clock)
    for sock in sockets[:2]:
        _entered(guests, sock, "a").site = "alpha"
    assert guests.enter(sockets[2], "a") == "2 connections from one address"
    assert guests.enter(sockets[3], "b") == "2 connections"


def test_a_flood_from_one_address_costs_that_address_its_own(clock: Clock, sockets: list[socket.socket]) -> None:
    guests = Guests(100, 2, 100, clock)
    other = _entered(guests, sockets[0], "other")
    flood = [_entered(guests, sock, "flood") for sock in sockets[1:6]]
    assert guests.all() == [other, *flood[-2:]]


def test_in_ipv6_connections_are_counted_by_network(clock: Clock, sockets: list[socket.socket]) -> None:
    guests = Guests(100, 2, 1, clock)
    flood = [_entered(guests, sock, f"2001:db8::{k}") for k, sock in enumerate(sockets[:5])]
    assert guests.all() == flood[-2:]
    assert guests.enter(sockets[5], "2001:db8::ffff") == "1 new connections a second from one address"


def test_a_hospital_with_many_addresses_makes_room_when_all_is_taken(
    clock: Clock, sockets: list[socket.socket]
) -> None:
    guests = Guests(4, 2, 100, clock)
    for k, sock in enumerate(sockets[:4]):
        _entered(guests, sock, f"address {k}").site = "beta" if k == 0 else "greedy"
    beta, first, *others = guests.all()
    new = _entered(guests, sockets[4], "address 4")
    assert guests.all() == [beta, *others, new]
    assert first not in guests.all()
    new.site = "gamma"
    assert guests.enter(sockets[5], "address 5") == "4 connections", "nobody has more than their share of 2"


def test_new_connections_have_a_rate(clock: Clock, sockets: list[socket.socket]) -> None:
    guests = Guests(100, 100, 0.2, clock)
    assert isinstance(guests.enter(sockets[0], "a"), Guest)
    assert guests.enter(sockets[1], "a") == "0.2 new connections a second from one address"
    assert isinstance(guests.enter(sockets[2], "b"), Guest)


def _entered(guests: Guests, sock: socket.socket, address: str) -> Guest:
    guest = guests.enter(sock, address)
    assert isinstance(guest, Guest)
    return guest
