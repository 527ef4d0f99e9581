"""Texts as vectors: a tiny encoder with random weights, held against plain arithmetic, and the real one where it is
installed (`install.py --with embeddings`)."""

from __future__ import annotations

import base64
import json
import math
import tempfile
import unittest
from pathlib import Path

import media
import numpy
from process import Runner
from safetensors.numpy import save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors

REAL = "sentence-transformers/all-MiniLM-L6-v2"
WIDTH, HEADS, LAYERS, INNER, LONGEST = 16, 4, 2, 24, 12
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "cat", "dog", "sat", "here", "##s"]


def write_encoder(folder: Path) -> dict[str, numpy.ndarray]:
    folder.mkdir(parents=True)
    random = numpy.random.default_rng(5)
    weights = {}

    def add(name: str, *shape: int) -> None:
        weights[name] = (random.standard_normal(shape) * 0.3).astype(numpy.float32)

    for name, rows in (("word", len(WORDS)), ("position", LONGEST), ("token_type", 2)):
        add(f"embeddings.{name}_embeddings.weight", rows, WIDTH)
    norms = ["embeddings.LayerNorm"]
    for number in range(LAYERS):
        at = f"encoder.layer.{number}"
        for name, out, into in ((f"{at}.attention.self.query", WIDTH, WIDTH), (f"{at}.attention.self.key", WIDTH, WIDTH),
                                (f"{at}.attention.self.value", WIDTH, WIDTH), (f"{at}.attention.output.dense", WIDTH, WIDTH),
                                (f"{at}.intermediate.dense", INNER, WIDTH), (f"{at}.output.dense", WIDTH, INNER)):
            add(f"{name}.weight", out, into)
            add(f"{name}.bias", out)
        norms += [f"{at}.attention.output.LayerNorm", f"{at}.output.LayerNorm"]
    for name in norms:
        add(f"{name}.weight", WIDTH)
        add(f"{name}.bias", WIDTH)
    save_file(weights, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({
        "model_type": "bert", "hidden_act": "gelu", "hidden_size": WIDTH, "num_attention_heads": HEADS,
        "num_hidden_layers": LAYERS, "max_position_embeddings": LONGEST, "layer_norm_eps": 1e-12}))
    tokenizer = Tokenizer(models.WordPiece({word: at for at, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    # As published ones have it; neither may happen here.
    tokenizer.enable_truncation(4)
    tokenizer.enable_padding(length=9)
    tokenizer.save(str(folder / "tokenizer.json"))
    return weights


def by_hand(weights: dict[str, numpy.ndarray], ids: list[int]) -> numpy.ndarray:
    """BERT in plain arithmetic, one text at a time: no padding, no mask."""
    w = {name: values.astype(numpy.float64) for name, values in weights.items()}

    def linear(x, name):
        return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    def norm(x, name):
        centred = x - x.mean(-1, keepdims=True)
        return centred / numpy.sqrt((centred ** 2).mean(-1, keepdims=True) + 1e-12) * w[f"{name}.weight"] + w[f"{name}.bias"]

    x = norm(w["embeddings.word_embeddings.weight"][ids] + w["embeddings.position_embeddings.weight"][:len(ids)]
             + w["embeddings.token_type_embeddings.weight"][0], "embeddings.LayerNorm")
    for number in range(LAYERS):
        at = f"encoder.layer.{number}"
        q, k, v = (linear(x, f"{at}.attention.self.{part}") for part in ("query", "key", "value"))
        heads = []
        for head in range(HEADS):
            own = slice(head * WIDTH // HEADS, (head + 1) * WIDTH // HEADS)
            scores = numpy.exp(q[:, own] @ k[:, own].T / math.sqrt(WIDTH // HEADS))
            heads.append(scores / scores.sum(-1, keepdims=True) @ v[:, own])
        x = norm(linear(numpy.concatenate(heads, -1), f"{at}.attention.output.dense") + x, f"{at}.attention.output.LayerNorm")
        inner = linear(x, f"{at}.intermediate.dense")
        bent = inner * 0.5 * (1 + numpy.vectorize(math.erf)(inner / math.sqrt(2)))
        x = norm(linear(bent, f"{at}.output.dense") + x, f"{at}.output.LayerNorm")
    mean = x.mean(0)
    return mean / numpy.linalg.norm(mean)


class Tiny(unittest.TestCase):
    @classmethod
    def setUpClass(cls) -> None:
        cls.folder = tempfile.TemporaryDirectory()
        cls.weights = write_encoder(Path(cls.folder.name) / "embeddings" / "a--b")
        cls.runner = Runner("--pipeline", "embeddings", "--model-id", "a/b", models=Path(cls.folder.name), token="t0k")

    @classmethod
    def tearDownClass(cls) -> None:
        status = cls.runner.close()
        cls.folder.cleanup()
        assert status == 0, f"the runner ended with {status}"

    def vectors(self, given, **more) -> list:
        status, answer = self.runner.json("/v1/embeddings", model="a/b", input=given, **more)
        self.assertEqual(status, 200, answer)
        self.assertEqual((answer["object"], answer["model"]), ("list", "a/b"))
        self.assertEqual([item["index"] for item in answer["data"]], list(range(len(answer["data"]))))
        return [item["embedding"] for item in answer["data"]]

    def test_it_is_the_encoder_that_its_weights_are_for(self) -> None:
        # Of unequal lengths, so that the short ones are padded beside the long, in more than one batch.
        texts = ["a cat", "dogs", "a cat sat here a dog sat", "here"] * 5
        expected = {"a cat": [4, 5], "dogs": [6, 9], "a cat sat here a dog sat": [4, 5, 7, 8, 4, 6, 7], "here": [8]}
        for text, vector in zip(texts, self.vectors(texts)):
            wanted = by_hand(self.weights, [2, *expected[text], 3])
            self.assertLess(numpy.abs(numpy.array(vector) - wanted).max(), 1e-5, text)

    def test_one_text_counts_and_base64(self) -> None:
        status, answer = self.runner.json("/v1/embeddings", model="a/b", input="a cat", encoding_format="base64", user="me",
                                          dimensions=WIDTH)
        self.assertEqual((status, answer["usage"]), (200, {"prompt_tokens": 4, "total_tokens": 4}))
        [plain] = self.vectors("a cat")
        packed = numpy.frombuffer(base64.b64decode(answer["data"][0]["embedding"]), "<f4")
        self.assertLess(numpy.abs(packed - numpy.array(plain)).max(), 1e-6)

    def test_wrong_requests_are_refused(self) -> None:
        for fields, said in (({}, "input"), ({"input": []}, "input"), ({"input": ["a"] * 2049}, "2048"), ({"input": [1, 2]}, "text"),
                             ({"input": ["a", [1]]}, "text"), ({"input": ""}, "empty"), ({"input": ["a", ""]}, "empty"),
                             ({"input": "a" * 17_000}, "longer"), ({"input": "half \ud83d"}, "Unicode"),
                             ({"input": " a" * 11}, "at most 12"), ({"input": "a", "dimensions": 8}, "dimensions must be 16"),
                             ({"input": "a", "encoding_format": "hex"}, "encoding_format"), ({"input": "a", "model": "other"}, "but called")):
            status, answer = self.runner.json("/v1/embeddings", **fields)
            self.assertEqual((status, said in str(answer["detail"])), (400, True), (fields, answer))

    def test_the_token_is_asked_for(self) -> None:
        status, _ = self.runner.call("POST", "/v1/embeddings", b"{}", {"Authorization": "Bearer other"})
        self.assertEqual(status, 401)


@unittest.skipUnless((media.models_dir() / "embeddings" / REAL.replace("/", "--")).is_dir(),
                     f"{REAL} is not installed: python runner/install.py … --with embeddings")
class Real(unittest.TestCase):
    def test_what_means_the_same_is_near(self) -> None:
        runner = Runner("--pipeline", "embeddings", "--model-id", REAL)
        try:
            status, answer = runner.json("/v1/embeddings", model=REAL, input=[
                "A cat sleeps on the sofa.", "A kitten is napping on the couch.", "Ethereum moved to proof of stake."])
            self.assertEqual(status, 200, answer)
            cat, kitten, chain = (numpy.array(item["embedding"]) for item in answer["data"])
            self.assertGreater(cat @ kitten, 0.6)
            self.assertLess(cat @ chain, 0.2)
            self.assertAlmostEqual(cat @ cat, 1, 4)
        finally:
            runner.close()


if __name__ == "__main__":
    unittest.main()
