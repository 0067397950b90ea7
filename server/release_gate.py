"""What a study asks of a model before it is handed out, held against what hospitals measured.

The command that hands a model out (server/release.py) and the dashboard ask here; neither torch nor Flower is needed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from sarco_models.config import ReleaseConfig
from server.leakage import LEAKAGE, STEPS, Leakage, SiteLeakage

WAY_OUT = "train fewer rounds, with more regularisation or with [privacy], in another study"


@dataclass(frozen=True)
class Gate:
    """What a study asks of a model before it is handed out, and what hospitals measured.

    ``rounded``: in a private study they tell their numbers in steps.
    """

    limits: ReleaseConfig
    leakage: Leakage
    rounded: bool = False

    def faults(self) -> Iterator[str]:
        """Why the model may not be handed out; nothing where it may. A limit that is reached exactly is kept."""
        probed = len(self.leakage.sites)
        if probed < self.limits.min_probed_sites:
            reasons = "".join(f"; {name}: {reason}" for name, reason in self.leakage.failures.items())
            yield (
                f"{probed} hospitals measured the leakage, release.min_probed_sites = {self.limits.min_probed_sites}"
                f"{reasons}: ask them to allow the task Probe and the statistic leakage in site.toml, remove "
                f"{LEAKAGE} and run the study's command again"
            )
        for name, found in self.leakage.sites.items():
            yield from self._site_faults(name, found)

    def _site_faults(self, name: str, found: SiteLeakage) -> Iterator[str]:
        if found.auc > self.limits.max_membership_auc:
            yield (
                f"at {name} membership inference has an AUC of {found.auc:.3f} ({found.auc_low:.3f} to "
                f"{found.auc_high:.3f}), release.max_membership_auc = {self.limits.max_membership_auc:g}: {WAY_OUT}"
            )
        if found.tpr > self._most(found):
            yield (
                f"at {name} {found.tpr:.3f} of the members ({found.tpr_low:.3f} to {found.tpr_high:.3f}) are found at "
                f"{_percent(found.fpr)} false positives, where {self._most(found):.3g} may be "
                f"(release.max_membership_tpr = {self.limits.max_membership_tpr:g} at 1 %{self._wider(found)}): "
                f"{WAY_OUT}"
            )

    def _most(self, found: SiteLeakage) -> float:
        """Share of members that may be found: the gate is for 1 %; with few people chance finds more than that."""
        return self.limits.max_membership_tpr + max(0.0, found.fpr - 0.01)

    def _wider(self, found: SiteLeakage) -> str:
        """How the gate of this hospital follows from that of the study file, where it is another one."""
        if self._most(found) == self.limits.max_membership_tpr:
            return ""
        return (
            f", wider by {_percent(found.fpr)} - 1 %, for {found.others} others can show no fewer false positives than "
            f"{_percent(found.fpr)}"
        )

    def words(self) -> Iterator[str]:
        """What was measured, a line for each hospital: the limits of the intervals too, though the gate is not theirs.

        With few people an interval reaches far; that it reaches over the gate is said, and does not refuse.
        """
        auc = self.limits.max_membership_auc
        for name, s in self.leakage.sites.items():
            tpr = self._most(s)
            unsure = s.auc_high > auc or s.tpr_high > tpr
            area = f"{s.auc:.3f} (95 % {s.auc_low:.3f} to {s.auc_high:.3f}; gate {auc:g})"
            gate = f"gate {100 * tpr:.3g}"
            if wider := self._wider(s):
                gate += f": {100 * self.limits.max_membership_tpr:g} at 1 %{wider}"
            found = f"{100 * s.tpr:.1f} % (95 % {100 * s.tpr_low:.1f} to {100 * s.tpr_high:.1f}; {gate})"
            yield (
                f"{name}: membership AUC {area}; of the members {found} are found at {_percent(s.fpr)} false "
                f"positives; {s.members} members, {s.others} others."
                + " UPPER LIMIT ABOVE THE GATE: too few people to be sure."
                * unsure
            )
        for name, reason in self.leakage.failures.items():
            yield f"{name}: did not measure it ({reason})."
        if self.rounded and self.leakage.sites:
            yield STEPS


def _percent(share: float) -> str:
    return f"{100 * share:.2g} %"
