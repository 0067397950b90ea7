"""The dashboard's pictures in the documents, taken of an invented, SYNTHETIC run in a headless Chromium.

    python benchmarks/dashboard_pictures.py [--out docs/pictures]

Writes dashboard-desk.png, dashboard-phone.png and dashboard-trouble.png, each below 200 kB, and says their sizes.
"""

import argparse
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import uvicorn
from PIL import Image

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from server.dashboard import cli  # noqa: E402
from server.dashboard.roster import Roster, Seen  # noqa: E402
from server.dashboard.web import make_app, new_token  # noqa: E402
from tests.browser import Page, browser  # noqa: E402
from tests.server.example_home import SITES, write_home, write_live, write_processes, write_round  # noqa: E402

LARGEST = 200_000
DESK, PHONE = (1180, 1560), (360, 1480)


@contextmanager
def served(home: Path, seen: dict[str, Seen]) -> Iterator[str]:
    """The dashboard of a home, with these hospitals connected; its address."""
    token, roster = new_token(), Roster(lambda: seen)
    roster.known()
    app = make_app(home, token, roster)
    with cli._listen(home, 0) as listener:
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False, ws="none"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}/?token={token}"
        finally:
            server.should_exit = True
            thread.join()
            app.state.desk.close()


def take(page: Page, address: str, size: tuple[int, int], path: Path) -> None:
    """A picture of the upper part of the page."""
    page.open(address, *size)
    page.until("!document.body.innerText.includes('being computed')")
    time.sleep(2.5)
    page.picture(path)
    with Image.open(path) as picture:
        small = picture.convert("RGB")
    small.save(path, optimize=True)
    size_on_disk = path.stat().st_size
    assert size_on_disk < LARGEST, f"{path}: {size_on_disk} bytes"
    print(f"{path}: {size_on_disk / 1000:.0f} kB")


def main() -> None:
    """Take all pictures."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--out", type=Path, default=ROOT / "docs" / "pictures")
    out: Path = options.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    now = time.time()
    online = {name: Seen(True, now) for name in SITES}
    with tempfile.TemporaryDirectory() as folder, browser() as chromium:
        home = write_home(Path(folder) / "home", rounds=11)
        run = home / "runs" / "muscle"
        with served(home, online) as address, chromium.page() as page:
            write_live(run, "round", 12, {"shanghai": "answered", "sichuan": "asked", "zhongshan": "asked"})
            take(page, address, DESK, out / "dashboard-desk.png")
            take(page, address, PHONE, out / "dashboard-phone.png")
        write_round(run, 12, {"sichuan": "refused: budget_spent", "zhongshan": "away"})
        failure = "round 13: 1 sites answered usably, min_sites = 2 (sichuan: refused: budget_spent; zhongshan: away)"
        write_live(run, "failed", 13, {}, failure=failure, deadline=None)
        write_processes(home, gate={"state": "waiting", "restarts": 3, "said": "port 8443 is in use"})
        gone = online | {"zhongshan": Seen(False, now - 5400)}
        with served(home, gone) as address, chromium.page() as page:
            take(page, address, (DESK[0], 1120), out / "dashboard-trouble.png")


if __name__ == "__main__":
    main()
