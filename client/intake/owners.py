"""Who the images are of: the person whom the path, the DICOM header or a list of images names.

A list is a table of the hospital, with one row for each image: whose it is, what it shows, which frame, which mask.
"""

import posixpath
from collections.abc import Iterable
from pathlib import Path

from client.intake.dicom_header import read_header
from client.intake.matching import ImageList, Listed
from client.intake.path_words import id_key, said_by
from client.intake.survey import Survey
from client.mapping import ImageRules, check_list_headers
from sarco_models.sheets import read_sheet
from sarco_models.words import missing


class Owners:
    """People by their images.

    Attributes:
        contradicted: images whose DICOM header names another participant than their path or the list.
    """

    def __init__(
        self,
        source: Path,
        ids: Iterable[str],
        rules: ImageRules,
        listed: ImageList,
        *,
        loose: bool,
    ) -> None:
        """``ids`` as the table writes them; ``listed`` by path below ``source``."""
        self._source, self._rules, self._listed, self._loose = source, rules, listed, loose
        self._ids = {id_key(id_, loose=loose): id_ for id_ in ids}
        self.contradicted: list[str] = []

    def person_of(self, path: str) -> str:
        """The table's id; "" where nobody is named, or two are."""
        header = read_header(self._source / path)
        in_header = self._known(header.person) if header else ""
        person = next((known for way in self._rules.id if (known := self._by(way, path, in_header))), "")
        if person and in_header and in_header != person:
            self.contradicted.append(path)
            return ""
        return person

    def _by(self, way: str, path: str, in_header: str) -> str:
        if way == "dicom":
            return in_header
        if way == "list":
            people = {self._known(row.id) for row in self._listed.get(path, ())}
            return people.pop() if len(people) == 1 else ""
        return self._known(said_by(way, path).get("id", ""))

    def _known(self, text: str) -> str:
        return self._ids.get(id_key(text, loose=self._loose), "") if text else ""


def read_list(source: Path, rules: ImageRules, found: Survey, mapping: Path) -> tuple[ImageList, int]:
    """What the list says of each image below the source, and how many of its rows name no image there.

    A row names a path below the source, or a file's name that is there once. Several rows for one image are several
    frames; of two rows for one frame the last counts.

    Raises:
        ConfigError: a column of the mapping is not in the table.
        DataError: the table cannot be read.
    """
    if not rules.list_file:
        return {}, 0
    sheet = read_sheet(source / rules.list_file, sheet=rules.list_sheet or None)
    columns = rules.list_columns
    check_list_headers(columns, sheet.header, mapping)
    images, masks = _Paths(found.images), _Paths(found.masks)
    listed: dict[str, tuple[Listed, ...]] = {}
    absent = 0
    for _, cells in sheet.rows:
        said = {field: "" if missing(cells.get(column, "")) else cells[column] for field, column in columns if column}
        path = images.find(said.pop("image", ""))
        absent += not path
        if path:
            row = Listed(**{**said, "mask": masks.find(said.get("mask", ""))})
            listed[path] = (*(other for other in listed.get(path, ()) if other.frame != row.frame), row)
    return listed, absent


class _Paths:
    """Paths by what a person writes for them."""

    def __init__(self, paths: Iterable[str]) -> None:
        self._paths = {path.casefold(): path for path in paths}
        self._names: dict[str, str] = {}
        for key, path in self._paths.items():
            name = posixpath.basename(key)
            self._names[name] = "" if name in self._names else path

    def find(self, text: str) -> str:
        """The path, "" where there is none or more than one."""
        key = text.replace("\\", "/").removeprefix("./").casefold()
        return self._paths.get(key) or self._names.get(posixpath.basename(key), "") if key else ""
