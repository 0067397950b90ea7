"""A folder of synthetic data that an interruption leaves usable: planned first, written file by file, completed later.

The folder holds ``plan.json``, all that its bytes depend on. A file is written under a temporary name and renamed, so
that one under its own name is whole; a second run with the same parameters writes what is missing.
"""

import csv
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from io import StringIO
from pathlib import Path
from typing import Any, TypeVar

from sarco_models.errors import ConfigError
from sarco_models.workers import pool as worker_pool

BATCH = 16  # tasks per message to a worker
PLAN_FILE = "plan.json"

Task = TypeVar("Task")
Done = TypeVar("Done")
Progress = Callable[[int, int], None]
"""Called with tasks done and tasks in all."""


def claim(out: Path, parameters: Mapping[str, Any]) -> None:
    """Mark ``out`` as the folder of these parameters, or find that it is.

    Raises:
        ConfigError: it was made with other parameters, or holds something else.
    """
    plan = out / PLAN_FILE
    wanted = json.loads(json.dumps(dict(parameters)))
    if plan.exists():
        found = json.loads(plan.read_text(encoding="utf-8"))
        other = [f"{k} = {found.get(k)!r} there, {v!r} asked" for k, v in wanted.items() if found.get(k) != v]
        if other:
            raise ConfigError(
                f"{out} holds a cohort made with other parameters ({'; '.join(other)}): "
                "choose another folder, or ask for the same parameters to complete it"
            )
        return
    if out.exists() and any(out.iterdir()):
        raise ConfigError(f"{out} is not empty and holds no plan.json of a synthetic cohort: choose another folder")
    out.mkdir(parents=True, exist_ok=True)
    put(plan, json_bytes(wanted))


def in_order(
    write: Callable[[Task], Done], tasks: Sequence[Task], workers: int, progress: Progress | None = None
) -> Iterator[Done]:
    """What ``write`` returns for each task, in order; with several workers it runs in processes.

    Args:
        write: a function of a module, so that other processes find it.
        tasks: may be empty.
        workers: 1 runs in this process.
        progress: told after each batch.
    """
    batches = [tasks[k : k + BATCH] for k in range(0, len(tasks), BATCH)]
    done = 0
    for batch in _batches_done(partial(_all_of, write), batches, workers):
        done += len(batch)
        if progress is not None:
            progress(done, len(tasks))
        yield from batch


def _batches_done(
    write: Callable[[Sequence[Task]], list[Done]], batches: Sequence[Sequence[Task]], workers: int
) -> Iterator[list[Done]]:
    if workers == 1 or not batches:
        yield from map(write, batches)
        return
    with worker_pool(min(workers, len(batches))) as pool:
        yield from pool.map(write, batches)


def _all_of(write: Callable[[Task], Done], batch: Sequence[Task]) -> list[Done]:
    return [write(task) for task in batch]


def csv_bytes(columns: Iterable[str], rows: Iterable[Iterable[object]]) -> bytes:
    """A table as UTF-8, comma-separated, one line feed per row."""
    text = StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return text.getvalue().encode()


def json_bytes(value: object) -> bytes:
    """Indented, with a line feed at the end."""
    return (json.dumps(value, indent=2) + "\n").encode()


def complete(path: Path) -> bool:
    """A file under its own name was renamed into place; empty, it was lost by the disk and counts as absent."""
    return path.exists() and path.stat().st_size > 0


def put(path: Path, content: bytes) -> None:
    """Put a file in place, whole or not at all."""
    part = path.with_name(path.name + ".part")
    part.write_bytes(content)
    os.replace(part, path)  # noqa: PTH105 - one call, atomic on every platform
