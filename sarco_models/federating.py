"""One section of a study file: who must take part, how their work is joined, and how it travels."""

import math
from typing import Literal, Self

from pydantic import Field, model_validator

from sarco_models.config_files import Config
from sarco_models.sections import later

ADAPTIVE = ("fedadam", "fedyogi")
ROBUST = ("median", "trimmed_mean", "krum")
"""Strategies that must see each site's own update."""

_READ_BY = {
    "proximal_mu": ("fedprox",),
    "server_learning_rate": ADAPTIVE,
    "server_momentum": (*ADAPTIVE, "fedavgm"),
    "server_second_momentum": ADAPTIVE,
    "server_adaptivity": ADAPTIVE,
    "average_learning_rate": ("fedavgm",),
    "trim_share": ("trimmed_mean",),
    "malicious_sites": ("krum",),
}
"""Setting -> strategies that read it; with another one it would be believed to have been in force."""


class FederationConfig(Config):
    """Who must take part, and how their work is joined."""

    strategy: Literal["fedavg", "fedprox", "fedadam", "fedyogi", "fedavgm", "median", "trimmed_mean", "krum"] = "fedavg"
    proximal_mu: float = Field(default=0.0, ge=0, description="FedProx: weight of the distance to the round's model.")
    server_learning_rate: float = later(
        0.01, gt=0, le=10, description="FedAdam and FedYogi: step of the coordinator (Reddi et al. 2021: eta)."
    )
    server_momentum: float = later(
        0.9, ge=0, lt=1, description="FedAdam and FedYogi: beta 1; FedAvgM: momentum (Hsu et al. 2019)."
    )
    server_second_momentum: float = later(0.99, ge=0, lt=1, description="FedAdam and FedYogi: beta 2.")
    server_adaptivity: float = later(0.001, gt=0, le=1, description="FedAdam and FedYogi: tau.")
    average_learning_rate: float = later(1.0, gt=0, le=10, description="FedAvgM: step along the momentum.")
    trim_share: float = later(
        0.2,
        gt=0,
        lt=0.5,
        description="Trimmed mean: share of sites left out at each end, per number (Yin et al. 2018).",
    )
    malicious_sites: int = later(
        1, ge=0, le=100, description="Krum: how many sites may send anything at all (Blanchard et al. 2017: f)."
    )
    max_update_ratio: float = later(
        10.0,
        gt=1,
        description="An update longer than this many times the median of the other sites', and than any of the same "
        "site's that counted, is refused; it needs the updates of three sites in plain sight.",
    )
    rounds: int = Field(default=10, ge=1, le=10000)
    min_sites: int = Field(default=1, ge=1, description="Sites that must answer for a round to count.")
    min_participants: int = Field(default=10, ge=2, description="Training participants a site must have to take part.")
    round_deadline_s: float = Field(default=3600.0, gt=0)
    round_attempts: int = later(
        3,
        ge=1,
        le=1000,
        description="How often a round without enough usable answers is asked for before the run stops.",
    )
    encoding: Literal["float32", "bf16", "int8"] = later(
        "float32",
        description="How an update travels up; what rounding leaves is added to the site's next (error feedback).",
    )
    compression: Literal["none", "zstd"] = later(
        "none",
        description="zstd: bytes of equal weight side by side, then zstd; a model goes down as its difference to the "
        "one before. Lossless both ways.",
    )
    secure_aggregation: bool = later(
        False,
        description="The coordinator sees only the sum of the sites' updates: each is sent under masks that cancel in "
        "the sum. It needs three sites or more, in every round.",
    )
    update_range: float = later(
        8.0,
        gt=0,
        le=1024,
        description="Secure aggregation: the weighted mean of the updates lies within plus and minus this; it is "
        "counted in steps of this range divided by 2**30.",
    )

    @property
    def adaptive(self) -> bool:
        """Whether the coordinator remembers more than the model from round to round (Reddi et al. 2021)."""
        return self.strategy in ADAPTIVE

    @property
    def encoded(self) -> bool:
        """Whether what training has changed travels up (wire encodings), and not the parameters after it."""
        return (self.encoding, self.compression) != ("float32", "none")

    @model_validator(mode="after")
    def _fits_strategy(self) -> Self:
        """What a strategy does not read would be believed to have been in force."""
        if self.secure_aggregation and self.min_sites < 3:
            raise ValueError(
                f"secure_aggregation with min_sites = {self.min_sites}: of a sum over two, each knows the other's "
                "part: write min_sites = 3 or more"
            )
        if self.secure_aggregation and (self.encoding != "float32" or self.compression != "none"):
            raise ValueError(
                "secure_aggregation sends integers under masks, which cannot be shortened: write encoding = "
                '"float32" and compression = "none"'
            )
        if self.secure_aggregation and self.strategy in ROBUST:
            raise ValueError(
                f'strategy = "{self.strategy}" must see each site\'s own update, and secure_aggregation shows only '
                "their sum: change one of them"
            )
        for field in sorted(self.model_fields_set & set(_READ_BY)):
            value, readers = getattr(self, field), _READ_BY[field]
            if self.strategy not in readers and value != type(self).model_fields[field].default:
                wanted = " or ".join(f'"{name}"' for name in readers)
                raise ValueError(
                    f'{field} = {value} needs strategy = {wanted}, and this is "{self.strategy}": remove it, or change '
                    "the strategy"
                )
        return self

    @model_validator(mode="after")
    def _enough_for_robustness(self) -> Self:
        """A robust strategy over too few sites is not robust, and would be believed to be."""
        needed = {
            "median": 3,
            "trimmed_mean": math.ceil(1 / self.trim_share),
            "krum": 2 * self.malicious_sites + 3,
        }.get(self.strategy, 1)
        if self.min_sites < needed:
            raise ValueError(
                f'strategy = "{self.strategy}" needs {needed} sites to withstand one, and min_sites = '
                f"{self.min_sites}: write min_sites = {needed} or more, or change the strategy"
            )
        return self
