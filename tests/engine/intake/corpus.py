"""Bad uploads, each as a function that makes it, with what its message must say."""

from __future__ import annotations

import pickle
import stat
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import save_file

from tests.engine.intake.packing import (
    copied,
    edited,
    raw_safetensors,
    small_safetensors,
    tar_link,
    tar_of,
    zip_of,
    zip_with_mode,
    zipped,
)  # fmt: skip

Make = Callable[[Path, Path, Path], Path]
"""(an empty folder, a good Hugging Face folder, a good ONNX folder) -> the upload"""


@dataclass(frozen=True)
class Bad:
    """`says` must be in what is wrong, `mends` in what to do."""

    name: str
    make: Make
    says: str
    mends: str


def _not_a_model(place: Path, hf: Path, mlp: Path) -> Path:
    return zip_of(place / "photos.zip", {"a.jpg": b"\xff\xd8\xff", "b.jpg": b"\xff\xd8\xff"})


def _text_file(place: Path, hf: Path, mlp: Path) -> Path:
    (place / "notes.txt").write_text("just some words")
    return place / "notes.txt"


def _empty_file(place: Path, hf: Path, mlp: Path) -> Path:
    (place / "model.onnx").touch()
    return place / "model.onnx"


def _empty_folder(place: Path, hf: Path, mlp: Path) -> Path:
    (place / "empty" / "inner").mkdir(parents=True)
    return place / "empty"


def _empty_zip(place: Path, hf: Path, mlp: Path) -> Path:
    return zip_of(place / "empty.zip", {})


def _lfs_pointer(place: Path, hf: Path, mlp: Path) -> Path:
    folder = copied(hf, place / "hf")
    (folder / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    return folder


def _truncated(place: Path, hf: Path, mlp: Path) -> Path:
    folder = copied(hf, place / "hf")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    return zipped(folder, place / "model.zip")


def _truncated_in_header(place: Path, hf: Path, mlp: Path) -> Path:
    folder = copied(hf, place / "hf")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:50])
    return zipped(folder, place / "model.zip")


def _zero_byte_tensor(place: Path, hf: Path, mlp: Path) -> Path:
    folder = copied(hf, place / "hf")
    save_file({"embeddings.weight": np.zeros((0, 32), np.float32)}, folder / "model.safetensors")
    return folder


def _no_tensors(place: Path, hf: Path, mlp: Path) -> Path:
    folder = copied(hf, place / "hf")
    save_file({}, folder / "model.safetensors")
    return folder


def _overlapping(place: Path, hf: Path, mlp: Path) -> Path:
    folder = copied(hf, place / "hf")
    tensor = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
    raw_safetensors(folder / "model.safetensors", {"a": tensor, "b": {**tensor, "data_offsets": [4, 12]}}, bytes(12))
    return folder


def _wrong_size(place: Path, hf: Path, mlp: Path) -> Path:
    folder = copied(hf, place / "hf")
    tensor = {"dtype": "F32", "shape": [3], "data_offsets": [0, 8]}
    raw_safetensors(folder / "model.safetensors", {"a": tensor}, bytes(8))
    return folder


def _pickle_as_safetensors(place: Path, hf: Path, mlp: Path) -> Path:
    folder = copied(hf, place / "hf")
    (folder / "model.safetensors").write_bytes(pickle.dumps({"weight": [1.0, 2.0]}))
    return zipped(folder, place / "model.zip")


def _torch_as_safetensors(place: Path, hf: Path, mlp: Path) -> Path:
    folder = copied(hf, place / "hf")
    zip_of(folder / "model.safetensors", {"archive/data.pkl": b"\x80\x02}.", "archive/data/0": bytes(64)})
    return zipped(folder, place / "model.zip")


def _pickles_only(place: Path, hf: Path, mlp: Path) -> Path:
    folder = copied(hf, place / "hf")
    (folder / "model.safetensors").unlink()
    zip_of(folder / "pytorch_model.bin", {"archive/data.pkl": b"\x80\x02}."})
    return zipped(folder, place / "model.zip")


