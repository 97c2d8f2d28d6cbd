"""A checkpoint whose weights are no longer finite, in the tools that run it."""

import pytest
import torch


@pytest.mark.parametrize("name", ["eval", "predict"])
def test_it_is_named_with_its_first_layer(name, run_dir, tiny_set, tool, tmp_path, capsys):
    path = run_dir / "checkpoints/best.pt"
    content = torch.load(path, weights_only=True)
    weights = content["model"]
    first = next(key for key in weights if key.endswith(".weight") and "decoder" in key)
    weights[first] += float("nan")
    torch.save(content, path)
    more = {"eval": [], "predict": [tiny_set.root / "val/images", "--out", tmp_path / "out"]}
    assert tool(name, run_dir, *more[name], "--device", "cpu") == 2
    error = capsys.readouterr().err
    assert error.startswith("error: the logits of ")
    assert len(error.splitlines()) == 1
    assert str(path) in error
    assert f"layer {first.removesuffix('.weight')} (" in error
