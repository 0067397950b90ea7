"""site.toml as a hospital writes it. It stays in the hospital; reading it needs no torch.

A command that only asks, shows or follows reads it in a moment; what opens the data is :mod:`client.workspace`.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, field_validator

from client.identity import Peer
from client.ledger import BudgetConfig
from client.policy import Policy
from sarco_models.config import Config, Name, StudyConfig, located
from sarco_models.devices import Device
from sarco_models.hints import Template


class SiteConfig(Config):
    """site.toml: it stays in the hospital. Paths are absolute, or relative to the file."""

    name: Name
    data: str
    study: str
    cache: str = "cache"
    state: str = "state"
    label_rule: Name
    threads: int = 1
    device: Device = Field(default="auto", description="Where models compute; auto: on a GPU where there is one.")
    segmenter: str = Field(
        default="", description='Folder of the model that finds muscles, for a study with image.roi = "auto".'
    )
    relay_user: str = Field(default="", description="Account of Flower's programs, for sarco-site join as root.")
    policy: Policy = Policy()
    budget: BudgetConfig = BudgetConfig()
    peers: tuple[Peer, ...] = Field(default=(), description="Hospitals to mask with, as sarco-site key shows them.")
    templates: tuple[Template, ...] = Field(
        default=(), description="One per device and screen: where the tissue is on frames that do not say it."
    )

    @field_validator("templates")
    @classmethod
    def _distinct(cls, templates: tuple[Template, ...]) -> tuple[Template, ...]:
        """Of two for the same frames the second would never be used."""
        first: dict[tuple[str, int, int], int] = {}
        for k, t in enumerate(templates):
            earlier = first.setdefault((t.files, t.columns, t.rows), k)
            if earlier != k:
                raise ValueError(
                    f"templates {earlier} and {k} (from 0) are both for files = {t.files!r} of {t.columns} x {t.rows} "
                    "pixels: remove one, or tell them apart by files"
                )
        return templates


def at_site(study: StudyConfig, config: SiteConfig, root: Path) -> StudyConfig:
    """The study, knowing where its segmentation model lies at this hospital, where site.toml says so.

    Args:
        study: as everybody has it.
        config: of the hospital.
        root: folder of site.toml.

    Raises:
        ConfigError: the study does not say its model's hash, and nothing is where site.toml points.
    """
    return located(study, root / config.segmenter) if config.segmenter else study
