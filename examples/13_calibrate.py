"""Turns scores into frequencies, and sets a threshold that promises something, or says what that would take."""

import tempfile
from pathlib import Path

import numpy as np

from nsfw_guard import Calibrated, Guard, load_model
from nsfw_guard.demo.shapes import draw, random_scene, severity
from nsfw_guard.tools.teaching.calibrate import Wanted, calibrate
from nsfw_guard.tools.teaching.labelled import read_labelled
from nsfw_guard.tools.teaching.promise import TooFewImagesError
from nsfw_guard.tools.teaching.scored import score_images

model, rng = load_model("demo-shapes"), np.random.default_rng(7)
with tempfile.TemporaryDirectory() as home:  # in earnest: your own images, in folders by label
    for number in range(1500):
        scene = random_scene(rng, shapes=2)
        folder = Path(home, "red-disc" if severity(scene) else "safe")
        folder.mkdir(exist_ok=True)
        draw(scene, side=64, rng=rng).save(folder / f"{number}.png")
    images = list(score_images(model, read_labelled([home], ["red-disc"], {})))

try:
    calibrate(model, images, Wanted(misses=0.01))
except TooFewImagesError as error:
    print("a promise of 1% is refused: needs", error.needed, "unsafe images, got", error.count)

result = calibrate(model, images, Wanted(alarms=0.05, review=0.05), source="drawn shapes")
guard = Guard(Calibrated(model, result.calibration))
print(result.calibration.thresholds["default"].source, "|", result.categories["red-disc"].promise)
