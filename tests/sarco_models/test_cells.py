"""A finding says what a wrong cell looks like, and shows it only where it can be nobody's."""

import pytest

from sarco_models.cells import described, read_label, word_reader


@pytest.mark.parametrize("text", ["840", "-1", "66,5", "1,234", "99999", "yes", "男", "NA", "<0.1", "1e-3"])
def test_short_numbers_and_known_words_are_shown(text: str) -> None:
    assert described(text) == repr(text)


@pytest.mark.parametrize(
    ("text", "look"),
    [
        ("", "empty"),
        ("Zhang San", "text of 9 characters"),
        ("x", "text of 1 character"),
        ("13912345678", "a number of 11 digits"),
        ("139 1234 5678", "text of 13 characters"),
        ("310101194703123456", "a number of 18 digits"),
        ("19470312", "a date"),
        ("1947-03-12", "a date"),
        ("12/3/1947", "a date"),
        ("0.13912345678", "a number of many decimals"),
        ("<13912345678", "a limit of the assay"),
        ("31010119470312345X", "text of 18 characters"),
    ],
)
def test_of_everything_else_only_the_look_is_told(text: str, look: str) -> None:
    assert described(text) == look


def test_a_column_called_female_counts_the_other_way_round() -> None:
    assert [word_reader("female", ["F", "M"])(word) for word in ("F", "男", "yes")] == [1, 0, None]
    assert word_reader("diabetes", [])("F") == 0  # false, falso, faux


def test_a_label_is_read_or_it_is_minus_one() -> None:
    assert [read_label(text, ".")[0] for text in ("1", "0.0", "是", "无", "", "2", "1,0")] == [1, 0, 1, 0, -1, -1, 1]
