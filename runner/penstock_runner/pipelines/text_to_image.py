"""text-to-image: a stand-in. A small network (DCGAN) that paints faces of 64 x 64 pixels from noise; it has no notion
of text. The prompt and the seed choose the noise: the same two always give the same face.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .. import images, torchfile
from ..errors import BadRequest
from ..fields import Fields
from ..network import Network
from . import Job, Setup

if TYPE_CHECKING:
    import numpy

NOISE, SIDE = 100, 64
# The network's layers: number in the state dict, stride, padding. Each but the last is normalised by the next number.
LAYERS = ((0, 1, 0), (3, 2, 1), (6, 2, 1), (9, 2, 1), (12, 2, 1))
EPSILON = 1e-5
DEFAULT_SIDE = 512
LEAST_SIDE, MOST_SIDE = 64, 2048
MAX_PICTURES = 8
# Of all pictures: the answer must stay below 64 MiB.
MAX_PIXELS = 8 << 20


@dataclass(frozen=True)
class Params:
    prompt: str
    width: int
    height: int
    seed: int
    count: int


class TextToImage:
    name = "text-to-image"
    file_field = None
    failed = "Text-to-image pipeline error."

    @staticmethod
    def parse(fields: Fields) -> Params:
        fields.text("negative_prompt")
        fields.boolean("safety_check", True)
        params = Params(fields.needed_text("prompt"), fields.integer("width", DEFAULT_SIDE, LEAST_SIDE, MOST_SIDE),
                        fields.integer("height", DEFAULT_SIDE, LEAST_SIDE, MOST_SIDE), fields.seed() or 0,
                        fields.integer("num_images_per_prompt", 1, 1, MAX_PICTURES))
        if params.width * params.height * params.count > MAX_PIXELS:
            raise BadRequest(f"at most {MAX_PIXELS} pixels are made at once, of all images together")
        return params

    def __init__(self, setup: Setup) -> None:
        self._network = Network(to_onnx(setup.directory / "weights.tar"), setup.device, setup.threads)
        self.device = self._network.device

    def run(self, job: Job) -> dict:
        params: Params = job.params
        made = []
        for number in range(params.count):
            seed = params.seed + number
            [face] = self._network.run({"noise": noise(params.prompt, seed)}, job.deadline)
            made.append((fill(images.from_planes(face * 0.5 + 0.5), params.width, params.height), seed))
        return images.answer(made)


def noise(prompt: str, seed: int) -> numpy.ndarray:
    import numpy

    start = hashlib.sha256(f"{seed} {prompt}".encode()).digest()
    numbers = numpy.random.Generator(numpy.random.PCG64(int.from_bytes(start))).standard_normal(NOISE)
    return numbers.astype(numpy.float32).reshape(1, NOISE, 1, 1)


def fill(face: numpy.ndarray, width: int, height: int) -> numpy.ndarray:
    """Enlarged to cover the size that was asked for, what stands out cut off. No detail comes with it."""
    import cv2

    side = max(width, height)
    large = cv2.resize(face, (side, side), interpolation=cv2.INTER_CUBIC)
    left, top = (side - width) // 2, (side - height) // 2
    return large[top:top + height, left:left + width]


def to_onnx(weights: Path) -> bytes:
    """`noise` [1, 100, 1, 1] to `face` [1, 3, 64, 64] in -1..1."""
    from onnx import TensorProto, checker, helper, numpy_helper

    state = torchfile.load(weights)["netG_state_dict"]
    nodes, constants, last = [], [], "noise"

    def constant(name: str) -> str:
        constants.append(numpy_helper.from_array(state[name].copy(), name))
        return name

    for number, stride, padding in LAYERS:
        kernel = list(state[f"main.{number}.weight"].shape[2:])
        nodes.append(helper.make_node("ConvTranspose", [last, constant(f"main.{number}.weight")], [f"conv{number}"],
                                      kernel_shape=kernel, strides=[stride] * 2, pads=[padding] * 4))
        last = f"conv{number}"
        if number != LAYERS[-1][0]:
            norm = [constant(f"main.{number + 1}.{part}") for part in ("weight", "bias", "running_mean", "running_var")]
            nodes.append(helper.make_node("BatchNormalization", [last, *norm], [f"norm{number}"], epsilon=EPSILON))
            nodes.append(helper.make_node("Relu", [f"norm{number}"], [f"relu{number}"]))
            last = f"relu{number}"
    nodes.append(helper.make_node("Tanh", [last], ["face"]))

    def value(name: str, *shape: int):
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
    graph = helper.make_graph(nodes, "dcgan", [value("noise", 1, NOISE, 1, 1)], [value("face", 1, 3, SIDE, SIDE)],
                              constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    checker.check_model(model)
    return model.SerializeToString()
