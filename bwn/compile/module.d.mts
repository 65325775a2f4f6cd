/** What every name in the files begins with. */
export declare const name: string;
/** Names of the classes. */
export declare const classes: readonly string[];
/** Numbers of one input: channels, height and width for images. */
export declare const inputShape: readonly number[];
/** Numbers of the scores of one input. */
export declare const outputShape: readonly number[];
/** Inputs of a run. */
export declare const batch: number;

/** Pixels in rows from the top, of 1 (gray), 3 (red, green, blue) or 4 bytes, the last not read. */
export interface Image {
  readonly data: Uint8Array | Uint8ClampedArray;
  readonly width: number;
  readonly height: number;
}

export interface Result {
  /** One number for each class, which sum to 1. */
  readonly probabilities: Float32Array;
  /** Their names, in the same order. */
  readonly classes: readonly string[];
}

/** A network with memory of its own. It has one thread: several workers load one each. */
export interface Model {
  /** Scores of a batch of inputs. */
  run(x: Float32Array): Float32Array;
  /** Probabilities of the scores of one input. Throws where a score is not finite. */
  probabilities(scores: Float32Array): Float32Array;
  /** One input of an image. Throws where the network takes no images. */
  prepare(image: Image): Float32Array;
  /** Classify an image, e.g. an ImageData. Throws where the network takes no images, or batches. */
  classify(image: Image): Result;
}

/** Load the network: by default from NAME.wasm next to the module. */
export declare function load(
  source?: string | URL | BufferSource | WebAssembly.Module,
): Promise<Model>;
