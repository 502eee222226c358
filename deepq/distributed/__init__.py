"""The same index on several machines, with Ray: extra ``deepq[ray]``. `training` learns there."""
