"""What each reply, and each piece of it, means: one sentence for a data-protection officer."""

from fnmatch import fnmatchcase

from sarco_models.config import StudyConfig

WHEN = {
    "Describe": "once, before the first round",
    "Setup": "once, before the first round",
    "Keys": "each round",
    "Train": "each round",
    "Reveal": "each round",
    "Evaluate": "once, after the last round",
    "Assess": "once, after the last round",
    "Measure": "once, after the last round",
    "Probe": "once, after the last round",
}
WHAT = {
    "Describe": "How many people you have, and sums over the tables of your training participants, from which all "
    "hospitals agree on one scale.",
    "Setup": "You are sent the layers that are not trained, and keep them. Only a hash goes back.",
    "Keys": "A key for this round, signed by your hospital, from which the masks of secure aggregation are made.",
    "Train": "You are sent the model of the round, train it on your training participants and send back what changed.",
    "Reveal": "The seed of your own mask, once every hospital's masked update is there: without the others' masks, "
    "which cancel in the sum only, it opens nothing.",
    "Evaluate": "How good the final model is on your validation participants, and a histogram of your training "
    "participants' scores, from which the threshold is frozen. For one model in a study, never for a second.",
    "Assess": "How good the released model is on your test participants: the hospital's own evaluation.",
    "Measure": "How well the released model finds the muscles of your test participants: overlap, distances and sizes, "
    "as means over people.",
    "Probe": "How well the released model tells people whom it was trained on from people it has never seen. It is of "
    "training participants, without noise: no epsilon covers it. For one model in a study, never for a second.",
}
PARAMETERS = "The tensors are what your training has made of the model: they carry traces of the people behind them."
_MUSCLES = {
    "Describe": "How many people and images with a mask you have. No sums over tables: none is read.",
    "Evaluate": "How good the final model is on your validation participants, the shapes of the muscles that were "
    "drawn on your training participants, and how many validation participants were found well, by quality score. For "
    "one model in a study, never for a second.",
}
_MUSCLES_PRIVATE = {
    "Evaluate": "How good the final model is on your validation participants, for one model in a study. The study is "
    "private: shapes and counts by quality score, which are exact, stay here.",
}
_WITHHELD = {
    "Describe": "How many people you have, and under noise how many of those in training are cases. The study "
    "withholds the sums over your tables: zeros are sent in their place.",
    "Evaluate": "How good the final model is on your validation participants, for one model in a study. The study "
    "withholds the histogram of scores: there is no threshold, and nobody is asked for an assessment.",
}
_NOISED = " With noise, inside epsilon."
_MUSCLE_PIECES = {
    "Describe.label_rule": "A place for how labels were made; no label is read here.",
    "Describe.participants": "How many people have an image with a mask. Exact; no epsilon covers it.",
    "Describe.training_positive": "A place for a number of cases: 0, for nobody is diagnosed.",
    "Describe.images": "How many images with a mask could be read. Exact; no epsilon covers it.",
    "*.moments.*": "Empty: no table is read.",
    "*.metrics.loss": "How far off the model's outlines are on your validation participants. Exact; no epsilon.",
    "*.metrics.dice": "How well the model's outlines overlap with the drawn ones on your validation participants: 1 is "
    "the same outline. Mean over muscles and people. Exact; no epsilon.",
    "Evaluate.metrics.*.dice.n": "Of how many validation participants the next two numbers are.",
    "Evaluate.metrics.*.dice.mean": "Mean overlap with the drawn outlines over these people. Exact; no epsilon.",
    "Evaluate.metrics.*.dice.sd": "How much the overlap differs between these people.",
    "Evaluate.metrics.*.log_*.n": "Of how many training participants the next two numbers are.",
    "Evaluate.metrics.*.log_area_cm2.mean": "Mean logarithm of the drawn muscle's area over these people. Exact.",
    "Evaluate.metrics.*.log_aspect.mean": "Mean logarithm of width over thickness over these people. Exact.",
    "Evaluate.metrics.*.log_convexity.mean": "Mean logarithm of the share of its convex hull that it fills. Exact.",
    "Evaluate.metrics.*.log_*.sd": "How much it differs between these people.",
    "Evaluate.histogram.ends": "Where each group of neighbouring quality scores ends; borders, no people.",
    "Evaluate.histogram.positives": "How many validation participants in each group were found well (a mean Dice of .8 "
    "or more), merged until no count is of fewer than {min_cell} people.",
    "Evaluate.histogram.negatives": "How many in each group were found badly, merged likewise.",
    "Measure.participants": "How many test participants you have. Exact.",
    "Measure.metrics.*.n": "Of how many test participants the following numbers are: at least {min_cell}.",
    "Measure.metrics.*.dice.mean": "Mean overlap with the drawn outlines: 1 is the same outline.",
    "Measure.metrics.*.iou.mean": "Mean overlap, counted otherwise: common area over the area of either.",
    "Measure.metrics.*.hd95_mm.mean": "How far apart the outlines are at their worst places, leaving out 5 %, in mm.",
    "Measure.metrics.*.assd_mm.mean": "How far apart the outlines are on average, in mm.",
    "Measure.metrics.*.thickness_error_mm.mean": "Thickness found minus thickness drawn, in mm.",
    "Measure.metrics.*.area_error_cm2.mean": "Area found minus area drawn, in cm2.",
    "Measure.metrics.*.sd": "How much it differs between these people.",
    "Measure.metrics.*.aa": "Sum over these people of the squared size as found.",
    "Measure.metrics.*.bb": "Sum over these people of the squared size as drawn.",
    "Measure.metrics.*.ab": "Sum over these people of found times drawn: with the others it tells how far they agree.",
    "Measure.metrics.*.a": "Sum over these people of the size as found.",
    "Measure.metrics.*.b": "Sum over these people of the size as drawn.",
}
"""In a study that finds muscles; looked at first."""

