"""Fetching from a server on this machine: whole, or nothing at all."""

import hashlib
import io
import os
import shutil
import tarfile
import threading
from collections import Counter
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from segkit.data import convert
from segkit.data import fetch as fetching
from segkit.data.card import load_card
from segkit.data.dataset import SegmentationDataset
from segkit.data.fetch import SOURCES, Archive, fetch
from segkit.data.reader import SampleReader
from segkit.errors import UserError

CARDS = Path(__file__).parents[2] / "datasets"
SIZE = (6, 8)  # H, W
VOC = "VOCdevkit/VOC2012"
VOC_SETS = {"train": ["2007_01", "2007_02", "2008_03"], "val": ["2007_04", "2007_05"]}
SBD_SETS = {"train": ["2008_06", "2007_02", "2007_04"], "val": ["2008_07", "2007_05"]}
TRAIN_AUG = ["2007_01", "2007_02", "2008_03", "2008_06", "2008_07"]
PETS = {
    "trainval": [f"{b}_{i}" for b in ("Abyssinian", "pug_dog") for i in range(300, 278, -1)],
    "test": ["Abyssinian_1", "pug_dog_2", "Bombay_3"],
}


def picture(suffix: str) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.full((*SIZE, 3), 90, np.uint8)).save(file, suffix)
    return file.getvalue()


def mask(*values: int, palette: bool = False) -> bytes:
    """A PNG of columns of these values."""
    pixels = np.resize(np.array(values, np.uint8), SIZE)
    image = Image.fromarray(pixels)
    if palette:
        image.putpalette(bytes(range(256)) * 3)
    file = io.BytesIO()
    image.save(file, "png")
    return file.getvalue()


def matlab(value: int) -> bytes:
    """SBD's file: a struct GTcls with Boundaries and Segmentation."""
    file = io.BytesIO()
    labels = np.full(SIZE, value, np.uint8)
    savemat(file, {"GTcls": {"Boundaries": np.zeros((20, 1)), "Segmentation": labels}})
    return file.getvalue()


def lines(names: list[str], more: str = "") -> bytes:
    return "".join(f"{name}{more}\n" for name in names).encode()


def pack(members: dict[str, bytes], mode: str = "w:gz") -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=mode) as tar:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return file.getvalue()


def voc() -> dict[str, bytes]:
    names = sorted({*VOC_SETS["train"], *VOC_SETS["val"]})
    sets = {**VOC_SETS, "trainval": names}
    photographs = sorted({*names, *SBD_SETS["train"], *SBD_SETS["val"]})
    return {
        **{f"{VOC}/JPEGImages/{n}.jpg": picture("jpeg") for n in photographs},
        **{f"{VOC}/SegmentationClass/{n}.png": mask(0, 15, 255, palette=True) for n in names},
        **{f"{VOC}/ImageSets/Segmentation/{s}.txt": lines(n) for s, n in sets.items()},
    }


def sbd() -> dict[str, bytes]:
    folder = "benchmark_RELEASE/dataset"
    names = SBD_SETS["train"] + SBD_SETS["val"]
    return {
        **{f"{folder}/cls/{n}.mat": matlab(7) for n in names},
        **{f"{folder}/img/{n}.jpg": picture("jpeg") for n in names},
        **{f"{folder}/{s}.txt": lines(n) for s, n in SBD_SETS.items()},
    }


def pets() -> tuple[dict[str, bytes], dict[str, bytes]]:
    names = PETS["trainval"] + PETS["test"]
    images = {f"images/{n}.jpg": picture("jpeg") for n in names}
    annotations = {
        **{f"annotations/trimaps/{n}.png": mask(1, 2, 3) for n in names},
        **{f"annotations/trimaps/._{n}.png": b"macOS" for n in names},
        **{f"annotations/{s}.txt": lines(n, " 1 1 1") for s, n in PETS.items()},
    }
    return {**images, "images/Abyssinian_1.mat": b"stray"}, annotations


