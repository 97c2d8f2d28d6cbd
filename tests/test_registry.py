"""Open registries: names that clash, modules that are imported, and packages that offer parts."""

import os
import subprocess
import sys

import pytest

from segkit import registry
from segkit.errors import UserError


@pytest.fixture(autouse=True)
def _forget(monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield
    registry.unregister("loss", "mine")
    registry._imported.clear()
    sys.modules.pop("parts_of_mine", None)


def test_a_name_is_taken_once_but_its_own_module_may_be_imported_again():
    def first():
        pass

    def second():
        pass

    registry.register("loss", "mine")(first)
    registry.register("loss", "mine")(first)
    with pytest.raises(UserError, match="the loss 'mine' is registered already, by test_registry"):
        registry.register("loss", "mine")(second)
    assert registry.find("loss", "mine") is first


def test_unknown_kinds_and_names_list_the_known_ones():
    with pytest.raises(UserError, match="did you mean 'decoder'"):
        registry.register("decodr", "mine")
    with pytest.raises(UserError, match="unknown loss 'lovasc'; did you mean 'lovasz'"):
        registry.find("loss", "lovasc")


def test_a_file_is_imported_as_the_module_of_its_name(tmp_path):
    file = tmp_path / "parts_of_mine.py"
    file.write_text("import segkit\n\n@segkit.register('loss', 'mine')\ndef mine(): ...\n")
    registry.import_parts([str(file), str(file)])
    assert registry.imported() == (str(file),)
    assert registry.find("loss", "mine").__module__ == "parts_of_mine"


def test_a_file_named_like_another_module_is_refused(tmp_path):
    (tmp_path / "json.py").touch()
    with pytest.raises(UserError, match="Python knows another module 'json'; rename the file"):
        registry.import_parts([str(tmp_path / "json.py")])


def test_an_error_in_the_users_code_is_one_sentence(tmp_path):
    (tmp_path / "broken_parts.py").write_text("1 / 0\n")
    with pytest.raises(UserError, match=r"--import .*broken_parts.py: ZeroDivisionError"):
        registry.import_parts([str(tmp_path / "broken_parts.py")])
    assert registry.imported() == ()


@pytest.mark.parametrize("module", ["offered", "missing"])
def test_installed_packages_offer_parts(module, tmp_path):
    (tmp_path / "offered.py").write_text(
        "import segkit\n\n@segkit.register('loss', 'theirs')\ndef theirs(): ...\n"
    )
    info = tmp_path / "theirs-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[segkit.parts]\nparts = {module}\n")
    code = "from segkit.registry import names; print(*names('loss'))"
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
    )
    if module == "offered":
        assert "theirs" in done.stdout.split()
    else:
        last = done.stderr.splitlines()[-1]
        assert "the installed package of 'missing' offers parts of segkit, but its import" in last
