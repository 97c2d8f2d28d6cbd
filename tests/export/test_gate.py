"""No file is left behind that does not agree with the checkpoint."""

import json
import re
import shutil
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from segkit.commands import main
from segkit.data.dataset import Sample
from segkit.export.export import FORMATS, Exporter
from segkit.export.gate import BOUNDS, Bounds, Parity, find_failures, measure_parity
from segkit.inference.backends.pytorch import TorchBackend

GOOD = Parity("", "fp32", 1.0, 1.0, 1.0, 0.5, 0.5, "a", 0.0, 1e-6, 1.0, 3)


def export(run_dir, *options, form="torchscript"):
    out = run_dir.parent / "exported"
    code = main(["export", str(run_dir), "--to", form, "--out", str(out), *options])
    return code, out


def perturb(monkeypatch):
    """Export a network whose weights are not the checkpoint's."""
    original = Exporter._deployed

    def perturbed(self):
        model = original(self)
        with torch.no_grad():
            for parameter in model.decoder.parameters():
                parameter += 0.5 * torch.randn_like(parameter)
        return model

    monkeypatch.setattr(Exporter, "_deployed", perturbed)


def test_a_file_that_agrees_is_left_with_its_scores(run_dir, capsys):
    code, out = export(run_dir)
    assert code == 0
    assert sorted(path.name for path in out.iterdir()) == ["export.json", "model.torchscript"]
    [row] = json.loads((out / "export.json").read_text())
    assert row["file"] == "model.torchscript"
    assert row["images"] == 3
    assert row["equal_pixels"] == 1.0
    assert row["failures"] == []
    assert row["megabytes"] == pytest.approx((out / row["file"]).stat().st_size / 1e6, rel=0.05)
    held = {"segkit.json": ""}
    torch.jit.load(out / "model.torchscript", _extra_files=held)
    gate = json.loads(held["segkit.json"])["export"]["gate"]
    assert gate.items() <= row.items()
    printed = capsys.readouterr().out
    assert "written: " in printed
    assert "refused" not in printed


def test_perturbed_weights_leave_no_file(run_dir, monkeypatch, capsys):
    perturb(monkeypatch)
    code, out = export(run_dir)
    assert code == 1
    assert [path.name for path in out.iterdir()] == ["export.json"]
    printed = capsys.readouterr().out
    assert "refused: " in printed
    assert "a logit differs by" in printed


def test_force_keeps_the_file_and_says_so(run_dir, monkeypatch, capsys):
    perturb(monkeypatch)
    code, out = export(run_dir, "--force")
    assert code == 1
    held = {"segkit.json": ""}
    torch.jit.load(out / "model.torchscript", _extra_files=held)
    gate = json.loads(held["segkit.json"])["export"]["gate"]
    assert any("logit" in failure for failure in gate["failures"])
    assert "in spite of" in capsys.readouterr().out


def test_a_bound_can_be_set(run_dir, capsys):
    code, _ = export(run_dir, "--bound-miou", "-1")
    assert code == 1
    assert "mIoU differs by 0.00 points, more than -1" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"miou": 0.4985}, "mIoU differs by 0.15 points, more than 0.1"),
        ({"miou": float("nan")}, "mIoU differs"),
        ({"class_difference": -0.03}, "the IoU of 'a' differs by 3.00 points, more than 2"),
        ({"logit_difference": 0.01}, "a logit differs by 1.0e-02 of the largest, more than 0.001"),
        ({"logit_difference": float("nan")}, "a logit differs by nan"),
        ({"equal_pixels": 0.999}, "99.900% of the pixels are equal, less than 99.99%"),
    ],
)
def test_each_bound_is_checked(change, words):
    [failure] = find_failures(replace(GOOD, **change), BOUNDS["fp32"])
    assert failure.startswith(words)
    assert find_failures(GOOD, BOUNDS["fp32"]) == ()


def test_fewer_bounds_for_fewer_bits():
    rough = replace(GOOD, miou=0.4955, logit_difference=0.1, equal_pixels=0.98)
    assert find_failures(rough, BOUNDS["int8"]) == ()
    assert len(find_failures(rough, BOUNDS["half"])) == 1
    assert find_failures(rough, Bounds(0.004)) != ()


