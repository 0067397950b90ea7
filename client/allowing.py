"""What a hospital would have to write into site.toml for a study, and writing it as a person would.

Only the values change: comments, order and everything else stay as the hospital wrote them. The result is read again
before it replaces the file; where it does not say exactly what was meant, nothing is written.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from client import muscle_words
from client.identity import Peer, peer_lines
from client.private_files import write_private
from client.site_folder import UNKNOWN_RULE
from client.study_words import METRICS, Missing
from sarco_models.config import StudyConfig
from sarco_models.errors import ConfigError

PEERS = "[[peers]]"
_RULE = re.compile(r"[a-z][a-z0-9_]*")
_KEY = re.compile(r"\s*([A-Za-z0-9_-]+)\s*=")
_TABLE = re.compile(r"\s*\[+\s*([^\]]+?)\s*\]+")


@dataclass(frozen=True)
class Change:
    """One value of site.toml that would change.

    Attributes:
        table: ``policy``, ``budget``, or empty for the top of the file.
        key: of the value.
        value: what it would be.
        why: what the study asks for; empty where that was said.
    """

    table: str
    key: str
    value: Any
    why: str = ""

    @property
    def line(self) -> str:
        """As it would stand in the file."""
        return f"{self.key} = {toml(self.value)}"


@dataclass(frozen=True)
class Allowing:
    """All that a study lacks in a site.toml."""

    changes: tuple[Change, ...]
    peers: tuple[Peer, ...] = ()

    def beside(self, rule: str) -> Allowing:
        """The same, and how the labels were made; empty: the same."""
        return replace(self, changes=(Change("", "label_rule", rule, "as you say"), *self.changes)) if rule else self

    def lines(self) -> Iterator[str]:
        """What would be written, table by table; with its reason where the study's own words have not given it."""
        for table in dict.fromkeys(change.table for change in self.changes):
            if table:
                yield f"[{table}]"
            for change in self.changes:
                if change.table == table:
                    yield change.line
                    if change.why:
                        yield f"    ({change.why})"
        for peer in self.peers:
            yield from peer_lines({peer.name: peer.key}).strip().splitlines()

    def write(self, path: Path) -> None:
        """Write it.

        Raises:
            ConfigError: the file cannot be changed so that it says this.
        """
        text = path.read_text(encoding="utf-8")
        for change in self.changes:
            text = with_value(text, change)
        for peer in self.peers:
            text = text.rstrip("\n") + "\n" + peer_lines({peer.name: peer.key})
        self._check(path, text)
        rights = path.stat().st_mode & 0o777
        write_private(path, text, rights)

    def _check(self, path: Path, text: str) -> None:
        """The new text must differ from the old file in these values only."""
        wanted: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
        for change in self.changes:
            place = wanted.setdefault(change.table, {}) if change.table else wanted
            place[change.key] = change.value
        if self.peers:
            wanted["peers"] = [*wanted.get("peers", []), *({"name": p.name, "key": p.key} for p in self.peers)]
        try:
            same = tomllib.loads(text) == wanted
        except tomllib.TOMLDecodeError:
            same = False
        if not same:
            raise ConfigError(f"{path}: is written in a way that this command cannot change: write the lines yourself")


def lacking(
    study: StudyConfig, needs: Iterable[Missing], settings: Mapping[str, Any], peers: Iterable[Peer] = ()
) -> Allowing:
    """The changes that answer these needs.

    Args:
        study: that asks.
        needs: as :func:`client.study_words.missing` found them.
        settings: site.toml as it stands.
        peers: hospitals that the kit names, for secure aggregation.
    """
    found: dict[tuple[str, str], Change] = {}
    rule = settings.get("label_rule")
    if rule in (None, UNKNOWN_RULE) and not study.label.allow_mixed_rules and not study.segments:
        words = f"the study's labels are made by {study.label.rule}: write it only if yours are, too"
        found["", "label_rule"] = Change("", "label_rule", study.label.rule, words)
    wants_peers = False
    for need in needs:
        if need.key == PEERS:
            wants_peers = True
            continue
        table, _, key = need.key.rpartition(".")
        place = table or "policy", key
        before = found[place].value if place in found else settings.get(place[0], {}).get(key)
        found[place] = Change(*place, _value(need.write, before))
    policy = settings.get("policy", {})
    known_metrics = muscle_words.METRICS if study.segments else METRICS
    if not policy.get("metrics") and study.privacy is None and not study.unplanned:
        words = (
            f"may leave with every answer ({', '.join(known_metrics)} are known): without it nobody sees how well it "
            "learns"
        )
        found["policy", "metrics"] = Change("policy", "metrics", ["dice" if study.segments else "auc"], words)
    known = {peer["name"] for peer in settings.get("peers", [])}
    return Allowing(tuple(found.values()), tuple(p for p in peers if p.name not in known) if wants_peers else ())


