"""The live page in a real browser: what is spoken into its microphone, said by a sample or dropped on it is shown."""

import io
import json
import os
import re
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
from chromium import ELSEWHERE, PROGRAM, Chromium
from served import Served, spoken
from toy_listener import ToyListener

from audiojax import listen
from audiojax.errors import InputError
from audiojax.inference import PACKAGED
from audiojax.serving import assets, sessions
from audiojax.synthesis.phonemes import DIGITS

pytestmark = pytest.mark.skipif(PROGRAM is None, reason="there is no Chromium here")
RATE_HZ = 48_000
LISTENER = PACKAGED / "parameters.npz"
SHOWN = "[...document.querySelectorAll('#list b')].map((word) => word.textContent).join('')"


@pytest.fixture(scope="module")
def spoken_to(tmp_path_factory):
    """A server, and a browser into whose microphone five words of the toy language are spoken."""
    folder = tmp_path_factory.mktemp("browser")
    with Served(allowed_hosts=[ELSEWHERE]) as served, speaking(folder, spoken([3, 1, 4, 1, 5], RATE_HZ)) as browser:
        yield served, browser


def speaking(folder: Path, sound: np.ndarray) -> Chromium:
    soundfile.write(folder / "spoken.wav", np.concatenate([sound, np.zeros(RATE_HZ, np.float32)]), RATE_HZ)
    return Chromium(folder, folder / "spoken.wav")


def state(browser) -> str:
    return browser.run("document.body.dataset.state")


def notice(browser) -> str:
    return browser.run("document.getElementById('notice').textContent")


def hear(served, browser, digits: str) -> None:
    """Presses the button, and waits for the digits to appear."""
    browser.open(served.url)
    browser.until(lambda: state(browser) == "ready" and browser.run("document.querySelectorAll('#keys button').length"))
    browser.press("#mic")
    browser.until(lambda: digits in browser.run(SHOWN))
    assert state(browser) == "listening" and browser.run(
        f"document.getElementById('digit').textContent === {SHOWN}.at(-1)"
    )
    times = browser.run("[...document.querySelectorAll('#list small:nth-child(3)')].map((time) => time.textContent)")
    assert len(times) >= len(digits) and all(0 < float(time.split()[0]) < 5 for time in times)
    browser.press("#mic")
    browser.until(lambda: state(browser) == "ready")
    assert not browser.errors


@pytest.mark.slow
def test_what_is_spoken_into_the_microphone_is_shown(spoken_to):
    hear(*spoken_to, "31415")


CHOOSE = "{{ const it = document.getElementById('point'); it.value = '{}'; it.dispatchEvent(new Event('change')); }}"


def test_a_sensitivity_on_the_page_is_the_threshold_in_use(spoken_to):
    served, browser = spoken_to
    cost, in_use = (
        "document.getElementById('cost').textContent",
        lambda: [s.threshold for s in served.listener.slots.values()],
    )
    browser.open(served.url)
    browser.until(lambda: browser.run("document.getElementById('point').value") == "normal")
    assert "20 false words" in browser.run(cost) and "10.0\u00a0% of digits" in browser.run(cost)
    browser.press("#mic")
    browser.until(lambda: browser.run(SHOWN))
    assert in_use() == [0.5]
    browser.run(CHOOSE.format("low"))
    browser.until(lambda: in_use() == [0.99])
    assert "1 false words" in browser.run(cost) and "90.0\u00a0% of digits" in browser.run(cost)
    for shown in ("ready", "listening"):  # another sound, of which the server has to know it too
        browser.press("#mic")
        browser.until(lambda shown=shown: state(browser) == shown)
    assert in_use() == [0.99]
    browser.press("#mic")
    browser.until(lambda: state(browser) == "ready")


def test_a_page_without_operating_points_says_which_threshold_is_in_use(spoken_to):
    _, browser = spoken_to
    listener = ToyListener(1)
    listener.points = {}
    with Served(listener=listener) as served:
        browser.open(served.url)
        browser.until(lambda: "Threshold 0.5" in browser.run("document.getElementById('cost').textContent"))
        assert browser.run("document.getElementById('sensitivity').hidden")
    browser.errors.clear()