@pytest.mark.parametrize("form", [pytest.param("torch", marks=pytest.mark.slow), "torchscript"])
def test_the_mask_is_there_whatever_is_asked_for(form, run_dir):
    code, out = export(run_dir, "--output", "probabilities", "logits", form=form)
    assert code == 0
    [row] = json.loads((out / "export.json").read_text())
    file = FORMATS[form].open(out / row["file"])
    assert file.metadata["outputs"] == ["mask", "probabilities", "logits"]
    image = np.zeros((1, 20, 30, 3), np.uint8)
    shares = file.run(image, "probabilities")
    assert np.array_equal(shares.argmax(1), file.run(image, "mask"))
    assert np.array_equal(shares.argmax(1), file.run(image, "logits").argmax(1))


def test_a_logit_that_is_no_number_fails():
    logits = torch.zeros(1, 2, 4, 4)
    logits[:, 1, :, 0] = 1.0
    spoilt = logits.clone()
    spoilt[0, 0, 3, 3] = torch.nan
    sample = Sample(logits[0], logits.argmax(1)[0].byte(), "one")
    candidate = Constant(spoilt)
    candidate.run = lambda images, output: logits.argmax(1).byte().numpy()
    parity = measure_parity(TorchBackend(nn.Identity()), candidate, [sample], ["a", "b"])
    [failure] = find_failures(parity, BOUNDS["fp32"])
    assert failure.startswith("a logit differs by nan")


def test_a_share_of_the_pixels_may_jump():
    logits = torch.zeros(1, 2, 10, 20)
    logits[:, 1, :, :10] = 1.0
    sample = Sample(logits[0], logits.argmax(1)[0].byte(), "one")
    for count, failing in ((2, False), (3, True)):  # of 200
        moved = logits.clone()
        moved[0, 1, 0, :count] = 0.9
        found = [
            find_failures(
                measure_parity(
                    TorchBackend(nn.Identity()),
                    Constant(moved),
                    [sample],
                    ["a", "b"],
                    logit_share=share,
                ),
                BOUNDS["fp32"],
            )
            for share in (1.0, 0.99)
        ]
        assert [bool(failures) for failures in found] == [True, failing]


class Constant:
    """A file that returns given logits."""

    precision = "fp32"
    has_logits = True

    def __init__(self, logits):
        self.values = logits

    def logits(self, pixels):
        return self.values

    def run(self, images, output):
        return self.values.argmax(1).byte().numpy()


def test_parity_is_what_numpy_counts():
    rng = np.random.default_rng(0)
    target = rng.integers(0, 3, (1, 8, 9))
    logits, others = (torch.from_numpy(rng.normal(size=(1, 3, 8, 9))).float() for _ in range(2))
    reference = TorchBackend(nn.Identity())
    sample = Sample(logits[0], torch.from_numpy(target[0]).byte(), "one")
    parity = measure_parity(reference, Constant(others), [sample], ["a", "b", "c"])

    def ious(found):
        pairs = [(found == k, target == k) for k in range(3)]
        return np.array([(a & b).sum() / (a | b).sum() for a, b in pairs])

    torch_ious, file_ious = (ious(each.argmax(1).numpy()) for each in (logits, others))
    assert parity.torch_miou == pytest.approx(torch_ious.mean())
    assert parity.miou == pytest.approx(file_ious.mean())
    worst = np.abs(file_ious - torch_ious).argmax()
    assert parity.worst_class == "abc"[worst]
    assert parity.class_difference == pytest.approx((file_ious - torch_ious)[worst])
    assert parity.logit_difference == pytest.approx(
        float((others - logits).abs().max() / logits.abs().max())
    )
    assert parity.equal_pixels == pytest.approx(
        float((others.argmax(1) == logits.argmax(1)).float().mean())
    )


def test_a_full_disk_leaves_nothing(run_dir, monkeypatch, capsys):
    def full(*arguments, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch.jit, "save", full)
    code, out = export(run_dir)
    assert code == 2
    assert list(out.iterdir()) == []
    assert re.search(r"cannot write into .*: No space left on device", capsys.readouterr().err)


@pytest.mark.parametrize("package", ["onnx", "onnxscript", "onnxruntime"])
def test_a_missing_extra_is_told(package, run_dir, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, package, None)
    code, out = export(run_dir, form="onnx")
    assert code == 2
    words = f"--to onnx needs {package}, which is not installed; pip install 'segkit[onnx]'"
    assert words in capsys.readouterr().err
    assert list(out.iterdir()) == []


def test_data_that_is_gone_is_told(run_dir, tiny_set, capsys):
    shutil.rmtree(tiny_set.root)
    code, _ = export(run_dir)
    assert code == 2
    assert "--data-root" in capsys.readouterr().err
