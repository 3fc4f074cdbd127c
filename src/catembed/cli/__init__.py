"""The command line: one file per command.

Exit codes: 0; 1 for what is wrong with files, tables or values, told in one line; 2 for a wrong use of the command.
Results go to standard output, errors to standard error. With ``--json``, standard output has the JSON alone.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import typer

from catembed.cli.fit import fit
from catembed.cli.info import info
from catembed.cli.neighbors import neighbors
from catembed.cli.predict import predict
from catembed.cli.vectors import vectors
from catembed.errors import CatembedError

app = typer.Typer(
    help="Categories in, vectors out: learn vectors for the categorical columns of a table.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (fit, predict, vectors, neighbors, info):
    app.command()(command)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command: that of the process, or the one given. Ends with ``SystemExit``."""
    try:
        app(args=None if arguments is None else list(arguments), prog_name="catembed")
    except (CatembedError, OSError) as fact:
        if isinstance(fact, BrokenPipeError):  # the reader, `head` say, has what it wanted
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise SystemExit(1) from None
        print(f"catembed: {' '.join(str(fact).split())}", file=sys.stderr)
        raise SystemExit(1) from None
