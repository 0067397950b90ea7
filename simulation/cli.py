"""sarco-lab: synthetic hospitals, comparisons and their reports on one machine."""

import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.text import Text

from sarco_models.errors import ConfigError, SarcoError

if TYPE_CHECKING:
    from simulation.experiments import Experiment

app = typer.Typer(
    name="sarco-lab",
    help="Simulate a federation of hospitals on one machine. All people and images it makes are SYNTHETIC.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
console = Console()
PROJECT = Path(__file__).resolve().parent.parent
EXPERIMENTS = PROJECT / "configs" / "experiments"
THREE_CENTERS = EXPERIMENTS / "three_centers.toml"
PROTOCOLS = (
    "paper",
    "complete_cases",
    "architectures",
    "intensity",
    "federated",
    "leave_one_site_out",
    "modalities",
    "data_size",
    "site_shift",
)


class Scale(StrEnum):
    """Sizes of the synthetic hospitals."""

    tiny = "tiny"
    small = "small"
    full = "full"


class Preset(StrEnum):
    """Ways of reading the paper's Table 1."""

    paper_matched = "paper_matched"
    table1_faithful = "table1_faithful"
    as_printed = "as_printed"


class Peroneus(StrEnum):
    """Signs of the correlation between the peroneus and the time to rise five times."""

    physiological = "physiological"
    as_printed = "as_printed"


class EngineName(StrEnum):
    """What carries the messages."""

    inprocess = "inprocess"
    flower = "flower"


@contextmanager
def edge() -> Iterator[None]:
    """Errors that a user can mend are told without a traceback; the exit status is 1."""
    try:
        yield
    except SarcoError as error:
        lines = str(error).splitlines()
        shown = lines[:20] + ([f"... and {len(lines) - 20} more"] if len(lines) > 20 else [])
        text = Text.assemble(("error ", "bold red"), "\n".join(shown))
        Console(stderr=True).print(text, soft_wrap=True)
        raise typer.Exit(1) from None


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for everything that is made.")] = Path("demo"),
    scale: Annotated[Scale, typer.Option(help="Size of the hospitals.")] = Scale.small,
    seed: Annotated[int, typer.Option(help="Another seed is another set of people.")] = 1,
) -> None:
    """Make three hospitals, train together, apart and pooled, and write the report."""
    run(THREE_CENTERS, out=out, engine=EngineName.inprocess, scale=scale, seed=[seed])


@app.command("make-cohort")
def make_cohort_command(
    folder: Annotated[Path, typer.Argument(help="Gets one folder for each hospital and one for the coordinator.")],
    scale: Annotated[Scale, typer.Option(help="tiny: for tests; small: a quarter; full: 584 people.")] = Scale.small,
    seed: Annotated[int, typer.Option(help="Same seed, same bytes.")] = 1,
    preset: Annotated[Preset, typer.Option(help="How the paper's Table 1 is read.")] = Preset.paper_matched,
    central: Annotated[int | None, typer.Option(help="People in the central test cohort; 300, at tiny 24.")] = None,
    device_shift: Annotated[float, typer.Option(help="How far the machines lie apart; 1 as assumed, 0 not.")] = 1.0,
    prevalence_shift: Annotated[float, typer.Option(help="How far prevalences lie apart; 1 is the paper's.")] = 1.0,
) -> None:
    """Write three synthetic hospitals in the formats that hospitals have, and a central test cohort."""
    from simulation.progress import shown
    from simulation.status import Status
    from simulation.synthetic import make_cohort

    with edge(), shown(console) as watch:
        made = make_cohort(
            folder,
            scale=scale.value,
            seed=seed,
            preset=preset.value,
            central_participants=central,
            device_shift=device_shift,
            prevalence_shift=prevalence_shift,
            progress=lambda done, total: watch(Status("making hospitals", done, total)),
        )
    for name, place in made.items():
        console.print(f"{name:12} {place}", highlight=False)


