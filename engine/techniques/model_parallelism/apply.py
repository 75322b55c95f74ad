"""Model parallelism: says how the deployment is cut; the executors do it when it is opened."""

from __future__ import annotations

import time

from engine.domain.deployment import Applied, Deployment
from engine.domain.experiment import StageFacts
from engine.domain.layout import Cut
from engine.domain.ports import Context
from engine.techniques.model_parallelism.spec import SPEC, Kind, ModelParallelismConfig, Split
from engine.techniques.model_parallelism.support import degrees_for


class ModelParallelism:
    """Weights are cut last, when the parts are opened, so that every rewrite before it is the same as without it."""

    spec = SPEC

    def apply(self, deployment: Deployment, config: ModelParallelismConfig, context: Context) -> Applied:
        """Sets the layout. What came of it is proven once the lowered files are there: see engine.executors.proof."""
        began = time.perf_counter()
        card = deployment.card
        facts: dict[str, float | int | str | bool] = {"kind": str(config.kind), "degree": config.degree}
        remarks: tuple[str, ...] = ()
        attention = False
        if config.kind is Kind.TENSOR:
            whole = degrees_for(card, attention=True)
            attention = config.split is not Split.MLP and config.degree in whole
            facts["attention_split"] = attention
            if not attention and config.split is Split.AUTO:
                remarks = (
                    f"Only the MLPs are split: {card.num_heads} heads and {card.num_kv_heads} key-value heads do not divide by "
                    f"{config.degree}"
                    + (f"; degrees of {', '.join(map(str, whole[:4]))} would split attention too." if whole else "."),
                )
        layout = type(deployment.layout)(
            cut=Cut(str(config.kind)), degree=config.degree, microbatches=config.microbatches,
            split_attention=attention, hosts=config.hosts, timeout=config.timeout,
        )  # fmt: skip
        return Applied(
            deployment.with_(layout=layout), StageFacts(self.spec.id, time.perf_counter() - began, facts, remarks)
        )
