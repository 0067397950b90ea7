"""Who a name betrays: which file names may be shown, and which names and ids look as if they held a person.

A report says where such a name is, never what it is. File names and ids are judged against those of all other
participants: what most of them share is the site's own vocabulary, what one of them has alone may be a name.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

from sarco_models.errors import Finding
from sarco_models.schema import IMAGES_FILE, PARTICIPANTS_FILE, ImageRow

MANY_DIGITS = 8
"""Digits in a row, leading zeros not counted, that no counter needs: a hospital, telephone or national number."""

SHARED = 0.2
"""Share of the participants whose names hold a word that is the site's and nobody's own; the commonest family names of
the world, Wang and Li, are held by less than a tenth of a people."""

_LEAST_SHARING = 3  # participants
_ALONE = ", of one participant alone"
_VOWELS = set("aeiouyàáâäæèéêëìíîïòóôöøùúûü")

_VOCABULARY = """
im img image images mask masks pic picture pictures scan scans frame frames cine clip loop still screen shot
screenshot capture
dicom dcm jpg jpeg png tif tiff bmp nii gz nrrd mha mhd gipl json csv tsv xlsx xls ods toml
us ultrasound sono sonography bmode mode doppler probe
left right lt rt side both upper lower mid middle proximal distal anterior posterior lateral medial
rectus femoris rf biceps brachii bb triceps tb vastus lateralis intermedius medialis vl vi vm abdominis ra peroneus
longus brevis pl pb plpb gastrocnemius gm tibialis ta quadriceps muscle thigh arm leg calf
transverse trans long longitudinal cross sectional section csa mt depth view visit exam series study site center
centre
patient participant participants subject subjects sub subj case cases control controls sarcopenia sarco healthy
data export exported copy new old raw edited final seg segmentation label labels labelme roi annotation annotated
of row the file number no nr id pid anon anonymous anonymized deid syn synthetic phantom test train validation
calibration manifest table tables sheet book tmp temp day week month year baseline follow followup up pre post repeat
"""
_KNOWN = frozenset(_VOCABULARY.split())

_DATE = re.compile(
    r"(?<!\d)(?:(?:19|20)\d\d([-_./]?)(?:0[1-9]|1[0-2])\1(?:0[1-9]|[12]\d|3[01])"
    r"|(?:0[1-9]|[12]\d|3[01])([-_./]?)(?:0[1-9]|1[0-2])\2(?:19|20)\d\d)(?!\d)"
)
_TOKEN = re.compile(r"[^\W_]+")
_LETTERS = re.compile(r"[^\W\d_]+")
_NATIONAL = re.compile(r"(?<!\d)\d{17}[\dXx](?!\w)")


def safe_name(name: str) -> bool:
    """Whether a file name may be shown: every word of it is known to name no person, and no number is long."""
    words = (word.casefold() for word in _LETTERS.findall(name))
    return (
        name.isascii()
        and name.isprintable()
        and all(len(word) == 1 or word in _KNOWN for word in words)
        and not _DATE.search(name)
        and not _long_number(name)
    )


def shown_name(row: ImageRow) -> str:
    """The image's path when it is safe and does not hold the participant's id, else ``image of row N``."""
    return _shown(row.image, "image", row)


def shown_mask(row: ImageRow) -> str:
    """The mask's path when it is safe and does not hold the participant's id, else ``mask of row N``."""
    return _shown(row.mask, "mask", row)


def _shown(path: str, what: str, row: ImageRow) -> str:
    return path if path and safe_name(path) and not _holds(path, row.participant_id) else f"{what} of row {row.row}"


def _holds(path: str, participant_id: str) -> bool:
    """The id stands in the path, whatever divides its parts; a short one only between dividers."""
    tokens = [token.casefold() for token in _TOKEN.findall(path)]
    wanted = [token.casefold() for token in _TOKEN.findall(participant_id)]
    if not wanted:
        return False
    places = range(len(tokens) - len(wanted) + 1)
    whole = "".join(wanted)
    return any(tokens[k : k + len(wanted)] == wanted for k in places) or (len(whole) >= 4 and whole in "".join(tokens))


def header_digest(header_id: str, salt: bytes) -> str:
    """Keyed BLAKE2b of a patient id, "" for an empty one: equal for equal ids, and worthless without the salt.

    Args:
        header_id: as DICOM has it; blanks and case do not count.
        salt: secret of the site, at most 64 bytes.
    """
    text = "".join(header_id.split()).casefold()
    return hashlib.blake2b(text.encode(), key=salt, digest_size=16).hexdigest() if text else ""


# ---- names that look like a person -----------------------------------------------------------------------------------


def id_findings(ids: Sequence[str], rows: Sequence[int]) -> tuple[Finding, ...]:
    """Participant ids that look like a name, a date or a long number.

    Args:
        ids: of participants.csv; they never leave the site, but a pseudonym is what a study is meant to use.
        rows: line of each in participants.csv.
    """
    shared = _shared_words({participant: [participant] for participant in ids})
    remedy = "give every participant a pseudonym, in both tables, and keep the key apart from the data"
    return tuple(
        Finding("warning", "identity-id", PARTICIPANTS_FILE, sign, "a pseudonym", remedy, row, "participant_id")
        for participant, row in zip(ids, rows, strict=True)
        if (sign := _sign(participant, shared))
    )


def name_findings(rows: Sequence[ImageRow]) -> tuple[Finding, ...]:
    """Names of image and mask files that look as if they held a person's name, a date or a long number."""
    held: dict[str, list[str]] = {}
    for row in rows:
        held.setdefault(row.participant_id, []).extend((row.image, row.mask))
    shared = _shared_words(held)
    remedy = "rename the files by pseudonym and number; sarco-site ingest does so"
    return tuple(
        Finding("warning", "identity-name", IMAGES_FILE, sign, "a name without a person", remedy, row.row, field)
        for row in rows
        for field, name in (("image", row.image), ("mask", row.mask))
        if (sign := _sign(_without(name, row.participant_id), shared))
    )


