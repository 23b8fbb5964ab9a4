// Calls of dragoman.v1 over HTTP. Addresses are relative to the page, so that both may lie below any path of a proxy.

const TOKEN = "dragoman-token";
const UNREACHABLE = "The server cannot be reached.";
const BROKEN_OFF = "The server broke off.";
const SECONDS_TO_RETURN = 2;
// The server, or a proxy before it, will soon be back.
const PASSING = new Set([502, 503]);

/** Why a call failed. */
export class Failure extends Error {
  /**
   * @param {string} message what the server says
   * @param {object} more
   * @param {number} [more.status] of HTTP; 0 if there was no whole answer
   * @param {string} [more.field] the field of the request that is not as it must be
   * @param {number} [more.retrySeconds] after how many seconds another attempt may succeed; 0: not by waiting
   */
  constructor(message, { status = 0, field = "", retrySeconds = 0 }) {
    super(message);
    this.status = status;
    this.field = field;
    this.retrySeconds = retrySeconds;
  }
}

/** The caller's token. It is forgotten with the tab. */
export const token = {
  get value() {
    return sessionStorage.getItem(TOKEN) ?? "";
  },
  set value(value) {
    sessionStorage.setItem(TOKEN, value);
  },
};

/** The models in service. */
export async function listModels(signal) {
  return (await answerOf("v1/models", undefined, signal)).models ?? [];
}

/** The likely languages of a text, the likeliest first. */
export async function detectLanguage(text, signal) {
  const { detections } = await answerOf("v1/detect", { texts: [text] }, signal);
  return detections[0].candidates ?? [];
}

/** The pieces of a translation as they come, each `{chunk}`, and the `{result}`. */
export async function* translateStream(request, signal) {
  const response = await send("v1/translate/stream", request, signal);
  let complete = false;
  for await (const { name, content } of events(response.body, signal)) {
    if (name === "error") throw failureOf(content, response.status, null);
    complete = Boolean(content.result);
    yield content;
  }
  if (!complete) throw unanswered(BROKEN_OFF);
}

/** Begin to translate a file; `fields` say how. Gives the job, which has an `id` and a `state`. */
export async function sendDocument(file, fields, signal) {
  const form = new FormData();
  for (const [name, value] of Object.entries(fields)) if (value) form.append(name, value);
  form.append("file", file);
  return answerOf("v1/documents", form, signal);
}

/** The job as it is when it has ended, or in a second. */
export async function documentState(id, signal) {
  return answerOf(`v1/documents/${id}?wait=1`, undefined, signal);
}

/** The translated file, and its name. */
export async function fetchDocument(id, signal) {
  const response = await send(`v1/documents/${id}/content`, undefined, signal);
  const [, name = ""] = /filename\*=UTF-8''([^;]+)/.exec(response.headers.get("content-disposition")) ?? [];
  return { blob: await orUnanswered(response.blob(), BROKEN_OFF, signal), name: decodeURIComponent(name) };
}

/** Cancel and forget a job. */
export async function removeDocument(id) {
  await send(`v1/documents/${id}`, undefined, undefined, "DELETE");
}

/** What the server tells of itself to this page. */
export async function settingsOfPage() {
  return answerOf("page/settings.json");
}

async function answerOf(path, content, signal) {
  const response = await send(path, content, signal);
  return orUnanswered(response.json(), BROKEN_OFF, signal);
}

/**
 * Send a request: `content` as JSON, a form as it is. Throws Failure unless it is answered well.
 *
 * @param {string} path
 * @param {object | FormData} [content]
 * @param {AbortSignal} [signal]
 * @param {string} [method] of HTTP
 */
async function send(path, content, signal, method = content ? "POST" : "GET") {
  const headers = token.value ? { authorization: `Bearer ${token.value}` } : {};
  const isForm = content instanceof FormData; // the browser knows its content type
  if (content && !isForm) headers["content-type"] = "application/json";
  const body = isForm ? content : JSON.stringify(content);
  const response = await orUnanswered(fetch(path, { method, body, headers, signal }), UNREACHABLE, signal);
  if (response.ok) return response;
  const reason = await response.json().catch(() => ({}));
  throw failureOf(reason, response.status, response.headers.get("retry-after"));
}

/** Server-sent events, whose data is JSON. */
async function* events(body, signal) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let begun = "";
  for (;;) {
    const { value, done } = await orUnanswered(reader.read(), BROKEN_OFF, signal);
    if (done) return;
    const blocks = (begun + value).split("\n\n");
    begun = blocks.pop();
    yield* blocks.map(eventOf);
  }
}

function eventOf(block) {
  const fields = Object.fromEntries(block.split("\n").map((line) => line.split(/: (.*)/s, 2)));
  return { name: fields.event ?? "", content: JSON.parse(fields.data) };
}

/** A `google.rpc.Status` as JSON, as a Failure. */
function failureOf({ message, details = [] }, status, retryAfter) {
  const detail = (type) => details.find((it) => it["@type"].endsWith(`.${type}`)) ?? {};
  const usual = PASSING.has(status) ? SECONDS_TO_RETURN : 0;
  const seconds = parseFloat(retryAfter ?? detail("RetryInfo").retryDelay ?? usual);
  return new Failure(message ?? `The server answered with status ${status}.`, {
    status,
    field: detail("BadRequest").fieldViolations?.[0].field,
    retrySeconds: Number.isFinite(seconds) ? seconds : SECONDS_TO_RETURN, // a proxy may have named a date
  });
}

function unanswered(message) {
  return new Failure(message, { retrySeconds: SECONDS_TO_RETURN });
}

/** What `promise` gives. If it fails, and not because the call was cancelled, throws Failure with `message`. */
async function orUnanswered(promise, message, signal) {
  try {
    return await promise;
  } catch (error) {
    throw signal?.aborted ? error : unanswered(message);
  }
}
