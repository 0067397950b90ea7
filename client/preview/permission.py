"""What a hospital's own policy says today of a study that it looks at: of each request, of each piece of a reply."""

from __future__ import annotations

from collections.abc import Iterator

from client.approval import Approvals
from client.identity import by_name
from client.muscle_words import asks_for
from client.policy import Policy, Refusal, check, check_people
from client.study_words import Missing, missing
from client.workspace import Site, SiteConfig
from sarco_models.config import StudyConfig
from sarco_models.errors import ChainBroken
from sarco_models.messages import Assessed, Described, Evaluated, Masked, Measured, Reply, Request, Trained, Updated
from sarco_models.parameters import Manifest
from sarco_models.payload import Part
from sarco_models.shapes import LOGARITHMS

TASKS = ("Describe", "Setup", "Train", "Evaluate", "Assess", "Measure", "Probe", "Keys", "Reveal")
STATISTICS = ("sums", "histogram", "assessment", "leakage")
METRICS = ("train_loss", "loss", "auc", "dice")


def permitting(policy: Policy, study: StudyConfig) -> Policy:
    """Everything that this study could ask for; the hospital's own smallest counts stay."""
    promised = study.privacy.epsilon if study.privacy else 0.0
    return Policy.model_validate(
        {
            **policy.model_dump(),
            "approved_studies": (study.digest,),
            "tasks": TASKS,
            "metrics": METRICS,
            "statistics": STATISTICS,
            "min_training_participants": 2,
            "min_sites": 1,
            "max_epsilon": max(policy.max_epsilon, promised),
            "unprotected_training": True,
            "plain_updates": True,
            "parameters": ("*",),
            "max_parameter_bytes": 1 << 40,
        }
    )


def no_approval(approvals: Approvals, study: StudyConfig, policy: Policy) -> str:
    """Why the study is not approved here; empty where it is."""
    if study.digest in policy.approved_studies:
        return ""
    try:
        return approvals.lacking(study.digest)
    except ChainBroken as error:
        return str(error)


def keys_to_change(site: Site, manifest: Manifest, config: SiteConfig, lacking: str) -> tuple[Missing, ...]:
    """Everything that keeps this study from running here whole, key by key; empty where nothing does.

    Args:
        site: of the study that is looked at.
        manifest: of what its rounds carry.
        config: the hospital's own.
        lacking: see :func:`no_approval`.
    """
    study, people, found = site.study, site.split.train, []
    policy, budget = config.policy, config.budget
    if lacking:
        found.append(Missing("sarco-site approve", f"study {study.digest[:12]}", f"an approval: {lacking}"))
    found += missing(study, manifest, policy, budget, {config.name, *by_name(config.peers)})
    why = too_small(site, policy)
    if why and study.federation.min_participants <= len(people) < policy.min_training_participants:
        found.append(Missing("min_training_participants", f"{len(people)} or less", why))
    elif why:
        found.append(Missing("no key of yours", "another study, or more participants", why))
    return tuple(found)


def too_small(site: Site, policy: Policy) -> str:
    """Why the hospital's policy would refuse every request for its people's sake; empty where it would not."""
    people = site.split.train
    try:
        check_people(training=len(people), positive=int(people.labels.sum()), policy=policy, study=site.study)
    except Refusal as refused:
        return str(refused)
    return ""


def refusal(request: Request, policy: Policy, site: Site, lacking: str) -> str:
    """The first reason for which the hospital would refuse this request today, with the key; empty where it would not.

    What the ledger would refuse is not among it. ``lacking`` as in :func:`no_approval`.
    """
    try:
        check(request, policy, site.study, lacking)
    except Refusal as refused:
        return str(refused)
    return too_small(site, policy)


def withheld(study: StudyConfig) -> bool:
    """Whether the study itself leaves sums and histogram with the hospital."""
    return study.privacy is not None and study.privacy.statistics == "withheld"


def stays(part: Part, reply: Reply, policy: Policy, study: StudyConfig) -> str:
    """Why the policy keeps a piece of an answer that it allows; empty where it lets it out."""
    if part.kind == "metric":
        return _metric_stays(part.name.removeprefix("metrics."), reply, policy)
    if isinstance(reply, Described) and part.kind == "sums" and withheld(study):
        return "the study withholds the sums (zeros are sent)"
    if isinstance(reply, Described) and part.kind == "sums" and "sums" not in policy.statistics:
        return 'statistics: "sums" is not among them (zeros are sent)'
    if isinstance(reply, Evaluated) and part.kind == "sums" and "histogram" not in policy.statistics:
        return 'statistics: "histogram" is not among them'
    return ""


def _metric_stays(name: str, reply: Reply, policy: Policy) -> str:
    """The same of a metric; in a study that finds muscles, figures of one muscle follow the key of their kind."""
    kind = name.split(".")[1] if "." in name else name
    if isinstance(reply, Measured):
        return ""  # the assessment is allowed, or refused, as a whole
    if kind in LOGARITHMS:
        return "" if "sums" in policy.statistics else 'statistics: "sums" is not among them'
    return "" if kind in policy.metrics else f'metrics: "{kind}" is not among them'


def too_few(reply: Reply, policy: Policy, study: StudyConfig) -> tuple[str, ...]:
    """What a reply does not hold, because the study withholds it, or because too few people are behind it."""
    few = f"fewer than min_cell = {policy.min_cell} people of a kind are behind it"
    if study.segments and not isinstance(reply, Described):
        return tuple(_few_drawn(reply, study, few))
    lines = []
    if isinstance(reply, Trained | Updated | Masked | Evaluated) and "auc" not in reply.metrics:
        lines.append(f"metrics.auc: {few}, or they are all of one class")
    if isinstance(reply, Evaluated) and reply.histogram is None:
        lines.append(f"histogram: {'the study withholds it' if withheld(study) else few}")
    if isinstance(reply, Described) and withheld(study):
        lines.append("sums of the columns: the study withholds them; zeros are sent")
    elif isinstance(reply, Described) and study.unplanned and bool((reply.moments.count == 0).any()):
        lines.append(f"sums of a number: fewer than min_cell = {policy.min_cell} training participants have it")
    elif isinstance(reply, Described) and bool((reply.moments.count == 0).any()):
        lines.append(f"sums of a column: the model does not use it, or {few}")
    if isinstance(reply, Assessed):
        hidden = [n for n in ("auc", "found", "spared", "histogram") if getattr(reply.evaluation, n) is None]
        lines += [f"evaluation.{name}: {few}" for name in hidden]
    return tuple(lines)


def _few_drawn(reply: Reply, study: StudyConfig, few: str) -> Iterator[str]:
    """What a reply of a study that finds muscles leaves out, muscle by muscle."""
    if isinstance(reply, Trained | Updated | Masked | Evaluated) and "dice" not in reply.metrics:
        yield f"metrics.dice: {few}, or no muscle was found or drawn on their images"
    if not isinstance(reply, Evaluated | Measured):
        return
    if isinstance(reply, Evaluated) and not asks_for(study, "sums"):
        yield "shapes of drawn muscles, counts by quality score: they are exact, and the study is private"
    elif isinstance(reply, Evaluated) and reply.histogram is None:
        yield f"histogram: {few}"
    told = {name.split(".")[0] for name in reply.metrics}
    names = study.segmentation.names if study.segmentation else ()
    for name in names:
        if name not in told:
            yield f"everything of {name.replace('_', ' ')}: {few}"