@app.command("muscles")
def muscles_command(
    folder: Annotated[Path, typer.Argument(help="Gets one folder for each hospital and one for the coordinator.")],
    scale: Annotated[Scale, typer.Option(help="tiny: 18 people, for tests; small: 47; full: 94.")] = Scale.small,
    seed: Annotated[int, typer.Option(help="Same seed, same bytes.")] = 1,
    sites: Annotated[int, typer.Option(help="Hospitals; from the fourth on they scan as the first three do.")] = 3,
    central: Annotated[
        int | None, typer.Option(help="People tested centrally, all muscles drawn; tiny: 6; small: 24; full: 48.")
    ] = None,
    device_shift: Annotated[float, typer.Option(help="How far the machines lie apart; 1 as assumed, 0 not.")] = 1.0,
    peroneus: Annotated[Peroneus, typer.Option(help="as_printed: larger in those who rise more slowly.")] = (
        Peroneus.physiological
    ),
    annotates: Annotated[
        list[str] | None,
        typer.Option(help="Muscles that a hospital draws: hospital_a=biceps_brachii,rectus_femoris; may be repeated."),
    ] = None,
) -> None:
    """Write synthetic hospitals that draw muscles, each its own, with body composition and chair rise."""
    from sarco_models.config import load_study
    from simulation.muscle_cohort import drawn_by, make_muscle_cohort
    from simulation.muscle_contact import write_muscle_sheet
    from simulation.progress import shown
    from simulation.status import Status

    sheet = folder / "contact.png"
    with edge(), shown(console) as watch:
        made = make_muscle_cohort(
            folder,
            scale=scale.value,
            seed=seed,
            sites=sites,
            central_participants=central,
            device_shift=device_shift,
            peroneus=peroneus.value,
            annotates=drawn_by(annotates or []),
            progress=lambda done, total: watch(Status("making hospitals", done, total)),
        )
        segmentation = load_study(PROJECT / "configs" / "muscles.toml").segmentation  # its names and labels
        if segmentation is not None:
            write_muscle_sheet(folder, segmentation.model_copy(update={"classes": "muscles"}), sheet)
    for name, place in made.items():
        console.print(f"{name:12} {place}", highlight=False)
    console.print(f"{'pictures':12} {sheet}", highlight=False)


@app.command("plan")
def plan_command(
    study: Annotated[Path, typer.Argument(help='A study of muscles with network = "nnunet" and no plan.')],
    sites: Annotated[Path, typer.Option(help="Folder of the hospitals, as `sarco-lab muscles` makes it.")],
    out: Annotated[Path, typer.Option(help="Gets study.toml, the study with its plan, and run/plan.json.")],
) -> None:
    """Let hospitals agree on nnU-Net's network by sums over their images, and write the study with its plan."""
    from server.plan_cli import say_next, show
    from simulation.planning import STUDY, plan_study

    with edge():
        planned = plan_study(study, sites, out)
    show(planned)
    say_next(planned, out / STUDY, "read the table above and run the written study, as any other")


@app.command()
def pretrain(
    out: Annotated[Path, typer.Option(help="The safetensors file to write.")],
    backbone: Annotated[str, typer.Option(help="A ConvNeXt, EfficientNet or Swin, as in a study.")] = "convnext_atto",
    phantoms: Annotated[int | None, typer.Option(help="Rendered in all.", min=1000)] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes at the smallest size of image.", min=1)] = None,
) -> None:
    """Train a backbone on rendered phantoms, as the shipped weights were."""
    from simulation.pretrain import Pretraining
    from simulation.pretrain import pretrain as train_backbone

    changes = {"backbone": backbone, "phantoms": phantoms, "epochs": epochs}
    with edge():
        cfg = Pretraining(**{k: v for k, v in changes.items() if v is not None})  # type: ignore[arg-type]
        r2 = train_backbone(cfg, out, workers=2, tell=_say())
    for target, value in r2.items():
        console.print(f"R2 on held-out phantoms, {target:16} {value:5.2f}", highlight=False)
    console.print(f"weights: {out}", highlight=False)


@app.command()
def run(
    experiment: Annotated[
        Path, typer.Argument(help="An experiment file, such as configs/experiments/three_centers.toml.")
    ],
    out: Annotated[Path, typer.Option(help="Folder for everything that is made; the same command completes it.")],
    engine: Annotated[EngineName, typer.Option(help="flower: Flower's own simulation engine.")] = EngineName.inprocess,
    scale: Annotated[Scale | None, typer.Option(help="Instead of the experiment's scale.")] = None,
    seed: Annotated[list[int] | None, typer.Option(help="Instead of the experiment's seeds; may be repeated.")] = None,
    workers: Annotated[int | None, typer.Option(help="Processes side by side; one for each core.", min=1)] = None,
) -> None:
    """Run an experiment, or go on with one that was interrupted, and write its report."""
    from simulation.experiments import Experiment, with_scale

    with edge():
        loaded = Experiment.load(experiment, out, engine.value, with_scale(scale.value if scale else None, seed or []))
        page = _run(loaded, workers)
    from server.results import read_results
    from simulation.summary import planned_words, summary

    results = read_results(out)
    console.print(summary(results))
    for line in planned_words(results):
        console.print(line, highlight=False, soft_wrap=True)
    console.print(f"report: {page.resolve()}", highlight=False, soft_wrap=True)


def _run(experiment: "Experiment", workers: int | None) -> Path:
    """Run to the report; of the paper's study, to the paper's tables as well."""
    from server.paper import write_paper
    from server.report import write_report
    from simulation.progress import shown
    from simulation.runner import run_experiment

    with shown(console) as watch:
        run_experiment(experiment, watch, command=shlex.join(["sarco-lab", *sys.argv[1:]]), workers=workers)
    if experiment.config.name in ("paper", "complete_cases"):
        write_paper({experiment.config.name: experiment.out}, experiment.out / "paper")
    return write_report(experiment.out)


