"""Words of thirteen languages mean what they mean there, and a word with two meanings means nothing."""

from datetime import date as day

import pytest

from sarco_models.words import date, day_first, male, missing, plain, sexes, side, yes_no

# en zh de fr es it pt nl pl tr ja ko ru
YES = [
    "yes", "是", "ja", "oui", "sí", "sì", "sim", "JA", "tak", "evet", "はい", "예", "да", "Y", "有", "阳性", "True",
    "１",
]  # fmt: skip
NO = ["no", "否", "nein", "non", "no", "No", "não", "nee", "nie", "hayır", "いいえ", "아니오", "нет", "N", "无", "0.0"]
MEN = [
    "male", "男", "männlich", "homme", "hombre", "maschio", "homem", "man", "mężczyzna", "ERKEK", "男性", "남", "муж",
    "M",
]  # fmt: skip
WOMEN = [
    "female", "女", "weiblich", "femme", "mujer", "femmina", "mulher", "vrouw", "kobieta", "kadın", "女性", "여",
    "жен", "F",
]  # fmt: skip
LEFT = [
    "left", "左", "links", "gauche", "izquierda", "sinistra", "esquerda", "L", "lewa", "sol", "左側", "왼쪽", "левая",
]  # fmt: skip
RIGHT = [
    "right", "右", "rechts", "droite", "derecha", "destra", "direita", "R", "prawa", "sağ", "右側", "오른쪽",
    "правая",
]  # fmt: skip
MISSING = [
    "", "NA", "n/a", "NULL", "-", ".", "未查", "无", "nan", "#N/A", "k.A.", "s/d", "n.d.", "—", "不详", "brak danych",
    " ",
]  # fmt: skip


@pytest.mark.parametrize(
    ("reader", "ones", "zeros"), [(yes_no, YES, NO), (male, MEN, WOMEN)], ids=["yes and no", "the sexes"]
)
def test_words_of_thirteen_languages(reader: object, ones: list[str], zeros: list[str]) -> None:
    assert [reader(word) for word in ones] == [1] * len(ones)  # type: ignore[operator]
    assert [reader(f" {word.upper()} ") for word in zeros] == [0] * len(zeros)  # type: ignore[operator]


def test_sides_of_the_body() -> None:
    assert {side(word) for word in LEFT} == {"left"}
    assert {side(word) for word in RIGHT} == {"right"}
    assert side("") == side("n/a") == ""
    assert side("both") is None


def test_words_for_a_missing_value() -> None:
    assert all(missing(word) for word in MISSING)
    assert not any(missing(word) for word in ("0", "no", "否", "<0.1", "normal", "absent"))


@pytest.mark.parametrize("text", ["", "+", "-", "2", "maybe", "?", "Smith", "none", "x" * 10_000])
def test_other_texts_are_no_answer(text: str) -> None:
    assert yes_no(text) is male(text) is None


def test_a_code_for_the_sex_is_not_guessed() -> None:
    """1 and 2 is as common as 0 and 1, and either may be the man."""
    assert [male(code) for code in ("0", "1", "2")] == [None, None, None]


@pytest.mark.parametrize(
    ("column", "man", "woman"),
    [
        ("MF", "m", "f"),
        ("HM", "h", "m"),
        ("HF", "h", "f"),
        ("MV", "m", "v"),
        ("MW", "m", "w"),
        ("EK", "e", "k"),
        ("MK", "m", "k"),
    ],
)
def test_letters_of_a_column_explain_each_other(column: str, man: str, woman: str) -> None:
    """M is mujer beside H, and man beside F, V, W and K."""
    sex = sexes(column)
    assert (sex(man), sex(woman), sex("女")) == (1, 0, 0)


def test_letters_that_contradict_each_other_tell_nothing() -> None:
    sex = sexes("HMF")
    assert (sex("H"), sex("M"), sex("F")) == (None, None, 0)
    assert sexes("H")("h") == 1
    assert male("h") is None


def test_case_accents_and_width_do_not_matter() -> None:
    assert plain(" ＭÄNNLICH ") == plain("mannlich")
    assert plain("KADIN") == plain("kadın")


# ---- dates -----------------------------------------------------------------------------------------------------------

FIFTH_OF_MARCH = [
    "2024-03-05", "2024/3/5", "2024.03.05", "20240305", "05.03.2024", "5. 3. 2024", "2024年3月5日", "2024年03月05号",
    "2024년 3월 5일", "2024. 3. 5.", "令和6年3月5日", "民國113年3月5日", "２０２４－０３－０５", "5 March 2024",
    "March 5, 2024", "5-Mar-2024", "5th March 2024", "5. März 2024", "5 mars 2024", "5 de marzo de 2024",
    "5 marzo 2024", "5 de março de 2024", "5 maart 2024", "5 marca 2024", "5 Mart 2024", "5 марта 2024 г.",
    "2024-03-05 10:22:00", "2024-03-05T10:22:00Z", "2024/3/5 9:05",
]  # fmt: skip


@pytest.mark.parametrize("text", FIFTH_OF_MARCH)
def test_one_day_in_many_languages(text: str) -> None:
    assert date(text) == day(2024, 3, 5)


@pytest.mark.parametrize(
    ("text", "month"),
    [
        ("1 janvier 2024", 1), ("1er février 2024", 2), ("1 abr 2024", 4), ("1 maggio 2024", 5), ("1 czerwca 2024", 6),
        ("1 Temmuz 2024", 7), ("1 août 2024", 8), ("1 września 2024", 9), ("1 outubro 2024", 10), ("1 KASIM 2024", 11),
        ("1 декабря 2024", 12), ("1 Dezember 2024", 12),
    ],
)  # fmt: skip
def test_months_by_name(text: str, month: int) -> None:
    assert date(text) == day(2024, month, 1)


def test_day_and_month_are_told_apart_or_not_at_all() -> None:
    assert date("5/3/2024") is date("5-3-2024") is None
    assert date("5/3/2024", day_first=True) == day(2024, 3, 5)
    assert date("5/3/2024", day_first=False) == day(2024, 5, 3)
    assert date("25/3/2024") == date("3/25/2024") == day(2024, 3, 25)
    assert date("3/25/2024", day_first=True) is None
    assert date("5/5/2024") == day(2024, 5, 5)
    assert date("05.03.2024", day_first=False) == day(2024, 3, 5)  # points are written day, month, year


def test_a_column_tells_which_number_is_the_day() -> None:
    assert day_first(["1/2/2024", "25/3/2024", "nonsense"]) is True
    assert day_first(["1/2/2024", "3/25/2024 10:00"]) is False
    assert day_first(["1/2/2024", "25.3.2024"]) is None
    assert day_first(["25/3/2024", "3/25/2024"]) is None


@pytest.mark.parametrize(
    "text",
    ["5.3.24", "24-03-05", "5/3/24", "2024-02-30", "2024-13-01", "45356", "10:22", "", "May", "0024-03-05", "1" * 5000],
)
def test_what_is_no_day_is_refused(text: str) -> None:
    assert date(text) is None


def test_a_number_of_days_is_a_date_only_when_told() -> None:
    assert date("45356", excel_serial=True) == date("45356.4", excel_serial=True) == day(2024, 3, 5)
    assert date("36526", excel_serial=True) == day(2000, 1, 1)
    assert date("59", excel_serial=True) is None  # before Excel's 29 February 1900, a day that never was
