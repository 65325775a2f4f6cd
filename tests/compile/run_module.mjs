// Scores of a module for inputs in a file: node run_module.mjs MODULE INPUTS SCORES
import { readFile, writeFile } from "node:fs/promises";
import { pathToFileURL } from "node:url";

const [module, inputs, scores] = process.argv.slice(2);
const { batch, inputShape, load } = await import(pathToFileURL(module));
const model = await load();
const x = new Float32Array((await readFile(inputs)).buffer.slice(0)); // a file's buffer is its own
const size = inputShape.reduce((a, b) => a * b, batch);
const out = [];
for (let start = 0; start < x.length; start += size) {
  out.push(Buffer.from(model.run(x.subarray(start, start + size)).buffer));
}
await writeFile(scores, Buffer.concat(out));
