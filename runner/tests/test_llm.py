"""Chat with a language model: llama.cpp with a tiny model of random weights, that a test made, and with a real one
where it is installed (`install.py --with llm`)."""

from __future__ import annotations

import http.client
import json
import tempfile
import time
import unittest
from pathlib import Path

import gguf
import media
from process import Runner, refused_start

TINY = "test/random"
REAL = "Qwen/Qwen2.5-Coder-0.5B-Instruct-Q4_K_M"
# Far more than is ever said: an answer that nobody stops would take minutes.
CONTEXT = 200_000
PATIENCE_S = 30


def asked(text: str = "hello", **more) -> dict:
    return {"messages": [{"role": "user", "content": text}], "max_tokens": 8, "temperature": 0, **more}


def streamed(runner: Runner, **fields) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
    connection = http.client.HTTPConnection(runner.address, timeout=PATIENCE_S)
    connection.request("POST", "/llm", json.dumps({**fields, "stream": True}), {"Content-Type": "application/json"})
    return connection, connection.getresponse()


def events(answer: http.client.HTTPResponse) -> list[str]:
    lines = answer.read().decode().split("\n\n")
    assert lines.pop() == "", lines
    return [line.removeprefix("data: ") for line in lines]


class Tiny(unittest.TestCase):
    @classmethod
    def setUpClass(cls) -> None:
        cls.folder = tempfile.TemporaryDirectory()
        gguf.write(Path(cls.folder.name) / "llm" / "test--random" / "weights.gguf")
        cls.runner = Runner("--pipeline", "llm", "--model-id", TINY, "--context-tokens", str(CONTEXT), "--threads", "1",
                            models=Path(cls.folder.name))

    @classmethod
    def tearDownClass(cls) -> None:
        status = cls.runner.close()
        cls.folder.cleanup()
        assert status == 0, f"the runner ended with {status}"

    def answer(self, **fields) -> dict:
        status, answer = self.runner.json("/llm", **fields)
        self.assertEqual(status, 200, answer)
        return answer

    def wait_for(self, status: int) -> None:
        """Until a job is answered with it. Each question is a job of its own."""
        until = time.monotonic() + PATIENCE_S
        while (got := self.runner.json("/llm", **asked(max_tokens=1)))[0] != status:
            self.assertLess(time.monotonic(), until, got)

    def test_a_whole_answer_is_counted(self) -> None:
        answer = self.answer(**asked(model=TINY))
        [choice] = answer["choices"]
        self.assertEqual((answer["model"], choice["index"], choice["finish_reason"]), (TINY, 0, "length"))
        self.assertEqual(choice["message"]["role"], "assistant")
        # A letter is a token of this model.
        self.assertRegex(choice["message"]["content"], "^[a-z]{8}$")
        used = answer["usage"]
        self.assertEqual(used["completion_tokens"], 8)
        self.assertEqual(used["total_tokens"], used["prompt_tokens"] + 8)
        longer = self.answer(**asked("hello there"))["usage"]["prompt_tokens"]
        self.assertEqual(longer - used["prompt_tokens"], len(" there"))
        self.assertEqual(type(answer["created"]), int)

    def test_an_answer_in_pieces_says_the_same_and_ends_with_its_reason(self) -> None:
        connection, answer = streamed(self.runner, **asked())
        self.assertEqual((answer.status, answer.getheader("content-type").split(";")[0]), (200, "text/event-stream"))
        *pieces, done = events(answer)
        connection.close()
        self.assertEqual(done, "[DONE]")
        pieces = [json.loads(piece) for piece in pieces]
        said = "".join(piece["choices"][0]["delta"]["content"] for piece in pieces)
        whole = self.answer(**asked())
        self.assertEqual(said, whole["choices"][0]["message"]["content"])
        self.assertEqual([piece["choices"][0]["finish_reason"] for piece in pieces], [None] * 8 + ["length"])
        self.assertEqual(pieces[-1]["usage"], whole["usage"])
        self.assertEqual(len({(piece["id"], piece["model"], piece["created"]) for piece in pieces}), 1)

    def test_roles_go_into_the_models_own_template(self) -> None:
        turns = [{"role": "system", "content": "a"}, {"role": "user", "content": "b"}, {"role": "assistant", "content": "c"},
                 {"role": "user", "content": "d"}]
        used = self.answer(messages=turns, max_tokens=1)["usage"]["prompt_tokens"]
        text = "".join(f"{turn['role']}: {turn['content']} " for turn in turns)
        # A sign a token, one more at the start, and the space before the first word that this kind of vocabulary wants.
        self.assertAlmostEqual(used, len(text), delta=2)

    def test_wrong_requests_are_refused(self) -> None:
        user = {"role": "user", "content": "x"}
        wrong = [{}, {"messages": []}, {"messages": "x"}, {"messages": [user] * 513}, {"messages": ["x"]},
                 {"messages": [{"role": "tool", "content": "x"}]}, {"messages": [{"role": "user"}]},
                 {"messages": [{"role": "user", "content": [{"type": "text"}]}]},
                 asked("half a \ud83d"), asked(max_tokens=0), asked(max_tokens=-1), asked(max_tokens=1e300),
                 asked(max_tokens="many"), asked(temperature=-1), asked(temperature=3), asked(top_p=2), asked(top_k=-2),
                 asked(stream="perhaps"), asked(model="other/model")]
        for fields in wrong:
            for stream in (True, False):
                status, answer = self.runner.json("/llm", **{"stream": stream, **fields})
                self.assertEqual(status, 400, (str(fields)[:200], answer))
                self.assertTrue(answer["detail"]["msg"])

    def test_messages_that_the_template_refuses_are_the_callers_mistake(self) -> None:
        for stream in (True, False):
            status, answer = self.runner.json("/llm", messages=[{"role": "user", "content": "x"}] * 10, stream=stream)
            self.assertEqual((status, answer["detail"]["msg"]),
                             (400, "the model's template refuses these messages: too many turns"))

    def test_questions_that_are_too_long_are_refused_before_an_answer_begins(self) -> None:
        for stream in (True, False):
            status, answer = self.runner.json("/llm", **asked("x" * 2 * CONTEXT, stream=stream))
            self.assertEqual(status, 400, answer)
            self.assertIn("exceeds the available context size", answer["detail"]["msg"])
        status, answer = self.runner.json("/llm", **asked("x" * (1 << 20)))
        self.assertEqual(status, 413, answer)

    def test_a_listener_who_hangs_up_frees_the_place(self) -> None:
        connection, answer = streamed(self.runner, **asked(max_tokens=CONTEXT))
        self.assertIn(b"data: ", answer.readline())
        self.assertEqual(self.runner.json("/llm", **asked())[0], 503)
        answer.close()
        connection.close()
        self.wait_for(200)

    def test_a_caller_who_hangs_up_before_the_answer_frees_the_place(self) -> None:
        self.runner.begun("/llm", asked(max_tokens=CONTEXT), asked(max_tokens=1)).close()
        self.wait_for(200)

    def test_the_card_says_whose_weights_they_are(self) -> None:
        _, version = self.runner.call("GET", "/version")
        self.assertEqual(version["model_id"], TINY)
        self.assertIn("supplied by the operator", version["card"])


