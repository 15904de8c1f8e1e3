"""The live page in a real browser: what is spoken into its microphone, said by a sample or dropped on it is shown."""

import io
from pathlib import Path

import numpy as np
import pytest
import soundfile
from chromium import ELSEWHERE, PROGRAM, Chromium
from served import Served, spoken

from audiojax.data.phonemes import DIGITS
from audiojax.demo import assets, hall

pytestmark = pytest.mark.skipif(PROGRAM is None, reason="there is no Chromium here")
RATE_HZ = 48_000
LISTENER = assets.FOLDER.parent / "listener" / "parameters.npz"
SHOWN = "[...document.querySelectorAll('#list b')].map((word) => word.textContent).join('')"


@pytest.fixture(scope="module")
def spoken_to(tmp_path_factory):
    """A server, and a browser into whose microphone five words of the toy language are spoken."""
    folder = tmp_path_factory.mktemp("browser")
    with Served() as served, speaking(folder, spoken([3, 1, 4, 1, 5], RATE_HZ)) as browser:
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


def test_what_is_spoken_into_the_microphone_is_shown(spoken_to):
    hear(*spoken_to, "31415")


@pytest.mark.skipif(not LISTENER.is_file(), reason="no listener comes with the package")
def test_the_packaged_listener_hears_the_embedded_voices(tmp_path):
    from audiojax.stream import Recognizers

    parts = [np.zeros(RATE_HZ // 2, np.float32)]
    for digit in (3, 1, 4, 1, 5):
        sound, rate_hz = soundfile.read(io.BytesIO(assets.sample(DIGITS[digit], 1)), dtype="float32")
        parts += [np.repeat(sound, RATE_HZ // rate_hz), np.zeros(RATE_HZ // 5, np.float32)]
    served = Served(listener=Recognizers.from_workdir(num_streams=2))
    with served, speaking(tmp_path, np.concatenate(parts)) as browser:
        hear(served, browser, "31415")


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
    assert served.listener.most_seconds <= hall.SOUND_PER_TURN_SECONDS + 0.02
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


def test_who_refuses_the_microphone_is_told_how_to_go_on(spoken_to, tmp_path):
    served = spoken_to[0]
    with Chromium(tmp_path, microphone=None) as browser:
        browser.open(served.url)
        browser.press("#mic")
        browser.until(lambda: state(browser) == "refused" and "Allow it" in notice(browser))
        assert not browser.errors
