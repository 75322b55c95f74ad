"""Model parallelism: says how the deployment is cut; the executors do it when it is opened."""

from __future__ import annotations

import time
from pathlib import Path

from engine.domain.deployment import Applied, Deployment
from engine.domain.errors import StageError
from engine.domain.experiment import StageFacts
from engine.domain.layout import Cut
from engine.domain.ports import Context
from engine.techniques.model_parallelism.spec import SPEC, Kind, ModelParallelismConfig, Split
from engine.techniques.model_parallelism.support import MOST, degrees_for, heads_of_cut


class ModelParallelism:
    """Weights are cut last, when the parts are opened, so that every rewrite before it is the same as without it."""

    spec = SPEC

    def apply(self, deployment: Deployment, config: ModelParallelismConfig, context: Context) -> Applied:
        """Sets the layout. What came of it is proven once the lowered files are there: see engine.executors.proof."""
        began = time.perf_counter()
        facts: dict[str, float | int | str | bool] = {"kind": str(config.kind), "degree": config.degree}
        remarks: tuple[str, ...] = ()
        attention = False
        if config.kind is Kind.TENSOR:
            able, heads = _heads(deployment)
            attention = config.split is not Split.MLP and config.degree in able
            if config.split is Split.WHOLE and not attention:
                raise StageError(f"{heads} do not divide by {config.degree}.", mend="Choose split=mlp, or another sparsity before it.")
            facts["attention_split"] = attention
            if not attention and config.split is Split.AUTO:
                others = f"; degrees of {', '.join(map(str, able[:4]))} would split attention too." if able else "."
                remarks = (f"Only the MLPs are split: {heads} do not divide by {config.degree}{others}",)
        layout = type(deployment.layout)(
            cut=Cut(str(config.kind)), degree=config.degree, microbatches=config.microbatches,
            split_attention=attention, hosts=config.hosts, timeout=config.timeout,
        )  # fmt: skip
        return Applied(
            deployment.with_(layout=layout), StageFacts(self.spec.id, time.perf_counter() - began, facts, remarks)
        )


def _heads(deployment: Deployment) -> tuple[tuple[int, ...], str]:
    """Degrees that divide all heads there are now, and these in words."""
    card = deployment.card
    left = sorted(heads_of_cut(Path(deployment.variant.directory)))
    if left:
        return tuple(n for n in range(2, MOST + 1) if all(count % n == 0 for count in left)), f"{', '.join(map(str, left))} heads left by an earlier stage"
    return degrees_for(card, attention=True), f"{card.num_heads} heads and {card.num_kv_heads} key-value heads"
