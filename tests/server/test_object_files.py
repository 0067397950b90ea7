"""Pieces of messages as files: what Flower's store promises holds, no file is without its row, and none is torn."""

import hashlib
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from flwr.proto.message_pb2 import ObjectTree
from flwr.supercore.inflatable.inflatable_object import UnexpectedObjectContentError
from flwr.supercore.object_store import NoObjectInStoreError

from server.object_files import LEAST_BYTES, ObjectFiles, folder_of

# the second: Flower's migrations are written for an older alembic
pytestmark = [
    pytest.mark.slow,  # Flower builds a database up from its first version
    pytest.mark.filterwarnings("ignore:No path_separator found:DeprecationWarning"),
]

RUN = 7


def piece(filling: bytes, size: int = 2 * LEAST_BYTES) -> tuple[str, bytes]:
    """A piece of an array as Flower sends it, and its name."""
    body = filling * size
    content = b"ArrayChunk  %d\x00" % len(body) + body
    return hashlib.sha256(content).hexdigest(), content


LARGE, OTHER, SMALL = piece(b"a"), piece(b"b"), piece(b"c", 10)


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "superlink.sqlite"


@pytest.fixture
def opened(database: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], ObjectFiles]]:
    """A store on the same folder, as often as the SuperLink is started; nothing is swept by itself."""
    monkeypatch.setattr(ObjectFiles, "_sweep_for_ever", lambda _self: None)
    stores: list[ObjectFiles] = []

    def open_() -> ObjectFiles:
        stores.append(ObjectFiles(str(database)))
        stores[-1].initialize()
        return stores[-1]

    yield open_
    for store in stores:
        store._engine.dispose()


def kept(store: ObjectFiles, *pieces: tuple[str, bytes]) -> None:
    for name, content in pieces:
        store.preregister(RUN, ObjectTree(object_id=name))
        store.put(name, content)


def files(database: Path) -> set[str]:
    return {path.name for path in folder_of(database).iterdir()}


def test_what_was_put_is_got_large_from_a_file_and_small_from_the_database(
    opened: Callable[[], ObjectFiles], database: Path
) -> None:
    store = opened()
    kept(store, LARGE, SMALL)
    assert [store.get(name) for name, _ in (LARGE, SMALL)] == [LARGE[1], SMALL[1]]
    assert files(database) == {LARGE[0]}
    with sqlite3.connect(database) as rows:
        sizes = dict(rows.execute("select object_id, length(content) from objects"))
    rows.close()
    assert sizes == {LARGE[0]: 0, SMALL[0]: len(SMALL[1])}


def test_only_this_account_may_read_the_files(opened: Callable[[], ObjectFiles], database: Path) -> None:
    kept(opened(), LARGE)
    folder = folder_of(database)
    assert (folder.stat().st_mode & 0o777, (folder / LARGE[0]).stat().st_mode & 0o777) == (0o700, 0o600)


def test_unknown_is_none_and_announced_is_empty(opened: Callable[[], ObjectFiles]) -> None:
    store = opened()
    assert store.get(LARGE[0]) is None
    store.preregister(RUN, ObjectTree(object_id=LARGE[0]))
    assert store.get(LARGE[0]) == b""


def test_what_was_not_announced_or_is_something_else_is_refused_and_leaves_nothing(
    opened: Callable[[], ObjectFiles], database: Path
) -> None:
    store = opened()
    with pytest.raises(NoObjectInStoreError):
        store.put(*LARGE)
    store.sweep()
    with pytest.raises(ValueError, match="does not match"):
        store.put(LARGE[0], OTHER[1])
    headless = b"x" * (2 * LEAST_BYTES)
    with pytest.raises(UnexpectedObjectContentError):
        store.put(hashlib.sha256(headless).hexdigest(), headless)
    assert files(database) == set()


def test_a_file_goes_when_its_row_has_gone_and_no_sooner(opened: Callable[[], ObjectFiles], database: Path) -> None:
    store = opened()
    kept(store, LARGE, OTHER)
    store.delete(OTHER[0])
    store.sweep()
    assert files(database) == {LARGE[0]}
    assert store.get(LARGE[0]) == LARGE[1]
    store.delete_objects_in_run(RUN)
    store.sweep()
    assert files(database) == set()


def test_a_row_that_is_taken_back_keeps_its_file(opened: Callable[[], ObjectFiles], database: Path) -> None:
    store = opened()
    kept(store, LARGE)
    with store.session() as session:
        store.delete(LARGE[0])
        assert store.get(LARGE[0]) is None
        session.rollback()
    store.sweep()
    assert store.get(LARGE[0]) == LARGE[1]


def test_what_was_forgotten_may_come_again(opened: Callable[[], ObjectFiles]) -> None:
    store = opened()
    kept(store, LARGE)
    store.delete(LARGE[0])
    kept(store, LARGE)  # before anybody has swept
    store.sweep()
    assert store.get(LARGE[0]) == LARGE[1]


def test_after_a_start_what_was_whole_is_there(opened: Callable[[], ObjectFiles]) -> None:
    kept(opened(), LARGE, SMALL)
    store = opened()
    assert [store.get(name) for name, _ in (LARGE, SMALL)] == [LARGE[1], SMALL[1]]


@pytest.mark.parametrize("harm", ["torn", "absent"])
def test_after_a_power_cut_what_is_not_whole_is_asked_for_again(
    opened: Callable[[], ObjectFiles], database: Path, harm: str
) -> None:
    kept(opened(), LARGE, OTHER)
    path = folder_of(database) / LARGE[0]
    path.write_bytes(LARGE[1][:1000]) if harm == "torn" else path.unlink()
    (path.parent / f"{OTHER[0]}.1.partial").write_bytes(b"half")
    store = opened()
    assert files(database) == {OTHER[0]}
    assert (store.get(LARGE[0]), store.get(OTHER[0])) == (b"", OTHER[1])
    assert store.preregister(RUN, ObjectTree(object_id=LARGE[0])) == [LARGE[0]]
    store.put(*LARGE)
    assert store.get(LARGE[0]) == LARGE[1]


def test_a_file_that_somebody_removed_is_not_there_yet(opened: Callable[[], ObjectFiles], database: Path) -> None:
    store = opened()
    kept(store, LARGE)
    (folder_of(database) / LARGE[0]).unlink()
    assert store.get(LARGE[0]) == b""
    store.put(*LARGE)
    assert store.get(LARGE[0]) == LARGE[1]


def test_without_the_database_the_files_are_nobodys(opened: Callable[[], ObjectFiles], database: Path) -> None:
    opened_once = opened()
    kept(opened_once, LARGE)
    opened_once._engine.dispose()
    for path in database.parent.glob("superlink.sqlite*"):
        path.unlink()
    opened()
    assert files(database) == set()


def test_a_full_disk_keeps_nothing_of_a_piece(
    opened: Callable[[], ObjectFiles], database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = opened()
    store.preregister(RUN, ObjectTree(object_id=LARGE[0]))

    def full(self: Path, _target: Path) -> Path:
        raise OSError(28, "No space left on device", str(self))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", full)
        with pytest.raises(OSError, match="No space"):
            store.put(*LARGE)
    assert files(database) == set()
    assert store.get(LARGE[0]) == b""
    store.put(*LARGE)
    assert store.get(LARGE[0]) == LARGE[1]