class Server:
    """Serves `files` and counts the requests; `promise` bytes more than there are."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.promise = 0
        self.requests: Counter[str] = Counter()
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                name = self.path[1:]
                server.requests[name] += 1
                if name not in server.files:
                    self.send_error(404)
                    return
                self.send_response(200)
                self.send_header("Content-Length", str(len(server.files[name]) + server.promise))
                self.end_headers()
                self.wfile.write(server.files[name])

            def log_message(self, *_: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"


@pytest.fixture
def server(monkeypatch):
    """Offer all sets in small; SOURCES name this server instead of the real ones."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    server = Server()
    threading.Thread(target=server.http.serve_forever, args=(0.01,), daemon=True).start()

    def offer(name: str, *contents: bytes) -> None:
        archives = []
        for archive, content in zip(SOURCES[name].archives, contents, strict=True):
            server.files[archive.filename] = content
            url, md5 = f"{server.url}/{archive.filename}", hashlib.md5(content).hexdigest()
            archives.append(Archive(url, md5))
        monkeypatch.setitem(SOURCES, name, SOURCES[name]._replace(archives=tuple(archives)))

    server.offer = offer
    offer("voc2012", pack(voc(), "w"))  # the real one is not compressed either
    offer("sbd", pack(sbd()))
    offer("oxford_pets", *map(pack, pets()))
    yield server
    server.http.shutdown()
    server.http.server_close()


@pytest.fixture
def get(tmp_path) -> Callable[..., list[str]]:
    """Fetch into tmp_path/data; gives what was said."""

    def run(name: str, root: Path = tmp_path / "data") -> list[str]:
        said: list[str] = []
        fetch(name, CARDS, root, said.append)
        return said

    return run


@pytest.fixture
def fails(get, tmp_path) -> Callable[..., str]:
    """Fetch and expect one sentence of an error, and a folder that looks as it did before."""

    def run(name: str, root: Path = tmp_path / "data") -> str:
        before = tree(tmp_path)
        with pytest.raises(UserError) as error:
            get(name, root)
        assert tree(tmp_path) == before
        assert "\n" not in str(error.value)
        return str(error.value)

    return run


def tree(folder: Path) -> dict[str, bytes | None]:
    """Every path below a folder with its content."""
    paths = sorted(folder.rglob("*"))
    return {str(p): p.read_bytes() if p.is_file() else None for p in paths}


def names_of(card: str, split: str, root: Path) -> list[str]:
    """Names of a split after reading all of it through its card."""
    data = SegmentationDataset(SampleReader(load_card(CARDS / f"{card}.yaml", root), split))
    return [sample.name for sample in data]


# ---------------------------------------------------------------- what comes


def test_voc(server, get, tmp_path):
    said = get("voc2012")
    assert set(os.listdir(tmp_path / "data")) == {"VOCdevkit"}
    assert (tmp_path / "data" / VOC / "JPEGImages" / "2007_01.jpg").read_bytes() == picture("jpeg")
    assert "data.card=datasets/voc2012.yaml" in said[-1]
    assert f"data.root={tmp_path / 'data'}" in said[-1]
    for split, names in VOC_SETS.items():
        assert names_of("voc2012", split, tmp_path / "data") == names
    assert len(names_of("voc2012", "trainval", tmp_path / "data")) == 5


def test_sbd_joins_voc(server, get, tmp_path):
    get("voc2012")
    before = tree(tmp_path)
    said = get("sbd")
    assert "data.train_split=train_aug" in said[-1]
    added = {Path(p).relative_to(tmp_path / "data" / VOC) for p in tree(tmp_path).keys() - before}
    assert {str(path) for path in added} == {
        "ImageSets/Segmentation/train_aug.txt",
        "SegmentationClassAug",
        *(f"SegmentationClassAug/{name}.png" for name in TRAIN_AUG),
    }
    assert before.items() <= tree(tmp_path).items()
    written = tmp_path / "data" / VOC / "ImageSets/Segmentation/train_aug.txt"
    assert written.read_bytes() == lines(TRAIN_AUG)
    assert names_of("voc2012", "train_aug", tmp_path / "data") == TRAIN_AUG


def test_vocs_masks_win_and_the_others_have_its_palette(server, get, tmp_path):
    get("voc2012")
    get("sbd")
    masks = tmp_path / "data" / VOC / "SegmentationClassAug"
    own = tmp_path / "data" / VOC / "SegmentationClass" / "2007_02.png"
    assert (masks / "2007_02.png").read_bytes() == own.read_bytes()
    with Image.open(masks / "2008_06.png") as image:
        assert image.mode == "P"
        assert np.unique(np.asarray(image)).tolist() == [7]
        palette = np.array(image.getpalette()).reshape(-1, 3)
    colors = load_card(CARDS / "voc2012.yaml").colors
    assert palette[:21].tolist() == [list(color) for color in colors]
    if len(palette) == 256:  # void, as VOC draws it
        assert palette[255].tolist() == [224, 224, 192]


def test_sbd_wants_voc_first(server, fails, tmp_path):
    message = fails("sbd")
    for part in ("voc2012", str(tmp_path / "data"), "--root"):
        assert part in message
    assert not server.requests