def _lone_checkpoint(place: Path, hf: Path, mlp: Path) -> Path:
    return zip_of(place / "model.pt", {"archive/data.pkl": b"\x80\x02}."})


def _lone_safetensors(place: Path, hf: Path, mlp: Path) -> Path:
    return small_safetensors(place / "model.safetensors")


def _no_weights(place: Path, hf: Path, mlp: Path) -> Path:
    folder = copied(hf, place / "hf")
    (folder / "model.safetensors").unlink()
    return folder


def _adapter(place: Path, hf: Path, mlp: Path) -> Path:
    folder = place / "adapter"
    folder.mkdir()
    small_safetensors(folder / "adapter_model.safetensors")
    return edited(folder, "adapter_config.json", peft_type="LORA")


def _code(place: Path, hf: Path, mlp: Path) -> Path:
    return edited(copied(hf, place / "hf"), auto_map={"AutoModel": "modeling_evil.Evil"})


def _tokenizer_code(place: Path, hf: Path, mlp: Path) -> Path:
    return edited(copied(hf, place / "hf"), "tokenizer_config.json", auto_map={"AutoTokenizer": ["evil.Evil", None]})


def _quantized(place: Path, hf: Path, mlp: Path) -> Path:
    return edited(copied(hf, place / "hf"), quantization_config={"quant_method": "gptq", "bits": 4})


def _unknown_architecture(place: Path, hf: Path, mlp: Path) -> Path:
    return edited(copied(hf, place / "hf"), model_type="megatron-9000", architectures=["MegatronModel"])


def _unsupported_head(place: Path, hf: Path, mlp: Path) -> Path:
    return edited(copied(hf, place / "hf"), architectures=["BertForTokenClassification"])


def _no_model_type(place: Path, hf: Path, mlp: Path) -> Path:
    return edited(copied(hf, place / "hf"), drop="model_type")


def _config_is_list(place: Path, hf: Path, mlp: Path) -> Path:
    folder = copied(hf, place / "hf")
    (folder / "config.json").write_text("[1, 2]")
    return folder


def _config_is_broken(place: Path, hf: Path, mlp: Path) -> Path:
    folder = copied(hf, place / "hf")
    (folder / "config.json").write_text('{"model_type": "bert"')
    return folder


def _tokenizer_is_broken(place: Path, hf: Path, mlp: Path) -> Path:
    folder = copied(hf, place / "hf")
    (folder / "tokenizer.json").write_text("{}")
    return folder


def _config_of_another(place: Path, hf: Path, mlp: Path) -> Path:
    return edited(copied(hf, place / "hf"), hidden_size=64)


def _config_asks_for_more(place: Path, hf: Path, mlp: Path) -> Path:
    return edited(copied(hf, place / "hf"), num_hidden_layers=3)


def _config_is_absurd(place: Path, hf: Path, mlp: Path) -> Path:
    return edited(copied(hf, place / "hf"), num_attention_heads=7)


def _config_asks_for_terabytes(place: Path, hf: Path, mlp: Path) -> Path:
    return edited(copied(hf, place / "hf"), vocab_size=2**38)


def _config_asks_for_endless_layers(place: Path, hf: Path, mlp: Path) -> Path:
    return edited(copied(hf, place / "hf"), num_hidden_layers=10**9)


def _missing_shard(place: Path, hf: Path, mlp: Path) -> Path:
    folder = copied(hf, place / "hf")
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
    shards = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    return edited(folder, "model.safetensors.index.json", weight_map=shards)


def _shard_elsewhere(place: Path, hf: Path, mlp: Path) -> Path:
    folder = copied(hf, place / "hf")
    (folder / "model.safetensors").rename(folder / "model-1.safetensors")
    return edited(folder, "model.safetensors.index.json", weight_map={"a": "../../secret.safetensors"})


def _shards_without_index(place: Path, hf: Path, mlp: Path) -> Path:
    folder = copied(hf, place / "hf")
    (folder / "model.safetensors").rename(folder / "one.safetensors")
    small_safetensors(folder / "two.safetensors")
    return folder


