"use strict";
// Draw or open a picture and classify it with the module NAME.mjs, which `bwn compile` writes.

const name = new URLSearchParams(location.search).get("model") ?? "digits";
const element = Object.fromEntries([...document.querySelectorAll("[id]")].map((e) => [e.id, e]));
const { board } = element;
const SIDE = board.width;
const INK = 24; // width of a line; digits of MNIST have such lines, and these two sizes
const DIGIT = 200;
const STEP = 8; // of the keyboard's pen
const LARGEST = 1024; // pixels of a photo's longer side
const MOST = 10; // classes that are shown
const SMOOTH = 30; // milliseconds that an image may take to be classified while one draws

const pen = { x: SIDE / 2, y: SIDE / 2, down: false };
let network, model;
let strokes = []; // each a list of points
let photo = null; // a canvas
let drawing = false;
let waiting = false;
let milliseconds = 0;

function canvas(width, height) {
  const made = Object.assign(document.createElement("canvas"), { width, height });
  return made.getContext("2d", { willReadFrequently: true });
}

/** Draw the strokes, white on black: a point p is at p * scale + (x, y). */
function draw(context, scale = 1, x = 0, y = 0) {
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

/** A digit as MNIST has them: of one size, the center of mass in the middle. */
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

function drawnDigit() {
  const points = strokes.flat();
  const [xs, ys] = [points.map((p) => p.x), points.map((p) => p.y)];
  const box = [Math.min(...xs), Math.min(...ys), Math.max(...xs), Math.max(...ys)];
  return centered(draw, box, DIGIT - INK);
}

/** The ink of a photo of a digit, white on black. */
function photographedDigit() {
  const { width, height } = photo.canvas;
  const image = photo.getImageData(0, 0, width, height);
  const { data } = image;
  const levels = Uint8Array.from({ length: width * height }, (_, i) => {
    const level = (data[4 * i] + data[4 * i + 1] + data[4 * i + 2]) / 3;
    return element.invert.checked ? 255 - level : level;
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
  const digit = canvas(width, height);
  digit.putImageData(image, 0, 0);
  const paint = (context, scale, x, y) => {
    context.fillRect(0, 0, SIDE, SIDE);
    context.drawImage(digit.canvas, x, y, width * scale, height * scale);
  };
  return centered(paint, box, DIGIT);
}

/** What to classify. A network of gray images is one for digits. */
function picture() {
  if (isGray()) return photo ? photographedDigit() : drawnDigit();
  const context = photo ?? board.getContext("2d");
  return context.getImageData(0, 0, context.canvas.width, context.canvas.height);
}

const isGray = () => network.inputShape[0] === 1;

function refresh() {
  const context = board.getContext("2d");
  draw(context);
  if (photo) {
    const { width, height } = photo.canvas;
    const scale = SIDE / Math.min(width, height);
    const [w, h] = [width * scale, height * scale];
    context.drawImage(photo.canvas, (SIDE - w) / 2, (SIDE - h) / 2, w, h);
  }
  element.hint.hidden = strokes.length > 0 || photo !== null;
  element.inverting.hidden = !(photo && isGray());
  element.pen.style.left = `${(100 * pen.x) / SIDE}%`;
  element.pen.style.top = `${(100 * pen.y) / SIDE}%`;
  element.pen.classList.toggle("down", pen.down);
  if (!waiting) requestAnimationFrame(answer);
  waiting = true;
}

function answer() {
  waiting = false;
  if (!model || (drawing && milliseconds > SMOOTH)) return;
  if (!photo && strokes.length === 0) {
    show(null);
    return;
  }
  const image = picture();
  show(measured(image));
  if (isGray()) showInput(model.prepare(image));
}

/** Classify an image, a few times if that is quick: the first is slower, and clocks are coarse. */
function measured(image) {
  const begun = performance.now();
  let result, start;
  milliseconds = Infinity;
  for (let run = 0; run < 5 && performance.now() - begun < 20; run++) {
    start = performance.now();
    result = model.classify(image);
    milliseconds = Math.min(milliseconds, performance.now() - start);
  }
  return result;
}

function show(result) {
  const probabilities = result?.probabilities ?? new Float32Array(network.classes.length);
  const ranked = [...probabilities.keys()].sort((a, b) => probabilities[b] - probabilities[a]);
  const percent = (index) => `${(100 * probabilities[index]).toFixed(0)}%`;
  const best = result ? network.classes[ranked[0]] : "–";
  if (element.best.textContent !== best) element.best.textContent = best;
  element.best.classList.toggle("word", best.length > 2);
  element.sure.textContent = result ? `${percent(ranked[0])} sure` : "";
  element.best.classList.toggle("none", !result);
  element.time.textContent = result ? `${milliseconds.toFixed(milliseconds < 10 ? 2 : 0)} ms an image` : "";
  element.seen.hidden = !result || !isGray();
  const shown = ranked.length > MOST ? ranked.slice(0, MOST) : [...probabilities.keys()];
  element.bars.classList.toggle("words", shown.some((index) => network.classes[index].length > 2));
  while (element.bars.children.length < shown.length) {
    const row = document.createElement("li");
    row.append(document.createElement("b"), document.createElement("span"), document.createElement("em"));
    row.children[1].append(document.createElement("i"));
    element.bars.append(row);
  }
  shown.forEach((index, place) => {
    const row = element.bars.children[place];
    const [label, bar, number] = row.children;
    row.classList.toggle("first", result !== null && index === ranked[0]);
    label.textContent = network.classes[index];
    bar.firstChild.style.setProperty("--part", `${100 * probabilities[index]}%`);
    number.textContent = percent(index);
  });
}

/** The input of a network of gray images, from its least number, black, to its largest. */
function showInput(x) {
  const [, height, width] = network.inputShape;
  Object.assign(element.input, { width, height });
  const [least, most] = [x.reduce((a, b) => Math.min(a, b)), x.reduce((a, b) => Math.max(a, b))];
  const image = new ImageData(width, height);
  x.forEach((v, i) => {
    const gray = (255 * (v - least)) / (most - least || 1);
    image.data.set([gray, gray, gray, 255], 4 * i);
  });
  element.input.getContext("2d").putImageData(image, 0, 0);
}

function clear() {
  [strokes, photo, pen.down, drawing] = [[], null, false, false];
  refresh();
}

async function open(file) {
  if (!file) return;
  let bitmap;
  try {
    bitmap = await createImageBitmap(file);
  } catch {
    complain(`${file.name || "this"}: not a picture that this browser can read`);
    return;
  }
  complain("");
  clear();
  const scale = Math.min(1, LARGEST / Math.max(bitmap.width, bitmap.height));
  const [width, height] = [bitmap.width, bitmap.height].map((n) => Math.max(1, Math.round(n * scale)));
  photo = canvas(width, height);
  photo.drawImage(bitmap, 0, 0, width, height);
  // Networks for digits have learned white on black; paper is white.
  const { data } = photo.getImageData(0, 0, width, height);
  const light = data.reduce((sum, v, i) => (i % 4 < 3 ? sum + v : sum), 0) / (3 * width * height);
  element.invert.checked = isGray() && light > 127;
  refresh();
}

function complain(text) {
  element.problem.textContent = text;
  element.problem.hidden = text === "";
}

function place(event) {
  const box = board.getBoundingClientRect();
  const { clientX, clientY } = event;
  return { x: ((clientX - box.x) / box.width) * SIDE, y: ((clientY - box.y) / box.height) * SIDE };
}

function begin(point) {
  photo = null;
  strokes.push([point]);
}

board.addEventListener("pointerdown", (event) => {
  if (event.button !== 0 || !event.isPrimary) return;
  board.setPointerCapture(event.pointerId);
  element.pen.hidden = true;
  [drawing, pen.down] = [true, false];
  begin(place(event));
  refresh();
});
board.addEventListener("pointermove", (event) => {
  if (!drawing || !event.isPrimary) return;
  const events = event.getCoalescedEvents?.() ?? [];
  strokes.at(-1)?.push(...(events.length > 0 ? events : [event]).map(place));
  refresh();
});
for (const end of ["pointerup", "pointercancel"]) {
  board.addEventListener(end, (event) => {
    if (!event.isPrimary) return;
    drawing = false;
    refresh();
  });
}

const MOVES = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
board.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const { key } = event;
  if (key === "Delete" || key === "Backspace") {
    clear();
  } else if (key === " ") {
    pen.down = !pen.down;
    if (pen.down) begin({ x: pen.x, y: pen.y });
  } else if (key in MOVES) {
    const inside = (n) => Math.min(Math.max(n, INK / 2), SIDE - INK / 2);
    pen.x = inside(pen.x + MOVES[key][0] * STEP);
    pen.y = inside(pen.y + MOVES[key][1] * STEP);
    if (pen.down) strokes.at(-1).push({ x: pen.x, y: pen.y });
  } else {
    return;
  }
  event.preventDefault();
  element.pen.hidden = false;
  refresh();
});
board.addEventListener("blur", () => {
  element.pen.hidden = true;
  pen.down = false;
});
board.addEventListener("focus", () => { element.pen.hidden = !board.matches(":focus-visible"); });

element.clear.addEventListener("click", clear);
element.invert.addEventListener("change", refresh);
element.file.addEventListener("change", () => {
  open(element.file.files[0]);
  element.file.value = ""; // so that the same file can be opened again
});
document.addEventListener("paste", (event) => open(event.clipboardData.files[0]));
document.addEventListener("dragover", (event) => {
  event.preventDefault();
  document.body.classList.add("dropping");
});
document.addEventListener("dragleave", () => document.body.classList.remove("dropping"));
document.addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("dropping");
  open(event.dataTransfer.files[0]);
});

async function start() {
  if (location.protocol === "file:") {
    throw new Error("Browsers load no modules from files. Run in this folder: python3 -m http.server");
  }
  if (!/^[A-Za-z]\w*$/.test(name)) throw new Error("?model= is the name of a module");
  network = await import(`./${name}.mjs`).catch(() => {
    throw new Error(
      `No ${name}.mjs here. Write it: bwn compile models/mnist-lenet.bwn -o examples/web ` +
        `--target wasm32 --name ${name}`,
    );
  });
  model = await network.load();
  if (!isGray()) {
    document.title = element.title.textContent = "Classify a photo";
    element.hint.textContent = "Drop a photo here";
  }
  measured(board.getContext("2d").getImageData(0, 0, SIDE, SIDE)); // compilers warm up
  show(null);
  refresh();
}

start().catch((error) => complain(error.message));
