"""Recognises digits in sound files, from a microphone or on stdin, and prints each word when it is recognised.

Files can have any format, rate and length; each starts from the initial state. stdin can have any format too; samples
without a header are 16 bit, little-endian, mono. WAV, AIFF, AU, CAF and raw samples are processed as they arrive, other
formats when the input ends:

  arecord -q -t raw -f S16_LE -r 16000 | python -m audiojax.listen -

Ctrl-C ends the command and prints all words. Bad files cause a message on stderr and exit code 1 after the others.
"""

import json
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from audiojax import cli
from audiojax.audio.piped_sound import Blocks, piped_blocks
from audiojax.audio.signal import MAX_RATE_HZ, MIN_RATE_HZ
from audiojax.audio.sound_files import Warn, shortened, sound_blocks
from audiojax.errors import InputError, one_line
from audiojax.inference import PACKAGED
from audiojax.io import console
from audiojax.schema import DIGITS
from audiojax.streaming import operating_points
from audiojax.streaming.decoder import Event
from audiojax.streaming.recognizer import Recognizer
from audiojax.synthesis.phonemes import named

BLOCK_SECONDS = 0.1  # length of a block; the maximum for stdin
_STDIN = 0
_LONG_SECONDS = 30.0  # longer files have a progress bar
_METER_DB = 60.0  # range of the level meter below full scale
_METER_WIDTH = 30
_SEGMENTS = (  # seven-segment digits
    "┏━┓   ╻ ╺━┓ ╺━┓ ╻ ╻ ┏━╸ ┏━╸ ╺━┓ ┏━┓ ┏━┓",
    "┃ ┃   ┃ ┏━┛ ╺━┫ ┗━┫ ┗━┓ ┣━┓   ┃ ┣━┫ ┗━┫",
    "┗━┛   ╹ ┗━╸ ╺━┛   ╹ ╺━┛ ┗━┛   ╹ ┗━┛ ╺━┛",
)


class Moment(NamedTuple):
    """The result after each block of sound of an input.

    It has the words that were recognised with this block, the level of the block in dB, the seconds of sound so far
    and in total, and the most probable word at this time with its probability.
    """

    events: list[Event]
    level_db: float  # of the block, 0 is full scale
    seconds: float
    total_seconds: float | None  # None if unknown
    guess: str  # the most probable word at this time, "" for none
    probability: float  # of the guess


class Listening:
    """An iterable that recognises the words in one input and yields a `Moment` for each of its blocks of sound.

    `words` has the labels of all words so far.
    """

    def __init__(self, recognizer: Recognizer, name: str, blocks: Blocks):
        """Takes an input: its name, and its `blocks` (i16[t], sampling rate, total seconds or None if unknown)."""
        self.name, self.words = name, list[str]()
        self._recognizer, self._blocks = recognizer, blocks

    def __iter__(self) -> Iterator[Moment]:
        """Resets the recogniser, and yields the result of each block and, at last, of the end of the input."""
        self._recognizer.reset()
        seconds, total_seconds = 0.0, None
        for samples, rate_hz, total_seconds in self._blocks:
            events = self._recognizer.feed(samples, rate_hz)
            seconds += len(samples) / rate_hz
            yield self._moment(events, samples, seconds, total_seconds)
        yield self._moment(self._recognizer.flush(), np.zeros(1, np.int16), seconds, total_seconds)

    def summary(self) -> str:
        """Returns a line with all words so far, with digits as numerals, as in "recognised: 4 7 1"."""
        words = [str(DIGITS.index(label)) if label in DIGITS else label for label in self.words]
        return f"recognised: {' '.join(words) or 'nothing'}"

    def _moment(self, events: list[Event], samples: np.ndarray, seconds: float, total: float | None) -> Moment:
        self.words += [event.label for event in events]
        level = float(np.sqrt(np.mean(np.square(samples, dtype=np.float64)))) / 32768 if len(samples) else 0.0
        names, probabilities = (*self._recognizer.label_names, ""), self._recognizer.probabilities
        best = int(np.argmax(probabilities))
        level_db = 20 * float(np.log10(max(level, 1e-6)))
        return Moment(events, level_db, seconds, total, names[best], float(probabilities[best]))


