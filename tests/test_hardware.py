"""Device and precision: what is chosen where, and what it does to a model."""

from contextlib import nullcontext

import pytest
import torch
from torch import nn

from segkit.errors import UserError
from segkit.hardware import Hardware, choose_hardware
from segkit.losses import CrossEntropy

WITH_CUDA = torch.cuda.is_available()


def on_cpu(precision):
    return Hardware(torch.device("cpu"), precision, "for the tests")


@pytest.mark.skipif(WITH_CUDA, reason="there is a CUDA device")
def test_cuda_is_refused_where_there_is_none():
    with pytest.raises(UserError, match="no CUDA device here; use --device cpu, or auto"):
        choose_hardware("cuda")


def test_mps_is_refused_where_there_is_none(monkeypatch):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(UserError, match=r"no MPS device here; use .*--device cpu, or auto"):
        choose_hardware("mps")


def test_an_unknown_device_is_refused():
    with pytest.raises(UserError, match="unknown device 'gpu'"):
        choose_hardware("gpu")


def test_mps_is_taken_where_there_is_no_cuda_and_computes_in_fp32(monkeypatch):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_hardware("cpu").device.type == "cpu"
    assert choose_hardware("mps").device.type == "mps"
    hardware = choose_hardware("auto")
    assert (hardware.device.type, hardware.precision) == ("mps", "fp32")
    assert str(hardware).startswith("MPS, fp32 (auto")
    assert str(hardware).endswith("), contiguous_format")
    assert hardware.widest_float == torch.float32
    with pytest.raises(UserError, match="bf16 cannot be had on MPS; use fp32 or auto"):
        choose_hardware("mps", "bf16")
    adapted = choose_hardware("mps", "bf16", adapt=True)
    assert (adapted.precision, adapted.why) == ("fp32", "bf16 cannot be had on MPS")
    with pytest.raises(UserError, match="use --device mps or --device cpu, or auto"):
        choose_hardware("cuda")


@pytest.mark.parametrize("device", ["cpu", "auto"])
def test_fp16_is_refused_on_a_cpu(monkeypatch, device):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match="fp16 cannot be had on CPU; use fp32 or auto"):
        choose_hardware(device, "fp16")
    adapted = choose_hardware(device, "fp16", adapt=True)
    assert (adapted.precision, adapted.why) == ("fp32", "fp16 cannot be had on CPU")


@pytest.mark.parametrize(
    ("capabilities", "precision", "shown"),
    [
        ({"amx_bf16": True, "avx512_bf16": True}, "bf16", "AMX"),
        ({"avx512_bf16": True}, "bf16", "AVX512-BF16"),
        ({"amx_bf16": False, "avx512_bf16": False, "avx2": True}, "fp32", "no bf16"),
        ({"avx512_f": True, "avx512_fp16": True, "amx_tile": True}, "fp32", "no bf16"),
        ({"neon": True, "bf16": True}, "fp32", "bf16 on ARM must be asked for"),
        ({"neon": True, "bf16": False}, "fp32", "no bf16"),
        ({}, "fp32", "no bf16"),
    ],
)
def test_auto_goes_by_what_the_cpu_has(monkeypatch, capabilities, precision, shown):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    hardware = choose_hardware("cpu", "auto")
    assert (hardware.device.type, hardware.precision) == ("cpu", precision)
    assert shown in str(hardware)
    assert precision in str(hardware)


@pytest.mark.parametrize(
    ("capability", "precision"),
    [((9, 0), "bf16"), ((8, 0), "bf16"), ((7, 5), "fp16"), ((6, 1), "fp32")],
)
def test_auto_goes_by_what_the_gpu_has(monkeypatch, capability, precision):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    hardware = choose_hardware("auto", "auto")
    assert (hardware.device.type, hardware.precision) == ("cuda", precision)
    assert f"{capability[0]}.{capability[1]}" in hardware.why


