/**
 * The power-function averages that a run with `--power-ema` stores beside its snapshots, in 16 bits, and networks made of
 * them afterwards with averages of any width.
 */
import { join } from 'node:path';
import type { SafetensorsFile, Tensor } from '@patch-diffusion/torch';
import * as torch from '@patch-diffusion/torch';
import { writeSafetensors } from '@patch-diffusion/torch';
import { makeFolder } from '@patch-diffusion/torch/make-folder';
import { z } from 'zod';
import { UserError, usageError } from '../common/errors.js';
import { guarded } from '../common/file-error.js';
import type { SnapshotChoice } from '../config/snapshot-choice.js';
import type { Denoiser } from '../diffusion/preconditioning.js';
import {
  checkContents,
  checkFields,
  checkFormatVersion,
  METADATA_KEY,
  readMetadata,
  readTensorHeader,
} from '../formats/file-description.js';
import { openTensorFile } from '../formats/tensor-file.js';
import { chooseSnapshot } from '../run/choose-snapshot.js';
import { fileStamp } from '../run/file-names.js';
import { AVERAGES_FOLDER, listAverages } from '../run/runs.js';
import type { SnapshotInfo } from '../run/snapshot-info.js';
import { type Combination, combineProfiles, powerGamma } from './power-function.js';
import { loadSnapshot, writeSnapshot } from './snapshot.js';

const FORMAT_VERSION = 1;

const infoSchema = z.looseObject({
  kind: z.literal('power-averages'),
  formatVersion: z.number(),
  nimg: z.number().min(0),
  /** Images by pixels. */
  time: z.number().positive(),
  widths: z.array(z.number().positive()).min(1),
});

/** Averages at one time of a run. */
export interface MomentaryAverages {
  readonly nimg: number;
  /** Images trained on, counted by pixels. */
  readonly time: number;
  /** By relative width: float32 tensors by name. */
  readonly averages: ReadonlyMap<number, ReadonlyMap<string, Tensor>>;
}

/** Writes the averages into the folder of a run; the file appears whole or not at all. */
export async function writeAverages(
  runDir: string,
  { nimg, time, averages }: MomentaryAverages,
): Promise<void> {
  const folder = join(runDir, AVERAGES_FOLDER);
  await guarded(`write to ${folder}`, async () => makeFolder(folder));
  const half = [...averages].flatMap(([width, tensors]) =>
    [...tensors].map(([name, tensor]) => [tensorName(width, name), tensor.to({ dtype: 'float16' })] as const),
  );
  const widths = [...averages.keys()];
  const info: z.infer<typeof infoSchema> = {
    ...{ kind: 'power-averages', formatVersion: FORMAT_VERSION, nimg, time, widths },
  };
  try {
    const file = join(folder, `power-averages-${fileStamp(nimg)}.safetensors`);
    await writeSafetensors(file, half, { [METADATA_KEY]: JSON.stringify(info) }, { checksum: true });
  } finally {
    for (const [, tensor] of half) tensor.dispose();
  }
}

const tensorName = (width: number, name: string) => `${width}.${name}`;

/** What a run has stored. */
interface StoredFile {
  readonly file: string;
  readonly nimg: number;
  readonly time: number;
  readonly widths: readonly number[];
}

function readInfo(file: string): StoredFile {
  const info = readMetadata(readTensorHeader(file), file);
  checkFormatVersion(info, FORMAT_VERSION, file);
  const { nimg, time, widths } = checkFields(infoSchema, info, `${file}: the description's field`);
  return { file, nimg, time, widths };
}

/** The averages of a run, oldest first. @throws UserError where there are none */
async function storedFiles(runDir: string): Promise<StoredFile[]> {
  const files = (await listAverages(runDir)).map(readInfo);
  if (files.length) return files;
  throw new UserError(
    'NO_AVERAGES',
    `${runDir} has no stored averages; they are kept by runs that were trained with --power-ema`,
  );
}

export interface Reconstruction extends Omit<Combination, 'coefficients'> {
  /** A snapshot in evaluation mode; the caller disposes it. */
  readonly denoiser: Denoiser;
  readonly info: SnapshotInfo;
  /** Files that it was made of. */
  readonly sources: number;
}

