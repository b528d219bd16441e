"""Faults that no test can notice, each with the reason why: the module behaves the same with them."""

from __future__ import annotations

_NOT_MISSING = "decide has returned an ERROR by then where a score is missing, so it is a number: 0.0 stands for 0.0"
_ASKED_AGAIN = "decide asks for missing scores itself, before it looks at any outcome"
_ONE = "a batch of one: its first image is its last"
_NOT_LESS = "a side is never shorter than the short side, and strength is at most 1: 1 or more before `max` sees it"
_WHOLE = "the shares of equal spans add up to 1 but for rounding"
_TWELVE = "a side is never shorter than the short side, so this is 12 or more before `max` sees it"
_DEVICE = "runs only where an image is on an accelerator: tests/pipelines/test_gpu.py"
_ALL_OPAQUE = "of an opaque image the twins on black and on white are the image, which is not given twice"
_STRIPS = "how many rows are counted at a time: the same numbers"
_LOW_BYTE = "257 times a level is that level again in 8 bits, and longer numbers have no range"
_ONCE_MORE = "what repeats is looked at once more"
_LAST_PART = "what has no frames is the last part of its image: one pixel of sixteen million"
_LISTED = "a list of names for readers"

EQUIVALENT: dict[str, str] = {
    "policy.policy.Policy.decide: f.score or 0.0 -> f.score": _NOT_MISSING,
    "policy.policy._findings: Outcome.ERROR -> Outcome.ALLOW": _ASKED_AGAIN,
    "policy.policy._findings: Outcome.ERROR -> Outcome.REVIEW": _ASKED_AGAIN,
    "policy.policy._findings: Outcome.ERROR -> Outcome.BLOCK": _ASKED_AGAIN,
    "scores.Scores.worst: p <= into[level] -> p < into[level]": "of two equal numbers either may stay",
    "scores.plain: type(value) is float -> False": "a short cut: the way below gives the same float",
    "actions._Averaging.colours: 1 -> 0 (2)": _NOT_LESS,
    "actions._between: 0 -> -1": _ONE,
    "actions.Pixelate.cover: 0 -> -1": _ONE,
    "actions.Pixelate.cover: 1 -> 2 (2)": _TWELVE,
    "actions.Pixelate.cover: 1 -> 0 (2)": _TWELVE,
    "imaging.frames.: 16000000 -> 16000001": "how much is judged at a time: no image is judged otherwise",
    "imaging.frames._grouped: 0 -> -1 (2)": _LAST_PART,
    "imaging.frames._parts: image.shape[0] == 4 and image.device.type != 'cpu' -> image.device.type != 'cpu'": _DEVICE,
    "imaging.frames._parts: image.shape[0] == 4 and image.device.type != 'cpu' -> False": _DEVICE,
    "imaging.frames._parts: image.shape[0] == 4 -> image.shape[0] != 4": _DEVICE,
    "imaging.frames._parts: 0 -> 1 (2)": _DEVICE,
    "imaging.frames._parts: 0 -> -1 (2)": _DEVICE,
    "imaging.frames._parts: 4 -> 5 (2)": _DEVICE,
    "imaging.frames._parts: 4 -> 3 (2)": _DEVICE,
    "imaging.frames._parts: yield Part(Frames(alpha_composites(image, value_range))) -> nothing": _DEVICE,
    "imaging.frames._grouped: 0 -> 1 (2)": _LAST_PART,
    "imaging.put_back.put_back: 'unit' -> ''": "what is not signed is unit",
    "imaging.put_back._like: old.dtype.kind == 'u' and old.dtype.itemsize == 2 -> old.dtype.kind == 'u'": _LOW_BYTE,
    "imaging.frames.first_frame: 1 -> 2": "of the frames that are kept the first is taken",
    "imaging.frames.first_frame: 0 -> -1 (2)": "one frame is left: the first is the last",
    "imaging.put_back._like: 0 -> -1 (4)": "there is one channel: the first is the last",
    "imaging.decode.: 'Decoded' -> ''": _LISTED,
    "imaging.decode.: 16384 -> 16385": "what a tiny frame costs at the least: one pixel more",
    "imaging.decode.: 16384 -> 16383": "what a tiny frame costs at the least: one pixel less",
    "imaging.decode.Stream.__init__: True -> False": "a list that is not empty says that it was warned of",
    "imaging.decode.Stream._image: data -> True (2)": "the first image of a walk is compared with none either way",
    "imaging.decode.Stream._walk: count > 1 -> count >= 1 (2)": "an image of one frame stands at it already",
    "imaging.decode.Stream._walk: work(image, container.profiles) == 1 -> "
    "work(image, container.profiles) != 1": _ONCE_MORE,
    "imaging.decode.Stream._walk: count == 1 and (not self._seen) and (work(image, container.profiles) == 1) -> "
    "not self._seen and work(image, container.profiles) == 1": _ONCE_MORE,
    "imaging.decode.Stream._wanted: count > most -> count >= most": "as many as there are: all of them",
    "imaging.decode.Stream._wanted: count > most -> True": "of fewer than are looked at each one is sampled",
    "imaging.decode.Stream._walk: count == 1 and (not self._seen) and (work(image, container.profiles) == 1) -> "
    "count == 1 and (not self._seen)": _ONCE_MORE,
    **{f"imaging.decode.Stream._walk: 1 -> {n} ({which})": _ONCE_MORE for n in (0, 2) for which in (2, 3)},
    "imaging.decode.Stream._walk: index in wanted -> True": "what is not looked at is decoded for nothing",
    "imaging.decode.Stream._walk: len(wanted) < count -> len(wanted) <= count": "as many as there are: all of them",
    "imaging.decode.Stream._composed: size[0] * size[1] -> size[0] / size[1]": "the canvas was foreseen by the walk",
    "imaging.decode.Stream._composed: self._budget.foresee(sum(areas)) -> nothing": "each is booked as it is made",
    "imaging.decode.Stream._walk_callers: image.format == 'PNG' -> True": "the others go back from anywhere",
    "imaging.decode.Stream._walk_callers: image.tobytes() != before.tobytes() -> True": "the same pixels once more",
    "imaging.decode._array: 0 -> -1 (2)": "half a level below 0 is rounded to 0",
    "imaging.decode._array: 0 -> -1 (3)": "of one channel the last is the first",
    "imaging.appearances.: 4000000 -> 4000001": _STRIPS,
    "imaging.appearances.: 4000000 -> 3999999": _STRIPS,
    "imaging.appearances._turns: 'TIFF' -> ''": "Pillow from 10 on drops the tag when it has turned a TIFF",
    "imaging.appearances._turns: image.format == 'TIFF' -> False": "Pillow from 10 on drops the tag",
    "imaging.appearances._on_grounds: alpha.getextrema() == (255, 255) -> False": _ALL_OPAQUE,
    "imaging.appearances._on_grounds: 255 -> 256": _ALL_OPAQUE,
    "imaging.appearances._on_grounds: 255 -> 256 (2)": _ALL_OPAQUE,
    "imaging.appearances._on_grounds: 0 -> -1": "Pillow takes a level below 0 for 0",
    "imaging.appearances._colours: 'L' -> ''": "grey as RGB is made grey again before it is shown: the same levels",
    "imaging.appearances._clear: image.mode == 'P' and image.palette is not None and "
    "image.palette.mode.endswith('A') -> image.palette is not None and "
    "image.palette.mode.endswith('A')": "no other mode has its own palette, but for PA, which is clear either way",
    "imaging.appearances._levels: max(1, _STRIP // max(1, wide.shape[1])) -> "
    "min(1, _STRIP // max(1, wide.shape[1]))": _STRIPS,
    "imaging.appearances._levels: _STRIP // max(1, wide.shape[1]) -> _STRIP * max(1, wide.shape[1])": _STRIPS,
    "imaging.appearances._levels: 1 -> 0 (2)": _STRIPS,
    "imaging.appearances._levels: 1 -> 0 (3)": _STRIPS,
    "imaging.appearances.appearances: image.load() -> nothing": "what is lazy is loaded by the first look at it",
    "imaging.appearances.appearances: 1 -> 0": "a hash of what has nothing to be compared with",
    "imaging.appearances._on_grounds: 255 -> 256 (3)": "Pillow takes a level over 255 for 255",
    "imaging.appearances._turns: 1 -> 0": "neither number turns anything",
    "imaging.appearances._is_agreed: 1 -> 0": "the first directory of a block comes whatever the most is",
    "imaging.appearances._is_agreed: 1 -> 2": "the first directory of a block is taken",
    "imaging.appearances._on_grounds: 255 -> 254 (2)": _ALL_OPAQUE,
    "imaging.appearances._narrowed: high > most -> high >= most": "just as high, both ranges are one",
    "imaging.appearances._levels: 1 -> 2": _STRIPS,
    "imaging.appearances._levels: 1 -> 2 (3)": _STRIPS,
    "imaging.appearances._levels: max(1, wide.shape[1]) -> min(1, wide.shape[1])": _STRIPS,
    "imaging.appearances._levels: 1.0 -> 2.0": "where all are equal there is nothing to stretch: 0 times anything",
    "actions._shares: covered / covered.sum(1, keepdim=True) -> covered * covered.sum(1, keepdim=True)": _WHOLE,
}
