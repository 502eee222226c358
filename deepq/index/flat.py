"""``DeepQuantIndex``: the surface of ``faiss.IndexPQ`` over an encoder, a quantizer and codes.

The object's C++ handle is an ``IndexPreTransform(encoder, IndexPQ)`` (`_native`), so faiss's files,
composites and C++ code work on the same codebooks and codes as the methods here. Bottom up:
`_surface` delegates what IndexPQ has besides its array methods, `_store` decodes and edits codes,
`_search` searches them, and this module builds, trains and adds.
"""

from __future__ import annotations

import copy
import operator
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import faiss
import numpy as np

from deepq._common.checks import as_array, as_size, as_vectors, flattened, require_float32
from deepq._common.errors import DimensionError, FormatError, InputError, KindError
from deepq._common.threads import openmp_threads
from deepq._common.types import Floats
from deepq.encoders.base import Encoder, embed
from deepq.encoders.chain import for_cosine
from deepq.encoders.fixed import Identity
from deepq.encoders.plain import as_encoder
from deepq.encoders.rotation import Rotation
from deepq.index.flat_search import Search
from deepq.index.state import make_index, pack, unpack
from deepq.index.tensors import accepts_tensors
from deepq.index.torch_data import is_torch_data, read_torch_data
from deepq.quantizers.binary import kind_of
from deepq.quantizers.product import ProductQuantizer
from deepq.training.settings import TrainConfig
from deepq.training.trainer import fit

if TYPE_CHECKING:
    from deepq.objectives.base import Objective

# The default of pq.cp.niter, which stands for deepq's own default.
_FAISS_ITERATIONS = 25


