from __future__ import annotations

import hashlib
import io
import re
import socket
import threading
from collections import OrderedDict
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from segkit.encoders import VGGEncoder, weights
from segkit.encoders.vgg_layout import NAMES
from segkit.encoders.weights import (
    imagenet_url,
    read_weights,
    resolve_weights,
)
from segkit.errors import UserError
from segkit.model import create_model

SHARED = Path(__file__).parents[3] / "shared" / "weights" / "vgg16_imagenet.safetensors"


def tiny(seed: int = 0, name: str = "vgg11", **options) -> VGGEncoder:
    torch.manual_seed(seed)
    return VGGEncoder(name, **{"width": 1 / 8, **options})


def save(state: dict[str, Tensor], path: Path) -> Path:
    save_file(state, path) if path.suffix.lower() == ".safetensors" else torch.save(state, path)
    return path


def refusal(function, *args) -> str:
    with pytest.raises(UserError) as caught:
        function(*args)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def same(encoder: VGGEncoder, state: dict[str, Tensor]) -> bool:
    return all(torch.equal(value, state[key]) for key, value in encoder.state_dict().items())


# ---------------------------------------------------------------- loading a file


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".safetensors", ".PTH", ".SafeTensors"])
@pytest.mark.parametrize("name", ["vgg11", "vgg11_bn", "vgg11_lrn", "vgg16_1x1"])
def test_weights_go_out_and_in(tmp_path, suffix, name):
    source, target = tiny(1, name), tiny(2, name)
    assert not same(target, source.state_dict())
    path = save(source.state_dict(), tmp_path / f"w{suffix}")
    target.load_weights(str(path))
    assert same(target, source.state_dict())
    assert read_weights(path).keys() == source.state_dict().keys()


