"""``python -m deepq.cli``: the same as ``deepq``."""

from deepq.cli import main

main()
