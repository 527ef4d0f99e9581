"""The openai and livepeer-ai SDKs, unmodified, against the gateway whose URL is the one argument.

Two more arguments name a PNG picture and a WAV sound. What was answered is printed as one JSON object.
"""

import json
import sys

import openai
from livepeer_ai import Livepeer

gateway, picture, sound = sys.argv[1:]
seen = {}

client = openai.OpenAI(base_url=f"{gateway}/v1", api_key="unused", max_retries=0)
messages = [{"role": "user", "content": "hi"}]
chat = client.chat.completions.create(model="chat", messages=messages, max_tokens=64)
seen["chat"] = chat.choices[0].message.content
stream = client.chat.completions.create(
    model="chat", messages=messages, stream=True, stream_options={"include_usage": True}
)
chunks = list(stream)
seen["stream"] = [c.choices[0].delta.content for c in chunks if c.choices]
seen["stream_tokens"] = chunks[-1].usage.total_tokens
with open(sound, "rb") as file:
    seen["transcription"] = client.audio.transcriptions.create(model="whisper-1", file=file).text
with open(sound, "rb") as file:
    verbose = client.audio.transcriptions.create(
        model="whisper-1", file=file, response_format="verbose_json"
    )
    seen["segments"] = [segment.text for segment in verbose.segments]
speech = client.audio.speech.create(model="tts-1", voice="alloy", input="hello")
seen["speech"] = len(speech.content)
images = client.images.generate(
    model="dall-e-3", prompt="a kite", size="256x256", response_format="b64_json"
)
seen["image"] = images.data[0].b64_json
seen["models"] = sorted(model.id for model in client.models.list())
embeddings = client.embeddings.create(model="m", input=["a", "b"], encoding_format="float")
seen["embeddings"] = [entry.embedding for entry in embeddings.data]
# As the SDK asks by itself, for base64, which it decodes if it comes.
embeddings = client.embeddings.create(model="m", input=["a", "b"])
seen["embeddings_as_usual"] = [entry.embedding for entry in embeddings.data]
try:
    client.audio.speech.create(model="tts-1", voice="alloy", input="hello", response_format="pcm")
except openai.BadRequestError as error:
    seen["pcm"] = error.body["message"]
try:
    client.chat.completions.create(model="nobody/has-it", messages=messages)
except openai.InternalServerError as error:
    seen["nobody"] = [error.status_code, error.type, error.code]
try:
    client.chat.completions.create(model="chat", messages=messages, n=3)
except openai.BadRequestError as error:
    seen["bad"] = error.body["message"]

with Livepeer(http_bearer="unused", server_url=gateway) as livepeer:
    generate = livepeer.generate
    made = generate.text_to_image(request={"prompt": "a kite", "width": 64, "height": 64})
    seen["text_to_image"] = [image.url for image in made.image_response.images]
    image = {"file_name": "kite.png", "content": open(picture, "rb").read()}
    made = generate.image_to_image(request={"prompt": "a kite", "image": image})
    seen["image_to_image"] = len(made.image_response.images)
    made = generate.image_to_video(request={"image": image})
    seen["image_to_video"] = [image.url for image in made.video_response.images]
    made = generate.upscale(request={"prompt": "a kite", "image": image})
    seen["upscale"] = len(made.image_response.images)
    audio = {"file_name": "speech.wav", "content": open(sound, "rb").read()}
    made = generate.audio_to_text(request={"audio": audio})
    seen["audio_to_text"] = made.text_response.text
    made = generate.segment_anything2(request={"image": image})
    seen["segment_anything_2"] = made.masks_response.masks
    made = generate.llm(request={"messages": messages})
    seen["llm"] = made.llm_response.choices[0].message.content
    made = generate.image_to_text(request={"image": image})
    seen["image_to_text"] = made.image_to_text_response.text
    made = generate.text_to_speech(request={"text": "hello"})
    seen["text_to_speech"] = made.audio_response.audio.url

print(json.dumps(seen))
