"""Who stands in the gate at this moment: so many connections, and strangers make room for hospitals.

Somebody who opens connections and says nothing must not keep hospitals out. A connection is a stranger's until an
enrolled hospital has signed a request on it; when there is no room, the stranger who came first has to leave, or else
a connection of a hospital that has more than its share.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from server.gate_access import Rates, network_of


@dataclass(eq=False)
class Guest:
    """A connection.

    Attributes:
        sock: to speak over.
        address: where it comes from.
        network: of the address, as strangers are counted (:func:`network_of`).
        site: the enrolled hospital that has signed a request on it; empty: none has.
        busy: whether a request is under way.
    """

    sock: socket.socket
    address: str
    network: str = ""
    site: str = ""
    busy: bool = False

    def cut(self) -> None:
        """End the connection; whoever waits for it wakes up."""
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)


class Guests:
    """All connections of a gate. Safe to use from several threads."""

    def __init__(
        self, most: int, most_of_one: int, new_per_second: float, steady: Callable[[], float] = time.monotonic
    ) -> None:
        """The limits: of all connections, of those of one address, and of an address' new ones a second.

        In IPv6 a network of /64 is one address. ``most_of_one`` is also the share of one hospital where all are taken.
        """
        self._most, self._most_of_one, self._new_per_second = most, most_of_one, new_per_second
        self._arrivals = Rates(new_per_second, steady)
        self._lock = threading.Lock()
        self._here: dict[Guest, None] = {}

    def __len__(self) -> int:
        """How many connections are open."""
        return len(self._here)

    def enter(self, sock: socket.socket, address: str) -> Guest | str:
        """Take a connection in; or the limit that keeps it out, in words."""
        # a handshake costs milliseconds of a processor, and comes before anybody has said who they are
        network = network_of(address)
        if not self._arrivals.take(network):
            return f"{self._new_per_second:g} new connections a second from one address"
        with self._lock:
            of_one = [guest for guest in self._here if guest.network == network]
            if len(of_one) >= self._most_of_one and not self._leaves(of_one):
                return f"{self._most_of_one} connections from one address"
            if len(self._here) >= self._most and not self._leaves(list(self._here)):
                return f"{self._most} connections"
            guest = Guest(sock, address, network)
            self._here[guest] = None
            return guest

    def leave(self, guest: Guest) -> None:
        """A connection has ended."""
        with self._lock:
            self._here.pop(guest, None)

    def all(self) -> list[Guest]:
        """Those who are here now."""
        with self._lock:
            return list(self._here)

    def _leaves(self, guests: list[Guest]) -> bool:
        """Send the first stranger of these away, or one of a hospital that has more than its share; False: none is."""
        held = Counter(guest.site for guest in self._here)
        leaver = next((guest for guest in guests if not guest.site), None) or next(
            (guest for guest in guests if held[guest.site] > self._most_of_one), None
        )
        if leaver is None:
            return False
        del self._here[leaver]
        leaver.cut()
        return True
