"""What an exported file of three classes says of itself."""

CLASSES = [{"name": f"c{number}", "color": [number, 0, 0]} for number in range(3)]
LABELS = {str(number): f"c{number}" for number in range(3)}
WHOLE = {
    **{"segkit": "0.1", "format": 2, "epoch": 1, "checkpoint": {"name": "a", "sha256": "0"}},
    "config": {"model": {"encoder": {"name": "vgg11"}, "decoder": {"name": "unet"}}},
    "card": {"name": "a", "root": ".", "splits": {}, "classes": CLASSES, "label_map": LABELS},
    **{"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.3, 0.25], "legend": CLASSES},
    **{"stride": 32, "halo": [32, 32], "receptive_field": None, "outputs": ["mask"]},
    "input": {"name": "image", "dtype": "uint8", "range": [0, 255], "channels": 3},
    "export": {
        **{"format": "onnx", "precision": "fp32", "kept": []},
        "gate": {"miou": 0.5, "torch_miou": 0.5, "images": 3, "failures": []},
    },
}
