// Documents: sends files, shows how far their translation is, and saves what comes back.

import { nameOf } from "./languages.js";
import { Failure, documentState, fetchDocument, removeDocument, sendDocument } from "./server.js";

const STATES = { QUEUED: "Waiting", RUNNING: "Translating", DONE: "Translated", FAILED: "Not translated" };
const FILES = "Files";

/** The files that the user gave, as a list. */
export class Documents {
  /**
   * @param {Record<string, HTMLElement>} view elements of the page by their id
   * @param {() => object} request fields of the request that say how a document is translated
   * @param {(error: Failure) => void} refused called with an answer that asks for a token
   */
  constructor(view, request, refused) {
    this.view = view;
    this.request = request;
    this.refused = refused;
    this.limits = { suffixes: [], maxBytes: Infinity };
    view.file.addEventListener("change", () => {
      this.add(view.file.files);
      view.file.value = ""; // the same file may be chosen again
    });
    this.#takeDropped();
  }

  /** Offer files of these suffixes, up to so many bytes. */
  setLimits({ suffixes, maxBytes }) {
    this.limits = { suffixes, maxBytes };
    this.view.file.accept = suffixes.join(",");
    this.view["document-limits"].textContent = `${suffixes.join(" ")}, up to ${megabytes(maxBytes)}`;
  }

  /** Translate files. */
  add(files) {
    for (const file of files) new Entry(this, file).begin();
  }

  /** Tell those who do not see the list. */
  announce(text) {
    this.view["document-news"].textContent = text;
  }

  /** Why a file is not sent; empty if it is. */
  refusalOf({ name, size }) {
    const { suffixes, maxBytes } = this.limits;
    if (!suffixes.some((it) => name.toLowerCase().endsWith(it))) return `Its name must end with ${suffixes.join(" ")}`;
    return size > maxBytes ? `It has ${megabytes(size)}; allowed: ${megabytes(maxBytes)}` : "";
  }

  #takeDropped() {
    const mark = (over) => this.view.documents.classList.toggle("over", over);
    const hasFiles = (event) => event.dataTransfer?.types.includes(FILES);
    document.addEventListener("dragover", (event) => {
      if (!hasFiles(event)) return; // text may be dropped into the field
      event.preventDefault();
      mark(true);
    });
    document.addEventListener("dragleave", (event) => event.relatedTarget ?? mark(false));
    document.addEventListener("drop", (event) => {
      if (!hasFiles(event)) return;
      event.preventDefault();
      mark(false);
      this.add(event.dataTransfer.files);
    });
  }
}

/** One file, from the moment it is given until it is removed from the list. */
class Entry {
  constructor(documents, file) {
    this.documents = documents;
    this.file = file;
    this.fields = documents.request();
    this.stopping = new AbortController();
    this.id = ""; // at the server
    this.#build();
  }

