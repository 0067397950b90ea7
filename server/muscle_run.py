"""A comparison of arms that find muscles, ready to be shown: what results.json holds beside its rows, by name."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from server.arms import CENTRAL, ArmName
from server.muscle_scores import EVERYWHERE
from server.results import OverSeeds, Results


def finds_muscles(results: Results) -> bool:
    """Whether the study has [segmentation]."""
    return bool(results.meta.study.get("segmentation"))


@dataclass(frozen=True)
class MuscleRun:
    """A run whose study has [segmentation]; what an interrupted one does not hold is empty."""

    results: Results

    @cached_property
    def table(self) -> Mapping[str, Any]:
        """What is no row."""
        found = self.results.tables.get("muscles")
        return found if isinstance(found, dict) else {}

    @cached_property
    def titles(self) -> dict[str, str]:
        """Muscle -> in words, in the order of the study."""
        section = self.results.meta.study.get("segmentation")
        muscles = section.get("muscles", ()) if isinstance(section, dict) else ()
        words = {m["name"]: str(m.get("words") or m["name"]).replace("_", " ") for m in muscles if "name" in m}
        return {name: word[:1].upper() + word[1:] for name, word in words.items()}

    @property
    def lead(self) -> str:
        """The arm that the run asks about."""
        arms = self.arms
        return "federated" if "federated" in arms or not arms else arms[0]

    @cached_property
    def arms(self) -> list[str]:
        """Arms with a Dice anywhere."""
        scored = {row.arm for row in self.results.rows if row.round is None and row.metric.partition(":")[0] == "dice"}
        return [arm for arm in self.results.arms if arm in scored]

    @property
    def home(self) -> str:
        """Where all arms are compared: the central test people, else everybody who was held out."""
        return CENTRAL if any(self.dice(arm) for arm in self.arms) else EVERYWHERE

    def dice(self, arm: str, muscle: str = "", site: str = CENTRAL) -> OverSeeds | None:
        """Of a muscle, or the mean over muscles; of a study of one muscle its own."""
        return self.value(arm, "dice", muscle, site)

    def value(self, arm: str, measure: str, muscle: str = "", site: str = CENTRAL) -> OverSeeds | None:
        """A measure of a muscle, or its mean over muscles."""
        only = next(iter(self.titles), "") if len(self.titles) == 1 else ""
        name = muscle or only
        return self.results.over_seeds(arm, f"{measure}:{name}" if name else measure, site)

    def difference(
        self, first: str, second: str, muscle: str = "", measure: str = "dice", site: str = CENTRAL
    ) -> OverSeeds | None:
        """First minus second, of the same people."""
        named = f"{measure}:{muscle}" if muscle else measure
        return self.results.over_seeds(first, f"{named}_difference:{second}", site)

    def others(self) -> list[str]:
        """What the lead is compared with: the other arms of its variant, then its variants."""
        same = [arm for arm in self.arms if arm != self.lead]
        variant = ArmName.parse(self.lead).variant
        return sorted(same, key=lambda arm: ArmName.parse(arm).variant != variant)

    def untrained(self, arm: str, muscle: str) -> bool:
        """Whether nobody whom the arm trained on had this muscle drawn."""
        counts = self.table.get("trained", {}).get(arm)
        return counts is not None and not counts.get(muscle)

    def analysis(self, arm: str = "", site: str = EVERYWHERE) -> tuple[list[dict[str, Any]], list[str]]:
        """Rows of agreement and correlation of an arm with the first seed, and what is absent."""
        by_seed = self.table.get("analysis", {}).get(arm or self.lead, {})
        first = by_seed[min(by_seed, key=int)] if by_seed else {}
        found = first.get(site, {})
        return list(found.get("rows", ())), list(found.get("absent", ()))

    def measured(self) -> Mapping[str, Mapping[str, float]]:
        """What the lead's hospitals told themselves, with the first seed."""
        by_seed = self.table.get("measured", {}).get(self.lead, {})
        return by_seed[min(by_seed, key=int)] if by_seed else {}
