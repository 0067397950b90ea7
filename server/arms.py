"""Ways of training ("arms") by name: what people call them, and in which order they stand.

A name is ``KIND[:SITE][@VARIANT]``; behind it stands `` [MODEL]`` where one arm has left the numbers of several models.
A variant is a change of the study; a run gives every variant a title of its own.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

CENTRAL = "central"
NESTED = "nested"
"""Variant of a cross-validation in which every fold chooses its candidate anew."""

KINDS = ("federated", "pooled", "local", "without", "pooled_without", "tuned", "cv", "control")
CONTROLS = {
    "prevalence": "Prevalence only",
    "image_count": "Number of images only",
    "age": "Age only",
    "clinical_logistic": "Clinical features, logistic",
}
TITLES = {
    "fedavg": "FedAvg",
    "fedprox": "FedProx",
    "fedadam": "FedAdam",
    "fedyogi": "FedYogi",
    "fedbn": "local norms (FedBN)",
    "local_norms": "local norms (FedBN)",
    NESTED: "chosen anew in each fold",
}


@dataclass(frozen=True)
class ArmName:
    """The parts of an arm's name; a part that it does not have is empty. A control's name stands in ``site``."""

    kind: str
    site: str = ""
    variant: str = ""
    model: str = ""

    @classmethod
    def parse(cls, arm: str) -> "ArmName":
        """Read a name."""
        base, _, model = arm.partition(" [")
        rest, _, variant = base.partition("@")
        kind, _, site = rest.partition(":")
        return cls(kind, site, variant, model.rstrip("]"))

    @property
    def control(self) -> bool:
        """Whether this is a simple guess that a useful model must beat."""
        return self.kind == "control"


def place_name(site: str) -> str:
    """A site's name for people."""
    return "Central test" if site == CENTRAL else site.replace("_", " ").title()


def arm_name(arm: str, titles: Mapping[str, str] | None = None) -> str:
    """An arm's name for people, such as "Federated, FedAdam" or "Shanghai alone".

    Args:
        arm: its name in the run.
        titles: of the run's variants.
    """
    parts = ArmName.parse(arm)
    title = variant_title(parts.variant, titles)
    return _kind_name(arm, parts) + (f", {title}" if title else "") + (f" ({parts.model})" if parts.model else "")


def variant_title(variant: str, titles: Mapping[str, str] | None = None) -> str:
    """A variant's title: the run's own, or the name as people write it; empty for the study itself."""
    if not variant:
        return ""
    return (titles or {}).get(variant) or TITLES.get(variant) or variant.replace("_", " ")


def _kind_name(arm: str, parts: ArmName) -> str:
    place = place_name(parts.site)
    names = {
        "federated": "Federated",
        "pooled": "Pooled",
        "local": f"{place} alone",
        "tuned": f"Federated, then tuned at {place}",
        "without": f"Federated without {place}",
        "pooled_without": f"Pooled without {place}",
        "cv": "Cross-validation" if parts.variant else f"Cross-validation at {place}",
        "control": CONTROLS.get(parts.site, parts.site.replace("_", " ").capitalize()),
    }
    return names.get(parts.kind, arm.partition("@")[0].partition(" [")[0])


def in_order(arms: Iterable[str], variants: Iterable[str], sites: Iterable[str]) -> list[str]:
    """Arms by kind, within it the study itself and then its variants, within these by hospital; controls last."""
    kinds = {kind: rank for rank, kind in enumerate(KINDS)}
    other = kinds["control"] - 0.5  # a kind that this version does not know
    of_variant = {variant: rank for rank, variant in enumerate(["", *variants])}
    of_site = {site: rank for rank, site in enumerate(sites)}

    def key(arm: str) -> tuple[float, int, int]:
        parts = ArmName.parse(arm)
        variant = of_variant.get(parts.variant, len(of_variant))
        return kinds.get(parts.kind, other), variant, of_site.get(parts.site, 0)

    return sorted(dict.fromkeys(arms), key=key)
