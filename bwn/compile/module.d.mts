/** Prefix of the names of all files. */
export declare const name: string;
/** Names of the classes. */
export declare const classes: readonly string[];
/** Shape of an input: channels, height and width of images. */
export declare const inputShape: readonly number[];
/** Shape of the scores of an input. */
export declare const outputShape: readonly number[];
/** Inputs per run. */
export declare const batch: number;

/** Rows of pixels from the top, of 1 (gray), 3 (red, green, blue) or 4 bytes (last one ignored). */
export interface Image {
  readonly data: Uint8Array | Uint8ClampedArray;
  readonly width: number;
  readonly height: number;
}

export interface Result {
  /** Probability of each class; they sum to 1. */
  readonly probabilities: Float32Array;
  /** Names of the classes, in the same order. */
  readonly classes: readonly string[];
}

/** A network with its own memory. It uses one thread; load one in each worker. */
export interface Model {
  /** Scores of a batch of inputs. */
  run(x: Float32Array): Float32Array;
  /** Probabilities of the scores of one input. Throws if a score is not finite. */
  probabilities(scores: Float32Array): Float32Array;
  /** Make an input from an image. Throws if the network takes no images. */
  prepare(image: Image): Float32Array;
  /** Classify an image, e.g. an ImageData. Throws if the network takes no images, or batches. */
  classify(image: Image): Result;
}

/** Load the network, by default from NAME.wasm next to the module. */
export declare function load(
  source?: string | URL | BufferSource | WebAssembly.Module,
): Promise<Model>;
