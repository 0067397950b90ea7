"""What a study does with a hospital's participants and what leaves, in plain words, for whoever decides on it.

Everything here is computed from the study file, the network that it names and the hospital's own policy; no
participant's data are read.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from client import muscle_words, planning_words
from client.asked_words import STATISTICS, TASKS
from client.budget_figures import counted
from client.ledger import BudgetConfig
from client.mask_words import finding_masks
from client.policy import FEWEST_MASKED, Policy, Refusal, Task, check_parameters, study_violations
from client.update_words import travel
from sarco_models.accounting import epsilon, plan
from sarco_models.config import StudyConfig
from sarco_models.encoding import most_bytes
from sarco_models.parameters import Manifest
from sarco_models.uncovered import odds, uncovered

_NAMES_SHOWN = 4
METRICS = ("train_loss", "loss", "auc")
"""All that a reply may name; with differential privacy the loss of training participants is never sent."""


@dataclass(frozen=True)
class Section:
    """A heading, and sentences below it."""

    heading: str
    sentences: tuple[str, ...]


@dataclass(frozen=True)
class Missing:
    """One thing that a study asks for and the hospital's policy does not allow.

    Attributes:
        key: of site.toml, below [policy], ``budget.`` and one below [budget], or ``[[peers]]``.
        write: what the key would have to say.
        why: what the study asks for.
    """

    key: str
    write: str
    why: str


def sections(study: StudyConfig, manifest: Manifest, policy: Policy) -> list[Section]:
    """What a hospital should know of a study before it approves it.

    Args:
        study: as the coordinator has written it.
        manifest: of what its rounds carry.
        policy: of the hospital; what it withholds is not said to leave.
    """
    if study.unplanned:
        return [Section(*told) for told in planning_words.planning(study, policy)]
    told, muscles = muscle_words, study.segments
    after = tuple(told.after(study, policy, _probe(study)) if muscles else _after(study, policy))
    plan_words = tuple(told.planned(study)) if muscles else ()
    return [
        Section("What it is for", tuple(told.purpose(study) if muscles else _purpose(study))),
        Section("What is read here", tuple(_inputs(study))),
        Section("What is done here", tuple(_work(study, manifest))),
        *([Section("How its network was planned", plan_words)] if plan_words else []),
        Section("What leaves before the first round", tuple(told.before(study) if muscles else _before(study, policy))),
        Section("What leaves in every round", tuple(_each_round(study, manifest, policy))),
        Section("What leaves after the last round", after),
        Section("How each participant is protected", tuple(_privacy(study))),
        Section("What no epsilon covers", uncovered(study)),
        Section("What the coordinator sees of you alone", tuple(_aggregation(study))),
        Section("Before the model is handed out", tuple(_release(study))),
    ]


def missing(
    study: StudyConfig,
    manifest: Manifest,
    policy: Policy,
    budget: BudgetConfig | None = None,
    names: Collection[str] | None = None,
) -> list[Missing]:
    """What site.toml would have to allow for this study to run here whole, key by key; empty where it does.

    What is not allowed is refused, or left out of the answers. ``approved_studies`` is not among it: that is what
    ``sarco-site approve`` records.

    Args:
        study: as the coordinator has written it.
        manifest: of what its rounds carry.
        policy: of the hospital.
        budget: of the hospital; without it no limit of privacy is looked at but the policy's.
        names: of the hospitals with a line in [[peers]], and this one's own; without them no peer is looked for.
    """
    asked = TASKS | (muscle_words.TASKS if study.segments else {})
    found = [
        Missing("tasks", f"add {task}", f"the coordinator asks for {asked[task]}")
        for task in asked_for(study)
        if task not in policy.tasks
    ]
    told = planning_words.STATISTICS if study.unplanned else muscle_words.STATISTICS if study.segments else STATISTICS
    for statistic, words in told.items():
        if statistic not in policy.statistics and _asks_for(study, statistic):
            found.append(Missing("statistics", f"add {statistic}", words))
    needs = {
        "unprotected_training": "true",
        "min_sites": str(study.federation.min_sites),
        "plain_updates": "true",
    }
    broken = [(key, words) for _code, key, words in study_violations(policy, study) if key != "max_epsilon"]
    found += [Missing(key, needs[key], f"it {words}") for key, words in dict(broken).items()]
    found += _missing_parameters(study, manifest, policy)
    found += _missing_epsilon(study, policy, budget)
    return [*found, *(() if names is None else _missing_peers(study, names))]


def asked_for(study: StudyConfig) -> tuple[Task, ...]:
    """The requests of a run, by name. Nobody assesses a model that no threshold is frozen for."""
    if study.unplanned:
        return ("Describe",)
    assess: tuple[Task, ...] = ("Measure",) if study.segments else () if _withheld(study) else ("Assess",)
    masked: tuple[Task, ...] = ("Keys", "Reveal") if study.federation.secure_aggregation else ()
    return ("Describe", "Setup", "Train", "Evaluate", *assess, "Probe", *masked)


def own_epsilon(study: StudyConfig, budget: BudgetConfig) -> float:
    """What the whole study costs as the hospital's own ledger counts; infinite without privacy."""
    return epsilon(plan(study).spends(), budget.delta, budget.accountant) if study.privacy else math.inf


