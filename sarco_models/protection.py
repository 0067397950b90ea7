"""Two sections of a study file: what protects each participant, and what a model must pass before it is released."""

from typing import Literal

from pydantic import Field

from sarco_models.config_files import Config


class PrivacyConfig(Config):
    """Participant-level differential privacy (Abadi et al. 2016; the participant, not the image, is the unit).

    The noise is not among the settings: it follows from epsilon and from all that a study does with a participant.
    """

    epsilon: float = Field(gt=0, le=20, description="Of the whole study, for each participant: training, statistics.")
    delta: float = Field(gt=0, lt=1e-2, description="Below one divided by each hospital's training participants.")
    max_grad_norm: float = Field(default=1.0, gt=0, le=1000, description="A participant's gradient is clipped to it.")
    sample_rate: float = Field(
        default=1.0, gt=0, le=1, description="Chance of each participant to take part in a step; 1: everybody in each."
    )
    augmentations: int = Field(default=1, ge=1, le=16, description="Augmented views of each image in a person's bag.")
    accountant: Literal["prv", "rdp"] = Field(
        default="prv", description="prv: Gopi et al. 2021, tighter; rdp: Mironov 2017. The noise follows from it."
    )
    statistics: Literal["private", "withheld", "exact"] = Field(
        default="private",
        description="Sums over the tables, counts of cases, score histograms of training participants. private: with "
        "noise, inside epsilon; withheld: they stay at the site, but for the number of cases, under noise; tables are "
        "scaled by the study's ranges and there is no threshold; exact: as they are, outside epsilon, which every "
        "report then says.",
    )
    statistics_share: float = Field(default=0.1, gt=0, lt=1, description="Part of epsilon for private statistics.")
    spare_rounds: int = Field(
        default=0, ge=0, le=1000, description="Rounds that may be trained again after a crash, inside epsilon."
    )
    adaptive_clipping: bool = Field(
        default=False,
        description="Let each hospital move its clipping norm towards the quantile of its participants' gradients "
        "below (Andrew et al. 2021), from max_grad_norm on; the count that this needs is noised and inside epsilon.",
    )
    clipping_quantile: float = Field(default=0.5, gt=0, lt=1, description="Adaptive clipping: share left unclipped.")


class ReleaseConfig(Config):
    """What a model must pass before ``sarco-coordinator release`` hands it out."""

    max_membership_auc: float = Field(
        default=0.6, ge=0.5, le=1, description="Greatest AUC of membership inference at any hospital."
    )
    max_membership_tpr: float = Field(
        default=0.1, ge=0, le=1, description="Greatest share of members found at 1 % false positives, at any hospital."
    )
    min_probed_sites: int = Field(default=1, ge=1, description="Hospitals that must have measured it.")
