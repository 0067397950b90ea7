"""What a report says of how a run was done and what it does not show: privacy, methods, limitations."""

from typing import Any

from server import privacy_tables
from server.arms import CENTRAL, place_name, variant_title
from server.guarantees import Guarantee, number
from server.results import Results
from server.sent import shares_extremes, what_was_sent
from server.tables import rule_name

ENOUGH_SEEDS = 3
ODDS = (
    "Epsilon bounds what anybody can learn of whether one person took part: the odds of a bet on it change by a factor "
    "of 2.7 at most at epsilon 1, of 20 at 3, of 3,000 at 8, but for a chance of delta. For k people at once epsilon "
    "is up to k times as large, and delta grows as well."
)
FEW_EVENTS = 20


# --- privacy ----------------------------------------------------------------------------------------------------------


def privacy(results: Results) -> list[str]:
    """What left each hospital, by the study's protocol and this run's settings."""
    if results.cross_validated:
        return [
            f"The models were trained at one hospital, {place_name(results.meta.protocol.site)}, and nothing of its "
            "people left it but the trained weights. The other hospitals scored their people with the frozen models."
        ]
    lines = [
        *what_was_sent(results),
        "Pooled training is a yardstick only: it needs all data in one place.",
        *_differential_privacy(results),
    ]
    if shares_extremes(results):
        lines.append(
            "The smallest and largest value of a measurement each belong to one person. A study that scales by "
            "clinical ranges does not send them."
        )
    if results.meta.engine == "inprocess":
        lines.append(
            "In this run all hospitals were played by one process on one machine, so these sentences describe the "
            "messages that were exchanged, not a network that was tested."
        )
    return lines


def _differential_privacy(results: Results) -> list[str]:
    """From what the arms did; of a run that did not write that down, from what its study file says."""
    settings, found = results.meta.study.get("privacy"), privacy_tables.guarantees(results)
    if found:
        units = {g.unit: [(name, o) for name, o in found if o.unit == g.unit] for _, g in found}
        return [
            *(_of_one_unit(unit, guarantees) for unit, guarantees in units.items()),
            f"{ODDS} What epsilon does not cover stands beneath the table.",
        ]
    if settings:
        named = ", ".join(f"{key} {value}" for key, value in dict(settings).items())
        return [
            f"The study file asks for differential privacy of each participant ({named}). The run does not say what "
            "was spent: its epsilon is not known here. Counts and metrics of validation and test people left the "
            "hospitals without noise."
        ]
    return [
        "There was no differential privacy in this run: weights, counts and metrics left each hospital without "
        "added noise. Weights can betray something about the people they were trained on (whether a known person "
        "took part, for instance), and small counts can too."
    ]


def _of_one_unit(unit: str, found: list[tuple[str, Guarantee]]) -> str:
    """Epsilons that protect the same; others are never named beside them."""
    each = _listed([f"{name} with epsilon {number(g.epsilon)} at delta {g.delta:g}" for name, g in found])
    return f"Differentially private for each {unit} were: {each}, recomputed from the rounds that were run."


# --- methods ----------------------------------------------------------------------------------------------------------


def methods(results: Results) -> str:
    """One paragraph; what the study file does not say is left out."""
    study = results.meta.study
    parts = [_model_words(study), _federation_words(study), _training_words(study), _label_words(results)]
    if results.images:
        parts.append("A participant's score is the mean of the logits of that person's images.")
    parts.append(
        f"{_protocol_words(results)} "
        "Statistics: DeLong (1988) in the form of Sun and Xu (2014), intervals on the logit scale; Wilson or "
        "Clopper-Pearson; bootstrap of participants; logistic recalibration, smooth calibration curve by local linear "
        "regression; net benefit by Vickers and Elkin (2006); DerSimonian-Laird with Hartung-Knapp intervals, never "
        "narrower than without; Holm (1979)."
    )
    return " ".join(part for part in parts if part)


def _protocol_words(results: Results) -> str:
    protocol = results.meta.protocol
    if not results.cross_validated:
        return (
            "In every arm the same participants of each hospital were held out, and the same central test people were "
            "scored."
        )
    draws = f", {protocol.draws} balanced draws each, ensembled by mean probability" if protocol.draws else ""
    cases = " Only participants without a missing feature were kept." if protocol.complete_cases else ""
    rule = f" Choice, by a rule fixed beforehand: {protocol.selection.rule.rstrip('.')}." if protocol.selection else ""
    return (
        f"Cross-validation at {place_name(protocol.site)} in {protocol.folds or '?'} folds of participants{draws}."
        f"{cases} Out-of-fold scores are pooled on a common scale.{rule} The models of all folds were then "
        "frozen, with the threshold of the out-of-fold scores, and scored the other hospitals."
    )


def _section(study: dict[str, Any], name: str) -> dict[str, Any]:
    found = study.get(name)
    return found if isinstance(found, dict) else {}


def _model_words(study: dict[str, Any]) -> str:
    model, image = _section(study, "model"), _section(study, "image")
    inputs = model.get("modalities")
    if not inputs:
        return ""
    features = [f.get("group") for f in study.get("features", []) if isinstance(f, dict)]
    named = [f"{group} ({features.count(group)} features)" if group in features else str(group) for group in inputs]
    text = f"The model sees {_listed(named)}."
    if "image" in inputs:
        text += (
            f" Image network: {model.get('backbone', 'not recorded')}, starting weights "
            f"{model.get('weights', 'not recorded')}, trained layers: {model.get('trainable', 'not recorded')}; images "
            f"of {image.get('size', '?')} by {image.get('size', '?')} pixels ({image.get('framing', '?')} framing)."
        )
    return text


