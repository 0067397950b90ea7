"""What a study asks a hospital for, request by request and statistic by statistic, in words for its decision."""

TASKS = {
    "Describe": "your counts, and the sums that tables are scaled by",
    "Setup": "your keeping the frozen layers and the agreed scaling",
    "Train": "training",
    "Evaluate": "scores of the final model, for its threshold",
    "Assess": "an assessment of the released model on your test participants; without it the release stands",
    "Measure": "how well the released model finds muscles on your test participants; without it the release stands",
    "Probe": "how well the released model betrays your training participants; the release needs it of some",
    "Keys": "a key for each round of secure aggregation",
    "Reveal": "the end of each round of secure aggregation",
}
"""By the name of the request."""

STATISTICS = {
    "sums": "sums over your training participants' tables: without them the tables are scaled by other hospitals' sums",
    "histogram": "your score histogram: without it the threshold rests on other hospitals' participants",
    "assessment": "the assessment on your test participants: without it the release does not speak of them",
    "leakage": "the leakage probe: without it others must measure what the model betrays",
}
"""By the name that site.toml has for each."""
