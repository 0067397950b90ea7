"""Words that hospitals write where a study wants a number or a day, in thirteen languages; an unknown word is no word.

Chinese, Dutch, English, French, German, Italian, Japanese, Korean, Polish, Portuguese, Russian, Spanish and Turkish.
Case, accents and full-width characters do not matter. What could mean two things means nothing here: "5/3/2024" names
no day until somebody says which number is the day, "H" and "M" are sexes only when the whole column is seen, and a plus
or minus sign is no answer.
"""

import datetime
import re
import unicodedata
from collections.abc import Callable, Iterable
from functools import lru_cache

_YES = """
1 1.0 yes y true t positive present pos  ja j wahr positiv vorhanden  oui o vrai v positif present  si s verdadero
positivo presente  vero  sim verdadeiro  waar aanwezig  tak prawda dodatni obecny  evet e var dogru pozitif  да д есть
истина 是 有 对 對 真 阳性 陽性 确诊 確診 √ ✓ ✔ はい あり 有り 예 네 유 있음 양성
"""
_NO = """
0 0.0 no n false f negative absent neg  nein falsch negativ  non faux negatif  falso negativo ausente assente  nao
nee onwaar afwezig  nie falsz ujemny brak  hayir h yok yanlis  нет н ложь 否 无 無 不是 没有 錯 错 假 阴性 陰性 × ✗ ✘
いいえ なし 無し 아니오 아니요 무 없음 음성
"""
_MALE = """
m male man men boy ♂  mann mannlich maennlich herr  homme masculin monsieur  hombre masculino varon  maschio uomo
maschile  homem  mannelijk  mezczyzna meski  erkek bay  м муж мужской мужчина 男 男性 男子 男士 남 남성 남자
"""
_FEMALE = """
f female woman women girl ♀  w weiblich frau  femme feminin madame  mujer femenino  femmina donna femminile  mulher
feminino  vrouw v vrouwelijk  kobieta k zenski  kadin bayan  ж жен женский женщина 女 女性 女子 女士 여 여성 여자
"""
_LEFT = """
left l lt lhs  links li  gauche g  izquierda izquierdo izq  sinistra sinistro sx  esquerda esquerdo esq  lewa lewy
sol  левая левый лев  左 左侧 左側 左腿 왼쪽 좌 좌측
"""
_RIGHT = """
right r rt rhs  rechts re  droite droit  derecha derecho der  destra destro dx  direita direito dir  prawa prawy
sag  правая правый прав  右 右侧 右側 右腿 오른쪽 우 우측
"""
_MISSING = """
na n/a n.a n.a. nan nil null <na> #n/a - -- --- – — —— . .. ... ? / \\ missing unknown unk not_done notdone no_data
nd n.d n.d. n/d  ka k.a k.a. keine_angabe unbekannt fehlt  inconnu manquant nr non_disponible non_renseigne  desconocido
s/d sin_dato sin_datos  sconosciuto mancante non_disponibile  desconhecido sem_dados  onbekend ontbreekt geen_gegevens
nieznane nieznany b/d brak_danych  bilinmiyor veri_yok  н/д неизвестно нет_данных  无 無 未查 未测 未測 未做 未检 未檢
未知 不详 不詳 不明 缺 缺失 缺省 暂无 暫無 未提供 空 无数据 未測定 欠測 欠損 なし データなし 미상 모름 없음 미측정 결측
"""
_MONTHS = """
january jan januar janner janvier janv enero ene gennaio gen janeiro januari stycznia styczen sty ocak oca января янв
february feb februar februari fevrier fevr fev febrero febbraio fevereiro lutego luty lut subat sub февраля фев
march mar marz maerz mrz mars marzo marco maart mrt marca marzec mart марта март мар
april apr avril avr abril abr aprile kwietnia kwiecien kwi nisan nis апреля апр
may mai mayo maggio mag maio mei maja maj mayis мая маи
june jun juni juin junio giugno giu junho czerwca czerwiec cze haziran haz июня июн
july jul juli juillet juil julio luglio lug julho lipca lipiec lip temmuz tem июля июл
august aug aout agosto ago augustus sierpnia sierpien sie agustos agu августа авг
september sep sept septembre septiembre setiembre settembre set setembro wrzesnia wrzesien wrz eylul eyl сентября сен
october oct oktober okt octobre octubre ottobre ott outubro out pazdziernika pazdziernik paz ekim eki октября окт
november nov novembre noviembre novembro listopada listopad lis kasim kas ноября ноя
december dec dezember dez decembre diciembre dic dicembre dezembro grudnia grudzien gru aralik ara декабря дек
"""
_ERAS = {"令和": 2018, "平成": 1988, "昭和": 1925, "民国": 1911, "民國": 1911}

