"""Cases that go further: what the first ones leave out, and whole pipelines from words to pictures."""

from __future__ import annotations

from tests.pipelines.zoo.wide.classic import CLASSIC
from tests.pipelines.zoo.wide.dit import DIT
from tests.pipelines.zoo.wide.flux import FLUX
from tests.pipelines.zoo.wide.late import LATE
from tests.pipelines.zoo.wide.parts import table
from tests.pipelines.zoo.wide.sd import SD
from tests.pipelines.zoo.wide.sdxl import SDXL
from tests.pipelines.zoo.wide.video import VIDEO

CASES = list(table(*(case for part in (SD, SDXL, FLUX, CLASSIC, DIT, VIDEO, LATE) for case in part.values())).values())
