"""Commands of sarco-coordinator for a real federation: init, enrol, revoke, kits, up, down, run, resume, stop, ..."""

from __future__ import annotations

import contextlib
import json
import re
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from sarco_models.errors import ConfigError, RunError, SarcoError

if TYPE_CHECKING:
    from server.home import Home
    from server.overview import Overview

console = Console()
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")

AtHome = Annotated[Path, typer.Option("--home", envvar="SARCO_HOME", help="The coordinator's home; default: here.")]
HOME = typer.Argument(envvar="SARCO_HOME", help="The coordinator's home.")
RunName = Annotated[str, typer.Argument(help="Name of a run; default: the one that was submitted last.")]
Detach = Annotated[bool, typer.Option("--detach", help="Return at once; the run goes on.")]


def register(app: typer.Typer) -> None:
    """Add the commands to ``sarco-coordinator``."""
    for command in (init, enrol, revoke, kits, up, down, run, resume, stop, status, logs):
        app.command()(command)


def init(
    home: Annotated[Path, HOME],
    address: Annotated[str, typer.Option(help="HOST:PORT by which hospitals reach this machine from outside.")],
    study: Annotated[Path, typer.Option(help="The study that the hospitals shall take part in (TOML).")],
) -> None:
    """Make a coordinator's home: authority, certificates, secrets, coordinator.toml."""
    from server.founding import found

    with errors():
        fingerprint = found(home, address, study)
    _say(f"{home} is made. Fingerprint of its authority, to read out to every hospital over the telephone:")
    _say(f"    {fingerprint}")
    _say(f"Keep {home / 'ca.key'} secret, and a copy of the folder in a safe place.")
    _say(f"Next: sarco-coordinator enrol SITE.pub --home {home}, for the file that each hospital sends you")


def enrol(
    files: Annotated[list[Path], typer.Argument(metavar="SITE.pub...", help="What the hospitals sent.")],
    name: Annotated[str, typer.Option(help="The name that the hospital should have; checked against its file.")] = "",
    home: AtHome = Path(),
) -> None:
    """Let hospitals connect, and write the kit that each of them needs."""
    from server.enrolment import enrol as let_in
    from server.enrolment import key_fingerprint

    with errors():
        at = opened(home)
        done = let_in(at, files, name)
        together = at.study.federation.secure_aggregation
    for site in done.sites:
        _say(
            f"{site.name} is enrolled. Compare the fingerprint of its keys over the telephone, before you send its kit:"
        )
        _say(f"    {key_fingerprint(site.node_key, site.identity)}")
        _say(f"kit to send: {at.kits / f'{site.name}.kit'}")
    others = [path.stem for path in done.kits if path.stem not in {site.name for site in done.sites}]
    if others and together:
        _say(f"The study sums under masks, so send these their new kits too: {', '.join(others)}")
    if not done.known_to_flower:
        _say(f"They can connect within half a minute if it is up; else start it: sarco-coordinator up {home}")


def revoke(name: Annotated[str, typer.Argument(help="Name of an enrolled hospital.")], home: AtHome = Path()) -> None:
    """Shut a hospital out, at once; a run at work goes on without it."""
    from server.enrolment import revoke as shut_out

    with errors():
        known = shut_out(opened(home), name)
    _say(f"{name} is revoked: its key is refused from now on, and stays so. To come back it needs new keys.")
    if not known:
        _say("The SuperLink does not answer; if it is up, it knows within half a minute, else at the next up.")


def kits(
    home: Annotated[Path, HOME] = Path(),
    study: Annotated[Path | None, typer.Option(help="Another study for the kits from now on (TOML).")] = None,
) -> None:
    """Write all hospitals' kits anew: after another address, another study, another authority."""
    from sarco_models.portable_study import portable_text
    from server.enrolment import write_kits
    from server.whole_files import write_text

    with errors():
        at = opened(home)
        if study is not None:
            write_text(at.folder / "study.toml", portable_text(study))
        written = write_kits(at)
    for path in written:
        _say(f"kit to send: {path}")
    _say("Each hospital takes its kit with sarco-site approve." if written else "No hospital is enrolled.")


