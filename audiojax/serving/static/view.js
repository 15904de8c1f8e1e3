// The timeline of the last seconds: waveform, spectrogram up to 4 kHz, and words.

const COLUMNS_A_SECOND = 100;
const KEPT = 900; // columns
const BANDS = 56;
const [LOW_HZ, HIGH_HZ] = [80, 4000];
const RANGE_DB = 58;

const mel = (hz) => 2595 * Math.log10(1 + hz / 700);
const hertz = (mels) => 700 * (10 ** (mels / 2595) - 1);

// Computes the power in mel bands of a window of 25 ms.
class Spectrum {
  constructor(rate) {
    this.window = Math.round(0.025 * rate);
    this.size = 2 ** Math.ceil(Math.log2(this.window));
    this.real = new Float32Array(this.size);
    this.imaginary = new Float32Array(this.size);
    const edges = Array.from({ length: BANDS + 2 }, (_, i) =>
      (hertz(mel(LOW_HZ) + ((mel(HIGH_HZ) - mel(LOW_HZ)) * i) / (BANDS + 1)) * this.size) / rate);
    this.bands = edges.slice(2).map((end, i) => {
      const first = Math.floor(edges[i]);
      return [first, Math.max(Math.ceil(end), first + 1)];
    });
  }

  // Fills `out` with dB.
  of(sound, end, out) {
    const { real, imaginary, window, size } = this;
    real.fill(0);
    imaginary.fill(0);
    for (let i = 0; i < window; i++) {
      real[i] = (sound[end - window + i] ?? 0) * (0.5 - 0.5 * Math.cos((2 * Math.PI * i) / window));
    }
    transform(real, imaginary);
    this.bands.forEach(([from, to], band) => {
      let power = 1e-12;
      for (let bin = from; bin < to && bin < size / 2; bin++) {
        power = Math.max(power, real[bin] ** 2 + imaginary[bin] ** 2);
      }
      out[band] = 10 * Math.log10((power * 16) / window ** 2);
    });
  }
}

// The fast Fourier transform, in place.
function transform(real, imaginary) {
  const size = real.length;
  for (let i = 1, j = 0; i < size; i++) {
    let bit = size >> 1;
    for (; j & bit; bit >>= 1) j ^= bit;
    j ^= bit;
    if (i < j) {
      [real[i], real[j]] = [real[j], real[i]];
      [imaginary[i], imaginary[j]] = [imaginary[j], imaginary[i]];
    }
  }
  for (let length = 2; length <= size; length *= 2) {
    for (let k = 0; k < length / 2; k++) {
      const [c, s] = [Math.cos((2 * Math.PI * k) / length), -Math.sin((2 * Math.PI * k) / length)];
      for (let i = k; i < size; i += length) {
        const j = i + length / 2;
        const [x, y] = [real[j] * c - imaginary[j] * s, real[j] * s + imaginary[j] * c];
        [real[j], imaginary[j]] = [real[i] - x, imaginary[i] - y];
        real[i] += x;
        imaginary[i] += y;
      }
    }
  }
}

