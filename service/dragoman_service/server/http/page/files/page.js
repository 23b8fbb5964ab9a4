// The page: translates what is typed, and shows what the server says of it.

import { AlignedTexts } from "./alignment.js";
import { Documents } from "./documents.js";
import { bestOf, directionOf, langOf, nameOf, sourcesOf, targetsOf } from "./languages.js";
import { Failure, detectLanguage, listModels, settingsOfPage, token, translateStream } from "./server.js";

const PAUSE = 300; // milliseconds without a keystroke after which a text is sent
const LONGEST_SHARED = 2000; // characters of a text that the address has
const LONGEST_QUOTE = 60;
const TOKEN_CHARACTERS = /^[!-~]*$/;

const view = Object.fromEntries([...document.querySelectorAll("[id]")].map((it) => [it.id, it]));
const aligned = new AlignedTexts(view.mirror, view.translation);
const documents = new Documents(view, requestForDocument, showFailure);

// What the user chose, even while there is no such choice: languages, of which "" is any, and a model.
const wanted = { source: "", target: "", model: "" };
let models = []; // in service
let detected = ""; // language of the text, as far as it is known
let current; // what is shown: {text, html, translation, selected}
let running = new AbortController(); // of the calls for the text
let timer; // of the next attempt
let earliest = 0; // before that time the server wants no further call

// Choices

function modelsInUse() {
  return view.model.value ? models.filter((it) => idOf(it) === view.model.value) : models;
}

function idOf(model) {
  return `${model.name}@${model.version}`;
}

function labelOf(model) {
  return [idOf(model), ...(model.aliases ?? [])].join(", ");
}

function sourceLanguage() {
  return view.source.value || detected;
}

function fill(select, options, value) {
  select.replaceChildren(...options.map(([value, label]) => new Option(label, value)));
  select.value = value;
  if (select.selectedIndex < 0) select.selectedIndex = 0;
}

/** Offer the models, and their languages. */
function fillChoices() {
  fill(view.model, [["", "Automatic"], ...models.map((it) => [idOf(it), labelOf(it)])], wanted.model);
  fill(view.source, [["", "Detect"], ...sourcesOf(modelsInUse()).map((it) => [it, nameOf(it)])], wanted.source);
  fillTargets();
}

/** Offer the languages into which the text can be translated. */
function fillTargets() {
  const used = modelsInUse();
  const targets = targetsOf(used, sourceLanguage());
  const offered = targets.length > 0 ? targets : targetsOf(used, "");
  fill(view.target, offered.map((it) => [it, nameOf(it)]), bestOf(offered, wanted.target));
  const source = sourceLanguage();
  view.swap.disabled = !source || !targetsOf(models, view.target.value).includes(source);
  show(view.text, source);
  show(view.mirror, source);
}

/** Show text in an element as its language is written. */
function show(element, language) {
  element.lang = langOf(language);
  element.dir = directionOf(language);
}

function swap() {
  const [source, target] = [sourceLanguage(), view.target.value];
  if (!targetsOf(modelsInUse(), target).includes(source)) wanted.model = "";
  if (current) view.text.value = current.translation.hypotheses[current.selected].text ?? "";
  choose({ source: target, target: source });
}

function choose(choice) {
  Object.assign(wanted, choice);
  detected = "";
  fillChoices();
  textChanged(0);
}

// The address

function saveToAddress() {
  const text = view.text.value;
  const state = {
    ...wanted,
    target: wanted.source ? view.target.value : wanted.target,
    html: view.html.checked ? "1" : "",
    text: text.length <= LONGEST_SHARED ? text : "",
  };
  const given = Object.entries(state).filter(([, value]) => value);
  history.replaceState(null, "", `#${new URLSearchParams(given)}`);
}

function loadFromAddress() {
  const state = new URLSearchParams(location.hash.slice(1));
  view.html.checked = state.get("html") === "1";
  if (state.has("text")) view.text.value = state.get("text");
  const [source, target, model] = ["source", "target", "model"].map((name) => state.get(name) ?? "");
  choose({ source, target, model });
}

// Translating

/** Stop the running calls, and translate after a pause in milliseconds. */
function restart(pause = PAUSE) {
  running.abort();
  running = new AbortController();
  clearTimeout(timer);
  timer = setTimeout(attempt, Math.max(pause, earliest - Date.now()), running.signal);
}

async function attempt(signal) {
  try {
    if (models.length === 0) await loadModels(signal);
    saveToAddress();
    if (isTranslatable()) await translate(signal);
    showBusy(false);
  } catch (error) {
    if (signal.aborted) return;
    showBusy(false);
    showFailure(error);
  }
}

async function loadModels(signal) {
  models = await listModels(signal);
  showFailure(undefined);
  fillChoices();
  showText();
}

async function translate(signal) {
  const text = view.text.value;
  const html = view.html.checked;
  showBusy(true);
  if (!view.source.value) await detect(text, signal);
  const started = performance.now();
  const elapsed = () => (performance.now() - started) / 1000;
  let firstPiece;
  for await (const { chunk, result } of translateStream(requestFor(text, html), signal)) {
    if (firstPiece === undefined) {
      firstPiece = elapsed();
      showFailure(undefined);
      clearTranslation();
    }
    if (chunk) view.translation.append(chunk);
    if (result) showResult(text, html, result, { firstPiece, whole: elapsed() });
  }
}

