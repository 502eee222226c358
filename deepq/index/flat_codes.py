"""Codes at rest: the parts of an index, and what can be done to codes without a search."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import faiss
import numpy as np
from tqdm import tqdm

from deepq._common.checks import (
    as_codes,
    as_count,
    as_ids,
    as_integer,
    as_metric,
    as_output,
    as_size,
    as_vectors,
)
from deepq._common.errors import DimensionError, InputError, KindError, StateError
from deepq._common.plain_data import to_bytes
from deepq._common.safe_files import InFile
from deepq._common.threads import SharedLock
from deepq._common.types import Codes, Floats
from deepq.encoders.base import Encoder, embed
from deepq.index.native.flat import NativeFlat
from deepq.index.surface import Surface
from deepq.index.tensors import accepts_tensors
from deepq.quantizers.product import ProductQuantizer
from deepq.quantizers.reranking import Decoded
from deepq.training.settings import TrainConfig

if TYPE_CHECKING:
    from deepq.objectives.base import Objective

_BLOCK = 1 << 16
_NUMBERS = 1 << 26  # in a block of vectors
_MOST_THREADS = 1 << 10
_OWN = (
    "this",
    "referenced_objects",
    "_native",
    "_encoder",
    "_quantizer",
    "_lock",
    "_codebooks_crc",
    "_decoded",
)


class Store(Surface):
    """An encoder, a quantizer and codes, in a faiss object."""

    # Declared here because setting an undeclared attribute raises, as in faiss.
    history: list[dict[str, Any]] = []  # noqa: RUF012 - replaced, never changed in place
    _training: TrainConfig | None = None
    _rerank: int = 0
    _num_threads: int | None = None
    _objective: Objective | None = None
    _encoder: Encoder
    _quantizer: ProductQuantizer
    _lock: SharedLock
    _decoded: Decoded

    def _assemble(
        self,
        metric: int,
        encoder: Encoder,
        quantizer: ProductQuantizer,
        training: TrainConfig | None,
    ) -> None:
        """Build the index of its parts, which it keeps; the C++ object becomes its handle."""
        if encoder.d_out % quantizer.M:
            raise InputError(
                f"expected M to divide the embedding's {encoder.d_out} numbers, got {quantizer.M}"
            )
        self.training = training
        native = NativeFlat.build(encoder, quantizer.M, quantizer.nbits, as_metric(metric))
        self.this = native.chain.this
        self._native, self._encoder, self._quantizer = native, encoder, quantizer
        self._lock, self._decoded, self.history = SharedLock(), Decoded(), []
        if quantizer.codebooks is not None:
            if quantizer.M * quantizer.dsub != encoder.d_out:
                raise InputError(
                    f"expected codebooks for embeddings of {encoder.d_out} numbers, "
                    f"got {quantizer.M} x {quantizer.dsub}"
                )
            if encoder.is_fitted:
                self._inject(encoder, quantizer)
            elif quantizer.is_frozen:  # whoever fits the encoder, C++ code too, leaves them
                native.write_codebooks(quantizer.codebooks)
                native.pq_index.is_trained = True

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in _OWN or hasattr(type(self), name)):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        object.__setattr__(self, name, value)

    # ---- parts -------------------------------------------------------------------------------

    @property
    def training(self) -> TrainConfig | None:
        """Settings of the next training; None for those of ``pq.cp``."""
        return self._training

    @training.setter
    def training(self, value: TrainConfig | None) -> None:
        if value is not None and not isinstance(value, TrainConfig):
            raise KindError(f"expected a TrainConfig, got {type(value).__name__}")
        self._training = value

    @property
    def objective(self) -> Objective | None:
        """What the network in the encoder minimises when it is trained with labels, if anything."""
        return self._objective

    @objective.setter
    def objective(self, value: Objective | None) -> None:
        if value is not None and not hasattr(value, "quantization_weight"):
            raise KindError(f"expected an Objective, got {type(value).__name__}")
        self._objective = value

    @property
    def rerank(self) -> int:
        """How many of the best vectors of a scan are ranked anew by the decoder; 0 for none.

        Above 0 when `train` is called, a decoder is learned. Without a decoder it has no effect.
        Setting it above 0 raises InputError with a `BinaryQuantizer`, which takes no decoder.
        """
        return self._rerank

    @rerank.setter
    def rerank(self, value: int) -> None:
        count = as_count(value, "rerank")
        if count and self._quantizer.is_frozen:
            name = type(self._quantizer).__name__
            raise InputError(f"expected rerank = 0 with a {name}, got {count}")
        self._rerank = count
        if self.is_trained:
            self._carry(self.quantizer)

    @property
    def num_threads(self) -> int | None:
        """Most threads of a call; None for as many as `faiss.omp_get_max_threads` says then.

        A setting of this object, which files, pickles and copies leave out. NumPy's matrix products
        and torch have settings of their own. Setting it raises InputError below 1.
        """
        return self._num_threads

    @num_threads.setter
    def num_threads(self, value: int | None) -> None:
        self._num_threads = None if value is None else as_size(value, "num_threads")

    def _threads(self, params: Any = None) -> int:
        """How many threads a call may use that was given these parameters."""
        asked = getattr(params, "num_threads", None) or self._num_threads
        return min(asked or int(faiss.omp_get_max_threads()), _MOST_THREADS)

    def _carry(self, quantizer: ProductQuantizer) -> None:
        """Let the C++ object take along what faiss does not know, for `from_faiss`."""
        decoder, value = quantizer.decoder, None
        if decoder is not None:
            crc = self._native.codebooks_crc()
            value = {"decoder": decoder.parts, "rerank": self._rerank, "crc": crc}
        self._native.carry(value)

    @property
    def encoder(self) -> Encoder:
        """The encoder; read only."""
        self._follow_native()
        return self._encoder

    @property
    def quantizer(self) -> ProductQuantizer:
        """The quantizer, its codebooks a view of those in the C++ object; read only."""
        self._follow_native()
        self._forget_foreign_decoder()
        return self._quantizer

    @property
    def codebooks(self) -> Floats | None:
        """Codewords (M, ksub, dsub) float32, None before training: a live view, read-only.

        Setting copies the numbers and completes the training: a `Rotation` not learned yet stays
        the identity. Raises StateError if there are codes, which would lose their meaning,
        DimensionError for another shape and InputError for NaN or infinity, or for other codewords
        than those of a `BinaryQuantizer`.
        """
        return self.quantizer.codebooks

    @codebooks.setter
    def codebooks(self, value: Floats) -> None:
        given = self._quantizer.fresh()
        given.codebooks = value
        if value is None or given.dsub != self.pq.dsub:
            raise DimensionError(
                f"expected codewords of {self.pq.dsub} numbers, got shape {np.shape(value)}"
            )
        with self._lock.changing():
            self._require_empty("codebooks are set")
            encoder = copy.deepcopy(self._encoder)
            encoder.settle()
            if not encoder.is_fitted:
                raise StateError("expected a fitted encoder when codebooks are set, got another")
            self._inject(encoder, given)

    def _inject(self, encoder: Encoder, quantizer: ProductQuantizer) -> None:
        """Make this the trained encoder and quantizer, here and in the C++ object."""
        with self._lock.exclusive():
            self._native.write_encoder(encoder)
            self._native.write_codebooks(quantizer.trained())
            self._carry(quantizer)
            self._native.finish_training()
            self._encoder = encoder
            self._quantizer.take(quantizer)
            self._quantizer.share(self._native.codebooks)
            self._codebooks_crc = self._native.codebooks_crc()

    def _follow_native(self) -> None:
        """Take over what C++ code has trained (a composite around this index)."""
        if self.is_trained and not (self._encoder.is_fitted and self._quantizer.is_trained):
            self._encoder = self._native.read_encoder()
            self._quantizer.share(self._native.codebooks)

    def _forget_foreign_decoder(self) -> None:
        """Drop the decoder if somebody has written other codewords into ``pq.centroids``."""
        if self._quantizer.decoder and self._native.codebooks_crc() != self._codebooks_crc:
            self._quantizer.decoder = None
            self._carry(self._quantizer)

    # ---- encoding and decoding ---------------------------------------------------------------

    def _vectors(
        self, x: Any, name: str = "x", *, finite: bool = False, keep_bytes: bool = False
    ) -> Floats:
        """Rows (n, d) of what a user gives: vectors, or images where the encoder takes these."""
        image = self._encoder.input_shape
        return as_vectors(x, self.d, name, finite=finite, image=image, keep_bytes=keep_bytes)

    def _encode(self, x: Floats, *, progress: bool = False) -> Codes:
        self._require_trained()
        encoder, quantizer = self.encoder, copy.copy(self.quantizer)
        quantizer.num_threads = self._threads()
        codes = np.empty((len(x), quantizer.code_size), np.uint8)
        size = max(1, min(_BLOCK, _NUMBERS // x.shape[1]))
        for i in tqdm(range(0, len(x), size), desc="encode", unit="block", disable=not progress):
            rows = np.asarray(x[i : i + size], np.float32)
            codes[i : i + size] = quantizer.encode(embed(encoder, rows))
        return codes

    def _decode(self, codes: Codes, out: Floats) -> Floats:
        self._require_trained()
        self._require_decoding()
        encoder, quantizer = self.encoder, self.quantizer
        for i in range(0, len(codes), _BLOCK):
            out[i : i + _BLOCK] = encoder.decode(quantizer.decode(codes[i : i + _BLOCK]))
        return out

    @accepts_tensors
    def sa_encode(self, x: Any, codes: Any = None) -> Codes:
        """Encode finite vectors `x` (n, d) into codes (n, code_size) uint8, as `add` does."""
        x = self._vectors(x, finite=True, keep_bytes=True)
        out: Codes = as_output(codes, (len(x), self.code_size), np.uint8, "codes")
        with self._lock.reading():
            out[...] = self._encode(x)
        return out

    @accepts_tensors
    def sa_decode(self, codes: Any, x: Any = None) -> Floats:
        """Decode packed codes (n, code_size) uint8 into vectors (n, d) float32."""
        codes = as_codes(codes, self.code_size)
        return self._decode(codes, as_output(x, (len(codes), self.d), np.float32, "x"))

    @accepts_tensors
    def reconstruct(self, key: int, x: Any = None) -> Floats:
        """Decode stored vector `key` into (d,) float32.

        Raises InputError if there is no such vector.
        """
        out = as_output(x, (self.d,), np.float32, "x")
        self.reconstruct_batch(np.array([as_integer(key, "key")]), out[None])
        return out

    @accepts_tensors
    def reconstruct_batch(self, key: Any, x: Any = None) -> Floats:
        """Decode the stored vectors of ids `key` (n,) into (n, d) float32."""
        with self._lock.reading():
            keys = as_ids(key, self.ntotal, "key")
            out = as_output(x, (len(keys), self.d), np.float32, "x")
            return self._decode(self._native.codes[keys], out)

    @accepts_tensors
    def reconstruct_n(self, n0: int = 0, ni: int = -1, x: Any = None) -> Floats:
        """Decode `ni` stored vectors from `n0` on (-1: all that follow) into (ni, d) float32."""
        n0, ni = as_integer(n0, "n0"), as_integer(ni, "ni")
        ni = self.ntotal - n0 if ni == -1 else ni
        if ni < 0:
            raise InputError(f"expected ni of at least 0, or -1, got {ni} from {n0} on")
        if ni and not 0 <= n0 <= self.ntotal - ni:
            raise InputError(f"expected rows from 0 to {self.ntotal}, got {ni} from {n0} on")
        return self.reconstruct_batch(np.arange(n0, n0 + ni), x)

    # ---- changing what is stored -------------------------------------------------------------

    @contextmanager
    def _rewriting(self, *, resets: bool = False) -> Iterator[None]:
        """Keep everybody else out; raise StateError if the codes must not change otherwise."""
        with self._lock.changing(), self._lock.exclusive():
            if not resets:
                self._require_memory()
            yield

    @accepts_tensors
    def add_sa_codes(self, codes: Any, ids: Any = None) -> None:
        """Append packed codes (n, code_size) uint8; `ids` must be None, as for IndexPQ."""
        if ids is not None:
            raise InputError("expected ids=None: this index numbers its vectors itself, got ids")
        codes = as_codes(codes, self.code_size)
        self._require_trained()
        with self._rewriting():
            self._native.append(codes)

    def _fill(self, codes: Codes | InFile) -> None:
        """Take the codes (n, code_size) of another index over; there are none before."""
        if not isinstance(codes, InFile):
            codes = as_codes(codes, self.code_size)
        if len(codes):
            self._require_trained()
        self._native.fill(codes)

    @accepts_tensors
    def add_with_ids(self, x: Any, ids: Any, numeric_type: int = 0) -> None:  # noqa: ARG002
        """Not supported, as in IndexPQ: raises StateError (RuntimeError)."""
        raise StateError(
            f"expected add(x) on {type(self).__name__}, got ids: IndexIDMap2 around it keeps them"
        )

    def reset(self) -> None:
        """Remove all vectors; the training stays. A mapped file is let go of."""
        with self._rewriting(resets=True):
            self._native.chain.reset()

    @accepts_tensors
    def remove_ids(self, x: Any) -> int:
        """Remove vectors by id and close the gaps: later ids move down.

        Parameters
        ----------
        x : (n,) array of integers, or faiss.IDSelector
            Ids to remove; those that are not stored are passed over.

        Returns
        -------
        int
            How many were removed.
        """
        if not isinstance(x, faiss.IDSelector):
            if not isinstance(x, np.ndarray) or x.dtype.kind not in "iu" or np.ma.isMA(x):
                got = getattr(x, "dtype", type(x).__name__)
                raise KindError(f"expected an array of integer ids or an IDSelector, got {got}")
            if x.ndim != 1:
                raise DimensionError(f"expected ids of shape (n,), got {x.shape}")
            x = np.ascontiguousarray(x, dtype=np.int64)
        with self._rewriting():
            return self._native.remove(x)

    @accepts_tensors
    def permute_entries(self, perm: Any) -> None:
        """Reorder the stored vectors: position i then holds what was at perm[i].

        Raises InputError if `perm` (ntotal,) is not a permutation of 0 .. ntotal - 1.
        """
        with self._rewriting():
            perm = as_ids(perm, self.ntotal, "perm")
            if len(perm) != self.ntotal:
                raise DimensionError(f"expected perm of shape ({self.ntotal},), got {perm.shape}")
            if len(np.unique(perm)) != self.ntotal:
                raise InputError("expected a permutation, got an id twice")
            self._native.permute(perm)

    def check_compatible_for_merge(self, otherIndex: Any) -> None:
        """Raise InputError unless `otherIndex` has the same training and may be merged."""
        self._require_other(otherIndex)
        if not (self.is_trained and otherIndex.is_trained):
            raise InputError("expected two trained indexes to merge, got one that is not")
        if self._fingerprint() != otherIndex._fingerprint():
            raise InputError("expected an index with the same encoder and codebooks, got another")

    def _fingerprint(self) -> tuple[Any, ...]:
        """Everything that gives codes their meaning; equal fingerprints, equal meaning."""
        decoder = self.quantizer.decoder
        return (*self._native.fingerprint(), decoder and to_bytes(decoder.parts))

    def _require_other(self, otherIndex: Any) -> None:
        if not isinstance(otherIndex, faiss.Index):
            raise KindError(f"expected an index to merge, got {type(otherIndex).__name__}")
        if not isinstance(otherIndex, Store):
            raise InputError(
                "expected a DeepQuantIndex to merge (deepq.from_faiss makes one), "
                f"got {type(otherIndex).__name__}"
            )
        if otherIndex is self:
            raise InputError("expected another index to merge, got the same one")

    def merge_from(self, otherIndex: Any, add_id: int = 0) -> None:
        """Append the codes of an index with the same encoder and codebooks, and empty that.

        Raises InputError if the two differ in anything but their codes, or `add_id` is not 0.
        """
        if as_integer(add_id, "add_id") != 0:
            raise InputError(f"expected add_id = 0: ids are positions here, got {add_id}")
        self._require_other(otherIndex)
        first, second = sorted((self, otherIndex), key=id)  # one order for all: no deadlock
        with first._rewriting(resets=True), second._rewriting(resets=True):
            self._require_memory()
            self.check_compatible_for_merge(otherIndex)
            self._native.append(otherIndex._native.codes)
            otherIndex._native.chain.reset()

    # ---- checks ------------------------------------------------------------------------------

    def _require_trained(self) -> None:
        if not self.is_trained:
            raise StateError("expected a trained index, got one before train()")

    def _require_memory(self) -> None:
        if self._native.is_mapped:
            raise StateError(
                "expected an index in memory to change, got one mapped from a file: "
                "copy.copy(index) is in memory, and so is what is added after reset()"
            )

    def _require_decoding(self) -> None:
        if not self._encoder.can_decode:
            raise StateError(
                "expected an encoder that can be undone, to decode vectors, "
                f"got {type(self._encoder).__name__}"
            )

    def _require_empty(self, when: str) -> None:
        if self.ntotal:
            raise StateError(
                f"expected an empty index when {when}, got {self.ntotal} codes, "
                "which would lose their meaning: reset() it first"
            )
