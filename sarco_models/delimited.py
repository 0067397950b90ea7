"""Text files of rows and cells: the encoding and the delimiter a file was written with, found from the file itself.

UTF-8 and a byte order mark are certain; any other encoding is an assumption, and is said to be one. The delimiter is
the character that cuts the header and the rows into equally many cells, so that a decimal comma or a comma in a
sentence does not pass for one.
"""

import csv
import re
from collections import Counter
from collections.abc import Iterator
from itertools import islice

from charset_normalizer import from_bytes

from sarco_models import words

DELIMITERS = ("\t", "|", ";", ",")  # of two that fit alike the one that sentences do not hold
_BYTE_ORDER_MARKS = (
    (b"\xff\xfe\x00\x00", "utf-32"),
    (b"\x00\x00\xfe\xff", "utf-32"),
    (b"\xef\xbb\xbf", "utf-8-sig"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
)
_PLAUSIBLE = ("gb18030", "big5", "cp932", "cp949", "cp1252", "cp1250", "cp1254", "cp1251")
_OWN_LETTERS = {
    "cp1252": "äöüßéèêëàâçîïôùûœæøåñáíóúãõìòÄÖÜÉÈÊÀÂÇÎØÅÑÁÍÓÚÆ°µ²³–’“”€",
    "cp1250": "ąćęłńóśźżĄĆĘŁŃÓŚŹŻäöüßéáíÄÖÜ°",
    "cp1254": "çğıöşüÇĞİÖŞÜâîû°",
    "cp1251": "абвгдеёжзийклмнопрстуфхцчшщъыьэюяАБВГДЕЖЗИКЛМНОПРСТУФХЦЧШЭЮЯ",
}
_COMMON_LEADS = {  # first bytes of the everyday characters, and the narrower encoding that places them
    "gb18030": ("gb2312", range(0xA1, 0xD8)),
    "big5": ("big5", range(0xA1, 0xC7)),
    "cp932": ("shift_jis", range(0x81, 0x99)),
    "cp949": ("euc_kr", range(0xA1, 0xC9)),
}
_HEADINGS = """
编号 姓名 性别 年龄 身高 体重 诊断 检查日期 糖尿病 骨质疏松 白蛋白 血红蛋白 住院号 門診號 編號 性別 年齡 體重 診斷
番号 氏名 年齢 体重 診断 アルブミン 번호 이름 성별 나이 키 체중 진단 알부민 당뇨 номер пол возраст рост вес диагноз имя
imię płeć wiek wzrost yaş größe männlich âge prénom año
"""
_SAMPLE_BYTES, _SAMPLE_ROWS, _SAMPLE_CHARACTERS = 1 << 16, 200, 2000
_DAMAGED_SHARE = 0.1  # of the characters beyond ASCII: below it a file is UTF-8 with damage, not another encoding
_SEPARATOR_LINE = re.compile(r'"?sep=([,;|:^~\t])"?\r?\n', re.IGNORECASE)
_LINE = re.compile(r"[^\r\n]*(?:\r\n?|\n)|[^\r\n]+")
_CONTROL_SHARE = 0.01  # of the characters: a stray one from a laboratory's system, or the end mark of DOS
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f]")
_CASE_CHANGE = re.compile(r"(?=([^\W\d_])([^\W\d_]))")


class NotText(ValueError):
    """The bytes are no text in a known encoding; the message says what they are."""


def decode(data: bytes) -> tuple[str, str, bool]:
    """The text of a file, its encoding, and whether that is certain.

    Raises:
        NotText: binary data, or UTF-8 with damaged characters.
    """
    text, encoding, certain = _decoded(data)
    sample = text[:_SAMPLE_BYTES]
    if "\0" in sample or len(_CONTROL.findall(sample)) > _CONTROL_SHARE * len(sample):
        raise NotText("binary data")
    return text, encoding, certain


def _decoded(data: bytes) -> tuple[str, str, bool]:
    for mark, encoding in _BYTE_ORDER_MARKS:
        if data.startswith(mark):
            return _strict(data, encoding), encoding.removesuffix("-sig"), True
    if b"\0" in data[:_SAMPLE_BYTES]:
        return _without_mark(data)
    try:
        return data.decode("utf-8"), "utf-8", True
    except UnicodeDecodeError:
        pass
    lenient = data.decode("utf-8", errors="replace")
    beyond_ascii = len(lenient) - len(lenient.encode("ascii", errors="ignore"))
    if lenient.count("\ufffd") <= _DAMAGED_SHARE * beyond_ascii:
        line = lenient[: lenient.index("\ufffd")].count("\n") + 1
        raise NotText(f"UTF-8 with damaged characters, the first in line {line}")
    for encoding in _candidates(data):
        try:
            return data.decode(encoding), encoding, False
        except UnicodeDecodeError:
            continue
    raise NotText("text in no known encoding")


