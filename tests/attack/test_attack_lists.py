"""Lists of pairs with any content, and names that lead elsewhere."""

import random

import pytest
from hostile import hostile_texts

from segkit.data.card import Split
from segkit.data.pairs import list_split
from segkit.errors import UserError


@pytest.mark.slow
def test_lists_of_any_content(tiny_set, tmp_path, rounds, count):
    texts = [*hostile_texts(300)]
    root, outside = tiny_set.root, tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("a secret\n")
    names = [
        "train_0",
        "train_1.png",
        "train_2",
        "a" * 5000,
        "\n",
        "\r",
        "\x00",
        "../outside/secret",
    ]
    for case in range(400 * rounds):
        rng = random.Random(case)
        lines = [
            rng.choice((rng.choice(names), rng.choice(texts))) for _ in range(rng.randrange(9))
        ]
        content = rng.choice(("\n", "\r\n", "\x85", " ")).join(lines)
        (root / "list.txt").write_bytes(content.encode("utf-8", "surrogatepass"))
        file = rng.choice(("list.txt", "list.txt", "list.txt", "../outside/secret", "train"))
        told = ""
        try:
            split = Split(images="train/images", masks="train/masks", list=file)
            for pair in list_split(root, split).pairs:
                assert pair.image.resolve().is_relative_to(root.resolve()), case
                assert pair.mask.resolve().is_relative_to(root.resolve()), case
        except UserError as error:
            told = str(error)
        assert "a secret" not in told, case
        assert len(told) < 5000, case
    count("lists", 400 * rounds)
