"""What any index of ours knows: its settings, its training, encoding and decoding.

It knows no class of faiss's. A strand adds what can be done with the codes, and the join adds the
surface of a faiss class: see `flat`.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np

from deepq import _decode, _scan
from deepq._common.arrays import as_codes, as_output, require_finite
from deepq._common.checks import as_metric, require_float32
from deepq._common.errors import DimensionError, InputError, KindError, StateError
from deepq._common.plain_data import as_parts, digest
from deepq._common.threads import SharedLock, openmp_threads
from deepq._common.types import Codes, Floats
from deepq.encoders.base import Encoder, embed
from deepq.encoders.chain import without_spread
from deepq.encoders.plain import encoder_state
from deepq.index.native import called
from deepq.index.native.chain import NativeChain
from deepq.index.settings import IndexSettings
from deepq.index.tensors import accepts_tensors
from deepq.index.training_data import (
    checked_blocks,
    faiss_settings,
    for_polysemous,
    rows_for,
    training_data,
)
from deepq.quantizers.product import ProductQuantizer
from deepq.quantizers.reranking import Decoded
from deepq.training.settings import TrainConfig
from deepq.training.trainer import HELD_OUT, Outcome, fit

_BLOCK = 1 << 16  # rows in a block
_OWN = {
    *("this", "referenced_objects", "_native", "_encoder", "_quantizer"),
    *("_lock", "_decoded", "_decoded_by"),
}


class LearnedIndex(IndexSettings):
    """An encoder and a quantizer, in a faiss object that holds the codes."""

    kind: str  # by which a state names it: a strand has one
    settings: tuple[str, ...]  # faiss's attributes that a user sets, and no training
    # What the join brings, of a class of faiss's and of `surface`.
    this: Any
    d: int
    ntotal: int
    code_size: int
    is_trained: bool
    metric_type: int
    verbose: bool
    pq: Any
    do_polysemous_training: bool

    _lock: SharedLock
    _decoded: Decoded

    def _assemble(
        self, metric: int, encoder: Encoder, quantizer: ProductQuantizer, training: Any
    ) -> None:
        """Build the index of its parts, which it keeps; the C++ object becomes its handle."""
        if encoder.d_out % quantizer.M:
            raise InputError(
                f"expected M to divide the embedding's {encoder.d_out} numbers, got {quantizer.M}"
            )
        native = self._build(encoder, quantizer, as_metric(metric))
        self.this = native.chain.this
        self._native, self._encoder, self._quantizer = native, encoder, quantizer
        self._lock, self._decoded = SharedLock(), Decoded()
        self.history, self.training = [], training
        called.place(native.chain, self)
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

    def _build(self, encoder: Encoder, quantizer: ProductQuantizer, metric: int) -> NativeChain:
        """Make the faiss object, empty and untrained: a strand says over which class."""
        raise NotImplementedError

    def _begin(self, state: dict[str, Any]) -> None:
        """Take what `_build` needs from a state."""

    def _stored(self, *, empty: bool = False) -> dict[str, Any]:
        """Return what it stores, or nothing, for a state: views; the caller holds the lock."""
        raise NotImplementedError

    def _store(self, state: dict[str, Any]) -> None:
        """Take over what is stored in a state; there is nothing before."""
        raise NotImplementedError

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in _OWN or hasattr(type(self), name)):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        object.__setattr__(self, name, value)

    # ---- what it is made of ------------------------------------------------------------------

    @property
    def encoder(self) -> Encoder:
        """The encoder; read only."""
        self._follow_native()
        return self._encoder

    @property
    def product_quantizer(self) -> ProductQuantizer:
        """The quantizer of codes, its codebooks a view of those in the C++ object; read only."""
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
        return self.product_quantizer.codebooks

    @codebooks.setter
    def codebooks(self, value: Floats) -> None:
        given, dsub = self._quantizer.fresh(), self._native.pq_index.pq.dsub
        given.codebooks = value
        if value is None or given.dsub != dsub:
            raise DimensionError(
                f"expected codewords of {dsub} numbers, got shape {np.shape(value)}"
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
            if encoder.d_out != self._native.pq_index.d:
                self._native.reshape(encoder)
            self._native.write_encoder(encoder)
            self._native.write_codebooks(quantizer.trained())
            self._native.finish_training()
            self._encoder = encoder
            self._quantizer.take(quantizer)
            self._quantizer.share(self._native.codebooks)
            self._decoded_by = None if quantizer.decoder is None else quantizer.trained().copy()
            self._carry()

    def _follow_native(self) -> None:
        """Take over what others have written into the C++ object, or faiss has trained there."""
        if self.is_trained and not (self._encoder.is_fitted and self._quantizer.is_trained):
            called.warn_of_another(self._rerank)
            self._encoder = self._native.read_encoder()
            self._quantizer.share(self._native.codebooks)

    def _forget_foreign_decoder(self) -> None:
        """Drop the decoder if somebody has written other codewords into ``pq.centroids``."""
        quantizer = self._quantizer
        if quantizer.decoder and not _decode.same(quantizer.trained(), self._decoded_by):
            quantizer.decoder = None
            self._carry()

    # ---- training ----------------------------------------------------------------------------

    @accepts_tensors
    def train(self, x: Any, y: Any = None, *, numeric_type: int = 0, xq_train: Any = None) -> None:
        """Learn the encoder, the codebooks and, for re-ranking, a decoder; the index must be empty.

        With a `BinaryQuantizer` only the encoder learns, if it has anything to learn. With labels,
        the workers of an initialized `torch.distributed` share the batches of the network, and must
        all call this with the same: see docs/distributed_training.md.

        Parameters
        ----------
        x : (n, d) array, callable, or torch Dataset or DataLoader
            Finite training vectors, at least ksub, or 1 for binary codes; other real dtypes are
            cast to float32. An array that is mapped from a file is read in parts. A callable must
            return a fresh iterator over the same blocks, (m, d) arrays, whenever it is called; it
            is, several times. A ``torch.utils.data`` Dataset or DataLoader of pairs (x, y), or of x
            alone, is read once, into memory, in its order; bytes stay bytes.
        y : optional
            Labels, to train the network in the encoder by: classes (n,) int or str, tags (n, c) of
            bools or of 0 and 1, `deepq.Pairs` or `deepq.Positives`. `x` must be an array then, or
            give no labels itself. A network is trained on from where it is.
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
        ImportError
            If torch is missing, which learns from labels, and the decoder with `rerank`.
        KeyboardInterrupt
            On Ctrl-C. If codebooks, or a network for an epoch, had been learned by then, the index
            is trained with the best that there was; else it is unchanged.
        """
        require_float32(numeric_type)
        if xq_train is not None:
            self._vectors(xq_train, "xq_train", finite=True)
        x, y = training_data(x, y, self.d, self._encoder.input_shape)
        threads = self._threads()
        with self._lock.changing(), openmp_threads(threads):
            self._require_empty("it is trained")
            quantizer = self._quantizer.fresh()
            quantizer.num_threads = threads
            kept, held = x, None
            if self.do_polysemous_training:
                most = self._native.polysemous_training.ntrain_permutation
                held = for_polysemous(x, quantizer, most, self.d)
                kept = x if y is not None else x[: len(x) - len(held)]
            config = self.training or faiss_settings(self._native.pq_index.pq.cp)
            before = without_spread(self._encoder)
            encoder, decoder = copy.deepcopy(before), self.rerank > 0 and held is None
            outcome = self._fit(encoder, quantizer, kept, config, y=y, decoder=decoder)
            if held is not None:
                z = embed(outcome.encoder, held)
                quantizer.codebooks = self._native.polysemous(quantizer.trained(), z)
            with self._carrying_once():
                self._inject(outcome.encoder, quantizer)
                self.history = [*outcome.history, *self._unseen(outcome)]
        if outcome.interrupted:
            raise KeyboardInterrupt

    def _unseen(self, outcome: Outcome) -> list[dict[str, Any]]:
        """Entry that says what the trained index loses of held-out rows, if that is known."""
        if outcome.unseen is None:
            return []
        try:
            found = self._fingerprint()
        except KindError:  # without one nobody could tell later whose loss that was
            return []
        entry = {"stage": HELD_OUT, "iteration": 0, **outcome.unseen._asdict()}
        return [{**entry, "fingerprint": found}]

    def _fit(
        self, encoder: Encoder, quantizer: ProductQuantizer, x: Any, config: TrainConfig, **how: Any
    ) -> Outcome:
        """Train both in place for this index, which stays as it is: see `fit`."""
        how = {"objective": self.objective, "metric": self.metric_type, **how}
        return fit(encoder, quantizer, x, config, verbose=bool(self.verbose), **how)

    # ---- encoding and decoding ---------------------------------------------------------------

    def _vectors(self, x: Any, name: str = "x", **how: bool) -> Floats:
        """Rows (n, d) of what a user gives: see `rows_for`."""
        return rows_for(self._encoder, x, name, **how)

    def _encode(self, x: Floats, *, progress: bool = False) -> Codes:
        self._require_trained()
        encoder = self.encoder
        quantizer = self.product_quantizer.with_threads(self._threads())
        codes = np.empty((len(x), quantizer.code_size), np.uint8)
        for i, block in checked_blocks(x, progress=progress):
            if not _scan.all_finite(z := embed(encoder, block)):
                require_finite(z, "embeddings", i)
            codes[i : i + len(z)] = quantizer.encode(z)
        return codes

    def _decode(self, codes: Codes, out: Floats) -> Floats:
        self._require_trained()
        self._require_decoding()
        quantizer = self.product_quantizer.with_threads(self._threads())
        for i in range(0, len(codes), _BLOCK):
            z = quantizer.decode(codes[i : i + _BLOCK])
            out[i : i + _BLOCK] = self.encoder.decode(z)
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

    # ---- what codes mean ---------------------------------------------------------------------

    @property
    def fingerprint(self) -> str | None:
        """16 hexadecimal digits that say what the codes mean; None before the training.

        Indexes have the same where encoder, codebooks, decoder, metric and cells are the same, in
        every process, whatever they hold: what is of the same meaning can be merged. Raises
        KindError for an encoder that has no `state`, which is like no other.
        """
        with self._lock.reading():
            return self._fingerprint()

    def _fingerprint(self) -> str | None:
        """`fingerprint`, while the caller holds the lock."""
        if not self.is_trained:
            return None
        encoder_state(self.encoder)
        return digest(self._meaning(self.encoder))

    def _meaning(self, encoder: Encoder | None = None) -> tuple[Any, ...]:
        """Everything that gives codes their meaning; an encoder that is given is that in the chain.

        Files hold its digest and are refused where it is another: what changes it needs another
        member there.
        """
        decoder = self.product_quantizer.decoder
        return (*self._native.meaning(encoder), decoder and as_parts(decoder.state()))

    # ---- checks ------------------------------------------------------------------------------

    def _require_trained(self) -> None:
        if not self.is_trained:
            raise StateError("expected a trained index, got one before train()")

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
