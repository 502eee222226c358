"""All commands together, and what a run ends with.

0 is success, 1 data or a file that are of no use, 2 a command that is not one, 130 Ctrl-C, and 141
a pipe that nobody reads any more, as for a program that the signal ends.
"""

from __future__ import annotations

import logging
import os
import sys

import click

from deepq.cli import asking, building, looking, reporting
from deepq.cli.results import end_quietly

_DATA, _INTERRUPTED = 1, 130


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Completion of commands in a shell: docs/command_line.md.",
)
@click.version_option(package_name="deepq")
def deepq_command() -> None:
    """Learned vector quantization behind the interface of faiss.IndexPQ.

    From vectors in a file to answers:

    \b
      deepq suggest base.parquet --bytes 16
      deepq train base.parquet base.dpq --kind OPQ16,PQ16
      deepq add base.dpq base.parquet
      deepq search base.dpq queries.npy -k 10 > answers.jsonl
      deepq info base.dpq
      deepq report base.dpq base.parquet

    Vectors come in .npy, .npz, .fvecs, .bvecs, .fbin, .u8bin, .i8bin, .hdf5, .safetensors,
    .parquet, .arrow, .feather, folders of these, and folders of Hugging Face's datasets.
    """


for command in (
    *(building.train, building.add, building.merge, building.convert),
    *(asking.search, asking.evaluate, looking.info, looking.suggest, reporting.report),
):
    deepq_command.add_command(command)


def run(arguments: list[str] | None = None) -> int:
    """Run a command, and return its exit code. Errors take one line on stderr."""
    logging.basicConfig(format="deepq: %(message)s")
    try:
        deepq_command.main(arguments, prog_name="deepq", standalone_mode=False)
        sys.stdout.flush()
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (KeyboardInterrupt, click.Abort) as error:
        notes = getattr(error.__cause__ or error, "__notes__", None)
        said = notes[0] if notes else "interrupted: all files are as they were"
        click.echo(f"deepq: {said}", err=True)
        return _INTERRUPTED
    except BrokenPipeError:
        end_quietly()
    except (ValueError, TypeError, RuntimeError, OSError, ImportError, MemoryError) as error:
        if os.environ.get("DEEPQ_TRACEBACK"):
            raise
        click.echo(f"deepq: {error or type(error).__name__}", err=True)
        return _DATA
    return 0
