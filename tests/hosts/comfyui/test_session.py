"""ComfyUI under enforcement: the marker reaches no sink, and what is safe comes out as it went in."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from nsfw_guard.errors import UncoveredError, WeightsMissingError
from nsfw_guard.hosts.comfyui.enforce import GUARDED_ATTR, Enforcement
from nsfw_guard.hosts.comfyui.exits import COMFYUI, HELPERS, OUTPUTS, PREVIEWS, SENT
from nsfw_guard.hosts.comfyui.node_guard import _appearances
from nsfw_guard.hosts.comfyui.session import Comfy
from nsfw_guard.hosts.running import COMFYUI as STATUS
from nsfw_guard.hosts.running import _faults
from nsfw_guard.testing import FakeBackend, FaultyBackend
from tests.hosts.fake_comfy import GREEN, RED, FakeComfy, beside, eight, graph, plain

ENFORCED = {"NSFW_GUARD_ENFORCE": "1"}

# What leaves, the graph, and the hook that closes it.
ROWS = {
    "SaveImage": (graph("SaveImage"), OUTPUTS),
    "PreviewImage": (graph("PreviewImage"), OUTPUTS),
    "SaveImageWebsocket": (graph("SaveImageWebsocket"), OUTPUTS),
    "SaveAnimatedWEBP": (graph("SaveAnimatedWEBP"), OUTPUTS),
    "SaveAnimatedPNG": (graph("SaveAnimatedPNG"), OUTPUTS),
    "video": (graph("CreateVideo", ("SaveVideo", "video")), OUTPUTS),
    "expanded": (graph("Expander"), OUTPUTS),
    "mask as image": (graph(("SaveAny", "anything")), OUTPUTS),
    "intermediate": (graph("Crop"), OUTPUTS),
    "heir of SaveImage": (graph("Heir"), OUTPUTS),
    "SaveLatent": (graph("Encode", ("SaveLatent", "samples")), OUTPUTS),
    "live preview": (graph("Sampler"), PREVIEWS),
    "own previews": (graph("OwnPreviews"), SENT),
    "subgraph": (
        {
            "12:0": {"class_type": "Given", "inputs": {"key": "x"}},
            "12:1": {"class_type": "SaveImage", "inputs": {"images": ["12:0", 0]}},
        },
        OUTPUTS,
    ),
    "async node": (graph("SlowSave"), OUTPUTS),
    "helper of the host": (graph("ShowsByHelper"), HELPERS),
    "API node": (graph("SaveImage") | {"0": {"class_type": "ApiImage", "inputs": {"key": "x"}}}, OUTPUTS),
}
SAFE = {name: row for name, row in ROWS.items() if name not in {"SaveLatent", "live preview", "own previews"}}
ASYNC = {"async node", "API node", "helper of the host"}
FLAVOURS = ("oldest", "sync", "async")


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch):
    import os

    for name in list(os.environ):
        if name.startswith("NSFW_GUARD_"):
            monkeypatch.delenv(name)


def comfy_of(backend=None):
    """A session that covers with one colour: a patch of one colour is the same patch when it is blurred."""
    ui = Comfy(load=lambda settings: backend or FakeBackend())
    ui.guard.configure(replace(ui.guard.settings, action="block", previews="check"))
    return ui


def host(image, *, flavour="async", backend=None, enforce=True):
    """A host that was handed an image, and the guard on it."""
    ui = FakeComfy(flavour, {"x": image})
    comfy = comfy_of(backend)
    if enforce:
        assert comfy.start(ENFORCED, find=ui.find)
    return ui, comfy


def flavours(name):
    return ("async",) if name in ASYNC else FLAVOURS


@pytest.mark.parametrize(("name", "flavour"), [(n, f) for n in ROWS for f in flavours(n)])
def test_the_marker_reaches_no_sink(name, flavour):
    image = plain(RED, count=2)
    before = image.clone()
    ui, _ = host(image, flavour=flavour)
    ui.post(ROWS[name][0])
    assert ui.worst() == 0.0
    assert torch.equal(ui.given["x"], before)  # the cached tensor is nobody's to edit
    assert ui.left() or ui.errors or name == "own previews"


@pytest.mark.parametrize("name", ROWS)
def test_without_the_hook_the_marker_leaks(name, monkeypatch):
    put = {OUTPUTS: "_outputs", PREVIEWS: "_previews", SENT: "_sent", HELPERS: "_helpers"}
    monkeypatch.setattr(Enforcement, put[ROWS[name][1]], lambda self, module: None)
    if ROWS[name][1] == PREVIEWS:  # both hooks close it: either is enough
        monkeypatch.setattr(Enforcement, "_sent", lambda self, module: None)
    ui, _ = host(plain(RED))
    ui.post(ROWS[name][0])
    if name == "SaveImageWebsocket":  # the message is closed too
        assert ui.worst() == 0.0
        monkeypatch.setattr(Enforcement, "_sent", lambda self, module: None)
        ui, _ = host(plain(RED))
        ui.post(ROWS[name][0])
    assert ui.worst() > 0.9


@pytest.mark.parametrize("hook", [PREVIEWS, SENT])
def test_either_hook_alone_closes_a_preview(hook, monkeypatch):
    monkeypatch.setattr(Enforcement, {PREVIEWS: "_previews", SENT: "_sent"}[hook], lambda self, module: None)
    ui, _ = host(plain(RED))
    ui.post(ROWS["live preview"][0])
    assert ui.sinks["websocket"]
    assert ui.worst() == 0.0


@pytest.mark.parametrize(("name", "flavour"), [(n, f) for n in SAFE for f in flavours(n)])
def test_a_safe_image_leaves_bit_for_bit(name, flavour):
    torch.manual_seed(0)
    image = plain(GREEN, count=2) + torch.rand(2, 24, 32, 3) * 0.1
    ui, _ = host(image, flavour=flavour)
    ui.post(SAFE[name][0])
    assert not ui.errors
    images = [one for sink in ui.sinks.values() for one in sink]
    if name == "mask as image":
        assert images[0] is image  # not even another object
    else:
        assert len(images) == 2
        assert all(np.array_equal(one, eight(old)) for one, old in zip(images, image, strict=True))


def test_metadata_and_other_inputs_stay_the_same_objects():
    ui, _ = host(plain(RED))
    extra = {"workflow": {"nodes": [1, {"samples": 3}]}}
    ui.post(graph("SaveImage"), extra_data={"extra_pnginfo": extra})
    assert ui.metadata[0][1] is extra
    assert ui.metadata[0][0]["0"]["class_type"] == "Given"


def test_an_image_is_checked_once_however_many_nodes_see_it():
    backend = FakeBackend()
    ui, _ = host(plain(GREEN, count=2) + torch.rand(2, 24, 32, 3) * 0.1, backend=backend)
    ui.post(beside("SaveImage", "PreviewImage", "SaveAnimatedWEBP", "SaveImageWebsocket", "Crop"))
    assert ui.left() == 10
    assert backend.frames == 2


def test_what_is_cached_is_guarded_in_the_next_run_too():
    ui, _ = host(plain(RED))
    ui.post(graph("SaveImage"))
    ui.post(graph("SaveImage") | {"2": {"class_type": "PreviewImage", "inputs": {"images": ["0", 0]}}})
    assert ui.runs == 1  # the source ran once
    assert ui.sinks["temp"]
    assert ui.worst() == 0.0


def test_only_the_bad_one_of_a_batch_is_covered():
    batch = torch.cat([plain(GREEN), plain(RED), plain(GREEN)])
    ui, _ = host(batch)
    ui.post(graph("SaveImage"))
    assert ui.worst() == 0.0
    assert np.array_equal(ui.sinks["disk"][0], eight(batch[0]))
    assert np.array_equal(ui.sinks["disk"][2], eight(batch[2]))


def test_a_clip_is_covered_around_its_bad_frame():
    clip = plain(GREEN, count=20)
    clip[10] = plain(RED)[0]
    ui, _ = host(clip)
    ui.post(graph("CreateVideo", ("SaveVideo", "video")))
    frames = ui.sinks["video"]
    same = [np.array_equal(frame, eight(old)) for frame, old in zip(frames, clip, strict=True)]
    assert [i for i, one in enumerate(same) if not one] == list(range(6, 15))
    assert ui.worst() == 0.0


@pytest.mark.parametrize(
    "shape", [(1, 1, 1, 3), (1, 1, 9, 3), (2, 3, 4, 3), (1, 16, 16, 4), (5, 1, 1, 1), (1, 600, 3, 3)]
)
def test_odd_shapes(shape):
    image = torch.zeros(shape)
    image[..., 0] = 0.9
    if shape[-1] == 4:
        image[..., 3] = 1.0
    ui, _ = host(image)
    ui.post(graph(("SaveAny", "anything")))
    (left,) = ui.sinks["disk"]
    assert left.shape == image.shape
    if shape[-1] >= 3:
        assert not torch.equal(left, image)
        assert float(((left[..., 0] > 0.6) & (left[..., 1] < 0.4) & (left[..., 2] < 0.4)).float().mean()) == 0.0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_floats(dtype):
    ui, _ = host(plain(RED).to(dtype))
    ui.post(graph(("SaveAny", "anything")))
    assert all(not torch.equal(one, plain(RED).to(dtype)) for one in ui.sinks["disk"])


def test_nan_is_covered():
    image = plain(GREEN)
    image[0, 3, 4] = float("nan")
    ui, _ = host(image)
    ui.post(graph("SaveImage"))
    assert not np.array_equal(ui.sinks["disk"][0], eight(plain(GREEN)[0]))
    assert len(np.unique(ui.sinks["disk"][0].reshape(-1, 3), axis=0)) == 1


def test_nothing_is_no_image():
    ui, _ = host(torch.zeros(0, 8, 8, 3))
    ui.post(graph("SaveImage"))
    assert not ui.errors
    assert not ui.left()


def test_lists_of_images():
    ui, _ = host([plain(RED), plain(GREEN, height=16)])
    ui.post({"0": {"class_type": "GivenList", "inputs": {"key": "x"}},
               "1": {"class_type": "SaveImageList", "inputs": {"images": ["0", 0]}},
               "2": {"class_type": "SaveImage", "inputs": {"images": ["0", 0]}}})  # fmt: skip
    assert not ui.errors
    assert len(ui.sinks["disk"]) == 4
    assert ui.worst() == 0.0
    assert np.array_equal(ui.sinks["disk"][1], eight(plain(GREEN, height=16)[0]))


@pytest.mark.parametrize("shape", [(2, 24, 32), (24, 32), (3, 24, 24), (1, 24, 32), (1, 1, 24, 32), (1, 24, 32, 1)])
def test_masks_leave_as_they_came(shape):
    mask = torch.rand(shape)
    ui, _ = host(mask)
    ui.post(graph(("SaveAny", "anything")))
    assert ui.sinks["disk"][0] is mask


LAYOUTS = {
    "turned": lambda t: t.transpose(-1, -2).contiguous().transpose(-1, -2),
    "every second": lambda t: torch.cat([t, t], -1)[..., ::2].contiguous().repeat_interleave(2, -1)[..., ::2],
    "flipped": lambda t: t.flip(-1),
    "expanded": lambda t: t[:1].expand_as(t),
    "channels last in memory": lambda t: t.movedim(-1, 0).contiguous().movedim(0, -1),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", [(1, 24, 32), (2, 24, 32), (24, 32), (1, 24, 32, 1), (1, 24, 32, 3), (2, 24, 32, 3)])
def test_what_is_allowed_leaves_as_it_came_whatever_its_layout(shape, layout):
    value = LAYOUTS[layout](torch.rand(shape) * 0.3)
    before = value.clone()
    ui, _ = host(value)
    ui.post(graph(("SaveAny", "mask_or_image")))
    assert ui.sinks["disk"][0] is value
    assert torch.equal(value, before)


@pytest.mark.parametrize("name", ["lora", "conditioning", "choice"])
def test_what_is_declared_to_hold_no_images_is_left_alone(name):
    value = {
        "a.lora_up": torch.randn(8, 4),
        "b": [torch.randn(1, 77, 3), {"pooled": torch.randn(1, 16)}],
        "c": plain(RED),
    }
    ui, _ = host(value)
    ui.post(graph(("SaveAny", name)))
    assert ui.sinks["disk"][0] is value
    assert torch.equal(value["c"], plain(RED))


@pytest.mark.parametrize("value", [plain(RED), {"b": [plain(RED)]}, torch.randn(8, 4), {"up": torch.randn(1, 77, 3)}])
def test_what_nobody_knows_stops_the_node_and_is_never_edited(value):
    ui, _ = host(value)
    ui.post(graph(("SaveAny", "wild")))
    assert not ui.left()
    assert "'wild' holds images that must not leave" in str(ui.errors[0])


def test_what_nobody_knows_passes_where_every_reading_of_it_is_allowed():
    value = {"b": [plain(GREEN)]}
    ui, _ = host(value)
    ui.post(graph(("SaveAny", "wild")))
    assert ui.sinks["disk"][0] is value


@pytest.mark.parametrize("scale", [1.02, 1.6, 20.0])
def test_light_beyond_white_is_no_fault(scale):
    value = plain(GREEN)
    value[:, :4] *= scale / float(value.max())
    ui, _ = host(value)
    ui.post(graph(("SaveAny", "anything")))
    assert ui.sinks["disk"][0] is value


@pytest.mark.parametrize("scale", [1.02, 4.0, 50.0])
def test_an_image_that_is_brighter_than_white_is_seen_dimmed_too(scale):
    value = plain(RED) * scale
    ui, _ = host(value)
    ui.post(graph(("SaveAny", "anything")))
    assert not torch.equal(ui.sinks["disk"][0], value)
    assert float(ui.sinks["disk"][0].max()) <= 1.0


def test_each_frame_is_dimmed_by_its_own_light():
    seen = []
    value = torch.cat([plain(RED) * 2, plain(GREEN) * 60])
    for frames in (_appearances(value), _appearances(value[:1])):
        seen.append(frames[1][0])
    assert torch.equal(*seen)
    assert float(seen[0].max()) == 1.0


@pytest.mark.parametrize("odd", [255.0, 1e6, -1.0, float("nan"), float("inf")])
def test_what_is_far_outside_is_a_fault(odd):
    value = plain(GREEN)
    value[0, 0, 0, 0] = odd
    ui, _ = host(value)
    ui.post(graph(("SaveAny", "anything")))
    assert not torch.equal(ui.sinks["disk"][0], value)


def test_an_image_with_its_channels_first_is_seen():
    ui, _ = host(plain(RED)[0].permute(2, 0, 1).contiguous())
    ui.post(graph(("SaveAny", "anything")))
    assert float(ui.sinks["disk"][0][0].max()) < 0.5


@pytest.mark.parametrize("value", [torch.ones(2, 7, 8, 5), torch.ones(2, 8, 8, 3).long()])
def test_what_cannot_be_judged_stops_the_node(value):
    ui, _ = host(value)
    ui.post(graph(("SaveAny", "anything")))
    assert not ui.left()
    assert "IMAGE" in str(ui.errors[0])


@pytest.mark.parametrize("value", [None, 3, "text", torch.ones(5), {"waveform": torch.ones(1, 2, 9), "sample_rate": 8}])
def test_what_is_no_image_passes(value):
    ui, _ = host(value)
    ui.post(graph(("SaveAny", "anything")))
    assert ui.sinks["disk"][0] is value


def test_images_in_dicts_arrays_and_pil():
    from PIL import Image

    held = {"a": [np.asarray(plain(RED)[0])], "b": (Image.fromarray(eight(plain(RED)[0])), "x")}
    ui, _ = host(held)
    ui.post(graph(("SaveAny", "anything")))
    (left,) = ui.sinks["disk"]
    assert FakeComfy().worst() == 0.0
    assert not np.array_equal(left["a"][0], held["a"][0])
    assert left["b"][0].getpixel((0, 0)) != RED
    assert held["b"][0].getpixel((0, 0)) == RED


def test_latents_pass_where_the_owner_says_so():
    ui = FakeComfy(given={"x": plain(GREEN)})
    comfy_of().start(ENFORCED | {"NSFW_GUARD_ALLOW_LATENTS": "1"}, find=ui.find)
    ui.post(graph("Encode", ("SaveLatent", "samples")))
    assert ui.sinks["latents"]
    ui, _ = host(plain(GREEN))
    ui.post(graph("Encode", ("SaveLatent", "samples")))
    assert isinstance(ui.errors[0], UncoveredError)
    assert "NSFW_GUARD_ALLOW_LATENTS" in str(ui.errors[0])


@pytest.mark.parametrize("fault", ["raises", "nan", "infinite", "few", "none", "wrong kind", "hangs"])
@pytest.mark.parametrize("name", [n for n in ROWS if n not in ASYNC | {"SaveLatent"}])
def test_a_model_that_fails_lets_nothing_out(name, fault, monkeypatch):
    monkeypatch.setenv("NSFW_GUARD_TIMEOUT", "0.05")
    monkeypatch.setenv("NSFW_GUARD_PREVIEWS", "check")
    image = plain(GREEN)
    ui, _ = host(image, backend=FaultyBackend(fault, seconds=0.3))
    ui.post(ROWS[name][0])
    for one in (one for sink in ui.sinks.values() for one in sink):
        assert not np.array_equal(one if isinstance(one, np.ndarray) else eight(one[0]), eight(image[0]))


def test_a_model_that_is_missing_lets_nothing_out_and_says_why(caplog):
    def load(settings):
        raise RuntimeError("run nsfw-guard fetch")

    ui = FakeComfy(given={"x": plain(GREEN)})
    comfy = Comfy(load=load)
    comfy.start(ENFORCED, find=ui.find)
    ui.post(beside("SaveImage", "SaveImageWebsocket"))
    assert ui.left() == 2
    assert all(len(np.unique(one.reshape(-1, 3), axis=0)) == 1 for sink in ui.sinks.values() for one in sink)
    assert not np.array_equal(ui.sinks["disk"][0], eight(plain(GREEN)[0]))
    assert "nsfw-guard fetch" in caplog.text
    assert "nsfw-guard fetch" in comfy.guard.startup_error


@pytest.mark.parametrize(("error", "paged"), [(WeightsMissingError("run a command"), False), (ValueError("?"), True)])
def test_one_line_at_the_start_says_that_the_model_is_missing(error, paged, caplog):
    def load(settings):
        raise error

    Comfy(load=load).start(ENFORCED, find=FakeComfy(given={}).find)
    (line,) = caplog.records
    assert line.getMessage() == f"NSFW guard: every image is covered: {type(error).__name__}: {error}"
    assert bool(line.exc_info) is paged


def test_a_fault_in_the_hook_stops_the_node(monkeypatch):
    ui, comfy = host(plain(GREEN))

    def breaks(*args, **kwargs):
        raise RuntimeError("broken")

    monkeypatch.setattr(comfy.guard, "guard_images", breaks)
    ui.post(ROWS["SaveImage"][0])
    assert not ui.left()
    assert "broken" in str(ui.errors[0])


def test_a_fault_in_the_preview_hook_shows_nothing(monkeypatch):
    ui, comfy = host(plain(RED))

    def breaks(*args, **kwargs):
        raise RuntimeError("broken")

    monkeypatch.setattr(comfy.guard, "preview", breaks)
    ui.post(ROWS["live preview"][0])
    ui.post(ROWS["own previews"][0])
    assert ui.worst() == 0.0


@pytest.mark.parametrize("call", [
    lambda node, inputs: None, lambda *args, **kwargs: None, lambda obj, input_data_all_batches, server: None,
])  # fmt: skip
def test_an_unknown_host_is_refused_and_stopped(call):
    ui = FakeComfy(given={"x": plain(RED)})
    ui.execution.get_output_data = call
    comfy = comfy_of()
    for _ in range(2):
        with pytest.raises(UncoveredError, match="update nsfw-guard"):
            comfy.start(ENFORCED, find=ui.find)
    with pytest.raises(UncoveredError, match="every node is stopped"):
        ui.execution.get_output_data(obj=None, input_data_all={})
    assert ui.post(graph("SaveImage")) == 400
    assert OUTPUTS in next(row["state"] for row in comfy.coverage() if row["way"] == "SaveImage")
    assert not ui.left()


def test_a_host_without_the_function_runs_nothing():
    ui = FakeComfy(given={"x": plain(RED)})
    del ui.execution.get_output_data
    with pytest.raises(UncoveredError, match="no execution"):
        comfy_of().start(ENFORCED, find=ui.find)
    with pytest.raises(UncoveredError):
        ui.execution.PromptExecutor().execute({}, {})
    assert ui.post(graph("SaveImage")) == 400


def test_a_host_of_which_nothing_is_found_is_refused():
    def find(name):
        raise ImportError(name)

    comfy = comfy_of()
    with pytest.raises(UncoveredError):
        comfy.start(ENFORCED, find=find)
    assert {row["state"][:4] for row in comfy.coverage() if "helpers" not in row["way"]} == {"open", "cann"}


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_hooks_do_not_nest(flavour):
    ui, comfy = host(plain(GREEN), flavour=flavour)
    first = (ui.execution.get_output_data, ui.latent_preview.LatentPreviewer.decode_latent_to_preview_image,
             ui.server.PromptServer.send_sync)  # fmt: skip
    comfy.start(ENFORCED, find=ui.find)
    comfy_of().start(ENFORCED, find=ui.find)
    assert first == (ui.execution.get_output_data, ui.latent_preview.LatentPreviewer.decode_latent_to_preview_image,
                     ui.server.PromptServer.send_sync)  # fmt: skip
    assert len(ui.server.PromptServer.instance.handlers) == 1
    assert getattr(ui.execution, GUARDED_ATTR).__name__ in {"oldest", "sync", "newest"}


def test_not_nested_where_another_wraps_ours():
    ui, comfy = host(plain(RED), flavour="sync")
    ours = ui.execution.get_output_data

    def theirs(*args, **kwargs):
        return ours(*args, **kwargs)

    ui.execution.get_output_data = theirs
    comfy.start(ENFORCED, find=ui.find)
    assert ui.execution.get_output_data is theirs
    ui.post(graph("SaveImage"))
    assert ui.worst() == 0.0


def test_coverage_says_what_is_closed():
    _, comfy = host(plain(GREEN))
    states = {row["way"]: row["state"] for row in comfy.coverage()}
    assert set(states) == {one.way for one in COMFYUI}
    assert {states[one.way] for one in COMFYUI if one.coverable} == {"closed"}
    assert {states[one.way] for one in COMFYUI if not one.coverable} == {"cannot be closed"}
    _, off = host(plain(GREEN), enforce=False)
    assert len(off.guard.coverage.open) == sum(one.coverable for one in COMFYUI)


def test_what_writes_by_itself_is_out_of_reach_and_said_so():
    ui, _ = host(plain(RED))
    ui.post(graph("WritesByItself"))
    assert ui.worst() > 0.9
    assert any("write files themselves" in one.way and not one.coverable for one in COMFYUI)


@pytest.mark.parametrize(("messages", "on"), [({}, True), ({"NSFW_GUARD_ENFORCE": ""}, True),
                                          ({"NSFW_GUARD_ENFORCE": "yes"}, True), ({"NSFW_GUARD_ENFORCE": "0"}, False),
                                          ({"NSFW_GUARD_ENFORCE": " Off"}, False)])  # fmt: skip
def test_enforced_unless_its_owner_wants_the_nodes_alone(messages, on):
    ui = FakeComfy(given={"x": plain(RED)})
    assert comfy_of().start(messages, find=ui.find) is on
    ui.post(graph("SaveImage"))
    assert (ui.worst() == 0.0) is on


@pytest.mark.parametrize(("messages", "faults"), [
    ({}, []),
    ({"NSFW_GUARD_ENFORCE": "0"}, ["its nodes alone are there, no graph is covered"]),
])  # fmt: skip
def test_the_host_can_be_asked_what_is_in_effect(messages, faults):
    ui, comfy = FakeComfy(given={"x": plain(RED)}), comfy_of()
    for _ in range(2):  # loaded twice, there is one route
        comfy.start(messages, find=ui.find)
    (route,) = ui.server.PromptServer.instance.routes
    answer = asyncio.run(route.handler(None))
    images = _faults("comfyui", json.loads(answer))
    assert [one.partition(":")[0] for one in images if not one.startswith("not closed")] == faults
    assert (route.path, bool(faults)) == (STATUS, any(one.startswith("not closed") for one in images))


def test_a_host_without_routes_is_guarded_all_the_same(caplog):
    ui = FakeComfy(given={"x": plain(RED)})
    del ui.server.PromptServer.instance.routes
    assert comfy_of().start({}, find=ui.find)
    ui.post(graph("SaveImage"))
    assert ui.worst() == 0.0
    assert "no route for its state" in caplog.text


def test_locked_settings_enforce(monkeypatch):
    monkeypatch.setenv("NSFW_GUARD_ACTION", "block")
    ui = FakeComfy(given={"x": plain(RED)})
    assert comfy_of().start({}, find=ui.find)
    ui.post(graph("SaveImage"))
    assert ui.worst() == 0.0


def test_locked_settings_that_cannot_be_read_cover_everything(monkeypatch):
    monkeypatch.setenv("NSFW_GUARD_ACTION", "nonsense")
    ui = FakeComfy(given={"x": plain(GREEN)})
    assert comfy_of().start({}, find=ui.find)
    ui.post(graph("SaveImage"))
    assert not np.array_equal(ui.sinks["disk"][0], eight(plain(GREEN)[0]))


def test_a_guard_that_its_owner_switched_off_touches_nothing(monkeypatch):
    monkeypatch.setenv("NSFW_GUARD_ENABLED", "false")
    ui = FakeComfy(given={"x": plain(RED)})
    assert comfy_of().start({}, find=ui.find)
    for name in ("SaveImage", "SaveLatent", "own previews", "live preview"):
        ui.post(ROWS[name][0])
    assert not ui.errors
    assert ui.left() == 6


def test_an_image_that_poses_as_sound_is_judged():
    ui, _ = host({"waveform": plain(RED), "sample_rate": 8})
    ui.post(graph(("SaveAny", "anything")))
    assert not torch.equal(ui.sinks["disk"][0]["waveform"], plain(RED))


def test_an_output_node_cannot_send_what_it_was_not_handed():
    ui, _ = host(plain(GREEN))
    ui.post(graph("SendsAnother"))
    assert len(ui.sinks["websocket"]) == 1
    assert ui.worst() == 0.0
