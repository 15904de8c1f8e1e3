// The sources of sound: microphone, samples and files, as mono 16-bit samples.

import { lost } from "./line.js";

const PLAIN = { channelCount: 1, echoCancellation: false, noiseSuppression: false, autoGainControl: false };
const FILE_HZ = 16000;

const START_SECONDS = 1; // after which sound that has not started counts as paused

let context = null;
let changed = () => {};

// Calls `callback` when the browser pauses or resumes sound, or when the system mutes the microphone.
export function onChange(callback) {
  changed = callback;
}

// Returns whether sound is captured and played. Browsers suspend it without a gesture, in a call, and at will.
export const running = () => context?.state === "running";

// Requests that sound resumes, which a browser may allow only after a gesture.
export function resume() {
  if (context && !running()) context.resume().catch(() => {});
}

// Returns the audio context, which runs if the browser allows it.
export async function audio() {
  if (!context) {
    context = new AudioContext({ latencyHint: "interactive" });
    context.onstatechange = () => changed();
  }
  resume();
  for (let waited = 0; !running() && waited < START_SECONDS; waited += 0.02) await sleep(0.02);
  return context;
}

const sleep = (seconds) => new Promise((done) => setTimeout(done, 1000 * seconds));

// Opens the microphone; `heard` receives all chunks. Returns its rate, its delay if known, its track, and a function
// that closes it.
export async function openMicrophone(heard) {
  const stream = await navigator.mediaDevices.getUserMedia({ audio: PLAIN });
  try {
    const context = await audio();
    await context.audioWorklet.addModule("worklet.js").catch(() => { throw lost(); });
    const source = context.createMediaStreamSource(stream);
    const tap = new AudioWorkletNode(context, "tap", { channelCount: 1, channelCountMode: "explicit" });
    tap.port.onmessage = ({ data }) => heard(data);
    source.connect(tap).connect(context.destination); // the destination drives the graph; the tap outputs silence
    const [track] = stream.getAudioTracks();
    track.onmute = track.onunmute = () => changed();
    const close = () => {
      tap.port.onmessage = track.onmute = track.onunmute = track.onended = null;
      tap.port.postMessage("stop");
      source.disconnect();
      tap.disconnect();
      track.stop();
    };
    return { close, track, rate: context.sampleRate, delay: track.getSettings().latency ?? 0 };
  } catch (error) {
    stream.getTracks().forEach((track) => track.stop());
    throw error;
  }
}

// Returns the samples of a sound file, at 16 kHz.
export async function readFile(file) {
  return mono(await new OfflineAudioContext(1, 1, FILE_HZ).decodeAudioData(await file.arrayBuffer()));
}

// Plays a sound and passes its samples, followed by silence, to `heard` while they are played. Before the first ones,
// `begin` receives their rate and the output delay. Stops when `wanted` returns false.
export async function play(url, silenceSeconds, { begin, heard, wanted }) {
  const context = await audio();
  const answer = await fetch(url).catch(() => { throw lost(); });
  if (!answer.ok) throw new Error(`the server answers ${answer.status}`);
  const buffer = await context.decodeAudioData(await answer.arrayBuffer());
  const { samples, rate } = mono(buffer);
  const sound = new Int16Array(samples.length + Math.round(silenceSeconds * rate));
  sound.set(samples);
  await begin(rate, context.outputLatency ?? 0);
  const source = new AudioBufferSourceNode(context, { buffer });
  source.connect(context.destination);
  const start = context.currentTime + 0.02;
  source.start(start);
  for (let sent = 0; sent < sound.length && wanted();) {
    await sleep(0.04);
    const due = Math.min(sound.length, Math.floor((context.currentTime - start) * rate));
    if (due > sent) heard(sound.slice(sent, due));
    sent = Math.max(sent, due);
  }
  source.stop();
}

function mono(buffer) {
  const channels = Array.from({ length: buffer.numberOfChannels }, (_, i) => buffer.getChannelData(i));
  const samples = new Int16Array(buffer.length);
  for (let i = 0; i < samples.length; i++) {
    let sum = 0;
    for (const channel of channels) sum += channel[i];
    samples[i] = Math.max(-32768, Math.min(32767, Math.round((sum / channels.length) * 32768)));
  }
  return { samples, rate: buffer.sampleRate };
}
