"""Predict an image with an exported model: onnxruntime, NumPy and Pillow, nothing else.

Copy this file into your project:

    python runtime_example.py model.onnx photo.jpg mask.png
"""

import json
import os
import sys

import numpy as np
from PIL import Image

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # read when ONNX Runtime is imported
import onnxruntime


def predict(model: str, image: str, out: str) -> None:
    """Write the classes of an image as their colours."""
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    about = json.loads(session.get_modelmeta().custom_metadata_map["segkit"])
    grey = about["input"]["channels"] == 1
    pixels = np.asarray(Image.open(image).convert("L" if grey else "RGB"))
    batch = pixels.reshape(1, *pixels.shape[:2], -1)  # N H W C, bytes
    [mask] = session.run(["mask"], {"image": batch})[0]  # H W, class indices
    colors = np.array([entry["color"] for entry in about["legend"]], np.uint8)
    Image.fromarray(colors[mask]).save(out)


if __name__ == "__main__":
    predict(*sys.argv[1:4])
