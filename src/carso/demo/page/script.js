"use strict";
const $ = (id) => document.getElementById(id);
const NAMES = { undefended: "Undefended", adversarially_trained: "Adversarially trained", carso: "CARSO" };
const RANGE = { Linf: [0.01, 0.5, 0.01, 0.3], L2: [0.1, 6, 0.1, 2] };
let facts, image = null, attacked = null, round = 0, index = 0, voting = null;

async function ask(path, body, type = "application/json") {
  const options = body === undefined ? {} : { method: "POST", body, headers: { "Content-Type": type } };
  let response;
  try { response = await fetch("api/" + path, options); } catch { throw new Error("the demo's server does not answer; is it still running?"); }
  if (!response.ok) {
    const told = await response.json().catch(() => ({}));
    throw new Error(told.error || `the server answered ${response.status}`);
  }
  return response;
}

function say(text) { $("message").textContent = text; $("message").hidden = !text; }

function values(text) {
  const raw = atob(text), bytes = Uint8Array.from(raw, (c) => c.charCodeAt(0));
  return new Float32Array(bytes.buffer);
}

function paint(canvas, text) {
  const [channels, height, width] = facts.shape, pixels = values(text), area = height * width;
  canvas.width = width; canvas.height = height;
  const context = canvas.getContext("2d"), data = context.createImageData(width, height);
  for (let i = 0; i < area; i++) {
    for (let c = 0; c < 3; c++) data.data[4 * i + c] = 255 * pixels[(channels === 3 ? c : 0) * area + i];
    data.data[4 * i + 3] = 255;
  }
  context.putImageData(data, 0, 0);
}

/* ---- the drawing pad ---- */
const pad = $("pad"), pen = pad.getContext("2d");
let at = null, keys = { x: 140, y: 140, down: false };
function blank() { pen.fillStyle = "#000"; pen.fillRect(0, 0, 280, 280); }
function stroke(x, y) {
  pen.strokeStyle = "#fff"; pen.lineWidth = 20; pen.lineCap = pen.lineJoin = "round";
  pen.beginPath(); pen.moveTo(...(at || [x, y])); pen.lineTo(x, y); pen.stroke(); at = [x, y];
}
function place(event) {
  const box = pad.getBoundingClientRect();
  return [(event.clientX - box.left) * 280 / box.width, (event.clientY - box.top) * 280 / box.height];
}
pad.addEventListener("pointerdown", (e) => { pad.setPointerCapture(e.pointerId); at = null; if (pad.dataset.shown) { blank(); delete pad.dataset.shown; } stroke(...place(e)); });
pad.addEventListener("pointermove", (e) => { if (e.buttons) stroke(...place(e)); });
pad.addEventListener("pointerup", () => { at = null; drawn(); });
pad.addEventListener("keydown", (e) => {
  const moves = { ArrowLeft: [-12, 0], ArrowRight: [12, 0], ArrowUp: [0, -12], ArrowDown: [0, 12] };
  if (e.key === " ") {
    keys.down = !keys.down; at = null;
    if (keys.down && pad.dataset.shown) { blank(); delete pad.dataset.shown; }
    if (keys.down) stroke(keys.x, keys.y); else drawn();
    $("hint").textContent = keys.down ? "The pen is down." : "The pen is up.";
  } else if (moves[e.key]) {
    keys.x = Math.min(268, Math.max(12, keys.x + moves[e.key][0])); keys.y = Math.min(268, Math.max(12, keys.y + moves[e.key][1]));
    if (keys.down) stroke(keys.x, keys.y);
  } else return;
  e.preventDefault();
});
function drawn() { pad.toBlob((blob) => send(blob)); }

/* ---- where images come from ---- */
async function send(file) {
  try { take((await (await ask("picture", file, "application/octet-stream")).json()).image); }
  catch (error) { say(error.message); }
}
async function pickOne() {
  try {
    const found = await (await ask("pick?index=" + index++)).json();
    show(found.image); take(found.image);
  } catch (error) { say(error.message); }
}
function show(text) {
  const small = document.createElement("canvas"); paint(small, text);
  pen.imageSmoothingEnabled = false; pen.drawImage(small, 0, 0, 280, 280); pad.dataset.shown = "1";
}
function take(text) { say(""); image = text; run(); }

