"""How encoder and codebooks are learned. `trainer.fit` is the only door.

Without labels `stages` runs and judges codebooks, their order (`ranking`), a decoder (`decoding`,
for the errors that `stretching` lets count) and additive codes (`additive`), on held-out rows, by
which `fitting` sets decoders; `embedded` has both kinds of rows, and `structure` says whether there
is anything to learn. With labels `labelled` trains the network first (`network`, its steps in
`optimizers`, its images in `augment`, judged by `held_out`). `settings` is what a user asks for,
`run` what all stages share, `rows` reads vectors, `schedule` sets rates, `checkpoint` keeps what
was reached, `progress` tells it, `cells` has those that vectors lie in, whose residuals are
learned from then, `unseen` what codes lose of rows held out. Several workers (`peers`) share the
batches of a network (`whole_batch`).

It imports the rooms below it, and torch only where one is needed. A new stage: one method in
`stages`, one file, and one line in docs/learning.md.
"""