def rule_open(study: StudyConfig, settings: Mapping[str, Any]) -> bool:
    """Whether somebody must be asked how the labels were made: nobody has said, and the study takes several rules."""
    unsaid = settings.get("label_rule") in (None, UNKNOWN_RULE)
    return unsaid and study.label.allow_mixed_rules and not study.segments


def is_rule(word: str) -> bool:
    """Whether a word can be the name of a rule, and says something."""
    return bool(_RULE.fullmatch(word)) and word != UNKNOWN_RULE


def differing_rule(study: StudyConfig, settings: Mapping[str, Any]) -> str:
    """What to say where the labels here are made by another rule than the study's: that is never changed."""
    rule = settings.get("label_rule")
    if rule in (None, UNKNOWN_RULE, study.label.rule) or study.label.allow_mixed_rules or study.segments:
        return ""
    return (
        f"The study's labels are made by {study.label.rule}, and site.toml says that yours are made by {rule}: this "
        "study cannot use them. Make them anew by its rule, and change label_rule yourself."
    )


def _value(write: str, before: Any) -> Any:
    """The value that a need asks for in words: ``add X``, ``3.0 or more``, ``true``, ``"unlimited"``, a list."""
    if write.startswith("add "):
        return [*(before or ()), write.removeprefix("add ")]
    value = write.removesuffix(" or more").split(", or ")[0]
    return json.loads(value)


def toml(value: Any) -> str:
    """A value as TOML writes it: of text, numbers, booleans and lists of them JSON's notation is TOML's, too."""
    return json.dumps(value, ensure_ascii=False)


def with_value(text: str, change: Change) -> str:
    """The text of a TOML file with one value changed, or added at the end of its table; comments stay."""
    lines = text.splitlines(keepends=True)
    table, last = "", -1
    for number, line in enumerate(lines):
        header = _TABLE.match(line)
        if header and not _KEY.match(line):
            table = header[1] if not line.lstrip().startswith("[[") else "[[" + header[1]
        if table != change.table:
            continue
        if line.strip() and not line.lstrip().startswith("#"):
            last = number
        key = _KEY.match(line)
        if key and key[1] == change.key:
            end = _end_of_value(lines, number)
            return "".join([*lines[:number], _replaced(lines[number:end], change), *lines[end:]])
    if last < 0 and change.table:
        return text.rstrip("\n") + f"\n\n[{change.table}]\n{change.line}\n"
    return "".join([*lines[: last + 1], change.line + "\n", *lines[last + 1 :]])


def _end_of_value(lines: list[str], begin: int) -> int:
    """Number of the line after a value, which may go over several."""
    for end in range(begin + 1, len(lines) + 1):
        try:
            tomllib.loads("".join(lines[begin:end]))
        except tomllib.TOMLDecodeError:
            continue
        return end
    return begin + 1


def _replaced(lines: list[str], change: Change) -> str:
    """The line with its new value; the comment stays at its column where there is room."""
    comment, column = _comment(lines[-1])
    if not comment:
        return change.line + "\n"
    return f"{change.line}  ".ljust(column) + comment + "\n"


def _comment(line: str) -> tuple[str, int]:
    """The comment that ends a line, and where it begins; a # within quotes is none."""
    quote = ""
    for column, letter in enumerate(line):
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "\"'":
            quote = letter
        elif letter == "#":
            return line[column:].rstrip("\n"), column
    return "", 0
