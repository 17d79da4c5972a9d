/**
 * Starting from other weights: tensors go by name, and a network for whole images (EDM) is widened to one that also sees
 * coordinates. The coordinate channels come last and get zero weights, so that at first both are the same function
 * (Patch Diffusion, section 3: conditioning on position by two more input channels).
 */
import type { Module, Tensor } from '@patch-diffusion/torch';
import * as torch from '@patch-diffusion/torch';

/** Convolutions that see the network's input: the first one, and those of the auxiliary paths of NCSN++. */
const INPUT_CONVOLUTION = /^model\.enc\.\d+x\d+_(conv(\.0)?|aux_residual|aux_skip)\.weight$/;
const POSITION_CHANNELS = 2;

/** What came along, by tensor names. */
export interface TransferReport {
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

/** Copies what fits from `source` into `target`. */
export function transferTensors(target: Module, source: ReadonlyMap<string, Tensor>): TransferReport {
  const own = target.stateDict();
  const widened = [...own]
    .filter(([name, t]) => needsWidening(name, t, source.get(name)))
    .map(([name]) => name);
  return torch.noGrad(() =>
    torch.scope(() => {
      const tensors = new Map(source);
      for (const name of widened) tensors.set(name, widen(tensors.get(name)!));
      const { matched, missing, unexpected, mismatched } = target.loadStateDict(tensors, { strict: false });
      const isWidened = new Set(widened);
      return {
        matched: matched.filter((name) => !isWidened.has(name)),
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

/** The report in one line; with `names`, which tensors did not come along. */
export function transferSummary(report: TransferReport, from: string): string {
  const { matched, widened, missing, unused, mismatched } = report;
  const parts = [
    `${matched.length} tensors from ${from}`,
    ...(widened.length ? [`${widened.length} widened by the coordinate channels`] : []),
    ...(missing.length ? [`${missing.length} new`] : []),
    ...(mismatched.length ? [`${mismatched.length} of another shape (new)`] : []),
    ...(unused.length ? [`${unused.length} of the source not needed`] : []),
  ];
  return `transferred ${parts.join(', ')}`;
}

/** One line per tensor that was not simply copied. */
export function transferDetails({ widened, missing, mismatched, unused }: TransferReport): string[] {
  const lines = (what: string, names: readonly string[]) => names.map((name) => `${what}: ${name}`);
  return [
    ...lines('widened', widened),
    ...lines('new', missing),
    ...lines('another shape', mismatched),
    ...lines('not needed', unused),
  ];
}
