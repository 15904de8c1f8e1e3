// The controller of the page: sends one sound at a time, from microphone, sample or file, and shows its words.

import { Line, lost } from "./line.js";
import { INSECURE, MICROPHONE_ERRORS, MUTED, PAUSED, UNSUPPORTED } from "./messages.js";
import * as show from "./show.js";
import { audio, onChange, openMicrophone, play, readFile, resume, running } from "./sound.js";
import { Timeline } from "./view.js";

const TRY_AGAIN_SECONDS = [1, 2, 4, 8];
const SILENCE_SECONDS = 0.9; // appended to a sample, so that its word is emitted
const EARLY_CHUNKS = 50; // of 40 ms, kept until the server is connected
const AHEAD_SECONDS = 2; // of a file that are sent before the server has processed them
const UNEXPECTED = [0, 1001, 1005, 1006, 1011, 1012, 4000]; // close codes other than a refusal by the server

const $ = (id) => document.getElementById(id);
const timeline = new Timeline($("timeline"));
const line = new Line({ word: onWord, closed: onClosed });
let sound = null; // the current sound: kind, rate, seconds sent, start time, output delay
let microphone = null; // null while it is off
let turn = 0; // number of requests; an older request ends when it changes
let retry = null;
let tries = 0;
let samples = Promise.resolve(); // the queue of requested samples
let waiting = 0; // length of that queue
let voice = 0;
let activity = null; // shows the current capture or playback

function display(name, text, options) {
  activity = null;
  show.state(name, text, options);
}

function rest(notice = "") {
  display("ready", "Ready", { notice: notice || (window.isSecureContext ? "" : INSECURE) });
  show.hint(window.isSecureContext ? `Press the microphone and say a ${show.noun()}` : `Press a ${show.noun()}`);
}

function listening() {
  activity = () => {
    if (microphone.track.muted) return show.state("muted", "Microphone muted", { busy: true, notice: MUTED });
    show.state("listening", "Listening", { busy: true });
    show.hint(show.noun() === "digit" ? "Say a digit, from zero to nine" : "Say a word");
  };
  update();
}

// Shows the current activity, or that the browser has paused it. The button of a paused microphone resumes it.
function update() {
  if (!activity) return;
  if (!running()) show.state("paused", "Sound paused", { busy: !microphone, notice: PAUSED });
  else if (microphone && !sound) listen(); // the server has closed the connection
  else activity();
}

// --- Sending ---

async function begin(kind, rate, shift) {
  await line.open();
  line.begin(rate);
  timeline.reset(rate);
  sound = { kind, rate, seconds: 0, began: Infinity, shift };
}

function heard(chunk) {
  const seconds = chunk.length / sound.rate;
  line.send(chunk);
  timeline.add(chunk);
  sound.seconds += seconds;
  // The start of the sound: the earliest time consistent with all chunks, as none arrives before its end. It may
  // increase by 1 ms per second, because the clocks of sound card and computer differ.
  sound.began = Math.min(sound.began + seconds / 1000, performance.now() / 1000 - sound.seconds);
  if (sound.kind !== "file") $("mic").style.setProperty("--loud", timeline.loudness.toFixed(2));
}

function onWord(event) {
  if (!sound) return;
  const delay = performance.now() / 1000 - (sound.began + event.end_seconds + sound.shift);
  show.word(event, sound.kind === "file" ? null : Math.max(0, delay));
  timeline.mark(show.symbol(event.label), event.start_seconds, event.end_seconds);
}

function onClosed(reason, code) {
  const was = sound;
  const unexpected = UNEXPECTED.includes(code);
  sound = null;
  if (!was) { // the server may close an idle connection; the next sound opens another one
    if (unexpected && document.body.dataset.state === "ready") lose(". Press the microphone to connect again.");
    return;
  }
  waiting = 0;
  turn += 1;
  if (microphone && !running()) return; // nothing was sent; `update` starts again
  if (microphone && unexpected) {
    tryAgain(false);
    return;
  }
  closeMicrophone();
  if (/\brate\b/.test(reason)) {
    const [name, text, notice] = UNSUPPORTED;
    display(name, text, { notice: `${notice} (${was.rate} Hz: ${reason})` });
  } else lose(reason ? `: ${reason}` : ".");
}

function lose(ending) {
  display("lost", "Connection lost", { notice: `The connection was lost${ending}` });
}

function failed(error, otherwise) {
  sound = null;
  waiting = 0;
  closeMicrophone();
  if (!error.lost) rest(otherwise);
  else if (error.full) display("full", "Server full", { notice: "All places are taken; try again in a moment." });
  else display("lost", "Connection lost", { notice: "The server does not answer; try again." });
}

function closeMicrophone() {
  microphone?.close();
  microphone = null;
  $("mic").style.setProperty("--loud", 0);
}

// Stops the current sound and waits for its last words.
async function stop() {
  turn += 1;
  waiting = tries = 0;
  clearTimeout(retry);
  closeMicrophone();
  const ending = sound;
  if (ending) await line.end();
  if (sound === ending) sound = null;
}

// --- The microphone ---

