"""The same index on several machines, with Ray: extra ``deepq[ray]``.

`manifest` says what lies in a folder of shards. `encode` fills one: `sources` has the rows, workers
encode them. `sharded` searches: workers (`pool`) serve a shard each (`served`), their results are
merged (`merging`) to those of one index, bit for bit; `calls` asks them and bears with their
faults, `batching` joins queries that come at the same time, `restriction` sends selectors. `serve`
answers HTTP, `training` learns on several workers. `engine` is what we ask of Ray.

It imports everything below; nothing imports it. What can go without Ray is in files that do not
import it, and is tested without.
"""

from deepq.distributed.calls import ShardError, ShardTimeoutError
from deepq.distributed.encode import encode_dataset
from deepq.distributed.manifest import Manifest, Shard
from deepq.distributed.sharded import Results, ShardedIndex
from deepq.distributed.training import learn_centres, learn_codebooks

__all__ = [
    "Manifest",
    "Results",
    "Shard",
    "ShardError",
    "ShardTimeoutError",
    "ShardedIndex",
    "encode_dataset",
    "learn_centres",
    "learn_codebooks",
]
