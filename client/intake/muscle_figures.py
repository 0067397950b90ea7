"""Which label was which muscle, and what is drawn: the private table ``labels.csv``, its findings and its counts."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from client.intake.copying import Outcome
from client.intake.muscle_labels import counted, is_word, names_another, resolved
from client.intake.private import write_table
from client.mapping import MaskRules
from client.quality.muscles import shown_by
from sarco_models.config import StudyConfig
from sarco_models.errors import Finding
from sarco_models.segmentation import SegmentationConfig

LABELS_FILE = "labels.csv"
LABELS_COLUMNS = ("label", "masks", "alone", "muscle")
"""The label as its tool shows it; masks that hold it; masks that hold nothing else; what it is taken for."""

UNKNOWN = "?"
"""Nobody has said what the label is."""

OF_IMAGE = "the image's"
"""A number, a colour or an unknown word that is alone in its mask: the muscle that the image is of."""

LEFT_OUT = "left out"
DRAWN = "drawn: "
"""Before a muscle's name in the counts of a run."""

_FIRST_ROW = 2


def muscle_figures(
    private: Path, outcomes: Iterable[Outcome], rules: MaskRules, study: StudyConfig
) -> tuple[dict[str, int], tuple[Finding, ...]]:
    """Write ``labels.csv``; images on which each muscle is drawn, and findings. Nothing in a study without muscles."""
    segmentation = study.segmentation
    if segmentation is None:
        return {}, ()
    there = list(outcomes)
    rows = label_rows(there, rules, segmentation)
    write_table(private / LABELS_FILE, LABELS_COLUMNS, rows)
    return drawn_words(there, segmentation), tuple(about_labels(rows, segmentation))


def label_rows(
    outcomes: Iterable[Outcome], rules: MaskRules, segmentation: SegmentationConfig
) -> list[tuple[str, int, int, str]]:
    """A row for each label of the masks that were looked at, the most frequent first."""
    found = counted(labels for outcome in outcomes for labels in outcome.labels)
    rows = []
    for label in found:
        said = resolved([label.name, ""], "", rules, segmentation).get(label.name, UNKNOWN)  # as beside another one
        named = names_another(label.name, "", segmentation)
        means_nothing = (said == UNKNOWN and not named) or not is_word(label.name)
        if label.alone == label.masks and means_nothing and label.name not in rules.muscles:
            said = OF_IMAGE
        rows.append((label.name, label.masks, label.alone, said or LEFT_OUT))
    return rows


def about_labels(rows: Sequence[tuple[str, int, int, str]], segmentation: SegmentationConfig) -> Iterator[Finding]:
    """What nobody has said of labels, by their row of ``labels.csv``: what is left out, what is taken for granted."""
    for row, (label, masks, _, muscle) in enumerate(rows, start=_FIRST_ROW):
        seen = f"label {shown_by(segmentation)(label) or 'without a name'} in {masks} mask{'s' if masks > 1 else ''}"
        if muscle == OF_IMAGE and is_word(label):
            seen += ", alone there: taken for the muscle that the image is of"
            remedy = "nothing, if it is so; else say in masks.muscles of the mapping what it is"
            yield Finding("note", "label-taken", LABELS_FILE, seen, "a name of a muscle", remedy, row, "label")
        if muscle == UNKNOWN:
            remedy = 'say in masks.muscles of the mapping which one it is, or ""'
            expected = ", ".join(segmentation.names)
            yield Finding("warning", "label-unknown", LABELS_FILE, seen, expected, remedy, row, "label")


def drawn_words(outcomes: Iterable[Outcome], segmentation: SegmentationConfig) -> dict[str, int]:
    """Images on which each muscle of the study is drawn."""
    found = [
        {part.partition("=")[2] for part in copy.mask_label.split(";")}
        for outcome in outcomes
        for copy in outcome.copies
    ]
    return {f"{DRAWN}{name}": sum(name in names for names in found) for name in segmentation.names}
