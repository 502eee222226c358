"""The command line, ``deepq``: train, add, search, evaluate, info, suggest, convert, report.

`app` has the commands together, and says what an error looks like and which code a run ends with.
`building` makes and fills indexes, `asking` searches and measures, `looking` says what is there and
what to take, `reporting` writes a page about an index. `inputs` opens what they are given,
`results` writes what they find. It is the only room that prints.

It imports everything below; nothing imports it. click comes with the extra ``deepq[cli]``. A new
command: a function in one of the four files, one line in `app`, one in docs/command_line.md.
"""

from __future__ import annotations

import sys

__all__ = ["main"]


def main() -> None:
    """Run the command line, and end the process with its exit code."""
    try:
        import click  # noqa: F401
    except ImportError:
        sys.stderr.write("deepq: expected click, got none: pip install 'deepq[cli]'\n")
        raise SystemExit(1) from None
    from deepq.cli.app import run

    raise SystemExit(run())
