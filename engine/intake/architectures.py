"""The architectures that are taken, and what each is for.

Each model type here was tried: a tiny instance is taken in, loaded and run by the
tests. transformers knows more, whose caches, masks or inputs the runtimes cannot
serve yet.
"""

from __future__ import annotations

from typing import Any

from engine.domain.artifact import TaskId
from engine.domain.errors import IntakeError

TEXT_ENCODERS = frozenset({
    "albert", "bert", "camembert", "convbert", "deberta", "deberta-v2", "distilbert", "electra", "ernie", "gte",
    "mobilebert", "modernbert", "mpnet", "nomic_bert", "roberta", "roformer", "xlm-roberta",
})  # fmt: skip
CAUSAL_LMS = frozenset({
    "bloom", "cohere", "exaone4", "falcon", "gemma", "gemma2", "gemma3_text", "glm", "gpt2", "gpt_bigcode", "gpt_neo",
    "gpt_neox", "gptj", "granite", "helium", "llama", "ministral", "mistral", "nemotron", "olmo", "olmo2", "opt", "phi",
    "phi3", "qwen2", "qwen3", "smollm3", "stablelm", "starcoder2",
})  # fmt: skip
IMAGE_CLASSIFIERS = frozenset({
    "beit", "bit", "convnext", "convnextv2", "deit", "dinov2", "efficientnet", "mobilenet_v1", "mobilenet_v2", "mobilevit",
    "regnet", "resnet", "swin", "swinv2", "vit",
})  # fmt: skip
FIXED_IMAGE = frozenset({"beit", "deit", "dinov2", "mobilevit", "swin", "swinv2", "vit"})
"""Image classifiers whose positions are laid out for one image size."""
_SUFFIXES = {
    "ForCausalLM": TaskId.CAUSAL_LM,
    "LMHeadModel": TaskId.CAUSAL_LM,
    "ForSequenceClassification": TaskId.TEXT_CLASSIFIER,
    "ForImageClassification": TaskId.IMAGE_CLASSIFIER,
    "ForMaskedLM": TaskId.TEXT_ENCODER,
    "ForPreTraining": TaskId.TEXT_ENCODER,
    "Model": TaskId.TEXT_ENCODER,
}
_TYPES = {
    TaskId.TEXT_ENCODER: TEXT_ENCODERS,
    TaskId.TEXT_CLASSIFIER: TEXT_ENCODERS,
    TaskId.CAUSAL_LM: CAUSAL_LMS,
    TaskId.IMAGE_CLASSIFIER: IMAGE_CLASSIFIERS,
}


def architecture_of(config: dict[str, Any]) -> tuple[str, TaskId]:
    """The class config.json names, and its task. Raises IntakeError listing what is supported."""
    model_type = config.get("model_type")
    named = config.get("architectures")
    if not isinstance(model_type, str):
        raise IntakeError(
            "config.json has no model_type.",
            mend="Save the model with save_pretrained of transformers.",
            where="config.json",
        )
    if not isinstance(named, list) or not named or not isinstance(named[0], str):
        return model_type, _default_task(model_type)
    return named[0], task_of_class(named[0], model_type)


def task_of_class(name: str, model_type: str) -> TaskId:
    for suffix, task in _SUFFIXES.items():
        if name.endswith(suffix) and model_type in _TYPES[task]:
            return task
    raise unknown(name, model_type)


def _default_task(model_type: str) -> TaskId:
    for task in (TaskId.TEXT_ENCODER, TaskId.CAUSAL_LM):
        if model_type in _TYPES[task]:
            return task
    raise unknown(model_type, model_type)


def unknown(name: str, model_type: str) -> IntakeError:
    return IntakeError(
        f"The architecture {name} (model_type {model_type}) is not supported.",
        mend=f"Supported are text encoders and sequence classifiers ({', '.join(sorted(TEXT_ENCODERS))}), "
        f"causal LMs ({', '.join(sorted(CAUSAL_LMS))}) and image classifiers ({', '.join(sorted(IMAGE_CLASSIFIERS))}). "
        "Any other model can be exported to ONNX and uploaded as that.",
        where="config.json",
    )
