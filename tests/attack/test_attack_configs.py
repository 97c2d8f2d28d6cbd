"""Changed experiments, as files and by `--set`, through the command that reads them."""

from pathlib import Path

import pytest
from corpus_text import mutate
from memory import peak_kb

from segkit.commands import main

pytestmark = pytest.mark.slow
CONFIGS = Path(__file__).parents[2] / "configs"
NAMES = ("unet_vgg16", "unpool_vgg16", "fcn8s_vgg16")


def test_changed_experiments(tmp_path, monkeypatch, capsys, rounds, count):
    place = tmp_path / "case"
    place.mkdir()
    monkeypatch.chdir(place)
    before = peak_kb()
    for case in range(700 * rounds):
        text = (CONFIGS / f"{NAMES[case % 3]}.yaml").read_text(encoding="utf-8")
        Path("a.yaml").write_bytes(mutate(text, case).encode("utf-8", "surrogatepass"))
        assert main(["config", "a.yaml"]) in (0, 2), case
        assert len(capsys.readouterr().err) < 20_000, case
    assert [path.name for path in tmp_path.rglob("*")] == ["case", "a.yaml"]
    assert peak_kb() - before < 500_000  # kB
    count("configs", 700 * rounds)


def test_changed_overrides(capsys, rounds, count):
    for case in range(300 * rounds):
        key, text = (
            ("model.decoder", "{name: unet, widths: [8, 8], depth: 2, upsample: nearest}"),
            ("data.train_transforms", "[{OneOf: {transforms: [{ToGray: {p: 1}}]}}, NoOp]"),
            ("train", "{epochs: 1, optimizer: {name: sgd, lr: 1}, loss: {name: dice}}"),
        )[case % 3]
        value = mutate(text, case).replace("\n", " ")
        assert main(["config", "unet_vgg16", "--set", f"{key}={value}"]) in (0, 2), case
        assert len(capsys.readouterr().err) < 30_000, case
    count("overrides", 300 * rounds)
