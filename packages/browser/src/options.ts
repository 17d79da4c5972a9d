/** Options and results of the package. They name no types of other packages, which its users need not have. */

import type { PictureData } from './picture.js';

/** Where a model or a decoder comes from: an address, a file of the user's, or the bytes. */
export type ModelSource = string | URL | Blob | ArrayBuffer | Uint8Array;

/** What computes: WebGPU, or WebAssembly on the processor. */
export type Backend = 'webgpu' | 'wasm';

export interface LoadOptions {
  /** Default `auto`: WebGPU where there is a graphics adapter (software ones do not count), else WebAssembly. */
  readonly backend?: Backend | 'auto';
  /** Threads of WebAssembly. Default: as many as the processor has, at most 8; always 1 where the page is not isolated. */
  readonly threads?: number;
  /** The `…-decoder.onnx` of a model that was trained on latents. */
  readonly decoder?: ModelSource;
  /** Whether a worker computes, which keeps the page responsive, or a function that starts it. Default true. */
  readonly worker?: boolean | (() => Worker);
  /**
   * Folder of onnxruntime-web's `dist`, for pages that do not bundle it. Default: that of the installed package, or in
   * `@patch-diffusion/browser/web` the one that lies beside this package.
   */
  readonly runtimeUrl?: string | URL;
  /** Told how much of the model has arrived; `totalBytes` is null where the host does not say. */
  readonly onProgress?: (loadedBytes: number, totalBytes: number | null) => void;
  readonly signal?: AbortSignal;
}

/** A class number, or a label vector. */
export type Label = number | readonly number[];

/** Classifier-free guidance. */
export interface GuidanceSettings {
  /** 1 is none. */
  readonly scale: number;
  /** Guidance only at noise levels above the first and up to the second. By default at all. */
  readonly interval?: readonly [low: number, high: number] | null;
}

/** What is known of a model. */
export interface ModelInfo {
  /** Name of the data that it was trained on. */
  readonly name: string;
  /** What computes it. */
  readonly backend: Backend;
  /** Why it is not WebGPU where `auto` was asked for; null otherwise. */
  readonly fallbackReason: string | null;
  /** Threads of WebAssembly. */
  readonly threads: number;
  /** Size of the training images, in pixels of the pictures. */
  readonly width: number;
  readonly height: number;
  /** 1 (grey), 3 (RGB) or 4 (RGBA). */
  readonly channels: number;
  /** Both sides of a window are multiples of this. */
  readonly sizeMultiple: number;
  /** Number of classes, or of numbers in a label; 0 without. */
  readonly labelDim: number;
  readonly classNames: readonly string[] | null;
  /** What is drawn from where no class is given; null for all classes. */
  readonly labels: readonly Label[] | null;
  /** Solver steps where none are given. */
  readonly steps: number;
  /** Images, in thousands, that the network was trained on. */
  readonly kimg: number;
  readonly precision: 'fp32' | 'fp16' | 'int8';
  /** Text of the network's licence, where it was given at export. */
  readonly license: string | null;
}

/** The sampler, as the options of `patch-diffusion generate` with these names. */
export interface SamplerSettings {
  /** Default: as recorded with the network, or `edm` where `sChurn` is given and the recorded one has none. */
  readonly sampler?: 'edm' | 'dpmpp-2m' | 'dpmpp-2m-sde' | 'ect' | 'generalised';
  /** Solver steps. Default: as recorded with the network for this sampler, for another one 18 (`ect`: 2). */
  readonly steps?: number;
  readonly sigmaMin?: number;
  readonly sigmaMax?: number;
  readonly rho?: number;
  /** Stochasticity of `edm`. Default: as recorded with the network for this sampler, else 0. */
  readonly sChurn?: number;
  readonly sMin?: number;
  readonly sMax?: number;
  readonly sNoise?: number;
  /** Of `generalised`: which noise levels the steps visit. Default `edm`. */
  readonly discretization?: 'vp' | 've' | 'iddpm' | 'edm';
  /** Of `generalised`: σ(t). Default `linear`: σ = t. */
  readonly schedule?: 'vp' | 've' | 'linear';
  /** Of `generalised`: s(t). Default `none`: s = 1. */
  readonly scaling?: 'vp' | 'none';
  /** Of `generalised`: order of the solver. Default `heun`. */
  readonly solver?: 'euler' | 'heun';
}

/** What is sampled; plain data, so that a worker can get it. */
export interface SampleSettings extends SamplerSettings {
  /** One seed per picture: integers from 0 to 2⁵³ − 1. Default `[0]`. */
  readonly seeds?: readonly number[];
  /** Class of all pictures. By default one of the classes of the training images is drawn per seed. */
  readonly classIndex?: number | null;
  /** Label of all pictures, for networks trained on label vectors. */
  readonly label?: readonly number[] | null;
  /** Classifier-free guidance: its scale, or also the interval of noise levels it is limited to. */
  readonly guidance?: number | GuidanceSettings | null;
  /** Part of the image plane, in pixels; by default the whole image. Outside is extrapolation. */
  readonly window?: {
    readonly width: number;
    readonly height: number;
    /** Left and top edge; default 0. */
    readonly xStart?: number;
    readonly yStart?: number;
  };
  /** Whether `onStep` is given what the network takes the pictures for; of latents they must be decoded. Default false. */
  readonly estimates?: boolean;
  /** Pictures at a time; more need more memory, and report more rarely. Default 8. */
  readonly batch?: number;
}

/** Where a sampling is. */
export interface SampleProgress {
  /** What the network takes the pictures of the batch for, with `estimates`; else null. */
  readonly estimates: readonly PictureData[] | null;
  /** Solver steps of the current batch that are done. */
  readonly step: number;
  readonly numSteps: number;
  /** Pictures that are finished, of `total`. */
  readonly done: number;
  readonly total: number;
}
