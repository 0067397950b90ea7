"""A coordinator's home for tests, and hospitals' public halves to enrol in it."""

import json
import socket
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from server.founding import found
from server.home import Home
from tests.sites import STUDY


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def study_file(folder: Path) -> Path:
    """The tiny study of tables as TOML."""
    path = folder / "tiny.toml"
    lines = [f"{key} = {json.dumps(STUDY[key])}" for key in ("name", "title")]
    for table in ("label", "image", "augmentation", "model", "training", "federation"):
        lines += [f"[{table}]", *(f"{key} = {json.dumps(value)}" for key, value in STUDY[table].items())]
    for feature in STUDY["features"]:
        lines += ["[[features]]", *(f"{key} = {json.dumps(value)}" for key, value in feature.items())]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def a_home(folder: Path) -> Home:
    """A home on free ports of this machine."""
    found(folder / "home", f"localhost:{free_port()}", study_file(folder))
    path = folder / "home" / "coordinator.toml"
    text = path.read_text(encoding="utf-8").replace("superlink_port = 9092", f"superlink_port = {free_port()}")
    path.write_text(text.replace('"0.0.0.0"', '"127.0.0.1"'), encoding="utf-8")
    return Home.open(folder / "home")


def node_key(curve: ec.EllipticCurve | None = None) -> str:
    """A public key, as an ssh line."""
    key = ec.generate_private_key(curve or ec.SECP384R1()).public_key()
    return key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()


def a_pub(folder: Path, name: str, /, **changes: object) -> Path:
    """NAME.pub of a hospital, with new keys."""
    folder.mkdir(parents=True, exist_ok=True)
    identity = Ed25519PrivateKey.generate().public_key().public_bytes_raw().hex()
    half = {"version": 1, "name": name, "node_key": node_key(), "identity": identity, **changes}
    path = folder / f"{name}.pub"
    path.write_text(json.dumps(half), encoding="utf-8")
    return path
