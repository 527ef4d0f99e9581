"""What the scripts of this folder have in common: they say JSON, one object a line, and read texts."""

import json


def say(**seen) -> None:
    print(json.dumps(seen), flush=True)


async def text(segment) -> str:
    reader, parts = segment.make_reader(), []
    while chunk := await reader.read(chunk_size=1 << 16):
        parts.append(chunk)
    await segment.close()
    return b"".join(parts).decode()