_PIECES = {
    "*.site": "Your hospital's name, as the coordinator knows it.",
    "Describe.label_rule": "How your labels were made. No person's label.",
    "Describe.participants": "How many people your tables hold. Exact; no epsilon covers it.",
    "Describe.training": "How many of them the model is trained on. Exact; no epsilon covers it.",
    "Describe.training_positive": "How many of those have {condition}.{noised}",
    "Describe.images": "How many images could be read. Exact; no epsilon covers it.",
    "Describe.moments.count": "For each column, how many training participants have a value.{noised}",
    "Describe.moments.total": "For each column, the sum of the values: with the count it is the mean.{noised}",
    "Describe.moments.squares": "For each column, the sum of squares: it gives the standard deviation.{noised}",
    "Describe.moments.*est": "{extremes}",
    "Setup.setup": "A hash that says that the setup arrived whole. It tells nothing of your people.",
    "*.study": "Which study is answered: its digest.",
    "*.round": "Which round is answered.",
    "*.attempt": "Which attempt at the round is answered.",
    "Train.participants": "Your weight in the average: how many people were trained on. Exact; no epsilon covers it.",
    "Train.update.encoding": "The form of your update, as the study says.",
    "Train.update.vector": "Your update under masks: to anybody without all the masks, random numbers.",
    "*.metrics.train_loss": "How well the model fits your training participants. Exact.",
    "*.metrics.loss": "How far off the model's probabilities are on your validation participants. Exact; no epsilon.",
    "*.metrics.auc": "How well the model orders your validation participants: .5 is a coin. Exact; no epsilon.",
    "Evaluate.participants": "How many people were trained on, as said before.",
    "Evaluate.histogram.ends": "Where each group of neighbouring scores ends; borders, no people.",
    "Evaluate.histogram.*": "How many training participants of one class have a score in each group, merged until no "
    "count is of fewer than {min_cell} people.{noised}",
    "Assess.evaluation.participants": "How many test participants you have. Exact.",
    "Assess.evaluation.positives": "How many of them have {condition}. Exact.",
    "Assess.evaluation.auc": "How well the model orders your test participants. Exact.",
    "Assess.evaluation.auc_variance": "How sure that AUC is.",
    "Assess.evaluation.threshold": "The threshold that you were asked about.",
    "Assess.evaluation.found.*": "Calls of your test participants with {condition} at the threshold. Exact counts.",
    "Assess.evaluation.spared.*": "Calls of your test participants without {condition} at the threshold. Exact counts.",
    "Assess.evaluation.histogram.*": "Your test participants' scores in groups of at least {min_cell} of a class.",
    "Probe.members": "How many training participants were scored.",
    "Probe.others": "How many test participants they were compared with.",
    "Probe.auc": "Chance that a training participant looks more familiar to the model than a test participant: .5 is "
    "no leak.{probed}",
    "Probe.tpr": "Share of training participants recognised while hardly anybody else is taken for one.{probed}",
    "Keys.public": "A key made for this attempt only. It tells nothing of your people.",
    "Keys.signature": "Proof that the key is your hospital's.",
    "Reveal.seed": "Opens your own mask of this attempt; your update stays under the masks shared with the others.",
}
NUMBERS = {
    "Epsilon": "How much the result may depend on one single person. The smaller, the better protected: at 1 nobody's "
    "odds of guessing that you took part change by more than a factor of 2.7, at 3 by 20, at 8 by nearly 3,000.",
    "Delta": "The chance that the promise of epsilon fails. It must be far below one in your number of participants.",
    "Membership AUC": "Show an attacker one person who was trained on and one who was not: how often the attacker "
    "tells them apart. .5 is a coin, 1 is always.",
    "SHA-256": "A fingerprint of what leaves. The audit log keeps it, so that you can prove later what was sent.",
    "Correlation and SSIM": "How alike two pictures are: 1 is the same picture, near 0 is nothing alike.",
}