def _two_models(place: Path, hf: Path, mlp: Path) -> Path:
    folder = place / "two"
    copied(hf, folder / "a")
    copied(hf, folder / "b")
    return folder


def _zip_outside(place: Path, hf: Path, mlp: Path) -> Path:
    return zip_of(place / "m.zip", {"config.json": b"{}", "../../evil.json": b"{}"})


def _zip_absolute(place: Path, hf: Path, mlp: Path) -> Path:
    return zip_of(place / "m.zip", {"/etc/evil.json": b"{}"})


def _zip_windows(place: Path, hf: Path, mlp: Path) -> Path:
    return zip_of(place / "m.zip", {"..\\evil.json": b"{}"})


def _tar_outside(place: Path, hf: Path, mlp: Path) -> Path:
    return tar_of(place / "m.tar.gz", ("model/../../evil.json", b"{}"))


def _zip_bomb(place: Path, hf: Path, mlp: Path) -> Path:
    return zip_of(place / "m.zip", {"config.json": b"{}", "model.safetensors": bytes(64 << 20)})


def _tar_bomb(place: Path, hf: Path, mlp: Path) -> Path:
    return tar_of(place / "m.tar.gz", ("model.safetensors", bytes(64 << 20)))


def _pax_bomb(place: Path, hf: Path, mlp: Path) -> Path:
    """The bomb is in a header, which tarfile reads whole."""
    info = tarfile.TarInfo("config.json")
    info.pax_headers = {"comment": "0" * (64 << 20)}
    archive = place / "m.tar.gz"
    with tarfile.open(archive, "w:gz", format=tarfile.PAX_FORMAT) as opened:
        opened.addfile(info)
    return archive


def _encrypted(place: Path, hf: Path, mlp: Path) -> Path:
    archive = zip_of(place / "m.zip", {"config.json": b"{}"})
    content = bytearray(archive.read_bytes())
    content[6] |= 1
    content[content.index(b"PK\x01\x02") + 8] |= 1
    archive.write_bytes(content)
    return archive


def _zip_symlink(place: Path, hf: Path, mlp: Path) -> Path:
    return zip_with_mode(place / "m.zip", "model.safetensors", stat.S_IFLNK | 0o777, b"/etc/passwd")


def _zip_device(place: Path, hf: Path, mlp: Path) -> Path:
    return zip_with_mode(place / "m.zip", "model.safetensors", stat.S_IFCHR | 0o666)


def _tar_symlink(place: Path, hf: Path, mlp: Path) -> Path:
    return tar_of(place / "m.tar.gz", tar_link("model.safetensors", "/etc/passwd", tarfile.SYMTYPE))


def _tar_hardlink(place: Path, hf: Path, mlp: Path) -> Path:
    return tar_of(place / "m.tar.gz", tar_link("model.safetensors", "/etc/passwd", tarfile.LNKTYPE))


def _tar_device(place: Path, hf: Path, mlp: Path) -> Path:
    return tar_of(place / "m.tar.gz", tar_link("model.safetensors", "", tarfile.CHRTYPE))


def _tar_fifo(place: Path, hf: Path, mlp: Path) -> Path:
    return tar_of(place / "m.tar.gz", tar_link("model.safetensors", "", tarfile.FIFOTYPE))


def _folder_symlink(place: Path, hf: Path, mlp: Path) -> Path:
    folder = copied(hf, place / "hf")
    (folder / "vocab.txt").symlink_to("/etc/passwd")
    return folder


def _folder_linked_folder(place: Path, hf: Path, mlp: Path) -> Path:
    folder = copied(hf, place / "hf")
    (folder / "etc").symlink_to("/etc")
    return folder


def _twice(place: Path, hf: Path, mlp: Path) -> Path:
    return tar_of(place / "m.tar.gz", ("config.json", b"{}"), ("./config.json", b"[]"))


def _file_and_folder(place: Path, hf: Path, mlp: Path) -> Path:
    return tar_of(place / "m.tar.gz", ("model", b"{}"), ("model/config.json", b"[]"))