def test_home_is_expanded(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    save(tiny(1).state_dict(), tmp_path / "w.pth")
    assert resolve_weights("vgg11", "~/w.pth") == tmp_path / "w.pth"
    tiny().load_weights("~/w.pth")


def test_classifier_and_deeper_layers_are_ignored(tmp_path):
    whole = tiny(1, taps=["pool5"]).state_dict()
    rest = {"classifier.0.weight": torch.zeros(3, 3), "classifier.6.bias": torch.zeros(3)}
    path = save({**whole, **rest}, tmp_path / "w.pth")
    short = tiny(2, taps=["conv3"])
    short.load_weights(path)
    assert same(short, whole)


def test_batch_norm_files_without_counters_are_accepted(tmp_path):
    state = tiny(1, "vgg11_bn").state_dict()
    old = {k: v for k, v in state.items() if not k.endswith("num_batches_tracked")}
    target = tiny(2, "vgg11_bn")
    target.load_weights(save(old, tmp_path / "w.safetensors"))
    assert same(target, state)


@pytest.mark.skipif(not SHARED.is_file(), reason="the shared ImageNet weights are not here")
def test_shared_imagenet_weights():
    encoder = VGGEncoder("vgg16")
    encoder.load_weights(SHARED)
    state = read_weights(SHARED)
    assert torch.equal(encoder.features[28].weight, state["features.28.weight"])
    assert same(encoder, state)


# ---------------------------------------------------------------- input channels


@pytest.fixture
def rgb(tmp_path) -> tuple[Path, VGGEncoder]:
    encoder = tiny(1)
    return save(encoder.state_dict(), tmp_path / "rgb.pth"), encoder


def loaded(path: Path, in_channels: int) -> VGGEncoder:
    encoder = tiny(2, in_channels=in_channels)
    encoder.load_weights(path)
    return encoder


@pytest.mark.parametrize("in_channels", [4, 7])
def test_extra_channels_see_nothing_at_first(rgb, in_channels):
    path, reference = rgb
    encoder = loaded(path, in_channels)
    x = torch.randn(1, in_channels, 48, 40)
    pairs = zip(encoder(x).maps, reference(x[:, :3]).maps, strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    assert not encoder.features[0].weight[:, 3:].any()


def test_one_channel_sees_grey_as_rgb_did(rgb):
    path, reference = rgb
    grey = torch.rand(1, 1, 48, 40)
    pairs = zip(loaded(path, 1)(grey).maps, reference(grey.expand(1, 3, 48, 40)).maps, strict=True)
    for a, b in pairs:
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)


def test_two_channels_keep_the_first_two_filters(rgb):
    path, reference = rgb
    assert torch.equal(loaded(path, 2).features[0].weight, reference.features[0].weight[:, :2])


@pytest.mark.parametrize("in_channels", [1, 2, 5])
def test_a_file_with_the_right_channels_is_taken_as_it_is(tmp_path, in_channels):
    state = tiny(1, in_channels=in_channels).state_dict()
    assert same(loaded(save(state, tmp_path / "w.pt"), in_channels), state)


def test_a_file_with_other_channels_is_refused(tmp_path):
    path = save(tiny(in_channels=5).state_dict(), tmp_path / "w.pt")
    message = refusal(tiny().load_weights, path)
    assert "features.0.weight is [8, 5, 3, 3] instead of [8, 3, 3, 3]" in message


# ---------------------------------------------------------------- refused files


def test_keys_that_do_not_fit_are_named_and_counted(tmp_path):
    state = tiny(1, taps=["conv2"]).state_dict()
    del state["features.0.bias"]
    state["features.3.weight"] = torch.zeros(2, 2)
    state |= {f"fc{k}": torch.zeros(1) for k in range(7)}
    path = save(state, tmp_path / "w.pth")
    encoder, twin = tiny(taps=["conv2"]), tiny(taps=["conv2"])
    message = refusal(encoder.load_weights, path)
    assert str(path) in message
    assert "'vgg11'" in message
    assert "1 missing (features.0.bias)" in message
    assert "7 unexpected (fc0, fc1, fc2, fc3, fc4, ...)" in message
    shapes = "features.3.weight is [2, 2] instead of [16, 8, 3, 3]"
    assert f"1 of another shape ({shapes})" in message
    assert same(encoder, twin.state_dict())  # refused as a whole


@pytest.mark.parametrize(
    ("made", "wanted", "words"),
    [
        ({"name": "vgg16"}, {"name": "vgg11"}, "missing"),
        ({"name": "vgg11"}, {"name": "vgg16"}, "missing"),
        ({"name": "vgg11_bn"}, {"name": "vgg11"}, "unexpected"),
        ({"name": "vgg11", "width": 1 / 4}, {"name": "vgg11"}, "16 of another shape"),
        ({"name": "vgg16"}, {"name": "vgg16_1x1"}, "3 of another shape"),
    ],
)
def test_other_networks_are_refused(tmp_path, made, wanted, words):
    path = save(tiny(**made).state_dict(), tmp_path / "w.pth")
    assert words in refusal(tiny(**wanted).load_weights, path)


BROKEN = {
    "empty.pth": b"",
    "empty.safetensors": b"",
    "text.pth": b"<html>404 Not Found</html>",
    "text.pt": b"version https://git-lfs.github.com/spec/v1\n",
    "text.safetensors": b"<html>404 Not Found</html>",
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_files_are_refused(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(BROKEN[name])
    assert str(path) in refusal(read_weights, path)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("share", [0.01, 0.5, 0.999])
def test_files_cut_short_are_refused(tmp_path, suffix, share):
    path = save(tiny().state_dict(), tmp_path / f"w{suffix}")
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    message = refusal(read_weights, path)
    assert str(path) in message
    assert "cut short" in message


class Payload:
    def __reduce__(self):
        return (Path.touch, (Path("executed"),))


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (lambda: [torch.zeros(1)], "list"),
        (lambda: torch.zeros(1), "Tensor"),
        (lambda: {"state_dict": {"features.0.weight": torch.zeros(1)}}, "'state_dict'"),
        (lambda: {"features.0.weight": torch.zeros(1), "epoch": 3}, "'epoch'"),
        (lambda: {0: torch.zeros(1)}, "under 0"),
        (lambda: nn.Linear(1, 1), "not a plain dict"),
        (Payload, "not a plain dict"),
    ],
)
def test_other_contents_are_refused(tmp_path, monkeypatch, content, word):
    monkeypatch.chdir(tmp_path)
    torch.save(content(), tmp_path / "w.pth")
    message = refusal(read_weights, tmp_path / "w.pth")
    assert str(tmp_path / "w.pth") in message
    assert word in message
    assert not Path("executed").exists()


def test_an_ordered_dict_is_a_plain_dict(tmp_path):
    torch.save(OrderedDict(a=torch.ones(1)), tmp_path / "w.pth")
    assert type(read_weights(tmp_path / "w.pth")) is dict


@pytest.mark.parametrize("name", ["absent.pth", "folder.pth", "weights.h5", "weights"])
def test_paths_that_are_no_weight_files(tmp_path, name):
    (tmp_path / "folder.pth").mkdir()
    assert str(tmp_path / name) in refusal(tiny().load_weights, str(tmp_path / name))


# ---------------------------------------------------------------- imagenet, without a network


@pytest.mark.parametrize("name", NAMES)
def test_imagenet_urls(name):
    if name in ("vgg11_lrn", "vgg16_1x1"):
        message = refusal(imagenet_url, name)
        assert f"'{name}'" in message
        assert "weights: null" in message
        assert "vgg11, vgg13, vgg16, vgg19, vgg11_bn, vgg13_bn, vgg16_bn, vgg19_bn" in message
    else:
        url = imagenet_url(name)
        assert re.fullmatch(rf"https://\S+/{name}-[0-9a-f]{{8}}\.pth", url)


def test_unknown_encoder_has_no_url():
    assert "did you mean 'vgg16'" in refusal(imagenet_url, "vg16")


def shallow(seed: int = 0) -> VGGEncoder:
    """The first two stages as published: a reduced width is refused before a download."""
    return tiny(seed, taps=["conv2"], width=1)


def as_bytes(state: dict[str, Tensor]) -> bytes:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


BODY = as_bytes(shallow(1).state_dict())
DIGEST = hashlib.sha256(BODY).hexdigest()[:8]
GOOD = f"/good/vgg11-{DIGEST}.pth"


class Server(BaseHTTPRequestHandler):
    requests: list[str]

    def do_GET(self) -> None:
        self.requests.append(self.path)
        if self.path.startswith("/absent"):
            return self.send_error(404)
        if self.path.startswith("/silent"):
            threading.Event().wait(1.5)
            return None
        self.send_response(200)
        self.send_header("Content-Length", str(len(BODY)))
        self.end_headers()
        cut = len(BODY) // 2 if self.path.startswith("/short") else len(BODY)
        self.wfile.write(BODY[:cut])
        return None

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch) -> Iterator[str]:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    Server.requests = []
    with ThreadingHTTPServer(("127.0.0.1", 0), Server) as http:
        thread = threading.Thread(target=http.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{http.server_port}"
        http.shutdown()
        thread.join()


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setattr(torch.hub, "_hub_dir", None)  # whatever set_dir() was told before
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "home"))
    return tmp_path / "home" / "hub" / "checkpoints"