SIZES = {"desktop": (1280, 800), "phone": (390, 844)}
# Whether the end of an element's text is in view, and not covered.
IN_VIEW = """(selector) => {
    const element = document.querySelector(selector);
    const range = document.createRange();
    range.selectNodeContents(element);
    const { left, right, top, bottom } = [...range.getClientRects()].at(-1);
    const found = document.elementFromPoint((left + right) / 2, (top + bottom) / 2);
    return bottom <= innerHeight && right <= innerWidth && element.contains(found);
}"""
BOXES = """JSON.stringify(
    ['stage', 'hero', 'scene', 'mic', 'history', 'text', 'summary', 'list', 'samples', 'keys', 'drop']
    .map((id) => [id, document.getElementById(id).getBoundingClientRect().toJSON()]))"""


@pytest.mark.slow
@pytest.mark.parametrize("size", SIZES)
def test_recognised_digits_stay_in_view_and_a_notice_moves_nothing(spoken_to, tmp_path, size):
    _, browser = spoken_to
    labels = [7, 0, 2, 5] * 12
    soundfile.write(tmp_path / "long.wav", spoken(labels, 8000), 8000)
    browser.look(*SIZES[size], dark=False)
    with Served() as served:
        browser.open(served.url)
        browser.until(lambda: browser.run("document.querySelectorAll('#keys button').length"))
        empty = browser.run(BOXES)
        assert browser.run("document.documentElement.scrollWidth <= innerWidth")
        browser.drop(tmp_path / "long.wav")
        for number in (1, 9, 25, len(labels)):
            browser.until(lambda number=number: len(browser.run(SHOWN)) >= number)
            assert browser.run(f"({IN_VIEW})('#digit')")
            assert browser.run(f"({IN_VIEW})('#text')") and browser.run(f"({IN_VIEW})('#list li:last-child')")
        browser.until(lambda: state(browser) == "ready")
        assert browser.run("scrollY") == 0
        browser.press("#clear")
        browser.run("scrollTo(0, 0)")
        assert browser.run(BOXES) == empty
        browser.press("[data-label=one]")
        browser.until(lambda: state(browser) == "ready" and browser.run(SHOWN))
        browser.run("scrollTo(0, 0)")
        calm = browser.run(BOXES)
        assert not notice(browser)
    browser.until(lambda: state(browser) == "lost" and notice(browser))
    assert browser.run(BOXES) == calm
    browser.errors.clear()


def test_words_can_be_selected_and_copied_and_numbers_have_labels(spoken_to, tmp_path):
    served, browser = spoken_to
    soundfile.write(tmp_path / "some.wav", spoken([4, 7, 1], 8000), 8000)
    browser.open(served.url)
    browser.until(lambda: state(browser) == "ready")
    assert browser.run("document.getElementById('copy').disabled")
    browser.drop(tmp_path / "some.wav")
    browser.until(lambda: browser.run(SHOWN) == "471")
    for tile in browser.run("[...document.querySelectorAll('#list li')].map((tile) => tile.innerText)"):
        assert re.fullmatch(r"\d\n\d+ % sure\nat \d+:\d\d\.\d in the file", tile.strip())
    browser.call("Browser.grantPermissions", permissions=["clipboardReadWrite", "clipboardSanitizedWrite"])
    browser.press("#copy")
    browser.until(lambda: browser.run("navigator.clipboard.readText()") == "4 7 1")
    select = "getSelection().selectAllChildren(document.getElementById('{}')); getSelection().toString()"
    assert browser.run(select.format("text")).strip() == "4 7 1"
    assert browser.run(select.format("facts")).strip()
    browser.until(lambda: state(browser) == "ready")
    assert not browser.errors


@pytest.fixture(scope="module")
def packaged():
    if not LISTENER.is_file():
        pytest.skip("no listener comes with the package")
    from audiojax.streaming.recognizer import Recognizers

    return Recognizers.from_workdir(num_streams=2)


