"""Total cholesterol as what it is: LDL and HDL, and the remnants, which carry the triglycerides.

Drawn as a fourth correlated column, total cholesterol was below LDL + HDL in 31 of 100 people. Here its rank within
centre and class is that of the sum of its parts, and the rank goes to the printed quantiles as any column's does. The
printed quantiles of the sum and of the total are nearly the same (medians 4.3, interquartile ranges 1.24 and 1.29
mmol/L), so that the total stays close to the sum and its quantiles are kept.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

Array = NDArray[np.float64]

TOTAL = "total_cholesterol_mmol_per_l"
LDL, HDL, TRIGLYCERIDES = "ldl_mmol_per_l", "hdl_mmol_per_l", "triglycerides_mmol_per_l"

TRIGLYCERIDES_PER_REMNANT = 2.9
"""In mmol/L. Friedewald et al. (1972) took 2.2 for everybody, Martin et al. (2013) found 1.4 to 5.2 (3.1 to 11.9 in
mg/dL); at 2.9 the medians of sum and total agree, and least is moved."""
REMNANT_LOG_SD = 0.30  # between people, and what the assays err; without it the gap would tell the class
GROWTH_ENDS_MMOL_PER_L = 4.5  # of triglycerides: above, Friedewald's rule does not hold, and remnants grow no longer
LEAST_REMNANTS_MMOL_PER_L = 0.05


def sum_of_parts(ldl: Array, hdl: Array, triglycerides: Array, remnant_score: Array) -> Array:
    """LDL + HDL + remnant cholesterol, mmol/L.

    Args:
        ldl: mmol/L, like the next two.
        hdl: same shape.
        triglycerides: same shape.
        remnant_score: standard normal; how much cholesterol a person's remnants carry for their triglycerides.
    """
    remnants = np.minimum(triglycerides, GROWTH_ENDS_MMOL_PER_L) / TRIGLYCERIDES_PER_REMNANT
    total: Array = ldl + hdl + remnants * np.exp(REMNANT_LOG_SD * remnant_score)
    return total


def score_among(sums: Array, reference: Array) -> Array:
    """Each sum's standard normal score among sorted ``reference`` sums; beyond them, that of the outermost."""
    quantile = (np.arange(len(reference)) + 0.5) / len(reference)
    score: Array = np.interp(sums, reference, ndtri(quantile))
    return score


def at_least_its_parts(total: Array, ldl_and_hdl: Array) -> Array:
    """The total, raised where moving it to the printed quantiles left too little: 1-3 people in 1000, at C 2 in 100."""
    return np.maximum(total, np.round(ldl_and_hdl + LEAST_REMNANTS_MMOL_PER_L, 2))
