// Splits the sound of the microphone into chunks of 16-bit samples, on the audio thread of the browser.
const CHUNK_SECONDS = 0.04;

class Tap extends AudioWorkletProcessor {
  constructor() {
    super();
    this.on = true;
    this.port.onmessage = () => { this.on = false; };
    this.begin();
  }

  begin() {
    this.chunk = new Int16Array(Math.round(sampleRate * CHUNK_SECONDS));
    this.filled = 0;
  }

  process([channels]) {
    for (const sample of channels[0] ?? []) {
      this.chunk[this.filled++] = Math.max(-32768, Math.min(32767, Math.round(sample * 32768)));
      if (this.filled === this.chunk.length) {
        this.port.postMessage(this.chunk, [this.chunk.buffer]);
        this.begin();
      }
    }
    return this.on;
  }
}

registerProcessor("tap", Tap);
