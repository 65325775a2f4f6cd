"use strict";
// Added to a copy of the page by test_page.py: uses it as a person would, and sends what it shows.

const wait = (condition) => new Promise((resolve) => {
  const look = () => (condition() ? resolve() : setTimeout(look, 20));
  look();
});
const text = (id) => document.getElementById(id).textContent;
const frame = () => new Promise((resolve) => setTimeout(resolve, 200));
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
  const photo = await new Promise((resolve) => board.toBlob(resolve));
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
  await choose(new File([photo], "seven.png"));
  result.photo = shown();
  await choose(new File(["no picture"], "a.txt"));
  result.problem = text("problem");
  for (const name of ["net", "many"]) {
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
