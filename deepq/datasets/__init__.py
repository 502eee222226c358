"""Data sets in the formats that the field uses, and a small one that ships with the package.

Vectors come as a `Dataset` (`dataset`): `load`, `wordnet_glosses`; `vector_files` reads the files
of vectors, `exact` finds true neighbours. Labelled images come as an `ImageSet` (`image_files`),
which `retrieval_protocol` (`protocols`) splits into a `Dataset` as papers do. Lists of image files
and their classes come as an `ImageList` (`image_lists`). Nothing is downloaded.

A leaf: it imports `_common` alone. A new format: one function in the file of its kind, one line
here, and a test with a small file of that format.
"""

from deepq.datasets.dataset import Dataset, load, wordnet_glosses
from deepq.datasets.exact import exact_neighbours
from deepq.datasets.image_files import ImageSet, cifar10, cifar100, svhn
from deepq.datasets.image_lists import ImageList, image_list, mirflickr25k, nus_wide
from deepq.datasets.protocols import retrieval_protocol
from deepq.datasets.vector_files import read_vectors

__all__ = [
    "Dataset",
    "ImageList",
    "ImageSet",
    "cifar10",
    "cifar100",
    "exact_neighbours",
    "image_list",
    "load",
    "mirflickr25k",
    "nus_wide",
    "read_vectors",
    "retrieval_protocol",
    "svhn",
    "wordnet_glosses",
]