_YEAR_FIRST = re.compile(r"(\d{4})\s*[-/.年년]\s*(\d{1,2})\s*[-/.月월]\s*(\d{1,2})\s*[日号號일.]?")
_COMPACT = re.compile(r"((?:19|20)\d\d)(\d\d)(\d\d)")
_YEAR_LAST = re.compile(r"(\d{1,2})\s*([-/.])\s*(\d{1,2})\s*\2\s*(\d{4})")
_DAY_WORD = re.compile(
    r"(\d{1,2})(?:st|nd|rd|th|er|[.ºª])?[\s-]*(?:de\s+)?([^\W\d]+)\.?[\s,-]*(?:del?\s+)?(\d{4})(?:\s*[гr]\.?)?"
)
_WORD_DAY = re.compile(r"([^\W\d]+)\.?[\s-]+(\d{1,2})(?:st|nd|rd|th)?[\s,-]+(\d{4})")
_ERA = re.compile(rf"({'|'.join(_ERAS)})\s*(\d{{1,3}}|元)年\s*(\d{{1,2}})月\s*(\d{{1,2}})日?")
_CLOCK = re.compile(
    r"(?<=[\d일日.])(?:\s*t\s*|[\s,]+)\d{1,2}:\d{2}(?::\d{2}(?:[.,]\d+)?)?\s*(?:[ap]m|z|[+-]\d{2}:?\d{2})?$"
)
_SERIAL = re.compile(r"\d{2,6}(?:\.\d+)?")
_SERIAL_ORIGIN = datetime.date(1899, 12, 30)  # so that every day after Excel's false 29 February 1900 is right
_FIRST_SERIAL = 61
_LONGEST = 64  # characters; no word and no date of ours is longer


@lru_cache(maxsize=4096)
def plain(text: str) -> str:
    """Lower case without accents, outer spaces and full-width forms: two texts that a reader takes for one word."""
    if text.isascii():
        return text.strip().lower()
    folded = unicodedata.normalize("NFKD", unicodedata.normalize("NFKC", text).strip().casefold())
    kept = "".join(c for c in folded if unicodedata.category(c) != "Mn")
    return unicodedata.normalize("NFC", kept).replace("ı", "i").replace("ł", "l")


def _plain_set(words: str) -> frozenset[str]:
    return frozenset(plain(word.replace("_", " ")) for word in words.split())


_YES_SET, _NO_SET, _MISSING_SET = _plain_set(_YES), _plain_set(_NO), _plain_set(_MISSING) | {""}
_MALE_SET, _FEMALE_SET = _plain_set(_MALE), _plain_set(_FEMALE)
_LEFT_SET, _RIGHT_SET = _plain_set(_LEFT), _plain_set(_RIGHT)
_MONTH_NUMBER = {
    plain(word): number for number, line in enumerate(_MONTHS.strip().splitlines(), 1) for word in line.split()
}


def _either(text: str, ones: frozenset[str], zeros: frozenset[str]) -> int | None:
    word = plain(text[:_LONGEST])
    return 1 if word in ones else 0 if word in zeros else None


def yes_no(text: str) -> int | None:
    """1 for yes, 0 for no, None for any other text; "1" and "0" are words, too.

    Ask this before :func:`missing`: 无 (none) is a no where a disease is asked for, and a missing value elsewhere.
    """
    return _either(text, _YES_SET, _NO_SET)


def male(text: str) -> int | None:
    """1 for male, 0 for female, None for any other text; of a column of single letters ask :func:`sexes`."""
    return _either(text, _MALE_SET, _FEMALE_SET)


