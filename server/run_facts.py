"""What a run says about itself: ``meta`` of results.json, read into types. Every part may be absent."""

from typing import Any

from pydantic import BaseModel, ConfigDict

from server.guarantees import Guarantee

CROSS_VALIDATION = "cross_validation"


class Tolerant(BaseModel):
    """A part of results.json; keys that this version does not know are left alone."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class SiteFacts(Tolerant):
    """Who a hospital's participants are."""

    participants: int | None = None
    positives: int | None = None
    images: int | None = None
    devices: tuple[str, ...] = ()
    label_rule: str | None = None
    train: int | None = None
    validation: int | None = None
    test: int | None = None
    missing: Any = None


class PrivacyFacts(Tolerant):
    """What protected the participants of one arm, as its privacy statement has it; ``guarantees`` is empty without.

    ``modalities`` (empty where an older version did not write it), ``statistics``, ``secure_aggregation`` and
    ``private`` are the arm's own settings: what its hospitals sent follows from them.
    """

    guarantees: tuple[dict[str, Any], ...] = ()
    uncovered: tuple[str, ...] = ()
    modalities: tuple[str, ...] = ()
    statistics: str = "exact"
    secure_aggregation: bool = False
    private: bool = False

    def read(self) -> list[Guarantee]:
        """The guarantees."""
        return [Guarantee.from_dict(found) for found in self.guarantees]


class ArmFacts(Tolerant):
    """What one arm did with one seed; bytes are those of all sites and rounds.

    ``update_form`` says how updates went up; ``round_down`` and ``round_up`` are bytes of one hospital in one round.
    A ``personal`` arm belongs to a hospital (its own norms, or its own further training): it is scored there only.
    ``leakage`` is by hospital, see :class:`server.leakage.SiteLeakage`.
    """

    trained_on: tuple[str, ...] = ()
    participants: int | None = None
    images: int | None = None
    rounds: int | None = None
    seconds: float | None = None
    bytes_down: int | None = None
    bytes_up: int | None = None
    update_form: str = ""
    round_down: float | None = None
    round_up: float | None = None
    threshold: float | None = None
    training_prevalence: float | None = None
    personal: bool = False
    privacy: PrivacyFacts | None = None
    leakage: dict[str, dict[str, Any]] = {}


class Candidate(Tolerant):
    """One of the models that a cross-validation chooses from."""

    title: str = ""
    modalities: tuple[str, ...] = ()
    backbone: str | None = None


class Selection(Tolerant):
    """The rule that was fixed beforehand, in words too."""

    metric: str = "auc"
    tolerance: float | None = None
    rule: str = ""


class Protocol(Tolerant):
    """How people were held out, and for a cross-validation what was chosen; ``selected`` is by seed."""

    kind: str = "comparison"
    site: str = ""
    folds: int | None = None
    draws: int | None = None
    complete_cases: bool = False
    candidates: dict[str, Candidate] = {}
    selection: Selection | None = None
    selected: dict[str, str] = {}

    def arm(self, candidate: str) -> str:
        """Name of a candidate's arm; the study itself has no name of its own."""
        return f"cv:{self.site}@{candidate}" if candidate else f"cv:{self.site}"


class Meta(Tolerant):
    """Where the numbers come from. ``synthetic`` is None when the run did not say."""

    title: str = "Untitled run"
    synthetic: bool | None = None
    preset: str | None = None
    scale: str | None = None
    engine: str | None = None
    created: str | None = None
    command: str | None = None
    seeds: tuple[int, ...] = ()
    study: dict[str, Any] = {}
    study_digest: str | None = None
    versions: dict[str, str] = {}
    sites: dict[str, SiteFacts] = {}
    central: SiteFacts | None = None
    arms: dict[str, dict[str, ArmFacts]] = {}
    variants: dict[str, str] = {}
    protocol: Protocol = Protocol()
    seconds: float | None = None
    peak_memory_bytes: int | None = None

    @property
    def titles(self) -> dict[str, str]:
        """Title of each variant, a cross-validation's candidates among them."""
        candidates = {name: found.title for name, found in self.protocol.candidates.items() if name and found.title}
        return candidates | self.variants
