"use strict";

const form = document.querySelector("form");
const answer = document.getElementById("answer");

function add(parent, tag, text) {
  const element = document.createElement(tag);
  element.textContent = text;
  parent.append(element);
  return element;
}

function show(image) {
  add(answer, "h2", image.path);
  if (image.error) {
    add(answer, "p", `Not classified: ${image.error}`);
    return;
  }
  for (const { label, probability } of image.top) {
    const row = add(answer, "div", "");
    row.className = "row";
    add(row, "span", label);
    add(row, "span", `${(100 * probability).toFixed(1)} %`);
    const meter = add(row, "meter", "");
    meter.value = probability;
    meter.setAttribute("aria-hidden", "true");
  }
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  answer.textContent = "";
  add(answer, "p", "Classifying…");
  try {
    const start = performance.now();
    const response = await fetch(form.action, { method: "POST", body: new FormData(form) });
    const { images, error } = await response.json();
    answer.textContent = "";
    if (!images) throw new Error(error);
    images.forEach(show);
    add(answer, "p", `Answered in ${Math.round(performance.now() - start)} ms`);
  } catch (error) {
    answer.textContent = "";
    add(answer, "p", `Failed: ${error.message}`);
  }
});
