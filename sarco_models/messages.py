"""All that coordinator and site ever say to each other, on one page.

The coordinator asks, the site answers; nothing else ever moves:

    Describe   -> Described   how many participants, and the sums that the tables' scaling is agreed from
    Setup      -> Ready       frozen layers and agreed sums, sent once
    Train      -> Trained     parameters down, parameters up, with the evaluation of the model that came down
    TrainOn    -> the same    the model as what has changed since the one that the site holds: compression
    Train      -> Updated     wire encodings: the same, and what training has changed goes up in fewer bytes
    Evaluate   -> Evaluated   metrics and merged score histogram of the final model, for the threshold
    Assess     -> Assessed    AUC, calls at the frozen threshold and merged histogram of the test participants
    Measure    -> Measured    the same in a study that segments: Dice, distances and sizes of each muscle, in sums
    Probe      -> Probed      how well the released model betrays who was trained on: two numbers
    Keys       -> Keyed       secure aggregation: a key for one attempt at one round, signed by the site
    Train      -> Masked      secure aggregation: the update under masks that cancel in the sum over all sites
    Reveal     -> Revealed    secure aggregation: the seed of the site's own mask, for one attempt of a round only
    anything   -> Refused     a code of a closed set; never a text, a path or a name

Every request carries the digest of the study, so that a site answers only for a study that it has approved. How they
travel is :mod:`sarco_models.wire`, which is where others find them.
"""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from sarco_models.encoding import EncodedUpdate, lengthen
from sarco_models.errors import ProtocolError
from sarco_models.histograms import MergedHistogram
from sarco_models.masked_messages import Keyed as Keyed
from sarco_models.masked_messages import Keys as Keys
from sarco_models.masked_messages import Masked as Masked
from sarco_models.masked_messages import MaskedVector as MaskedVector
from sarco_models.masked_messages import Masking as Masking
from sarco_models.masked_messages import Reveal as Reveal
from sarco_models.masked_messages import Revealed as Revealed
from sarco_models.parameters import Parameters
from sarco_models.site_evaluation import SiteEvaluation
from sarco_models.summaries import Moments


class Code(StrEnum):
    """Why a site refuses or fails. The hospital's own log says more; the coordinator learns only this."""

    STUDY_NOT_APPROVED = "study_not_approved"
    TASK_NOT_ALLOWED = "task_not_allowed"
    TOO_FEW_PARTICIPANTS = "too_few_participants"
    ONE_CLASS_ONLY = "one_class_only"
    DATA_FAULT = "data_fault"
    SETUP_NEEDED = "setup_needed"
    MODEL_NEEDED = "model_needed"
    ALREADY_ASSESSED = "already_assessed"
    ALREADY_REVEALED = "already_revealed"
    BUDGET_SPENT = "budget_spent"
    NOT_PRIVATE_ENOUGH = "not_private_enough"
    NOT_MASKED = "not_masked"
    TOO_FEW_SITES = "too_few_sites"
    KEYS_NOT_TRUSTED = "keys_not_trusted"
    UPDATE_TOO_LARGE = "update_too_large"
    TOO_LATE = "too_late"
    WORKER_DOWN = "worker_down"
    BAD_REQUEST = "bad_request"
    INTERNAL = "internal"


@dataclass(frozen=True)
class Describe:
    """Ask for counts and sums."""

    study: str


@dataclass(frozen=True, eq=False)
class Described:
    """Counts of the site's participants and moments of its training participants."""

    site: str
    label_rule: str
    participants: int
    training: int
    training_positive: int
    images: int
    moments: Moments


@dataclass(frozen=True, eq=False)
class Setup:
    """Frozen layers (an empty vector where there are none) and the moments of all sites together."""

    study: str
    frozen: Parameters
    moments: Moments

    @property
    def digest(self) -> str:
        """Names this setup in later requests."""
        sums = [getattr(self.moments, f.name).tolist() for f in dataclasses.fields(self.moments)]
        words = json.dumps([self.study, self.frozen.digest, sums])
        return hashlib.sha256(words.encode()).hexdigest()


@dataclass(frozen=True)
class Ready:
    """The site has kept the setup."""

    site: str
    setup: str


@dataclass(frozen=True, eq=False)
class Train:
    """Train one round from these parameters; with ``masking`` the answer is :class:`Masked`."""

    study: str
    setup: str
    round: int
    parameters: Parameters
    masking: Masking | None = None


@dataclass(frozen=True, eq=False)
class TrainOn:
    """The same as :class:`Train`, for a site that holds the model of an earlier round.

    ``base`` is the digest of the parameters that it holds, ``difference`` what has changed of them since, exactly.
    """

    study: str
    setup: str
    round: int
    base: str
    difference: EncodedUpdate


