"""The model on onnxruntime: `infer` any model, `generate` causal LMs with their KV cache in fixed buffers."""

import numpy as np
import onnxruntime


class Model:
    def __init__(self, directory, about, threads=0):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        self.session = onnxruntime.InferenceSession(str(directory / "model.onnx"), options, providers=["CPUExecutionProvider"])
        self.types = {i.name: i.type for i in self.session.get_inputs()}
        self.past = {i.name: i.shape for i in self.session.get_inputs() if i.name.startswith("past_")}

    def infer(self, batch):
        if self.past:
            ids = batch["input_ids"]
            return {"logits": self.run(ids, 0, np.arange(ids.shape[1]), self.buffers(ids.shape[1]))}
        outputs = self.session.run(None, {name: batch[name] for name in self.types})
        return dict(zip((o.name for o in self.session.get_outputs()), outputs, strict=True))

    def generate(self, ids, new_tokens):
        prompt = ids.shape[1]
        buffers = self.buffers(prompt + new_tokens)
        tokens = [self.run(ids, 0, np.array([prompt - 1]), buffers)[:, -1].argmax(-1)]
        while len(tokens) < new_tokens:
            logits = self.run(tokens[-1][:, None], prompt + len(tokens) - 1, np.array([0]), buffers)
            tokens.append(logits[:, -1].argmax(-1))
        return np.stack(tokens, axis=1)

    def buffers(self, length):
        """Keys and values of `length` positions: the graph reads and writes them in place."""
        return {
            name: onnxruntime.OrtValue.ortvalue_from_numpy(np.zeros((batch, heads, length, size), np.float32))
            for name, (batch, heads, _, size) in self.past.items()
        }

    def run(self, ids, start, kept, buffers):
        """Logits of the positions `kept` among `ids`, which stand at `start` and after."""
        total = start + ids.shape[1]
        binding = self.session.io_binding()
        binding.bind_cpu_input("input_ids", np.ascontiguousarray(ids))
        binding.bind_cpu_input("position_ids", np.arange(start, total)[None])
        binding.bind_cpu_input("kept", kept)
        binding.bind_cpu_input("last_index", np.full(ids.shape[0], total - 1, np.int32))
        binding.bind_cpu_input("total", np.array([total], np.int32))
        for name, value in buffers.items():
            binding.bind_ortvalue_input(name, value)
            binding.bind_ortvalue_output(name.replace("past", "present"), value)
        binding.bind_output("logits")
        self.session.run_with_iobinding(binding)
        return binding.get_outputs()[-1].numpy()
