"""A backbone before a head."""

from __future__ import annotations

from torch import Tensor, nn

from deepq._common.errors import KindError


class Embedding(nn.Module):
    """z = head(backbone(x)).

    Parameters
    ----------
    backbone, head : torch.nn.Module
    """

    def __init__(self, backbone: nn.Module, head: nn.Module) -> None:
        super().__init__()
        for part in (backbone, head):
            if not isinstance(part, nn.Module):
                raise KindError(f"expected a torch.nn.Module, got {type(part).__name__}")
        self.backbone, self.head = backbone, head

    @property
    def rates(self) -> dict[str, float]:
        """Factors of the learning rate, by the beginning of a parameter's name."""
        parts = {"backbone": self.backbone, "head": self.head}
        return {
            f"{part}.{name}": factor
            for part, module in parts.items()
            for name, factor in getattr(module, "rates", {}).items()
        }

    def prepare(self, x: Tensor) -> None:
        """Prepare the backbone, if it takes that."""
        prepare = getattr(self.backbone, "prepare", None)
        if prepare is not None:
            prepare(x)

    def forward(self, x: Tensor) -> Tensor:
        """Embeddings (n, d_out)."""
        z: Tensor = self.head(self.backbone(x))
        return z
