// Run by test_wasm.py: node test_module.mjs FOLDER, with the modules net and many (a batch, no images).
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { pathToFileURL } from "node:url";

const folder = pathToFileURL(`${process.argv[2]}/`);
const net = await import(new URL("net.mjs", folder));
const wasm = await readFile(new URL("net.wasm", folder));
const image = (width, height, channels) => ({
  data: Uint8ClampedArray.from({ length: width * height * channels }, (_, i) => (i * 37) % 256),
  width,
  height,
});

// What it says of itself.
assert.equal(net.name, "net");
assert.deepEqual([net.batch, net.inputShape, net.outputShape], [1, [1, 28, 28], [10]]);
assert.deepEqual(net.classes, [..."0123456789"]);
assert.throws(() => net.classes.push("ten"), TypeError);

// Every kind of source gives the same network; two do not share memory.
const model = await net.load();
const x = model.prepare(image(28, 28, 1));
const scores = model.run(x);
const sources = [wasm, wasm.buffer.slice(wasm.byteOffset, wasm.byteOffset + wasm.length),
  new URL("net.wasm", folder), "net.wasm", new WebAssembly.Module(wasm)];
for (const source of sources) {
  const other = await net.load(source);
  other.run(new Float32Array(784));
  assert.deepEqual(other.run(x), scores);
}
assert.deepEqual(model.run(x), scores);
await assert.rejects(net.load(new URL("none.wasm", folder)), /ENOENT/);
await assert.rejects(net.load(new Uint8Array(8)), WebAssembly.CompileError);

// Classes of images: the parts make the whole, gray is RGB of equal channels, memory grows.
const { probabilities, classes } = model.classify(image(28, 28, 1));
assert.equal(classes, net.classes);
assert.deepEqual(model.probabilities(scores), probabilities);
assert.ok(Math.abs(probabilities.reduce((a, b) => a + b) - 1) < 1e-6);
const gray = image(90, 40, 1);
const rgba = { ...gray, data: new Uint8Array(gray.data.length * 4).map((_, i) => gray.data[i >> 2]) };
assert.deepEqual(model.classify(rgba), model.classify(gray));
assert.equal(model.classify(image(3000, 2000, 4)).probabilities.length, 10);
assert.deepEqual(model.run(x), scores);

// What is refused.
for (const wrong of [new Float32Array(783), new Float64Array(784), [...x], undefined]) {
  assert.throws(() => model.run(wrong), /x: expected a Float32Array of 784 numbers/);
}
assert.throws(() => model.probabilities(x), /scores: expected a Float32Array of 10 numbers/);
assert.throws(() => model.probabilities(scores.map(() => NaN)), /a score is not finite/);
const images = [image(28, 28, 2), image(0, 0, 1), { ...gray, width: 45.5 }, { ...gray, height: NaN },
  { ...gray, data: [...gray.data] }, { width: 1, height: 1 }, { ...gray, width: -90, height: -40 },
  null, undefined];
for (const wrong of images) {
  assert.throws(() => model.classify(wrong), /width x height x 1, 3 or 4 bytes|the image/);
}
assert.throws(() => model.classify(image(65536, 1, 1)), /the image .* 1 to 65535/);
assert.deepEqual(model.run(x), scores);

// A network that takes no images.
const many = await import(new URL("many.mjs", folder));
const other = await many.load();
assert.equal(many.batch, 5);
assert.throws(() => other.classify(gray), /classify: this network has a batch of 5/);
assert.throws(() => other.prepare(gray), /prepare: this network takes no images/);