@pytest.fixture
def url_is(monkeypatch):
    return lambda url: monkeypatch.setattr(weights, "imagenet_url", lambda name: url)


def fails_to_download(url: str, cache: Path) -> str:
    """The message of the failure, after checking that it helps and that nothing is left."""
    encoder, twin = shallow(), shallow()
    message = refusal(encoder.load_weights, "imagenet")
    assert url in message
    assert str(cache / url.rsplit("/", 1)[-1]) in message
    assert "weights: null" in message
    assert "path" in message
    assert not cache.is_dir() or list(cache.iterdir()) == []
    assert same(encoder, twin.state_dict())
    assert socket.getdefaulttimeout() is None
    return message


def test_download_once_then_from_the_cache(server, cache, url_is):
    url_is(server + GOOD)
    for _ in range(2):
        encoder = shallow(2)
        encoder.load_weights("imagenet")
        assert same(encoder, shallow(1).state_dict())
    assert [path.name for path in cache.iterdir()] == [f"vgg11-{DIGEST}.pth"]
    assert Server.requests == [GOOD]


def test_a_file_put_there_by_hand_needs_no_network(cache, url_is):
    url_is(f"http://127.0.0.1:9{GOOD}")
    cache.mkdir(parents=True)
    (cache / f"vgg11-{DIGEST}.pth").write_bytes(BODY)
    shallow().load_weights("imagenet")


