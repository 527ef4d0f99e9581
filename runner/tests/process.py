"""A real runner process on a free port, and a small client for it."""

from __future__ import annotations

import http.client
import json
import os
import select
import subprocess
import sys
import tempfile
import uuid
from pathlib import Path

from media import RUNNER_DIR, models_dir

START_TIMEOUT_S = 120


class Runner:
    """Starts `python -m penstock_runner` and waits until its model is loaded (or has failed to)."""

    def __init__(self, *arguments: str, models: Path | None = None, token: str | None = None) -> None:
        self.token = token
        self._folder = tempfile.TemporaryDirectory(prefix="runner-test-")
        addr_file = Path(self._folder.name) / "addr.json"
        env = {**os.environ, "PYTHONPATH": str(RUNNER_DIR), "PYTHONUNBUFFERED": "1"}
        env.pop("AUTH_TOKEN", None)
        if token:
            env["AUTH_TOKEN"] = token
        self.process = subprocess.Popen(
            [sys.executable, "-m", "penstock_runner", "--models-dir", str(models or models_dir()),
             "--port", "0", "--addr-file", str(addr_file), "--device", "cpu", "--exit-with-parent", *arguments],
            env=env, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.log: list[str] = []
        # What the newest answer says of its time.
        self.timing: str | None = None
        try:
            self._read_log_until(("ready on", "cannot be loaded"))
            self.address = json.loads(addr_file.read_text())["http"]
        except BaseException:
            self.close()
            raise

    def _read_log_until(self, marks: tuple[str, ...]) -> None:
        while True:
            ready, _, _ = select.select([self.process.stderr], [], [], START_TIMEOUT_S)
            line = self.process.stderr.readline() if ready else ""
            if not line:
                raise AssertionError("the runner did not start:\n" + "".join(self.log))
            self.log.append(line)
            if any(mark in line for mark in marks):
                return

    def close(self) -> int:
        """Closes its standard input, as a dying supervisor does, and waits for the exit status."""
        self.process.stdin.close()
        try:
            status = self.process.wait(timeout=60)
        finally:
            if self.process.poll() is None:
                self.process.kill()
                self.process.wait()
        self.process.stderr.close()
        self._folder.cleanup()
        return status

    def call(self, method: str, path: str, body=None, headers: dict | None = None) -> tuple[int, dict]:
        connection = http.client.HTTPConnection(self.address, timeout=120)
        sent = dict(headers or {})
        if self.token and "Authorization" not in sent:
            sent["Authorization"] = f"Bearer {self.token}"
        try:
            connection.request(method, path, body=body, headers=sent)
            answer = connection.getresponse()
            self.timing = answer.getheader("Server-Timing")
            return answer.status, json.loads(answer.read())
        finally:
            connection.close()

    def form(self, path: str, file_field: str, file: bytes, **fields: str) -> tuple[int, dict]:
        """A form with a file, as the worker sends one."""
        boundary = uuid.uuid4().hex
        parts = [f'--{boundary}\r\nContent-Disposition: form-data; name="{file_field}"; filename="../x"\r\n\r\n'
                 .encode() + file + b"\r\n"]
        for name, value in fields.items():
            parts.append(f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
                         .encode())
        parts.append(f"--{boundary}--\r\n".encode())
        return self.call("POST", path, b"".join(parts),
                         {"Content-Type": f"multipart/form-data; boundary={boundary}"})

    def json(self, path: str, **fields) -> tuple[int, dict]:
        return self.call("POST", path, json.dumps(fields).encode(), {"Content-Type": "application/json"})

    def begun(self, path: str, long: dict, short: dict) -> http.client.HTTPConnection:
        """The connection of a long job that runs: a short one beside it is refused. Two that arrive at once take turns
        as they like, so it is sent again until it was the first."""
        while True:
            connection = http.client.HTTPConnection(self.address, timeout=120)
            connection.request("POST", path, json.dumps(long), {"Content-Type": "application/json"})
            status, _ = self.json(path, **short)
            answered, _, _ = select.select([connection.sock], [], [], 0)
            if status == 503 and not answered:
                return connection
            connection.close()

    def transcribe(self, audio: bytes, **fields: str) -> tuple[int, dict]:
        return self.form("/audio-to-text", "audio", audio, **fields)


def refused_start(*arguments: str, models: Path) -> str:
    """What a runner says that does not even begin."""
    done = subprocess.run([sys.executable, "-m", "penstock_runner", "--models-dir", str(models), "--port", "0", *arguments],
                          env={**os.environ, "PYTHONPATH": str(RUNNER_DIR)}, capture_output=True, text=True, check=False,
                          timeout=START_TIMEOUT_S)
    assert done.returncode == 64, (done.returncode, done.stderr)
    return done.stderr
