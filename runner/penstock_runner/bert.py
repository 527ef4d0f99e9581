"""Sentence encoders of BERT's kind as ONNX: from safetensors with Hugging Face's names to one network that takes
token ids and gives a vector of length 1, the mean over the tokens. Made when the model loads; torch is not needed."""

from __future__ import annotations

import json
from pathlib import Path


class NotAnEncoder(Exception):
    """The folder holds something else, or an encoder whose vectors are made another way."""


def check(folder: Path) -> dict:
    """The encoder's settings, if it is one that the graph below is for."""
    config = json.loads((folder / "config.json").read_text())
    if config.get("model_type") != "bert" or config.get("hidden_act") != "gelu" \
            or config.get("position_embedding_type", "absolute") != "absolute":
        raise NotAnEncoder("config.json is not that of a BERT with gelu and absolute positions")
    pooling = folder / "1_Pooling" / "config.json"
    if pooling.is_file() and not json.loads(pooling.read_text()).get("pooling_mode_mean_tokens"):
        raise NotAnEncoder("its vectors are not means over the tokens")
    return config


def longest(folder: Path, config: dict) -> int:
    """Tokens that it was made for, the two around the text included."""
    told = folder / "sentence_bert_config.json"
    most = json.loads(told.read_text()).get("max_seq_length") if told.is_file() else None
    return min(most or config["max_position_embeddings"], config["max_position_embeddings"])


def to_onnx(folder: Path, config: dict) -> bytes:
    """`ids` and `mask` (int64 [texts, tokens]) to `embedding` [texts, width]."""
    from onnx import TensorProto, checker, helper
    from safetensors.numpy import load_file

    graph = _Graph(load_file(folder / "model.safetensors"), config)
    graph.build()
    width = config["hidden_size"]
    ids, mask = (helper.make_tensor_value_info(name, TensorProto.INT64, ["texts", "tokens"]) for name in ("ids", "mask"))
    out = helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["texts", width])
    made = helper.make_graph(graph.nodes, "bert", [ids, mask], [out], list(graph.constants.values()))
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    checker.check_model(model)
    return model.SerializeToString()


class _Graph:
    def __init__(self, weights: dict, config: dict) -> None:
        # Some files have a prefix before every name.
        self._weights = {name.removeprefix("bert."): value for name, value in weights.items()}
        self._width, self._heads = config["hidden_size"], config["num_attention_heads"]
        self._layers, self._epsilon = config["num_hidden_layers"], config.get("layer_norm_eps", 1e-12)
        self.nodes: list = []
        self.constants: dict = {}

    def _constant(self, name: str, values) -> str:
        import numpy
        from onnx import numpy_helper

        if name not in self.constants:
            self.constants[name] = numpy_helper.from_array(numpy.ascontiguousarray(values), name)
        return name

    def _real(self, name: str, value: float) -> str:
        import numpy
        from onnx import numpy_helper

        # As a single number, which `_constant` would make a list of.
        return self.constants.setdefault(name, numpy_helper.from_array(numpy.array(value, numpy.float32), name)).name

    def _whole(self, name: str, values: list[int]) -> str:
        import numpy

        return self._constant(name, numpy.array(values, numpy.int64))

    def _tensor(self, name: str, transposed: bool = False) -> str:
        import numpy

        values = self._weights[name].astype(numpy.float32)
        return self._constant(name, values.T if transposed else values)

    def _op(self, kind: str, *inputs: str, out: str | None = None, **settings) -> str:
        from onnx import helper

        out = out or f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [out], **settings))
        return out

    def _linear(self, x: str, name: str) -> str:
        return self._op("Add", self._op("MatMul", x, self._tensor(f"{name}.weight", True)), self._tensor(f"{name}.bias"))

    def _norm(self, x: str, name: str) -> str:
        return self._op("LayerNormalization", x, self._tensor(f"{name}.weight"), self._tensor(f"{name}.bias"),
                        axis=-1, epsilon=self._epsilon)

    def _split(self, x: str, order: list[int]) -> str:
        shape = self._whole("split", [0, 0, self._heads, self._width // self._heads])
        return self._op("Transpose", self._op("Reshape", x, shape), perm=order)

    def _gelu(self, x: str) -> str:
        bent = self._op("Add", self._op("Erf", self._op("Mul", x, self._real("root", 0.5 ** 0.5))), self._real("one", 1))
        return self._op("Mul", self._op("Mul", x, self._real("half", 0.5)), bent)

    def build(self) -> None:
        x, real_mask = self._embed(), self._op("Cast", "mask", to=1)
        seen = self._op("Unsqueeze", real_mask, self._whole("ax12", [1, 2]))
        hidden = self._op("Mul", self._op("Sub", self._real("one", 1), seen), self._real("never", -1e9))
        for number in range(self._layers):
            x = self._layer(x, hidden, f"encoder.layer.{number}")
        kept = self._op("Mul", x, self._op("Unsqueeze", real_mask, self._whole("ax2", [2])))
        first = self._whole("ax1", [1])
        total = self._op("ReduceSum", kept, first, keepdims=0)
        mean = self._op("Div", total, self._op("ReduceSum", real_mask, first, keepdims=1))
        self._op("LpNormalization", mean, out="embedding", axis=-1, p=2)

    def _embed(self) -> str:
        words = self._op("Gather", self._tensor("embeddings.word_embeddings.weight"), "ids")
        places = self._op("Slice", self._tensor("embeddings.position_embeddings.weight"), self._whole("zero", [0]),
                          self._op("Shape", "ids", start=1, end=2))
        kind = self._constant("kind", self._weights["embeddings.token_type_embeddings.weight"][0])
        return self._norm(self._op("Add", self._op("Add", words, places), kind), "embeddings.LayerNorm")

    def _layer(self, x: str, hidden: str, name: str) -> str:
        at = f"{name}.attention.self"
        query = self._split(self._linear(x, f"{at}.query"), [0, 2, 1, 3])
        key = self._split(self._linear(x, f"{at}.key"), [0, 2, 3, 1])
        scores = self._op("Mul", self._op("MatMul", query, key), self._real("scale", (self._width // self._heads) ** -0.5))
        looks = self._op("Softmax", self._op("Add", scores, hidden), axis=-1)
        value = self._split(self._linear(x, f"{at}.value"), [0, 2, 1, 3])
        seen = self._op("Transpose", self._op("MatMul", looks, value), perm=[0, 2, 1, 3])
        seen = self._op("Reshape", seen, self._whole("joined", [0, 0, self._width]))
        out = f"{name}.attention.output"
        x = self._norm(self._op("Add", self._linear(seen, f"{out}.dense"), x), f"{out}.LayerNorm")
        inner = self._gelu(self._linear(x, f"{name}.intermediate.dense"))
        return self._norm(self._op("Add", self._linear(inner, f"{name}.output.dense"), x), f"{name}.output.LayerNorm")
