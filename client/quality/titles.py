"""What a rule is called on the page, and in one sentence why it matters; a rule without a title shows its name."""

from sarco_models.label_rules import RULES

_UNREADABLE = "What cannot be read cannot be used: the image is left out of training."
_WRONG_MASK = "The model looks where the mask says: a wrong mask shows it something that is not the muscle."
_IDENTITY = "Data for a study carry no person's identity; the page says only where it stands."
_UNREADABLE_TABLE = "Every check and every training run begins with this table."
_TELLS = "A model would learn this instead of the muscle, and fail at every other hospital."
_CONTRADICTION = "Both values cannot be true, and a model would learn from the wrong one."
_LABEL = "Labels are what the model learns to say: a wrong one teaches it the opposite."

_TITLES: dict[str, tuple[str, str]] = {
    # the tables as files
    "cannot-check": ("The check could not begin", "Without this, nothing else can be looked at."),
    "absent": ("A table is not there", _UNREADABLE_TABLE),
    "csv": ("The table is no proper CSV file", _UNREADABLE_TABLE),
    "encoding": ("The table's letters cannot be read", _UNREADABLE_TABLE),
    "workbook": ("The workbook cannot be opened", _UNREADABLE_TABLE),
    "sheet": ("Which sheet of the workbook counts is not clear", _UNREADABLE_TABLE),
    "empty": ("The table is empty", _UNREADABLE_TABLE),
    "header": ("The header of the table is not clear", "A column is known by its name in the first row."),
    "cells": ("Rows with too many or too few cells", "Values may stand under the wrong header."),
    "merged": ("Merged cells", "A merged cell has one value; what the others mean can only be guessed."),
    "cell-error": ("Cells that hold a formula's error", "An error is no value; it counts as missing."),
    "digits": ("Numbers that the spreadsheet has shortened", "Digits that are gone cannot be brought back later."),
    "decimal": ("Decimal commas and points are mixed", "1,250 may be a little over one, or over a thousand."),
    "column": (
        "Columns that are missing or not known",
        "A column that the study does not know is not read, and one that it misses is empty for everybody.",
    ),
    "path": ("Rows of images.csv without an image", "The row says nothing without the image's path."),
    # people
    "id": ("Rows without a participant id", "Without an id, images cannot find their person."),
    "duplicate-id": (
        "One id in several rows",
        "Each person must be counted once, or training and test would share somebody.",
    ),
    "same-person": (
        "One person under two ids",
        "A person on both sides of the split makes the model look better than it is.",
    ),
    "two-persons": ("Images of another person", "Images must belong to the person whose values stand in the table."),
    "header-id": ("Ids in image headers that tell nobody apart", "They cannot be used to find mixed-up images."),
    "two-visits": (
        "Images of several visits",
        "Label and laboratory values belong to one day, and so must the images.",
    ),
    "exam-date": ("Dates of examinations that cannot be right", "Dates tell visits apart."),
    "one-table-only": (
        "People or images that only one table has",
        "An image without its person is left out; a person without images is used by tables alone.",
    ),
    "no-image": ("People without a usable image", "The model must do without their images, or without them."),
    "cohort-size": ("Number of people in each class", "With too few, the site's part of the model is mostly noise."),
    "class-balance": ("One class is very rare", "It may be a label of another meaning, and it is hard to score."),
    "overlap": (
        "People who are also at another hospital",
        "Somebody counted twice makes results look surer than they are.",
    ),
    "fingerprints": ("The other hospital's fingerprints cannot be used", "Without them, overlap cannot be looked for."),
    "guessable-key": ("The linkage key can be guessed", "Whoever guesses the key can test whether somebody is here."),
    # values
    "range": (
        "Values outside the plausible range",
        "Most are a wrong unit or a slip of the pen; they are not taken over, and count as missing until mended.",
    ),
    "unit": ("A column whose unit is not the study's", "A model would read the numbers in the study's unit."),
    "units": ("A column in another unit", "A model would read the numbers in the study's unit."),
    "units-mixed": ("Two units in one column", "The same number would mean two things."),
    "unusual-median": ("A column whose middle is unusual", "It may hold something else than its name says."),
    "outlier": ("Values far from all others", "True extremes are welcome; slips of the pen are not."),
    "bmi": ("BMI does not fit weight and height", _CONTRADICTION),
    "part-above-whole": ("A part that is larger than the whole", _CONTRADICTION),
    "friedewald": ("LDL does not fit the other lipids", "One of the four values may be mistyped."),
    "free-hormone": ("Free and total hormone do not fit", "Often one of the two is in another unit."),
    "calf-height": ("Calf circumference does not fit the height", _CONTRADICTION),
    "missing": ("Features with many missing values", "What is missing is filled in by a mean, which says nothing."),
    "missing-in-person": ("People of whom most values are missing", "The model knows next to nothing of them."),
    "missing-block": ("Features that are missing together", "A panel was not ordered, or was lost in the export."),
    "missing-by-class": ("Missing more often in one class", _TELLS),
    "empty-column": ("Columns without a single value", "The model learns nothing from them here."),
    "constant": ("Columns in which everybody has the same value", "Often a default that nobody filled in."),
    "copied-column": ("Columns that are copies of each other", "One of the two measurements is not what it says."),
    "rounded": ("Values rounded to 0 or 5", "Rounded values are less exact than they look."),
    # labels
    "label": ("Labels that are missing or not 0 or 1", _LABEL),
    "label-inverted": ("Labels are the wrong way round", _LABEL),
    "label-mismatch": ("Labels that the rule does not give", _LABEL),
    "label-rule": ("Labels compared with their rule", "Labels made by different rules cannot be learned together."),
    "label-part": ("A column that defines the label", "The model would only repeat the definition."),
    "leakage": ("A column that gives the label away", _TELLS),
    "image-count": ("Number of images differs between the classes", _TELLS),
    "plan-fit": ("Images that the network's plan does not fit", "It was made of all hospitals' images together."),
    "people-drawn": ("People of whom muscles are drawn", "With too few, the site's part of the model is mostly noise."),
    "muscle-coverage": (
        "Which muscles are drawn",
        "A muscle that is there and not drawn is learned as its absence, unless it was not looked for.",
    ),
    "annotated": ("Muscles that the study is not about", "What was looked for on an image must be clear."),
    "muscle": ("Muscles and sides", "Another muscle looks different, whatever the disease."),
    # identity
    "identity-id": ("Participant ids that look like a person's", _IDENTITY),
    "identity-name": ("File names that look like a person's", _IDENTITY),
    "identity-header": ("Personal data in the headers of images", _IDENTITY),
    "identity-mask": ("Personal data in the headers of masks", _IDENTITY),
    "burned-in-outside": ("Files that say they hold text", "What lies around the tissue is never read."),
    "burned-in-text": ("Text in the pixels", "It may be a name, and a model could read it as a clue."),
    # images
    "file": ("Files that are not there or cannot be opened", _UNREADABLE),
    "format": ("Files that are no image", _UNREADABLE),
    "decode": ("Images that are damaged", _UNREADABLE),
    "no-pixels": ("Files without pixels", _UNREADABLE),
    "size": ("Files whose size is not what they say", _UNREADABLE),
    "too-large": ("Files that are too large", "A single ultrasound frame is never as large: the file is damaged."),
    "bits": ("Pixels of an unusual depth", _UNREADABLE),
    "signed": ("Pixels with negative values", _UNREADABLE),
    "colour": ("Colour in the pixels", "Only grey is read: colour Doppler and markings would mislead the model."),
    "coloured-marks": ("Small coloured marks", "Callipers and arrows are no tissue."),
    "empty-image": ("Images without contrast", "There is nothing to see, and nothing to learn."),
    "saturated": (
        "Images that are mostly white or black",
        "What is all white or black shows nothing.",
    ),
    "cine": ("Frames of a clip", "The mask must have been drawn on the very frame that is read."),
    "grey-levels": (
        "Devices with few people to measure their grey levels on",
        "Their images are brightened or darkened as those of all devices of the hospital together.",
    ),
    "secondary-capture": ("Copies of a screen", "A copy knows neither its tissue region nor its scale."),
    "compression": ("Strongly compressed images", "Compression draws patterns that no tissue has."),
    "check-failed": ("Images on which a check stopped", "What could not be checked is left out."),
    "deflated": ("Files in a packed form that is not read", _UNREADABLE),
    "no-decoder": ("A compression that cannot be unpacked", _UNREADABLE),
    "several-frames": ("Clips where a still image is expected", "Which frame counts must be said, never guessed."),
    "frame-index": ("A frame number that the clip does not have", _UNREADABLE),
    "not-ultrasound": ("Files that are no ultrasound image", "Another kind of image would mislead the model."),
    "orientation": ("Images that do not stand upright", "The model knows the skin at the top; a mask may not fit."),
    "no-tissue-region": (
        "No two-dimensional tissue in the image",
        "A Doppler or M-mode trace is no picture of a muscle.",
    ),
    "region-small": ("Little of the picture is read", "The tissue region may have been found in the wrong place."),
    "region-tiny": ("Very small images", "Too few pixels to see the texture of a muscle."),
    "region-found": ("Tissue regions found in the pixels", "What is found can be wrong; what is said is not."),
    "region": ("The tissue region does not fit the image", "Outside it lie rulers, logos and names."),
    "screen": (
        "The scanner's screen cannot be told from the tissue",
        "Rulers, logos and names around the image must never reach the model.",
    ),
    "calibration": ("Faults in calibration.csv", "It says where the tissue is, and how large a pixel is."),
    "spacing": ("Millimetres per pixel are not known", "A thick muscle near by looks like a thin one magnified."),
    "no-spacing": ("Millimetres per pixel are not known", "Without them nothing can be measured in millimetres."),
    "spacing-untypical": ("Unusual millimetres per pixel", "A muscle would look thicker or thinner than it is."),
    "depth-untypical": ("Unusual imaging depth", "The spacing may be wrong, or the tissue region."),
    "anisotropic": ("Pixels that are not square", "Drawn as they are, muscles would look stretched."),
    "duplicate-image": ("One image in several rows", "An image must be counted once, for one person."),
    "near-duplicate": ("Images that are almost the same", "An image must be counted once, for one person."),
    "devices": ("Devices", "Each device has its own look; the study should know them all."),
    "device-brightness": ("A device that is brighter or darker", "A model may learn the device instead of the muscle."),
    "device-spacing": (
        "Millimetres per pixel differ or are missing",
        "One device has few scales: others may be wrong.",
    ),
    # masks
    "mask": ("Images without a mask", "Without the muscle's outline the model cannot tell where to look."),
    "mask-missing": ("Images without a mask", "Without the muscle's outline the model cannot tell where to look."),
    "auto-masks": ("Where the masks come from", "A found mask is as good as the model on images like yours."),
    "mask-not-found": (
        "Images on which no good mask was found",
        "Without the muscle's outline they are of no use here.",
    ),
    "synthetic-model": (
        "The model that finds muscles has never seen a person",
        "It learned from computer-made images; on real ones its outlines may be anything.",
    ),
    "mask-shared": ("One mask on several images", "No hand draws the same outline twice."),
    "mask-of-another-image": ("Masks drawn on another image", _WRONG_MASK),
    "mask-shifted": ("Masks that are shifted against their image", _WRONG_MASK),
    "mask-elsewhere": ("Masks that follow no edge of the image", _WRONG_MASK),
    "mask-border": ("Masks that touch the border", "What lies outside the image cannot be measured."),
    "mask-pieces": ("Masks in several pieces", "A muscle in one image is one piece."),
    "mask-holes": ("Masks with holes", "What lies in a hole is not seen by the model."),
    "mask-size-implausible": ("Muscles that are too large or too small", _WRONG_MASK),
    "mask-file": ("Masks that cannot be read", _WRONG_MASK),
    "labelme": ("LabelMe files that cannot be read", _WRONG_MASK),
    "open-outline": (
        "Outlines that are not closed",
        "A line bounds no area; what its author meant can only be guessed.",
    ),
    "crossed-outline": (
        "Outlines that cross themselves",
        "What lies between the crossings may be muscle or not, by how the outline is read.",
    ),
    "overlapping-muscles": ("Two muscles drawn over each other", "A pixel belongs to one muscle."),
    "beyond-view": ("Muscles that the network's window cuts off", "What is not seen is neither learned nor found."),
    "outline-inside": ("Outlines inside others of the same label", "A hole and a second drawing look the same."),
    "outline-beyond": ("Outlines beyond the picture", _WRONG_MASK),
    "overlap-thin": ("Muscles that share a border", "What belongs to both is neither learned nor measured."),
    "unknown-label": ("Labels that the study does not know", "Which muscle is meant must be said, never guessed."),
    "another-muscle": ("Another muscle is drawn than the image is said to be of", _WRONG_MASK),
    "muscle-unknown": ("Images whose muscle is not said", "Which muscle is to be found must be said, never guessed."),
    "empty-mask": ("Masks in which nothing is drawn", _WRONG_MASK),
    "several-labels": ("Masks with several labels", "Which of them is the muscle must be said, never guessed."),
    "mask-outside": ("Masks that reach out of the image", _WRONG_MASK),
    "mask-size": ("Masks of another size than the image", _WRONG_MASK),
    "mask-slices": ("Masks of several slices", "An image has one slice; which one counts is not known."),
    "mask-orientation": ("Masks turned against their image", _WRONG_MASK),
    "mask-spacing": ("Masks with other millimetres than the image", _WRONG_MASK),
    "float-mask": (
        "Masks that are not of whole numbers",
        "It is a probability or a resampled mask, with blurred edges.",
    ),
    "not-a-mask": ("Pictures that are no mask", _WRONG_MASK),
}
_CHECKS = {
    "tables": "Tables: columns, types, ranges, units",
    "values": "Values: outliers and impossible combinations",
    "missing": "Missing values, constant and copied columns",
    "leakage": "Columns that give the label away",
    "labels": "Labels against their rule",
    "label-rules": "Labels against their rule",
    "identity": "Names, ids, headers and file names",
    "text": "Text burned into the pixels",
    "images": "Images: readable, sharp grey levels, spacing, region",
    "duplicates": "Images that are there twice",
    "masks": "Masks: present, plausible, on their image",
    "cohort": "Enough people of each class, each once",
    "overlap": "People who are also at another hospital",
}


def title_of(rule: str) -> str:
    """The rule in the words of the person who has to mend it."""
    return _TITLES[rule][0] if rule in _TITLES else _plain(rule)


def why_of(rule: str) -> str:
    """Why it matters, in one sentence; "" for a rule that is not known here."""
    return _TITLES[rule][1] if rule in _TITLES else ""


def check_name(check: str) -> str:
    """A check in words."""
    return _CHECKS.get(check, _plain(check))


def rule_name(rule: str) -> str:
    """A label rule as papers write it."""
    return RULES[rule].title if rule in RULES else _plain(rule)


def _plain(name: str) -> str:
    words = name.replace("-", " ").replace("_", " ").strip()
    return words[:1].upper() + words[1:]
