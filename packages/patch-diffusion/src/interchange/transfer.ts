/**
 * `--transfer`: starting from other weights. Tensors are matched by name, and a network for whole images (EDM) is widened
 * to one that also sees coordinates. The coordinate channels come last and get zero weights, so that at first both are
 * the same function (Patch Diffusion, section 3: conditioning on position by two more input channels).
 */
import type { Module, Tensor } from '@patch-diffusion/torch';
import * as torch from '@patch-diffusion/torch';
import { UserError } from '../common/errors.js';
import { withoutSecrets } from '../common/secrets.js';
import type { FetchOptions } from '../formats/hub/download.js';
import { POSITION_CHANNELS } from '../patches/extent.js';
import { snapshotAt } from '../run/choose-snapshot.js';
import { loadAnySnapshot } from './load-snapshot.js';

/** Convolutions that see the network's input: the first one, and those of the auxiliary paths of NCSN++. */
const INPUT_CONVOLUTION = /^model\.enc\.\d+x\d+_(conv(\.0)?|aux_residual|aux_skip)\.weight$/;

/** Which tensors were copied, by name. */
interface TransferReport {
  /** Copied as they are. */
  readonly matched: readonly string[];
  /** Copied, with zero weights for the coordinate channels. */
  readonly widened: readonly string[];
  /** In the network but not in the source: freshly initialised. */
  readonly missing: readonly string[];
  /** In the source only. */
  readonly unused: readonly string[];
  /** In both with other shapes: freshly initialised. */
  readonly mismatched: readonly string[];
}

/**
 * Copies what fits from a network, ours or an official one, near or far.
 * @param from snapshot (file or address), or the folder of a run, whose newest one is taken
 * @throws UserError when it cannot be loaded, or nothing fits
 */
export async function transferWeights(
  target: Module,
  from: string,
  options: FetchOptions = {},
): Promise<TransferReport> {
  const { denoiser } = await loadAnySnapshot(await snapshotAt(from), options);
  try {
    const report = transferTensors(target, denoiser.stateDict());
    if (report.matched.length || report.widened.length) return report;
  } finally {
    denoiser.dispose();
  }
  throw new UserError(
    'NOTHING_TRANSFERRED',
    `no tensor of ${withoutSecrets(from)} fits this network; check --arch, --model-channels and --channel-mult`,
  );
}

/** Copies what fits from `source` into `target`. */
export function transferTensors(target: Module, source: ReadonlyMap<string, Tensor>): TransferReport {
  const widened = [...target.stateDict()]
    .filter(([name, t]) => needsWidening(name, t, source.get(name)))
    .map(([name]) => name);
  return torch.noGrad(() =>
    torch.scope(() => {
      const tensors = new Map(source);
      for (const name of widened) tensors.set(name, widen(source.get(name)!));
      const { matched, missing, unexpected, mismatched } = target.loadStateDict(tensors, { strict: false });
      return {
        matched: matched.filter((name) => !widened.includes(name)),
        widened,
        missing,
        unused: unexpected,
        mismatched,
      };
    }),
  );
}

function needsWidening(name: string, target: Tensor, source: Tensor | undefined): boolean {
  if (source === undefined || !INPUT_CONVOLUTION.test(name)) return false;
  const wanted = source.shape.map((dim, d) => (d === 1 ? dim + POSITION_CHANNELS : dim));
  return String(wanted) === String(target.shape);
}

/** [O, C, k, k] → [O, C + 2, k, k] */
function widen(weight: Tensor): Tensor {
  const [O, , kh, kw] = weight.shape as [number, number, number, number];
  const { dtype, device } = weight;
  return torch.cat([weight.detach(), torch.zeros([O, POSITION_CHANNELS, kh, kw], { dtype, device })], 1);
}

/** The report in one line. */
export function transferSummary(report: TransferReport, from: string): string {
  const { matched, widened, missing, unused, mismatched } = report;
  const counts: [readonly string[], string][] = [
    [widened, 'widened by the coordinate channels'],
    [missing, 'new'],
    [mismatched, 'of another shape (new)'],
    [unused, 'of the source not needed'],
  ];
  const parts = counts.filter(([names]) => names.length).map(([names, what]) => `${names.length} ${what}`);
  return `transferred ${[`${matched.length} tensors from ${from}`, ...parts].join(', ')}`;
}

/** One line per tensor that was not simply copied. */
export function transferDetails({ widened, missing, mismatched, unused }: TransferReport): string[] {
  const lists = { widened, new: missing, 'another shape': mismatched, 'not needed': unused };
  return Object.entries(lists).flatMap(([what, names]) => names.map((name) => `${what}: ${name}`));
}
