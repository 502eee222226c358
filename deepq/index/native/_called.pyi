from collections.abc import Callable
from typing import Any

from deepq._common.types import Codes, Ids

KINDS: dict[str, int]

def prepare(
    chain: int,
    find: Callable[[int], Any],
    params_at: Callable[[int], Any],
    params_like: Callable[[int], Any],
    give_back: Callable[[int], bool],
    has_first_parameters: bool,
) -> bool: ...
def place(chain: int) -> None: ...
def members(sel: int, first: int, last: int) -> Codes: ...
def members_of(sel: int, ids: Ids) -> Codes: ...
