"""Run this model without Speedrail.

    python run_model.py --text "A sentence."        one or more texts (text models)
    python run_model.py --input inputs.npz          arrays named as the model's inputs
    python run_model.py --new-tokens 32 --text …    continue a text (causal LMs)
    python run_model.py --text … --bench            print the latency too
    python run_model.py --text … --output out.npz   keep the outputs

model.json says what goes in and comes out; requirements.txt what must be installed.
"""

import argparse
import json
import statistics
import sys
import time
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from model import Model  # noqa: E402

ABOUT = json.loads((HERE / "model.json").read_text(encoding="utf-8"))


def main() -> None:
    options = parse()
    model = Model(HERE, ABOUT, options.threads)
    batch = load_arrays(options.input) if options.input else encode(options.text or ["Hello, world."])

    if options.new_tokens:
        tokens = model.generate(batch["input_ids"], options.new_tokens)
        outputs = {"tokens": tokens}
        if (HERE / "tokenizer.json").exists():
            for row in tokens:
                print(tokenizer().decode(row.tolist()))
        call = lambda: model.generate(batch["input_ids"], options.new_tokens)  # noqa: E731
    else:
        outputs = model.infer(batch)
        for name, array in outputs.items():
            print(f"{name}: {array.dtype} {array.shape}")
            print(np.array2string(array, threshold=20, precision=5))
        call = lambda: model.infer(batch)  # noqa: E731

    if options.output:
        np.savez(options.output, **outputs)
    if options.bench:
        bench(call)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", action="append", help="a text; repeat it to fill a batch")
    parser.add_argument("--input", type=Path, help="an .npz with the model's inputs")
    parser.add_argument("--new-tokens", type=int, default=0, help="tokens to generate (causal LMs)")
    parser.add_argument("--output", type=Path, help="write the outputs to this .npz")
    parser.add_argument("--threads", type=int, default=0, help="0 leaves it to the runtime")
    parser.add_argument("--bench", action="store_true", help="print the latency")
    options = parser.parse_args()
    if not options.input and not (HERE / "tokenizer.json").exists():
        parser.error("this model takes arrays: give --input inputs.npz with " + ", ".join(i["name"] for i in ABOUT["inputs"]))
    return options


def load_arrays(file: Path) -> dict[str, np.ndarray]:
    with np.load(file) as arrays:
        return {name: arrays[name] for name in arrays.files}


def encode(texts: list[str]) -> dict[str, np.ndarray]:
    """Texts to the model's inputs. A causal LM's texts are cut to the shortest, others padded to the model's length."""
    texts = [texts[i % len(texts)] for i in range(ABOUT["batch_size"])]
    words = tokenizer()
    if ABOUT["task"] != "causal_lm":
        words.enable_truncation(ABOUT["sequence_length"])
        words.enable_padding(length=ABOUT["sequence_length"], pad_id=ABOUT["pad_id"])
    rows = words.encode_batch(texts)
    shortest = min(len(row.ids) for row in rows)
    arrays = {
        "input_ids": [row.ids[:shortest] for row in rows],
        "attention_mask": [row.attention_mask[:shortest] for row in rows],
        "token_type_ids": [row.type_ids[:shortest] for row in rows],
    }
    return {spec["name"]: np.array(arrays[spec["name"]], np.int64) for spec in ABOUT["inputs"]}


def tokenizer():
    from tokenizers import Tokenizer

    words = Tokenizer.from_file(str(HERE / "tokenizer.json"))
    words.no_padding()
    words.no_truncation()
    return words


def bench(call) -> None:
    """Median and spread of at least 20 calls and 3 seconds, after 5 to warm up."""
    for _ in range(5):
        call()
    times = []
    while len(times) < 20 or sum(times) < 3:
        begun = time.perf_counter()
        call()
        times.append(time.perf_counter() - begun)
    low, *_, high = statistics.quantiles(times, n=20)
    print(f"latency: {1e3 * statistics.median(times):.2f} ms (median of {len(times)}; 90 % within {1e3 * low:.2f} to {1e3 * high:.2f})")


if __name__ == "__main__":
    main()
