"""Changed image files, as images and as masks of values or of colours."""

import contextlib

import pytest
from corpus_images import write_image
from memory import peak_kb

from segkit.data.raster import raster_size, read_raster
from segkit.data.raw_labels import colors_of, values_of
from segkit.errors import UserError


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_changed_images(tmp_path, rounds, count):
    before = peak_kb()
    for case in range(800 * rounds):
        path = write_image(tmp_path, case)
        with contextlib.suppress(UserError):
            raster_size(path)
        with contextlib.suppress(UserError):
            raster = read_raster(path)
            for labels_of in (colors_of, values_of):
                with contextlib.suppress(UserError):
                    labels_of(raster, path)
        path.unlink()
    assert list(tmp_path.iterdir()) == []
    assert peak_kb() - before < 2_000_000  # kB
    count("images", 800 * rounds)
