// Messages for missing sound: the cause and what to do.

export const INSECURE =
  "Browsers give a page the microphone only over HTTPS or on localhost; " +
  "--certfile and --keyfile repair that.";
export const PAUSED = "The browser has paused sound. Press anywhere on this page, and it goes on.";
export const MUTED = "The system or the browser has muted the microphone, so that only silence arrives. Unmute it there.";

// Each has a state of the page, a title and a sentence.
const REFUSED = [
  "refused",
  "Microphone refused",
  "The browser does not give this page the microphone. Allow it beside the page's address, and in the system's " +
    "privacy settings, then press the button again.",
];
const BUSY = [
  "busy",
  "Microphone busy",
  "The microphone cannot be started: another program uses it, or the system has switched it off. Close that program, " +
    "then press the button again.",
];
const MISSING = ["missing", "No microphone", "This device has no microphone. Samples and files work."];
export const UNSUPPORTED = [
  "unsupported",
  "Rate not supported",
  "The microphone's sample rate is not supported. Choose 44,100 or 48,000 Hz in the system's sound settings, or " +
    "another microphone, then load this page again.",
];

// The messages for errors of the browser (Media Capture and Streams, 10.2; Web Audio, 1.23).
export const MICROPHONE_ERRORS = {
  NotAllowedError: REFUSED,
  SecurityError: REFUSED,
  NotReadableError: BUSY,
  AbortError: BUSY,
  NotFoundError: MISSING,
  OverconstrainedError: UNSUPPORTED,
  NotSupportedError: UNSUPPORTED,
};
