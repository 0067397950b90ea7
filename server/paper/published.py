"""What Chen et al. printed (J Med Internet Res 2025;27:e70545, "SARCO"), cell by cell, and what contradicts itself.

Numbers are as printed, misprints too; ``contradictions.NOTES`` says how each is resolved. The paper's text was at hand
in parts only: Table 1 is numbered as printed; the numbers of the other tables and of the figures are inferred.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

REFERENCE = "Chen et al., J Med Internet Res 2025;27:e70545"
NUMBERING = "numbering inferred"

METRICS = {
    "sensitivity": "Sensitivity",
    "specificity": "Specificity",
    "accuracy": "Accuracy",
    "auc": "AUC",
    "f1_macro": "F1, macro",
    "f1_positive": "F1, positive",
}


@dataclass(frozen=True)
class Printed:
    """One number of the paper.

    Attributes:
        value: as printed.
        source: the cell it stands in.
        below: printed as "< value".
    """

    value: float
    source: str
    below: bool = False


@dataclass(frozen=True)
class Group:
    """Whom numbers are of; None where the paper does not say."""

    participants: int
    positives: int | None

    @property
    def negatives(self) -> int | None:
        """Participants without sarcopenia."""
        return None if self.positives is None else self.participants - self.positives


@dataclass(frozen=True)
class Combination:
    """One of the six models: which data it sees. The key is how the project names it."""

    key: str
    title: str
    short: str
    modalities: frozenset[str]


COMBINATIONS = (
    Combination("image", "Ultrasound", "US", frozenset({"image"})),
    Combination("clinical", "Clinical", "clinical", frozenset({"clinical"})),
    Combination("lab", "Laboratory", "lab", frozenset({"lab"})),
    Combination("image_clinical", "Ultrasound + clinical", "US+clinical", frozenset({"image", "clinical"})),
    Combination("image_lab", "Ultrasound + laboratory", "US+lab", frozenset({"image", "lab"})),
    Combination("all", "Ultrasound + clinical + laboratory", "all", frozenset({"image", "clinical", "lab"})),
)
CHOSEN = COMBINATIONS[0]
"""The paper's final model (SARCO): ConvNeXt on ultrasound alone."""


@dataclass(frozen=True)
class Analysis:
    """One table of performances.

    Attributes:
        title: what was done.
        people: on whom.
        f1: which of the two definitions the printed F1 fits (I10).
        models: by key of the model, by metric.
        notes: signs of the contradictions that it has.
    """

    title: str
    people: Group
    f1: str
    models: Mapping[str, Mapping[str, Printed]]
    notes: tuple[str, ...] = ()


def _performances(where: str, f1: str, rows: Mapping[str, tuple[float, ...]]) -> dict[str, dict[str, Printed]]:
    """Rows of sensitivity, specificity, accuracy, AUC and F1, by model."""
    columns = ("sensitivity", "specificity", "accuracy", "auc", f1)
    return {
        model: {
            metric: Printed(value, f"{where}: {model}, {METRICS[metric].split(',')[0]}")
            for metric, value in zip(columns, values, strict=True)
        }
        for model, values in rows.items()
    }


CROSS_VALIDATION = Analysis(
    "Five-fold cross-validation of six models",
    Group(357, 101),
    "f1_macro",
    _performances(
        "cross-validation, n = 357",
        "f1_macro",
        {
            "image": (0.733, 0.782, 0.770, 0.827, 0.738),
            "clinical": (0.687, 0.748, 0.730, 0.784, 0.691),
            "lab": (0.508, 0.741, 0.672, 0.646, 0.610),
            "image_clinical": (0.689, 0.791, 0.761, 0.826, 0.721),
            "image_lab": (0.722, 0.794, 0.773, 0.832, 0.737),
            "all": (0.754, 0.799, 0.788, 0.845, 0.754),
        },
    ),
    ("I10", "I11", "I25", "I26"),
)
COMPLETE_CASES = Analysis(
    "Sensitivity analysis: participants without a missing value",
    Group(271, None),
    "f1_positive",
    _performances(
        "complete cases, n = 271",
        "f1_positive",
        {
            "image": (0.808, 0.793, 0.797, 0.851, 0.698),
            "clinical": (0.712, 0.776, 0.758, 0.787, 0.630),
            "lab": (0.506, 0.754, 0.682, 0.666, 0.480),
            "image_clinical": (0.739, 0.821, 0.797, 0.866, 0.679),
            "image_lab": (0.739, 0.798, 0.781, 0.854, 0.662),
            "all": (0.808, 0.832, 0.825, 0.883, 0.728),
        },
    ),
    ("I10", "I12"),
)