def test_each_process_takes_the_gpu_of_its_number_and_one_too_many_is_told(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    for rank in (0, 1):
        monkeypatch.setenv("LOCAL_RANK", str(rank))
        assert choose_hardware("auto", "fp32").device == torch.device("cuda", rank)
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(UserError, match=r"no GPU for process 2 .* shows 2; .*--nproc_per_node=2"):
        choose_hardware("auto", "fp32")
    assert choose_hardware("cpu", "fp32").device == torch.device("cpu")


def test_a_hidden_gpu_is_not_used(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_hardware("auto", "fp32").device.type == "cpu"


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_what_is_configured_wins(monkeypatch, precision):
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict)
    assert choose_hardware("cpu", precision).precision == precision


@pytest.mark.parametrize(
    ("precision", "dtype"), [("bf16", torch.bfloat16), ("fp32", torch.float32)]
)
def test_autocast_computes_in_the_precision(precision, dtype):
    layer = nn.Conv2d(3, 4, 3)
    with on_cpu(precision).autocast():
        out = layer(torch.randn(1, 3, 5, 5))
    assert out.dtype == dtype
    assert layer.weight.dtype == torch.float32
    CrossEntropy()(out, torch.zeros(1, 3, 3, dtype=torch.long)).sum().backward()
    assert layer.weight.grad.dtype == torch.float32


def test_the_switches_of_cuda_are_set_for_a_pass_alone(monkeypatch):
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())  # none is here

    def switches():
        return matmul.allow_tf32, cudnn.allow_tf32, cudnn.benchmark

    before = switches()
    for precision, tf32 in (("fp32", False), ("bf16", True)):
        hardware = Hardware(torch.device("cuda", 0), precision, "for the tests")
        with hardware.autocast(search=True):
            assert switches() == (tf32, tf32, True)
        assert switches() == before
        with pytest.raises(ZeroDivisionError), hardware.autocast(search=True):
            _ = 1 / 0
        assert switches() == before
        with hardware.autocast():
            assert switches() == (tf32, tf32, before[2])
    with on_cpu("fp32").autocast(search=True):
        assert switches() == before


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_scaler_is_idle_without_fp16(precision):
    scaler = on_cpu(precision).scaler()
    assert not scaler.is_enabled()
    loss = torch.tensor(3.0)
    assert scaler.scale(loss) is loss


def test_place_and_load_go_channels_last():
    hardware = on_cpu("fp32")
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    before = {k: v.clone() for k, v in model.state_dict().items()}
    assert hardware.to_device(model) is model
    assert model[0].weight.is_contiguous(memory_format=torch.channels_last)
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
    pixels = torch.randint(0, 256, (2, 3, 5, 7), dtype=torch.uint8)
    loaded = hardware.load(pixels)
    assert loaded.dtype == torch.uint8
    assert loaded.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(loaded, pixels)


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_a_step_on_cuda(precision):
    hardware = choose_hardware("cuda", precision)
    model = hardware.to_device(nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 2, 1)))
    assert all(p.is_cuda and p.dtype == torch.float32 for p in model.parameters())
    pixels = hardware.load(torch.randint(0, 256, (2, 3, 16, 16), dtype=torch.uint8))
    assert pixels.is_cuda
    assert pixels.is_contiguous(memory_format=torch.channels_last)
    optimizer, scaler = torch.optim.SGD(model.parameters(), lr=0.1), hardware.scaler()
    assert scaler.is_enabled() == (precision == "fp16")
    target = torch.randint(0, 2, (2, 16, 16), device="cuda")
    target[0, :4] = 255
    losses = []
    for _ in range(20):
        with hardware.autocast():
            logits = model(pixels.float() / 255)
        expected = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
        assert logits.dtype == expected[precision]
        criterion = CrossEntropy()
        loss = criterion(logits, target)
        assert loss.dtype == torch.float32
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    assert torch.cuda.get_device_name() in str(hardware)


@pytest.mark.gpu
def test_auto_takes_cuda():
    hardware = choose_hardware()
    assert hardware.device.type == "cuda"
    major, _ = torch.cuda.get_device_capability()
    assert hardware.precision == ("bf16" if major >= 8 else "fp16" if major == 7 else "fp32")
    assert choose_hardware("cpu").device.type == "cpu"
