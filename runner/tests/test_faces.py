"""text-to-image's stand-in: the reader of torch's files against honest and hostile ones, the network with random
weights that a test made, and with the real ones where they are installed (`install.py --with text-to-image`)."""

from __future__ import annotations

import collections
import hashlib
import io
import pickle
import tempfile
import unittest
import zipfile
from pathlib import Path

import media
import numpy
import pictures
from process import Runner

from penstock_runner import torchfile

MODEL = "stand-in/dcgan-faces"
SHAPES = {0: (100, 512, 4, 4), 3: (512, 256, 4, 4), 6: (256, 128, 4, 4), 9: (128, 64, 4, 4), 12: (64, 3, 4, 4)}


class Storage:
    """What torch keeps beside the pickle."""

    def __init__(self, key: str, values: numpy.ndarray) -> None:
        self.key, self.values = key, values


class Global:
    """Pickles as a name of torch's, which is not installed."""

    def __init__(self, module: str, name: str) -> None:
        self.module, self.name = module, name


class TorchPickler(pickle._Pickler):
    """Writes what torch.save writes, and whatever else a test wants to be called."""

    def persistent_id(self, obj):
        if isinstance(obj, Storage):
            return ("storage", Global("torch", "FloatStorage"), obj.key, "cpu", obj.values.size)
        return None

    def save(self, obj, save_persistent_id=True):
        if isinstance(obj, Global):
            self.write(f"c{obj.module}\n{obj.name}\n".encode())
            return
        if isinstance(obj, Call):
            self.save(obj.function)
            self.save(obj.arguments)
            self.write(b"R")
            return
        super().save(obj, save_persistent_id)


class Call:
    def __init__(self, module: str, name: str, *arguments) -> None:
        self.function, self.arguments = Global(module, name), arguments