@dataclass(frozen=True)
class Validation:
    """The frozen model in another hospital; ``site`` is what the synthetic hospital is called."""

    site: str
    title: str
    people: Group
    performance: Mapping[str, Printed]
    notes: tuple[str, ...]


def _validation(where: str, values: tuple[float, ...]) -> dict[str, Printed]:
    return _performances(where, "f1_positive", {"SARCO": values})["SARCO"]


EXTERNAL = Validation(
    "sichuan",
    "B, external validation (West China, Sichuan)",
    Group(145, 68),
    _validation("external validation, n = 145", (0.705, 0.794, 0.753, 0.801, 0.727)),
    ("I10", "I13", "I2"),
)
PROOF_OF_CONCEPT = Validation(
    "zhongshan",
    "C, proof of concept (Zhongshan, Fudan)",
    Group(82, 19),
    _validation("proof of concept, n = 82", (0.789, 0.825, 0.817, 0.757, 0.666)),
    ("I10", "I14"),
)
VALIDATIONS = (EXTERNAL, PROOF_OF_CONCEPT)

P_AGAINST_ALL = {
    "image": Printed(0.02, "text, n = 357: P of .845 against .827"),
    "image_clinical": Printed(0.03, "text, n = 357: P of .845 against .826"),
    "image_lab": Printed(0.04, "text, n = 357: P of .845 against .832 (abstract: .035)"),
}
"""DeLong's P of all three kinds of data against each other model; the paper adjusts for nothing."""

NETWORK_AUC = {
    "convnext": Printed(0.827, "text: ConvNeXt, AUC"),
    "swin": Printed(0.835, "text: Swin, AUC"),
    "efficientnet": None,  # in an appendix that was not at hand
}
NETWORK_P = Printed(0.10, "text: P of ConvNeXt against Swin")

FOUND = {
    "all": Printed(77, "text: sarcopenia correctly predicted, multimodal"),
    "image": Printed(74, "text: sarcopenia correctly predicted, US"),
}
"""Of 101 participants with sarcopenia."""

IMAGE_SHARE = {
    "paper": {
        "sarcopenia": Printed(0.787, "SHAP, n = 357: share of US, sarcopenia"),
        "non_sarcopenia": Printed(0.823, "SHAP, n = 357: share of US, non-sarcopenia"),
    },
    "complete_cases": {
        "sarcopenia": Printed(0.810, "SHAP, n = 271: share of US, sarcopenia"),
        "non_sarcopenia": Printed(0.795, "SHAP, n = 271: share of US, non-sarcopenia"),
    },
}


# --- Table 1 ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Quartiles:
    """Median, first and third quartile."""

    median: float
    q1: float
    q3: float


@dataclass(frozen=True)
class Count:
    """Participants with a property, of all."""

    count: int
    of: int


@dataclass(frozen=True)
class Characteristic:
    """One row of Table 1.

    Attributes:
        title: with its unit.
        negative: participants without sarcopenia (256).
        positive: participants with sarcopenia (101).
        p: as printed.
        notes: signs of the contradictions that it has.
    """

    title: str
    negative: Quartiles | Count
    positive: Quartiles | Count
    p: Printed
    notes: tuple[str, ...] = field(default=())

    @property
    def source(self) -> str:
        """The row in the paper."""
        return f"Table 1: {self.title}"


Three = tuple[float, float, float]


def _measured(title: str, negative: Three, positive: Three, p: float, *notes: str) -> Characteristic:
    return Characteristic(title, Quartiles(*negative), Quartiles(*positive), _p(title, p), notes)


def _counted(title: str, negative: int, positive: int, p: float, *notes: str) -> Characteristic:
    return Characteristic(title, Count(negative, 256), Count(positive, 101), _p(title, p), notes)


