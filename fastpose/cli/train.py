"""``fastpose train``: from a recipe to a saved model."""

from __future__ import annotations

from pathlib import Path

import click

__all__ = ["train"]


@click.command()
@click.argument("recipe")
@click.argument("overrides", metavar="[KEY=VALUE]...", nargs=-1)
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for checkpoints, log and the resolved recipe.  [default: runs/NAME OF THE RECIPE]",
)
@click.option("--resume", is_flag=True, help="Continue the run in that folder.")
def train(recipe: str, overrides: tuple[str, ...], out: Path | None, resume: bool) -> None:
    """Train a model by RECIPE: a zoo name, the name of a packaged recipe, or a YAML file.

    Values of the recipe are changed by KEY=VALUE, e.g. data.root=~/lspet train.epochs=40 data.train.0.repeats=2. A zoo
    entry is trained as it was officially, on the data that data=FILE or keys under data say: FILE is what 'fastpose
    eval --data' takes, or a YAML file of the keys under data; data=body8 is a mixture of data sets below data.root. A
    value is text where its key is text, else YAML.

    Under torchrun all its processes train the network together, train.batch_size crops each.
    """
    # Imported here: the command line's help must not wait for torch.
    from ..train.loop import FirstProcessError, TrainingError
    from ..train.loop import train as run
    from ..train.recipe import load_recipe

    settings = load_recipe(recipe, overrides)
    folder = out or Path("runs") / settings.name
    try:
        outcome = run(settings, folder, resume=resume)
    except FirstProcessError:
        raise click.exceptions.Exit(2) from None  # the first process says why
    except TrainingError as error:
        raise click.ClickException(str(error)) from None
    except OSError as error:
        if error.filename is None or not (folder / "state.pt").exists():
            raise
        reason = f"{error.filename}: {error.strerror}"
        raise click.ClickException(f"{reason}; the state saved before is whole, --resume continues from it") from None
    if not outcome.finished:
        raise click.exceptions.Exit(130)  # what a shell expects of a command that Ctrl-C ended
