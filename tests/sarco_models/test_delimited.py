"""Text files are read in the encoding and with the delimiter they were written with, and doubts are said."""

import csv
import io

import pytest

from sarco_models.delimited import NotText, decode, split

CHINESE = [
    "编号,姓名,性别\nP1,王小明,男\nP2,李芳,女\n",
    "participant_id,sex\nP1,男\nP2,女\n",
    "id,diag\nP1,2型糖尿病，血糖控制差\n",
]
TRADITIONAL = [
    "編號,性別\nP1,男\nP2,女\n",
    "id,name,side\nP1,陳大文,左\nP2,林美玲,右\n",
    "id,name\nP0,陳志明\nP1,黃俊傑\n",
]
JAPANESE = [
    "番号,性別\nP1,男性\nP2,女性\n",
    "id,name\nP0,佐藤健\nP1,鈴木一郎\nP2,高橋花子\n",
    "id,備考\nP1,歩行困難のため\n",
]
KOREAN = [
    "번호,성별\nP1,남\nP2,여\n",
    "participant_id,sex\nP1,남\nP2,여\n",
    "id,name\nP0,김민준\nP1,이서연\nP2,박지훈\n",
]
WESTERN = [
    "id;Größe;Geschlecht\nP1;1,65;männlich\n",
    "id,name\nP1,Müller\nP2,Jørgensen\n",
    "id,sexe,diabète\nP1,féminin,non\n",
]
POLISH = ["id;płeć;wzrost\nP1;mężczyzna;1,65\n", "id,imię\nP1,Łukasz\nP2,Małgorzata\n"]
TURKISH = ["id;cinsiyet;yaş\nP1;kadın;70\n", "id,ad\nP1,Ayşe\nP2,Oğuz\nP3,Işıl\n"]
RUSSIAN = ["номер;пол\nP1;мужской\nP2;женский\n", "id,имя\nP1,Иванов Пётр\nP2,Сидорова Анна\n"]
FILES = [
    (encoding, text)
    for encoding, texts in {
        "gb18030": CHINESE, "big5": TRADITIONAL, "cp932": JAPANESE, "cp949": KOREAN, "cp1252": WESTERN,
        "cp1250": POLISH, "cp1254": TURKISH, "cp1251": RUSSIAN,
    }.items()
    for text in texts
]  # fmt: skip


@pytest.mark.parametrize(("encoding", "text"), FILES)
def test_a_table_without_a_byte_order_mark_is_read_and_the_assumption_is_said(encoding: str, text: str) -> None:
    read, _, certain = decode(text.encode(encoding))
    assert (read, certain) == (text, False)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("text", ["id,sex\nP1,男\n", "id;Größe\nP1;1,65\n", "id\n1\n"])
def test_unicode_is_certain(encoding: str, text: str) -> None:
    read, _, certain = decode(text.encode(encoding))
    assert (read, certain) == (text, True)


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_two_byte_unicode_without_a_mark_is_found(encoding: str) -> None:
    text = "participant_id,sex\nP1,男\nP2,女\n"
    assert decode(text.encode(encoding)) == (text, encoding, False)


def test_damaged_utf_8_is_not_taken_for_another_encoding() -> None:
    data = "id,姓名\n".encode() * 20
    with pytest.raises(NotText, match="UTF-8 with damaged characters, the first in line 4"):
        decode(data[:30] + b"\xff" + data[30:])


@pytest.mark.parametrize(
    "data", [b"\x89PNG\r\n\x1a\n\0\0\0", b"id,a\n1,\0\n", b"%PDF-1.4\n\x01\x02", bytes(range(256))]
)
def test_binary_data_are_no_table(data: bytes) -> None:
    with pytest.raises(NotText):
        decode(data)


def test_a_stray_control_character_is_no_binary_file() -> None:
    text = "id,remark\n" + "P1,measured twice\n" * 20 + "P2,\x0bx\x1f\n\x1a"
    assert decode(text.encode()) == (text, "utf-8", True)


# ---- delimiters ------------------------------------------------------------------------------------------------------

TRAPS = {
    "decimal commas": ("id;weight\nP1;66,5\nP2;70,1\nP3;71,9\n", ";", 2),
    "decimal commas in every cell": ("a;b;c\n1,5;2,5;3,5\n1,0;2,0;3,0\n", ";", 3),
    "sentences with commas": ("id\tremark\n1\tone, two\n2\tthree, four\n", "\t", 2),
    "commas in a header too": ("id\tremark, more\n1\tone, two\n2\tthree, four\n", "\t", 2),
    "sentences with semicolons": ("id,remark,x\n1,one; two,3\n2,one; two,4\n", ",", 3),
    "quoted commas": ('id,remark\n1,"one, two, three"\n2,"four"\n', ",", 2),
    "pipes": ("id|a,b|c\n1|2|3\n", "|", 3),
    "a title above": ("Export; of ward 3\n\nid,a,b\n1,2,3\n2,3,4\n3,4,5\n", ",", 3),
    "one column": ("key\nabc\ndef\n", ",", 1),
    "blank lines": ("\n\nid;a\n\n1;2\n", ";", 2),
}


@pytest.mark.parametrize("name", TRAPS)
def test_the_delimiter_is_the_one_that_fits_header_and_rows(name: str) -> None:
    text, delimiter, width = TRAPS[name]
    rows, found = split(text, 1000)
    assert (found, len(rows[-1])) == (delimiter, width)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_line_ends_of_every_system_and_inside_a_quoted_cell(end: str) -> None:
    rows, _ = split(f'id,remark{end}1,"a{end}b"{end}2,c', 1000)
    assert rows == [["id", "remark"], ["1", f"a{end}b"], ["2", "c"]]


def test_excels_own_separator_line_is_believed_and_not_counted() -> None:
    rows, delimiter = split("sep=|\nid|a;b\n1|2;3\n", 1000)
    assert (delimiter, rows[0]) == ("|", ["id", "a;b"])


def test_what_python_writes_is_read_back_with_any_delimiter() -> None:
    rows = [
        ["id", "remark", "x"],
        ["1", 'a "quoted", text; and|more\t', "66,5"],
        ["2", "two\nlines", ""],
        ["3", "", "7"],
    ]
    for delimiter in ",;\t|":
        file = io.StringIO(newline="")
        csv.writer(file, delimiter=delimiter).writerows(rows)
        assert split(file.getvalue(), 1000) == (rows, delimiter)


@pytest.mark.parametrize("text", ['id,a\n1,"b\n2,c\n', 'id,a\n1,"b"c\n'])
def test_a_broken_quote_is_refused(text: str) -> None:
    with pytest.raises(csv.Error):
        split(text, 1000)


def test_too_many_cells_are_refused_before_they_are_made() -> None:
    with pytest.raises(NotText, match="more than 1000 cells"):
        split("a,b\n" + "," * 1001, 1000)
