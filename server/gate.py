"""The gate: the only door of a coordinator that is open to the outside. ``python -m server.gate HOME``.

Behind it is Flower's SuperLink, which serves hospitals, operators and its own processes on one port and asks operators
for nothing. So the SuperLink listens on this machine alone, and the gate lets hospitals' requests through and nothing
else: TLS 1.2 or later, twelve exact routes, enrolled keys with a right clock, bounded bodies, rates and waits.

Each connection has a thread. Encryption and the network work outside of Python's lock, a body is in memory for one
window of 256 KB only, and the code of a connection reads from top to bottom.
"""

from __future__ import annotations

import contextlib
import logging
import resource
import signal
import socket
import ssl
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from sarco_models.errors import ConfigError, SarcoError
from server.certificates import Authority
from server.gate_access import Access
from server.gate_door import Connection, Door
from server.gate_guests import Guest, Guests
from server.gate_http import Paces
from server.gate_upstream import SuperLink
from server.home import Home
from server.refusals import Refusals
from server.renewal import expiry_warnings, renew_expiring

MOST_CONNECTIONS = 512
MOST_OF_ONE_ADDRESS = 128
NEW_CONNECTIONS_PER_SECOND = 50.0
GRACE_S = 8.0
"""Less than the patience of the supervisor."""
_TICK_S = 1.0
_HOUR_S, _DAY_S = 3600.0, 86400.0

_TLS_FAULTS = {
    "TLSV1_ALERT_UNKNOWN_CA": ("tls", "it does not know our authority"),
    "SSLV3_ALERT_BAD_CERTIFICATE": ("tls", "it does not accept our certificate"),
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": ("tls", "it does not accept our certificate"),
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": ("tls", "it says that our certificate has ended, or its clock is wrong"),
    "HTTP_REQUEST": ("tls", "it speaks without TLS"),
    "UNSUPPORTED_PROTOCOL": ("tls", "it offers no TLS 1.2 or later"),
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": ("no-certificate", "it showed none"),
    "CERTIFICATE_VERIFY_FAILED": ("no-certificate", "it is of another authority, or it has ended"),
}

log = logging.getLogger(__name__)


class Gate:
    """A running gate. ``start`` returns when it listens; ``stop`` lets what is under way end first."""

    def __init__(self, home: Home, *, paces: Paces | None = None) -> None:
        """Read certificates, keys and hospitals.

        Raises:
            ConfigError: one of them is absent or damaged.
        """
        self._home, self._paces = home, paces or Paces()
        self._context = _server_context(home)
        self._refusals = Refusals(home.refusals)
        superlink = SuperLink("127.0.0.1", home.config.superlink_port, home.ca)
        most_bytes = home.config.gate.max_body_mb * 2**20
        self._door = Door(Access(home), self._refusals, superlink, self._paces, most_bytes)
        self._certificate_seen = _stamp(home.certificate)
        self._guests = Guests(MOST_CONNECTIONS, MOST_OF_ONE_ADDRESS, NEW_CONNECTIONS_PER_SECOND)
        self._stopping = threading.Event()
        self._listener: socket.socket | None = None

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return int(self._listener.getsockname()[1]) if self._listener else self._home.config.gate.port

    def start(self, port: int | None = None) -> None:
        """Listen, and serve in threads of their own.

        Args:
            port: another than coordinator.toml names; 0 for a free one.

        Raises:
            ConfigError: the address cannot be listened on.
        """
        host, port = self._home.config.gate.host, self._home.config.gate.port if port is None else port
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        both = host == "::" and socket.has_dualstack_ipv6()
        try:
            listener = socket.create_server((host, port), family=family, backlog=256, dualstack_ipv6=both)
        except OSError as error:
            raise ConfigError(
                f"{self._home.folder / 'coordinator.toml'}, [gate] host = {host}, port = {port}: {error.strerror}: end "
                "what holds the port, or write another"
            ) from None
        self._listener = listener
        threading.Thread(target=self._accept, args=(listener,), name="accept", daemon=True).start()
        threading.Thread(target=self._tick, name="tick", daemon=True).start()
        log.info("the gate is open on %s:%d, for the SuperLink on %s", host, self.port, self._home.superlink)

    def stop(self, grace_s: float = GRACE_S) -> None:
        """Take no more, end idle connections, and wait for busy ones up to ``grace_s``."""
        self._stopping.set()
        if self._listener:
            with contextlib.suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
        deadline = time.monotonic() + grace_s
        while self._guests.all() and time.monotonic() < deadline:
            for guest in self._guests.all():
                if not guest.busy:
                    guest.cut()
            time.sleep(0.02)
        broken = self._guests.all()
        for guest in broken:
            guest.cut()
        self._door.superlink.close()
        with contextlib.suppress(OSError):
            self._refusals.flush()
        log.info("the gate is closed; %d connections were cut", len(broken))

    def _accept(self, listener: socket.socket) -> None:
        while not self._stopping.is_set():
            try:
                raw, peer = listener.accept()
            except OSError as error:
                if self._stopping.is_set():
                    return
                # too many open files, or the like: the door stays, and the next one is tried a little later
                log.error("cannot take a connection: %s", error.strerror)
                time.sleep(_TICK_S)
                continue
            address = str(peer[0]).removeprefix("::ffff:")
            guest = self._guests.enter(raw, address)
            if isinstance(guest, str):
                raw.close()
                self._door.refuse(address, "crowded", detail=f"the limit is {guest}")
                continue
            try:
                threading.Thread(target=self._serve, args=(guest,), daemon=True).start()
            except RuntimeError:
                log.error("cannot take a connection: this machine allows no more threads")
                self._guests.leave(guest)
                raw.close()

    def _serve(self, guest: Guest) -> None:
        try:
            guest.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            guest.sock.settimeout(self._paces.handshake_s)
            tls = self._context.wrap_socket(guest.sock, server_side=True, do_handshake_on_connect=False)
            guest.sock = tls
            tls.do_handshake()
            Connection(self._door, tls, guest).serve()
        except ssl.SSLError as error:
            self._tls_failed(guest.address, error)
        except OSError:
            log.debug("a connection broke")
        except Exception:
            # one connection's trouble must not become everybody's; no value of the request is in the text
            log.exception("a connection failed")
        finally:
            self._guests.leave(guest)
            with contextlib.suppress(OSError):
                guest.sock.close()

    def _tls_failed(self, address: str, error: ssl.SSLError) -> None:
        found = _TLS_FAULTS.get(error.reason or "")
        # somebody who goes away before saying anything looks whether the port is open: nothing to tell
        if found and self._door.access.knock(address):
            self._door.refuse(address, found[0], detail=found[1])

    def _tick(self) -> None:
        """Write what was refused; renew the certificate in time, and take up one that was renewed."""
        renewed = -_DAY_S
        told: dict[str, float] = {}
        while not self._stopping.wait(_TICK_S):
            try:
                self._refusals.flush(now=False)
                if time.monotonic() - renewed > _DAY_S:
                    renewed = time.monotonic()
                    self._renew()
                seen = _stamp(self._home.certificate)
                if seen and seen != self._certificate_seen:
                    self._context.load_cert_chain(self._home.certificate, self._home.key)
                    self._certificate_seen = seen
                    log.info("the gate shows its new certificate")
            except OSError as error:
                # a disk is full, or the like: once an hour, and not every second
                now, said = time.monotonic(), str(error)
                if now - told.get(said, -_HOUR_S) >= _HOUR_S:
                    told = {said: now}
                    log.error("%s: the gate goes on", said)

    def _renew(self) -> None:
        home = self._home
        try:
            renew_expiring(Authority(home.ca, home.ca.with_name("ca.key")), [home.certificate])
        except ConfigError as error:
            log.error("%s", error)
        for sentence in expiry_warnings([home.certificate, home.loopback_certificate, home.ca]):
            log.warning("%s", sentence)


