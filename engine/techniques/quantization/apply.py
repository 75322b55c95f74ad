"""Quantization: says which number formats the runtime shall realise when it lowers, and trains for them if asked to."""

from __future__ import annotations

import time

from engine.domain.deployment import Applied, Deployment, Formats, NumberFormat, QuantizationMode
from engine.domain.experiment import LOSS_CURVE, Attachment, StageFacts
from engine.domain.ports import Context
from engine.techniques.quantization.spec import SPEC, KVCache, Mode, QuantizationConfig


class Quantization:
    """Formats are realised last and by the runtime's own library, because no quantizer survives another's export."""

    spec = SPEC

    def apply(self, deployment: Deployment, config: QuantizationConfig, context: Context) -> Applied:
        """Sets `formats`; mode `auto` leaves the mode open (NONE) for the runtime to choose.

        Proof and facts of what came of it are the runtime's: see its lowering.
        """
        began = time.perf_counter()
        mode = QuantizationMode.NONE if config.mode is Mode.AUTO else QuantizationMode(str(config.mode))
        formats = Formats(
            weights=NumberFormat(str(config.format)), mode=mode, group_size=config.group_size,
            calibration=config.calibration, smooth=config.smooth, ratio=config.ratio, fallback=config.fallback,
            shortlist=config.shortlist,
            kv_cache=NumberFormat.INT8 if config.kv_cache is KVCache.INT8 else NumberFormat.FP32,
        )  # fmt: skip
        asked = {name: value for name, value in config.spelled().items() if name not in ("format", "mode")}
        facts: dict[str, float | int | str | bool] = {
            "format_requested": str(config.format), "mode_requested": str(config.mode),
            **{f"{name}_requested": str(value) if isinstance(value, str) else value for name, value in asked.items()},
        }  # fmt: skip
        deployment = deployment.with_(formats=formats)
        if not config.qat:
            return Applied(deployment, StageFacts(self.spec.id, time.perf_counter() - began, facts))
        # torchao's training is not loaded by the recipes that do without
        from engine.techniques.quantization.aware import train_aware

        variant, taught = train_aware(deployment, config, context)
        curve = Attachment(LOSS_CURVE, [taught.curve])
        stage = StageFacts(self.spec.id, time.perf_counter() - began, facts | taught.facts, taught.remarks, (curve,))
        return Applied(deployment.with_(variant=variant), stage)
