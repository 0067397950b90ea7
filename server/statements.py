"""What a report says in sentences: the finding, what is missing, how it was done, what it does not show.

Every sentence is built from what the run holds; a number never stands without its interval.
"""

from typing import Any

from server.figures import SITES_TO_FORETELL, arm_name, place_name, pooled_over_sites
from server.results import CENTRAL, OverSeeds, Results
from server.tables import interval, number, rule_name

ENOUGH_SEEDS = 3
FEW_EVENTS = 20


# --- the main finding -------------------------------------------------------------------------------------------------


def finding(results: Results) -> list[str]:
    """The result in plain sentences, each number with its interval."""
    federated = results.over_seeds("federated", "auc")
    if federated is None:
        return ["This run holds no final result of federated training on the central test people."]
    hospitals = len(results.sites)
    people = f"{federated.n} people whom no hospital had trained on" if federated.n else "people nobody had trained on"
    sentences = [
        f"Trained together without exchanging a single image or patient record, {_hospitals(hospitals)} reached an AUC "
        f"of {number(federated.mean, 2)} ({limits(federated)}) on {people}.",
        f"That means: given one person with sarcopenia and one without, the model gives the higher probability to the "
        f"one who has it about {100 * federated.mean:.0f} times in 100.{_over_seeds_words(federated)}",
    ]
    return [*sentences, *_against(results), *_at_threshold(results)]


def _hospitals(count: int) -> str:
    words = {1: "one hospital", 2: "two hospitals", 3: "three hospitals", 4: "four hospitals", 5: "five hospitals"}
    return words.get(count, f"{count} hospitals")


def limits(found: OverSeeds, *, signed: bool = False) -> str:
    """The 95 % interval in words."""
    ends = interval(found, 2, signed=signed)
    return f"95 % interval {ends}" if ends else "no interval given"


def _over_seeds_words(found: OverSeeds) -> str:
    if found.sd is None:
        return " This is one training run; another seed would give a somewhat different number."
    return f" Over {found.seeds} training runs it lay between {number(found.least, 2)} and {number(found.most, 2)}."


def best_alone(results: Results) -> str | None:
    """The hospital whose own model does best on the central test people."""
    alone = {arm: f.mean for arm in results.arms if arm.startswith("local:") and (f := results.over_seeds(arm, "auc"))}
    return max(alone, key=lambda arm: alone[arm]) if alone else None


def _against(results: Results) -> list[str]:
    sentences = []
    best = best_alone(results)
    if best and (auc := results.over_seeds(best, "auc")):
        start = f"The best that one hospital reached alone was {number(auc.mean, 2)} ({arm_name(best)}, {limits(auc)})"
        sentences.append(start + _verdict(results.difference("federated", best), "federated training was"))
    if pooled := results.over_seeds("pooled", "auc"):
        start = (
            "Putting all data in one place, which the federation avoids, gave "
            f"{number(pooled.mean, 2)} ({limits(pooled)})"
        )
        sentences.append(start + _verdict(results.difference("federated", "pooled"), "federated training was"))
    return sentences


def _verdict(difference: OverSeeds | None, subject: str) -> str:
    if difference is None or difference.low is None or difference.high is None:
        return "."
    gap = f"{number(abs(difference.mean), 2)} {'better' if difference.mean > 0 else 'worse'}"
    how = f"difference {number(difference.mean, 2, signed=True)}, {limits(difference, signed=True)}"
    if difference.low > 0 or difference.high < 0:
        return f"; {subject} {gap} ({how}, which leaves out no difference)."
    return f"; with this many people the two cannot be told apart ({how})."


def _at_threshold(results: Results) -> list[str]:
    found, spared = (results.over_seeds("federated", metric) for metric in ("sensitivity", "specificity"))
    if not found or not spared:
        return []
    return [
        "At the threshold frozen beforehand on training participants, the federated model found "
        f"{_of_100(found)} of 100 people with sarcopenia and correctly cleared {_of_100(spared)} of 100 without it."
    ]


def _of_100(share: OverSeeds) -> str:
    ends = (
        f" ({100 * share.low:.0f} to {100 * share.high:.0f})"
        if share.low is not None and share.high is not None
        else ""
    )
    return f"{100 * share.mean:.0f}{ends}"


def absent(results: Results) -> list[str]:
    """Arms, seeds and files that a whole run would hold and this one does not."""
    expected = ["federated", "pooled", *(f"local:{site}" for site in results.sites)]
    gaps = [f"no final result for {arm_name(arm)}" for arm in expected if not results.final(arm, "auc")]
    for arm in expected:
        seeds = {row.seed for row in results.final(arm, "auc")}
        lost = [str(seed) for seed in results.meta.seeds if seed not in seeds]
        if seeds and lost:
            gaps.append(f"{arm_name(arm)} lacks seed {', '.join(lost)}")
    if not results.scores:
        gaps.append("no scores.csv, so no ROC and calibration curves")
    return gaps


# --- beneath the tables -----------------------------------------------------------------------------------------------


def comparison_note(results: Results) -> str:
    """How to read the cells of the comparison."""
    several = len(results.seeds) > 1
    first = (
        f"Mean of {len(results.seeds)} seeds; beneath it the 95 % interval (mean of the seeds' limits) and the "
        "standard deviation between seeds; every seed's own interval is in Table 6. "
        if several
        else "One seed; beneath each number its 95 % interval. "
    )
    return first + (
        "Every number counts participants, never images. AUC: DeLong interval on the logit scale. Sensitivity, "
        "specificity, accuracy: Wilson, exact below 40 people, at the frozen threshold. F1 and Brier: participants "
        "resampled within class. A dash: the run holds no such number, or it has no meaning for that row."
    )


