"""Videos, frame by frame, by OpenCV."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from segkit.data.images import Pixels
from segkit.errors import UserError
from segkit.features import Size
from segkit.inference.inputs import read_ahead
from segkit.inference.outputs import Unwritable, Writer, beside, replacing
from segkit.inference.predictor import Predictor

USUAL_FPS = 25.0  # where a file does not say
ENOUGH = 0.98  # of the frames a header promises; it may have estimated them


class Video:
    """A video file.

    Args:
        path: of the file.

    Attributes:
        fps: frames a second.
        length: frames, as the header promises; 0 if it does not.

    Raises:
        UserError: not a video.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._capture = cv2.VideoCapture(str(path))
        if not self._capture.isOpened():
            raise UserError(f"{path}: cannot be read as a video; replace the file")
        fps = self._capture.get(cv2.CAP_PROP_FPS)
        self.fps = fps if 0 < fps < 1000 else USUAL_FPS
        self.length = max(0, int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT)))

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        """Read the frames, RGB `(H, W, 3)`, once."""
        try:
            while True:
                there, frame = self._capture.read()
                if not there:
                    return
                yield cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
        finally:
            self._capture.release()


@contextmanager
def writing_video(
    path: Path, fps: float, size: Size
) -> Iterator[Callable[[NDArray[np.uint8]], None]]:
    """Open an MP4 to write RGB frames of one size to; it appears when it is whole.

    Raises:
        Unwritable: no permission, or no encoder.
    """
    with replacing(path) as temporary:
        writer = cv2.VideoWriter(
            str(temporary), cv2.VideoWriter.fourcc(*"mp4v"), fps, (size[1], size[0])
        )
        if not writer.isOpened():
            raise Unwritable(f"cannot write {path}: OpenCV has no encoder for it, or no room")

        def write(frame: NDArray[np.uint8]) -> None:
            writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))

        try:
            yield write
        finally:
            writer.release()


def predict_video(
    video: Video, stem: Path, predictor: Predictor, writer: Writer
) -> Iterator[Pixels]:
    """Predict a video: the masks of its frames in a folder, what else is wanted as a video.

    Args:
        video: to predict.
        stem: of its results, below their folder.
        predictor: to predict with.
        writer: to write with.

    Yields:
        Each frame, when it is done.

    Raises:
        UserError: not a video, cut short, or not what the network takes.
        Unwritable: no room, or no permission.
    """
    painters: dict[str, Callable[..., NDArray[np.uint8]]] = {}
    if writer.wanted.overlay:
        painters[".mp4"] = writer.overlay
    if writer.wanted.color:
        painters["_color.mp4"] = lambda _, mask: writer.color(mask)
    outputs: dict[str, Callable[[NDArray[np.uint8]], None]] = {}
    done = 0
    with ExitStack() as stack:
        for frame in read_ahead(video):
            if not done:
                for ending in painters:
                    path = beside(writer.out, stem, ending)
                    opened = writing_video(path, video.fps, (frame.shape[0], frame.shape[1]))
                    outputs[ending] = stack.enter_context(opened)
            pixels = _pixels(frame, predictor, video.path)
            prediction = predictor(pixels, probabilities=writer.wanted.probabilities)
            writer.write_mask(stem / f"{done:06d}", prediction)
            mask = prediction.mask.cpu().numpy()
            for ending, write in outputs.items():
                write(painters[ending](frame, mask))
            done += 1
            yield pixels
    if done == 0 or done < ENOUGH * video.length:
        raise UserError(
            f"{video.path}: ends after {done} of {video.length} frames, which are done; replace "
            "the file"
        )


def _pixels(frame: NDArray[np.uint8], predictor: Predictor, path: Path) -> Pixels:
    """Give a frame as reading it from an image file would."""
    config, card = predictor.config, predictor.card
    assert config is not None
    assert card is not None
    channels = config.model.in_channels
    if channels not in (1, 3) or card.image_max is not None:
        raise UserError(
            f"{path}: a video has three channels of 8 bits, but the network was trained on "
            f"{channels}{'' if card.image_max is None else f' up to {card.image_max:g}'}"
        )
    if channels == 1:
        return cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)[..., None]
    return frame
