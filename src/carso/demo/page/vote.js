/* The vote as it is counted: bars, and the recalled candidates that cast it. */
import { paint } from "./pixels.js";

const $ = (id) => document.getElementById(id);
const pause = (ms) => new Promise((done) => setTimeout(done, ms));

export function emptyBars(classes) {
  $("bars").replaceChildren(...classes.map((name) => {
    const row = document.createElement("li");
    row.innerHTML = '<span class="class"></span><span class="track"><span class="fill"></span></span><span class="votes">0</span>';
    row.querySelector(".class").textContent = name; row.querySelector(".class").title = name; return row;
  }));
}

export function emptyTiles(shown) {
  $("recall").replaceChildren(...Array.from({ length: shown }, () => document.createElement("canvas")));
}

/* A full track is `full` votes: what must be counted at least, or all that have been. */
export function draw(counts, full) {
  const most = Math.max(...counts), leader = counts.indexOf(most);
  counts.forEach((votes, k) => {
    const row = $("bars").children[k];
    row.className = k === leader && votes ? "lead" : "";
    row.querySelector(".fill").style.width = `${100 * votes / full}%`;
    row.querySelector(".votes").textContent = votes.toLocaleString("en");
  });
  return leader;
}

/* New candidates take the places of the oldest. */
function lay(ballot, leader, shape, fresh) {
  const tiles = $("recall").children;
  ballot.candidates.forEach((text, i) => {
    const tile = document.createElement("canvas");
    paint(tile, text, shape); tile.dataset.vote = ballot.votes[i];
    if (fresh) tile.dataset.fresh = "";
    tiles[(ballot.samples - ballot.candidates.length + i) % tiles.length].replaceWith(tile);
  });
  for (const tile of tiles) tile.className = tile.dataset.vote === undefined ? "" : Number(tile.dataset.vote) === leader ? "cast" : "cast astray";
}

/* A server that goes in the middle of a vote ends it; who gave it up knows. */
function broken(error) { if (error.name === "AbortError") throw error; return { done: true }; }

export async function follow(response, facts, whole, current) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "", ballot = null;
  try {
    for (;;) {
      const { done, value } = await reader.read().catch(broken);
      if (!current()) return null;
      if (done) throw new Error("The vote was interrupted; change anything to vote again");
      const lines = (rest + value).split("\n"); rest = lines.pop();
      for (const line of lines) {
        ballot = JSON.parse(line);
        const leader = draw(ballot.counts, whole ? facts.samples : Math.max(facts.first, ballot.samples));
        lay(ballot, leader, facts.shape, !whole);
        const counted = `${ballot.samples.toLocaleString("en")} of ${facts.samples.toLocaleString("en")} candidates`;
        $("tally").textContent = !ballot.decided ? `${counted}…` : whole ? `${counted}: all are counted, decided${facts.aggregation === "mode" ? "" : ` by ${facts.aggregation}`}.`
          : ballot.samples < facts.samples ? `${counted}: decided, with a chance of ${100 * facts.error}\u00a0% at most that endless voting would differ.`
            : `${counted}: decided.`;
        if (ballot.decided) return { label: ballot.elected, share: ballot.counts[ballot.elected] / ballot.samples, believed: ballot.believed };
        await pause(whole ? 40 : 150);
        if (!current()) return null;
      }
    }
  } finally { reader.cancel().catch(() => {}); }
}