async function detect(text, signal) {
  const [likeliest] = await detectLanguage(text, signal);
  detected = likeliest?.language ?? "";
  view.detected.textContent = likeliest ? `Detected: ${nameOf(detected)}, ${percent(likeliest.confidence)}` : "";
  fillTargets();
}

function requestFor(text, html) {
  const source = sourceLanguage();
  const number = (input) => (input.value ? Number(input.value) : undefined);
  const beamSize = number(view["beam-size"]);
  const most = Math.min(beamSize ?? Infinity, modelsInUse()[0].limits.maxBeamSize);
  return {
    text,
    model: view.model.value,
    sourceLanguage: targetsOf(modelsInUse(), source).length > 0 ? source : "",
    targetLanguage: view.target.value,
    format: html ? "TEXT_FORMAT_HTML" : "TEXT_FORMAT_PLAIN",
    returnAlignments: !html,
    options: {
      beamSize,
      lengthPenalty: number(view["length-penalty"]),
      numHypotheses: Math.max(1, Math.min(Number(view["count-of-hypotheses"].value), most)),
    },
  };
}

function requestForDocument() {
  const { model, source, target } = view;
  return { model: model.value, sourceLanguage: source.value, targetLanguage: target.value };
}

// Showing

function textChanged(pause) {
  showText();
  if (!view.text.value) {
    detected = "";
    clearTranslation();
    showFailure(undefined);
    showBusy(false);
  }
  restart(pause);
}

/** Show the text itself, which has no words yet that belong to a translation. */
function showText() {
  const text = view.text.value;
  aligned.clear();
  view.mirror.textContent = text;
  view.clear.hidden = !text;
  if (view.source.value || !text) view.detected.textContent = "";
  const [used, most] = [charactersOf(text), mostCharacters()];
  view.count.textContent = `${count(used)} of ${count(most)} characters`;
  view.count.hidden = !text || models.length === 0;
  view.count.classList.toggle("exceeded", used > most);
  view.text.setAttribute("aria-invalid", String(used > most));
  setStale(true);
}

function isTranslatable() {
  return view.text.value !== "" && models.length > 0 && charactersOf(view.text.value) <= mostCharacters();
}

function mostCharacters() {
  return modelsInUse()[0]?.limits.maxCharacters ?? Infinity;
}

/** Say whether what is shown is of an earlier text. */
function setStale(stale) {
  for (const element of [view.translation, view.outcome]) element.classList.toggle("stale", stale);
  view.outcome.inert = stale;
  view.hint.hidden = stale || aligned.targetWords.length === 0;
}

function showBusy(busy) {
  view.result.classList.toggle("busy", busy);
  view.translation.setAttribute("aria-busy", String(busy));
}

function clearTranslation() {
  current = undefined;
  view.translation.replaceChildren();
  show(view.translation, view.target.value);
  view.outcome.hidden = true;
  view.copy.hidden = true;
  setStale(false);
}

function showResult(text, html, result, elapsed) {
  const { translation } = result;
  current = { text, html, translation, selected: 0 };
  view.copy.hidden = !navigator.clipboard; // browsers have none where the page came without TLS
  view.outcome.hidden = false;
  showAlternatives(translation.hypotheses);
  showHypothesis(0);
  showWarnings(text, translation);
  showTimings(result, elapsed);
}

function showHypothesis(index) {
  const { text, translation } = current;
  current.selected = index;
  const buttons = view.hypotheses.querySelectorAll("button");
  buttons.forEach((it, at) => it.setAttribute("aria-pressed", String(at === index)));
  const hypothesis = translation.hypotheses[index];
  const alignments = (hypothesis.sentences ?? []).flatMap((it) => it.alignments ?? []);
  aligned.show(text, hypothesis.text ?? "", alignments);
  setStale(false);
}

function showAlternatives(hypotheses) {
  view.alternatives.hidden = hypotheses.length < 2;
  view.hypotheses.replaceChildren(...hypotheses.map(({ text = "", score = 0 }, index) => {
    const button = elementOf("button", elementOf("span", text), elementOf("data", score.toFixed(2)));
    button.type = "button";
    show(button.firstChild, view.target.value);
    button.addEventListener("click", () => showHypothesis(index));
    return elementOf("li", button);
  }));
}

function showWarnings(text, { warnings = [], finishReason }) {
  const items = warnings.map(({ message, source: { start = 0, end = 0 } = {} }) => {
    const quoted = [...text].slice(start, Math.min(end, start + LONGEST_QUOTE)).join("");
    return elementOf("li", message, ...(quoted ? [" ", elementOf("q", quoted)] : []));
  });
  if (finishReason === "FINISH_REASON_LENGTH") {
    items.push(elementOf("li", "The translation is incomplete: a sentence has reached the maximum length."));
  }
  view.warnings.replaceChildren(...items);
  view.warnings.hidden = items.length === 0;
}

