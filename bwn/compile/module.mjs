
const LINE = 64;
const CHANNELS = [1, 3, 4];
const count = (shape) => shape.reduce((product, size) => product * size, 1);
const inputs = batch * count(inputShape);
const outputs = count(outputShape);

/** Load the network. See NAME.d.mts for all functions. */
export async function load(source = new URL(`${name}.wasm`, import.meta.url)) {
  const { cos, exp, pow, sin } = Math;
  const module = source instanceof WebAssembly.Module ? source : await compile(source);
  return new Model((await WebAssembly.instantiate(module, { env: { cos, exp, pow, sin } })).exports);
}

async function compile(source) {
  if (ArrayBuffer.isView(source) || source instanceof ArrayBuffer) {
    return WebAssembly.compile(source);
  }
  const url = new URL(source, import.meta.url);
  if (url.protocol === "file:" && typeof process === "object") { // Node's fetch reads no files
    return WebAssembly.compile(await (await import("node:fs/promises")).readFile(url));
  }
  const response = await fetch(url);
  if (!response.ok) throw new Error(`${url}: HTTP status ${response.status}`);
  return WebAssembly.compile(await response.arrayBuffer());
}

class Model {
  #exports;
  #end = 0;
  #arena;
  #x;
  #scores;
  #probabilities;
  #pixels;

  constructor(exports) {
    this.#exports = exports;
    this.#end = exports.__heap_base.value;
    this.#arena = this.#reserve(Number(this.#call("arena_size")));
    this.#x = this.#reserve(4 * inputs);
    this.#scores = this.#reserve(4 * batch * outputs);
    this.#probabilities = this.#reserve(4 * classes.length);
    this.#pixels = this.#reserve(0); // the last, as images differ in size
    this.#check(this.#call("init", this.#arena));
  }

  run(x) {
    this.#floats(this.#x, inputs).set(checked(x, inputs, "x"));
    this.#call("run", this.#arena, this.#x, this.#scores);
    return this.#floats(this.#scores, batch * outputs).slice();
  }

  probabilities(scores) {
    this.#floats(this.#scores, outputs).set(checked(scores, outputs, "scores"));
    this.#check(this.#call("probabilities", this.#scores, this.#probabilities));
    return this.#floats(this.#probabilities, classes.length).slice();
  }

  prepare(image) {
    this.#image("prepare", image, this.#x);
    return this.#floats(this.#x, inputs / batch).slice();
  }

  classify(image) {
    this.#image("classify", image, this.#probabilities);
    return { probabilities: this.#floats(this.#probabilities, classes.length).slice(), classes };
  }

  #image(called, image, out) {
    const { data, width, height } = image ?? {};
    if (!this.#exports[`${name}_${called}`]) {
      const why = batch > 1 && called === "classify" ? `has a batch of ${batch}` : "takes no images";
      throw new Error(`${called}: this network ${why}`);
    }
    const bytes = data instanceof Uint8Array || data instanceof Uint8ClampedArray;
    const channels = data?.length / (width * height);
    if (!bytes || !CHANNELS.includes(channels) || !Number.isInteger(width)) {
      throw new TypeError("expected an image with data of width x height x 1, 3 or 4 bytes");
    }
    this.#reserve(data.length, this.#pixels);
    new Uint8Array(this.#exports.memory.buffer).set(data, this.#pixels);
    const stride = BigInt(width * channels);
    this.#check(
      this.#call(called, this.#arena, this.#pixels, width, height, channels, stride, out),
    );
  }

  /** Make room for bytes at an address, by default after all others; returns the address. */
  #reserve(bytes, start = Math.ceil(this.#end / LINE) * LINE) {
    const memory = this.#exports.memory;
    this.#end = start + bytes;
    const missing = Math.ceil((this.#end - memory.buffer.byteLength) / 65536);
    if (missing > 0) memory.grow(missing);
    return start;
  }

  #floats(address, length) {
    return new Float32Array(this.#exports.memory.buffer, address, length);
  }

  #call(called, ...values) {
    return this.#exports[`${name}_${called}`](...values);
  }

  #check(code) {
    if (code === 0) return;
    const bytes = new Uint8Array(this.#exports.memory.buffer);
    const start = this.#call("error", code);
    throw new Error(new TextDecoder().decode(bytes.slice(start, bytes.indexOf(0, start))));
  }
}

function checked(values, length, what) {
  if (values instanceof Float32Array && values.length === length) return values;
  throw new TypeError(`${what}: expected a Float32Array of ${length} numbers`);
}
