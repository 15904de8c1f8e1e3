// The WebSocket connection to the server, which sends sound and receives words.

const FULL = 1013; // close code: the server has no free stream
const MAX_UNSENT_SECONDS = 3;
const LOST_SECONDS = 6; // without a due answer the connection counts as lost, even if the browser reports none

// Returns an error for an unreachable or full server.
export const lost = (full = false) => Object.assign(new Error("no connection"), { lost: true, full });

export class Line {
  // `on` has word(event) and closed(reason, code), which are called only after the connection was open. The code is 0
  // if the server does not answer.
  constructor(on) {
    Object.assign(this, { on, socket: null, opening: null, waiting: [], number: 0, sounding: false, ended: true });
    this.sensitivity = ""; // the server's own
  }

  // Connects, unless it is connected. Rejects with a `lost` error.
  open() {
    this.opening ??= new Promise((ready, failed) => {
      const socket = new WebSocket(new URL("listen", location.href.replace(/^http/, "ws")));
      let answered = performance.now();
      let error = "";
      const close = (code, reason) => {
        clearInterval(watching);
        socket.onmessage = socket.onclose = null;
        socket.close();
        const wasOpen = this.socket === socket;
        this.socket = this.opening = null;
        this.sounding = false;
        this.move();
        if (wasOpen) this.on.closed(error || reason, code);
        else failed(lost(code === FULL));
      };
      const watching = setInterval(() => {
        if (this.socket === socket && !this.due) answered = performance.now();
        if (performance.now() - answered > 1000 * LOST_SECONDS) close(0, "");
      }, 500);
      socket.binaryType = "arraybuffer";
      socket.onmessage = ({ data }) => {
        answered = performance.now();
        const message = JSON.parse(data);
        if (message.label) this.on.word(message);
        if (message.error) error = message.error;
        if (message.status === "ready") {
          this.socket = socket;
          ready();
        } else if (message.status) {
          Object.assign(this, { heard: message.seconds, ended: message.status === "ended" });
          this.move();
        }
      };
      socket.onclose = ({ code, reason }) => close(code, reason);
    });
    return this.opening;
  }

  // Whether an answer is due: the server reports each processed second of sound, and the end.
  get due() {
    return !this.ended && (!this.sounding || this.sent - this.heard > 1.5);
  }

  // Starts a sound with this sampling rate.
  begin(rate) {
    Object.assign(this, { rate, sent: 0, heard: 0, ended: false, sounding: true });
    this.number += 1;
    this.move();
    if (this.sensitivity) this.choose(this.sensitivity); // a new connection does not know it
    this.socket?.send(JSON.stringify({ rate_hz: rate }));
  }

  // Sets the sensitivity, of the sound that is being sent too.
  choose(name) {
    this.sensitivity = name;
    this.socket?.send(JSON.stringify({ sensitivity: name }));
  }

  send(samples) {
    if (!this.socket) return;
    this.sent += samples.length / this.rate;
    if (this.socket.bufferedAmount < 2 * MAX_UNSENT_SECONDS * this.rate) this.socket.send(samples);
    else this.socket.close(4000, "the network is too slow.");
  }

  // Ends the sound and waits until all of it is processed.
  end() {
    if (this.sounding) this.socket?.send('{"end": true}');
    this.sounding = false;
    return this.until(() => this.ended);
  }

  // Waits until the server is less than `seconds` behind.
  behind(seconds) {
    return this.until(() => this.sent - this.heard < seconds);
  }

  // Waits until `met` returns true or the sound has ended.
  async until(met) {
    const { number } = this;
    while (this.socket && number === this.number && !met()) await new Promise((moved) => this.waiting.push(moved));
  }

  move() {
    this.waiting.splice(0).forEach((moved) => moved());
  }
}