def _too_many(place: Path, hf: Path, mlp: Path) -> Path:
    archive = place / "m.zip"
    with zipfile.ZipFile(archive, "w") as opened:
        for i in range(10_001):
            opened.writestr(f"{i}.json", b"")
    return archive


def _zip_broken(place: Path, hf: Path, mlp: Path) -> Path:
    archive = zipped(hf, place / "m.zip")
    archive.write_bytes(archive.read_bytes()[: archive.stat().st_size // 2])
    return archive


def _zip_bad_checksum(place: Path, hf: Path, mlp: Path) -> Path:
    archive = place / "m.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as opened:
        opened.writestr("config.json", b'{"model_type": "bert"}')
    archive.write_bytes(archive.read_bytes().replace(b"bert", b"tree"))
    return archive


def _targz_broken(place: Path, hf: Path, mlp: Path) -> Path:
    rng = np.random.default_rng(0)
    archive = tar_of(place / "m.tar.gz", ("model.gguf", rng.bytes(100_000)))
    archive.write_bytes(archive.read_bytes()[:50_000])
    return archive


def _gzip_no_tar(place: Path, hf: Path, mlp: Path) -> Path:
    import gzip

    (place / "model.gz").write_bytes(gzip.compress(b"no tar at all"))
    return place / "model.gz"


def _onnx_random(place: Path, hf: Path, mlp: Path) -> Path:
    (place / "model.onnx").write_bytes(np.random.default_rng(1).bytes(4096))
    return place / "model.onnx"


def _onnx_truncated(place: Path, hf: Path, mlp: Path) -> Path:
    content = (mlp / "model.onnx").read_bytes()
    (place / "model.onnx").write_bytes(content[: len(content) // 2])
    return place / "model.onnx"


def _onnx_with(place: Path, location: str, data: bytes | None = None) -> Path:
    """A MatMul whose weight lies in the file `location`."""
    weight = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4, 4], data_location=TensorProto.EXTERNAL)
    for key, value in (("location", location), ("offset", "0"), ("length", "64")):
        weight.external_data.add(key=key, value=value)
    return _onnx_of(place, weight, helper.make_node("MatMul", ["x", "w"], ["y"]), data)


def _onnx_of(
    place: Path, weight: TensorProto, node: onnx.NodeProto, data: bytes | None = None, opset: int = 18
) -> Path:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 4])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 4])
    graph = helper.make_graph([node], "g", [x], [y], [weight])
    imports = [helper.make_opsetid("", opset), helper.make_opsetid("com.evil", 1)]
    folder = place / "onnx"
    folder.mkdir()
    (folder / "model.onnx").write_bytes(helper.make_model(graph, opset_imports=imports).SerializeToString())
    if data is not None:
        (folder / "weights.bin").write_bytes(data)
    return folder


def _weight() -> TensorProto:
    return numpy_helper.from_array(np.eye(4, dtype=np.float32), "w")


def _onnx_custom(place: Path, hf: Path, mlp: Path) -> Path:
    return _onnx_of(place, _weight(), helper.make_node("Evil", ["x", "w"], ["y"], domain="com.evil"))


def _onnx_unknown_operator(place: Path, hf: Path, mlp: Path) -> Path:
    return _onnx_of(place, _weight(), helper.make_node("MatMulNot", ["x", "w"], ["y"]))


def _onnx_old(place: Path, hf: Path, mlp: Path) -> Path:
    return _onnx_of(place, _weight(), helper.make_node("MatMul", ["x", "w"], ["y"]), opset=5)


def _onnx_no_data(place: Path, hf: Path, mlp: Path) -> Path:
    weight = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4, 4])
    return _onnx_of(place, weight, helper.make_node("MatMul", ["x", "w"], ["y"]))


def _gguf_truncated(place: Path, hf: Path, mlp: Path) -> Path:
    (place / "model.gguf").write_bytes(b"GGUF\x03\x00\x00\x00" + (5).to_bytes(8, "little") + (9).to_bytes(8, "little"))
    return place / "model.gguf"


