import { ask, get } from "./request.js";
import { Pad } from "./pad.js";
import { paint, paintChange, wipe } from "./pixels.js";
import { draw, emptyBars, emptyTiles, follow } from "./vote.js";

const $ = (id) => document.getElementById(id);
const NAMES = { undefended: "Undefended", adversarially_trained: "Classifier alone", carso: "CARSO" };
const IN_WORDS = { undefended: "the undefended model", adversarially_trained: "the classifier alone", carso: "CARSO" };
const RANGE = { Linf: [0.01, 0.5, 0.01, 0.3], L2: [0.1, 6, 0.1, 2] };
const FINE = 0.1, LEVELS = 255, SHORT = 0.01;
const INVITATION = "Draw, pick or upload an image";
let facts, unit = 1, digits = 2, image = null, truth = null, attacked = null, found = null, round = 0, index = 0, arriving = 0, pending = new AbortController();

const pad = new Pad($("pad"), $("pen"), $("hint"), { drawn, cleared: forget });
const chosen = (name) => document.querySelector(`input[name="${name}"]:checked`).value;

function say(text) { $("message").textContent = text && text[0].toUpperCase() + text.slice(1).replace(/[^.?!]$/, "$&."); $("message").hidden = !text; }
function complain(error) { if (error.name !== "AbortError") say(error.message); }

/* What was asked for before is given up. */
function begin() { pending.abort(); pending = new AbortController(); return ++round; }

/* ---- where images come from ---- */
async function drawn() { await upload(await pad.picture(), "your drawing"); }
async function upload(file, origin) {
  const mine = begin();
  arriving = mine;
  try {
    const sent = await get("picture", file, pending.signal);
    if (mine !== round) return false;
    take(sent.image, null, origin); return true;
  } catch (error) { complain(error); if (mine === round) run(); return false; } finally { if (arriving === mine) arriving = 0; }
}
async function pick() {
  const mine = begin(), at = index++ % facts.picks;
  arriving = mine;
  try {
    const one = await get("pick?index=" + at, undefined, pending.signal);
    if (mine !== round) return;
    pad.show(one.image, facts.shape);
    take(one.image, one.label, one.label === null ? `test image ${at + 1}` : `test image ${at + 1}: ${facts.classes[one.label]}`);
  } catch (error) { complain(error); if (mine === round) run(); } finally { if (arriving === mine) arriving = 0; }
}
function take(text, label, origin) {
  say(""); image = text; truth = label; $("origin").textContent = origin;
  paint($("clean"), image, facts.shape); run();
}
function forget() {
  if (!facts) return;
  image = attacked = found = truth = null; begin(); say("");
  for (const id of ["clean", "change", "attacked", "walk"]) wipe($(id));
  for (const [id, text] of [["origin", "image"], ["distance", "perturbation"], ["took", "attacked"]]) $(id).textContent = text;
  empty(INVITATION);
}
/* Nobody has answered, and what stands in place of the verdict. */
function empty(verdict) {
  $("verdict").textContent = verdict; $("tally").textContent = ""; $("answers").replaceChildren();
  emptyTiles(facts.shown); emptyBars(facts.classes);
}

/* ---- attack, answers, vote ---- */
async function run() {
  if (!image) return;
  const mine = begin();
  const asked = { image, attack: $("attack").value, norm: chosen("norm"), eps: radius(), aim: chosen("aim"), seed: mine };
  try {
    $("took").textContent = "attacking…";
    const told = await get("attack", asked, pending.signal);
    if (mine !== round) return;
    found = told; attacked = told.image;
    paint($("attacked"), attacked, facts.shape); paintChange($("change"), image, attacked, facts.shape);
    $("distance").textContent = `L∞ ${spelled(told.distance.Linf)}, L2 ${told.distance.L2.toFixed(2)}`;
    $("took").textContent = asked.attack === "none" ? "not attacked" : `attacked in ${told.seconds < SHORT ? `under ${SHORT}` : told.seconds.toFixed(2)}\u00a0s`;
    stroll();
    await vote(mine);
  } catch (error) { if (mine === round) { complain(error); $("took").textContent = "attacked"; empty("No answers"); } }
}
async function vote(mine) {
  answers(null); emptyTiles(facts.shown); draw(facts.classes.map(() => 0), 1);
  const whole = $("whole").checked;
  const response = await ask("vote", { image: attacked, seed: mine, whole }, pending.signal);
  const elected = await follow(response, facts, whole, () => mine === round);
  if (elected && mine === round) answers(elected);
}
function answers(elected) {
  const { clean, attacked: after } = found.answers;
  const all = clean.map(({ model, label }) => {
    const now = model === "carso" ? elected : after.find((one) => one.model === model);
    return now ? { model, was: label, label: now.label, share: now.share ?? now.shares[now.label], away: now.believed === false } : { model, was: label };
  });
  $("answers").replaceChildren(...all.map(card));
  $("verdict").textContent = elected ? summary(all) : "The candidates are voting…";
}
function card({ model, was, label, share, away }) {
  const row = document.createElement("div"), voting = label === undefined, text = voting ? "…" : facts.classes[label];
  const good = truth === null ? label === was : label === truth;
  row.className = `answer ${model} ${voting ? "" : good ? "kept" : "changed"} ${away ? "away" : ""} ${text.length > 3 ? "long" : ""}`;
  const sure = `${(100 * share).toFixed(0)}\u00a0% ${model === "carso" ? "of the votes" : "sure"}`;
  const verdict = away ? `turned away: its classifier doubts the ${text} that it recalls; ${sure}` : voting ? "voting" : label !== was ? `was ${facts.classes[was]} before the attack; ${sure}` : good ? sure : `wrong without attack too; ${sure}`;
  for (const [tag, kind, content] of [["span", "name", NAMES[model]], ["b", "", text], ["span", "verdict", verdict]]) {
    const part = document.createElement(tag); part.className = kind; part.textContent = content; row.append(part);
  }
  return row;
}
/* One sentence, for a caption as for a screen reader. */
function summary(all) {
  const listed = (some) => some.map((one) => IN_WORDS[one.model]).join(", ").replace(/, ([^,]*)$/, " and $1");
  if ($("attack").value === "none") return `Not attacked: ${all.map((one) => one.away ? "turned away" : facts.classes[one.label]).join(", ")}`;
  const believed = all.filter((one) => !one.away), away = all.filter((one) => one.away);
  const misled = believed.filter((one) => one.label !== one.was), same = believed.filter((one) => one.label === one.was);
  const right = same.filter((one) => truth === null || one.label === truth), wrong = same.filter((one) => !right.includes(one));
  const parts = [`The attack misleads ${listed(misled) || "nobody"}`];
  if (misled.length && right.length) parts.push(`${listed(right)} ${right.length > 1 ? "hold" : "holds"}`);
  if (wrong.length) parts.push(`${listed(wrong)} ${wrong.length > 1 ? "were" : "was"} wrong already`);
  if (away.length) parts.push(`${listed(away)} turns the image away`);
  return parts.join("; ");
}