def torch_file(tensors: dict[str, numpy.ndarray], extra: dict | None = None, strides=None) -> bytes:
    state, stored = collections.OrderedDict(), {}
    for number, (name, values) in enumerate(tensors.items()):
        stored[str(number)] = values
        steps = strides or tuple(step // values.itemsize for step in values.strides)
        state[name] = Call("torch._utils", "_rebuild_tensor_v2", Storage(str(number), values), 0, values.shape, steps, False, None)
    pickled = io.BytesIO()
    TorchPickler(pickled, 2).dump({"netG_state_dict": dict(state), **(extra or {})})
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        archive.writestr("weights/data.pkl", pickled.getvalue())
        for key, values in stored.items():
            archive.writestr(f"weights/data/{key}", values.tobytes())
    return target.getvalue()


class TorchFiles(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.path = Path(folder.name) / "w.tar"

    def load(self, content: bytes) -> dict:
        self.path.write_bytes(content)
        return torchfile.load(self.path)

    def test_tensors_come_back(self) -> None:
        wanted = {"a": numpy.arange(24, dtype=numpy.float32).reshape(2, 3, 4), "b": numpy.ones(1, numpy.float32)}
        found = self.load(torch_file(wanted))["netG_state_dict"]
        for name, values in wanted.items():
            numpy.testing.assert_array_equal(found[name], values)

    def test_what_is_no_tensor_is_not_run(self) -> None:
        witness = self.path.with_name("witness")
        one = {"a": numpy.ones(2, numpy.float32)}
        for call in (Call("os", "system", f"touch {witness}"), Call("builtins", "eval", f"open({str(witness)!r}, 'w')"),
                     Call("pathlib", "Path.touch", witness.name), Call("torch", "load", "x")):
            with self.assertRaisesRegex(torchfile.NotATensorFile, "which is no tensor"):
                self.load(torch_file(one, {"more": call}))
        self.assertFalse(witness.exists())

    def test_broken_files_are_refused(self) -> None:
        whole = torch_file({"a": numpy.ones((4, 4), numpy.float32)})
        sideways = torch_file({"a": numpy.ones((4, 4), numpy.float32)}, strides=(1, 4))
        for content in (b"", b"PK", whole[:200], torch_file({}).replace(b"data.pkl", b"data.txt"), sideways):
            with self.assertRaises(torchfile.NotATensorFile):
                self.load(content)


class Faces:
    """What holds with any weights."""

    runner: Runner

    def done(self, **fields) -> dict:
        status, answer = self.runner.json("/text-to-image", **fields)
        self.assertEqual(status, 200, answer)
        return answer

    def test_prompt_and_seed_choose_the_picture(self) -> None:
        first = self.done(prompt="a red kite", width=128, height=96, model_id=MODEL, num_inference_steps=50, guidance_scale=7.5)
        self.assertEqual(pictures.received(first).size, (128, 96))
        self.assertEqual(first["images"][0]["seed"], 0)
        self.assertEqual(first, self.done(prompt="a red kite", width=128, height=96))
        for other in ({"prompt": "a blue kite"}, {"prompt": "a red kite", "seed": 1}):
            different = self.done(**{"width": 128, "height": 96, **other})
            self.assertNotEqual(first["images"][0]["url"], different["images"][0]["url"])

    def test_several_are_the_next_seeds(self) -> None:
        three = self.done(prompt="x", width=64, height=64, num_images_per_prompt=3, seed=5)
        self.assertEqual([image["seed"] for image in three["images"]], [5, 6, 7])
        alone = self.done(prompt="x", width=64, height=64, seed=7)
        self.assertEqual(alone["images"][0], three["images"][2])

    def test_wrong_requests_are_refused(self) -> None:
        for fields in ({}, {"prompt": " "}, {"prompt": 7}, {"prompt": "x" * 20_000}, {"prompt": "\ud83d"},
                       {"width": 63}, {"height": 2049}, {"width": 2048, "height": 2048, "num_images_per_prompt": 8},
                       {"num_images_per_prompt": 9}, {"num_images_per_prompt": 0}, {"seed": "x"}, {"width": 1e308},
                       {"model_id": "stabilityai/sdxl-turbo"}):
            status, answer = self.runner.json("/text-to-image", **{"prompt": "x" if fields else "", **fields})
            self.assertEqual(status, 400, (str(fields)[:80], answer))


class RandomFaces(Faces, unittest.TestCase):
    @classmethod
    def setUpClass(cls) -> None:
        cls.folder = tempfile.TemporaryDirectory()
        models = Path(cls.folder.name)
        random = numpy.random.default_rng(3)
        tensors = {}
        for number, shape in SHAPES.items():
            tensors[f"main.{number}.weight"] = (random.standard_normal(shape) * 0.05).astype(numpy.float32)
            for part in ("weight", "bias", "running_mean", "running_var") if number != 12 else ():
                made = random.random(shape[1]) if "var" in part or part == "weight" else random.standard_normal(shape[1]) * 0.1
                tensors[f"main.{number + 1}.{part}"] = made.astype(numpy.float32)
        content = torch_file(tensors)
        place = models / "text-to-image" / MODEL.replace("/", "--")
        place.mkdir(parents=True)
        (place / "weights.tar").write_bytes(content)
        manifest = models / "models.toml"
        manifest.write_text(
            f'[[model]]\npipeline = "text-to-image"\nmodel_id = "{MODEL}"\nbackend = "dcgan"\nlicence = "-"\n'
            'source = "a test"\ncard = "random"\n[[model.package]]\nname = "x"\nversion = "1"\nsha256 = ""\n[[model.file]]\n'
            f'name = "weights.tar"\nmember = "x"\nsha256 = "{hashlib.sha256(content).hexdigest()}"\n')
        cls.tensors = tensors
        cls.runner = Runner("--pipeline", "text-to-image", "--model-id", MODEL, "--manifest", str(manifest), models=models)

    @classmethod
    def tearDownClass(cls) -> None:
        status = cls.runner.close()
        cls.folder.cleanup()
        assert status == 0, f"the runner ended with {status}"

    def test_it_is_the_network_that_its_weights_are_for(self) -> None:
        from penstock_runner.pipelines import text_to_image

        wanted = by_hand(self.tensors, text_to_image.noise("x", 3).reshape(-1))
        shown = pictures.values(pictures.received(self.done(prompt="x", seed=3, width=64, height=64)))
        self.assertLessEqual(numpy.abs(shown - wanted).max(), 1)


@unittest.skipUnless((media.models_dir() / "text-to-image" / MODEL.replace("/", "--")).is_dir(),
                     f"{MODEL} is not installed: python runner/install.py … --with text-to-image")
class RealFaces(Faces, unittest.TestCase):
    @classmethod
    def setUpClass(cls) -> None:
        cls.runner = Runner("--pipeline", "text-to-image", "--model-id", MODEL)

    @classmethod
    def tearDownClass(cls) -> None:
        cls.runner.close()

    def test_the_card_says_what_it_is_and_its_pictures_are_smooth(self) -> None:
        self.assertIn("Not a text-to-image model", self.runner.call("GET", "/version")[1]["card"])
        shown = pictures.received(self.done(prompt="a face", width=64, height=64))
        self.assertTrue(1 < pictures.sharpness(shown) < 30, pictures.sharpness(shown))


def by_hand(tensors: dict[str, numpy.ndarray], noise: numpy.ndarray) -> numpy.ndarray:
    """The same network in plain arithmetic: each input number adds its kernel to the output, 64 x 64 bytes at the end."""
    x = noise.astype(numpy.float64).reshape(100, 1, 1)
    for number, shape in SHAPES.items():
        stride, cut = (1, 0) if number == 0 else (2, 1)
        side = x.shape[1]
        out = numpy.zeros((shape[1], (side - 1) * stride + 4, (side - 1) * stride + 4))
        spread = numpy.einsum("iab,iokl->oabkl", x, tensors[f"main.{number}.weight"].astype(numpy.float64), optimize=True)
        for row in range(side):
            for column in range(side):
                out[:, row * stride:row * stride + 4, column * stride:column * stride + 4] += spread[:, row, column]
        x = out[:, cut:out.shape[1] - cut, cut:out.shape[2] - cut]
        if number != 12:
            gain, shift, mean, spread_by = (tensors[f"main.{number + 1}.{part}"][:, None, None].astype(numpy.float64)
                                            for part in ("weight", "bias", "running_mean", "running_var"))
            x = numpy.maximum((x - mean) / numpy.sqrt(spread_by + 1e-5) * gain + shift, 0)
    return ((numpy.tanh(x) * 0.5 + 0.5) * 255 + 0.5).astype(numpy.uint8).transpose(1, 2, 0).astype(numpy.float64)


if __name__ == "__main__":
    unittest.main()
