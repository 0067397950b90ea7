"""Bytes that the rounds of a run moved, for one hospital, and the form in which updates went up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sarco_models.federating import FederationConfig
from server.tables import size


@dataclass(frozen=True)
class Traffic:
    """Bytes of one round and one hospital, on average; what was sent once, such as frozen layers, is not in them."""

    down: float
    up: float


def each_round(records: Sequence[Mapping[str, Any]]) -> Traffic | None:
    """Of the rounds of training among a run's records; None where there was none.

    What went to a hospital that did not count in a round is shared among those that did.
    """
    rounds = [record for record in records if record["round"] > 0]
    hospitals = sum(len(record["sites"]) for record in rounds)
    if not hospitals:
        return None
    down, up = (sum(record[key] for record in rounds) for key in ("bytes_down", "bytes_up"))
    return Traffic(down / hospitals, up / hospitals)


def form_of(cfg: FederationConfig) -> str:
    """How a study's updates go up, in a few words."""
    if cfg.secure_aggregation:
        return "integers under masks"
    compressed = ", zstd" if cfg.compression == "zstd" else ""
    return cfg.encoding + compressed


def in_words(records: Sequence[Mapping[str, Any]], cfg: FederationConfig) -> str:
    """A sentence; empty before the first round."""
    moved = each_round(records)
    if moved is None:
        return ""
    return f"each hospital, each round: {size(moved.down)} down, {size(moved.up)} up ({form_of(cfg)})"
