"""Who has approved which study for this hospital, when, and with which code: a record that no study can write.

``approvals.jsonl`` lies next to site.toml and is a chain (:mod:`sarco_models.chain`): lines are added, never changed.
An approval is bound to the digest of the study and to the digest of the installed code. Another study is another
digest; after an update of the code the hospital approves anew, and until then every request is refused and the log
says why.
"""

from __future__ import annotations

import getpass
import hashlib
from functools import lru_cache
from pathlib import Path

import client
import sarco_models
from sarco_models.chain import Chain, Entry, read
from sarco_models.config import StudyConfig

FILE = "approvals.jsonl"
APPROVED, WITHDRAWN = "approved", "withdrawn"


@lru_cache(maxsize=1)
def code_digest() -> str:
    """SHA-256 over names and content of every module of ``client`` and ``sarco_models`` as this process has them.

    Read once in a process: what runs is what was there when it started.
    """
    digest = hashlib.sha256()
    for package in (client, sarco_models):
        root = Path(str(package.__file__)).parent
        for path in sorted(root.rglob("*.py")):
            content = path.read_bytes()
            digest.update(f"{root.name}/{path.relative_to(root).as_posix()}|{len(content)}|".encode() + content)
    return digest.hexdigest()


class Approvals:
    """The hospital's record of approvals; what another process adds to it counts at once."""

    def __init__(self, path: Path) -> None:
        """``path`` need not exist yet; the code is looked at now, before an update can change it under this process."""
        code_digest()
        self.path = path
        self._read: tuple[tuple[int, int, int], list[Entry]] | None = None

    def lacking(self, study: str) -> str:
        """Why there is no valid approval of this study with the code that runs, in words; empty where there is one.

        Raises:
            ChainBroken: the record was edited, cut or reordered: then nothing is approved.
        """
        of_study = [entry for entry in self._entries() if entry.facts["study"] == study]
        if not of_study:
            return "none on record"
        last, code = of_study[-1], code_digest()
        who, when = last.facts["by"], last.time[:10]
        if last.kind == WITHDRAWN:
            return f"withdrawn by {who} on {when}"
        if last.facts["code"] != code:
            return (
                f"given by {who} on {when} for code {last.facts['code'][:12]}, and {code[:12]} is installed now: what "
                "leaves may have changed"
            )
        return ""

    def record(self, study: StudyConfig, *, by: str, withdrawn: bool = False) -> Entry:
        """Add an approval, or the withdrawal of one; it is on the disk when this returns."""
        facts = {"study": study.digest, "title": study.title, "code": code_digest(), "by": by, "login": login()}
        Chain(self.path).append(WITHDRAWN if withdrawn else APPROVED, facts)
        return self._entries()[-1]

    def _entries(self) -> list[Entry]:
        """Read again only where the file has changed."""
        try:
            found = self.path.stat()
        except FileNotFoundError:
            return []
        mark = (found.st_ino, found.st_size, found.st_ctime_ns)  # the time of a change of content can be set back
        if self._read is None or self._read[0] != mark:
            self._read = (mark, read(self.path))
        return self._read[1]


def login() -> str:
    """The account that runs this command, as the operating system knows it."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"
