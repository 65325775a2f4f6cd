"use strict";
// Pictures: what was drawn, photos, and characters normalized as in MNIST.

const SIDE = 280; // of the board
const INK = 24; // width of a line; digits of MNIST have such lines, and this size
const CHARACTER = 200;
const LARGEST = 1024; // pixels of a photo's longer side

function canvas(width, height) {
  const made = Object.assign(document.createElement("canvas"), { width, height });
  return made.getContext("2d", { willReadFrequently: true });
}

/** A canvas that shows an ImageData. */
function painted(image) {
  const context = canvas(image.width, image.height);
  context.putImageData(image, 0, 0);
  return context;
}

/** Draw strokes, lists of points, white on black: a point p is at p * scale + (x, y). */
function draw(context, strokes, scale = 1, x = 0, y = 0) {
  context.fillStyle = "#000";
  context.fillRect(0, 0, SIDE, SIDE);
  Object.assign(context, { strokeStyle: "#fff", lineWidth: INK, lineCap: "round", lineJoin: "round" });
  for (const stroke of strokes) {
    context.beginPath();
    context.moveTo(stroke[0].x * scale + x + 0.01, stroke[0].y * scale + y); // a lone point is a dot
    for (const point of stroke) context.lineTo(point.x * scale + x, point.y * scale + y);
    context.stroke();
  }
}

/** A character as MNIST has them: of one size, the center of mass in the middle. */
function centered(paint, [left, top, right, bottom], size) {
  const context = canvas(SIDE, SIDE);
  const scale = Math.min(size / Math.max(right - left, bottom - top, 1), 4);
  const x = (SIDE - (left + right) * scale) / 2;
  const y = (SIDE - (top + bottom) * scale) / 2;
  paint(context, scale, x, y);
  const { data } = context.getImageData(0, 0, SIDE, SIDE);
  let mass = 0, massX = 0, massY = 0;
  for (let i = 0; i < SIDE * SIDE; i++) {
    mass += data[4 * i];
    massX += data[4 * i] * (i % SIDE);
    massY += data[4 * i] * Math.floor(i / SIDE);
  }
  if (mass > 0) paint(context, scale, x + SIDE / 2 - massX / mass, y + SIDE / 2 - massY / mass);
  return context.getImageData(0, 0, SIDE, SIDE);
}

function drawnCharacter(strokes) {
  const points = strokes.flat();
  const [xs, ys] = [points.map((p) => p.x), points.map((p) => p.y)];
  const box = [Math.min(...xs), Math.min(...ys), Math.max(...xs), Math.max(...ys)];
  const paint = (context, ...where) => draw(context, strokes, ...where);
  return centered(paint, box, CHARACTER - INK);
}

/** The ink of a photo of a character, white on black. */
function photographedCharacter(photo, darkOnLight) {
  const { width, height } = photo.canvas;
  const image = photo.getImageData(0, 0, width, height);
  const { data } = image;
  const levels = Uint8Array.from({ length: width * height }, (_, i) => {
    const level = (data[4 * i] + data[4 * i + 1] + data[4 * i + 2]) / 3;
    return darkOnLight ? 255 - level : level;
  });
  const mean = levels.reduce((sum, level) => sum + level, 0) / levels.length; // nearly the paper's
  const most = levels.reduce((a, b) => Math.max(a, b), 0);
  const least = mean + 0.25 * (most - mean);
  let box = [width, height, 0, 0];
  levels.forEach((level, i) => {
    const ink = Math.max(0, (255 * (level - least)) / (most - least || 1));
    data.set([ink, ink, ink, 255], 4 * i);
    if (ink < 64) return;
    const [x, y] = [i % width, Math.floor(i / width)];
    box = [Math.min(box[0], x), Math.min(box[1], y), Math.max(box[2], x), Math.max(box[3], y)];
  });
  const { canvas: ink } = painted(image);
  const paint = (context, scale, x, y) => {
    context.fillRect(0, 0, SIDE, SIDE);
    context.drawImage(ink, x, y, width * scale, height * scale);
  };
  return centered(paint, box, CHARACTER);
}

/** A photo on a canvas of at most LARGEST pixels. */
async function decoded(file) {
  const bitmap = await createImageBitmap(file);
  const scale = Math.min(1, LARGEST / Math.max(bitmap.width, bitmap.height));
  const [width, height] = [bitmap.width, bitmap.height].map((n) => Math.max(1, Math.round(n * scale)));
  const photo = canvas(width, height);
  photo.drawImage(bitmap, 0, 0, width, height);
  return photo;
}

/** Whether a photo is light in the mean, as paper is. */
function isLight(photo) {
  const { width, height } = photo.canvas;
  const { data } = photo.getImageData(0, 0, width, height);
  return data.reduce((sum, v, i) => (i % 4 < 3 ? sum + v : sum), 0) / (3 * width * height) > 127;
}
