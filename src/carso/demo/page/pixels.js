/* Images travel as base64 of float32, (channels, height, width). */
const WARM = [222, 98, 18], COLD = [32, 104, 214];

export function values(text) {
  const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  return new Float32Array(bytes.buffer);
}

function put(canvas, [, height, width], colour) {
  canvas.width = width; canvas.height = height;
  const context = canvas.getContext("2d"), data = context.createImageData(width, height);
  for (let i = 0; i < height * width; i++) data.data.set(colour(i), 4 * i);
  context.putImageData(data, 0, 0);
}

export function paint(canvas, text, shape) {
  const pixels = values(text), area = shape[1] * shape[2], channel = (c) => (shape[0] === 3 ? c * area : 0);
  put(canvas, shape, (i) => [0, 1, 2].map((c) => 255 * pixels[channel(c) + i]).concat(255));
}

/* The signed difference, averaged over channels; the largest change is opaque. */
export function paintChange(canvas, before, after, shape) {
  const from = values(before), to = values(after), area = shape[1] * shape[2];
  const change = Float32Array.from({ length: area }, (_, i) => {
    let sum = 0;
    for (let c = 0; c < shape[0]; c++) sum += to[c * area + i] - from[c * area + i];
    return sum;
  });
  const most = change.reduce((a, v) => Math.max(a, Math.abs(v)), 0) || 1;
  put(canvas, shape, (i) => [...(change[i] > 0 ? WARM : COLD), 255 * Math.abs(change[i]) / most]);
}

export function wipe(canvas) { canvas.getContext("2d").clearRect(0, 0, canvas.width, canvas.height); }
