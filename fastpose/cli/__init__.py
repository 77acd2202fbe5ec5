"""The command line: ``fastpose VERB``, one module a verb.

Verbs are imported when they are asked for, and import torch when they run, so that ``fastpose --help`` is quick. Every
expected failure ends as one line on stderr and exit code 2; ``--debug`` or FASTPOSE_DEBUG=1 shows the traceback.
"""

from __future__ import annotations

import difflib
import importlib
import os
import sys
from collections.abc import Sequence
from typing import Any

import click

from .._version import __version__
from .stderr import without_decoder_lines

__all__ = ["main"]

_VERBS = {
    "predict": ("predict", "predict"),
    "train": ("train", "train"),
    "eval": ("eval", "evaluate"),
    "convert": ("convert", "convert"),
    "models": ("models", "models"),
    "info": ("info", "info"),
}

# What other programs call these.
_SYNONYMS = {"test": "eval", "val": "eval", "validate": "eval", "infer": "predict", "demo": "predict", "fit": "train"}
_SYNONYMS |= {"list": "models", "zoo": "models", "version": "info", "env": "info", "export": "convert"}

# click 8.1 prints the help by itself where nothing is asked for.
_NO_ARGUMENTS: Any = getattr(click.exceptions, "NoArgsIsHelpError", ())


class _Verbs(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_VERBS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in _VERBS:
            return None
        module, function = _VERBS[name]
        command = getattr(importlib.import_module(f".{module}", __name__), function)
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click's, but a mistyped verb gets the nearest."""
        name = args[0]
        if name not in _VERBS and not name.startswith("-"):
            near = _SYNONYMS.get(name) or next(iter(difflib.get_close_matches(name.lower(), _VERBS, n=1)), None)
            hint = f"; did you mean {near}?" if near else f"; there are {', '.join(_VERBS)}"
            ctx.fail(f"no verb is named {name!r}{hint}")
        return super().resolve_command(ctx, args)

    def main(  # type: ignore[override]
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        """As click's, but every error is one line, and those of the input exit with 2."""
        if not standalone_mode:
            return super().main(args, prog_name, standalone_mode=False, **extra)
        # OpenCV would put its own lines about a bad photo beside ours.
        os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
        # GNU's OpenMP, which torch brings, lets threads spin for milliseconds where they wait for each other: beside
        # another busy program a network is then twenty times as slow. It reads this when torch is imported.
        if "OMP_WAIT_POLICY" not in os.environ:
            os.environ.setdefault("GOMP_SPINCOUNT", "6000")
        given = list(sys.argv[1:] if args is None else args)
        debug = "--debug" in given or os.environ.get("FASTPOSE_DEBUG", "") not in ("", "0")
        given = [word for word in given if word != "--debug"]  # wherever it stands
        try:
            with without_decoder_lines():
                code = super().main(given, prog_name, standalone_mode=False, **extra)
        except _NO_ARGUMENTS as error:
            error.show()
            sys.exit(2)
        except click.Abort:
            click.echo("Aborted.", err=True)
            sys.exit(130)
        except Exception as error:
            if debug and not isinstance(error, click.ClickException):
                raise
            process = f" (process {os.environ['RANK']})" if os.environ.get("RANK", "0") != "0" else ""
            click.echo(f"Error{process}: {_one_line(error)}", err=True)
            sys.exit(2)
        sys.exit(code if isinstance(code, int) else 0)


def _one_line(error: Exception) -> str:
    if isinstance(error, click.UsageError):
        where = f" (see {error.ctx.command_path} --help)" if error.ctx else ""
        text = error.format_message() + where
    elif isinstance(error, click.ClickException):
        text = error.format_message()
    elif isinstance(error, OSError) and error.strerror:
        text = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    elif isinstance(error, ValueError | TypeError | ImportError) and str(error):
        text = str(error)
    else:
        text = f"{type(error).__name__}: {error} (run fastpose --debug … for the traceback)"
    return "; ".join(line.strip() for line in text.splitlines() if line.strip())


@click.command(cls=_Verbs, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="fastpose")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.  [also: FASTPOSE_DEBUG=1]")
def main(debug: bool) -> None:
    """Top-down 2D human pose estimation: from photos and boxes to keypoints, from data to a trained model."""