def up(
    home: Annotated[Path, HOME] = Path(),
    foreground: Annotated[bool, typer.Option("--foreground", help="Stay, for systemd and containers.")] = False,
) -> None:
    """Open for the hospitals: SuperLink, SuperExec and gate, kept running; in the background by default."""
    from server.operating import run_up, start_up

    with errors():
        at = opened(home)
        gate = at.config.gate
        if not foreground:
            start_up(at)
            _say(f"up: hospitals connect to {at.config.address}; the gate listens on {gate.host}:{gate.port}")
            words = "plan STUDY.toml --out PLANNED.toml" if at.study.unplanned else "run STUDY.toml"
            _say(f"Next: sarco-coordinator {words} --home {home}; look at it: sarco-coordinator status {home}")
            return
        why = run_up(at, lambda sentence: _say(f"{_clock()} {sentence}"))
        if why:
            raise RunError(why)


def down(home: Annotated[Path, HOME] = Path()) -> None:
    """End everything that up keeps running; a run at work goes on at the next up."""
    from server.operating import take_down

    with errors():
        was_up = take_down(opened(home))
    _say("down" if was_up else "it was not up")


def run(
    study: Annotated[Path, typer.Argument(help="The study, as the hospitals approved it (TOML).")],
    name: Annotated[str, typer.Option(help="Of the run; default: the study's name and a number.")] = "",
    detach: Detach = False,
    home: AtHome = Path(),
) -> None:
    """Run a study with the hospitals that are online, and follow it; Ctrl-C leaves it running."""
    from sarco_models.config import load_study
    from server import submissions
    from server.enrolment import enrolled
    from server.following import counted
    from server.plan_file import require_planned

    with errors():
        at, asked = opened(home), load_study(study)
        require_planned(asked, study)
        require_up(at)
        folder = submissions.prepare(at, asked, name)
        cfg = asked.federation
        _say(f"run {folder.name}: study {asked.digest[:12]}, {cfg.rounds} rounds, at least {counted(cfg.min_sites)}")
        _say(f"hospitals have {at.config.runs.wait_for_sites_s:g} s to come (wait_for_sites_s in coordinator.toml)")
        if (there := len(enrolled(at))) < cfg.min_sites:
            _say(f"only {counted(there)} enrolled: enrol the others while it waits")
        begin(at, folder, detach=detach)


def resume(name: RunName = "", detach: Detach = False, home: AtHome = Path()) -> None:
    """Go on with a run that failed, was stopped or died too often, after its last complete round; or follow it."""
    from server import submissions
    from server.following import so_far

    with errors():
        at = opened(home)
        require_up(at)
        folder = submissions.find(at, name)
        mark, done = submissions.read(folder), so_far(folder)
        if mark is not None and mark.wanted:
            _say(f"run {folder.name} is at work, or goes on by itself{done and f', {done}'}")
            if not detach:
                follow_run(at, folder)
            return
        _say(f"run {folder.name} goes on {done}".rstrip())
        begin(at, folder, detach=detach)


def stop(name: RunName = "", home: AtHome = Path()) -> None:
    """End a run; resume goes on with it."""
    from server import submissions
    from server.control import Control
    from server.following import so_far

    with errors():
        at = opened(home)
        folder = submissions.find(at, name)
        with Control(at) as control:
            was_at_work = submissions.stop(control, folder)
    done = so_far(folder)
    said = f"is stopped {done}" if was_at_work else f"was not at work{done and f'; {done}'}"
    _say(f"run {folder.name} {said}".rstrip())


