"""Ctrl-C at any moment of a command: quiet, exit code 130, and nothing left half-written."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows sends no SIGINT to a process")

START = """
import os, signal, sys, time
from pathlib import Path
signal.signal(signal.SIGINT, signal.default_int_handler)  # shells make background jobs ignore it

def interrupt():
    os.kill(os.getpid(), signal.SIGINT)
"""
DURING_AN_IMPORT = """
class Finder:
    def find_spec(self, name, *_):
        if name == sys.argv[1]:
            try:
                interrupt()
            except BaseException:  # as C code and callbacks do
                pass

sys.meta_path.insert(0, Finder())
from segkit.__main__ import main
sys.exit(main(["config", "--keys"]))
"""
DURING_THE_WORK = """
from segkit.__main__ import main
from segkit.files import replacing
import segkit.commands.config
import segkit.interrupt

segkit.interrupt.PATIENCE_S = 0.3

def save(meanwhile):
    with replacing(Path("file")) as temporary:
        temporary.write_text("half")
        meanwhile()

def in_a_save():
    save(interrupt)

def twice_in_a_save():
    try:
        save(interrupt)
    finally:
        interrupt()

def insisting():
    try:
        save(interrupt)
    finally:
        while True:
            time.sleep(0.1)
            interrupt()

def in_a_destructor():
    class Last:
        def __del__(self):
            interrupt()

    save(Last)

def in_an_import_and_a_save():
    class Finder:
        def find_spec(self, *_):
            try:
                interrupt()
            except BaseException:
                pass

    def load():
        sys.meta_path.insert(0, Finder())
        import antigravity

    save(load)

def at_the_end():
    import atexit
    atexit.register(interrupt)
    return 0

def in_the_background():
    interrupt()
    return 7

segkit.commands.config.run = lambda _: globals()[sys.argv[1]]()
sys.exit(main(["config", "--keys", *sys.argv[2:]]))
"""


def run(code, folder, *words):
    return subprocess.run(
        [sys.executable, "-c", START + code, *words],
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=60,
    )


@pytest.mark.parametrize("module", ["segkit.commands", "pydantic", "segkit.config.explain"])
def test_while_modules_are_imported(module, tmp_path):
    done = run(DURING_AN_IMPORT, tmp_path, module)
    assert (done.returncode, done.stderr, done.stdout) == (130, "interrupted\n", "")


@pytest.mark.parametrize(
    "moment",
    [
        "in_a_save",
        "twice_in_a_save",
        "insisting",
        "in_a_destructor",
        "in_an_import_and_a_save",
    ],
)
def test_during_the_work(moment, tmp_path):
    (tmp_path / "file").write_text("old")
    done = run(DURING_THE_WORK, tmp_path, moment)
    assert (done.returncode, done.stderr) == (130, "interrupted\n")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("file", "old")]


def test_when_all_is_done_it_changes_nothing(tmp_path):
    done = run(DURING_THE_WORK, tmp_path, "at_the_end")
    assert (done.returncode, done.stderr) == (0, "")


def test_the_traceback_can_be_had(tmp_path):
    done = run(DURING_THE_WORK, tmp_path, "in_a_save", "--debug")
    assert done.returncode in (1, 130, -signal.SIGINT)
    assert done.stderr.startswith("Traceback")
    assert done.stderr.endswith("KeyboardInterrupt\n")


def test_a_background_job_goes_on(tmp_path):
    """A shell has it ignore SIGINT."""
    code = "signal.signal(signal.SIGINT, signal.SIG_IGN)\n" + DURING_THE_WORK
    done = run(code, tmp_path, "in_the_background")
    assert (done.returncode, done.stderr) == (7, "")
