/* The drawing pad: white strokes on black, by mouse, finger or keyboard. */
import { paint } from "./pixels.js";

const SIDE = 280, EDGE = 12, STEP = 12;
const MOVES = { ArrowLeft: [-STEP, 0], ArrowRight: [STEP, 0], ArrowUp: [0, -STEP], ArrowDown: [0, STEP] };

export class Pad {
  constructor(canvas, pen, hint, { drawn, cleared }) {
    Object.assign(this, { canvas, pen, hint, drawn, cleared });
    this.context = canvas.getContext("2d");
    this.keys = { x: SIDE / 2, y: SIDE / 2, down: false };
    this.last = null; this.drawing = false; this.filled = false; this.help = hint.textContent;
    canvas.addEventListener("pointerdown", (e) => { canvas.setPointerCapture(e.pointerId); this.drawing = true; this.hint.textContent = this.help; this.begin(...this.place(e)); });
    canvas.addEventListener("pointermove", (e) => { if (this.drawing) this.stroke(...this.place(e)); });
    for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, () => { if (this.drawing) { this.drawing = false; this.drawn(); } });
    canvas.addEventListener("keydown", (e) => this.key(e));
    canvas.addEventListener("blur", () => { if (this.keys.down) this.lift(); });
    this.blank(); this.point();
  }
  place(event) {
    const box = this.canvas.getBoundingClientRect();
    return [(event.clientX - box.left) * SIDE / box.width, (event.clientY - box.top) * SIDE / box.height];
  }
  blank() { this.context.fillStyle = "#000"; this.context.fillRect(0, 0, SIDE, SIDE); this.filled = false; this.hint.textContent = this.help; }
  /* A picture gives way to the first stroke; strokes add up. */
  begin(x, y) { if (this.filled) this.blank(); this.last = null; this.stroke(x, y); }
  stroke(x, y) {
    const c = this.context;
    c.strokeStyle = "#fff"; c.lineWidth = 20; c.lineCap = c.lineJoin = "round";
    c.beginPath(); c.moveTo(...(this.last || [x, y])); c.lineTo(x, y); c.stroke(); this.last = [x, y];
  }
  show(text, shape) {
    const small = document.createElement("canvas"), scale = SIDE / Math.max(shape[1], shape[2]);
    paint(small, text, shape); this.blank(); this.filled = true; this.context.imageSmoothingEnabled = false;
    const [width, height] = [shape[2] * scale, shape[1] * scale];
    this.context.drawImage(small, (SIDE - width) / 2, (SIDE - height) / 2, width, height);
  }
  picture() { return new Promise((done) => this.canvas.toBlob(done)); }
  point() {
    this.pen.style.left = `${100 * this.keys.x / SIDE}%`; this.pen.style.top = `${100 * this.keys.y / SIDE}%`;
    this.pen.classList.toggle("down", this.keys.down);
  }
  lift() { this.keys.down = false; this.hint.textContent = "The pen is up."; this.point(); this.drawn(); }
  key(event) {
    const { keys } = this, move = MOVES[event.key];
    if (event.key === " " && keys.down) this.lift();
    else if (event.key === " ") { keys.down = true; this.begin(keys.x, keys.y); this.hint.textContent = "The pen is down."; }
    else if (event.key === "Escape") { keys.down = false; this.blank(); this.cleared(); }
    else if (move) {
      keys.x = Math.min(SIDE - EDGE, Math.max(EDGE, keys.x + move[0])); keys.y = Math.min(SIDE - EDGE, Math.max(EDGE, keys.y + move[1]));
      if (keys.down) this.stroke(keys.x, keys.y);
    } else return;
    this.point(); event.preventDefault();
  }
}
