"""The streaming layer: coalescing, partial uploads, fallbacks, and pixels equal to an ordinary refresh."""

import numpy as np
import pytest

from napari_unroll.gui import stream_visual, streaming
from napari_unroll.gui.streaming import Streamer, StreamImage
from tests.gui.conftest import needs_opengl


def box(*starts: int, size: int = 4):
    return tuple(slice(s, s + size) for s in starts)


@pytest.fixture
def layer() -> StreamImage:
    return StreamImage(np.zeros((16, 16, 16), np.float32), contrast_limits=(0, 1))


def test_posting_writes_at_once_and_shows_later(layer):
    layer.post(box(0, 4, 8), np.full((4, 4, 4), 2.0, np.float32))
    assert layer.data[2, 6, 10] == 2.0
    assert layer.data[6, 6, 10] == 0.0
    assert layer.drain() is False


def test_only_boxes_that_touch_the_slice_redraw_it(model):
    layer = model.add_layer(StreamImage(np.zeros((16, 16, 16), np.float32), contrast_limits=(0, 1)))
    model.dims.set_current_step(0, 2)
    layer.post(box(8, 0, 0), np.ones((4, 4, 4), np.float32))
    layer.drain()
    assert layer.uploads["skipped"] == 1
    layer.post(box(0, 0, 0), np.ones((4, 4, 4), np.float32))
    layer.drain()
    assert layer.uploads["slice"] == 1
    assert layer._slice.image.raw[0, 0] == 1


def test_whole_volumes_are_queued_as_slabs(layer):
    values = np.random.default_rng(0).random((16, 16, 16), dtype=np.float32)
    layer.post_volume(values, n_slabs=5)
    assert np.array_equal(layer.data, values)
    assert len(layer._queue) == 4


def test_uploads_keep_a_budget(layer, monkeypatch):
    monkeypatch.setattr(streaming, "BUDGET_BYTES", 2 * 4**3 * 4)
    for i in range(4):
        layer.post(box(4 * i, 0, 0), np.ones((4, 4, 4), np.float32))
    assert layer.drain() is True
    assert len(layer._queue) == 2


def test_equal_boxes_are_coalesced(layer):
    for _ in range(5):
        layer.post(box(0, 0, 0), np.ones((4, 4, 4), np.float32))
    assert layer._take() == [box(0, 0, 0)]


def test_it_is_an_image_for_napari(layer):
    assert layer._type_string == "image"
    assert layer.as_layer_data_tuple()[2] == "image"


@pytest.mark.parametrize("software", [False, True])
@needs_opengl
def test_streamed_pixels_equal_an_ordinary_layer(viewer, monkeypatch, software):
    for module in (streaming, stream_visual):
        monkeypatch.setattr(module, "is_software", lambda: software)
    monkeypatch.setattr(stream_visual, "PREVIEW_SIZE", 8)
    monkeypatch.setattr(streaming, "PREVIEW_TICK_S", 0.0)
    monkeypatch.setattr(streaming, "REST_PER_FRAME", 0.0)
    rng = np.random.default_rng(1)
    values = rng.random((16, 16, 16), dtype=np.float32)
    viewer.dims.ndisplay = 3
    layer = viewer.add_layer(StreamImage(np.zeros_like(values), contrast_limits=(0, 1)))
    viewer.reset_view()
    streamer = Streamer()
    streamer.add(layer)
    for start in range(0, 16, 4):
        layer.post((slice(start, start + 4), slice(0, 16), slice(0, 16)), values[start : start + 4])
        streamer.tick()
    assert layer.uploads["partial"] == 4
    assert layer.uploads["refresh"] == 0
    if not software:
        streamed = viewer.screenshot(flash=False)
    streamer.finish(layer)
    assert not streamer.active
    finished = viewer.screenshot(flash=False)
    if not software:
        assert np.array_equal(streamed, finished)
    viewer.layers.clear()
    viewer.add_image(values, contrast_limits=(0, 1))
    assert np.array_equal(finished, viewer.screenshot(flash=False))
    assert finished[..., :3].max() > 100


@needs_opengl
def test_the_preview_is_decimated_and_ends(viewer, monkeypatch):
    for module in (streaming, stream_visual):
        monkeypatch.setattr(module, "is_software", lambda: True)
    monkeypatch.setattr(stream_visual, "PREVIEW_SIZE", 8)
    viewer.dims.ndisplay = 3
    layer = viewer.add_layer(StreamImage(np.zeros((16, 16, 16), np.float32), contrast_limits=(0, 1)))
    visual = viewer.window._qt_viewer.canvas.layer_to_visual[layer]
    layer.rendering = "attenuated_mip"
    layer.begin()
    assert visual.node._texture.shape[:3] == (8, 8, 8)
    assert visual.node.method == "mip"
    layer.finish()
    assert visual.node.method == "attenuated_mip"
    assert visual.node._texture.shape[:3] == (16, 16, 16)
    assert np.allclose(layer._transforms["tile2data"].scale, 1)


def test_transposed_views_fall_back_to_a_refresh(viewer, monkeypatch):
    monkeypatch.setattr(streaming, "PREVIEW_TICK_S", 0.0)
    viewer.dims.ndisplay = 3
    layer = viewer.add_layer(StreamImage(np.zeros((16, 12, 8), np.float32), contrast_limits=(0, 1)))
    viewer.dims.order = (2, 0, 1)
    layer.post(box(0, 0, 0), np.ones((4, 4, 4), np.float32))
    layer.drain()
    assert layer.uploads["refresh"] == 1
    assert layer.uploads["partial"] == 0


def test_hidden_layers_cost_nothing(model):
    layer = model.add_layer(StreamImage(np.zeros((16, 16, 16), np.float32), visible=False, contrast_limits=(0, 1)))
    layer.post(box(0, 0, 0), np.ones((4, 4, 4), np.float32))
    layer.drain()
    assert sum(layer.uploads.values()) == 0
