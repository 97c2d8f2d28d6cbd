"""Changed cards, read and used to check a data set."""

import contextlib

import pytest
from corpus_text import mutate
from memory import peak_kb

from segkit.commands import main
from segkit.data.card import load_card
from segkit.errors import UserError
from segkit.shipped import folder_of

pytestmark = pytest.mark.slow


def test_changed_cards_are_read(tmp_path, rounds, count):
    file = tmp_path / "a.yaml"
    before = peak_kb()
    for case in range(500 * rounds):
        name = ("camvid", "voc2012", "folder_template")[case % 3]
        text = (folder_of("datasets") / f"{name}.yaml").read_text(encoding="utf-8")
        file.write_bytes(mutate(text, case).encode("utf-8", "surrogatepass"))
        with contextlib.suppress(UserError):
            load_card(file)
    assert list(tmp_path.iterdir()) == [file]
    assert peak_kb() - before < 500_000  # kB
    count("cards", 500 * rounds)


@pytest.mark.filterwarnings("ignore")
def test_changed_cards_are_checked(tiny_set, tmp_path, monkeypatch, capsys, rounds, count):
    monkeypatch.chdir(tmp_path)
    text = tiny_set.card.read_text(encoding="utf-8")
    known = set(tmp_path.rglob("*"))
    for case in range(60 * rounds):
        changed = mutate(text, case)
        assert "builtin" not in changed  # a drawn data set would be drawn
        tiny_set.card.write_bytes(changed.encode("utf-8", "surrogatepass"))
        assert main(["check-data", str(tiny_set.card)]) in (0, 1, 2), case
        capsys.readouterr()
    assert set(tmp_path.rglob("*")) == known
    count("cards that are checked", 60 * rounds)