/**
 * Makes a network whose weights are averaged with a power function of relative width `width`.
 * @param nimg the end of the average, as the paper counts images; by default at the newest stored averages
 * @throws UserError where the run has no averages, or none that late
 */
export async function reconstruct(
  runDir: string,
  width: number,
  nimg: number | null = null,
): Promise<Reconstruction> {
  const files = await storedFiles(runDir);
  const newest = files[files.length - 1];
  const end = nimg === null ? newest : { nimg, time: timeAt(files, nimg) };
  const stored = files.flatMap(({ file, time, widths }) =>
    widths.map((own) => ({ file, width: own, time, gamma: powerGamma(own) })),
  );
  const wanted = { time: end.time, gamma: powerGamma(width) };
  const { coefficients, condition, fitError } = combineProfiles(stored, wanted);
  // Its parameters are replaced; description and constants are the snapshot's.
  const { denoiser, info } = await loadSnapshot(await chooseSnapshot({ run: runDir, network: null }));
  try {
    const parameters = new Map(denoiser.namedParameters());
    torch.noGrad(() => {
      for (const parameter of parameters.values()) parameter.zero_();
    });
    for (const source of files) {
      await checkContents(source.file);
      const reader = await openTensorFile(source.file);
      try {
        for (const [i, { file, width: own }] of stored.entries())
          if (file === source.file) addScaled(parameters, reader, own, coefficients[i]);
      } finally {
        await reader.close();
      }
    }
    return { denoiser, info: { ...info, nimg: end.nimg }, condition, fitError, sources: files.length };
  } catch (error) {
    denoiser.dispose();
    throw error;
  }
}

/** parameters ← parameters + factor · average */
function addScaled(
  parameters: ReadonlyMap<string, Tensor>,
  reader: SafetensorsFile,
  width: number,
  factor: number,
): void {
  torch.noGrad(() => {
    for (const [name, parameter] of parameters) {
      const stored = tensorName(width, name);
      if (!reader.has(stored))
        throw new UserError('BAD_AVERAGES', `${reader.path} has no ${stored}; it is of another network`);
      torch.scope(
        () => void parameter.add_(reader.tensor(stored).to({ dtype: 'float32' }), { alpha: factor }),
      );
    }
  });
}

/** Images by pixels at a number of images as the paper counts them. @throws UserError beyond the newest averages */
function timeAt(files: readonly StoredFile[], nimg: number): number {
  const next = files.findIndex((file) => file.nimg >= nimg);
  if (next < 0) {
    const last = files[files.length - 1].nimg / 1000;
    throw new UserError(
      'BEYOND_AVERAGES',
      `--kimg ${nimg / 1000}: the newest stored averages are of ${last} kimg, and nothing is known of what comes later`,
      { exitCode: 2 },
    );
  }
  const before = files[next - 1] ?? { nimg: 0, time: 0 };
  const { nimg: to, time } = files[next];
  return before.time + ((time - before.time) * (nimg - before.nimg)) / (to - before.nimg);
}

/**
 * The snapshot that options mean: of a run's newest one, or, with `ema`, one that is made of its stored averages and
 * kept beside them.
 * @throws UserError where there is none
 */
export async function snapshotFor(given: {
  readonly run: string | null;
  readonly network: string | null;
  readonly ema: number | null;
  readonly snapshot?: SnapshotChoice;
}): Promise<string> {
  const { run, network, ema, snapshot = 'newest' } = given;
  if (ema === null) return chooseSnapshot({ run, network, snapshot });
  if (snapshot !== 'newest')
    throw usageError('BAD_OPTION', `--snapshot ${snapshot} and --ema exclude each other; give one of them`);
  if (run === null)
    throw usageError('BAD_OPTION', `--ema ${ema} needs the averages of a run; name it with --run`);
  await chooseSnapshot({ run, network });
  const { denoiser, info } = await reconstruct(run, ema);
  try {
    const file = join(run, AVERAGES_FOLDER, `ema-${ema}-${fileStamp(info.nimg)}.safetensors`);
    await writeSnapshot(file, denoiser, info);
    return file;
  } finally {
    denoiser.dispose();
  }
}
