"""How a hospital's update travels, in how many bytes, in plain words."""

from __future__ import annotations

from collections.abc import Iterator

from sarco_models.encoding import most_bytes
from sarco_models.federating import FederationConfig
from sarco_models.parameters import Manifest

_LEFT = "What rounding leaves stays here and is added to your next update."
_FORMS = {
    "float32": "It travels as the difference to the model that came down, exact to the last bit.",
    "bf16": f"Its numbers are rounded to 8 binary digits (bf16). {_LEFT}",
    "int8": f"Its numbers are rounded to 255 steps in each row of a tensor (int8). {_LEFT}",
}
NO_PROTECTION = "Rounding saves bytes. It protects nobody."


def travel(cfg: FederationConfig, manifest: Manifest, names: str) -> Iterator[str]:
    """What goes up in a round and over the study, and in which form.

    Args:
        cfg: the study's.
        manifest: of what its rounds carry.
        names: of its tensors, as far as they are shown.
    """
    up, down = most_bytes(manifest, cfg.encoding), most_bytes(manifest, "float32")
    most = "at most " if cfg.compression == "zstd" else ""
    yield f"Your update: {most}{amount(up)}, {len(manifest.names)} tensors ({names})."
    if cfg.encoded:
        yield form(cfg)
    also = "as much down" if up == down else f"{most}{amount(down * cfg.rounds)} down"
    yield f"Over the study: {most}{amount(up * cfg.rounds)} up, {also}."


def form(cfg: FederationConfig) -> str:
    """The form of an encoded update."""
    compressed = " Its bytes are compressed without loss (zstd)." if cfg.compression == "zstd" else ""
    rounded = f" {NO_PROTECTION}" if cfg.encoding != "float32" else ""
    return _FORMS[cfg.encoding] + compressed + rounded


def amount(size: int) -> str:
    """Bytes as kB or MB."""
    return f"{size / 1e6:,.1f} MB" if size >= 100_000 else f"{size / 1e3:,.1f} kB"
