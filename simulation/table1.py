"""Table 1 of Chen et al. (2025) as numbers, and the assumed correlations between its rows.

Quantiles are (minimum, first quartile, median, third quartile, maximum) of participants without and with sarcopenia;
minima and maxima are assumptions. Misprints are mended as SCIENCE 1.6 says: calf (I3), 25-OH vitamin D (I5, I6), and
ASMI, which is generated on the physiological scale instead (I8; ``tables.py``).
"""

from dataclasses import dataclass

import pandas as pd

from simulation.centers import Knots, PerClass

FACTORS = ("frailty", "adiposity", "muscle", "nutrition", "lipid", "thyroid", "glycaemia")
Loadings = tuple[float, float, float, float, float, float, float]

NUM_HEALTHY, NUM_SARCOPENIA = 256, 101
DIABETES = PerClass(208 / NUM_HEALTHY, 72 / NUM_SARCOPENIA)
OSTEOPOROSIS = PerClass(79 / NUM_HEALTHY, 41 / NUM_SARCOPENIA)


@dataclass(frozen=True)
class Row:
    """One continuous row.

    Attributes:
        quantiles: per class.
        loadings: on the ``FACTORS``, within class and sex.
        male_shift: men minus women, in standard deviations within a sex.
        decimals: as the hospital's system prints it.
        logarithmic: interpolate between quantiles on the logarithm.
    """

    quantiles: PerClass[Knots]
    loadings: Loadings
    male_shift: float
    decimals: int
    logarithmic: bool = False


ROWS = {
    "age_years": Row(
        PerClass((60, 62, 66, 69.75, 88), (60, 66, 72, 80.5, 95)), (0.75, 0, -0.25, -0.25, 0, 0, 0), 0.0, 0
    ),
    "height_m": Row(
        PerClass((1.42, 1.58, 1.64, 1.70, 1.88), (1.42, 1.57, 1.63, 1.70, 1.88)), (-0.15, 0, 0.30, 0, 0, 0, 0), 1.9, 2
    ),
    "bmi_kg_per_m2": Row(
        PerClass((16.0, 22.48, 24.70, 26.89, 35.5), (14.5, 21.45, 23.53, 25.25, 32.5)),
        (-0.05, 0.80, 0.40, 0.10, 0, 0, 0),
        0.05,
        2,
    ),
    "calf_circumference_cm": Row(
        PerClass((27.5, 33.1, 35.0, 36.9, 43.5), (27.5, 32.90, 33.34, 34.00, 38.5)),
        (-0.25, 0.55, 0.55, 0.15, 0, 0, 0),
        0.55,
        1,
    ),
    "total_cholesterol_mmol_per_l": Row(
        PerClass((2.2, 3.72, 4.31, 5.01, 8.0), (2.0, 3.57, 4.39, 4.95, 7.8)),
        (0, 0, 0, 0, 0, 0, 0),  # follows its parts: lipids.py
        0.0,
        2,
    ),
    "triglycerides_mmol_per_l": Row(
        PerClass((0.35, 0.96, 1.32, 2.08, 9.0), (0.35, 0.91, 1.28, 1.77, 6.5)),
        (-0.05, 0.25, 0, 0.05, 0.35, 0, 0.25),
        -0.10,
        2,
        logarithmic=True,
    ),
    "hdl_mmol_per_l": Row(
        PerClass((0.55, 0.99, 1.17, 1.40, 2.4), (0.55, 1.00, 1.20, 1.50, 2.5)),
        (0, -0.30, 0, 0.05, 0.25, 0, -0.15),
        -0.55,
        2,
    ),
    "ldl_mmol_per_l": Row(
        PerClass((0.7, 2.00, 2.50, 3.06, 5.3), (0.6, 1.90, 2.60, 3.12, 5.2)),
        (0, 0.05, 0, 0.10, 0.88, 0, 0.05),
        -0.35,
        2,
    ),
    "hba1c_percent": Row(
        PerClass((4.8, 6.69, 8.28, 9.91, 15.5), (4.6, 6.31, 7.98, 9.64, 15.0)),
        (0, 0.05, -0.05, -0.15, 0.10, -0.05, 0.80),
        -0.05,
        2,
    ),
    "albumin_g_per_l": Row(
        PerClass((31.0, 38.0, 39.9, 41.98, 49.5), (25.0, 35.55, 37.6, 39.75, 46.0)),
        (-0.30, 0.05, 0.15, 0.70, 0, 0, -0.10),
        0.05,
        1,
    ),
    "haemoglobin_g_per_l": Row(
        PerClass((85, 122, 132, 145, 178), (72, 115, 124, 133.5, 165)), (-0.20, 0.10, 0.15, 0.60, 0.10, 0, 0), 1.05, 0
    ),
    "vitd_25oh_ng_per_ml": Row(
        PerClass((5.0, 17.06, 22.06, 33.5, 70), (4.5, 17.37, 21.10, 29.63, 62)),
        (-0.10, -0.10, 0.10, 0.30, 0, 0, -0.10),
        0.35,
        2,
        logarithmic=True,
    ),
    "osteocalcin_ng_per_ml": Row(
        PerClass((4.0, 9.73, 11.75, 14.87, 36), (4.0, 9.89, 12.12, 12.61, 34)),
        (0.10, -0.10, 0, 0, 0, 0.10, -0.40),
        -0.45,
        2,
        logarithmic=True,
    ),
    "ft3_pmol_per_l": Row(
        PerClass((3.0, 4.44, 4.84, 5.16, 6.8), (2.6, 4.42, 4.64, 4.97, 6.4)),
        (-0.25, 0.10, 0.10, 0.40, 0, 0.55, -0.10),
        0.45,
        2,
    ),
    "ft4_pmol_per_l": Row(
        PerClass((10.2, 13.90, 15.27, 16.65, 22.5), (9.8, 13.65, 14.99, 16.35, 22.5)),
        (0, 0, 0, -0.05, 0, 0.45, 0.05),
        0.10,
        2,
    ),
    "tt3_nmol_per_l": Row(
        PerClass((0.8, 1.32, 1.51, 1.70, 2.6), (0.7, 1.32, 1.51, 1.59, 2.4)),
        (-0.20, 0.05, 0.05, 0.35, 0.05, 0.70, -0.05),
        0.0,
        2,
    ),
    "tt4_nmol_per_l": Row(
        PerClass((55, 86.85, 97.55, 109.55, 160), (55, 90.2, 99.7, 111.35, 165)),
        (0, 0, 0, 0.10, 0.05, 0.65, 0),
        -0.25,
        1,
    ),
    "tsh_miu_per_l": Row(
        PerClass((0.15, 1.19, 1.69, 2.59, 9.5), (0.15, 1.40, 2.03, 3.02, 11.0)),
        (0.10, 0.05, 0, 0, 0.05, -0.45, 0),
        -0.25,
        2,
        logarithmic=True,
    ),
    "grip_kg": Row(
        PerClass((12, 22.93, 29.0, 36.55, 52), (7, 17.25, 20.84, 23.30, 35)), (-0.50, 0, 0.50, 0.20, 0, 0, 0), 1.9, 1
    ),
    "gait_speed_m_per_s": Row(
        PerClass((0.55, 0.99, 1.16, 1.26, 1.75), (0.40, 0.95, 1.03, 1.08, 1.50)),
        (-0.70, -0.15, 0.20, 0.15, 0, 0, 0),
        0.15,
        2,
    ),
    "chair_stand_s": Row(
        PerClass((5.3, 8.32, 9.38, 11.02, 17.5), (6.5, 11.36, 12.76, 13.20, 24.0)),
        (0.70, 0.10, -0.20, -0.15, 0, 0, 0),
        -0.10,
        2,
    ),
}

