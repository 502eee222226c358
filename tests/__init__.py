"""What deepq must do, room by room: `tests/ROOM/test_FILE.py` is for `deepq/ROOM/FILE.py`.

`house` has what holds for all rooms, `index/contract` what is asked of every index. What several
files of a room share is in the room's `builders.py` or `conftest.py`.
"""