def gate_command(home: Path) -> tuple[str, ...]:
    """The command that opens the gate of this home."""
    return (sys.executable, "-m", "server.gate", str(home))


def gate_ready(home: Home) -> Callable[[], bool]:
    """A look whether the gate takes connections."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(home.config.gate.host, home.config.gate.host)  # noqa: S104

    def ready() -> bool:
        try:
            with socket.create_connection((host, home.config.gate.port), timeout=1.0):
                return True
        except OSError:
            return False

    return ready


def gate_hopeless(exit_code: int, last_lines: str) -> str:
    """Why starting the gate again cannot help; empty where it may."""
    if exit_code != 1:
        return ""
    said = [line for line in last_lines.splitlines() if line.startswith("error: ")]
    return said[-1].removeprefix("error: ") if said else ""


def main(arguments: list[str]) -> int:
    """Open the gate of the home that is named, until SIGTERM or SIGINT. Exit 1: the home must be mended first."""
    logging.basicConfig(
        level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s", force=True
    )
    if len(arguments) != 1:
        sys.stderr.write("usage: python -m server.gate HOME\n")
        return 2
    _allow_files(2 * MOST_CONNECTIONS + 128)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    try:
        gate = Gate(Home.open(Path(arguments[0])))
        gate.start()
    except SarcoError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    stop.wait()
    gate.stop()
    return 0


def _allow_files(wanted: int) -> None:
    """A connection through the gate is two open files; many systems give a process 1024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def _server_context(home: Home) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    for path in (home.certificate, home.key, home.ca):
        if not path.is_file():
            raise ConfigError(f"{path}: is absent: restore it, or make it again: sarco-coordinator init {home.folder}")
    try:
        context.load_cert_chain(home.certificate, home.key)
        if home.config.gate.client_certificates:
            context.load_verify_locations(home.ca)
            context.verify_mode = ssl.CERT_REQUIRED
            context.verify_flags |= ssl.VERIFY_X509_STRICT
    except (ssl.SSLError, OSError) as error:
        raise ConfigError(
            f"{home.certificate}: cannot be used with {home.key.name} ({error}): restore both from one backup"
        ) from None
    return context


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        about = path.stat()
    except OSError:
        return None
    return about.st_mtime_ns, about.st_ino


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
