"""The networks of nsfwjs beside nsfwjs itself: its own code with TensorFlow.js, run by node.

Skipped unless NSFW_GUARD_NSFWJS names the folder of the unpacked package (`npm pack nsfwjs@4.3.0`, then `tar xzf`).
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

from nsfw_guard.backends import loaders
from nsfw_guard.backends.base import Options
from nsfw_guard.backends.catalog.packages import NSFWJS_MODELS
from nsfw_guard.backends.layers.layers_model import LayersNet, contents, convert
from nsfw_guard.imaging.aligned import aligned
from nsfw_guard.imaging.frames import Frames
from tests.backends.layers.varied import varied

PACKAGE = Path(os.environ.get("NSFW_GUARD_NSFWJS", "") or "missing")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (PACKAGE / "dist").is_dir(), reason="NSFW_GUARD_NSFWJS must name the unpacked package"),
]
LIBRARIES = ("@tensorflow/tfjs@4.22.0", "@tensorflow/tfjs-backend-wasm@4.22.0")
# Per record the folder of the network, and what its module exports.
NETWORKS = {
    "nsfwjs-mobilenet": ("mobilenet_v2", "MobileNetV2Model"),
    "nsfwjs-mobilenet-mid": ("mobilenet_v2_mid", "MobileNetV2MidModel"),
    "nsfwjs-inception": ("inception_v3", "InceptionV3Model"),
}
COUNT = 220
# The resize runs in plain JavaScript, the networks in WebAssembly (in JavaScript they would take hours); the first
# `few` images run wholly in plain JavaScript too, by nsfwjs' own `infer`.
RUNNER = """
const fs = require("fs"), tf = require("@tensorflow/tfjs"), wasm = require("@tensorflow/tfjs-backend-wasm");
const [folder, file, exported, size, few] = process.argv.slice(2);
const side = Number(size), shapes = JSON.parse(fs.readFileSync(`${folder}/shapes.json`));
const model = require(`nsfwjs/models/${file}`)[exported];
const pixels = (i) => tf.tensor3d(new Uint8Array(fs.readFileSync(`${folder}/${i}.rgb`)), shapes[i], "int32");
(async () => {
  wasm.setWasmPaths(require("path").dirname(require.resolve("@tensorflow/tfjs-backend-wasm")) + "/");
  await tf.setBackend("cpu");
  const options = { size: side, ...model.options, modelDefinitions: [model] };
  const net = await require("nsfwjs/core").load(model.name, options);
  const slow = [], out = fs.openSync(`${folder}/${file}.resized`, "w"), probabilities = [];
  for (let i = 0; i < Number(few); i++) slow.push(Array.from(await net.infer(pixels(i)).data()));
  for (let i = 0; i < shapes.length; i++) {
    await tf.setBackend("cpu");
    const whole = pixels(i), unit = whole.toFloat().div(tf.scalar(255));
    const same = shapes[i][0] === side && shapes[i][1] === side;
    const resized = same ? unit : tf.image.resizeBilinear(unit, [side, side], true);
    const values = resized.dataSync();
    fs.writeSync(out, Buffer.from(values.buffer, values.byteOffset, values.byteLength));
    await tf.setBackend("wasm");
    const rows = net.model.predict(tf.tensor4d(new Float32Array(values), [1, side, side, 3]));
    probabilities.push(Array.from(await rows.data()));
    whole.dispose(); unit.dispose(); resized.dispose(); rows.dispose();
  }
  fs.writeFileSync(`${folder}/${file}.json`, JSON.stringify({ probabilities, slow }));
})();
"""


@pytest.fixture(scope="module")
def node(tmp_path_factory) -> Path:
    """A folder where node finds TensorFlow.js and nsfwjs."""
    npm, folder = shutil.which("npm"), tmp_path_factory.mktemp("node")
    if npm is None or shutil.which("node") is None:
        pytest.skip("node and npm run TensorFlow.js: install them")
    (folder / "package.json").write_text("{}")
    done = subprocess.run(
        [npm, "install", "--no-audit", "--no-fund", "--ignore-scripts", *LIBRARIES],
        cwd=folder, capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    if done.returncode:
        pytest.skip(f"npm cannot install TensorFlow.js here: {done.stderr[-300:]}")
    shutil.copytree(PACKAGE, folder / "node_modules" / "nsfwjs")
    (folder / "run.js").write_text(RUNNER)
    return folder


@pytest.fixture(scope="module")
def images(node) -> list[np.ndarray]:
    """The images, written for node as plain bytes."""
    images = varied(COUNT)
    for i, image in enumerate(images):
        (node / f"{i}.rgb").write_bytes(image.tobytes())
    (node / "shapes.json").write_text(json.dumps([image.shape for image in images]))
    return images


@pytest.mark.parametrize("spec", NSFWJS_MODELS, ids=lambda spec: spec.name)
def test_the_network_becomes_the_recorded_files(spec) -> None:
    layers, tensors = convert(spec, PACKAGE / "dist" / "models" / spec.package.folder)
    written = contents(LayersNet(layers), tensors, spec)
    hashes = {name: hashlib.sha256(data).hexdigest() for name, data in written.items()}
    assert hashes == {file.name: file.sha256 for file in spec.package.converted}
    assert {name: len(data) for name, data in written.items()} == {f.name: f.size for f in spec.package.converted}


@pytest.mark.parametrize("spec", NSFWJS_MODELS, ids=lambda spec: spec.name)
def test_resize_and_probabilities_are_those_of_tensorflow_js(spec, node, images, record_property) -> None:
    name, exported = NETWORKS[spec.name]
    side, few = spec.input.size, 2 if "inception" in spec.name else 4
    subprocess.run(["node", "run.js", ".", name, exported, str(side), str(few)], cwd=node, check=True, timeout=3600)
    theirs = json.loads((node / f"{name}.json").read_text())
    resized = np.fromfile(node / f"{name}.resized", "<f4").reshape(-1, side, side, 3)
    backend = loaders.load_files(spec, PACKAGE / "dist" / "models" / name, Options())
    resizes, apart, slow = [], [], []
    for i, image in enumerate(images):
        pixels = torch.from_numpy(image).permute(2, 0, 1)[None]
        ours = aligned(pixels, (side, side))[0].permute(1, 2, 0) / 255
        resizes.append(float((ours - torch.from_numpy(resized[i])).abs().max()))
        with torch.inference_mode():
            shown = backend.preprocess.prepare(Frames(pixels)).pixels[:, 0]
            answers = backend.to_probabilities(backend.forward_with_embedding(shown)[0])[0].numpy()
        apart.append(float(np.abs(answers - theirs["probabilities"][i]).max()))
        if i < few:
            slow.append(float(np.abs(answers - theirs["slow"][i]).max()))
    spread = np.ptp(theirs["probabilities"], axis=0)
    figures = (
        f"{len(images)} images: resize {max(resizes):.2e}, probabilities {max(apart):.2e} (wasm), {max(slow):.2e} (js)"
    )
    record_property("figures", figures)
    print(f"\n{spec.name}: {figures}; each class spreads over {spread.round(2)}")  # noqa: T201
    assert max(resizes) <= 1e-6
    assert max(*apart, *slow) <= 1e-4
    assert spread.max() > 0.5, "the images must be told apart"
