"use strict";
// Draw a character or open a photo, and see its classes.

const element = Object.fromEntries([...document.querySelectorAll("[id]")].map((e) => [e.id, e]));
const { board } = element;
const STEP = 8; // of the keyboard's pen
const MOST = 10; // classes that are shown
const SMOOTH = 30; // milliseconds that an image may take to be classified while one draws

const pen = { x: SIDE / 2, y: SIDE / 2, down: false };
let network;
let drawable = false; // whether one draws characters; else only photos are classified
let strokes = []; // each a list of points
let photo = null; // a canvas, and the file that it shows
let photoFile = null;
let drawing = false;
let changed = false;
let busy = false;
let milliseconds = 0;

function picture() {
  if (drawable) {
    return photo ? photographedCharacter(photo, element.invert.checked) : drawnCharacter(strokes);
  }
  return photo.getImageData(0, 0, photo.canvas.width, photo.canvas.height);
}

const isEmpty = () => !photo && strokes.length === 0;

function refresh() {
  const context = board.getContext("2d");
  if (drawable) draw(context, strokes);
  else context.clearRect(0, 0, SIDE, SIDE);
  if (photo) {
    const { width, height } = photo.canvas;
    const scale = SIDE / (drawable ? Math.min(width, height) : Math.max(width, height));
    const [w, h] = [width * scale, height * scale];
    context.drawImage(photo.canvas, (SIDE - w) / 2, (SIDE - h) / 2, w, h);
  }
  element.hint.hidden = !isEmpty();
  element.inverting.hidden = !(photo && drawable);
  element.pen.style.left = `${(100 * pen.x) / SIDE}%`;
  element.pen.style.top = `${(100 * pen.y) / SIDE}%`;
  element.pen.classList.toggle("down", pen.down);
  changed = true;
  if (network && !busy) answer();
}

/** Classify what is there, and again if it changes meanwhile. */
async function answer() {
  busy = true;
  while (changed) {
    await new Promise(requestAnimationFrame);
    changed = false;
    if (network.blocks && drawing && milliseconds > SMOOTH) continue;
    if (isEmpty()) {
      show(null);
      continue;
    }
    const image = picture();
    try {
      const result = await network.classify(image, drawable ? null : photoFile);
      if (changed && isEmpty()) continue;
      ({ milliseconds } = result);
      show(result);
      complain("");
      if (drawable && network.prepare) showInput(network.prepare(image));
    } catch (error) {
      show(null);
      complain(error.message);
    }
  }
  busy = false;
}

function show(result) {
  const { classes } = network;
  const probabilities = result?.probabilities ?? new Float32Array(classes.length);
  const ranked = [...probabilities.keys()].sort((a, b) => probabilities[b] - probabilities[a]);
  const percent = (index) => `${(100 * probabilities[index]).toFixed(0)}%`;
  const best = result ? classes[ranked[0]] : "–";
  if (element.best.textContent !== best) element.best.textContent = best;
  element.best.classList.toggle("word", best.length > 2);
  element.sure.textContent = result ? `${percent(ranked[0])} sure` : "";
  element.best.classList.toggle("none", !result);
  element.time.textContent = result?.time ?? "";
  element.seen.hidden = !result || !drawable || !network.prepare;
  const shown = ranked.length > MOST ? ranked.slice(0, MOST) : [...probabilities.keys()];
  element.bars.classList.toggle("words", shown.some((index) => classes[index].length > 2));
  while (element.bars.children.length < shown.length) {
    const row = document.createElement("li");
    row.append(...["b", "span", "em"].map((name) => document.createElement(name)));
    row.children[1].append(document.createElement("i"));
    element.bars.append(row);
  }
  shown.forEach((index, place) => {
    const row = element.bars.children[place];
    const [label, bar, number] = row.children;
    row.classList.toggle("first", result !== null && index === ranked[0]);
    label.textContent = classes[index];
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
  [strokes, photo, photoFile, pen.down, drawing] = [[], null, null, false, false];
  complain("");
  refresh();
}

async function open(file) {
  if (!file) return;
  let opened;
  try {
    opened = await decoded(file);
  } catch {
    complain(`${file.name || "this"}: not a picture that this browser can read`);
    return;
  }
  clear();
  [photo, photoFile] = [opened, file];
  element.invert.checked = drawable && isLight(photo); // networks learned white on black
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
  [photo, photoFile] = [null, null];
  strokes.push([point]);
}

board.addEventListener("pointerdown", (event) => {
  if (!drawable || event.button !== 0 || !event.isPrimary) return;
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
    if (!drawing || !event.isPrimary) return;
    drawing = false;
    refresh();
  });
}
board.addEventListener("click", () => { if (!drawable) element.file.click(); });

const MOVES = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
board.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const { key } = event;
  if (key === "Delete" || key === "Backspace") {
    clear();
  } else if (!drawable) {
    if (key !== " " && key !== "Enter") return;
    element.file.click();
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
  element.pen.hidden = !drawable;
  refresh();
});
board.addEventListener("blur", () => {
  element.pen.hidden = true;
  pen.down = false;
});
board.addEventListener("focus", () => {
  element.pen.hidden = !drawable || !board.matches(":focus-visible");
});

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

/** Networks of gray images whose classes are characters are for drawing, others for photos. */
function adapt() {
  const { classes, inputShape, about } = network;
  drawable = inputShape[0] === 1 && classes.every((name) => [...name].length === 1);
  const digits = drawable && classes.every((name) => name >= "0" && name <= "9");
  const what = digits ? "Draw a digit" : drawable ? "Draw a character" : "Classify a photo";
  document.title = element.title.textContent = what;
  element.about.textContent = `A network with one-bit weights names it, ${about}.`;
  element.hint.textContent = drawable ? "Draw here, or drop a photo" : "Open, drop or paste a photo";
  document.body.classList.toggle("photos", !drawable);
  if (drawable) return;
  board.setAttribute("role", "button");
  board.setAttribute("aria-label", "Open a photo");
  element.keys.textContent = "Photos can be dropped on this page, or pasted.";
}

async function start() {
  const { module } = document.documentElement.dataset;
  draw(board.getContext("2d"), strokes);
  network = await (module ? moduleNetwork(module) : serviceNetwork());
  adapt();
  const { data, width, height } = board.getContext("2d").getImageData(0, 0, SIDE, SIDE);
  if (network.blocks) await network.classify({ data, width, height }); // compilers warm up
  show(null);
  refresh();
}

start().catch((error) => complain(error.message));
