"""Would the coordinator let this hospital in? Asked as its SuperNode asks, with a request that cannot succeed.

The signed request to connect asks for a heartbeat of zero seconds. The gate judges it as any other, and Flower looks up
the key before it finds the heartbeat wrong: so who is enrolled hears of the heartbeat, and who was revoked, or has
another key than the one that was enrolled, hears of that. Nobody is connected by it, and no connection is disturbed.
"""

from __future__ import annotations

import base64
from datetime import UTC, datetime
from http import HTTPStatus
from http.client import HTTPConnection
from pathlib import Path

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_ssh_private_key

from client.contact import REMEDIES, SAYS, End, detail, refusal
from sarco_models.errors import ConfigError

ROUTE = "/v1/fleet/activate-node"
_MEDIA = "application/protobuf"
_WRONG_HEARTBEAT = "2003"
"""Flower's number for it, which an enrolled hospital is told."""

_LARGEST = 10_000
_KEY_FIELD = 0x0A
"""Of Flower's ActivateNodeRequest: field 1, bytes; field 2, the heartbeat, is zero where it is left out."""

_NOT_KNOWN = "the coordinator does not know this hospital's key: it was revoked, or another key is enrolled"
_NOT_YET = "this hospital is enrolled, and the coordinator's Flower does not know its key yet"
_WAIT = "try again in a minute; if it stays so, ask the coordinator for sarco-coordinator status"


def ask(line: HTTPConnection, node_key: Path) -> tuple[int, str]:
    """Knock with a hospital's node key; returns the answer's status and text.

    Raises:
        ConfigError: the key cannot be read.
        OSError: no answer came; or an HTTPException.
    """
    key = _read(node_key)
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    now = datetime.now(UTC).isoformat()
    headers = {
        "content-type": _MEDIA,
        "accept": _MEDIA,
        "flwr-public-key": base64.b64encode(public).decode("ascii"),
        "flwr-timestamp": now,
        "flwr-signature": base64.b64encode(key.sign(now.encode("ascii"), ec.ECDSA(hashes.SHA256()))).decode("ascii"),
    }
    line.request("POST", ROUTE, body=bytes([_KEY_FIELD]) + _length(len(public)) + public, headers=headers)
    answer = line.getresponse()
    return answer.status, answer.read(_LARGEST).decode("utf-8", "replace")


def judged(status: int, body: str) -> tuple[str, str, str]:
    """What the answer means: ``ok``, ``warning`` or ``fault``; in words; and what to do."""
    if status == HTTPStatus.BAD_REQUEST and _WRONG_HEARTBEAT in body:
        return "ok", "the coordinator knows this hospital's key and lets it in", ""
    end = refusal(status, body, None)
    if end is End.TWICE:  # of a heartbeat of zero, Flower says so only where it does not know the key
        return "warning", _NOT_YET, _WAIT
    if end is End.NOT_ADMITTED:
        return "fault", _NOT_KNOWN, REMEDIES[end]
    if end is not None:
        words = detail(body)
        return "fault", f"{SAYS[end]} (it says: {words})" if words else SAYS[end], REMEDIES[end]
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status == HTTPStatus.TOO_MANY_REQUESTS:
        return "warning", f"the coordinator cannot say it now (HTTP {status})", _WAIT
    value = f"HTTP {status} to a SuperNode's request, which the coordinator's gate does not answer like that"
    return "warning", value, "look for a proxy or a firewall between; ask the coordinator whether the address is right"


def _read(node_key: Path) -> ec.EllipticCurvePrivateKey:
    try:
        key = load_ssh_private_key(node_key.read_bytes(), None)
    except (OSError, ValueError):
        key = None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ConfigError(f"{node_key}: is no key that a SuperNode can sign with: restore it from your backup")
    return key


def _length(count: int) -> bytes:
    """As protobuf writes it: seven bits a byte, the lowest first."""
    found = bytearray()
    while count > 0x7F:
        found.append(count & 0x7F | 0x80)
        count >>= 7
    return bytes([*found, count])
