/** Same work, checked: before anything is timed, the loss of given inputs and draws must be the same on both sides. */
import { join } from 'node:path';
import * as torch from '@patch-diffusion/torch';
import type { PatchSize } from 'patch-diffusion/method';
import { type Peer, settingsText } from './peer.js';
import type { ProbeBatch, TrainingStep } from './training-step.js';

/** Relative difference of the loss that only rounding explains; the gradient's norm may differ by ten times that. */
export const TOLERANCE = { float32: 1e-4, bfloat16: 1e-2, float16: 1e-2 } as const;

/** Inputs of a comparison, with the loss that our float32 network has for them. */
export interface LossProbe {
  readonly patch: PatchSize;
  readonly file: string;
  readonly batch: ProbeBatch;
  readonly expected: { loss: number; gradNorm: number };
}

/** Makes the inputs with our float32 network; to be disposed by {@link disposeProbes}. */
export async function makeProbes(float32: TrainingStep, folder: string): Promise<LossProbe[]> {
  const probes: LossProbe[] = [];
  for (const patch of float32.sizes) {
    const batch = float32.probe(patch);
    const file = join(folder, `probe-${patch.width}.safetensors`);
    await torch.writeSafetensors(file, Object.entries(batch));
    probes.push({ patch, file, batch, expected: float32.loss(batch) });
  }
  return probes;
}

export function disposeProbes(probes: readonly LossProbe[]): void {
  for (const { batch } of probes)
    for (const tensor of Object.values(batch) as torch.Tensor[]) tensor.dispose();
}

/** @throws Error if our network in another precision does not compute the same */
export function checkOurLoss(ours: TrainingStep, probes: readonly LossProbe[]): void {
  for (const probe of probes) check('ours', ours.dtype, probe, ours.loss(probe.batch));
}

/**
 * A compiled peer is checked at the smallest patch size only, and without its gradient: each size is compiled on its own,
 * and the loss is compared without dropout, which takes another compilation.
 * @throws Error if the peer does not compute the same
 */
export async function checkPeerLoss(peer: Peer, probes: readonly LossProbe[]): Promise<void> {
  const { bf16, compile } = peer.settings;
  for (const probe of compile ? probes.slice(0, 1) : probes) {
    const { loss, grad_norm: gradNorm } = await peer.loss(probe.file);
    check(settingsText(peer.settings), bf16 ? 'bfloat16' : 'float32', probe, { loss, gradNorm });
  }
}

/** Relative differences of a loss and of the norm of its gradient (0 where that is not known). */
export interface LossDifference {
  readonly loss: number;
  readonly gradNorm: number;
}

export function lossDifference(
  found: { loss: number; gradNorm: number | null },
  expected: LossProbe['expected'],
): LossDifference {
  const relative = (a: number, b: number): number => Math.abs(a - b) / Math.abs(b);
  return {
    loss: relative(found.loss, expected.loss),
    gradNorm: found.gradNorm === null ? 0 : relative(found.gradNorm, expected.gradNorm),
  };
}

/** Whether rounding explains a difference; false for NaN. */
export function isWithin(tolerance: number, { loss, gradNorm }: LossDifference): boolean {
  return loss < tolerance && gradNorm < tolerance * 10;
}

function check(
  who: string,
  dtype: keyof typeof TOLERANCE,
  { patch, expected }: LossProbe,
  found: { loss: number; gradNorm: number | null },
): void {
  if (isWithin(TOLERANCE[dtype], lossDifference(found, expected))) return;
  throw new Error(
    `${who} (${dtype}) and our float32 network differ at patch ${patch.width}: loss ${found.loss} and ${expected.loss}, ` +
      `gradient norm ${found.gradNorm} and ${expected.gradNorm}`,
  );
}
