"use strict";
// Added to a copy of the page by test_page.py: uses it as a person would, and sends what it shows.

const wait = (condition) => new Promise((resolve) => {
  const look = () => (condition() ? resolve() : setTimeout(look, 20));
  look();
});
const text = (id) => document.getElementById(id).textContent;
const frame = async () => {
  await new Promise((resolve) => setTimeout(resolve, 50));
  await wait(() => !busy); // of page.js: it classifies
};
const shown = () => ({
  best: text("best"),
  sure: text("sure"),
  time: text("time"),
  rows: [...document.querySelectorAll("#bars li")].map((row) => row.textContent),
});

function point(kind, x, y) {
  const box = board.getBoundingClientRect();
  board.dispatchEvent(new PointerEvent(kind, {
    clientX: box.x + x * box.width, clientY: box.y + y * box.height,
    button: 0, isPrimary: true, pointerId: 1,
  }));
}

function press(key, times = 1) {
  for (let i = 0; i < times; i++) board.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
}

async function choose(file) {
  const files = new DataTransfer();
  files.items.add(file);
  const input = document.getElementById("file");
  input.files = files.files;
  input.dispatchEvent(new Event("change"));
  await frame();
}

/** A picture with colors: its PNG. */
function scene() {
  const context = Object.assign(document.createElement("canvas"), { width: 60, height: 40 }).getContext("2d");
  context.fillStyle = "#48c";
  context.fillRect(0, 0, 60, 40);
  context.fillStyle = "#c40";
  context.fillRect(15, 10, 30, 20);
  return new Promise((resolve) => context.canvas.toBlob(resolve));
}

async function drive() {
  const result = {};
  await wait(() => document.querySelectorAll("#bars li").length === 10 || text("problem"));
  result.empty = shown();
  board.setPointerCapture = () => {}; // there is no such pointer
  const path = [...Array(20).keys()].map((i) => [0.3 + i * 0.02, 0.25]);
  path.push(...[...Array(20).keys()].map((i) => [0.7 - i * 0.0125, 0.25 + i * 0.0275]));
  point("pointerdown", ...path[0]);
  path.forEach((p) => point("pointermove", ...p));
  point("pointerup", ...path.at(-1));
  await frame();
  result.drawn = shown();
  let photo = await new Promise((resolve) => board.toBlob(resolve));
  press("Delete");
  await frame();
  result.cleared = shown();
  press("ArrowUp", 10);
  press(" ");
  press("ArrowDown", 20);
  press(" ");
  press("ArrowRight", 5);
  await frame();
  result.keys = shown();
  result.title = document.title;
  if (result.title === "Classify a photo") photo = await scene();
  result.png = btoa(String.fromCharCode(...new Uint8Array(await photo.arrayBuffer())));
  await choose(new File([photo], "seven.png"));
  result.photo = shown();
  await choose(new File(["no picture"], "a.txt"));
  result.problem = text("problem");
  const names = document.documentElement.dataset.module ? ["net", "many"] : [];
  for (const name of names) {
    const { batch, inputShape, load } = await import(`./${name}.mjs`);
    const x = new Float32Array(await (await fetch(`${name}.in`)).arrayBuffer());
    const size = inputShape.reduce((a, b) => a * b, batch);
    const network = await load();
    const starts = [...Array(x.length / size).keys()].map((i) => i * size);
    result[name] = starts.flatMap((start) => [...network.run(x.subarray(start, start + size))]);
  }
  return result;
}

drive()
  .catch((error) => ({ failed: error.stack }))
  .then((result) => fetch("result", { method: "POST", body: JSON.stringify(result) }));
