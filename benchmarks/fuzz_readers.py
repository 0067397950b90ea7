"""Damaged files by the thousand, with other seeds than the tests' own: what do the readers make of them?

    python benchmarks/fuzz_readers.py images --count 20000 --seed 1

A fault is an exception that is no refusal, a crash of the process, more than 5 s, or more than 1 GiB. Mutants that show
one are kept in the folder ``--keep``.
"""

import argparse
import time
from pathlib import Path

from tests.fuzzing import (
    image_bombs,
    image_samples,
    mask_bombs,
    mask_samples,
    mutants,
    read_any_image,
    read_any_mask,
    watched,
)

READERS = {"images": (read_any_image, image_samples, image_bombs), "masks": (read_any_mask, mask_samples, mask_bombs)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=READERS)
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--bombs", action="store_true", help="the files of absurd sizes instead")
    parser.add_argument("--keep", type=Path, default=Path("fuzz-faults"))
    args = parser.parse_args()
    read, samples, bombs = READERS[args.kind]
    files = bombs() if args.bombs else list(mutants(samples(), args.count, args.seed))
    start = time.perf_counter()
    outcome = watched(read, files)
    print(f"{len(files)} files in {time.perf_counter() - start:.0f} s: {outcome.opened} opened, slowest ", end="")
    print(f"{outcome.seconds:.2f} s, peak {outcome.peak_bytes / 2**20:.0f} MiB above the process")
    for rule, count in outcome.refused.most_common():
        print(f"  {count:6} refused: {rule}")
    for fault in outcome.faults:
        print("  FAULT", fault)
        if "(number " in fault:
            number = int(fault.split("(number ")[1].split(")")[0])
            args.keep.mkdir(exist_ok=True)
            (args.keep / f"{number}_{files[number].name}").write_bytes(files[number].content)
    raise SystemExit(bool(outcome.faults))


if __name__ == "__main__":
    main()