class Start(unittest.TestCase):
    def test_a_folder_without_weights_is_a_mistake_of_the_operators(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            said = refused_start("--pipeline", "llm", "--model-id", "a/b", models=Path(folder))
            self.assertRegex(said, "no model a/b for llm, and .*a--b does not hold one")

    def test_a_file_that_is_no_model_is_an_error(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "m.gguf").write_bytes(b"GGUF" + bytes(100))
            runner = Runner("--pipeline", "llm", "--model-id", "a/b", "--model-dir", folder)
            self.assertEqual(runner.call("GET", "/health"), (200, {"status": "ERROR"}))
            self.assertEqual(runner.json("/llm", **asked())[0], 503)
            runner.close()


@unittest.skipUnless((media.models_dir() / "llm" / REAL.replace("/", "--")).is_dir(),
                     f"{REAL} is not installed: python runner/install.py … --with llm")
class Real(unittest.TestCase):
    def test_it_knows_a_capital_and_ends_by_itself(self) -> None:
        runner = Runner("--pipeline", "llm", "--model-id", REAL)
        try:
            status, answer = runner.json("/llm", **asked("What is the capital of France?", max_tokens=64))
            self.assertEqual(status, 200, answer)
            [choice] = answer["choices"]
            self.assertIn("Paris", choice["message"]["content"])
            self.assertEqual(choice["finish_reason"], "stop")
            self.assertGreater(64, answer["usage"]["completion_tokens"])
        finally:
            runner.close()


if __name__ == "__main__":
    unittest.main()
