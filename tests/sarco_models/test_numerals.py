"""A number is read however it is written, and never where it could be two numbers."""

import math

import pytest

from sarco_models.numerals import censored, decimal_signs, number, two_ways


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("66.5", 66.5), ("66,5", 66.5), ("-3", -3), ("+3", 3), (".5", 0.5), (",5", 0.5), ("5.", 5), ("0,123", 0.123),
        ("1e-3", 0.001), ("1,5E3", 1500), ("1234,5", 1234.5), ("1.234,5", 1234.5), ("1,234.5", 1234.5),
        ("1 234,5", 1234.5), ("1\u202f234.5", 1234.5), ("1'234.5", 1234.5), ("1’234", 1234), ("1,234,567", 1234567),
        ("1.234.567", 1234567), ("６６．５", 66.5), ("６６，５", 66.5), ("−3", -3), (" 7 ", 7), ("0066", 66),
        ("1.2345", 1.2345),
    ],
)  # fmt: skip
@pytest.mark.parametrize("decimal", [".", ",", ""])
def test_what_can_be_read_one_way_is_read_whatever_the_file_says(text: str, value: float, decimal: str) -> None:
    assert number(text, decimal) == pytest.approx(value)


def test_what_can_be_read_two_ways_is_read_only_where_the_file_says_how() -> None:
    assert (number("1,234", ","), number("1.234", ".")) == (1.234, 1.234)
    for text, decimal in (("1,234", "."), ("1.234", ","), ("12,345", ""), ("-123.456", "")):
        with pytest.raises(ValueError, match="two ways"):
            number(text, decimal)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nan",
        "inf",
        "1e999",
        "1_000",
        "1.2.3",
        "1,23,456",
        "12 34",
        "66 kg",
        "6.5%",
        "<0.1",
        "5,",
        "0x10",
        "½",
        "Ⅷ",
        "--1",
        "1.234.56",
    ],
)
def test_what_is_no_number_is_refused(text: str) -> None:
    for decimal in (".", ",", ""):
        with pytest.raises(ValueError, match=r"no number|not finite"):
            number(text, decimal)


def test_limits_of_an_assay_are_no_values() -> None:

    assert all(map(censored, ("<0.1", "> 100", "≤0,05", "＜0.1", ">=5")))
    assert not any(map(censored, ("0.1", "", "<", "<Smith>", "a<1")))


def test_one_number_proves_the_decimal_sign_of_its_column_and_file() -> None:
    assert decimal_signs({"weight": ["66,5", "70"], "tsh": ["1,234"]}) == (",", {})
    assert decimal_signs({"weight": ["66.5"], "tsh": ["1.234"], "note": ["a, b"]}) == (".", {})
    assert decimal_signs({"weight": ["66,5"], "height": ["1.65"]}) == (".", {"weight": ","})


def test_a_column_that_proves_nothing_is_told_apart_only_by_a_file_of_one_mind() -> None:
    assert decimal_signs({"tsh": ["1,234", "2,345"]}) == (".", {"tsh": ""})
    assert decimal_signs({"weight": ["66,5"], "tsh": ["1.234"]}) == (",", {"tsh": ""})
    assert decimal_signs({"a": ["66,5"], "b": ["1.5"], "c": ["1,234"]}) == (".", {"a": ",", "c": ""})
    assert decimal_signs({"mixed": ["66,5", "1.5", "1.234"]}) == (".", {"mixed": ""})


def test_doubtful_numbers_are_found_where_they_stand() -> None:
    cells = ["1,5", "1,234", "x", "-2.345", ""]
    assert (two_ways(cells, "."), two_ways(cells, ","), two_ways(cells, "")) == ([1], [3], [1, 3])


def test_reading_is_the_inverse_of_writing() -> None:
    """Every number that a spreadsheet shows with one to six decimals in either way is that number again."""
    for k in range(2000):
        value = math.sin(k) * 10 ** (k % 7)
        text = f"{value:.{1 + k % 6}f}"
        for sign in ".,":
            assert number(text.replace(".", sign), sign) == float(text)
        grouped = f"{value:,.1f}"
        assert number(grouped) == number(grouped.translate(str.maketrans(",.", ".,"))) == float(f"{value:.1f}")