def _withheld(study: StudyConfig) -> bool:
    return study.privacy is not None and study.privacy.statistics == "withheld"


def _asks_for(study: StudyConfig, statistic: str) -> bool:
    if study.segments and not study.unplanned:
        return muscle_words.asks_for(study, statistic)
    if statistic == "sums":
        return (bool(study.inputs) or study.unplanned) and not _withheld(study)
    return not study.unplanned and (statistic == "leakage" or not _withheld(study))


def _missing_parameters(study: StudyConfig, manifest: Manifest, policy: Policy) -> Iterator[Missing]:
    size = most_bytes(manifest, study.federation.encoding)
    try:
        check_parameters(manifest, policy.model_copy(update={"max_parameter_bytes": most_bytes(manifest, "float32")}))
    except Refusal:
        yield Missing("parameters", '["*"], or patterns of the names', f"it sends {_names(manifest)}")
    if size > policy.max_parameter_bytes:
        yield Missing("max_parameter_bytes", f"{size} or more", f"an update has {size:,} bytes")


def _missing_epsilon(study: StudyConfig, policy: Policy, budget: BudgetConfig | None) -> Iterator[Missing]:
    """What is left of the lifetime limit only the ledger knows: sarco-site budget."""
    if study.privacy is None:
        own = {"study_epsilon": budget.one_study, "lifetime_epsilon": budget.lifetime} if budget else {}
        for key, limit in own.items():
            if math.isfinite(limit):
                yield Missing(f"budget.{key}", '"unlimited"', "without noise no epsilon is large enough")
        return
    promised = study.privacy.epsilon
    cost = own_epsilon(study, budget) if budget else promised
    words = f"the study spends epsilon = {promised:g} at its delta {study.privacy.delta:g}"
    if budget:
        words += f"; at your own delta {budget.delta:g}: epsilon {cost:.2f} (budget.delta, budget.accountant)"
    limits = [("max_epsilon", policy.max_epsilon, max(promised, cost))]
    if budget:
        limits += [("budget.study_epsilon", budget.one_study, cost), ("budget.lifetime_epsilon", budget.lifetime, cost)]
    for key, limit, needed in limits:
        if limit < needed:
            yield Missing(key, f"{math.ceil(100 * needed - 1e-9) / 100:g} or more", f"it is {limit:g}, and {words}")


def _missing_peers(study: StudyConfig, names: Collection[str]) -> Iterator[Missing]:
    """Under masks a hospital answers for hospitals whose keys it knows only; fewer than three hide nothing."""
    least = max(FEWEST_MASKED, study.federation.min_sites)
    if study.federation.secure_aggregation and len(names) < least:
        yield Missing(
            "[[peers]]",
            "a line for each hospital that takes part, as sarco-site key shows it there",
            f"the study has secure aggregation, of {least} hospitals or more, and you know the keys of "
            f"{len(names)}, your own included ({', '.join(sorted(names))})",
        )


