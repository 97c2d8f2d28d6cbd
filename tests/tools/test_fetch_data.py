"""segkit fetch-data as a user runs it, against a server on this machine."""

import hashlib
import io
import os
import signal
import subprocess
import sys
import tarfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segkit.commands import main
from segkit.data import fetch
from segkit.data.card import load_card
from segkit.data.dataset import SegmentationDataset
from segkit.data.reader import SampleReader

ROOT = Path(__file__).parents[2]
NAMES = [f"{breed}_{i}" for breed in ("Bengal", "boxer") for i in range(10)]


@pytest.fixture
def fetch_data():
    """Run segkit fetch-data in this process; gives its exit code."""
    return lambda *arguments: main(["fetch-data", *map(str, arguments)])


def pets() -> list[bytes]:
    """The two archives of the pets, in small."""
    files = ({}, {})
    for name in NAMES:
        files[0][f"images/{name}.jpg"] = png(np.full((6, 8, 3), 90, np.uint8))
        files[1][f"annotations/trimaps/{name}.png"] = png(np.full((6, 8), 1 + len(name) % 3, "u1"))
    for split in ("trainval", "test"):
        files[1][f"annotations/{split}.txt"] = "".join(f"{n} 1 1 1\n" for n in NAMES).encode()
    return [pack(contents) for contents in files]


def png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "png")
    return file.getvalue()


def pack(contents: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as tar:
        for name, content in contents.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return file.getvalue()


@pytest.fixture
def server(monkeypatch):
    """Serves the pets; once `stall` is set, half of a file and then nothing until `go`."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            content = server.files.get(self.path)
            if content is None:
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            half = len(content) // 2
            self.wfile.write(content[:half])
            if server.stall:
                server.stalled.set()
                server.go.wait(60)
                return
            self.wfile.write(content[half:])

        def log_message(self, *_):
            pass

    monkeypatch.setenv("no_proxy", "127.0.0.1")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.files, server.stall = {}, False
    server.stalled, server.go = threading.Event(), threading.Event()
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    archives = []
    for path, content in zip(("/images.tar.gz", "/annotations.tar.gz"), pets(), strict=True):
        server.files[path] = content
        url = f"http://127.0.0.1:{server.server_port}{path}"
        archives.append(fetch.Archive(url, hashlib.md5(content).hexdigest()))
    source = fetch.SOURCES["oxford_pets"]._replace(archives=tuple(archives))
    monkeypatch.setitem(fetch.SOURCES, "oxford_pets", source)
    server.archives = archives
    yield server
    server.go.set()
    server.shutdown()
    server.server_close()


def test_fetch_and_read(server, fetch_data, tmp_path, capsys):
    assert fetch_data("oxford_pets", "--root", tmp_path / "pets") == 0
    said = capsys.readouterr().out
    assert f"oxford_pets is at {tmp_path / 'pets'}" in said
    assert "--set data.card=datasets/oxford_pets.yaml" in said
    card = load_card(ROOT / "datasets" / "oxford_pets.yaml", tmp_path / "pets")
    val = SegmentationDataset(SampleReader(card, "val"))
    assert [sample.name for sample in val] == ["Bengal_9", "boxer_9"]
    assert len(SampleReader(card, "train")) == 18

    assert fetch_data("oxford_pets", "--root", tmp_path / "pets") == 0
    assert "already" in capsys.readouterr().out


def test_a_failure_is_one_sentence(server, fetch_data, tmp_path, capsys):
    del server.files["/annotations.tar.gz"]
    assert fetch_data("oxford_pets", "--root", tmp_path / "pets") == 2
    told = capsys.readouterr().err
    assert told.startswith("error: ")
    assert told.count("\n") == 1
    assert "404" in told
    assert server.archives[1].url in told
    assert list(tmp_path.iterdir()) == []


def test_a_set_to_be_got_by_hand(fetch_data, tmp_path, capsys):
    assert fetch_data("cityscapes", "--root", tmp_path) == 2
    told = capsys.readouterr().err
    for part in ("register", "https://www.cityscapes-dataset.com", "leftImg8bit/train"):
        assert part in told


def test_an_unknown_name(fetch_data, capsys):
    assert fetch_data("oxford_pet") == 2
    assert "did you mean 'oxford_pets'" in capsys.readouterr().err


@pytest.mark.skipif(os.name == "nt", reason="signals are sent otherwise on Windows")
def test_ctrl_c_in_the_middle_of_a_download(server, interruptible, tmp_path):
    server.stall = True
    program = f"""
import sys
from segkit.commands import main
from segkit.data import fetch
archives = tuple(fetch.Archive(*each) for each in {[tuple(a) for a in server.archives]!r})
fetch.SOURCES["oxford_pets"] = fetch.SOURCES["oxford_pets"]._replace(archives=archives)
sys.exit(main(["fetch-data", "oxford_pets", "--root", {str(tmp_path / "pets")!r}]))
"""
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=environment,
    )
    assert server.stalled.wait(60)
    assert list((tmp_path / "pets").iterdir())  # the temporary folder
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130
    assert told.strip() == "interrupted"
    assert list(tmp_path.iterdir()) == []