def string_of(parts: list[tuple[np.ndarray, int]], around_seconds: float) -> np.ndarray:
    """f32[t] at 48 kHz: words, with 0.2 s of silence between them."""
    around, between = (np.zeros(int(seconds * RATE_HZ), np.float32) for seconds in (around_seconds, 0.2))
    sounds = [np.repeat(sound, RATE_HZ // rate_hz) for sound, rate_hz in parts]
    return np.concatenate([around, *(piece for sound in sounds for piece in (sound, between)), around])


def sample_words(digits) -> list[tuple[np.ndarray, int]]:
    return [soundfile.read(io.BytesIO(assets.sample(DIGITS[digit], 1)), dtype="float32") for digit in digits]


@pytest.mark.slow
def test_the_packaged_listener_hears_the_embedded_voices(tmp_path, packaged):
    string = string_of(sample_words([3, 1, 4, 1, 5]), 0.5)
    with Served(listener=packaged) as served, speaking(tmp_path, string) as browser:
        hear(served, browser, "31415")


@pytest.mark.slow
def test_the_page_shows_the_digits_that_the_command_prints_for_the_file(tmp_path, packaged, capsys):
    """Real recordings, where there are some, played into the microphone once."""
    digits, words = [2, 7, 4, 0, 9, 5, 1, 6], sample_words([2, 7, 4, 0, 9, 5, 1, 6])
    if recordings := os.environ.get("AUDIOJAX_DATA"):
        folder = Path(recordings) / "fsdd" / "recordings"
        words = [soundfile.read(folder / f"{digit}_theo_7.wav", dtype="float32") for digit in digits]
    path = tmp_path / "string.wav"
    soundfile.write(path, string_of(words, 1.0), RATE_HZ)
    listen.main(["--json", str(path)])
    labels = [json.loads(line)["label"] for line in capsys.readouterr().out.splitlines()]
    expected = "".join(str(DIGITS.index(label)) for label in labels)
    assert len(expected) >= len(digits) - 1
    with Served(listener=packaged) as served, Chromium(tmp_path, path, loop=False) as browser:
        browser.open(served.url)
        browser.press("#mic")
        browser.until(lambda: len(browser.run(SHOWN)) >= len(expected))
        time.sleep(1)  # for a word too many
        assert browser.run(SHOWN) == expected and not browser.errors


LABELS = """
import("/view.js").then(({ Timeline }) => {
  const timeline = new Timeline(document.createElement("canvas")), boxes = [];
  timeline.pen.roundRect = (left, top, wide) => boxes.push([left, left + wide]);
  for (const [text, at] of [["9", 1], ["9", 1], ["4", 1.1], ["8", 1.2], ["1", 9]]) timeline.mark(text, at, at + 0.1);
  timeline.drawWords((column) => column, 2000, 30);
  return { words: timeline.words.map(({ text }) => text), boxes };
})
"""


def test_labels_on_the_timeline_do_not_overlap_and_one_of_a_double_has_both_words(spoken_to):
    served, browser = spoken_to
    browser.open(served.url)
    of = browser.run(LABELS)
    assert of["words"] == ["9 9", "4", "8", "1"] and not browser.errors
    edges = np.asarray(of["boxes"])
    assert len(edges) == 4 and (edges[1:, 0] > edges[:-1, 1]).all() and edges[3, 0] > edges[2, 1] + 50


@pytest.mark.slow
def test_a_sample_is_played_and_heard_by_mouse_and_by_key(spoken_to):
    served, browser = spoken_to
    browser.open(served.url)
    for number, press in enumerate((lambda: browser.press("[data-label=seven]"), lambda: browser.key("0"))):
        browser.until(
            lambda: state(browser) == "ready" and browser.run("document.querySelectorAll('#keys button').length")
        )
        press()
        browser.until(lambda: state(browser) == "playing")
        browser.until(lambda: state(browser) == "ready")
        browser.until(lambda number=number: len(browser.run(SHOWN)) > number)
    assert not browser.errors


@pytest.mark.slow
def test_a_file_that_is_dropped_is_heard_faster_than_it_lasts(spoken_to, tmp_path):
    served, browser = spoken_to
    labels = [7, 0, 2] * 10
    soundfile.write(tmp_path / "long.wav", spoken(labels, 8000), 8000)
    browser.open(served.url)
    browser.until(lambda: state(browser) == "ready")
    browser.drop(tmp_path / "long.wav")
    browser.until(lambda: state(browser) == "reading")
    browser.until(lambda: state(browser) == "ready")
    assert browser.run(SHOWN) == "".join(map(str, labels))
    assert served.listener.most_seconds <= sessions.SOUND_PER_TURN_SECONDS + 0.02
    (tmp_path / "text.txt").write_text("no sound")
    browser.drop(tmp_path / "text.txt")
    browser.until(lambda: "is no sound" in notice(browser))
    assert state(browser) == "ready" and not browser.errors


def test_a_lost_connection_is_said_and_comes_back_by_itself(spoken_to):
    _, browser = spoken_to
    with Served() as served:
        browser.open(served.url)
        browser.press("#mic")
        browser.until(lambda: state(browser) == "listening")
    browser.until(lambda: state(browser) == "lost" and "tries again" in notice(browser))
    with Served(port=int(served.url.split(":")[-1].strip("/"))):
        browser.until(lambda: state(browser) == "listening")
        assert not notice(browser)
        browser.press("#mic")
    browser.errors.clear()  # it complains of each try in vain


def test_who_finds_no_place_is_told_so_and_gets_the_next(spoken_to):
    _, browser = spoken_to
    with Served(num_streams=1) as served:
        with served.socket():
            browser.open(served.url)
            browser.press("#mic")
            browser.until(lambda: state(browser) == "full" and "places are taken" in notice(browser))
        browser.until(lambda: state(browser) == "listening")
        browser.press("#mic")


def test_a_page_without_https_says_why_there_is_no_microphone_and_samples_work(spoken_to):
    served, browser = spoken_to
    browser.open(served.url.replace("127.0.0.1", ELSEWHERE))
    browser.until(lambda: "--certfile" in notice(browser))
    assert browser.run("document.getElementById('mic').disabled")
    browser.until(lambda: browser.run("document.querySelectorAll('#keys button').length"))
    browser.press("[data-label=one]")
    browser.until(lambda: browser.run(SHOWN))
    assert not browser.errors


@pytest.mark.slow
def test_who_refuses_the_microphone_is_told_how_to_go_on(spoken_to, tmp_path):
    served = spoken_to[0]
    with Chromium(tmp_path, microphone=None) as browser:
        browser.open(served.url)
        browser.press("#mic")
        browser.until(lambda: state(browser) == "refused" and "Allow it" in notice(browser))
        assert not browser.errors


@pytest.mark.parametrize(
    "name, shown, word",
    [
        ("NotAllowedError", "refused", "Allow it"),
        ("SecurityError", "refused", "Allow it"),
        ("NotReadableError", "busy", "another program"),
        ("AbortError", "busy", "another program"),
        ("NotSupportedError", "unsupported", "sample rate"),
        ("OverconstrainedError", "unsupported", "sample rate"),
        ("NotFoundError", "missing", "no microphone"),
        ("UnknownError", "failed", "why it failed"),
    ],
)
@pytest.mark.slow
def test_each_reason_for_no_microphone_has_its_own_sentence(spoken_to, name, shown, word):
    served, browser = spoken_to
    browser.open(served.url)
    browser.until(lambda: state(browser) == "ready")
    browser.run(
        "navigator.mediaDevices.getUserMedia = async () => "
        f"{{ throw new DOMException('why it failed', '{name}'); }}; undefined"
    )
    browser.press("#mic")
    browser.until(lambda: state(browser) == shown)
    words = {"refused": "Allow it", "busy": "another program", "unsupported": "sample rate", "missing": "no microphone"}
    assert word in notice(browser)
    assert [key for key, other in words.items() if other in notice(browser)] == ([shown] if shown in words else [])
    assert not browser.errors


class LowRates(ToyListener):
    """A listener that takes no rate above 16 kHz."""

    def push(self, slot, samples, rate_hz=None):
        if (rate_hz or 0) > 16_000:
            raise InputError(f"the sample rate is {rate_hz} Hz; give one up to 16000.")
        super().push(slot, samples, rate_hz)


def test_a_rate_that_the_server_refuses_is_no_lost_connection(spoken_to):
    _, browser = spoken_to
    with Served(listener=LowRates(2)) as served:
        browser.open(served.url)
        browser.press("#mic")
        browser.until(lambda: state(browser) == "unsupported")
        rate = browser.run("import('./sound.js').then(({ audio }) => audio()).then(({ sampleRate }) => sampleRate)")
        assert f"{rate} Hz" in notice(browser)
        browser.until(lambda: not served.places_taken)
        assert state(browser) == "unsupported"


CONTEXT = "import('./sound.js').then(({ audio }) => audio())"


def test_paused_sound_is_never_shown_as_listening_and_goes_on_after_a_gesture(spoken_to):
    served, browser = spoken_to
    browser.open(served.url)
    browser.press("#mic")
    browser.until(lambda: state(browser) == "listening")
    for press in (lambda: browser.press("footer"), lambda: browser.press("#mic"), lambda: browser.key("x")):
        browser.run(f"{CONTEXT}.then((context) => context.suspend())")
        browser.until(lambda: state(browser) == "paused")
        assert "Press" in notice(browser) and "Listening" not in browser.run("document.body.innerText")
        press()
        browser.until(lambda: state(browser) == "listening")
        assert not notice(browser)
    browser.press("#mic")
    browser.until(lambda: state(browser) == "ready")
    assert not browser.errors


def test_sound_that_does_not_start_is_shown_as_paused(spoken_to):
    """As browsers do that want another gesture after the permission was given."""
    served, browser = spoken_to
    browser.open(served.url)
    browser.run(f"{CONTEXT}.then((context) => context.suspend())")
    resume = "AudioContext.prototype.resume"
    browser.run(f"globalThis.resumes = {resume}; {resume} = () => new Promise(() => {{}}); undefined")
    browser.press("#mic")
    browser.until(lambda: state(browser) == "paused")
    browser.run(f"{resume} = globalThis.resumes; undefined")
    browser.press("footer")
    browser.until(lambda: state(browser) == "listening")
    browser.press("#mic")
    assert not browser.errors


def test_a_muted_microphone_is_not_shown_as_listening(spoken_to):
    served, browser = spoken_to
    browser.open(served.url)
    get = "MediaDevices.prototype.getUserMedia"
    browser.run(
        f"{{ const get = {get}; {get} = async function (...all) {{ "
        "const stream = await get.apply(this, all); globalThis.track = stream.getAudioTracks()[0]; return stream; } }"
    )
    browser.press("#mic")
    browser.until(lambda: state(browser) == "listening")
    for muted, shown in ((True, "muted"), (False, "listening")):
        browser.run(
            f"Object.defineProperty(track, 'muted', {{ configurable: true, value: {str(muted).lower()} }});"
            f"track.dispatchEvent(new Event('{'mute' if muted else 'unmute'}'))"
        )
        browser.until(lambda shown=shown: state(browser) == shown)
    browser.press("#mic")
    assert not browser.errors


@pytest.mark.slow
def test_a_server_that_stops_answering_is_a_lost_connection(spoken_to):
    """The socket stays open, as when a cable is pulled."""
    _, browser = spoken_to
    stuck = threading.Event()
    with Served() as served:
        browser.open(served.url)
        browser.press("#mic")
        browser.until(lambda: state(browser) == "listening")
        advance = served.listener.advance
        served.listener.advance = lambda: (stuck.wait(60), advance())[1]
        try:
            browser.until(lambda: state(browser) == "lost")
        finally:
            stuck.set()
        browser.until(lambda: state(browser) == "listening")
        browser.press("#mic")
        browser.until(lambda: state(browser) == "ready")


@pytest.mark.slow
def test_an_idle_line_that_breaks_is_shown_as_lost_and_one_that_the_server_closes_is_not(spoken_to, tmp_path):
    _, browser = spoken_to
    soundfile.write(tmp_path / "one.wav", spoken([1], 8000), 8000)
    for idle_seconds, shown in ((60, "lost"), (1, "ready")):
        with Served(idle_seconds=idle_seconds) as served:
            browser.open(served.url)
            browser.drop(tmp_path / "one.wav")
            browser.until(lambda: browser.run(SHOWN) == "1" and state(browser) == "ready")
            if shown == "ready":
                browser.until(lambda served=served: not served.places_taken)
                assert state(browser) == "ready"
        if shown == "lost":
            browser.until(lambda: state(browser) == "lost")
    browser.errors.clear()