def status(
    home: Annotated[Path, HOME] = Path(),
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Who is online, what runs, the round and the time left, whom the gate refused and why."""
    from server.overview import look

    with errors():
        found = look(opened(home))
    if as_json:
        typer.echo(json.dumps(found.to_dict(), indent=1))
        return
    _show(found, home)


def logs(
    what: Annotated[str, typer.Argument(help="superlink, superexec, gate, up, or the name of a run.")] = "",
    home: AtHome = Path(),
    lines: Annotated[int, typer.Option(help="How many of the last lines.", min=1)] = 40,
) -> None:
    """What the processes or a run have said last."""
    from server import submissions

    with errors():
        at = opened(home)
        known = sorted(path.stem for path in at.logs.glob("*.log"))
        if what in known:
            text = (at.logs / f"{what}.log").read_text(encoding="utf-8", errors="replace")
        elif not what:
            text = "\n".join(f"{at.logs / name}.log" for name in known) or "nothing has been logged yet"
        else:
            text = _run_log(at, submissions.find(at, what))
    for line in _COLOUR.sub("", text).splitlines()[-lines:]:
        _say(line)


def _run_log(at: Home, folder: Path) -> str:
    """Of the run's processes."""
    from server import submissions
    from server.control import Control

    with Control(at) as control:
        return submissions.run_log(control, folder) or "the run has said nothing yet"


def begin(at: Home, folder: Path, *, detach: bool = False, shown: bool = False) -> None:
    """Hand a run to Flower, and follow it as :func:`follow_run` does."""
    from server import submissions
    from server.control import Control

    with Control(at) as control:
        submissions.submit(at, control, folder)
    if detach:
        _say(f"submitted; look at it: sarco-coordinator status {at.folder}")
        return
    follow_run(at, folder, shown=shown)


def follow_run(at: Home, folder: Path, *, shown: bool = False) -> None:
    """Tell what happens to a run until it ends or Ctrl-C; the exit status is 1 where it fails.

    Args:
        at: the coordinator's home.
        folder: of the run.
        shown: whether the command shows by itself what the run comes to, and goes on with it when given again.
    """
    from server.following import follow

    left = threading.Event()
    before = signal.signal(signal.SIGINT, lambda *_: left.set())
    try:
        complete = follow(at, folder, _say, left)
    finally:
        signal.signal(signal.SIGINT, before)
    if complete is None:
        _say(f"left; the run goes on: sarco-coordinator status {at.folder} shows it, stop ends it")
    elif complete:
        _say(f"complete: {folder}" + ("" if shown else f". Look at it: sarco-coordinator show {folder}"))
    else:
        again = "this command again" if shown else f"sarco-coordinator resume {folder.name} --home {at.folder}"
        _say(f"go on with it when that is mended: {again}")
        raise typer.Exit(1)


def _show(found: Overview, home: Path) -> None:
    _say(f"up, process {found.up}" if found.up else f"not up: sarco-coordinator up {home}")
    for name, process in found.processes.items():
        state = "answers" if process.get("ready") else process["state"]
        often = f", started again {process['restarts']} times: {process['said']}" if process["restarts"] else ""
        _say(f"  {name}: {state} since {process['since']}{often}")
    _say(f"authority: {found.authority}")
    _show_hospitals(found)
    for work in found.runs:
        parts = [work.state, work.words, "" if work.plans else f"{work.rounds} rounds complete"]
        _say(f"run {work.name}: {'; '.join(part for part in parts if part)}")
        for site, told in work.sites.items():
            _say(f"  {site}: {told.get('why') or told['state']}")
    for refusal in found.refusals:
        _say(f"refused at the gate: {refusal}")
    for warning in found.warnings:
        _say(f"warning: {warning}")


def _show_hospitals(found: Overview) -> None:
    if not found.hospitals:
        _say("no hospital is enrolled")
        return
    table = Table(box=None, padding=(0, 2), header_style="bold")
    for heading in ("hospital", "state", "last seen"):
        table.add_column(heading)
    for site in found.hospitals:
        table.add_row(site.name, site.words, site.last_seen)
    console.print(table)


def opened(folder: Path) -> Home:
    """The coordinator's home."""
    from server.home import Home

    return Home.open(folder)


def require_up(at: Home) -> None:
    """Raise ConfigError where nothing listens for hospitals."""
    from sarco_models.processes import supervisor_of

    if not supervisor_of(at.state_file):
        raise ConfigError(f"{at.folder}: is not up: sarco-coordinator up {at.folder}")


@contextlib.contextmanager
def errors() -> Iterator[None]:
    """Errors that a user can mend are told without a traceback; the exit status is 1."""
    try:
        yield
    except SarcoError as error:
        Console(stderr=True).print("error:", error, highlight=False, markup=False, soft_wrap=True)
        raise typer.Exit(1) from None


def _clock() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def _say(sentence: str) -> None:
    console.print(sentence, highlight=False, markup=False, soft_wrap=True)
