"""Where the paper contradicts itself, and what is done about it here; each stands under the table that has it.

The signs are those of the project's list of contradictions; what its tables and figures do not touch is left out.
"""

from collections.abc import Iterable

NOTES = {
    "I2": "B has 352 images in the paper's Methods and 70 + 252 in its Results; 100 is taken for 70. No number here "
    "depends on it.",
    "I3": "Calf, without sarcopenia: the printed quartiles are those of BMI. Synthetic: 33.1 to 36.9 cm.",
    "I4": "Calf, with sarcopenia: quartiles 1.1 cm apart are implausible for two sexes. The preset says whether "
    "they are used (paper_matched) or wider ones (table1_faithful).",
    "I5": "Vitamin D, with sarcopenia: the printed first quartile exceeds the median; 17.37 is taken for 27.37.",
    "I6": 'Vitamin D is printed as "1,25(OH)2D"; the values fit 25-OH vitamin D.',
    "I7": "Osteocalcin: the printed quartiles imply a P of about .03, not .67.",
    "I8": "ASMI: the printed medians contradict the AWGS 2019 cut-off for men. The synthetic ASMI is on the "
    "physiological scale, so its difference from the paper is meant.",
    "I9": "A walking speed above 1.0 m/s is no contradiction: low grip or slow chair stands suffice for the label.",
    "I10": "F1 has two definitions. What is printed for n = 357 fits the macro F1, everything else the F1 of the "
    "positive class. Each printed F1 is compared with the definition that it fits; the other stands without a partner.",
    "I11": "All data: 77 of 101 found are .762, but .754 is printed, perhaps a mean over folds. Ours: out-of-fold "
    "participants pooled first, mean and SD of the folds beside.",
    "I12": "How many of the 271 have sarcopenia is not printed: 73 fits the sensitivities, 78 or 79 accuracy and F1.",
    "I13": "B: .794 and .753 do not come from 61 of 77 and 109 of 145 (.792, .752); participants and images may be "
    "mixed. Ours are participants.",
    "I14": "C: a concave ROC curve through the printed point has an AUC of at least (.789 + .825) / 2 = .807, but .757 "
    "is printed: as if the threshold had been chosen on the test people. Ours is frozen on out-of-fold people of A.",
    "I25": "The paper chose its model on the cross-validation that it reports. The nested estimate chooses anew in "
    "each fold.",
    "I26": "P of all data against US+lab is .04 in the text and .035 in the abstract. Ours counts participants.",
    "I27": "The printed P values mix two chi-square tests. Ours: Pearson's, uncorrected; Fisher's exact where counts "
    "are small. Diabetes is rarer with sarcopenia because people were recruited through a diabetes clinic.",
}
"""How each contradiction is resolved, by its sign."""


def notes_on(signs: Iterable[str]) -> tuple[str, ...]:
    """The notes of these signs, each once, in the order of the list."""
    wanted = set(signs)
    return tuple(f"{sign}: {text}" for sign, text in NOTES.items() if sign in wanted)
