"""What is varied, and where figures are taken: the axes of the tables and pictures of this room."""

from __future__ import annotations

import numpy as np

# Of every method: precision among the first so many, and at these levels of recall.
TOPS = (1, 10, 100, 500, 1000, 5000)
LEVELS = tuple(np.linspace(0, 1, 21).round(2).tolist())

# Of deep hashing: what is timed, after how many epochs, and what DSH is tried with.
TIMED = ("DSH", "DNNH", "DNNH, one layer", "FTBE")
EPOCHS = (1, 2, 4, 8, 16)
MARGINS = (0.5, 1.0, 2.0, 4.0)  # in bits
PULLS = (0.0, 0.001, 0.01, 0.1)
SHOWN_PULLS = (0.0, 0.01, 0.1)
EDGES = tuple(np.linspace(-3, 3, 61).round(2).tolist())  # of the histogram; what is beyond counts
