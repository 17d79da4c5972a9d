/** Patch sizes of a run, for people. */
import { type PatchSchedule, type PatchSize, sizesAt } from '../patches/schedule.js';

/**
 * `16×16 (20 %, 4× the batch), 32×32 (30 %, 2× the batch), 64×64 (50 %)`: how probable each size is; from the beginning to
 * the end of a run in which that changes, or the part of the run that a size has for itself.
 */
export function patchesText(schedule: PatchSchedule): string {
  if (schedule.name === 'progressive')
    return schedule.sizes.map((size) => sizeText(size, `${percent(size)} % of the run`)).join(', then ');
  const end = sizesAt(schedule, 1).map(percent);
  const texts = sizesAt(schedule, 0).map((size, i) => {
    const begin = percent(size);
    return sizeText(size, begin === end[i] ? `${begin} %` : `${begin} → ${end[i]} %`);
  });
  return texts.join(', ');
}

const percent = ({ probability }: PatchSize): number => Math.round(probability * 100);

function sizeText({ width, height, multiplier }: PatchSize, share: string): string {
  return `${width}×${height} (${share}${multiplier === 1 ? '' : `, ${multiplier}× the batch`})`;
}
