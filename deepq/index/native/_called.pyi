from collections.abc import Callable
from typing import Any

from deepq._common.types import Codes

def prepare(
    chain: int,
    find: Callable[[int], Any],
    params_at: Callable[[int], Any],
    params_like: Callable[[bool], Any],
) -> bool: ...
def place(chain: int) -> None: ...
def members(sel: int, first: int, last: int) -> Codes: ...
