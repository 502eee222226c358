"""Data sets in the formats that the field uses, and a small one that ships with the package.

Rows come from `read_vectors` (`vectors`), mapped or as a `RowSource`: `vector_files`, `arrow_files`
over `arrow_rows`, `hdf5_files`, `safetensors_files`; `named` chooses among their columns.
A `Dataset` (`dataset`) has rows to train on, store and search with: `load`, `wordnet_glosses`.
`exact` finds true neighbours. Labelled images are an `ImageSet` (`image_files`, `image_pickles`),
which `protocols` splits into a `Dataset` as papers do, or an `ImageList` of files and classes
(`image_lists`, `csv_lists`), whose pixels `image_rows` reads. Nothing is downloaded.

A leaf: it imports `_common` alone. A new format: one function in the file of its kind, one line
here, and a test with a small file of that format.
"""

from deepq._common.sources import RowSource
from deepq.datasets.csv_lists import csv_list
from deepq.datasets.dataset import Dataset, load, wordnet_glosses
from deepq.datasets.exact import exact_neighbours
from deepq.datasets.image_files import ImageSet, cifar10, cifar100, imagenet32, svhn
from deepq.datasets.image_lists import ImageList, image_list, mirflickr25k, nus_wide
from deepq.datasets.image_rows import ImageRows, image_folder, read_images
from deepq.datasets.protocols import retrieval_protocol
from deepq.datasets.vectors import read_vectors

__all__ = [
    "Dataset",
    "ImageList",
    "ImageRows",
    "ImageSet",
    "RowSource",
    "cifar10",
    "cifar100",
    "csv_list",
    "exact_neighbours",
    "image_folder",
    "image_list",
    "imagenet32",
    "load",
    "mirflickr25k",
    "nus_wide",
    "read_images",
    "read_vectors",
    "retrieval_protocol",
    "svhn",
    "wordnet_glosses",
]
