/** What the studio's server and its pages say to each other. Types only, so that both can be built from them. */

/** As `run.json` says; `killed`: it says running, but its process is gone; `damaged`: `run.json` cannot be read. */
export type RunState = 'running' | 'done' | 'interrupted' | 'failed' | 'killed' | 'damaged';

/** A run as the list shows it. Figures are null where nothing has been reported yet. */
export interface RunSummary {
  /** Name of the run's folder. */
  readonly id: string;
  readonly state: RunState;
  /** Why it failed, or what is wrong with its files. */
  readonly problem: string | null;
  readonly data: string;
  readonly preset: string;
  /** ISO 8601; empty for a damaged run. */
  readonly startedAt: string;
  readonly step: number;
  readonly kimg: number;
  readonly totalKimg: number;
  readonly loss: number | null;
  readonly heldOutLoss: number | null;
  readonly imagesPerSec: number | null;
  /** Time that it has trained. */
  readonly trainedSec: number | null;
  /** Time that is left; null unless it is running. */
  readonly etaSec: number | null;
  readonly sheets: number;
  readonly snapshots: number;
  /** Changes whenever one of the run's files does. */
  readonly revision: string;
}

/** What the server allows and shows. */
export interface StudioInfo {
  /** Folder whose runs are shown, as it was given. */
  readonly folder: string;
  readonly version: string;
  readonly allowGenerate: boolean;
  readonly allowTrain: boolean;
  /** Whether pages can draw by themselves: whether the package for that is installed. */
  readonly drawsInPage: boolean;
}

/** Addresses of a snapshot as an ONNX model. */
export interface PageModel {
  readonly model: string;
  /** For a network that was trained on latents. */
  readonly decoder: string | null;
}

/** What a snapshot draws. */
export interface SnapshotDetail {
  /** Names of the classes, or their numbers; null for a network without classes. */
  readonly classes: readonly string[] | null;
  readonly samplers: readonly string[];
}

/** What is to be drawn; values as on the command line of `generate`, where empty means its default. */
export interface DrawRequest {
  readonly run: string;
  readonly snapshot: string;
  readonly options: Readonly<Record<string, string>>;
}

/** A sheet that the server draws or has drawn. */
export interface Drawing extends DrawRequest {
  readonly id: number;
  readonly state: 'running' | 'done' | 'failed' | 'cancelled';
  /** Solver steps of all images that are done, 0 … 1. */
  readonly share: number;
  /** Why it failed. */
  readonly problem: string | null;
}

/** A message of the event stream: first `all` that there is, then `changes`. */
export interface RunsEvent {
  readonly changed: readonly RunSummary[];
  /** Ids of runs that are gone. */
  readonly removed: readonly string[];
  /** Why the folder cannot be read, or null. */
  readonly problem: string | null;
}

/** A quantity that curves are drawn over. */
export type XAxis = 'kimg' | 'step' | 'time' | 'clock';

/** Values by name, all of one length; null where there is none. */
export type Columns = Readonly<Record<string, readonly (number | null)[]>>;

/** Statistics of a run, thinned to some hundred lines. */
export interface Series {
  /** A column per key of `stats.jsonl`. */
  readonly columns: Columns;
  /** Whether lines were left out. */
  readonly thinned: boolean;
  /** Lines that could not be read. */
  readonly damaged: number;
}

/** Losses by noise level, of one evaluation. */
export interface NoiseLosses {
  readonly kimg: number;
  readonly sigmas: readonly number[];
  /** On the images that the loss is quoted for. */
  readonly judged: readonly number[];
  /** Whether those were held out of training. */
  readonly isHeldOut: boolean;
  /** On training images; null where they are the ones above. */
  readonly training: readonly number[] | null;
  /** On patches, by size in pixels. */
  readonly patches: Readonly<Record<string, readonly number[]>>;
}

/** What the curves of a run are drawn from. */
export interface RunSeries extends Series {
  /** Of the newest evaluation that measured them; null where none did. */
  readonly noise: NoiseLosses | null;
  /** Figures of `evaluate`, one value per evaluation. */
  readonly evaluations: Columns;
}

/** An option of a training, as a field of a form. */
export interface FormField {
  readonly key: string;
  /** As on the command line. */
  readonly name: string;
  readonly heading: string;
  readonly description: string;
  /** What a value may be, in words. */
  readonly allowed: string;
  /** Where only some words are possible; else null. */
  readonly choices: readonly string[] | null;
  /** Stands for the value that is taken when none is given. */
  readonly placeholder: string;
}

/** A training that was started from the page. */
export interface TrainingStart {
  readonly id: number;
  /** The run that was resumed, or the data of a new one. */
  readonly what: string;
  readonly state: 'running' | 'ended' | 'failed';
  readonly problem: string | null;
}

/** A file of a run whose name tells the images trained on. */
export interface StampedFile {
  readonly name: string;
  readonly kimg: number;
}

/** An option of a run. */
export interface OptionValue {
  readonly name: string;
  /** As on the command line. */
  readonly value: string;
  readonly heading: string;
  readonly description: string;
  /** Whether it is what the preset says. */
  readonly isDefault: boolean;
}

/** Everything of a run but its curves. */
export interface RunDetail {
  readonly id: string;
  /** Path of the folder, for commands. */
  readonly dir: string;
  readonly options: readonly OptionValue[];
  readonly sheets: readonly StampedFile[];
  /** Of nearest training images. */
  readonly nearest: readonly StampedFile[];
  readonly snapshots: readonly StampedFile[];
  /** Name of the snapshot with the lowest held-out loss; null where none was measured. */
  readonly best: string | null;
  /** Relative lengths that averages of this run can be made of; null where it stores none. */
  readonly emaLengths: { readonly min: number; readonly max: number } | null;
  /** The command that starts the same run again, and the folder to call it in. */
  readonly command: string;
  readonly workingFolder: string | null;
}

/** A size of images with how many have it. */
export interface SizeCount {
  readonly width: number;
  readonly height: number;
  readonly count: number;
}

/** A patch size of a run's schedule. */
export interface PatchShare {
  readonly width: number;
  readonly height: number;
  /** Share of the micro-batches that have it now, 0 … 1. */
  readonly probability: number;
}

/** A patch as a training would cut it now. */
export interface DrawnPatch {
  /** Number of the image, without mirrored copies. */
  readonly image: number;
  readonly name: string;
  /** Name or number of its class; null without classes. */
  readonly label: string | null;
  readonly isMirrored: boolean;
  /** Top-left pixel in the image as it is trained on, mirrored where it is. */
  readonly row: number;
  readonly col: number;
  readonly width: number;
  readonly height: number;
}

/** What a run trains on. */
export interface RunDataView {
  readonly path: string;
  /** Images in use, without mirrored copies and those held out. */
  readonly images: number;
  readonly heldOut: number;
  readonly hasMirrored: boolean;
  /** What every image becomes, in pixels. */
  readonly width: number;
  readonly height: number;
  readonly channels: number;
  /** Sizes of the files, the most frequent first. */
  readonly sizes: readonly SizeCount[];
  /** Null without classes. Those held out are counted as well. */
  readonly classes: readonly { readonly name: string; readonly count: number }[] | null;
  /** The first files that are not used, and why. */
  readonly skipped: readonly { readonly file: string; readonly reason: string }[];
  readonly skippedCount: number;
  readonly schedule: string;
  /** Share of the training that is done, 0 … 1. */
  readonly progress: number;
  readonly patchSizes: readonly PatchShare[];
  readonly seed: number;
  readonly patches: readonly DrawnPatch[];
}