def split(text: str, max_cells: int) -> tuple[list[list[str]], str]:
    """The cells of every row, blank rows included as empty lists, and the delimiter.

    Raises:
        csv.Error: a quote that is never closed, or stands in the middle of a cell.
        NotText: more than ``max_cells`` cells.
    """
    told = _SEPARATOR_LINE.match(text)
    if told:  # Excel's own first line, which it does not count as a row
        text = text[told.end() :]
    delimiter = told[1] if told else _delimiter(text[: 4 * _SAMPLE_BYTES])
    if text.count(delimiter) > max_cells:
        raise NotText(f"more than {max_cells} cells")
    return list(_records(text, delimiter, strict=True)), delimiter


def _strict(data: bytes, encoding: str) -> str:
    try:
        return data.decode(encoding)
    except UnicodeDecodeError:
        raise NotText(f"{encoding.removesuffix('-sig').upper()} with damaged characters") from None


def _without_mark(data: bytes) -> tuple[str, str, bool]:
    """UTF-16 has a zero byte in every ASCII character, on one side of it."""
    sample = data[:_SAMPLE_BYTES]
    zeros = sample[0::2].count(0), sample[1::2].count(0)
    encoding = "utf-16-le" if zeros[1] > zeros[0] else "utf-16-be"
    if max(zeros) > 10 * min(zeros) and max(zeros) > 0.05 * len(sample):
        return _strict(data, encoding), encoding, False
    raise NotText("binary data")


def _candidates(data: bytes) -> list[str]:
    """Plausible encodings, the likeliest first.

    charset-normalizer judges prose, and a table may hold a single foreign word. So the words that tables hold go before
    its opinion, then how common the characters are where the encoding is at home.
    """
    end = data.rfind(b"\n", 0, _SAMPLE_BYTES)
    sample = data[: end if end > 0 else _SAMPLE_BYTES] if len(data) > _SAMPLE_BYTES else data
    order = [match.encoding for match in from_bytes(sample, cp_isolation=list(_PLAUSIBLE))]
    merits = {}
    for encoding in _PLAUSIBLE:
        try:
            text = sample.decode(encoding)
        except UnicodeDecodeError:
            continue
        rank = order.index(encoding) if encoding in order else len(order)
        merits[encoding] = (-_known_words(text), -_common(text, encoding), rank)
    return sorted(merits, key=lambda encoding: merits[encoding])


def _known_words(text: str) -> int:
    """How many different cells beyond ASCII hold a word of tables."""
    cells = {cell.strip(' "') for cell in re.split(r"[,;\t|\r\n]", text) if not cell.isascii()}
    headings = set(_HEADINGS.split())
    readers = (words.yes_no, words.male, words.side)
    return sum(cell.casefold() in headings or any(read(cell) not in (None, "") for read in readers) for cell in cells)


def _common(text: str, encoding: str) -> float:
    """Share of the characters beyond ASCII that the encoding's languages use every day, less the case changes in words.

    Bytes of Chinese read as Cyrillic give letters only, but capitals in the middle of words.
    """
    foreign = [c for c in text if not c.isascii()][:_SAMPLE_CHARACTERS]
    if encoding in _COMMON_LEADS:
        narrow, leads = _COMMON_LEADS[encoding]
        coded = [c.encode(narrow, "ignore") for c in foreign]
        return round(sum(len(code) == 2 and code[0] in leads for code in coded) / len(foreign), 2)
    own = sum(c in _OWN_LETTERS[encoding] for c in foreign)
    pairs = (match.groups() for match in _CASE_CHANGE.finditer(text))
    odd = sum(a.islower() and b.isupper() and not (a + b).isascii() for a, b in pairs)
    return float(round((own - odd) / len(foreign), 2))


def _delimiter(sample: str) -> str:
    best, score = ",", (0.0, 1)
    for delimiter in DELIMITERS:
        new = _fit(sample, delimiter)
        if new > score:
            best, score = delimiter, new
    return best


def _fit(sample: str, delimiter: str) -> tuple[float, int]:
    """Share of the rows that have the commonest number of cells, halved if the first has not; and that number."""
    try:
        widths = [len(cells) for cells in islice(_records(sample, delimiter), _SAMPLE_ROWS) if any(cells)]
    except csv.Error:
        return 0.0, 1
    if not widths:
        return 0.0, 1
    width, count = max(Counter(widths).items(), key=lambda item: (item[1], item[0]))
    if width == 1:
        return 0.0, 1
    return round(count / len(widths) * (1.0 if widths[0] == width else 0.5), 3), width


def _records(text: str, delimiter: str, *, strict: bool = False) -> Iterator[list[str]]:
    lines = (match.group() for match in _LINE.finditer(text))  # a StringIO would take four bytes for each character
    return csv.reader(lines, delimiter=delimiter, skipinitialspace=True, strict=strict)