def _federation_words(study: dict[str, Any]) -> str:
    federation, training = _section(study, "federation"), _section(study, "training")
    if not federation:
        return ""
    strategy = variant_title(str(federation.get("strategy")))
    steps = training.get("local_steps")
    work = (
        f"local steps per round: {steps}" if steps else f"local epochs per round: {training.get('local_epochs', '?')}"
    )
    masked = " Updates were summed under masks (secure aggregation)." if federation.get("secure_aggregation") else ""
    return f"{strategy} weighted by participants, {federation.get('rounds', '?')} rounds, {work}.{masked}"


def _training_words(study: dict[str, Any]) -> str:
    training, evaluation = _section(study, "training"), _section(study, "evaluation")
    if not training:
        return ""
    optimizer = {"sgd": "SGD"}.get(str(training.get("optimizer")), "AdamW")
    text = (
        f"{optimizer}, learning rate {training.get('learning_rate', '?')}, {training.get('batch_participants', '?')} "
        "participants in a batch."
    )
    if training.get("balance_classes"):
        text += (
            " The larger class was down-sampled to parity inside the training loader only, and probabilities were "
            "shifted back to the prevalence among training participants."
        )
    rules = {"youden": "the largest sum of sensitivity and specificity (Youden)"}
    rules["sensitivity"] = f"a sensitivity of at least {evaluation.get('min_sensitivity', '?')}"
    rules["cost"] = f"the least cost when a missed case weighs {evaluation.get('cost_ratio', 1)} false alarms"
    rule = rules.get(str(evaluation.get("threshold_rule")))
    return text + (f" Threshold: {rule}, frozen before testing." if rule else "")


def _label_words(results: Results) -> str:
    rule = _section(results.meta.study, "label").get("rule")
    return f"Reference standard of the study: {rule_name(rule)}." if rule else ""


def _listed(words: list[str]) -> str:
    return words[0] if len(words) == 1 else ", ".join(words[:-1]) + " and " + words[-1]


# --- limitations ------------------------------------------------------------------------------------------------------


def limitations(results: Results) -> list[str]:
    """What the numbers do not show, by what this run is."""
    lines = [*_origin(results), *_samples(results)]
    rules = {facts.label_rule for facts in results.meta.sites.values() if facts.label_rule}
    if len(rules) > 1:
        named = _listed(sorted(rule_name(rule) for rule in rules))
        lines.append(
            f"The hospitals' reference standards differ ({named}): part of any difference between "
            f"hospitals may be a difference in what was called {results.condition}."
        )
    lines += _of_cross_validation() if results.cross_validated else _of_comparison(results)
    return [*lines, "For research only; not a medical device, and not for decisions about a patient."]


def _of_comparison(results: Results) -> list[str]:
    left_out = any(arm.startswith("without:") for arm in results.arms)
    external = (
        "Only the arms that leave a hospital out say how one fares that never took part; in all others the hospitals "
        "whose people were tested also took part in training."
        if left_out
        else "The hospitals whose people were tested also took part in training. This is not external validation: a "
        "hospital that never took part may fare worse."
    )
    return [
        external,
        "The threshold was frozen on the people who were trained on, as they were scored by the model that had learned "
        "from them. A model that fits few people closely gets a threshold that suits others less: sensitivity, "
        "specificity, accuracy and F1 suffer from it, most where a small hospital trained alone; the AUC does not.",
        "Probabilities refer to the prevalence among training participants; where the disease is rarer or more common "
        "they must be shifted before use.",
    ]


def _of_cross_validation() -> list[str]:
    return [
        "The candidate was chosen by the same out-of-fold people whom its numbers describe; only the row that chooses "
        "anew in each fold is free of that.",
        "Pooled out-of-fold probabilities are calibrated by construction. Judge calibration at the other hospitals.",
        "The folds share most of their training people: their standard deviation is no standard error, and no test of "
        "the folds' values is valid.",
    ]


def _origin(results: Results) -> list[str]:
    if results.meta.synthetic:
        return [
            "All data are synthetic. The numbers show that the methods and the software work; how good such a model is "
            "for patients they cannot show."
        ]
    if results.meta.synthetic is None:
        return ["The run does not record whether its data are synthetic or real."]
    return []


def _samples(results: Results) -> list[str]:
    lines = []
    if len(results.seeds) < ENOUGH_SEEDS:
        lines.append(
            f"Only {len(results.seeds)} training run(s): another seed usually moves an AUC by .02 to .035 (standard "
            "deviation), as much as many of the differences looked for."
        )
    places = [CENTRAL, *results.sites]
    few = [
        f"{place_name(place)} ({found.n_positive})"
        for place in places
        if (found := results.over_seeds(results.lead, "auc", place)) and found.n_positive is not None
        if found.n_positive < FEW_EVENTS
    ]
    if few:
        lines.append(
            f"Fewer than {FEW_EVENTS} tested people with {results.condition} at: {_listed(few)}. Their intervals are "
            "wide."
        )
    return lines
