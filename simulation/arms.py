"""An arm: one way of training with one seed, whom it learns from, and whom it is scored on.

Its name says it all: ``KIND[:SITE][@VARIANT]``, the variant being a change of the study.

    federated       all hospitals                      pooled            one site that holds everybody
    local:SITE      one hospital                       tuned:SITE        the federated model, trained further by one
    without:SITE    federated, all hospitals but one   pooled_without:SITE
    cv:SITE         one fold (and draw) of a cross-validation at one hospital; the others are external
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal, get_args

from sarco_models.cohort import HeldOut, Split, everyone, open_cohort, split
from sarco_models.config import StudyConfig
from sarco_models.errors import ConfigError

Kind = Literal["federated", "pooled", "local", "tuned", "without", "pooled_without", "cv"]
CENTRAL = "central"


@dataclass(frozen=True)
class SiteFolder:
    """Where a hospital's data are, and how its labels were made."""

    name: str
    data: Path
    label_rule: str


@dataclass(frozen=True)
class Arm:
    """One way of training with one seed.

    Attributes:
        name: see above.
        study: with this arm's seed, fold and draw.
        sites: every hospital of the comparison.
        central: folder of the central test cohort; None where there is none.
        cache: preprocessed images, shared by all arms.
        folder: run directory of the arm.
        begin: run directory of the arm whose released model this one begins with.
        external: everybody of a hospital that the arm does not train on is scored, not its test participants alone.
    """

    name: str
    study: StudyConfig
    sites: tuple[SiteFolder, ...]
    central: Path | None
    cache: Path
    folder: Path
    begin: Path | None = None
    external: bool = False

    def __post_init__(self) -> None:
        """Refuse a name that means nothing."""
        known = {s.name for s in self.sites}
        if self.kind not in get_args(Kind) or (self.site and self.site not in known):
            raise ConfigError(f"arm {self.name!r}: write KIND or KIND:SITE, of {', '.join(get_args(Kind))}")

    @property
    def kind(self) -> str:
        """Way of training."""
        return self.name.partition("@")[0].partition(":")[0]

    @property
    def site(self) -> str:
        """The hospital that the name speaks of; empty where it speaks of all."""
        return self.name.partition("@")[0].partition(":")[2]

    @property
    def variant(self) -> str:
        """The change of the study; empty for the study itself."""
        return self.name.partition("@")[2]

    @property
    def pooled(self) -> bool:
        """Whether a single site holds the people of all."""
        return self.kind in ("pooled", "pooled_without")

    @property
    def trained_on(self) -> tuple[str, ...]:
        """Names of the hospitals whose people this arm trains on."""
        names = tuple(s.name for s in self.sites)
        if self.kind in ("without", "pooled_without"):
            return tuple(name for name in names if name != self.site)
        return (self.site,) if self.site else names

    @property
    def personal(self) -> bool:
        """Whether its model is meant for the hospitals that trained it, and for nobody else."""
        return self.kind == "tuned" or (self.study.model.local_norms and not self.pooled and len(self.trained_on) > 1)

    def split_of(self, name: str) -> Split:
        """The split of one hospital, as the hospital itself makes it."""
        if name not in self._splits:
            site = next(s for s in self.sites if s.name == name)
            cohort = open_cohort(site.data, self.study, self.cache, name=name)
            self._splits[name] = split(cohort, self.study.split, self.study.training.seed)
        return self._splits[name]

    @cached_property
    def _splits(self) -> dict[str, Split]:
        return {}

    def held_out(self) -> Mapping[str, HeldOut]:
        """Who is scored and was not trained on: the central cohort first, then hospital by hospital."""
        people = {}
        if self.central and self.kind != "cv" and not self.personal:
            people[CENTRAL] = everyone(open_cohort(self.central, self.study, self.cache))
        for site in self.sites:
            if site.name in self.trained_on:
                people[site.name] = self.split_of(site.name).test
            elif not self.personal:
                people[site.name] = self._elsewhere(site)
        return people

    def _elsewhere(self, site: SiteFolder) -> HeldOut:
        if not self.external:
            return self.split_of(site.name).test
        return everyone(open_cohort(site.data, self.study, self.cache, name=site.name))
