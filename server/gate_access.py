"""Who may pass the gate: enrolled hospitals that sign with their node key, at a bearable rate, with a right clock.

Flower's SuperLink checks signatures too, but only after it has read a whole body into memory, and it tells a hospital
nothing but "401". Here a stranger's body is never read, a revoked key stops at its next request, and a hospital is told
what is wrong. What comes out of here is a ``Pass`` or a ``Denied``; nothing is written and nothing is sent.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import ipaddress
import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

from sarco_models.errors import ConfigError
from server.certificates import node_public_key
from server.home import Enrolled, Home

KEY_HEADER = "flwr-public-key"
TIME_HEADER = "flwr-timestamp"
SIGNATURE_HEADER = "flwr-signature"
AHEAD_S = 5.0
BEHIND_S = 305.0
"""As Flower has them: what it would refuse is refused here, with a reason."""

BURST_S = 5.0
_MOST_ADDRESSES = 10_000
_WAIT_S, _HOUR_S = 5.0, 3600.0

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Pass:
    """An enrolled hospital's request, by its name."""

    site: str


@dataclass(frozen=True)
class Denied:
    """A request that is turned away.

    Attributes:
        code: one of ``refusals.REASONS``.
        status: what HTTP says of it.
        site: the hospital's name where its key is known.
        detail: values and limits, for the coordinator.
        told: what the other side is told, and what it can do.
    """

    code: str
    status: HTTPStatus
    told: str
    site: str = ""
    detail: str = ""


@dataclass(frozen=True)
class _Known:
    site: Enrolled
    key: ec.EllipticCurvePublicKey


class Access:
    """Decides about requests. Safe to use from several threads; follows sites.json as it changes."""

    def __init__(
        self, home: Home, clock: Callable[[], float] = time.time, steady: Callable[[], float] = time.monotonic
    ) -> None:
        """Read the list of hospitals.

        Raises:
            ConfigError: it is damaged, or a key in it is none.
        """
        self._home, self._clock = home, clock
        self._lock = threading.Lock()
        self._rates = Rates(home.config.gate.requests_per_second, steady)
        self._volume = Rates(home.config.gate.max_mb_per_hour * 2**20 / _HOUR_S, steady, burst_s=_HOUR_S)
        self._seen = self._stamp()
        self._known = _by_header(home.sites())

    def admit(self, headers: Mapping[str, str], address: str, certificate: bytes | None = None) -> Pass | Denied:
        """Judge one request by its headers alone.

        Args:
            headers: names in small letters.
            address: where it comes from; strangers are counted by it, hospitals by their key.
            certificate: what the other side showed in TLS (DER), checked against our authority already.
        """
        found = self._who(headers, certificate)
        if isinstance(found, Denied):
            if not self._rates.take(network_of(address)):
                return Denied("rate", HTTPStatus.TOO_MANY_REQUESTS, "too many requests: wait", site=found.site)
            return found
        if not self._rates.take(f"site {found.site}", wait_s=_WAIT_S):
            # 503 and not 429: Flower tries again after the one, and throws its update away after the other
            limit = f"more than {self._home.config.gate.requests_per_second:g} requests a second"
            return Denied("rate", HTTPStatus.SERVICE_UNAVAILABLE, f"{limit}: wait", site=found.site, detail=limit)
        return found

    def carry(self, site: str, length: int) -> bool:
        """Count so many bytes that a hospital is about to send; False: more than it may within an hour."""
        return self._volume.take(site, cost=length)

    def knock(self, address: str) -> bool:
        """Count something that is no request of a hospital; whether the address may go on."""
        return self._rates.take(network_of(address))

    def _who(self, headers: Mapping[str, str], certificate: bytes | None) -> Pass | Denied:
        shown, told, signature = (headers.get(name, "") for name in (KEY_HEADER, TIME_HEADER, SIGNATURE_HEADER))
        if not (shown and told and signature):
            return _denied("no-key", "this door is for SuperNodes with a node key: start it with sarco-site join")
        known = self._sites().get(shown)
        if known is None:
            print_ = _print_of(shown)
            return _denied(
                "unknown-key",
                f"this node key ({print_}) is not enrolled here: send your .pub file to the coordinator again",
                detail=print_,
            )
        return self._of_hospital(known, told, signature) or self._of_certificate(known, certificate)

    def _of_hospital(self, known: _Known, told: str, signature: str) -> Denied | None:
        name = known.site.name
        if known.site.revoked:
            detail = f"on {known.site.revoked}"
            return _denied("revoked", f"{name} was revoked {detail}: ask the coordinator", name, detail)
        wrong = _wrong_clock(told, self._clock())
        if wrong:
            return _denied("clock", f"the clock of this machine is {wrong}: let NTP set it", name, wrong)
        if not _signed(known.key, told, signature):
            return _denied("signature", "the signature is not of this node key: run sarco-site doctor", name)
        return None

    def _of_certificate(self, known: _Known, certificate: bytes | None) -> Pass | Denied:
        name = known.site.name
        if self._home.config.gate.client_certificates and not _same_key(certificate, known.key):
            return _denied("certificate", "the client certificate is not of this node key: ask for your kit", name)
        return Pass(name)

    def _sites(self) -> Mapping[str, _Known]:
        """Hospitals by the header that their SuperNode sends; read again when the list has changed."""
        stamp = self._stamp()
        if stamp != self._seen:
            with self._lock:
                try:
                    self._known, self._seen = _by_header(self._home.sites()), stamp
                except ConfigError as error:
                    log.error("%s; the gate goes on with the list that it has", error)
                    self._seen = stamp
        return self._known

    def _stamp(self) -> tuple[int, int, int]:
        try:
            about = self._home.sites_file.stat()
        except OSError:
            return (0, 0, 0)
        return (about.st_mtime_ns, about.st_ino, about.st_size)


