"""The techniques, listed by hand. A new technique is one line here.

Forms, grammar, planner, command line and documentation are derived from this tuple.
"""

from __future__ import annotations

from engine.domain.errors import RecipeError
from engine.domain.technique import TechniqueSpec
from engine.techniques.distillation.spec import SPEC as DISTILLATION
from engine.techniques.distributed.spec import SPEC as DISTRIBUTED
from engine.techniques.fpga.spec import SPEC as FPGA
from engine.techniques.gpu.spec import SPEC as GPU
from engine.techniques.model_parallelism.spec import SPEC as MODEL_PARALLELISM
from engine.techniques.pruning.spec import SPEC as PRUNING
from engine.techniques.quantization.spec import SPEC as QUANTIZATION

TECHNIQUES: tuple[TechniqueSpec, ...] = (
    DISTILLATION, PRUNING, QUANTIZATION, GPU, FPGA, MODEL_PARALLELISM, DISTRIBUTED,
)  # fmt: skip


def spec_of(technique: str) -> TechniqueSpec:
    """Raises RecipeError when no technique has this id."""
    for spec in TECHNIQUES:
        if spec.id == technique:
            return spec
    raise RecipeError(
        f"There is no technique {technique!r}.",
        mend=f"Known techniques: {', '.join(s.id for s in TECHNIQUES)}.",
        where=technique,
    )