/* ---- attack, answers, vote ---- */
const chosen = (name) => document.querySelector(`input[name="${name}"]:checked`).value;
async function run() {
  if (!image) return;
  const mine = ++round;
  try {
    const asked = { image, attack: $("attack").value, norm: chosen("norm"), eps: Number($("eps").value), aim: chosen("aim") };
    $("distance").textContent = "attacking…";
    const found = await (await ask("attack", JSON.stringify(asked))).json();
    if (mine !== round) return;
    attacked = found.image; paint($("attacked"), attacked);
    $("distance").textContent = `distance ${found.distance.Linf.toFixed(2)} in L∞, ${found.distance.L2.toFixed(2)} in L2; made in ${found.seconds.toFixed(2)} s`;
    answers(found.answers, null); stroll();
    await vote(mine, found.answers);
  } catch (error) { if (mine === round) { say(error.message); $("distance").textContent = ""; } }
}
function answers(found, elected) {
  const shown = found.attacked.map((after, i) => ({ name: NAMES[after.model], label: after.label, was: found.clean[i].label, share: after.shares[after.label] }));
  const reference = found.clean[found.clean.length - 1].label;
  shown.push({ name: NAMES.carso, label: elected ? elected.label : null, was: reference, share: elected && elected.share });
  $("answers").replaceChildren(...shown.map((one) => {
    const row = document.createElement("div"), name = document.createElement("span"), answer = document.createElement("b"), verdict = document.createElement("span");
    const changed = one.label !== null && one.label !== one.was;
    row.className = "answer" + (one.label === null ? "" : changed ? " changed" : " kept");
    name.className = "name"; name.textContent = one.name;
    answer.textContent = one.label === null ? "…" : facts.classes[one.label];
    if (answer.textContent.length > 3) row.className += " long";
    verdict.className = "verdict";
    verdict.textContent = one.label === null ? "voting" : changed ? `was ${facts.classes[one.was]} before the attack` : `unmoved, ${(100 * one.share).toFixed(0)} % sure`;
    row.append(name, answer, verdict); return row;
  }));
}
function bars(counts) {
  const total = counts.reduce((a, b) => a + b, 0) || 1, most = Math.max(...counts);
  if ($("bars").children.length !== counts.length) {
    $("bars").replaceChildren(...counts.map((_, k) => {
      const row = document.createElement("li");
      row.innerHTML = '<span class="class"></span><span class="track"><span class="fill"></span></span><span class="share"></span>';
      row.querySelector(".class").textContent = facts.classes[k]; return row;
    }));
  }
  counts.forEach((votes, k) => {
    const row = $("bars").children[k], share = 100 * votes / total;
    row.className = votes === most && votes ? "lead" : "";
    row.querySelector(".fill").style.width = share + "%";
    row.querySelector(".share").textContent = share.toFixed(share && share < 10 ? 1 : 0) + " %";
  });
  return { label: counts.indexOf(most), share: most / total };
}
const pause = (ms) => new Promise((done) => setTimeout(done, ms));
async function vote(mine, found) {
  if (voting) voting.abort();
  voting = new AbortController();
  const response = await fetch("api/vote", { method: "POST", body: JSON.stringify({ image: attacked, seed: mine }), headers: { "Content-Type": "application/json" }, signal: voting.signal }).catch(() => null);
  if (!response || !response.ok) { if (mine === round) say("the vote was interrupted; change anything to vote again"); return; }
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done || mine !== round) return;
    const lines = (rest + value).split("\n"); rest = lines.pop();
    for (const line of lines) {
      const ballot = JSON.parse(line);
      if (ballot.error) throw new Error(ballot.error);
      const elected = bars(ballot.counts);
      if (ballot.samples === ballot.candidates.length) $("recall").replaceChildren();
      $("recall").append(...ballot.candidates.map((text) => { const tile = document.createElement("canvas"); paint(tile, text); return tile; }));
      while ($("recall").children.length > 24) $("recall").firstChild.remove();
      $("tally").textContent = `${ballot.samples} of ${facts.samples} candidates have voted` + (ballot.decided ? "; decided." : "…");
      if (ballot.decided) answers(found, elected);
      await pause(120);
    }
  }
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
      const asked = { image: attacked, first: Number($("first").value), second: Number($("second").value) };
      paint($("walk"), (await (await ask("walk", JSON.stringify(asked))).json()).image);
    } while (again);
  } catch (error) { say(error.message); }
  strolling = false;
}

/* ---- controls ---- */
let due = 0;
const soon = () => { clearTimeout(due); due = setTimeout(run, 200); };
function ranged() {
  const [least, most, step, usual] = RANGE[chosen("norm")];
  Object.assign($("eps"), { min: least, max: most, step }); $("eps").value = usual; told();
}
function told() { $("eps-value").textContent = Number($("eps").value).toFixed(2); }
$("eps").addEventListener("input", () => { told(); soon(); });
$("attack").addEventListener("change", soon);
document.querySelectorAll('input[name="norm"]').forEach((e) => e.addEventListener("change", () => { ranged(); soon(); }));
document.querySelectorAll('input[name="aim"]').forEach((e) => e.addEventListener("change", soon));
$("clear").addEventListener("click", () => { blank(); delete pad.dataset.shown; image = null; round++; say(""); $("hint").textContent = "Draw here."; });
$("pick").addEventListener("click", pickOne);
$("upload").addEventListener("change", async (e) => { const file = e.target.files[0]; if (!file) return; await send(file); if (image && $("message").hidden) show(image); e.target.value = ""; });
["first", "second"].forEach((id) => $(id).addEventListener("input", stroll));

(async () => {
  blank();
  try {
    facts = await (await ask("defence")).json();
    for (const [key, title] of Object.entries(facts.attacks)) $("attack").add(new Option(title, key, key === "pgd", key === "pgd"));
    bars(facts.classes.map(() => 0));
    if (facts.picks) await pickOne(); else $("pick").hidden = true;
  } catch (error) { say(error.message); }
})();
