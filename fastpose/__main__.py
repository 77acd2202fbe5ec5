"""``python -m fastpose``: the command line."""

from fastpose.cli import main

main(prog_name="fastpose")
