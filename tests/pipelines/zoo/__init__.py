"""Tiny, random-weight, real pipelines, built in code: no network, no file, each in well under a second."""

from tests.pipelines.zoo.classic import CLASSIC
from tests.pipelines.zoo.dit import DIT
from tests.pipelines.zoo.flux import FLUX
from tests.pipelines.zoo.late import LATE
from tests.pipelines.zoo.parts import Case, run, table
from tests.pipelines.zoo.sd import SD
from tests.pipelines.zoo.sdxl import SDXL
from tests.pipelines.zoo.video import VIDEO

CASES = table(
    *SD.values(), *SDXL.values(), *FLUX.values(), *CLASSIC.values(), *DIT.values(), *VIDEO.values(), *LATE.values()
)

__all__ = ["CASES", "Case", "run"]
