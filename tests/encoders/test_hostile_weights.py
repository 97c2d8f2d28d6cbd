"""Weight files whose tensors are not plain numbers, for each kind of encoder that reads them."""

import contextlib

import pytest
import torch
from attack.corpus_tensors import save_mutated
from safetensors.torch import save_file

from segkit.errors import UserError
from segkit.model import create_encoder

KINDS = {
    "sparse": lambda x: x.to_sparse(),
    "without numbers": lambda x: x.to("meta"),
    "quantised": lambda x: torch.quantize_per_tensor(x, 0.1, 0, torch.qint8),
    "complex": lambda x: x.to(torch.complex64),
    "spread": lambda x: torch.ones(1).expand(10**12),
}
ENCODERS = {"vgg11": {"width": 0.125}, "resnet18": {}, "timm:resnet10t": {}}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ENCODERS)
def test_what_is_no_plain_tensor_is_told(tmp_path, name, kind):
    weights = create_encoder(name, **ENCODERS[name]).state_dict()
    first = next(iter(weights))
    weights[first] = KINDS[kind](weights[first])
    torch.save(weights, tmp_path / "weights.pth")
    with pytest.raises(UserError, match=r"weights\.pth is no weight file: of '[\w.]+', it"):
        create_encoder(name, **ENCODERS[name], weights=str(tmp_path / "weights.pth"))


@pytest.mark.parametrize("kind", [torch.float8_e4m3fn, torch.complex64])
def test_other_numbers_in_safetensors_are_told(tmp_path, kind):
    weights = create_encoder("vgg11", width=0.125).state_dict()
    save_file({k: v.to(kind) for k, v in weights.items()}, tmp_path / "weights.safetensors")
    with pytest.raises(UserError, match=r"its numbers are torch\.\w+"):
        create_encoder("vgg11", width=0.125, weights=str(tmp_path / "weights.safetensors"))


def test_weights_with_gradients_are_taken(tmp_path):
    encoder = create_encoder("vgg11", width=0.125)
    torch.save(dict(encoder.named_parameters()), tmp_path / "weights.pth")
    loaded = create_encoder("vgg11", width=0.125, weights=str(tmp_path / "weights.pth"))
    for one, other in zip(encoder.parameters(), loaded.parameters(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.filterwarnings("ignore")
def test_changed_weights_load_or_are_told(tmp_path):
    weights = dict(create_encoder("vgg11", width=0.03).state_dict())
    path = tmp_path / "weights.pth"
    for case in range(60):
        with contextlib.suppress(UserError, RuntimeError, ValueError, TypeError):
            save_mutated(weights, case, path)
        with contextlib.suppress(UserError):
            create_encoder("vgg11", width=0.03, weights=str(path))