def test_pets(server, get, tmp_path):
    get("oxford_pets")
    root = tmp_path / "data"
    assert not list(root.rglob("._*"))
    assert names_of("oxford_pets", "test", root) == PETS["test"]
    # twenty-two of each breed, counted down from 300: the tenth and the twentieth are 291 and 281
    val = [f"{b}_{i}" for b in ("Abyssinian", "pug_dog") for i in (291, 281)]
    assert names_of("oxford_pets", "val", root) == val
    train = [name for name in PETS["trainval"] if name not in val]
    assert names_of("oxford_pets", "train", root) == train


@pytest.mark.parametrize("name", ["voc2012", "sbd", "oxford_pets"])
def test_a_second_call_does_nothing(server, get, tmp_path, name):
    if name == "sbd":
        get("voc2012")
    get(name)
    before, requests = tree(tmp_path), server.requests.total()
    (said,) = get(name)
    assert "already" in said
    assert str(tmp_path / "data") in said
    assert tree(tmp_path) == before
    assert server.requests.total() == requests


def test_a_file_fetched_by_hand_is_used_and_kept(server, get, tmp_path):
    file = tmp_path / "data" / SOURCES["voc2012"].archives[0].filename
    file.parent.mkdir()
    file.write_bytes(server.files[file.name])
    get("voc2012")
    assert not server.requests
    assert file.is_file()
    assert names_of("voc2012", "val", tmp_path / "data") == VOC_SETS["val"]


def test_what_else_lies_in_the_root_stays(server, get, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "notes.txt").write_text("mine")
    get("voc2012")
    assert (tmp_path / "data" / "notes.txt").read_text() == "mine"


# ---------------------------------------------------------------- what goes wrong


@pytest.mark.parametrize("name", ["voc2012", "sbd", "oxford_pets"])
@pytest.mark.parametrize("root", ["data", "not/yet/there"])
def test_a_missing_file(server, get, fails, tmp_path, name, root):
    root = tmp_path / root
    if name == "sbd":
        get("voc2012", root)
    archive = SOURCES[name].archives[-1]
    del server.files[archive.filename]
    message = fails(name, root)
    for part in ("404", archive.url, str(root), str(root / archive.filename), "by hand"):
        assert part in message
    for part in SOURCES[name].layout:
        assert part in message


def test_a_transfer_cut_short(server, fails):
    server.promise = 1000
    size = len(server.files[SOURCES["voc2012"].archives[0].filename])
    assert f"ended after {size:,} of {size + 1000:,} bytes" in fails("voc2012")


def test_a_wrong_checksum(server, fails):
    archive = SOURCES["oxford_pets"].archives[1]
    server.files[archive.filename] += b"x"
    message = fails("oxford_pets")
    assert archive.url in message
    assert archive.md5 in message


def test_a_file_fetched_by_hand_is_checked(server, fails, tmp_path):
    file = tmp_path / "data" / SOURCES["voc2012"].archives[0].filename
    file.parent.mkdir()
    file.write_bytes(b"half of it")
    message = fails("voc2012")
    assert "is cut short or another file" in message
    assert not server.requests


# a tar file cut exactly between two members reads as a whole one; the checksum is for that
@pytest.mark.parametrize(
    ("name", "share"),
    [("voc2012", 0), ("voc2012", 0.02), *(("oxford_pets", s) for s in (0, 0.02, 0.5, 0.8))],
)
def test_a_damaged_archive_of_the_right_checksum(server, fails, name, share):
    whole = [server.files[archive.filename] for archive in SOURCES[name].archives]
    server.offer(name, *whole[:-1], whole[-1][: int(share * len(whole[-1]))])
    assert "the archive is damaged" in fails(name)


def test_an_archive_of_something_else(server, fails):
    server.offer("voc2012", pack({f"{VOC}/JPEGImages/a.jpg": b""}))
    assert f"holds no {VOC}/SegmentationClass" in fails("voc2012")


@pytest.mark.parametrize("member", ["../evil", f"{VOC}/../../../../evil"])
def test_a_member_that_leaves_the_folder(server, fails, tmp_path, member):
    server.offer("voc2012", pack({**voc(), member: b"evil"}))
    assert "leads out of" in fails("voc2012")


def test_a_link_that_leaves_the_folder(server, fails):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as tar:
        link = tarfile.TarInfo("VOCdevkit")
        link.type, link.linkname = tarfile.SYMTYPE, "/tmp"
        tar.addfile(link)
    server.offer("voc2012", file.getvalue())
    fails("voc2012")


def test_a_mask_of_sbd_that_cannot_be_read(server, get, fails):
    get("voc2012")
    server.offer("sbd", pack({**sbd(), "benchmark_RELEASE/dataset/cls/2008_06.mat": b"no"}))
    assert "2008_06.mat" in fails("sbd")