@app.command()
def reproduce(
    out: Annotated[Path, typer.Option(help="Gets one folder for each protocol; the same command completes it.")],
    scale: Annotated[Scale, typer.Option(help="Size of the hospitals; full is the paper's.")] = Scale.small,
    seed: Annotated[list[int] | None, typer.Option(help="Seeds; may be repeated. 1 where absent.")] = None,
    only: Annotated[list[str] | None, typer.Option(help=f"Of {', '.join(PROTOCOLS)}; may be repeated.")] = None,
    workers: Annotated[int | None, typer.Option(help="Processes side by side; one for each core.", min=1)] = None,
) -> None:
    """Run the paper's whole study on synthetic hospitals and write its tables and figures beside the paper's."""
    from server.paper import write_paper
    from simulation.experiments import Experiment, with_scale

    with edge():
        wanted = only or list(PROTOCOLS)
        unknown = sorted(set(wanted) - set(PROTOCOLS))
        if unknown:
            raise ConfigError(f"--only {unknown[0]}: no such protocol; known are {', '.join(PROTOCOLS)}")
        changes = with_scale(scale.value, seed or [1])
        for name in wanted:
            console.print(f"\n[bold]{name}[/bold]")
            file = EXPERIMENTS / f"{name}.toml"
            page = _run(Experiment.load(file, out / name, changes=changes, shared=out), workers)
            console.print(f"report: {page.resolve()}", highlight=False, soft_wrap=True)
        paper = write_paper({name: out / name for name in wanted}, out / "paper-tables")
    console.print(f"the paper's tables and figures: {paper.resolve()}", highlight=False, soft_wrap=True)


@app.command()
def compare(
    first: Annotated[Path, typer.Argument(help="A folder with results.json.")],
    second: Annotated[Path, typer.Argument(help="Another one.")],
    out: Annotated[Path | None, typer.Option(help="Folder for compare.html and compare.csv.")] = None,
) -> None:
    """Compare two runs: their settings, and the same arms on the same people."""
    from server.compare import compare_runs, terminal

    with edge():
        found = compare_runs(first, second, out)
    console.print(terminal(found))


@app.command("attack")
def attack_command(
    folder: Annotated[Path, typer.Argument(help="A run directory, or the folder of an experiment.")],
    out: Annotated[Path, typer.Option(help="Folder for attack.json, attack.csv and attack.png.")],
    shadows: Annotated[int, typer.Option(help="Shadow models of each attack; even.", min=4)] = 32,
    seed: Annotated[int, typer.Option(help="Of the halves that models are trained on.")] = 1,
) -> None:
    """Attack a study's models: can they tell who was trained on? Beside it, what its epsilon allows at most."""
    from simulation.attacks import attack
    from simulation.progress import shown
    from simulation.status import Status

    with edge(), shown(console) as watch:
        table = attack(
            folder, out, shadows=shadows, seed=seed, watch=lambda name, k, n: watch(Status(f"models of {name}", k, n))
        )
    console.print(table)
    console.print(f"written: {out.resolve()}", highlight=False, soft_wrap=True)


@app.command()
def report(
    folder: Annotated[Path, typer.Argument(help="With results.json; or a federation's run that finds muscles.")],
) -> None:
    """Draw the figures and the report again from the results."""
    from server.report import write_report

    with edge():
        page = write_report(folder)
    console.print(f"report: {page.resolve()}", highlight=False, soft_wrap=True)


@app.command()
def prepare(
    experiment: Annotated[Path, typer.Argument(help="An experiment file.")],
    out: Annotated[Path, typer.Option(help="As for run.")],
    scale: Annotated[Scale | None, typer.Option(help="Instead of the experiment's scale.")] = None,
) -> None:
    """Make the hospitals and the run directory of the federated arm, for `flwr run` to be started by hand."""
    from simulation.experiments import Experiment, with_scale
    from simulation.progress import shown
    from simulation.runner import prepare_federated

    with edge():
        loaded = Experiment.load(experiment, out, "flower", with_scale(scale.value if scale else None, []))
        with shown(console) as watch:
            folder = prepare_federated(loaded, watch)
    console.print(f"run directory: {folder.resolve()}", highlight=False, soft_wrap=True)
    nodes = len(list((folder / "sites").iterdir()))
    federation = f"--federation-config 'num-supernodes={nodes} client-resources-num-cpus=1 init-args-num-cpus=2'"
    start = f"flwr run {PROJECT} --run-config 'run-dir=\"{folder.resolve()}\"' {federation}"
    console.print(f"start it:      {start}", highlight=False, soft_wrap=True)


def _say() -> Callable[[str], None]:
    return lambda text: console.print(text, highlight=False)


if __name__ == "__main__":
    app()
