"""The network that is learned, and the words that it chooses."""

import numpy as np
import pytest
import torch

from deepq.training import decoding

M, KSUB, DSUB, HIDDEN, INSIDE = 6, 16, 4, 24, 8
D = M * DSUB


def network(seed: int, *, noise: float = 0.3) -> decoding.Network:
    """Make a network as if something had been learned."""
    generator = torch.Generator().manual_seed(seed)
    sites = torch.randn(M, KSUB, DSUB, generator=generator)
    onto = torch.eye(D).reshape(M, DSUB, D)
    made = decoding.Network(sites, onto, HIDDEN, INSIDE, generator)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter += noise * torch.randn(parameter.shape, generator=generator)
    return made


def vectors(seed: int, n: int = 200) -> torch.Tensor:
    """Draw vectors (n, D)."""
    return torch.randn(n, D, generator=torch.Generator().manual_seed(seed))


def decode(made: decoding.Network, words: torch.Tensor) -> torch.Tensor:
    """What words (n, M) stand for, (n, D)."""
    T, U = made.summands()
    hidden = made.start + made.add_up(U, words)
    return (made.offset + made.add_up(T, words) + made.head(hidden)).detach()


def errors(made: decoding.Network, z: torch.Tensor, words: torch.Tensor) -> torch.Tensor:
    """Squared distances (n,) of vectors to what words stand for."""
    return (z - decode(made, words)).square().sum(1)


@pytest.mark.parametrize("tried", [2, 3])
@pytest.mark.parametrize("seed", range(5))
def test_chosen_words_decode_nearer(seed: int, tried: int) -> None:
    made, z = network(seed), vectors(seed)
    T, U = (part.detach() for part in made.summands())
    near = decoding.nearest(z.reshape(-1, M, DSUB).transpose(0, 1), made.sites.detach(), tried)
    words = made.choose(z, near, T, U)
    assert (words[:, :, None] == near).any(2).all()  # only candidates
    before, after = errors(made, z, near[:, :, 0]), errors(made, z, words)
    assert (after <= before * (1 + 1e-5)).all()
    assert after.mean() < 0.9 * before.mean()


def test_the_most_promising_changes_are_best_where_all_units_are_open(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made, z = network(1).double(), vectors(1).double()
    with torch.no_grad():
        made.start += 1e4  # so that all units are open, and the network is a sum
        made.bias += 1e6
    T, U = (part.detach() for part in made.summands())
    near = decoding.nearest(z.reshape(-1, M, DSUB).transpose(0, 1), made.sites.detach(), 3)
    target = decode(made, near[:, :, 0]) + z
    monkeypatch.setattr(decoding, "TRIALS", 1)
    words = made.choose(target, near, T, U)
    best = errors(made, target, near[:, :, 0])
    for m in range(M):
        for other in (1, 2):
            changed = near[:, :, 0].clone()
            changed[:, m] = near[:, m, other]
            best = torch.minimum(best, errors(made, target, changed))
    np.testing.assert_allclose(errors(made, target, words), best, rtol=1e-6)