PLAUSIBLE_CALF: Knots = (27.0, 31.6, 33.34, 35.0, 40.0)  # sarcopenia; the printed 32.9-34.0 is 1.1 cm for both sexes

ASMI_LOADINGS: Loadings = (-0.20, 0.30, 0.80, 0.10, 0, 0, 0)

CLINICAL = (
    "diabetes",
    "osteoporosis",
    "age_years",
    "male",
    "height_m",
    "weight_kg",
    "bmi_kg_per_m2",
    "calf_circumference_cm",
)
LAB = (
    "total_cholesterol_mmol_per_l",
    "triglycerides_mmol_per_l",
    "hdl_mmol_per_l",
    "ldl_mmol_per_l",
    "hba1c_percent",
    "albumin_g_per_l",
    "haemoglobin_g_per_l",
    "vitd_25oh_ng_per_ml",
    "osteocalcin_ng_per_ml",
    "ft3_pmol_per_l",
    "ft4_pmol_per_l",
    "tt3_nmol_per_l",
    "tt4_nmol_per_l",
    "tsh_miu_per_l",
)
PERFORMANCE = ("grip_kg", "gait_speed_m_per_s", "chair_stand_s")
AWGS_COLUMNS = ("asmi_kg_per_m2", "asmi_device", *PERFORMANCE)
CT_COLUMNS = ("l3_smi_cm2_per_m2",)

# Blocks that go missing together, and the relative chance that a participant with any missing value misses the block.
MISSING_BLOCKS: tuple[tuple[tuple[str, ...], float], ...] = (
    (("vitd_25oh_ng_per_ml", "osteocalcin_ng_per_ml"), 0.50),
    (("ft3_pmol_per_l", "ft4_pmol_per_l", "tt3_nmol_per_l", "tt4_nmol_per_l", "tsh_miu_per_l"), 0.30),
    (("calf_circumference_cm",), 0.30),
    (("osteoporosis",), 0.15),
    (("total_cholesterol_mmol_per_l", "triglycerides_mmol_per_l", "hdl_mmol_per_l", "ldl_mmol_per_l"), 0.12),
    (("hba1c_percent",), 0.12),
    (("albumin_g_per_l",), 0.08),
    (("haemoglobin_g_per_l",), 0.08),
)


def median_deviation(table: pd.DataFrame) -> dict[str, dict[str, float]]:
    """Class medians of a table against those printed, as a share of the printed: how far a cohort is from Table 1."""
    deviation: dict[str, dict[str, float]] = {}
    for column in (c for c in ROWS if c in table):
        medians = table.groupby("sarcopenia")[column].median()
        printed = ROWS[column].quantiles
        deviation[column] = {
            "healthy": round(float(medians[0]) / printed.healthy[2] - 1, 4),
            "sarcopenia": round(float(medians[1]) / printed.sarcopenia[2] - 1, 4),
        }
    return deviation