def what(request: str, study: StudyConfig) -> str:
    """What a request is answered in this study."""
    if study.segments:
        private = study.privacy is not None and study.privacy.statistics != "exact"
        words = (_MUSCLES_PRIVATE.get(request, "") if private else "") or _MUSCLES.get(request, WHAT[request])
    else:
        words = (_WITHHELD.get(request, "") if _withholds(study) else "") or WHAT[request]
    if study.privacy is None and request in ("Describe", "Train", "Evaluate", "Probe"):
        words += " Your ledger counts it as unprotected."
    return words


def _withholds(study: StudyConfig) -> bool:
    return study.privacy is not None and study.privacy.statistics == "withheld"


def meaning(request: str, piece: str, study: StudyConfig, min_cell: int) -> str:
    """One sentence on a piece of a reply; empty where none is needed.

    Args:
        request: that is answered.
        piece: its name.
        study: whether statistics are noised, and what the condition is called.
        min_cell: the hospital's smallest count.
    """
    private = study.privacy is not None and study.privacy.statistics != "exact"
    if _withholds(study) and not study.segments and piece.startswith("moments."):
        return ""  # why they stay is said before
    minmax = study.tabular.scaling == "minmax"
    fills = {
        "extremes": "A person's own value, the extreme one of each column." if minmax else "Empty in this study.",
        "condition": study.label.condition,
        "noised": _NOISED * private,
        "probed": " Without noise, in steps of .05; outside epsilon." * (study.privacy is not None),
        "min_cell": str(min_cell),
    }
    patterns = {**_MUSCLE_PIECES, **{k: v for k, v in _PIECES.items() if k not in _MUSCLE_PIECES}}
    patterns = patterns if study.segments else _PIECES
    for pattern, words in patterns.items():
        if fnmatchcase(f"{request}.{piece}", pattern):
            return words.format(**fills)
    return ""