function showTimings({ translation, model, version }, { firstPiece, whole }) {
  const { queueSeconds = 0, encodeSeconds = 0, decodeSeconds = 0 } = translation.timings ?? {};
  const tokens = translation.targetTokens ?? 0;
  const speed = decodeSeconds > 0 ? `${count(tokens / decodeSeconds)} tokens/s` : "";
  const rows = [
    ["Queue", duration(queueSeconds)],
    ["Encoder", duration(encodeSeconds)],
    ["Decoder", duration(decodeSeconds)],
    ["First piece", duration(firstPiece)],
    ["Whole", duration(whole)],
    ["Tokens", count(tokens)],
    ["Speed", speed],
    ["Model", model ? `${model}@${version}` : ""],
  ];
  const known = rows.filter(([, value]) => value);
  view.timings.replaceChildren(
    ...known.map(([name, value]) => elementOf("div", elementOf("dt", name), elementOf("dd", value))),
  );
}

/** Show why a call failed, and try again when the server says; `undefined`: none did. */
function showFailure(error) {
  view.failure.hidden = !error;
  if (!error) return;
  if (!(error instanceof Failure)) console.error(error);
  if (error.status === 404) models = []; // there may be others by now
  view.access.hidden &&= error.status !== 401;
  const field = error.field ? [" (field ", elementOf("code", error.field), ")"] : [];
  const wait = error.retrySeconds > 0 ? [` Trying again in ${duration(error.retrySeconds)}.`] : [];
  view.reason.replaceChildren(error.message, ...field, ...wait);
  view.again.hidden = error.retrySeconds > 0 || error.status < 500;
  if (error.retrySeconds > 0) {
    earliest = Date.now() + 1000 * error.retrySeconds;
    restart(0);
  }
}

function elementOf(name, ...content) {
  const element = document.createElement(name);
  element.append(...content);
  return element;
}

function charactersOf(text) {
  return [...text].length;
}

function count(value) {
  return Math.round(value).toLocaleString("en");
}

function duration(seconds) {
  if (seconds < 1) return `${count(1000 * seconds)} ms`;
  return `${seconds.toLocaleString("en", { maximumFractionDigits: 1 })} s`;
}

function percent(share) {
  return share.toLocaleString("en", { style: "percent" });
}

// What the user does

view.text.addEventListener("input", () => textChanged(PAUSE));
view.text.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) restart(0);
});
view.clear.addEventListener("click", () => {
  view.text.value = "";
  textChanged(0);
  view.text.focus();
});
view.copy.addEventListener("click", async () => {
  await navigator.clipboard.writeText(current.translation.hypotheses[current.selected].text ?? "");
  view.copy.textContent = "Copied";
  setTimeout(() => (view.copy.textContent = "Copy"), 1500);
});
view.swap.addEventListener("click", swap);
view.again.addEventListener("click", () => restart(0));

for (const name of ["source", "target", "model"]) {
  view[name].addEventListener("change", () => choose({ [name]: view[name].value }));
}
for (const setting of [view.html, view["count-of-hypotheses"], view["beam-size"], view["length-penalty"]]) {
  setting.addEventListener("change", () => textChanged(0));
}
view.token.addEventListener("change", () => {
  const value = view.token.value.trim();
  view.token.setCustomValidity(TOKEN_CHARACTERS.test(value) ? "" : "A token has ASCII characters alone, no spaces.");
  if (!view.token.reportValidity()) return;
  token.value = value;
  models = [];
  restart(0);
});
view.access.addEventListener("submit", (event) => event.preventDefault());
window.addEventListener("hashchange", loadFromAddress);

view.translation.addEventListener("pointerover", (event) => aligned.mark(event.target));
view.translation.addEventListener("pointerleave", () => aligned.mark(null));
view.translation.addEventListener("focusin", (event) => aligned.mark(event.target));
view.translation.addEventListener("focusout", () => aligned.mark(null));
view.translation.addEventListener("keydown", (event) => {
  const forward = view.translation.dir === "rtl" ? "ArrowLeft" : "ArrowRight";
  const steps = { ArrowLeft: -1, ArrowRight: -1, [forward]: 1, Home: -Infinity, End: Infinity }[event.key];
  if (steps === undefined || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  aligned.moveFocus(steps);
});
// The words lie in the mirror below the textarea.
view.text.addEventListener("pointermove", (event) => {
  const [word] = document.elementsFromPoint(event.clientX, event.clientY).filter((it) => view.mirror.contains(it));
  aligned.mark(word);
});
view.text.addEventListener("pointerleave", () => aligned.mark(null));
view.text.addEventListener("blur", () => aligned.mark(null));
document.addEventListener("selectionchange", () => {
  if (document.activeElement === view.text) aligned.mark(aligned.sourceWordAt(view.text.selectionStart));
});

view.token.value = token.value;
view.access.hidden = !token.value;
settingsOfPage().then(({ metricsPort, documents: limits }) => {
  documents.setLimits(limits);
  view.metrics.href = `http://${location.hostname}:${metricsPort}/metrics`;
  view.metrics.hidden = !metricsPort;
}, () => undefined);
loadFromAddress();
