"""What an exported file says of itself is checked before any of it is used."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from file_metadata import WHOLE

from segkit.errors import UserError
from segkit.inference.backends.exported import GraphModel
from segkit.inference.backends.exported_schema import parse_metadata

FILE = Path("model.onnx")
DAMAGES = {  # by place: what stands there, and the words of the error
    "stride": (0, "stride"),
    "halo": ([-1, 2], "halo"),
    "card": ({**WHOLE["card"], "name": "../x"}, "card.name"),
    "config": ({"model": 3}, "config"),
    "scores": ({"miou": "high"}, "scores"),
    "input": ({**WHOLE["input"], "dtype": "int4"}, "input.dtype"),
    "export": ({"format": "onnx", "precision": "fp7"}, "export.precision"),
    "format": ("two", "format"),
    "mean": ([float("nan")], "mean"),
}


class Graph(GraphModel):
    """A file whose runtime returns, or raises, what a test wants."""

    def __init__(self, result):
        super().__init__(FILE, parse_metadata(json.dumps(WHOLE), FILE))
        self.result = result

    def open(self, output, scaled):
        def run(images):
            if isinstance(self.result, Exception):
                raise self.result
            return self.result

        return run


def test_whole_metadata_is_kept():
    assert parse_metadata(json.dumps(WHOLE), FILE) == WHOLE


def test_a_score_of_a_class_without_pixels_stays_nan():
    text = json.dumps({**WHOLE, "scores": {"miou": 0.5, "iou": [0.5, float("nan")]}})
    assert np.isnan(parse_metadata(text, FILE)["scores"]["iou"][1])


@pytest.mark.parametrize("key", DAMAGES)
def test_a_damaged_value_is_told_by_its_place(key):
    value, words = DAMAGES[key]
    with pytest.raises(UserError, match=f"model.onnx: its metadata is damaged: .*{words}"):
        parse_metadata(json.dumps({**WHOLE, key: value}), FILE)


@pytest.mark.parametrize("key", ["card", "config", "input", "stride", "halo", "export"])
def test_a_missing_key_is_told(key):
    rest = {name: value for name, value in WHOLE.items() if name != key}
    with pytest.raises(UserError, match=f"damaged: .*{key}"):
        parse_metadata(json.dumps(rest), FILE)


@pytest.mark.parametrize("text", ["[", "3", "[" * 100_000, '{"stride": 1' + "0" * 5000 + "}"])
def test_text_that_is_no_mapping_is_told(text):
    with pytest.raises(UserError, match="its metadata is damaged"):
        parse_metadata(text, FILE)


def test_logits_of_another_shape_are_told():
    found = Graph(np.zeros((1, 5, 4, 6), np.float32))
    with pytest.raises(
        UserError, match=r"of shape \(1, 5, 4, 6\) for logits of shape \(1, 3, 4, 6"
    ):
        found.logits(torch.zeros(1, 1, 4, 6, dtype=torch.uint8))


def test_what_a_runtime_raises_is_told():
    found = Graph(IndexError("no such node"))
    with pytest.raises(
        UserError, match=r"cannot be run on images of shape \(1, 4, 6, 1\): no such"
    ):
        found.logits(torch.zeros(1, 1, 4, 6, dtype=torch.uint8))