def _gguf_other(place: Path, hf: Path, mlp: Path) -> Path:
    import gguf

    writer = gguf.GGUFWriter(place / "model.gguf", "whisper")
    writer.add_tensor("a", np.ones((4, 32), np.float32))
    _written(writer)
    return place / "model.gguf"


def _gguf_part(place: Path, hf: Path, mlp: Path) -> Path:
    import gguf

    writer = gguf.GGUFWriter(place / "model-00001-of-00003.gguf", "llama")
    writer.add_uint16("split.count", 3)
    writer.add_tensor("a", np.ones((4, 32), np.float32))
    _written(writer)
    return place / "model-00001-of-00003.gguf"


def _written(writer: object) -> None:
    for step in ("write_header_to_file", "write_kv_data_to_file", "write_tensors_to_file", "close"):
        getattr(writer, step)()


BAD = (
    Bad("photos in a zip", _not_a_model, "not a model", ".gguf"),
    Bad("a text file", _text_file, "not a model", ".safetensors"),
    Bad("an empty file", _empty_file, "is empty", "upload it again"),
    Bad("an empty folder", _empty_folder, "holds no files", "config.json"),
    Bad("an empty zip", _empty_zip, "holds no files", "config.json"),
    Bad("a Git LFS pointer", _lfs_pointer, "Git LFS pointer", "git lfs pull"),
    Bad("truncated safetensors", _truncated, "truncated", "Upload it again"),
    Bad("safetensors cut in the header", _truncated_in_header, "cut off", "Upload it again"),
    Bad("a 0-byte tensor", _zero_byte_tensor, "embeddings.weight has the shape [0, 32]", "save_pretrained"),
    Bad("no tensors", _no_tensors, "holds no tensors", "save_pretrained"),
    Bad("overlapping tensors", _overlapping, "overlap", "Upload it again"),
    Bad("a tensor of another size", _wrong_size, "size does not fit", "Upload it again"),
    Bad("a pickle called safetensors", _pickle_as_safetensors, "pickle", "save_pretrained"),
    Bad("a torch file called safetensors", _torch_as_safetensors, "pickle", "save_pretrained"),
    Bad("pickles only", _pickles_only, "pickle", "safetensors"),
    Bad("a lone checkpoint", _lone_checkpoint, "pickle", "safetensors"),
    Bad("lone safetensors", _lone_safetensors, "no config.json", "whole Hugging Face folder"),
    Bad("a config without weights", _no_weights, "no weights", "model.safetensors"),
    Bad("an adapter", _adapter, "LoRA", "merge_and_unload"),
    Bad("code in config.json", _code, "auto_map", "ONNX"),
    Bad("code in the tokenizer", _tokenizer_code, "auto_map", "auto_map"),
    Bad("quantized weights", _quantized, "quantized already (gptq)", "original model"),
    Bad("an unknown architecture", _unknown_architecture, "MegatronModel (model_type megatron-9000)", "distilbert"),
    Bad("a head that is not supported", _unsupported_head, "BertForTokenClassification", "sequence classifiers"),
    Bad("no model_type", _no_model_type, "no model_type", "save_pretrained"),
    Bad("a config that is a list", _config_is_list, "not a JSON object", "save_pretrained"),
    Bad("a broken config", _config_is_broken, "not valid JSON", "save_pretrained"),
    Bad("a broken tokenizer", _tokenizer_is_broken, "tokenizer cannot be read", "Save it again"),
    Bad("another model's config", _config_of_another, "do not have the shape", "one and the same model"),
    Bad("a config with more layers", _config_asks_for_more, "are missing", "one and the same model"),
    Bad("an absurd config", _config_is_absurd, "no model that can be built", "sizes"),
    Bad("a config of terabytes", _config_asks_for_terabytes, "many times larger", "one and the same model"),
    Bad("a config of endless layers", _config_asks_for_endless_layers, "many times larger", "one and the same model"),
    Bad("a missing shard", _missing_shard, "model-00002-of-00002.safetensors, and that file is missing", "all shards"),
    Bad("a shard outside", _shard_elsewhere, "no .safetensors file beside it", "save_pretrained"),
    Bad(
        "shards without index",
        _shards_without_index,
        "no model.safetensors.index.json",
        "Add model.safetensors.index.json",
    ),
    Bad("two models", _two_models, "2 Hugging Face folders", "one model at a time"),
    Bad("zip with ../", _zip_outside, "points outside", "relative paths"),
    Bad("zip with /etc", _zip_absolute, "points outside", "relative paths"),
    Bad("zip with ..\\", _zip_windows, "points outside", "relative paths"),
    Bad("tar with ../", _tar_outside, "points outside", "relative paths"),
    Bad("zip of 1000:1", _zip_bomb, "100 times its size", "uncompressed"),
    Bad("tar of 1000:1", _tar_bomb, "100 times its size", "uncompressed"),
    Bad("tar with a bomb in a header", _pax_bomb, "100 times its size", "uncompressed"),
    Bad("an encrypted zip", _encrypted, "encrypted", "without a password"),
    Bad("a link in a zip", _zip_symlink, "symbolic link", "cp -rL"),
    Bad("a device in a zip", _zip_device, "device", "Pack again"),
    Bad("a link in a tar", _tar_symlink, "symbolic link", "--dereference"),
    Bad("a hard link in a tar", _tar_hardlink, "hard link", "--dereference"),
    Bad("a device in a tar", _tar_device, "device", "Pack again"),
    Bad("a pipe in a tar", _tar_fifo, "device", "Pack again"),
    Bad("a link in a folder", _folder_symlink, "leads out of the folder", "cp -rL"),
    Bad("a linked folder", _folder_linked_folder, "linked folder", "cp -rL"),
    Bad("two members of one name", _twice, "same name", "Pack it again"),
    Bad("a file and a folder of one name", _file_and_folder, "both a file and a folder", "Pack it again"),
    Bad("too many members", _too_many, "more than 10,000 files", "config.json"),
    Bad("half a zip", _zip_broken, "damaged or incomplete", "upload it again"),
    Bad("a zip with a wrong checksum", _zip_bad_checksum, "damaged or incomplete", "upload it again"),
    Bad("half a tar.gz", _targz_broken, "damaged or incomplete", "upload it again"),
    Bad("gzip without tar", _gzip_no_tar, "damaged or incomplete", "upload it again"),
    Bad("random bytes as ONNX", _onnx_random, "ONNX", "Export the model again"),
    Bad("half an ONNX file", _onnx_truncated, "not an ONNX model, or it is truncated", "Export the model again"),
    Bad(
        "ONNX data outside", lambda p, h, m: _onnx_with(p, "../../etc/passwd"), "outside its folder", "beside the .onnx"
    ),
    Bad("ONNX data absolute", lambda p, h, m: _onnx_with(p, "/etc/passwd"), "outside its folder", "beside the .onnx"),
    Bad("ONNX data missing", lambda p, h, m: _onnx_with(p, "weights.bin"), "weights.bin is missing", "together"),
    Bad("ONNX data too short", lambda p, h, m: _onnx_with(p, "weights.bin", bytes(63)), "truncated", "complete file"),
    Bad("ONNX custom operators", _onnx_custom, "custom operators of com.evil", "standard ONNX operators"),
    Bad("ONNX unknown operator", _onnx_unknown_operator, "breaks the format's rules", "Export the model again"),
    Bad("old ONNX", _onnx_old, "opset 5", "Export it again"),
    Bad("ONNX weight without data", _onnx_no_data, "breaks the format's rules", "Export the model again"),
    Bad("half a GGUF file", _gguf_truncated, "GGUF file, or it is truncated", "upload it again"),
    Bad("GGUF of another architecture", _gguf_other, "architecture whisper", "llama"),
    Bad("one part of a GGUF", _gguf_part, "one of 3 parts", "--merge"),
)