def main(argv: list[str]) -> int:
    """Prints the words in all inputs as they are recognised; returns the exit code, 1 if an input cannot be read."""
    parser = cli.parser("listen", __doc__ or "")
    parser.add_argument(
        "--workdir", type=Path, help="folder of a run of configs/listen.py; default: the packaged recogniser"
    )
    parser.add_argument("--mic", action="store_true", help="use the microphone")
    parser.add_argument("--rate", type=int, metavar="HZ", help="sampling rate of raw samples on stdin; default: 16000")
    known = "; ".join(f"{name}: {point}" for name, point in operating_points.read(PACKAGED).items())
    parser.add_argument(
        "--sensitivity",
        choices=operating_points.NAMES,
        default="",
        help=f"a measured operating point; for the packaged recogniser: {known}".replace("%", "%%"),
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object per word")
    parser.add_argument("files", nargs="*", metavar="FILE", help="a sound file, or - for stdin")
    args = parser.parse_args(argv)
    shorter: list[str] = []
    inputs = _inputs(args.files, args.mic, args.rate, shorter.append)
    cli.setup_jax()
    recognizer = Recognizer.from_workdir(args.workdir, args.sensitivity)
    if args.sensitivity:
        print(f"sensitivity {args.sensitivity}, {recognizer.points[args.sensitivity]}", file=sys.stderr)
    bad = 0
    for name, blocks in inputs:
        listening = Listening(recognizer, name, blocks)
        try:
            _show(listening, as_json=args.json, titled=len(inputs) > 1)
        except InputError as error:
            sentence = str(error) if name in str(error) else f"{name}: {error}"
            print(f"audiojax: {sentence}", file=sys.stderr)
            bad += 1
        except KeyboardInterrupt as interrupt:
            print(listening.summary(), file=sys.stderr if args.json else sys.stdout, flush=True)
            return 128 + (interrupt.args[0] if interrupt.args else signal.SIGINT)
    if shorter:
        print(f"audiojax: {shortened(shorter, len(inputs))}", file=sys.stderr)
    return 1 if bad else 0


def _inputs(files: Sequence[str], mic: bool, rate_hz: int | None, warn: Warn) -> list[tuple[str, Blocks]]:
    """Returns name and sound of each input."""
    if mic == bool(files):
        raise InputError("the input is missing or ambiguous; give sound files, or - for stdin, or --mic.")
    if rate_hz is not None and "-" not in files:
        raise InputError(f"--rate {rate_hz} is for samples on stdin, which is not an input; leave it out.")
    if rate_hz is not None and not MIN_RATE_HZ <= rate_hz <= MAX_RATE_HZ:
        raise InputError(
            f"--rate is {rate_hz}; give the rate in Hz of the samples on stdin, from {MIN_RATE_HZ} to {MAX_RATE_HZ}."
        )
    if "-" in files and os.isatty(_STDIN):
        raise InputError("stdin is a terminal; send it samples: arecord -q -t raw -f S16_LE -r 16000 | ... listen -")
    if mic:
        return [("microphone", _microphone())]
    return [
        ("stdin", piped_blocks(_STDIN, rate_hz, BLOCK_SECONDS, warn=warn))
        if file == "-"
        else (file, sound_blocks(file, BLOCK_SECONDS, warn=warn))
        for file in files
    ]


def _microphone() -> Blocks:
    """Returns the sound of the default microphone at its own rate. Raises InputError if there is none."""
    try:
        import sounddevice
    except ImportError:
        raise InputError("--mic needs an extra: pip install -e '.[mic]'.") from None
    except OSError:
        raise InputError("--mic needs the library PortAudio; install it, as in apt install libportaudio2.") from None
    try:
        rate_hz = int(sounddevice.query_devices(kind="input")["default_samplerate"])
    except (sounddevice.PortAudioError, ValueError) as error:
        raise InputError(f"--mic finds no microphone ({one_line(error)}); connect one, or give files.") from None

    def blocks() -> Blocks:
        try:
            with sounddevice.InputStream(samplerate=rate_hz, channels=1, dtype="int16") as microphone:
                while True:
                    yield microphone.read(rate_hz // 50)[0][:, 0], rate_hz, None
        except sounddevice.PortAudioError as error:
            raise InputError(f"the microphone failed ({one_line(error)}); connect it again, or give files.") from None

    return blocks()


def _show(listening: Listening, *, as_json: bool, titled: bool) -> None:
    """Processes an input to its end and shows the results: on a terminal, or with a line per event."""
    if console.has_screen() and not as_json:
        _draw(listening, titled)
        return
    if titled and not as_json:
        print(f"{listening.name}:", flush=True)
    for moment in _with_bar(listening):
        for event in moment.events:
            print(_as_json(listening.name, event) if as_json else _as_line(event), flush=True)


def _with_bar(listening: Listening) -> Iterator[Moment]:
    """Yields the results, with a progress bar on stderr for a long file if only stderr is a terminal."""
    if sys.stdout.isatty() or not sys.stderr.isatty():
        yield from listening
        return
    with console.progress(f"processing {Path(listening.name).name}", "seconds") as report:
        for moment in listening:
            if moment.total_seconds is not None and moment.total_seconds > _LONG_SECONDS:
                report(int(moment.seconds), int(moment.total_seconds))
            yield moment


def _as_json(name: str, event: Event) -> str:
    return json.dumps({"file": name, **named(event.label), **event._asdict()})


def _as_line(event: Event) -> str:
    delay = event.emitted_seconds - event.end_seconds
    return f"{event.start_seconds:9.2f} s  {event.label:<8}{event.probability:>7.1%}  {delay:.2f} s after its end"


def _draw(listening: Listening, titled: bool) -> None:
    """Shows events as they arrive; below them the level, the current guess, and all digits in large type."""
    with console.Screen() as screen:
        if titled:
            screen.say(f"{listening.name}:")
        screen.draw(_instruments(listening.name, Moment([], -_METER_DB, 0.0, None, "", 0.0)))
        try:
            for moment in listening:
                for event in moment.events:
                    screen.say(_as_line(event))
                large = _large(listening.words, screen.width)
                screen.draw([*_instruments(listening.name, moment), ("", ""), *large])
        finally:
            screen.draw(_large(listening.words, screen.width))
    print(listening.summary(), flush=True)


def _instruments(name: str, moment: Moment) -> list[tuple[str, str]]:
    filled = round(_METER_WIDTH * min(1.0, max(0.0, 1 + moment.level_db / _METER_DB)))
    total = f" of {moment.total_seconds:.1f}" if moment.total_seconds else ""
    guess = f"{moment.guess} {moment.probability:.0%}" if moment.guess else "no word just now"
    style = "green" if moment.level_db < -3 else "bold red"
    return [
        (f"{name}, {moment.seconds:.1f}{total} s", "dim"),
        (f"{'█' * filled}{'░' * (_METER_WIDTH - filled)} {max(moment.level_db, -_METER_DB):4.0f} dB", style),
        (guess, "yellow" if moment.guess else "dim"),
    ]


def _large(labels: Sequence[str], width: int) -> list[tuple[str, str]]:
    """Returns the last digits that fit into `width` columns, in large type; other words as one line."""
    if not labels:
        return []
    if not all(label in DIGITS for label in labels):
        return [(" ".join(labels)[-width:], "bold cyan")]
    at = [4 * DIGITS.index(label) for label in labels[-max(1, width // 5) :]]
    return [("  ".join(row[i : i + 3] for i in at), "bold cyan") for row in _SEGMENTS]


if __name__ == "__main__":
    cli.run(main)
