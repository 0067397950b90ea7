"""The same image twice, whether copied, re-encoded, rescaled, brightened or mirrored; and one mask on several images.

A copy within a participant counts double; one under two participants stands in training and in test at once. Equal
pixels are told by their digest. Copies are told in two steps: a perceptual hash of 64 bits names candidates among all
pairs, and the fine structure of their thumbnails, which no two frames of one scan share, confirms them.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from client.quality.identity import shown_mask, shown_name
from client.quality.records import ImageRecord
from sarco_models.errors import Finding, Severity

HASH_LIMIT = 10
"""Most differing bits of a candidate. Of 320,000 pairs of SYNTHETIC images one has 10, none less; copies differ by 11
at most. Two real panoramas of one thigh differ by 5 to 14, and so every candidate has to be confirmed."""

ALIKE = 0.75
"""Least correlation of the fine structure of copies: they have .82 or more, two scans of one muscle .60 at most."""

_MIRROR = np.uint64(0xAAAAAAAAAAAAAAAA)  # bits of the odd frequencies across, whose sign a mirror turns
_BLOCK = 512  # records compared with all others at once
_FINE = 48  # pixels on a side


def perceptual_hash(small: NDArray[np.uint8]) -> int:
    """64 bits: the signs of the low frequencies of an image, but for those along one axis only.

    Frequencies of pure depth are the same in all muscles: skin bright, bone below. The bit of the frequency (down,
    across) is 8 * (down - 1) + across, counted from 1; a mirror turns the signs of the odd frequencies across.
    """
    square = cv2.resize(small, (32, 32), interpolation=cv2.INTER_AREA).astype(np.float32)
    signs = cv2.dct(square)[1:9, 1:9] > 0
    return int.from_bytes(np.packbits(signs).tobytes())


def duplicate_findings(records: Sequence[ImageRecord]) -> tuple[Finding, ...]:
    """Images that occur twice or more, and masks that lie on several images; one finding for each repetition."""
    seen = [record for record in records if record.content]
    first = {record.content: k for k, record in reversed(list(enumerate(seen)))}
    equal, alike, mirrored = _Groups(len(seen)), _Groups(len(seen)), set[int]()
    for k, record in enumerate(seen):
        equal.join(first[record.content], k)
    unique = [k for k in sorted(first.values()) if not _is_blank(seen[k])]
    confirmed = _comparison([seen[k].thumbnail for k in unique])
    for a, b, mirror in _candidates(np.array([seen[k].phash for k in unique], dtype=np.uint64)):
        if alike.of(unique[a]) != alike.of(unique[b]) and confirmed(a, b, mirror):
            alike.join(unique[a], unique[b])
            mirrored |= {unique[a], unique[b]} if mirror else set()
    findings = [
        *_repetitions(seen, equal, "duplicate-image", "the same pixels"),
        *_repetitions(seen, alike, "near-duplicate", "almost the same picture", mirrored),
    ]
    return (*findings, *_shared_masks(seen, equal, alike))


def _is_blank(record: ImageRecord) -> bool:
    return any(finding.rule == "empty-image" for finding in record.findings)


class _Groups:
    """Which records belong together (disjoint sets)."""

    def __init__(self, count: int) -> None:
        self._parent = list(range(count))

    def of(self, k: int) -> int:
        """The first member of the group of ``k``."""
        while self._parent[k] != k:
            self._parent[k] = self._parent[self._parent[k]]
            k = self._parent[k]
        return k

    def join(self, a: int, b: int) -> None:
        """From now on they belong together."""
        low, high = sorted((self.of(a), self.of(b)))
        self._parent[high] = low

    def members(self) -> Iterator[list[int]]:
        """Groups of two or more, each in order."""
        groups = defaultdict(list)
        for k in range(len(self._parent)):
            groups[self.of(k)].append(k)
        yield from (group for group in groups.values() if len(group) > 1)


def _repetitions(
    records: Sequence[ImageRecord], groups: _Groups, rule: str, what: str, mirrored: set[int] | None = None
) -> Iterator[Finding]:
    """All members of a group but the first; another participant's image is named rather than one's own."""
    for group in groups.members():
        for place, k in enumerate(group[1:], start=1):
            row = records[k].row
            earlier = [records[j].row for j in group[:place]]
            other = next((r for r in earlier if r.participant_id != row.participant_id), None)
            same = f"{what} as row {(other or earlier[0]).row}"
            mirror = ", mirrored" if mirrored and k in mirrored else ""
            severity: Severity = "error" if other and rule == "duplicate-image" else "warning"
            seen = f"{same}{mirror}, of another participant" if other else f"{same}{mirror}, of the same participant"
            remedy = "find out whose image it is, and correct the id" if other else "keep one of them"
            yield Finding(severity, rule, shown_name(row), seen, "an image once", remedy, row.row, "image")


def _shared_masks(records: Sequence[ImageRecord], equal: _Groups, alike: _Groups) -> Iterator[Finding]:
    """No hand draws the same outline twice to the pixel."""
    drawn: dict[str, int] = {}
    for k, record in enumerate(records):
        first = drawn.setdefault(record.mask_content, k) if record.mask_content else k
        if first != k and equal.of(first) != equal.of(k) and alike.of(first) != alike.of(k):
            seen = f"the same mask as row {records[first].row.row}, on another image"
            remedy = "name in images.csv the mask that was drawn on this image"
            row = record.row
            yield Finding("warning", "mask-shared", shown_mask(row), seen, "a mask of its own", remedy, row.row, "mask")


# ---- copies ----------------------------------------------------------------------------------------------------------


def _comparison(thumbnails: Sequence[bytes]) -> Callable[[int, int, bool], bool]:
    """Whether the pictures of two positions are copies, the second one perhaps mirrored."""

    @lru_cache(maxsize=4096)
    def fine(k: int) -> NDArray[np.float32]:
        return _fine_structure(thumbnails[k])

    def confirmed(a: int, b: int, mirror: bool) -> bool:
        return float((fine(a) * (fine(b)[:, ::-1] if mirror else fine(b))).sum()) >= ALIKE

    return confirmed


def _candidates(hashes: NDArray[np.uint64]) -> Iterator[tuple[int, int, bool]]:
    """Pairs within ``HASH_LIMIT`` bits: all pairs are compared, 20,000 images in a few seconds."""
    for start in range(0, len(hashes), _BLOCK):
        rows = hashes[start : start + _BLOCK, None]
        for mirror, columns in ((False, hashes[start:]), (True, hashes[start:] ^ _MIRROR)):
            near = np.bitwise_count(rows ^ columns) <= HASH_LIMIT
            for a, b in np.argwhere(near).tolist():
                if a < b:
                    yield start + a, start + b, mirror


def _fine_structure(thumbnail: bytes) -> NDArray[np.float32]:
    """Local contrast of a thumbnail, (48, 48), of mean 0 and norm 1: the product of two is their correlation."""
    grey = cv2.imdecode(np.frombuffer(thumbnail, dtype=np.uint8), cv2.IMREAD_GRAYSCALE) if thumbnail else None
    if grey is None:
        return np.zeros((_FINE, _FINE), dtype=np.float32)
    square = cv2.resize(grey, (_FINE, _FINE), interpolation=cv2.INTER_AREA).astype(np.float32)
    square -= cv2.GaussianBlur(square, (0, 0), _FINE / 24)
    square /= np.sqrt(cv2.GaussianBlur(square * square, (0, 0), _FINE / 12)) + 2
    square -= square.mean()
    return np.asarray(square / max(float(np.linalg.norm(square)), 1e-6), dtype=np.float32)
