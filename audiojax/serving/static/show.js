// The view of the words: the last word, highlighted keys, the history; and the state of the page.

const DIGITS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"];
const HISTORY = 300;

const $ = (id) => document.getElementById(id);
const delays = [];
let count = 0;

export const symbol = (label) => (DIGITS.includes(label) ? String(DIGITS.indexOf(label)) : label);
// What the server recognises: "digit", or "word" if there are others.
export const noun = () => (document.body.classList.contains("words") ? "word" : "digit");
const isDigit = (label) => DIGITS.includes(label);
const percent = (share) => `${Math.min(99, Math.round(share * 100))} %`;
const clock = (seconds) => `${Math.floor(seconds / 60)}:${(seconds % 60).toFixed(1).padStart(4, "0")}`;

// Shows the state of the page; with `busy`, the large button stops the activity.
export function state(name, text, { busy = false, notice = "" } = {}) {
  document.body.dataset.state = name;
  $("state-text").textContent = $("state").title = text;
  if ($("notice").textContent !== notice) $("notice").textContent = notice;
  $("notice").hidden = !notice;
  $("mic").setAttribute("aria-pressed", String(busy));
  $("mic").setAttribute("aria-label", busy ? "Stop" : "Listen to the microphone");
  $("mic").disabled = !window.isSecureContext && !busy;
}

// Shows an instruction in place of a word.
export function hint(text) {
  if (count) return;
  $("word").className = "hint";
  $("name").textContent = text;
}

// Shows a word; `delay` is the time in seconds from its end, null for a file.
export function word({ label, probability, start_seconds: start }, delay) {
  count += 1;
  $("digit").textContent = isDigit(label) ? symbol(label) : "";
  $("name").textContent = label;
  $("word").className = "";
  void $("word").offsetWidth; // restarts the animation
  $("word").className = "new";
  $("bar").style.setProperty("--sure", probability);
  const when = delay === null ? clock(start) : `${delay.toFixed(2)} s`;
  const timing = delay === null ? `at ${when}` : `${when} after the word`;
  $("facts").textContent = `${percent(probability)} sure · ${timing}`;
  light(keyOf(label));
  remember(label, probability, delay === null ? [`at ${when}`, "in the file"] : [when, "delay"]);
  if (delay !== null) delays.push(delay);
  const middle = [...delays].sort((a, b) => a - b)[Math.floor(delays.length / 2)];
  const words = count === 1 ? "1 word" : `${count} words`;
  $("summary").textContent = middle === undefined ? words : `${words}, median delay ${middle.toFixed(2)} s`;
}

function light(key) {
  if (!key) return;
  clearTimeout(key.unlight);
  key.classList.add("lit");
  key.unlight = setTimeout(() => key.classList.remove("lit"), 700);
}

function remember(label, probability, [when, kind]) {
  const item = document.createElement("li");
  item.classList.toggle("unsure", probability < 0.6);
  const add = (tag, ...content) => item.appendChild(document.createElement(tag)).append(...content);
  const labelled = (value, name) => {
    const caption = document.createElement("i");
    caption.textContent = name;
    return [`${value} `, caption];
  };
  add("b", symbol(label));
  add("small", ...labelled(percent(probability), "sure"));
  add("small", ...labelled(when, kind));
  following($("list"), () => {
    $("list").append(item);
    while ($("list").children.length > HISTORY) $("list").firstChild.remove();
  });
  // Appended instead of replaced, which keeps a selection.
  following($("text"), () => $("text").append(`${count > 1 ? " " : ""}${symbol(label)}`));
  $("clear").disabled = $("copy").disabled = false;
}

// Calls `change`, which adds to an element, and keeps its end in view unless it was scrolled back.
function following(element, change) {
  const atEnd = element.scrollTop + element.clientHeight > element.scrollHeight - 40;
  change();
  if (atEnd) element.scrollTop = element.scrollHeight;
}

export function clear() {
  count = delays.length = 0;
  for (const id of ["list", "text", "summary", "digit", "facts"]) $(id).replaceChildren();
  $("clear").disabled = $("copy").disabled = true;
}

// Copies all words. Without HTTPS a page has no clipboard API, but it can copy a selection.
export async function copy() {
  try {
    await navigator.clipboard.writeText($("text").textContent);
  } catch {
    getSelection().selectAllChildren($("text"));
    document.execCommand("copy");
  }
  $("copy").textContent = "Copied";
  setTimeout(() => { $("copy").textContent = "Copy"; }, 1500);
}

// Creates a key for each word; `say(index, label)` is called for those with a synthetic sample.
export function keys(words, say) {
  document.body.classList.toggle("words", !words.every(({ label }) => isDigit(label)));
  words.forEach(({ label, sample }, index) => {
    const key = document.createElement("button");
    Object.assign(key, { type: "button", textContent: symbol(label), disabled: !sample });
    key.ariaLabel = `Say “${label}”`;
    key.dataset.label = label;
    key.onclick = () => say(index, label);
    $("keys").append(key);
  });
  $("samples").hidden = !words.some(({ sample }) => sample);
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || !/^\d$/.test(event.key)) return;
    keyOf(DIGITS[event.key])?.click();
  });
}

// The operating points of the recogniser, with the error rates of each; `choose(name)` is called when one is chosen.
export function sensitivity({ threshold, points }, choose) {
  const select = $("point");
  const names = Object.keys(points);
  $("sensitivity").hidden = !names.length;
  const showRates = () => {
    const point = points[select.value];
    $("cost").textContent = point
      ? `In tests ${Math.round(point.false_events_per_hour)} false words an hour, ` +
        `${(100 * point.digit_error_rate).toFixed(1)}\u00a0% of digits wrong`
      : `Threshold ${threshold}, as configured; its errors were not measured`;
  };
  select.append(...names.map((name) => new Option(name[0].toUpperCase() + name.slice(1), name)));
  select.value = names.find((name) => points[name].threshold === threshold);
  select.onchange = () => {
    showRates();
    choose(select.value);
  };
  showRates();
}

export const keyOf = (label) => $("keys").querySelector(`[data-label="${CSS.escape(label)}"]`);
