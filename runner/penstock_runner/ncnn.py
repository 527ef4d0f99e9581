"""Real-ESRGAN's weights are published for ncnn; this makes the same graph as ONNX, in memory.

Only the layers that those networks have; anything else is refused by name. Weights are float16 or float32.
"""

from __future__ import annotations

from pathlib import Path

MAGIC = "7767517"
FLOAT16 = 0x01306B47
FLOAT32 = 0


class UnknownLayer(Exception):
    """A layer, or a form of one, that is not known here."""


class _Weights:
    """The .bin file, read in the order of the layers."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def plain(self, count: int):
        import numpy

        values = numpy.frombuffer(self.data, numpy.float32, count, self.at)
        self.at += count * 4
        return values

    def tagged(self, count: int):
        import numpy

        tag = int.from_bytes(self.data[self.at:self.at + 4], "little")
        self.at += 4
        if tag == FLOAT32:
            return self.plain(count)
        if tag != FLOAT16:
            raise UnknownLayer(f"weights with tag {tag:#x}")
        values = numpy.frombuffer(self.data, numpy.float16, count, self.at).astype(numpy.float32)
        self.at += (count * 2 + 3) // 4 * 4
        return values


class _Layer:
    """One line of the .param file: type, name, inputs, outputs, numbered settings."""

    def __init__(self, line: str) -> None:
        words = line.split()
        self.type, self.name = words[0], words[1]
        ins, outs = int(words[2]), int(words[3])
        self.inputs, self.outputs = words[4:4 + ins], words[4 + ins:4 + ins + outs]
        self.settings = dict(word.split("=", 1) for word in words[4 + ins + outs:])

    def whole(self, key: int, default: int = 0) -> int:
        return int(self.settings.get(str(key), default))

    def real(self, key: int, default: float = 0.0) -> float:
        return float(self.settings.get(str(key), default))

    def array(self, key: int) -> list[float]:
        """A list is written as its length, then its values, under minus 23300 minus the key."""
        return [float(value) for value in self.settings.get(str(-23300 - key), "0").split(",")[1:]]


class _Graph:
    def __init__(self, weights: _Weights) -> None:
        self.weights = weights
        self.nodes: list = []
        self.constants: list = []
        self.same: dict[str, str] = {}

    def constant(self, name: str, values) -> str:
        import numpy
        from onnx import numpy_helper

        self.constants.append(numpy_helper.from_array(numpy.asarray(values, numpy.float32), name))
        return name

    def node(self, kind: str, inputs: list[str], output: str, **settings) -> str:
        from onnx import helper

        self.nodes.append(helper.make_node(kind, inputs, [output], **settings))
        return output

    def add(self, layer: _Layer) -> None:
        adder = getattr(self, f"_{layer.type.lower()}", None)
        if adder is None:
            raise UnknownLayer(layer.type)
        adder(layer, [self._source(name) for name in layer.inputs])

    def _source(self, name: str) -> str:
        while name in self.same:
            name = self.same[name]
        return name

    def _input(self, layer: _Layer, _: list[str]) -> None:
        self.same[layer.outputs[0]] = "input"

    def _split(self, layer: _Layer, ins: list[str]) -> None:
        self.same.update((out, ins[0]) for out in layer.outputs)

    def _convolution(self, layer: _Layer, ins: list[str]) -> None:
        outs, kernel, padding, count = (layer.whole(key) for key in (0, 1, 4, 6))
        if layer.whole(2, 1) != 1 or layer.whole(3, 1) != 1:
            raise UnknownLayer("Convolution with dilation or stride")
        shape = (outs, count // (outs * kernel * kernel), kernel, kernel)
        inputs = [ins[0], self.constant(f"{layer.name}.weight", self.weights.tagged(count).reshape(shape))]
        if layer.whole(5):
            inputs.append(self.constant(f"{layer.name}.bias", self.weights.plain(outs)))
        activation, out = layer.whole(9), layer.outputs[0]
        self.node("Conv", inputs, f"{out}.linear" if activation else out, kernel_shape=[kernel, kernel],
                  pads=[padding] * 4, strides=[1, 1])
        if activation == 2:
            self.node("LeakyRelu", [f"{out}.linear"], out, alpha=layer.array(10)[0])
        elif activation:
            raise UnknownLayer(f"Convolution with activation {activation}")

    def _prelu(self, layer: _Layer, ins: list[str]) -> None:
        count = layer.whole(0)
        slopes = self.constant(f"{layer.name}.slope", self.weights.plain(count).reshape(count, 1, 1))
        self.node("PRelu", [ins[0], slopes], layer.outputs[0])

    def _relu(self, layer: _Layer, ins: list[str]) -> None:
        self.node("LeakyRelu", ins, layer.outputs[0], alpha=layer.real(0))

    def _pixelshuffle(self, layer: _Layer, ins: list[str]) -> None:
        self.node("DepthToSpace", ins, layer.outputs[0], blocksize=layer.whole(0, 1), mode="CRD")

    def _interp(self, layer: _Layer, ins: list[str]) -> None:
        scales = self.constant(f"{layer.name}.scales", [1, 1, layer.real(1, 1), layer.real(2, 1)])
        if layer.whole(0) == 1:
            how = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
        else:
            how = {"mode": "linear", "coordinate_transformation_mode": "half_pixel"}
        self.node("Resize", [ins[0], "", scales], layer.outputs[0], **how)

    def _concat(self, layer: _Layer, ins: list[str]) -> None:
        self.node("Concat", ins, layer.outputs[0], axis=1)

    def _binaryop(self, layer: _Layer, ins: list[str]) -> None:
        kind = ("Add", "Sub", "Mul")[layer.whole(0)]
        if layer.whole(1):
            ins = [ins[0], self.constant(f"{layer.name}.scalar", layer.real(2))]
        self.node(kind, ins, layer.outputs[0])

    def _eltwise(self, layer: _Layer, ins: list[str]) -> None:
        if layer.whole(0) != 1 or len(ins) != 2:
            raise UnknownLayer("Eltwise that is not a sum of two")
        terms = []
        for number, (term, factor) in enumerate(zip(ins, layer.array(1) or [1.0, 1.0])):
            if factor != 1:
                by = self.constant(f"{layer.name}.factor{number}", factor)
                term = self.node("Mul", [term, by], f"{layer.name}.term{number}")
            terms.append(term)
        self.node("Add", terms, layer.outputs[0])


def to_onnx(param: Path, weights: Path) -> bytes:
    """`input` and `output` are [1, 3, height, width] in 0..1."""
    from onnx import TensorProto, checker, helper

    lines = param.read_text().splitlines()
    if lines[0].strip() != MAGIC:
        raise UnknownLayer("not an ncnn .param file")
    graph = _Graph(_Weights(weights.read_bytes()))
    for line in lines[2:]:
        if line.strip():
            graph.add(_Layer(line))
    if graph.weights.at != len(graph.weights.data):
        raise UnknownLayer(f"{len(graph.weights.data) - graph.weights.at} bytes of weights belong to no layer")
    graph.nodes[-1].output[0] = "output"
    def value(name: str, height: str, width: str):
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3, height, width])
    made = helper.make_graph(graph.nodes, "realesrgan", [value("input", "h", "w")], [value("output", "H", "W")],
                             graph.constants)
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    checker.check_model(model)
    return model.SerializeToString()
