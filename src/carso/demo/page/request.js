/* Requests to the demo: the place in its queue while they wait, and a second try when it is full. */
const VISITOR = Array.from(crypto.getRandomValues(new Uint32Array(4)), (n) => n.toString(36)).join("");
const SOON = 400, AGAIN = 2000;
const status = document.getElementById("queue");
let asked = 0, full = 0, timer = 0;

function tell(text) { status.textContent = text || ""; status.hidden = !text; }

function rest(ms, signal) {
  return new Promise((done, failed) => {
    if (signal?.aborted) { failed(signal.reason); return; }
    const id = setTimeout(done, ms);
    signal?.addEventListener("abort", () => { clearTimeout(id); failed(signal.reason); }, { once: true });
  });
}

async function send(path, body, signal) {
  const json = body !== undefined && !(body instanceof Blob), headers = { "X-Visitor": VISITOR };
  const options = body === undefined ? { headers, signal } : { method: "POST", body: json ? JSON.stringify(body) : body, headers, signal };
  try { return await fetch("api/" + path, options); } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("The demo's server does not answer; is it still running?");
  }
}

async function comeBack(seconds, signal) {
  full++;
  try {
    for (let left = seconds; left > 0; left--) {
      tell(`The demo is full. Asking again in ${left} s.`);
      await rest(1000, signal);
    }
  } finally { full--; tell(""); }
}

/* A full demo says when to come back; anything else that it refuses is an error. */
async function insist(path, body, signal) {
  for (;;) {
    const response = await send(path, body, signal);
    if (response.ok) return response;
    const told = await response.json().catch(() => ({})), seconds = Number(response.headers.get("Retry-After"));
    if (response.status !== 503 || !seconds) throw new Error(told.error || `The server answered ${response.status}`);
    await comeBack(seconds, signal);
  }
}

async function look() {
  try {
    const { place, waiting } = await (await send("place")).json();
    if (asked && !full) tell(place && `You are number ${place} of ${waiting} in the queue.`);
  } catch { /* what is waited for will say so */ }
  if (asked) timer = setTimeout(look, AGAIN);
}

export async function ask(path, body, signal) {
  if (!asked++) timer = setTimeout(look, SOON);
  try { return await insist(path, body, signal); } finally { if (!--asked) { clearTimeout(timer); tell(""); } }
}
export const get = async (...request) => (await ask(...request)).json();