@dataclass(frozen=True, eq=False)
class Trained:
    """Parameters after training, the metrics of the parameters that came down, and the study that was answered for."""

    site: str
    round: int
    participants: int
    parameters: Parameters
    metrics: Mapping[str, float]
    study: str | None = None


@dataclass(frozen=True, eq=False)
class Updated:
    """What training has changed, in the study's encoding, and the metrics of the parameters that came down."""

    site: str
    round: int
    participants: int
    update: EncodedUpdate
    metrics: Mapping[str, float]
    study: str | None = None


def expanded(reply: Trained | Updated, base: Parameters) -> Trained:
    """A round's work as parameters, in whichever form it came.

    Args:
        reply: of a site.
        base: the parameters that went down.

    Raises:
        ProtocolError: the update is of other tensors than ``base``, or damaged.
    """
    if isinstance(reply, Trained):
        return reply
    parameters = lengthen(reply.update, base)
    return Trained(reply.site, reply.round, reply.participants, parameters, reply.metrics, reply.study)


@dataclass(frozen=True, eq=False)
class Evaluate:
    """Score these parameters; probabilities are corrected to ``prevalence``, that of all training participants."""

    study: str
    setup: str
    round: int
    prevalence: float
    parameters: Parameters


@dataclass(frozen=True, eq=False)
class Evaluated:
    """Metrics on validation participants, and the score histogram of training participants for the threshold.

    The histogram is merged to the site's smallest count; it is None where a class has fewer people than that. Of a
    study that finds muscles the metrics also hold the Dice of validation participants and the drawn shapes of training
    participants, ``MUSCLE.dice.PART`` and ``MUSCLE.log_SHAPE.PART`` with the parts ``n``, ``mean`` and ``sd``, and the
    histogram is of the validation participants' quality scores: found well, found badly.
    """

    site: str
    round: int
    participants: int
    metrics: Mapping[str, float]
    histogram: MergedHistogram | None


@dataclass(frozen=True, eq=False)
class Assess:
    """Ask how good the released model is on the site's test participants, at the frozen threshold.

    ``threshold`` is of the probability, corrected to ``prevalence`` as in :class:`Evaluate`.
    """

    study: str
    setup: str
    round: int
    prevalence: float
    threshold: float
    parameters: Parameters


@dataclass(frozen=True, eq=False)
class Assessed:
    """The site's own evaluation; what would show fewer people than its smallest count is absent."""

    site: str
    evaluation: SiteEvaluation


@dataclass(frozen=True, eq=False)
class Measure:
    """Ask how well the released model finds the muscles of the site's test participants."""

    study: str
    setup: str
    round: int
    parameters: Parameters


@dataclass(frozen=True, eq=False)
class Measured:
    """What became of the test participants' muscles, see :func:`sarco_models.segmentation_scores.told`.

    ``metrics`` are ``MUSCLE.MEASURE.n``, ``.mean`` and ``.sd`` over participants, and of thickness and area in found
    (a) and in drawn masks (b) ``MUSCLE.SIZE.n``, ``.a``, ``.b``, ``.aa``, ``.bb``, ``.ab``: the sums of
    :class:`sarco_models.agreement.PairSums`. What fewer participants show than the site's smallest count is absent.
    """

    site: str
    participants: int
    metrics: Mapping[str, float]


@dataclass(frozen=True, eq=False)
class Probe:
    """Ask how well the released model tells training participants from people it has never seen."""

    study: str
    setup: str
    round: int
    parameters: Parameters


@dataclass(frozen=True)
class Probed:
    """Membership inference by the loss (Yeom et al. 2018) on the site's own training and test participants.

    Attributes:
        site: who answers.
        members: training participants scored.
        others: test participants scored.
        auc: of telling the ones from the others; 0.5 is chance.
        tpr: share of members found where 1 % of the others are called members.
    """

    site: str
    members: int
    others: int
    auc: float
    tpr: float


@dataclass(frozen=True)
class Refused:
    """No answer, and why."""

    site: str
    code: Code

    def __post_init__(self) -> None:
        """Nothing but a code of the closed set can be put in."""
        if self.code not in list(Code):
            raise ProtocolError("a refusal is a code of a closed set, never a text")


Request = Describe | Setup | Train | TrainOn | Evaluate | Assess | Measure | Probe | Keys | Reveal
Reply = (
    Described
    | Ready
    | Trained
    | Updated
    | Masked
    | Evaluated
    | Assessed
    | Measured
    | Probed
    | Keyed
    | Revealed
    | Refused
)


def task_of(request: Request) -> str:
    """What a hospital is asked to do, whichever way the model came down."""
    return (Train if isinstance(request, TrainOn) else type(request)).__name__
