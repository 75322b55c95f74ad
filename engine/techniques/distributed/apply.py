"""Distributed parallel inference: says how many replicas serve, and what batch each is made for."""

from __future__ import annotations

import math
import time
from dataclasses import replace

from engine.domain.deployment import Applied, Deployment
from engine.domain.experiment import StageFacts
from engine.domain.ports import Context
from engine.techniques.distributed.spec import SPEC, DistributedConfig


class Distributed:
    """Every replica is lowered at its share of the batch; all open the same files."""

    spec = SPEC

    def apply(self, deployment: Deployment, config: DistributedConfig, context: Context) -> Applied:
        """Sets replicas and the batch of each: the workload's, shared out and rounded up."""
        began = time.perf_counter()
        batch = deployment.workload.batch_size
        share = math.ceil(batch / config.replicas)
        layout = replace(
            deployment.layout, replicas=config.replicas, max_batch=config.max_batch or share,
            max_wait_ms=config.max_wait_ms, queue=config.queue, hosts=max(config.hosts, deployment.layout.hosts),
            timeout=max(config.timeout, deployment.layout.timeout) if deployment.layout.is_spread else config.timeout,
        )  # fmt: skip
        facts: dict[str, float | int | str | bool] = {
            "replicas": config.replicas, "batch": batch, "batch_of_a_replica": share, "queue": config.queue,
        }  # fmt: skip
        remarks: tuple[str, ...] = ()
        if batch < config.replicas:
            remarks = (
                f"A call of {batch} item{'s' * (batch > 1)} cannot be shared among {config.replicas} replicas: its latency stays; "
                "what grows is the number of calls that are served at once.",
            )
        workload = replace(deployment.workload, batch_size=share)
        return Applied(
            deployment.with_(layout=layout, workload=workload),
            StageFacts(self.spec.id, time.perf_counter() - began, facts, remarks),
        )
