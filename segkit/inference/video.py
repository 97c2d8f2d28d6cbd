"""Read, predict and write videos frame by frame, with OpenCV."""

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
from segkit.files import require_file
from segkit.inference.inputs import read_ahead
from segkit.inference.outputs import Unwritable, Writer, output_path, writing
from segkit.inference.predictor import Predictor
from segkit.inference.preprocess import Preprocess

USUAL_FPS = 25.0  # of a file that does not say
ENOUGH = 0.98  # of the frames a header promises; it may have estimated them


class Video:
    """A video file; its `length` is the number of frames that the header promises, or 0."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            require_file(path)
        except OSError as error:
            raise UserError(f"{path}: cannot be read as a video: {error}") from error
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
) -> Iterator[Callable[[NDArray[np.uint8]], object]]:
    """Open an MP4 and yield a function that adds an RGB frame; a whole file replaces `path`."""
    with writing(path) as temporary:
        codec = cv2.VideoWriter.fourcc(*"mp4v")
        writer = cv2.VideoWriter(str(temporary), codec, fps, size[::-1])
        if not writer.isOpened():
            raise Unwritable(f"cannot write {path}: OpenCV has no encoder for it, or no room")
        try:
            yield lambda frame: writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
        finally:
            writer.release()


def predict_video(
    video: Video, stem: Path, predictor: Predictor, writer: Writer
) -> Iterator[Pixels]:
    """Predict a video: the masks of its frames go into a folder, overlay and colours into videos.

    Yields:
        Each frame, once its results are written.
    """
    painters: dict[str, Callable[..., NDArray[np.uint8]]] = {}
    if writer.outputs.overlay:
        painters[".mp4"] = writer.overlay
    if writer.outputs.color:
        painters["_color.mp4"] = lambda _, mask: writer.color(mask)
    outputs: dict[str, Callable[[NDArray[np.uint8]], object]] = {}
    done = 0
    with ExitStack() as stack:
        for frame in read_ahead(video):
            if not done:
                for ending in painters:
                    path = output_path(writer.out, stem, ending)
                    opened = writing_video(path, video.fps, (frame.shape[0], frame.shape[1]))
                    outputs[ending] = stack.enter_context(opened)
            pixels = _pixels(frame, predictor.preprocess, video.path)
            prediction = predictor(pixels, probabilities=writer.outputs.probabilities)
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


def _pixels(frame: NDArray[np.uint8], preprocess: Preprocess, path: Path) -> Pixels:
    """Return a frame as reading it from an image file would."""
    channels, white = preprocess.channels, preprocess.white
    if channels not in (None, 1, 3) or white is not None:
        raise UserError(
            f"{path}: a video has three channels of 8 bits, but the network was trained on "
            f"{channels}{'' if white is None else f' up to {white:g}'}"
        )
    if channels == 1:
        return cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)[..., None]
    return frame