def sexes(texts: Iterable[str]) -> Callable[[str], int | None]:
    """:func:`male` for one column, whose letters explain each other.

    H stands for a man beside F (homme, femme) and beside M (hombre, mujer; homem, mulher), and then M is a woman; E is
    a man beside K (erkek, kadın). A column with H, M and F tells nothing about H and M.
    """
    letters = {plain(text) for text in texts if len(text) <= 3}
    own: dict[str, int | None] = {}
    if "h" in letters:
        own["h"] = None if {"m", "f"} <= letters else 1
        own["m"] = None if "f" in letters else 0
    if {"e", "k"} <= letters:
        own["e"] = 1
    return lambda text: own[plain(text)] if plain(text) in own else male(text)


def side(text: str) -> str | None:
    """The body's side: "left", "right", "" for no text or a word that says missing, None for any other text."""
    word = plain(text[:_LONGEST])
    if word in _LEFT_SET or word in _RIGHT_SET:
        return "left" if word in _LEFT_SET else "right"
    return "" if word in _MISSING_SET else None


def missing(text: str) -> bool:
    """Whether a text says that there is no value: empty, NA, n/a, NULL, -, 未查, keine Angabe (k.A.), ..."""
    return plain(text[:_LONGEST]) in _MISSING_SET


def date(text: str, *, day_first: bool | None = None, excel_serial: bool = False) -> datetime.date | None:
    """The day that a text names; None when it names none, or could name two.

    Args:
        text: 2024-03-05, 2024年3月5日, 20240305, 5.3.2024, 5 March 2024, 令和6年3月5日; a clock time behind it is cut
            off. A year of two digits is refused. Points stand between day, month, year in this order everywhere.
        day_first: how 5/3/2024 and 5-3-2024 are meant; None accepts them only where one number cannot be a month.
        excel_serial: whether a bare number of days, such as 45356, is a date of Excel's 1900 system.
    """
    word = _CLOCK.sub("", plain(text)) if len(text) < _LONGEST else ""
    if excel_serial and _SERIAL.fullmatch(word) and float(word) >= _FIRST_SERIAL:
        return _SERIAL_ORIGIN + datetime.timedelta(days=int(float(word)))
    if match := _YEAR_FIRST.fullmatch(word) or _COMPACT.fullmatch(word):
        year, month, day = map(int, match.groups())
        return _day(year, month, day)
    if match := _YEAR_LAST.fullmatch(word):
        return _year_last(match, day_first)
    return _written_out(word)


def day_first(texts: Iterable[str]) -> bool | None:
    """Whether a column of dates such as 25/3/2024 writes the day first; None when no date tells, or they differ."""
    told = set()
    for text in texts:
        match = _YEAR_LAST.fullmatch(_CLOCK.sub("", plain(text[:_LONGEST])))
        if match and match[2] != ".":
            first, second = int(match[1]), int(match[3])
            told |= {True} if first > 12 >= second else {False} if second > 12 >= first else set()
    return told.pop() if len(told) == 1 else None


def _year_last(match: re.Match[str], day_first: bool | None) -> datetime.date | None:
    first, second, year = int(match[1]), int(match[3]), int(match[4])
    if match[2] == ".":
        return _day(year, second, first)
    readings = {_day(year, second, first)} if day_first is not False else set()
    readings |= {_day(year, first, second)} if not day_first else set()
    days = readings - {None}
    return days.pop() if len(days) == 1 else None


def _written_out(word: str) -> datetime.date | None:
    if match := _ERA.fullmatch(word):
        era, year, month, day = match.groups()
        return _day(_ERAS[era] + (1 if year == "元" else int(year)), int(month), int(day))
    if match := _DAY_WORD.fullmatch(word):
        day, name, year = match.groups()
    elif match := _WORD_DAY.fullmatch(word):
        name, day, year = match.groups()
    else:
        return None
    return _day(int(year), _MONTH_NUMBER.get(name, 0), int(day))


def _day(year: int, month: int, day: int) -> datetime.date | None:
    try:
        return datetime.date(year, month, day) if year >= 1000 else None
    except ValueError:
        return None