class DeepQuantIndex(Search):
    """A drop-in for ``faiss.IndexPQ`` that learns an encoder together with its codebooks.

    Parameters
    ----------
    d : int
        Length of the vectors.
    M : int
        Number of sub-quantizers; must divide the length of the encoder's embeddings.
    nbits : int
        Bits per sub-quantizer, 1 to 16; above 8, faiss itself searches. A vector takes
        ceil(M * nbits / 8) bytes.
    metric : int or "cosine"
        ``faiss.METRIC_L2`` (squared Euclidean distance, smaller is better) or
        ``faiss.METRIC_INNER_PRODUCT`` (larger is better). "cosine" is the inner product of vectors
        that the encoder scales to unit length first; of a network's embeddings, if it is one.
    encoder : Encoder or torch.nn.Module, optional
        Map applied to every vector before it is quantized; by default a `Rotation` that is
        learned together with the codebooks (optimized product quantization, Ge et al. 2014), or
        with a `BinaryQuantizer` none, ``Identity(d)``. A module is a trained network of rows
        (n, d): `NetworkEncoder` says more about networks, and takes images. Where the encoder takes
        images, all methods take them as (n, C, H, W) arrays, or in the layout it declares, as well
        as flattened.
    quantizer : ProductQuantizer, optional
        Of M and nbits; one with codebooks makes a trained index, if the encoder is fitted. Training
        replaces them, but not those of a `BinaryQuantizer`, which makes an index of binary codes.
    objective : deepq.objectives.Objective, optional
        What the network in the encoder minimises when it is trained with labels; by default
        ``PairwiseCosine()``. See `recipes`.
    training : TrainConfig, optional
        Settings of `train`. By default the seed in ``pq.cp`` and, where it has been changed, the
        number of iterations there.
    rerank : int
        How many of the best vectors of a scan are ranked anew, by distances to what a neural
        decoder makes of their codes; 0 for none. Above 0 training takes longer, with torch, and so
        does adding; a vector takes as many bytes as without. See `_decoding`.

    Attributes
    ----------
    training : TrainConfig or None
        As given; may be set before `train`.
    history : list of dict
        Entries of the last training: see `deepq.training.trainer.Outcome`.

    Raises
    ------
    InputError
        (ValueError, RuntimeError) If a number is out of range or M does not divide.
    KindError
        (TypeError, AttributeError) If an argument is of the wrong kind.

    Examples
    --------
    >>> import numpy as np, deepq
    >>> x = np.random.default_rng(0).standard_normal((1000, 16)).astype("float32")
    >>> index = deepq.DeepQuantIndex(16, 4, 4)
    >>> index.train(x)
    >>> index.add(x)
    >>> D, I = index.search(x[:5], 3)
    >>> D.shape, I.dtype
    ((5, 3), dtype('int64'))
    """

    def __init__(
        self,
        d: int,
        M: int,
        nbits: int = 8,
        metric: int | str = faiss.METRIC_L2,
        *,
        encoder: Encoder | None = None,
        quantizer: ProductQuantizer | None = None,
        objective: Objective | None = None,
        training: TrainConfig | None = None,
        rerank: int = 0,
    ) -> None:
        d, M, nbits = as_size(d, "d"), as_size(M, "M"), as_size(nbits, "nbits")
        quantizer = ProductQuantizer(M, nbits) if quantizer is None else quantizer
        if not isinstance(quantizer, ProductQuantizer):
            raise KindError(f"expected a ProductQuantizer, got {type(quantizer).__name__}")
        quantizer = copy.copy(quantizer)
        if (quantizer.M, quantizer.nbits) != (M, nbits):
            got = f"M = {quantizer.M}, nbits = {quantizer.nbits}"
            raise InputError(f"expected a quantizer of M = {M}, nbits = {nbits}, got {got}")
        if encoder is None:
            encoder = Identity(d) if quantizer.is_frozen else Rotation(d)
        else:
            encoder = copy.deepcopy(as_encoder(encoder, d))
        if isinstance(metric, str):
            metric, encoder = _cosine(metric, encoder)
        self._assemble(metric, encoder, quantizer, training)
        self.rerank, self.objective = rerank, objective

    @classmethod
    def from_codebooks(
        cls, codebooks: Floats, encoder: Encoder | None = None, metric: int = faiss.METRIC_L2
    ) -> DeepQuantIndex:
        """Make a trained, empty index of given codebooks.

        Parameters
        ----------
        codebooks : (M, ksub, dsub) float32
            ksub a power of two. Those of a `BinaryQuantizer` make an index with one.
        encoder : Encoder, optional
            A fitted one with d_out = M * dsub; by default none, d = M * dsub.
        metric : int
            As in the constructor.

        Raises
        ------
        DimensionError, InputError
            If the shapes do not fit or the numbers are not finite.
        """
        books = as_array(codebooks, "codebooks")
        if books.ndim != 3 or books.shape[1] < 2 or books.shape[1] & (books.shape[1] - 1):
            raise DimensionError(f"expected codebooks (M, 2**nbits, dsub), got shape {books.shape}")
        M, ksub, dsub = books.shape
        encoder = Identity(M * dsub) if encoder is None else encoder
        if not isinstance(encoder, Encoder):
            raise KindError(f"expected an Encoder, got {type(encoder).__name__}")
        nbits = ksub.bit_length() - 1
        quantizer = kind_of(books)(M, nbits)
        index = cls(encoder.d_in, M, nbits, metric, encoder=encoder, quantizer=quantizer)
        index.codebooks = books
        return index

    def __repr__(self) -> str:
        metric = "L2" if self.metric_type == faiss.METRIC_L2 else "inner product"
        return (
            f"{type(self).__name__}(d={self.d}, M={self._quantizer.M}, "
            f"nbits={self._quantizer.nbits}, metric={metric}, "
            f"encoder={type(self._encoder).__name__}, is_trained={self.is_trained}, "
            f"ntotal={self.ntotal})"
        )

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        text, parts, *living = pack(self, operator.index(protocol))
        if type(self) is DeepQuantIndex and not living:
            return restore, (text, parts)
        return restore, (text, parts, *(living or [()]), type(self))

    def __setstate__(self, state: Any) -> None:
        """Refuse: a pickle of ours is whole without, and faiss would read any bytes here."""
        raise FormatError("expected a pickle of an index, got one that changes an index")

    # ---- train and add -----------------------------------------------------------------------

    @accepts_tensors
    def train(self, x: Any, y: Any = None, *, numeric_type: int = 0, xq_train: Any = None) -> None:
        """Learn the encoder, the codebooks and, for re-ranking, a decoder; the index must be empty.

        With a `BinaryQuantizer` only the encoder learns, if it has anything to learn.

        Parameters
        ----------
        x : (n, d) array, callable, or torch Dataset or DataLoader
            Finite training vectors, at least ksub, or 1 for binary codes; other real dtypes are
            cast to float32. An array that is mapped from a file is read in parts. A callable must
            return a fresh iterator over the same blocks, (m, d) arrays, whenever it is called; it
            is, several times. A ``torch.utils.data`` Dataset or DataLoader of pairs (x, y), or of x
            alone, is read once, into memory, in its order; bytes stay bytes.
        y : optional
            Labels, to train the network in the encoder by: classes (n,) int, tags (n, c) bool,
            `deepq.Pairs` or `deepq.Positives`. `x` must be an array then, or give no labels itself.
            A network is trained on from where it is.
        numeric_type : int
            faiss.Float32.
        xq_train : (nq, d) array, optional
            Sample of queries; checked, and ignored as by IndexPQ.

        Raises
        ------
        InputError
            If there are too few rows, NaN or infinity, nothing to learn from labels or no network
            to learn it, another numeric type, or, for binary codes, an encoder that learns
            codebooks, or polysemous training, which would reorder them.
        StateError
            If the index holds codes.
        DimensionError, KindError
            If `x` is not made of (n, d) arrays of real numbers, or `y` is not one of the above.
            The index is unchanged by any failure.
        FormatError, OSError
            If the checkpoint in `training` is damaged, or cannot be read or written. One of another
            training is an InputError.
        KeyboardInterrupt
            On Ctrl-C. If codebooks, or a network for an epoch, had been learned by then, the index
            is trained with the best that there was; else it is unchanged.
        """
        require_float32(numeric_type)
        if xq_train is not None:
            self._vectors(xq_train, "xq_train", finite=True)
        x, y = self._training_data(x, y)
        threads = self._threads()
        with self._lock.changing(), openmp_threads(threads):
            self._require_empty("it is trained")
            quantizer = self._quantizer.fresh()
            quantizer.num_threads = threads
            kept, held = self._for_polysemous(x, labels=y is not None)
            outcome = fit(
                copy.deepcopy(self._encoder),
                quantizer,
                kept,
                self._settings(),
                y=y,
                objective=self.objective,
                metric=self.metric_type,
                decoder=self.rerank > 0 and held is None,
                verbose=bool(self.verbose),
            )
            if held is not None:
                z = embed(outcome.encoder, held)
                quantizer.codebooks = self._native.polysemous(quantizer.trained(), z)
            self._inject(outcome.encoder, quantizer)
            self.history = outcome.history
        if outcome.interrupted:
            raise KeyboardInterrupt

    def _training_data(self, x: Any, y: Any) -> tuple[Any, Any]:
        """Rows (n, d), or a callable that gives blocks of them, and labels, of what is given."""
        if is_torch_data(x):
            kind = type(x).__name__
            x, found = read_torch_data(x)
            if y is not None and found is not None:
                raise InputError(f"expected labels from y or from the {kind}, got both")
            y = found if y is None else y
        if y is not None and callable(x):
            raise KindError("expected an array to train on with labels, got a callable")
        return self._training_rows(x), y

    def _training_rows(self, x: Any) -> Any:
        if isinstance(x, np.memmap):  # which is read, and checked, in parts
            self._vectors(x[:0])
            return flattened(x, self._encoder.input_shape)
        return x if callable(x) else self._vectors(x, finite=True, keep_bytes=True)

    def _settings(self) -> TrainConfig:
        """Return this index's own settings, or those of faiss's clustering parameters."""
        if self.training is not None:
            return self.training
        cp = self.pq.cp
        epochs = None if cp.niter == _FAISS_ITERATIONS else as_size(cp.niter, "pq.cp.niter")
        return TrainConfig(seed=cp.seed, epochs=epochs)

    def _for_polysemous(self, x: Any, *, labels: bool) -> tuple[Any, Floats | None]:
        """Split off the training rows that are kept back to reorder codewords, by faiss's rule.

        With labels they are learned from as well.
        """
        if not self.do_polysemous_training:
            return x, None
        if self._quantizer.is_frozen:
            name = type(self._quantizer).__name__
            raise InputError(
                f"expected no do_polysemous_training with a {name}, whose codewords stay in order"
            )
        if callable(x):
            raise InputError("expected an array to train on for polysemous codes, got a callable")
        count = min(self.polysemous_training.ntrain_permutation, len(x) // 4)
        first = len(x) - count
        return x if labels else x[:first], as_vectors(np.asarray(x[first:]), self.d, finite=True)

    @accepts_tensors
    def add(self, x: Any, numeric_type: int = 0) -> None:
        """Encode the rows of `x` and append their codes; ids follow on from ntotal.

        Parameters
        ----------
        x : (n, d) array
            Finite vectors.
        numeric_type : int
            faiss.Float32.

        Raises
        ------
        StateError
            If the index is not trained, or is mapped from a file.
        InputError
            If there is a NaN or an infinity. Nothing is added by a call that fails.
        DimensionError, KindError
            If `x` is not an (n, d) array of real numbers.
        """
        require_float32(numeric_type)
        x = self._vectors(x, finite=True, keep_bytes=True)
        with self._lock.changing():
            self._require_memory()
            codes = self._encode(x, progress=bool(self.verbose))
            with self._lock.exclusive():
                self._native.append(codes)


def restore(
    text: str, parts: Sequence[Any], living: Sequence[Any] = (), cls: Any = DeepQuantIndex
) -> DeepQuantIndex:
    """Make the index that a pickle holds: the only function that one of ours calls."""
    index: DeepQuantIndex = make_index(unpack(text, parts, living), cls)
    return index


def _cosine(name: str, encoder: Encoder) -> tuple[int, Encoder]:
    """Return the metric and encoder that give the cosine of vectors."""
    if name != "cosine":
        raise InputError(f'expected a metric of faiss, or "cosine", got {name!r}')
    return faiss.METRIC_INNER_PRODUCT, for_cosine(encoder)
