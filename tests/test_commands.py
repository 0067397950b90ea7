"""What every command says of itself."""

from collections.abc import Iterator

import click
import pytest
import typer.main

from client.cli import app as site
from server.cli import app as coordinator
from simulation.cli import app as lab

_APPS = {"sarco-site": site, "sarco-coordinator": coordinator, "sarco-lab": lab}


def _commands() -> Iterator[tuple[str, click.Command]]:
    for name, app in _APPS.items():
        group = typer.main.get_command(app)
        assert isinstance(group, click.Group)
        for word, command in group.commands.items():
            yield f"{name} {word}", command


@pytest.mark.parametrize(("name", "command"), [pytest.param(*both, id=both[0]) for both in _commands()])
def test_help_says_what_a_command_does_and_what_it_is_given(name: str, command: click.Command) -> None:
    """Typer 0.20 with click 8.5 loses the words of every argument."""
    assert command.help
    silent = [p.name for p in command.params if not getattr(p, "help", None)]
    assert not silent, f"{name} --help says nothing of {', '.join(map(str, silent))}"