async function listen() {
  const mine = ++turn;
  const early = []; // chunks from before the connection
  clearTimeout(retry);
  display("connecting", "Connecting", { busy: true });
  try {
    if (microphone) await audio(); // resumes if it was paused
    else {
      line.open().catch(() => {}); // concurrently; `begin` reports a failure
      const opened = await openMicrophone((chunk) => {
        if (sound?.kind === "microphone" && !waiting) heard(chunk);
        else if (turn === mine && !sound) early.push(chunk);
      });
      if (turn !== mine) return opened.close();
      microphone = opened;
      opened.track.onended = () => stop().then(() => rest("The microphone was taken away."));
    }
    await begin("microphone", microphone.rate, -microphone.delay);
    if (turn !== mine) return;
    early.slice(-EARLY_CHUNKS).forEach(heard);
    tries = 0;
    listening();
  } catch (error) {
    if (turn !== mine) return;
    if (error.lost) return tryAgain(error.full);
    const unknown = ["failed", "Microphone failed", `The microphone cannot be started: ${error.message || error.name}.`];
    await stop();
    const [name, text, notice] = MICROPHONE_ERRORS[error.name] ?? unknown;
    display(name, text, { notice });
  }
}

function tryAgain(full) {
  sound = null;
  const seconds = TRY_AGAIN_SECONDS[Math.min(tries++, TRY_AGAIN_SECONDS.length - 1)];
  retry = setTimeout(listen, 1000 * seconds);
  const again = "this page tries again by itself.";
  if (full) display("full", "Server full", { busy: true, notice: `All places are taken; ${again}` });
  else display("lost", "Connection lost", { busy: true, notice: `The server does not answer; ${again}` });
}

// --- Samples ---

function say(index, label) {
  waiting += 1;
  samples = samples.then(() => waiting && sayNow(index, label));
}

async function sayNow(index, label) {
  if (sound?.kind === "file") await stop();
  const key = show.keyOf(label);
  const mine = turn;
  key.classList.add("speaking");
  activity = () => show.state("playing", `Playing “${label}”`, { busy: true });
  activity();
  waiting = Math.max(1, waiting);
  try {
    await play(`sample/${index}.wav?voice=${voice++}`, SILENCE_SECONDS, {
      begin: async (rate, shift) => {
        if (sound?.rate !== rate) await begin(microphone ? "microphone" : "sample", rate, shift);
        Object.assign(sound, { began: Infinity, shift });
      },
      heard,
      wanted: () => turn === mine && sound,
    });
    if (turn !== mine) return;
    waiting -= 1;
    if (microphone) {
      Object.assign(sound, { began: Infinity, shift: -microphone.delay });
      listening();
    } else if (!waiting) {
      await stop();
      rest();
    }
  } catch (error) {
    if (turn === mine) failed(error, `The sample cannot be played: ${error.message}.`);
  } finally {
    key.classList.remove("speaking");
  }
}

// --- Files ---

async function open(file) {
  await stop();
  const mine = ++turn;
  const reading = (share) => display("reading", `${Math.floor(100 * share)} % of ${file.name}`, { busy: true });
  reading(0);
  try {
    const { samples, rate } = await readFile(file);
    if (turn === mine) await begin("file", rate, 0);
    for (let at = 0; at < samples.length && turn === mine; at += rate / 10) {
      heard(samples.slice(at, at + rate / 10));
      await line.behind(AHEAD_SECONDS);
      if (turn === mine) reading(Math.min(1, line.heard / (samples.length / rate)));
    }
    if (turn !== mine) return;
    await stop();
    rest();
  } catch (error) {
    if (turn === mine) failed(error, `${file.name} is no sound that this browser can read.`);
  }
}

// --- User input ---

$("mic").onclick = () => {
  if ($("mic").getAttribute("aria-pressed") === "false") return listen();
  stop();
  rest();
};
$("clear").onclick = () => {
  show.clear();
  if (sound) listening();
  else rest();
};
$("copy").onclick = show.copy;
$("file").onchange = () => {
  if ($("file").files.length) open($("file").files[0]);
  $("file").value = "";
};
$("drop").onkeydown = (event) => {
  if (event.key !== "Enter" && event.key !== " ") return;
  event.preventDefault();
  $("file").click();
};
document.ondragover = (event) => {
  event.preventDefault();
  document.body.classList.add("dragging");
};
document.ondragleave = (event) => event.relatedTarget ?? document.body.classList.remove("dragging");
document.ondrop = (event) => {
  event.preventDefault();
  document.body.classList.remove("dragging");
  if (event.dataTransfer.files.length) open(event.dataTransfer.files[0]);
};
document.addEventListener("keydown", ({ key }) => {
  if (key === "Escape" && $("mic").ariaPressed === "true") $("mic").click();
});

document.addEventListener("visibilitychange", resume);
for (const gesture of ["pointerup", "keydown"]) {
  document.addEventListener(gesture, ({ target, key = "Enter" }) => {
    // The microphone button resumes sound itself; resuming before its click would make the click stop it.
    if (!$("mic").contains(target) || (key !== "Enter" && key !== " ")) resume();
  });
}
onChange(update);

rest();
try {
  const [words, points] = await Promise.all(
    ["words.json", "sensitivity.json"].map(async (name) => (await fetch(name)).json()));
  show.sensitivity(points, (name) => line.choose(name));
  show.keys(words, say);
} catch {
  failed(lost());
}