def test_a_mask_of_sbd_that_is_not_there(server, get, fails):
    get("voc2012")
    server.offer("sbd", pack({k: v for k, v in sbd().items() if not k.endswith("08_07.mat")}))
    assert "2008_07.mat" in fails("sbd")


def test_a_full_disk(server, fails, monkeypatch):
    usage = shutil.disk_usage("/")._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    assert "0.0 are free" in fails("voc2012")


def test_no_server(server, fails):
    server.http.shutdown()
    server.http.server_close()
    assert "refused" in fails("voc2012")


def test_a_root_that_is_a_file(server, fails, tmp_path):
    (tmp_path / "data").touch()
    assert str(tmp_path / "data") in fails("voc2012")


@pytest.mark.parametrize(
    "product", ["SegmentationClassAug", "ImageSets/Segmentation/train_aug.txt"]
)
def test_a_part_that_is_there_is_not_overwritten(server, get, fails, tmp_path, product):
    get("voc2012")
    part = tmp_path / "data" / VOC / product
    part.mkdir()
    requests = server.requests.total()
    message = fails("sbd")
    assert str(part) in message
    assert "move it away" in message
    assert server.requests.total() == requests


# ---------------------------------------------------------------- Ctrl-C


STEPS = {
    "before the download": ("download", False),
    "after the download": ("download", True),
    "before unpacking": ("unpack", False),
    "after unpacking": ("unpack", True),
    "before the lists": ("_write_list", False),
    "after a list": ("_write_list", True),
    "before it moves in": ("_put_in_place", False),
}


@pytest.mark.parametrize(("step", "after"), STEPS.values(), ids=STEPS)
@pytest.mark.parametrize("name", ["sbd", "oxford_pets"])
def test_an_interruption_leaves_nothing(server, get, tmp_path, monkeypatch, name, step, after):
    if name == "sbd":
        get("voc2012")
    place = convert if step == "_write_list" else fetching
    before, real = tree(tmp_path), getattr(place, step)

    def interrupted(*arguments):
        if after:
            real(*arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(place, step, interrupted)
    with pytest.raises(KeyboardInterrupt):
        get(name)
    assert tree(tmp_path) == before


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
@pytest.mark.parametrize("moves", range(5))
def test_moving_in_is_all_or_nothing(server, get, tmp_path, monkeypatch, moves, error):
    before, real, done = tree(tmp_path), os.replace, []

    def replace(source, target):
        if len(done) == moves:
            done.append("failed")
            raise error("stop")
        real(source, target)
        done.append(target)

    monkeypatch.setattr(os, "replace", replace)
    with pytest.raises((KeyboardInterrupt, UserError)):
        get("oxford_pets")
    assert len(done) == 2 * moves + 1  # each move was taken back
    assert tree(tmp_path) == before


# ---------------------------------------------------------------- sets that are not fetched


@pytest.mark.parametrize("name", ["camvid", "cityscapes", "ade20k"])
def test_sets_to_be_got_by_hand(server, get, fails, tmp_path, name):
    card = load_card(CARDS / f"{name}.yaml")
    message = fails(name)
    for part in (name, card.source, str(tmp_path / "data"), card.splits["val"].masks):
        assert part in message
    for split in card.splits.values():
        for folder in (split.images, split.masks):
            (tmp_path / "data" / folder).mkdir(parents=True, exist_ok=True)
    (said,) = get(name)
    assert str(tmp_path / "data") in said


def test_streets_are_drawn(server, get, tmp_path, monkeypatch):
    from segkit import streets

    monkeypatch.setattr(streets, "SPLITS", {"train": 2, "val": 1, "test": 1})
    (said,) = get("streets")
    assert "no fetching" in said
    assert len(list((tmp_path / "data" / "train" / "images").iterdir())) == 2


def test_an_unknown_name(server, fails):
    message = fails("voc2021")
    assert "did you mean 'voc2012'" in message
    for name in ("ade20k", "camvid", "cityscapes", "oxford_pets", "sbd", "streets"):
        assert name in message


def test_without_a_root_it_goes_where_the_card_says(server, tmp_path):
    (tmp_path / "cards").mkdir()
    shutil.copy(CARDS / "voc2012.yaml", tmp_path / "cards")
    said: list[str] = []
    fetch("voc2012", tmp_path / "cards", log=said.append)
    assert (tmp_path / "cards" / "voc2012" / VOC / "JPEGImages").is_dir()
    assert said[-1].endswith("--set data.card=cards/voc2012.yaml")