def difference_note(results: Results) -> str:
    """How to read the differences."""
    seeds = " P values: lowest to highest of the seeds." if len(results.seeds) > 1 else ""
    return (
        "Above 0: the way named first is better. Paired DeLong test on the same people. Holm's adjustment covers the "
        f"federated model against pooled and against each hospital alone.{seeds} No difference found is not proof of "
        "equality: look at the interval."
    )


def heterogeneity(results: Results) -> str:
    """Whether the hospitals differ more than chance."""
    pooled = pooled_over_sites(results)
    if pooled is None:
        return (
            "Fewer than three hospitals have an AUC with an interval (two people of each class must be held out), so "
            "the hospitals are neither pooled nor compared."
        )
    sites = sum(results.over_seeds("federated", "auc", site) is not None for site in results.sites)
    random = pooled.random
    text = (
        f"Pooled over {sites} hospitals the federated model has an AUC of {random.value:.2f} ({random.low:.2f} to "
        f"{random.high:.2f}). Heterogeneity: I² {100 * pooled.i2:.0f} %, Q {pooled.q:.2f}, P {pooled.p:.2f}."
    )
    if sites >= SITES_TO_FORETELL:
        return text
    return (
        text + " With so few hospitals this test can hardly detect anything, and how a further one would fare is open."
    )


# --- privacy ----------------------------------------------------------------------------------------------------------


def privacy(results: Results) -> list[str]:
    """What left each hospital, by the study's protocol and this run's settings."""
    extremes = _section(results.meta.study, "tabular").get("scaling") == "minmax"
    lines = [
        "In federated training each hospital sent: the weights of the trained layers after each round; how many "
        "participants it has, trained on, and trained on with a positive label; how many images; the rule behind its "
        f"labels; sums{', smallest and largest values' if extremes else ''} and counts of the columns that the model "
        "uses, once, to agree on a common scale; how many training participants of each class fall into each bin of "
        "the predicted probability; and its loss and AUC. It sent no image, no table row, no participant number and no "
        "file name. Pooled training is a yardstick only: it needs all data in one place.",
        _differential_privacy(results.meta.study.get("privacy")),
    ]
    if extremes:
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


def _differential_privacy(settings: Any) -> str:
    if not settings:
        return (
            "There was no differential privacy in this run: weights, counts and metrics left each hospital without "
            "added noise. Weights can betray something about the people they were trained on (whether a known person "
            "took part, for instance), and small counts can too."
        )
    named = ", ".join(f"{key} {value}" for key, value in dict(settings).items())
    return (
        f"Training was differentially private for each participant ({named}). That covers the weights only: counts and "
        "metrics left the hospitals without noise."
    )


# --- methods ----------------------------------------------------------------------------------------------------------


def methods(results: Results) -> str:
    """One paragraph; what the study file does not say is left out."""
    study = results.meta.study
    parts = [_model_words(study), _federation_words(study), _training_words(study), _label_words(results)]
    parts.append(
        "A participant's score is the mean of the logits of that person's images. In every arm the same participants "
        "of each hospital were held out, and the same central test people were scored. Statistics: DeLong (1988) in "
        "the form of Sun and Xu (2014), intervals on the logit scale; Wilson or Clopper-Pearson; stratified bootstrap "
        "of participants; logistic recalibration; DerSimonian-Laird with Hartung-Knapp intervals, never narrower than "
        "without; Holm (1979)."
    )
    return " ".join(part for part in parts if part)


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
    strategy = {"fedavg": "FedAvg", "fedprox": "FedProx"}.get(
        str(federation.get("strategy")), federation.get("strategy")
    )
    rounds, epochs = federation.get("rounds", "?"), training.get("local_epochs", "?")
    return f"{strategy} weighted by participants, {rounds} rounds, local epochs per round: {epochs}."


def _training_words(study: dict[str, Any]) -> str:
    training, evaluation = _section(study, "training"), _section(study, "evaluation")
    if not training:
        return ""
    text = (
        f"AdamW, learning rate {training.get('learning_rate', '?')}, {training.get('batch_participants', '?')} "
        "participants in a batch."
    )
    if training.get("balance_classes"):
        text += (
            " The larger class was down-sampled to parity inside the training loader only, and probabilities were "
            "shifted back to the prevalence among training participants."
        )
    rules = {"youden": "the largest sum of sensitivity and specificity (Youden)"}
    rules["sensitivity"] = f"a sensitivity of at least {evaluation.get('min_sensitivity', '?')}"
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
            "hospitals may be a difference in what was called sarcopenia."
        )
    lines.append(
        "The hospitals whose people were tested also took part in training. This is not external validation: a "
        "hospital that never took part may fare worse."
    )
    lines.append(
        "The threshold was frozen on the people who were trained on, as they were scored by the model that had learned "
        "from them. A model that fits few people closely gets a threshold that suits others less: sensitivity, "
        "specificity, accuracy and F1 suffer from it, most where a small hospital trained alone; the AUC does not."
    )
    lines.append(
        "Probabilities refer to the prevalence among training participants; where sarcopenia is rarer or more common "
        "they must be shifted before use."
    )
    return [*lines, "For research only; not a medical device, and not for decisions about a patient."]


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
        if (found := results.over_seeds("federated", "auc", place)) and found.n_positive is not None
        if found.n_positive < FEW_EVENTS
    ]
    if few:
        lines.append(
            f"Fewer than {FEW_EVENTS} tested people with sarcopenia at: {_listed(few)}. Their intervals are wide."
        )
    return lines
