"""The model on openvino: `infer` any model, `generate` causal LMs, whose KV cache is the request's state."""

import numpy as np
import openvino


class Model:
    def __init__(self, directory, about, threads=0):
        properties = {"PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": "1", **about["properties"]}
        if threads:
            properties["INFERENCE_NUM_THREADS"] = str(threads)
        self.request = openvino.Core().compile_model(str(directory / "model.xml"), "CPU", properties).create_infer_request()
        self.inputs = [port.get_any_name() for port in self.request.model_inputs]
        self.outputs = [port.get_any_name() for port in self.request.model_outputs]

    def infer(self, batch):
        if "kept" in self.inputs:
            ids = batch["input_ids"]
            self.request.reset_state()
            return {"logits": self.run(ids, np.arange(ids.shape[1])).copy()}
        self.request.infer({name: batch[name] for name in self.inputs})
        return {name: self.request.get_tensor(name).data.copy() for name in self.outputs}

    def generate(self, ids, new_tokens):
        self.request.reset_state()
        tokens = [self.run(ids, np.array([ids.shape[1] - 1]))[:, -1].argmax(-1)]
        while len(tokens) < new_tokens:
            tokens.append(self.run(tokens[-1][:, None], np.array([0]))[:, -1].argmax(-1))
        return np.stack(tokens, axis=1)

    def run(self, ids, kept):
        """Logits of the positions `kept` among `ids`, which follow what the state holds."""
        self.request.infer({"input_ids": ids, "kept": kept, "rows": np.arange(len(ids), dtype=np.int32)})
        return self.request.get_tensor("logits").data