def _names(manifest: Manifest) -> str:
    more = len(manifest.names) - _NAMES_SHOWN
    return ", ".join(manifest.names[:_NAMES_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _purpose(study: StudyConfig) -> Iterator[str]:
    yield f"{study.title}. Hospitals train one model together that tells who has {study.label.condition}."
    mixed = "; hospitals may use another rule" if study.label.allow_mixed_rules else ""
    yield f"It learns from the column {study.label.column}, made by the rule {study.label.rule}{mixed}."
    yield "The model is for research. It is no medical device."


def _inputs(study: StudyConfig) -> Iterator[str]:
    if study.uses_images:
        cut = "the frame" if study.image.roi == "none" else "the tissue under the mask"
        side = study.image.size
        yield f"{study.image.words.capitalize()}: {cut}, {side} x {side} pixels. No pixel leaves."
        yield from muscle_words.inputs(study) if study.segments else finding_masks(study)
    for group in dict.fromkeys(f.group for f in study.inputs):
        names = [f.name for f in study.inputs if f.group == group]
        yield f"{len(names)} {group} columns of participants.csv: {', '.join(names)}. No row leaves."
    parts = study.split
    test = 1 - parts.train - parts.validation
    if parts.folds:
        yield f"Of your participants one fold of {parts.folds} is kept for the test, the others train and validate."
    else:
        yield f"Of your participants {parts.train:.0%} train, {parts.validation:.0%} validate, {test:.0%} only test."
    yield f"With fewer than {study.federation.min_participants} training participants you cannot take part."


def _work(study: StudyConfig, manifest: Manifest) -> Iterator[str]:
    cfg, rounds = study.training, study.federation.rounds
    passes = "one pass" if cfg.local_epochs == 1 else f"{cfg.local_epochs} passes"
    amount = counted(cfg.local_steps, "step") if cfg.local_steps else f"{passes} over your participants"
    yield f"{counted(rounds, 'round')}. In each, the model that comes down is trained by {amount}."
    if study.uses_images:
        layers = {
            "all": "all layers are trained",
            "last_stage": "the last stage and the head are trained",
            "head": "the head alone is trained",
        }
        trained = layers[study.model.trainable]
        image = f"Image network {study.model.backbone}: {trained}."
        yield muscle_words.network(study, trained) if study.segments else image
    yield f"Trained are {sum(manifest.sizes):,} numbers in {len(manifest.names)} tensors. It runs on this machine only."


def _before(study: StudyConfig, policy: Policy) -> Iterator[str]:
    noised = study.privacy is not None and study.privacy.statistics != "exact"
    yield "Your name, your label rule, and how many participants, training participants and images you have: exactly."
    yield f"How many of those in training are cases: {'with noise, inside epsilon' if noised else 'exactly'}."
    if not study.inputs:
        return
    withheld = not _asks_for(study, "sums") or "sums" not in policy.statistics
    noise = "with noise, inside epsilon" if study.privacy and study.privacy.statistics == "private" else "exact"
    if withheld:
        yield "No sums over your tables."
    else:
        yield (
            f"Of {len(study.inputs)} columns, where at least {policy.min_cell} people have a value: count, sum and sum "
            f"of squares over your training participants ({noise})."
        )
    if study.tabular.scaling == "minmax" and not withheld:
        yield "Smallest and largest value of each column: values of single participants."


def _each_round(study: StudyConfig, manifest: Manifest, policy: Policy) -> Iterator[str]:
    yield from travel(study.federation, manifest, _names(manifest))
    if study.segments:
        yield muscle_words.metrics_words(policy, study)
        return
    sent = [name for name in METRICS if name != "train_loss" or study.privacy is None]
    metrics = [name for name in sent if name in policy.metrics]
    yield f"Metrics that your policy lets out: {', '.join(metrics) or 'none'} (loss and auc are of validation people)."


def _after(study: StudyConfig, policy: Policy) -> Iterator[str]:
    words = {
        "histogram": f"A score histogram of your training participants, no count of 1 to {policy.min_cell - 1} people.",
        "assessment": "Once: AUC, calls at the threshold and a merged histogram of your test participants.",
        "leakage": _probe(study),
    }
    metrics = [name for name in ("loss", "auc") if name in policy.metrics]
    yield (
        f"Metrics of your validation participants: {', '.join(metrics) or 'none'}. This evaluation is of one model in "
        "a study, never of a second: two would tell who is between."
    )
    if _withheld(study):
        yield 'No histogram, so there is no threshold and no assessment: the study says statistics = "withheld".'
    for statistic, sentence in words.items():
        if not _asks_for(study, statistic):
            continue
        yield sentence if statistic in policy.statistics else f"Withheld by your policy: {statistic}."


def _probe(study: StudyConfig) -> str:
    """The one exact answer about single training participants that a private study has."""
    words = "Once, in two numbers: how well the model tells your training from your test participants"
    if study.privacy is None:
        return f"{words}."
    return f"{words}, in steps of 0.05. It is of people who were trained on, has no noise and is OUTSIDE epsilon."


def _privacy(study: StudyConfig) -> Iterator[str]:
    cfg = study.privacy
    if cfg is None:
        yield "They are not. The model is trained WITHOUT differential privacy: it may betray who was trained on."
        yield "Privacy then rests on your trust in the coordinator and in whoever receives the model."
        yield (
            "Your ledger counts each answer about your training participants (sums, training, scores, probe) as "
            "unprotected, for good: a budget that is a number refuses it, and every later study on them."
        )
        return
    noise = plan(study)
    steps = "the one step" if noise.training.steps == 1 else f"each of {noise.training.steps} steps"
    yield (
        f"Differential privacy of each participant with all their images and values: epsilon = {cfg.epsilon:g} at "
        f"delta = {cfg.delta:g}, for the whole study (accountant {cfg.accountant})."
    )
    yield odds(cfg.epsilon, cfg.delta)
    yield (
        f"A participant's gradient is cut to a length of {cfg.max_grad_norm:g}, and noise of "
        f"{noise.training.noise_multiplier:.2f} times that length is added in {steps} of "
        f"{counted(noise.rounds, 'round')}; a participant is in a step with a chance of {cfg.sample_rate:g}."
    )
    words = {
        "private": "Sums and score histogram get noise, too, and are inside epsilon.",
        "withheld": "Sums and score histogram stay here; the number of cases gets noise and is inside epsilon. Tables "
        "are scaled by the study's ranges.",
        "exact": "Sums and score histogram leave WITHOUT noise and are OUTSIDE epsilon.",
    }
    yield muscle_words.statistics_words(study) if study.segments else words[cfg.statistics]


def _aggregation(study: StudyConfig) -> Iterator[str]:
    if study.federation.secure_aggregation:
        least = max(FEWEST_MASKED, study.federation.min_sites)
        yield f"Nothing but the sum of the updates of {least} or more hospitals: masks on yours cancel in the sum."
        yield "All others together, without you, could still subtract themselves from the sum."
    else:
        yield "Your own update, in every round: there is no secure aggregation."
    told = "counts, metrics and measures" if study.segments else "counts, metrics, histogram and assessment"
    yield f"Your {told} are always seen as yours."


def _release(study: StudyConfig) -> Iterator[str]:
    gate = study.release
    yield (
        f"At {gate.min_probed_sites} or more hospitals membership inference must have been measured: AUC at most "
        f"{gate.max_membership_auc:g}, at most {gate.max_membership_tpr:.0%} of members found at 1 % false positives. "
        "With few people the limit is wider by the false positives it takes."
    )
