"""HTTP responses of the live page's server: its static files, words and sensitivities, and synthetic sample words."""

import dataclasses
import functools
import json
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

import numpy as np
from websockets.datastructures import Headers
from websockets.http11 import Response

from audiojax.audio.signal import prepare_clip, wav_file
from audiojax.synthesis.formant import RATE_HZ, synthesise
from audiojax.synthesis.phonemes import PRONUNCIATIONS
from audiojax.synthesis.voices import Voice, make_voice

if TYPE_CHECKING:
    from audiojax.streaming.recognizer import Recognizers

FOLDER = Path(__file__).parent / "static"
SCRIPTS = ("page.js", "show.js", "line.js", "messages.js", "sound.js", "view.js", "worklet.js")
FILES = {
    "/": ("page.html", "text/html; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
    **{f"/{name}": (name, "text/javascript; charset=utf-8") for name in SCRIPTS},
}
SECURITY = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Permissions-Policy": "microphone=(self), camera=(), geolocation=()",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-cache",
}
NUM_VOICES = 12


def answer(path: str, query: str, recognizers: "Recognizers") -> Response:
    """Returns the HTTP response to a GET of `path?query`: a file, JSON, a WAV file or 404."""
    if path in FILES:
        name, kind = FILES[path]
        return response(HTTPStatus.OK, (FOLDER / name).read_bytes(), kind)
    if path == "/words.json":
        words = [{"label": name, "sample": name in PRONUNCIATIONS} for name in recognizers.label_names]
        return response(HTTPStatus.OK, json.dumps(words).encode(), "application/json")
    if path == "/sensitivity.json":
        points = {name: point._asdict() for name, point in recognizers.points.items()}
        content = {"threshold": recognizers.threshold, "points": points}
        return response(HTTPStatus.OK, json.dumps(content).encode(), "application/json")
    samples = {f"/sample/{i}.wav": name for i, name in enumerate(recognizers.label_names) if name in PRONUNCIATIONS}
    voice = parse_qs(query).get("voice", ["0"])[0]
    if path in samples and voice.isascii() and voice.isdigit() and len(voice) < 10:
        return response(HTTPStatus.OK, sample(samples[path], int(voice) % NUM_VOICES), "audio/wav")
    return response(HTTPStatus.NOT_FOUND, b"There is nothing here.\n")


def response(status: HTTPStatus, body: bytes, kind: str = "text/plain; charset=utf-8") -> Response:
    """Returns an HTTP response with `body` of the content type `kind`, and with headers for security."""
    headers = {"Content-Type": kind, "Content-Length": str(len(body)), "Connection": "close", **SECURITY}
    return Response(status.value, status.phrase, Headers(headers), body)


@functools.lru_cache(maxsize=10 * NUM_VOICES)
def sample(word: str, number: int) -> bytes:
    """Returns a WAV file of `word`, synthesised with voice `number`, with faint background noise."""
    voice: Voice = dataclasses.replace(
        make_voice(0, number), peak_db=-6.0, snr_db=40.0, hum_db=-60.0, knocks=0.0, room=0.01
    )
    clip = synthesise(word, voice, np.random.default_rng([number, *word.encode()]))
    return wav_file(prepare_clip(clip, RATE_HZ, RATE_HZ), RATE_HZ)