def text_sign(text: str) -> str:
    """What makes a single text look like a person's, described without quoting it; "" for nothing."""
    return _sign(text, frozenset()).removesuffix(_ALONE)


def text_is_plain(text: str) -> bool:
    """Whether a name of a thing, such as a device, can be shown: printable ASCII without a date or a long number."""
    return (
        text.isascii() and text.isprintable() and not (_DATE.search(text) or _long_number(text) or {"@", "^"} & {*text})
    )


def _without(name: str, participant_id: str) -> str:
    """A pseudonym in a file name is as it should be; the ids themselves are judged in their own table."""
    return name.replace(participant_id, " ") if participant_id else name


def _sign(text: str, shared: frozenset[str]) -> str:
    if _NATIONAL.search(text):
        return "a number formed like a national identity number"
    if _DATE.search(text):
        return "a date"
    digits = _long_number(text)
    if digits:
        return f"a number of {digits} digits"
    if "@" in text or "^" in text:
        return "an e-mail address" if "@" in text else "a name as DICOM writes it"
    return _word_sign(text, shared)


def _long_number(text: str) -> int:
    """Digits of the longest number without its leading zeros, 0 when it is short enough for a counter."""
    longest = max((len(number.lstrip("0")) for number in re.findall(r"\d+", text)), default=0)
    return longest if longest >= MANY_DIGITS else 0


def _word_sign(text: str, shared: frozenset[str]) -> str:
    """Words of one participant alone: one of four letters or more, two shorter ones in a row, or another script's."""
    own = [word if _own(word, shared) else "" for word in _words(text)]
    for word in own:
        if word and not _latin(word):
            return f"words in another script{_ALONE}"
        if len(word) >= 4:
            return f"a word of {len(word)} letters{_ALONE}"
    if any(a and b for a, b in pairwise(own)):
        return f"two words{_ALONE}"
    return ""


def _latin(word: str) -> bool:
    return all(ord(letter) < 0x250 for letter in word)


def _words(text: str) -> list[str]:
    """Words in order; letters that stand before or after digits are a code unless they are long."""
    words: list[str] = []
    for token in _TOKEN.findall(text):
        letters = _LETTERS.findall(token)
        mixed = any(character.isdigit() for character in token)
        words += [word for word in letters if not mixed or len(word) >= 5 or not word.isascii()]
    return [word.casefold() for word in words]


def _own(word: str, shared: frozenset[str]) -> bool:
    """Neither known nor shared, and to be spoken: initials and codes have no vowel; one character may be a name."""
    if word in _KNOWN or word in shared:
        return False
    return not _latin(word) or (len(word) >= 2 and bool(_VOWELS & set(word)))


def _shared_words(texts: Mapping[str, Iterable[str]]) -> frozenset[str]:
    """Words that many participants' texts hold."""
    counts: Counter[str] = Counter()
    for held in texts.values():
        counts.update({word for text in held for word in _words(text)})
    least = max(_LEAST_SHARING, SHARED * len(texts))
    return frozenset(word for word, count in counts.items() if count >= least)