def _p(title: str, value: float) -> Printed:
    return Printed(value, f"Table 1: {title}, P", below=value == 0.001)


TABLE_1 = {
    "age_years": _measured("Age, years", (66.00, 62.00, 69.75), (72.00, 66.00, 80.50), 0.001),
    "male": _counted("Male", 117, 53, 0.30, "I27"),
    "height_m": _measured("Height, m", (1.64, 1.58, 1.70), (1.63, 1.57, 1.70), 0.43),
    "weight_kg": _measured("Weight, kg", (66.75, 57.85, 75.30), (62.50, 55.45, 70.25), 0.006),
    "bmi_kg_per_m2": _measured("BMI, kg/m²", (24.70, 22.48, 26.89), (23.53, 21.45, 25.25), 0.002),
    "calf_circumference_cm": _measured(
        "Calf circumference, cm", (35.00, 22.48, 26.90), (33.34, 32.90, 34.00), 0.001, "I3", "I4"
    ),
    "asmi_kg_per_m2": _measured("ASMI, kg/m²", (5.40, 4.74, 6.01), (4.84, 4.60, 5.10), 0.001, "I8"),
    "grip_kg": _measured("Grip strength, kg", (29.00, 22.93, 36.55), (20.84, 17.25, 23.30), 0.001),
    "gait_speed_m_per_s": _measured("6 m walking speed, m/s", (1.16, 0.99, 1.26), (1.03, 0.95, 1.08), 0.001, "I9"),
    "chair_stand_s": _measured("Five chair stands, s", (9.38, 8.32, 11.02), (12.76, 11.36, 13.20), 0.001),
    "diabetes": _counted("Diabetes", 208, 72, 0.04, "I27"),
    "osteoporosis": _counted("Osteoporosis", 79, 41, 0.08, "I27"),
    "total_cholesterol_mmol_per_l": _measured(
        "Total cholesterol, mmol/L", (4.31, 3.72, 5.01), (4.39, 3.57, 4.95), 0.90
    ),
    "triglycerides_mmol_per_l": _measured("Triglycerides, mmol/L", (1.32, 0.96, 2.08), (1.28, 0.91, 1.77), 0.12),
    "hdl_mmol_per_l": _measured("HDL cholesterol, mmol/L", (1.17, 0.99, 1.40), (1.20, 1.00, 1.50), 0.15),
    "ldl_mmol_per_l": _measured("LDL cholesterol, mmol/L", (2.50, 2.00, 3.06), (2.60, 1.90, 3.12), 0.75),
    "hba1c_percent": _measured("HbA1c, %", (8.28, 6.69, 9.91), (7.98, 6.31, 9.64), 0.22),
    "albumin_g_per_l": _measured("Albumin, g/L", (39.90, 38.00, 41.98), (37.60, 35.55, 39.75), 0.001),
    "haemoglobin_g_per_l": _measured("Haemoglobin, g/L", (132, 122, 145), (124, 115, 133.5), 0.001),
    "vitd_25oh_ng_per_ml": _measured(
        "25-OH vitamin D, ng/mL", (22.06, 17.06, 33.50), (21.10, 27.37, 29.63), 0.05, "I5", "I6"
    ),
    "osteocalcin_ng_per_ml": _measured("Osteocalcin, ng/mL", (11.75, 9.73, 14.87), (12.12, 9.89, 12.61), 0.67, "I7"),
    "ft3_pmol_per_l": _measured("Free T3, pmol/L", (4.84, 4.44, 5.16), (4.64, 4.42, 4.97), 0.01),
    "ft4_pmol_per_l": _measured("Free T4, pmol/L", (15.27, 13.90, 16.65), (14.99, 13.65, 16.35), 0.54),
    "tt3_nmol_per_l": _measured("Total T3, nmol/L", (1.51, 1.32, 1.70), (1.51, 1.32, 1.59), 0.19),
    "tt4_nmol_per_l": _measured("Total T4, nmol/L", (97.55, 86.85, 109.55), (99.70, 90.20, 111.35), 0.20),
    "tsh_miu_per_l": _measured("TSH, mIU/L", (1.69, 1.19, 2.59), (2.03, 1.40, 3.02), 0.03),
}
"""By the name of the project's column, in the paper's order."""
