"""Max pools with indices, as the deployed network computes them."""

import pytest
import torch
import torch.nn.functional as F
from networks import build
from torch import nn

from segkit.export.corner_pool import CornerPool, use_corner_pools
from segkit.export.deployed import DeployedModel
from segkit.normalize import Normalize


@pytest.mark.parametrize("levels", [2, 5, 1000])  # few: many are equal
def test_a_corner_pool_gives_what_torch_gives(levels):
    torch.manual_seed(0)
    x = torch.randint(levels, (3, 4, 10, 26)).float()
    pooled, indices = CornerPool()(x)
    expected, places = F.max_pool2d(x, 2, return_indices=True)
    assert torch.equal(pooled, expected)
    assert torch.equal(indices, places)


def test_the_checkpoint_keeps_its_own_pools():
    model = build("unpool-max")
    network = DeployedModel(model, Normalize((0.5,) * 3, (0.5,) * 3))
    use_corner_pools(network.encoder)
    assert sum(isinstance(m, CornerPool) for m in network.modules()) == 5
    assert not any(isinstance(m, nn.MaxPool2d) for m in network.modules())
    assert sum(isinstance(m, nn.MaxPool2d) for m in model.modules()) == 5
