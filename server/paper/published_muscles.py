"""What Zhang et al. printed (Gerontechnology 25(s)) of five muscles, and what follows from it.

Numbers are as printed. The abstract does not say which network has which Dice, of how many images and of whom the
correlations are, nor whether those of triceps, biceps and peroneus are of thickness or of area.
"""

from dataclasses import dataclass

from sarco_models.correlation import Expected
from server.paper.published import Printed

REFERENCE = "Zhang et al., Gerontechnology 25(s)"

PEOPLE = 94
GROUPS = {"young": 22, "middle": 22, "elderly": 50}
TEST_PEOPLE = 19
"""A fifth of them, if people and not images were split (70 / 10 / 20 %)."""

DICE = (Printed(0.826, "abstract: lowest Dice of a muscle"), Printed(0.920, "abstract: highest Dice of a muscle"))

MUSCLES = {
    "biceps_brachii": "Biceps",
    "triceps_brachii": "Triceps",
    "rectus_abdominis": "Rectus abdominis",
    "rectus_femoris": "Rectus femoris",
    "peroneus_longus_brevis": "Peroneus longus + brevis",
}

NOTES = {
    "I32": f"The paper's abstract ({REFERENCE}) prints P < .001 with r = .4223: that needs 58 people, and a fifth of "
    "94 is 19. So people whose images trained the networks are among those who are correlated. Ours are held-out "
    "people only.",
    "I33": "More peroneus goes with a longer time for five chair stands (r = +.7480) in the abstract; one expects the "
    "opposite. The sign may be misprinted, or the quantity not be the time. Ours is reported with its sign.",
    "I34": "The abstract says neither how people were split, nor how many images there are, which network has which "
    "Dice, how thickness is defined, nor how large a pixel is.",
}
"""How each contradiction is resolved, by the sign that the project's list of contradictions gives it."""


@dataclass(frozen=True)
class PrintedCorrelation:
    """One correlation of the abstract.

    Attributes:
        muscle: a key of ``MUSCLES``.
        measure: ``thickness_mm``; None where the abstract does not say which measure.
        outcome: the project's column of participants.csv.
        title: of the outcome, with its unit.
        r: Pearson's, as far as one can tell.
        p: as printed.
        expected: sign that the field expects.
        notes: signs of the contradictions that it has.
    """

    muscle: str
    measure: str | None
    outcome: str
    title: str
    r: Printed
    p: Printed
    expected: Expected
    notes: tuple[str, ...] = ("I32",)


def _printed(  # noqa: PLR0913 - one row of a table
    muscle: str, measure: str | None, outcome: str, title: str, r: float, *notes: str, expected: Expected = "rises"
) -> PrintedCorrelation:
    where = f"abstract: {MUSCLES[muscle]} and {title.rpartition(',')[0].lower()}"
    printed = Printed(r, f"{where}, r"), Printed(0.001, f"{where}, P", below=True)
    return PrintedCorrelation(muscle, measure, outcome, title, *printed, expected, ("I32", *notes))


CORRELATIONS = (
    _printed("rectus_femoris", "thickness_mm", "fat_free_mass_kg", "Total fat-free mass, kg", 0.4223),
    _printed("triceps_brachii", None, "muscle_mass_kg", "Total muscle mass, kg", 0.7849, "I34"),
    _printed("biceps_brachii", None, "muscle_mass_kg", "Total muscle mass, kg", 0.8212, "I34"),
    _printed(
        "peroneus_longus_brevis", None, "sit_to_stand_s", "Five chair stands, s", 0.7480, "I33", "I34",
        expected="falls",
    ),
)  # fmt: skip


def printed_for(muscle: str, outcome: str) -> PrintedCorrelation | None:
    """What the abstract prints of a pair; None where nothing."""
    return next((c for c in CORRELATIONS if (c.muscle, c.outcome) == (muscle, outcome)), None)
