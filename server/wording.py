"""The words of a report that never change: what a figure shows, and how to read a number."""

CAPTIONS = {
    "roc": (
        "Sensitivity against specificity.",
        "All thresholds traded off, on {home}: the further up and left, the better; the grey diagonal is a coin. Lines "
        "are means over seeds, the blue band is the range of {lead}'s seeds. The circle is {lead} at its frozen "
        "threshold.{rest}",
    ),
    "calibration": (
        "Does a predicted probability mean what it says?",
        "Of {home}. On the diagonal, 30 of 100 people given 30 % have {condition}; below it the model claims too much, "
        "above it too little. Line and band: smooth curve with 95 % band; points and bars: ten groups of equal size "
        "with 95 % intervals (all means over seeds). Grey columns: how many people are given which probability. ICI: "
        "mean distance of the curve from the diagonal.",
    ),
    "decision": (
        "Would it help to act on it?",
        "Net benefit on {home}: people with {condition} who are found, per person, less false alarms at the price that "
        "the threshold sets: who looks further into 1 of 5 suspects accepts 4 false alarms for each find (.2). A model "
        "helps where its line is above both looking into everybody and looking into nobody. Means over seeds; band: "
        "95 %, of {lead}.",
    ),
    "learning": (
        "Learning, round by round.",
        "AUC above, loss below, on each hospital's own validation people and on the central test people. Lines are "
        "means over seeds, bands their range. Validation groups are small, so single steps mean little.{rest}",
    ),
    "forest": (
        "Hospital by hospital.",
        "AUC on each hospital's own held-out people; bars are 95 % intervals (mean over seeds). Diamonds pool the "
        "hospitals of {lead}: filled, random effects (Hartung-Knapp); open, fixed effect. With five hospitals or more, "
        "a dashed line says where a further, similar hospital would fall with 95 % probability.",
    ),
    "answers": (
        "Drawn by the coordinator without anybody's score.",
        "Blue: from what the hospitals sent, an AUC with its variance, counts of calls, and a histogram whose small "
        "counts are merged. Black: from the scores themselves, which only a simulation has.",
    ),
}

GUIDE = {
    "AUC": "Take one person who has the disease and one who has not. The AUC is the chance that the model gives the "
    "higher probability to the one who has it: .5 is a coin, 1 is never wrong.",
    "95 % interval": "The values that fit these data. If the same study were repeated on other people, 95 of 100 such "
    "intervals would hold the true value. A wide interval means: too few people to say.",
    "Sensitivity and specificity": "Of the people who have it, the share that is found; of the people without, the "
    "share that is correctly cleared. Both hold at one threshold, frozen on training participants.",
    "AUPRC": "Area under the precision-recall curve: of the people called, how many have it, over all thresholds. A "
    "useless score reaches the share of people who have it, so that it compares only where that share is the same.",
    "F1": "Balance of finding people and being right about them; 1 is best. Positive: for those who have it. Macro: "
    "mean of both classes. Papers mix the two, and they are not comparable.",
    "Balanced accuracy and MCC": "Balanced accuracy: mean of sensitivity and specificity, .5 is a coin. MCC: "
    "correlation of call and truth, 0 is a coin, 1 is never wrong.",
    "Brier score": 'Mean squared error of the probability, 0 is best. The row "Prevalence only" shows what knowing '
    "nothing about a person scores. Scaled: the share of that which is saved; 0 is no better, 1 is perfect.",
    "ICI": "Integrated calibration index: how far, on average, a predicted probability lies from the share that truly "
    "has it. Never negative, so that even a perfect model scores above 0 by chance, the more the fewer people.",
    "Calibration intercept and slope": "Ideal are 0 and 1. An intercept above 0: risks are claimed too low; below 0: "
    "too high. A slope below 1: probabilities are too extreme.",
    "Expected / observed": "People whom the probabilities expect to have it, over people who have it; 1 is right.",
    "Heterogeneity, I²": "Share of the hospitals' differences that is more than chance. With few hospitals it is "
    "hardly known: look at its limits.",
    "Seed": "The number that starts all random choices. Training again with another seed shows how much of a result is "
    "luck of the draw; one seed alone proves little.",
    "Negative controls": "Simple guesses that a useful model must beat. If how often somebody was examined predicted "
    "the disease all by itself, the data would carry a clue that no patient has.",
}
