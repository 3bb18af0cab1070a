"""Weights: allowed by licence, found where people put them, fetched once and whole, never the wrong file."""

import hashlib
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from serving import serving

from core.errors import UnavailableError
from core.settings import Settings
from core.zoo import catalogue, weights

CONTENT = bytes(range(256)) * 4000
DIGEST = hashlib.sha256(CONTENT).hexdigest()


class Hub(BaseHTTPRequestHandler):
    """A hub that redirects to the file with its hash in the headers, understands ranges, and breaks off where a test asks it to."""

    break_after: int | None = None
    requests: list[str | None]

    def do_HEAD(self):
        self.send_response(200 if self.path in ("/", "/file") else 404)
        self.end_headers()

    def do_GET(self):
        if self.path.endswith("/resolve/main/model.safetensors"):
            self.send_response(302)
            self.send_header("Location", "/file")
            self.send_header("X-Linked-Etag", f'"{self.server.digest}"')
            self.end_headers()
            return
        if self.path != "/file":
            self.send_error(404)
            return
        asked = self.headers.get("Range")
        self.server.asked.append(asked)
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
        self.send_response(206 if asked else 200)
        if asked:
            self.send_header("Content-Range", f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}")
        self.send_header("Content-Length", str(len(CONTENT) - start))
        self.end_headers()
        end = len(CONTENT)
        if self.server.break_after is not None:
            end, self.server.break_after = self.server.break_after, None
        self.wfile.write(CONTENT[start:end])

    def log_message(self, *_):
        pass


@pytest.fixture
def hub(monkeypatch):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.asked, server.break_after, server.digest = [], None, DIGEST
    with serving(server) as address:
        monkeypatch.setenv("HF_ENDPOINT", address)
        yield server


@pytest.fixture(autouse=True)
def nobody_has_been_asked():
    weights._probed.clear()


@pytest.fixture
def settings(tmp_path):
    return Settings(home=tmp_path, offline=False, min_free_bytes=0, _env_file=None)


@pytest.fixture
def spec(settings):
    return catalogue.find_spec("resnet18", "imagenet-1k", settings)


def test_fetched_once_and_kept(hub, settings, spec):
    path = weights.obtain(spec, settings)
    assert path.read_bytes() == CONTENT
    assert weights.obtain(spec, settings) == path
    assert hub.asked == [None]


def test_a_broken_download_goes_on_where_it_ended(hub, settings, spec):
    hub.break_after = 300_000
    assert weights.obtain(spec, settings).read_bytes() == CONTENT
    assert hub.asked == [None, "bytes=300000-"]


def test_a_wrong_file_is_thrown_away(hub, settings, spec):
    hub.digest = "0" * 64
    with pytest.raises(UnavailableError, match="hash"):
        weights.obtain(spec, settings)
    assert not [path for path in weights.cache_folder(settings).iterdir() if path.suffix in (".safetensors", ".part")]


def test_what_is_not_there_is_said_with_the_place_to_put_it(hub, settings, spec):
    with pytest.raises(UnavailableError) as caught:
        weights.obtain(replace(spec, source=f"http://127.0.0.1:{hub.server_port}/gone.pth"), settings)
    assert "404" in caught.value.what
    assert str(weights.cache_folder(settings)) in caught.value.remedy


def test_offline_never_asks(hub, settings, spec):
    offline = settings.model_copy(update={"offline": True})
    assert not weights.available(spec, offline)
    with pytest.raises(UnavailableError, match="offline"):
        weights.obtain(spec, offline)
    assert hub.asked == []


def test_a_reachable_hub_makes_weights_available(hub, settings, spec):
    assert weights.available(spec, settings)


def test_a_file_that_the_hub_has_not_is_known_before_the_start(hub, settings, spec):
    there = replace(spec, source=f"http://127.0.0.1:{hub.server_port}/file")
    gone = replace(spec, source=f"http://127.0.0.1:{hub.server_port}/gone.pth")
    assert weights.confirmed(there, settings)
    assert weights.available(gone, settings)  # the hub answers
    assert not weights.confirmed(gone, settings)  # and says that it has no such file
    assert weights.confirmed(catalogue.find_spec("resnet18", "none", settings), settings)
    assert hub.asked == [], "nothing is downloaded for it"


def test_a_hub_behind_a_proxy_is_reached_through_it(hub, settings, spec, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://hub.invalid")
    assert not weights.available(spec, settings)
    weights._probed.clear()
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{hub.server_port}")
    assert weights.available(spec, settings)


def test_an_unreachable_hub_does_not(monkeypatch, settings, spec):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # nothing listens on the discard port
    assert not weights.available(spec, settings)


@pytest.mark.parametrize(
    "name",
    [
        "resnet18.imagenet-1k.safetensors",
        "resnet18.imagenet-1k.pth",
        "resnet18.a1_in1k.safetensors",
        "timm/resnet18.a1_in1k/model.safetensors",
        "resnet18.a1_in1k/pytorch_model.bin",
    ],
)
def test_found_in_the_operators_folder(settings, spec, tmp_path, name):
    file = tmp_path / "mirror" / name
    file.parent.mkdir(parents=True)
    file.write_bytes(b"x")
    assert weights.locate(spec, settings.model_copy(update={"weights_dir": tmp_path / "mirror"})) == file


def test_a_file_with_another_hash_is_refused(settings, spec, tmp_path):
    file = tmp_path / "weights" / f"{spec.name}.safetensors"
    file.parent.mkdir()
    file.write_bytes(CONTENT)
    assert weights.obtain(replace(spec, sha256=DIGEST[:8]), settings) == file
    with pytest.raises(UnavailableError, match="damaged"):
        weights.obtain(replace(spec, sha256="beef"), settings)


@pytest.mark.parametrize(
    ("licence", "extra", "allowed"),
    [
        ("Apache-2.0", "", True),
        ("MIT", "", True),
        ("BSD-3-Clause", "", True),
        ("CC-BY-NC-4.0", "", False),
        ("NOASSERTION", "", False),
        ("CC-BY-NC-4.0", "CC-BY-4.0, CC-BY-NC-4.0", True),
        ("NOASSERTION", "*", True),
    ],
)
def test_licences(settings, spec, licence, extra, allowed):
    assert weights.allowed(replace(spec, licence=licence), settings.model_copy(update={"allow_licences": extra})) is allowed


def test_nothing_needs_no_licence(settings):
    assert weights.allowed(catalogue.find_spec("resnet18", "none", settings), settings)
