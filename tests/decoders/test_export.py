"""Every decoder as a graph: traced, exported or compiled at one size, and run at others."""

import io
import warnings

import networks
import pytest
import torch
from networks import build
from torch import nn
from torch.export import Dim

from segkit.inference.backends.onnxruntime import import_onnxruntime

# with a bed of nails, torch.export needs the settings of segkit.export
# and with PAN, which halves the coarsest map three times, at images of up to 128 pixels
VARIANTS = [n for n in networks.VARIANTS if not n.endswith("nails") and n != "pan"]
FIRST, *OTHERS = VARIANTS
ALL = [FIRST, *(pytest.param(variant, marks=pytest.mark.slow) for variant in OTHERS)]

MULTIPLE, ODD = (2, 3, 64, 96), (2, 3, 97, 75)  # of the stride, and not
SHAPES = [ODD, MULTIPLE, (1, 3, 33, 40), (3, 3, 127, 34)]
# more than the largest stride: at a map of one pixel, torch.export takes a size for a constant
FREE = {0: Dim("n"), 2: Dim("h", min=33), 3: Dim("w", min=33)}


@torch.no_grad()
def check(graph, model: nn.Module, tolerance: float = 0.0) -> None:
    """Compare a graph with the model that it was made of, at several sizes."""
    for shape in SHAPES:
        image = torch.randn(shape)
        expected = model(image)
        assert expected.shape[-2:] == shape[-2:]
        torch.testing.assert_close(graph(image), expected, rtol=tolerance, atol=tolerance)


def traced(model: nn.Module, shape: tuple[int, ...]) -> torch.jit.ScriptModule:
    with warnings.catch_warnings():  # of sizes that are compared
        warnings.simplefilter("ignore")
        return torch.jit.trace(model, torch.randn(shape))


# of every decoder, tests/export traces the network as it is deployed
@pytest.mark.parametrize("shape", [MULTIPLE, ODD], ids=["multiple", "odd"])
@pytest.mark.parametrize("variant", [FIRST, pytest.param("unpool-max", marks=pytest.mark.slow)])
def test_a_trace_runs_at_other_sizes(variant, shape):
    model = build(variant).requires_grad_(False)
    check(traced(model, shape), model)


def test_bilinear_doubling_is_traced_in_grad_mode_and_saved():
    model, file = build("unet-bilinear"), io.BytesIO()
    torch.jit.save(traced(model, (1, 3, 32, 32)), file)
    file.seek(0)
    check(torch.jit.load(file), model)


@pytest.mark.parametrize("variant", ALL)
def test_torch_export_with_free_sizes(variant):
    model = build(variant)
    graph = torch.export.export(model, (torch.randn(MULTIPLE),), dynamic_shapes=(FREE,)).module()
    check(graph, model)


@pytest.mark.slow
def test_torch_export_of_an_odd_example_with_free_sizes():
    model = build("unet-bilinear")
    graph = torch.export.export(model, (torch.randn(ODD),), dynamic_shapes=(FREE,)).module()
    check(graph, model)


# the others go through segkit.export, see tests/export
@pytest.mark.slow
def test_onnx_runtime_gives_the_same_logits_at_other_sizes():
    pytest.importorskip("onnxruntime")
    onnxruntime = import_onnxruntime()
    pytest.importorskip("onnxscript")
    model, file = build("unpool-max"), io.BytesIO()
    torch.onnx.export(
        model, (torch.randn(MULTIPLE),), dynamo=True, dynamic_shapes=(FREE,), verbose=False
    ).save(file)
    session = onnxruntime.InferenceSession(file.getvalue())
    name = session.get_inputs()[0].name
    check(
        lambda image: torch.from_numpy(session.run(None, {name: image.numpy()})[0]),
        model,
        tolerance=1e-3,
    )


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["unpool-max", "pan"])
def test_a_graph_compiled_for_any_size_gives_the_same_logits(variant):
    torch._dynamo.reset()
    model = build(variant)
    check(torch.compile(model, dynamic=True, backend="aot_eager", fullgraph=True), model, 1e-4)