/* ---- the walk ---- */
let strolling = false, again = false;
async function stroll() {
  for (const id of ["first", "second"]) $(id + "-value").textContent = Number($(id).value).toFixed(1);
  if (!attacked) return;
  if (strolling) { again = true; return; }
  strolling = true;
  try {
    do {
      again = false;
      const walked = await get("walk", { image: attacked, first: Number($("first").value), second: Number($("second").value) });
      if (attacked) paint($("walk"), walked.image, facts.shape);
    } while (again && attacked);
  } catch (error) { complain(error); }
  strolling = false;
}

/* ---- controls ---- */
let due = 0;
/* An image that is on its way is attacked with what is chosen by then. */
const soon = () => { clearTimeout(due); due = setTimeout(() => arriving || run(), 200); };
function radius() { return unit * Number($("eps").value); }
/* A number of levels of a byte, or none. */
function levels(eps) { const whole = Math.round(LEVELS * eps); return whole && Math.abs(LEVELS * eps - whole) < 0.001 ? whole : null; }
function spelled(eps) { return levels(eps) && unit === 1 / LEVELS ? `${levels(eps)}/${LEVELS}` : eps < FINE && unit !== 1 ? eps.toPrecision(2) : eps.toFixed(digits); }
function told() { $("eps-value").textContent = spelled(radius()); $("eps").setAttribute("aria-valuetext", spelled(radius())); }
/* Small radii are counted in levels of a byte where they are such, else in eighths; others in steps of which the usual one is a multiple. */
function ranged() {
  const norm = chosen("norm"), [least, most, step, known] = RANGE[norm], usual = facts?.radii[norm] ?? known, fine = usual < FINE;
  const steps = Math.round(usual / step), between = !fine && Math.abs(usual / step - steps) > 0.001, counted = fine || between;
  unit = between ? usual / steps : !fine ? 1 : norm === "Linf" && levels(usual) ? 1 / LEVELS : usual / 8;
  digits = between ? 3 : 2;
  Object.assign($("eps"), counted ? { min: 1, max: Math.round((fine ? 4 * usual : Math.max(most, usual)) / unit), step: 1 } : { min: least, max: Math.max(most, usual), step });
  $("eps").value = counted ? Math.round(usual / unit) : usual; told();
}
function method() { $("budget").disabled = $("attack").value === "none"; $("aims").disabled = $("attack").value === "noise"; }
$("eps").addEventListener("input", () => { told(); soon(); });
$("attack").addEventListener("change", () => { method(); soon(); });
$("whole").addEventListener("change", soon);
for (const radio of document.querySelectorAll('input[name="norm"]')) radio.addEventListener("change", () => { ranged(); soon(); });
for (const radio of document.querySelectorAll('input[name="aim"]')) radio.addEventListener("change", soon);
$("clear").addEventListener("click", () => { pad.blank(); forget(); });
$("pick").addEventListener("click", pick);
$("upload").addEventListener("change", async (e) => {
  const file = e.target.files[0];
  if (file && await upload(file, "your picture")) pad.show(image, facts.shape);
  e.target.value = "";
});
for (const id of ["first", "second"]) $(id).addEventListener("input", stroll);

try {
  facts = await get("defence");
  if (facts.adversarial) { NAMES.adversarially_trained = "Adversarially trained"; IN_WORDS.adversarially_trained = "adversarial training"; }
  if (facts.aggregation !== "mode") $("whole").checked = $("whole").disabled = true;
  const [channels, height, width] = facts.shape;
  $("facts").textContent = `CARSO, ${facts.name}: ${width} × ${height} ${channels === 1 ? "grey" : "colour"} pixels, ${facts.classes.length} classes, up to ${facts.samples.toLocaleString("en")} candidates`;
  $("samples").textContent = facts.samples.toLocaleString("en");
  ["first", "second"].forEach((id, i) => {
    const axis = facts.axes[i];
    if (axis === undefined) $(id).disabled = true; else $(id + "-name").textContent = `Latent ${axis + 1} of ${facts.latent}`;
  });
  document.documentElement.style.setProperty("--aspect", `${width} / ${height}`);
  for (const [key, title] of Object.entries(facts.attacks)) $("attack").add(new Option(title, key, key === "pgd", key === "pgd"));
  ranged(); method(); forget();
  if (facts.picks) await pick(); else $("pick").hidden = true;
} catch (error) { complain(error); }
