"""What left each hospital in a run, in sentences: by each arm's own inputs, statistics and masks.

Arms of one report may differ: one looks at images only, one keeps sums and histograms back, one masks its updates. Each
kind has its own sentence, and none says of an arm what only another one did.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from server.arms import ArmName
from server.results import Results
from server.run_facts import ArmFacts

KINDS = ("federated", "without")
"""Arms in which hospitals train together."""


@dataclass(frozen=True)
class Sent:
    """What the hospitals of an arm sent.

    Attributes:
        images: whether the model looks at any.
        tables: whether it looks at columns of tables.
        extremes: whether smallest and largest values are agreed on.
        statistics: of training participants: "private", "withheld" or "exact".
        masked: whether updates are summed under masks.
        assessed: whether the released model was assessed on held-out people.
        probed: whether hospitals measured what it betrays.
        private: whether the arm has differential privacy.
    """

    images: bool
    tables: bool
    extremes: bool
    statistics: str
    masked: bool
    assessed: bool
    probed: bool
    private: bool

    @classmethod
    def of(cls, results: Results, arm: str) -> Sent:
        """Of an arm: from what it wrote down; what it did not, from the run's study file."""
        every = results.arm_facts(arm)
        noted = next((f.privacy for f in every if f.privacy and f.privacy.modalities), None)
        privacy, inputs = _section(results, "privacy"), _section(results, "model").get("modalities")
        own = noted.modalities if noted else tuple(inputs or ())
        statistics = noted.statistics if noted else str(privacy.get("statistics", "private")) if privacy else "exact"
        secure = noted.secure_aggregation if noted else _section(results, "federation").get("secure_aggregation")
        of_arm = (results.tables.get("assessments") or {}).get(arm) or {}
        return cls(
            images="image" in own if own else bool(results.images),
            tables=any(name != "image" for name in own) if own else True,
            extremes=_section(results, "tabular").get("scaling") == "minmax" and statistics == "exact",
            statistics=statistics,
            masked=bool(secure),
            assessed=any(of_arm.values()),
            probed=any(f.leakage for f in every),
            private=noted.private if noted else bool(privacy) or _guaranteed(every),
        )

    def sentences(self) -> str:
        """To go on with after "each hospital sent: "."""
        parts = [
            "its updates of the trained layers, under masks that only the sum over all hospitals takes away"
            if self.masked
            else "the weights of the trained layers after each round",
            "how many participants it has and trained on",
            f"how many of these have a positive label{self._noised}",
            *["how many images"] * self.images,
            "the rule behind its labels",
        ]
        if self.tables and self.statistics != "withheld":
            values = ", smallest and largest values" * self.extremes
            parts.append(
                f"sums{values} and counts of the columns that the model uses, once, to agree on a common "
                f"scale{self._noised}"
            )
        if self.statistics != "withheld":
            parts.append(
                "how many training participants of each class fall into each bin of the predicted "
                f"probability{self._noised}"
            )
        words = "; ".join(parts) + "; and its loss and AUC on validation participants."
        return words + self._held_back() + self._after()

    @property
    def _noised(self) -> str:
        return " (under noise)" if self.statistics != "exact" else ""

    def _held_back(self) -> str:
        if self.statistics != "withheld":
            return ""
        sums = "no sums over its tables and " * self.tables
        return f" It sent {sums}no histogram of training participants: the study withholds them."

    def _after(self) -> str:
        text = ""
        if self.assessed:
            text += (
                " Of its own held-out people it sent, once: how many they are, the AUC with its variance, how many "
                "calls at the frozen threshold were right and wrong, and a histogram of the probability; what would "
                "have shown few people was merged or withheld."
            )
        if self.probed:
            steps = ", in steps of .05" * self.private
            text += (
                " Where its policy allows it, it sent how well the released model tells its training participants from "
                f"its test participants: two numbers{steps}, and how many people of each kind."
            )
        nothing = ["image"] * self.images + ["table row", "participant number"]
        return f"{text} It sent {', '.join(f'no {what}' for what in nothing)} and no file name."


def what_was_sent(results: Results) -> list[str]:
    """A sentence for each way in which hospitals that trained together sent something else."""
    arms = [arm for arm in results.arms if ArmName.parse(arm).kind in KINDS] or [""]
    kinds: dict[Sent, list[str]] = {}
    for arm in arms:
        kinds.setdefault(Sent.of(results, arm), []).append(arm)
    if len(kinds) == 1:
        return [f"In federated training each hospital sent: {sent.sentences()}" for sent in kinds]
    return [
        f"In {'; '.join(results.arm_name(arm) for arm in own)} each hospital sent: {sent.sentences()}"
        for sent, own in kinds.items()
    ]


def shares_extremes(results: Results) -> bool:
    """Whether an arm's hospitals sent smallest and largest values."""
    arms = [arm for arm in results.arms if ArmName.parse(arm).kind in KINDS] or [""]
    return any((sent := Sent.of(results, arm)).extremes and sent.tables for arm in arms)


def _guaranteed(every: list[ArmFacts]) -> bool:
    return any(f.privacy and f.privacy.guarantees for f in every)


def _section(results: Results, name: str) -> dict[str, Any]:
    found = results.meta.study.get(name)
    return found if isinstance(found, dict) else {}