class Rates:
    """So much a second of each name, with bursts of so many seconds; forgets who was longest away."""

    def __init__(
        self, per_second: float, steady: Callable[[], float] = time.monotonic, *, burst_s: float = BURST_S
    ) -> None:
        """``per_second`` is the limit of each name."""
        self._per_second, self._steady = per_second, steady
        self._most = max(1.0, per_second * burst_s)
        self._lock = threading.Lock()
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, name: str, *, cost: float = 1.0, wait_s: float = 0.0) -> bool:
        """Take a request's cost from what ``name`` has left, waiting up to ``wait_s``; False when it is too little."""
        with self._lock:
            now = self._steady()
            left, when = self._left.pop(name, (self._most, now))
            left = min(self._most, left + (now - when) * self._per_second) - cost
            debt_s = max(0.0, -left / self._per_second)
            granted = debt_s <= wait_s
            self._left[name] = (left if granted else left + cost, now)
            if len(self._left) > _MOST_ADDRESSES:
                self._left.popitem(last=False)
        if granted and debt_s:
            time.sleep(debt_s)
        return granted


def _header(key: ec.EllipticCurvePublicKey) -> str:
    return base64.b64encode(key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)).decode()


def _by_header(sites: tuple[Enrolled, ...]) -> dict[str, _Known]:
    """A key that was revoked stays so, also where it stands under another name too."""
    found: dict[str, _Known] = {}
    for site in sorted(sites, key=lambda site: bool(site.revoked)):
        key = node_public_key(site.node_key, site.name)
        found[_header(key)] = _Known(site, key)
    return found


def _denied(code: str, told: str, site: str = "", detail: str = "") -> Denied:
    return Denied(code, HTTPStatus.UNAUTHORIZED, told, site, detail)


def _wrong_clock(told: str, now: float) -> str:
    """Empty, or in words how wrong the other side's clock is."""
    try:
        stamp = datetime.fromisoformat(told)
    except ValueError:
        return "not readable"
    if stamp.tzinfo is None:
        return "not readable"
    age = now - stamp.timestamp()
    if age <= -AHEAD_S:
        return f"{-age:.0f} s ahead of the coordinator's, and the limit is {AHEAD_S:.0f} s"
    if age >= BEHIND_S:
        return f"{age:.0f} s behind the coordinator's, and the limit is {BEHIND_S:.0f} s"
    return ""


def _signed(key: ec.EllipticCurvePublicKey, told: str, signature: str) -> bool:
    try:
        key.verify(base64.b64decode(signature, validate=True), told.encode("ascii"), ec.ECDSA(hashes.SHA256()))
    except (InvalidSignature, binascii.Error, ValueError):
        return False
    return True


def _same_key(certificate: bytes | None, key: ec.EllipticCurvePublicKey) -> bool:
    return certificate is not None and x509.load_der_x509_certificate(certificate).public_key() == key


def _print_of(shown: str) -> str:
    """The fingerprint of a stranger's key, as ``ssh-keygen -l`` shows it of the .pub file's line."""
    try:
        key = load_pem_public_key(base64.b64decode(shown, validate=True))
        blob = key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).split()[1]
    except (ValueError, TypeError, UnsupportedAlgorithm, binascii.Error, IndexError):
        return "unreadable"
    return "SHA256:" + base64.b64encode(hashlib.sha256(base64.b64decode(blob)).digest()).decode().rstrip("=")


def network_of(address: str) -> str:
    """Strangers are counted by address; in IPv6, where everybody has many, by network."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address
    return str(ipaddress.ip_network((found, 64), strict=False)) if found.version == 6 else address