export class Timeline {
  constructor(canvas) {
    this.canvas = canvas;
    this.pen = canvas.getContext("2d");
    this.picture = new OffscreenCanvas(KEPT, BANDS);
    this.levels = new Float32Array(KEPT * BANDS);
    this.peaks = new Float32Array(KEPT);
    this.reset(16000);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.dress());
    new ResizeObserver(() => { this.fresh = true; }).observe(canvas);
    this.dress();
    const frame = () => { this.draw(); requestAnimationFrame(frame); };
    requestAnimationFrame(frame);
  }

  // Reads the colours of the page.
  dress() {
    const style = getComputedStyle(document.documentElement);
    const colour = (name) => style.getPropertyValue(name).trim();
    const [wave, line, word, text] = ["--accent", "--line", "--chip", "--on-chip"].map(colour);
    this.colours = { wave, line, word, text };
    const rgb = (name) => colour(name).match(/[0-9a-f]{2}/gi).map((part) => parseInt(part, 16));
    const stops = ["--heat-0", "--heat-1", "--heat-2", "--heat-3"].map(rgb);
    this.palette = Array.from({ length: 256 }, (_, i) => {
      const at = (i / 255) * (stops.length - 1);
      const low = Math.min(Math.floor(at), stops.length - 2);
      return stops[low].map((value, part) => value + (stops[low + 1][part] - value) * (at - low));
    });
    this.fresh = true;
  }

  // Starts a new sound.
  reset(rate) {
    Object.assign(this, { rate, columns: 0, heard: 0, shown: 0, top: -45, words: [], fresh: true });
    this.spectrum = new Spectrum(rate);
    this.recent = new Float32Array(0);
    this.levels.fill(-200);
    this.peaks.fill(0);
  }

  add(samples) {
    const sound = new Float32Array(this.recent.length + samples.length);
    sound.set(this.recent);
    for (let i = 0; i < samples.length; i++) sound[this.recent.length + i] = samples[i] / 32768;
    const first = this.heard - this.recent.length; // the place of sound[0] in the stream
    this.heard += samples.length;
    const bands = new Float32Array(BANDS);
    for (;; this.columns++) {
      const end = Math.round(((this.columns + 1) * this.rate) / COLUMNS_A_SECOND);
      if (end > this.heard) break;
      const at = this.columns % KEPT;
      this.spectrum.of(sound, end - first, bands);
      this.levels.set(bands, at * BANDS);
      let peak = 0;
      for (let i = Math.max(0, end - first - Math.round(this.rate / COLUMNS_A_SECOND)); i < end - first; i++) {
        peak = Math.max(peak, Math.abs(sound[i]));
      }
      this.peaks[at] = peak;
      this.top = Math.max(this.top - 0.02, -45, ...bands);
    }
    this.recent = sound.slice(Math.max(0, sound.length - 2 * this.spectrum.window));
    this.fresh = true;
  }

  // Adds a recognised word, with times in seconds of this sound; "double five" is two words with the same times.
  mark(text, start, end) {
    const last = this.words.at(-1);
    if (last && last.start === start && last.end === end) last.text += ` ${text}`;
    else this.words.push({ text, start, end });
    this.words = this.words.slice(-60);
    this.fresh = true;
  }

  // Returns the current level, from 0 to 1.
  get loudness() {
    return this.columns ? Math.min(1, Math.sqrt(this.peaks[(this.columns - 1) % KEPT])) : 0;
  }

  draw() {
    const behind = this.columns - this.shown;
    if (!this.fresh && behind < 0.01) return;
    this.fresh = false;
    this.shown += behind > 200 ? behind - 60 : Math.min(behind, Math.max(0.9, behind * 0.18));
    const { canvas, pen, colours } = this;
    const [width, height, scale] = [canvas.clientWidth, canvas.clientHeight, devicePixelRatio || 1];
    canvas.width = Math.round(width * scale);
    canvas.height = Math.round(height * scale);
    pen.setTransform(scale, 0, 0, scale, 0, 0);
    if (!this.columns) {
      this.drawSilence(width, height);
      return;
    }
    const visible = Math.min(KEPT - 120, Math.max(320, Math.round((width / 140) * COLUMNS_A_SECOND)));
    const step = width / visible;
    const x = (column) => width - (this.shown - column) * step;
    const from = Math.max(0, this.columns - KEPT, Math.floor(this.shown) - visible - 1);
    const [chips, waves] = [38, Math.round((height - 38) * 0.4)];
    this.drawSpectrum(x, from, step, chips + waves, height - chips - waves);

    const middle = chips + waves / 2;
    pen.fillStyle = colours.line;
    pen.fillRect(0, middle - 0.5, width, 1);
    pen.fillStyle = colours.wave;
    const bar = Math.max(2, step * 2);
    for (let column = from - (from % 4); column < this.shown; column += 4) {
      let peak = 0;
      for (let i = Math.max(column, from); i < Math.min(column + 4, this.columns); i++) {
        peak = Math.max(peak, this.peaks[i % KEPT]);
      }
      const tall = Math.min(1, peak ** 0.6 * 1.1) * (waves - 12);
      if (tall < 1) continue;
      pen.beginPath();
      pen.roundRect(x(column), middle - tall / 2, bar, tall, bar / 2);
      pen.fill();
    }
    this.drawWords(x, width, chips);
  }

  // Draws an ornament while there is no sound.
  drawSilence(width, height) {
    const { pen, colours } = this;
    pen.fillStyle = colours.line;
    for (let x = 12, i = 0; x < width - 12; x += 9, i++) {
      const hills = Math.sin(i * 0.21) * Math.sin(i * 0.077 + 1) + 0.5 * Math.sin(i * 0.9) * Math.sin(i * 0.13);
      const tall = 4 + Math.abs(hills) * height * 0.42 * Math.sin((Math.PI * x) / width);
      pen.beginPath();
      pen.roundRect(x, (height - tall) / 2, 4, tall, 2);
      pen.fill();
    }
  }

  drawSpectrum(x, from, step, top, height) {
    const columns = this.columns - from;
    if (columns <= 0) return;
    const image = new ImageData(columns, BANDS);
    for (let column = 0; column < columns; column++) {
      const at = ((from + column) % KEPT) * BANDS;
      for (let band = 0; band < BANDS; band++) {
        const level = Math.max(0, Math.min(1, 1 + (this.levels[at + band] - this.top) / RANGE_DB));
        const [red, green, blue] = this.palette[Math.round(level ** 1.3 * 255)];
        image.data.set([red, green, blue, 255 * Math.min(1, level * 4)], ((BANDS - 1 - band) * columns + column) * 4);
      }
    }
    this.picture.getContext("2d").clearRect(0, 0, KEPT, BANDS);
    this.picture.getContext("2d").putImageData(image, 0, 0);
    this.pen.imageSmoothingQuality = "high";
    this.pen.drawImage(this.picture, 0, 0, columns, BANDS, x(from), top, columns * step, height);
  }

  drawWords(x, width, height) {
    const { pen, colours } = this;
    pen.font = "600 15px system-ui, sans-serif";
    pen.textAlign = "center";
    pen.textBaseline = "middle";
    let free = -Infinity; // where the next label may begin, so that those of short words do not overlap
    for (const { text, start, end } of this.words) {
      const [from, to] = [x(start * COLUMNS_A_SECOND), x(end * COLUMNS_A_SECOND)];
      const wide = Math.max(to - from, pen.measureText(text).width + 14);
      const left = Math.max((from + to - wide) / 2, free);
      free = left + wide + 2;
      if (free < 0 || left > width) continue;
      pen.fillStyle = colours.word;
      pen.beginPath();
      pen.roundRect(left, 4, wide, height - 10, 9);
      pen.fill();
      pen.fillStyle = colours.text;
      pen.fillText(text, left + wide / 2, height / 2 - 0.5);
    }
  }
}
