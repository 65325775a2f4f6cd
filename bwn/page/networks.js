"use strict";
// What classifies: a WebAssembly module next to the page, or the service that sent the page. Both
// have `classes`, `inputShape`, texts, and `classify(image, file)`, which gives probabilities and
// the time as a text. `file` is the photo as it was opened; `image` its pixels, or those drawn.

/** The module NAME.mjs, as `bwn compile --target wasm32 --page` writes it. */
async function moduleNetwork(name) {
  if (location.protocol === "file:") {
    throw new Error("Browsers load no modules from files. Run in this folder: python3 -m http.server");
  }
  const { classes, inputShape, load } = await import(`./${name}.mjs`).catch(() => {
    throw new Error(`No ${name}.mjs here: copy it next to this page, with ${name}.wasm`);
  });
  const model = await load();
  return {
    classes,
    inputShape,
    about: "in this browser: no picture leaves this page",
    blocks: true,
    prepare: (image) => model.prepare(image),

    /** Runs a few times if that is quick: the first run is slower, and clocks are coarse. */
    async classify(image) {
      const begun = performance.now();
      let result, start;
      let milliseconds = Infinity;
      for (let run = 0; run < 5 && performance.now() - begun < 20; run++) {
        start = performance.now();
        result = model.classify(image);
        milliseconds = Math.min(milliseconds, performance.now() - start);
      }
      const { probabilities } = result;
      const digits = milliseconds < 10 ? 2 : 0;
      return { probabilities, milliseconds, time: `${milliseconds.toFixed(digits)} ms an image` };
    },
  };
}

/** The service at this address: `bwn serve`. */
async function serviceNetwork() {
  async function ask(path, options) {
    const response = await fetch(path, options).catch(() => {
      throw new Error("The service does not answer");
    });
    const answer = await response.json().catch(() => { // of a proxy in between
      throw new Error(`The service does not answer: HTTP status ${response.status}`);
    });
    if (answer.error) throw new Error(answer.error);
    return answer;
  }
  const { classes, input_shape: inputShape } = await ask("model");
  return {
    classes,
    inputShape,
    about: "on the machine that this page comes from",
    blocks: false,

    async classify(image, file) {
      const body = file ?? (await new Promise((done) => painted(image).canvas.toBlob(done)));
      const start = performance.now();
      const { top } = await ask(`classify?top=${classes.length}`, { method: "POST", body });
      const milliseconds = performance.now() - start;
      const probabilities = new Float32Array(classes.length);
      for (const { index, probability } of top) probabilities[index] = probability;
      return { probabilities, milliseconds, time: `answered in ${milliseconds.toFixed(0)} ms` };
    },
  };
}