def test_set_dir_is_respected(server, tmp_path, monkeypatch, url_is):
    url_is(server + GOOD)
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    torch.hub.set_dir(tmp_path / "elsewhere")
    expected = tmp_path / "elsewhere" / "checkpoints" / f"vgg11-{DIGEST}.pth"
    assert resolve_weights("vgg11", "imagenet") == expected
    assert expected.read_bytes() == BODY


@pytest.mark.parametrize(
    ("address", "word"),
    [
        (f"/absent/vgg11-{DIGEST}.pth", "404"),
        (f"/short/vgg11-{DIGEST}.pth", "cut short"),
        ("/good/vgg11-0123abcd.pth", "hash"),
        ("/good/vgg11.pth", "hash"),
        ("/short/vgg11-.pth", "hash"),
    ],
)
def test_failed_downloads_help_and_leave_nothing(server, cache, url_is, address, word):
    url_is(server + address)
    assert word in fails_to_download(server + address, cache)


def test_dead_port(cache, url_is):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}{GOOD}"
    url_is(url)
    assert "refused" in fails_to_download(url, cache)


def test_a_silent_host_times_out(server, cache, url_is, monkeypatch):
    monkeypatch.setattr(weights, "TIMEOUT_SECONDS", 0.2)
    url = f"{server}/silent/vgg11-{DIGEST}.pth"
    url_is(url)
    assert "timed out" in fails_to_download(url, cache)


# torch fetches 128 KiB at a time; a disk that ends in the last 8 KiB of them, the buffer of the
# file, is the case in which torch does not remove its own temporary file
@pytest.mark.parametrize("limit", [150_000, 128 * 1024 - 4000])
def test_a_full_disk_leaves_nothing(server, cache, url_is, limit):
    resource = pytest.importorskip("resource")
    assert limit < len(BODY)
    url_is(server + GOOD)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        message = fails_to_download(server + GOOD, cache)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "too large" in message


def test_a_cache_that_cannot_be_written(server, tmp_path, cache, url_is):
    (tmp_path / "home").write_text("a file where the folder should be")
    url_is(server + GOOD)
    fails_to_download(server + GOOD, cache)


def test_a_damaged_file_in_the_cache_is_named(cache, url_is):
    url_is(f"http://127.0.0.1:9{GOOD}")
    cache.mkdir(parents=True)
    path = cache / f"vgg11-{DIGEST}.pth"
    path.write_bytes(BODY[:1000])
    assert str(path) in refusal(shallow().load_weights, "imagenet")


@pytest.mark.parametrize(
    ("name", "options"),
    [("vgg16", {"width": 1 / 8}), ("vgg11", {"norm": "group"}), ("vgg11_bn", {"norm": "none"})],
)
def test_an_encoder_that_is_not_as_published_is_refused_before_the_download(
    monkeypatch, cache, name, options
):
    monkeypatch.setattr(weights, "_download", None)
    encoder = VGGEncoder(name, ["conv1"], **options)
    with pytest.raises(UserError, match=f"ImageNet weights fit '{name}' only at width 1"):
        encoder.load_weights("imagenet")


@pytest.mark.parametrize(
    ("encoder", "decoder"), [({"width": 1 / 8}, {}), ({}, {"classifier_width": 6})]
)
def test_a_classifier_that_is_not_as_published_is_refused_before_the_download(
    monkeypatch, cache, encoder, decoder
):
    monkeypatch.setattr(weights, "_download", None)
    decoder = {"classifier_width": 4096, **decoder, "classifier_weights": "imagenet"}
    with (
        torch.device("meta"),
        pytest.raises(UserError, match="512 channels and a classifier_width of 4096, but they are"),
    ):
        create_model(
            *("fcn", "vgg11"), num_classes=2, encoder_options=encoder, classifier="conv", **decoder
        )
