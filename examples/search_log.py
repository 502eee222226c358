"""Learn from a search log: what was asked, and which result was taken.

    pip install '.[train]'
    python examples/search_log.py

The log is made here: somebody asks with a gloss of WordNet's, and takes one of the same subject. So
what is right is not what is nearest, and the log says so. Codes have 16 bytes, with and without it.
"""

from __future__ import annotations

import numpy as np

import deepq


def log_of(data: deepq.datasets.Dataset, n: int) -> deepq.Positives:
    """Make n entries: an embedding that was asked with, and the row that was taken."""
    rng = np.random.default_rng(0)
    asked = rng.integers(len(data.train), size=n)
    taken = []
    for row in asked:
        same = np.flatnonzero(data.train_labels == data.train_labels[row])
        taken.append(rng.choice(same))
    return deepq.Positives(data.train[asked], np.array(taken))


def main() -> None:
    """Train with and without the log, and compare."""
    data = deepq.datasets.wordnet_glosses()
    plain = deepq.DeepQuantIndex(data.d, 16)
    plain.train(data.train)

    training = deepq.TrainConfig(epochs=3, batch_size=250)
    learned = deepq.recipes.dqn(data.d, 128, training=training)
    learned.train(data.train, log_of(data, 2 * len(data.train)))

    labels = (data.query_labels, data.base_labels)
    for name, index in (("without", plain), ("with the log", learned)):
        index.add(data.base)
        found = deepq.evaluate(index, data.query, measures=["mAP", "precision@10"], labels=labels)
        print(f"{name}: mAP {found['mAP']:.3f}, precision@10 {found['precision@10']:.3f}")


if __name__ == "__main__":
    main()