  #build() {
    const name = elementOf("span", this.file.name);
    name.className = "name";
    name.dir = "auto";
    const target = this.fields.targetLanguage;
    this.state = elementOf("span", "Sending");
    this.state.className = "state";
    this.progress = elementOf("progress");
    this.progress.ariaLabel = `Translation of ${this.file.name}`;
    this.problems = elementOf("details");
    this.problems.hidden = true;
    this.save = this.#button("Download", () => this.#download());
    this.save.hidden = true;
    this.remove = this.#button("Cancel", () => this.#remove());
    const line = elementOf("div", name, elementOf("span", `to ${nameOf(target)}`), this.state, this.save, this.remove);
    line.className = "line";
    this.item = elementOf("li", line, this.progress, this.problems);
    this.documents.view["document-list"].append(this.item);
  }

  #button(label, act) {
    const button = elementOf("button", label);
    button.type = "button";
    button.ariaLabel = `${label}: ${this.file.name}`;
    button.addEventListener("click", act);
    return button;
  }

  async begin() {
    const refusal = this.documents.refusalOf(this.file);
    if (refusal) {
      this.#end("Not sent", refusal);
      return;
    }
    const { signal } = this.stopping;
    try {
      const sent = await this.#patiently(() => sendDocument(this.file, this.fields, signal));
      this.id = sent.id;
      await this.#follow(sent, signal);
    } catch (error) {
      if (signal.aborted) return;
      if (!(error instanceof Failure)) console.error(error);
      if (error.status === 401) this.documents.refused(error);
      this.#end(STATES.FAILED, error.message);
    }
  }

  async #follow(sent, signal) {
    let job = sent;
    while (job.state === "QUEUED" || job.state === "RUNNING") {
      this.#show(job);
      job = await this.#patiently(() => documentState(this.id, signal));
    }
    this.#show(job);
    this.#showProblems(job);
    this.#end(STATES[job.state], job.error);
    this.save.hidden = job.state !== "DONE";
  }

  /** What a call gives. While the server is busy or gone, the call is made again when the server says. */
  async #patiently(call) {
    for (;;) {
      try {
        return await call();
      } catch (error) {
        if (!(error.retrySeconds > 0) || this.stopping.signal.aborted) throw error;
        this.state.textContent = error.message;
        await pause(error.retrySeconds, this.stopping.signal);
      }
    }
  }

  #show({ state, texts, textsDone }) {
    this.state.textContent = texts ? `${STATES[state]}, ${percent(textsDone / texts)}` : STATES[state];
    if (texts) this.progress.value = textsDone / texts;
  }

  #showProblems({ problems, problemCount }) {
    if (!problemCount) return;
    const items = problems.map(({ place, message }) => elementOf("li", place ? `${place}: ${message}` : message));
    if (problemCount > problems.length) items.push(elementOf("li", `and ${problemCount - problems.length} more`));
    const said = problemCount === 1 ? "1 text has a problem" : `${problemCount} texts have problems`;
    this.problems.replaceChildren(elementOf("summary", said), elementOf("ul", ...items));
    this.problems.hidden = false;
  }

  #end(state, error = "") {
    const said = error ? `${state}: ${error}` : state;
    this.state.textContent = said;
    this.state.classList.toggle("wrong", Boolean(error));
    this.progress.hidden = true;
    this.remove.textContent = "Remove";
    this.remove.ariaLabel = `Remove: ${this.file.name}`;
    this.documents.announce(`${this.file.name}: ${said}`);
  }

  async #download() {
    try {
      const { blob, name } = await fetchDocument(this.id, this.stopping.signal);
      const link = elementOf("a");
      link.href = URL.createObjectURL(blob);
      link.download = name || this.file.name;
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 60_000); // the browser may still read it
    } catch (error) {
      if (this.stopping.signal.aborted) return;
      this.state.textContent = error.message;
      this.state.classList.add("wrong");
      this.documents.announce(`${this.file.name}: ${error.message}`);
    }
  }

  #remove() {
    this.stopping.abort();
    if (this.id) removeDocument(this.id).catch(() => undefined); // the server removes it in time by itself
    const next = this.item.nextElementSibling ?? this.item.previousElementSibling;
    this.item.remove();
    this.documents.announce(`${this.file.name}: removed`);
    (next?.querySelector("button:last-of-type") ?? this.documents.view.file).focus();
  }
}

function pause(seconds, signal) {
  return new Promise((resolve, reject) => {
    setTimeout(resolve, 1000 * seconds);
    signal.addEventListener("abort", () => reject(signal.reason), { once: true });
  });
}

function elementOf(name, ...content) {
  const element = document.createElement(name);
  element.append(...content);
  return element;
}

function percent(share) {
  return share.toLocaleString("en", { style: "percent" });
}

function megabytes(bytes) {
  return `${(bytes / 2 ** 20).toLocaleString("en", { maximumFractionDigits: 1 })} MiB`;
}
