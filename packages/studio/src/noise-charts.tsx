/** Losses over the noise level, of the newest evaluation of each run. */
import { useMemo, useState } from 'preact/hooks';
import { Chart } from './chart';
import { colourOf, type Line, type Range, type ShownRun } from './curves';
import { figure } from './format';
import type { NoiseLosses } from './server';

const TRAINING_DASH = [6, 3];

export function NoiseCharts({ shown }: { readonly shown: readonly ShownRun[] }) {
  const [range, setRange] = useState<Range>(null);
  const lines = useMemo(() => shown.flatMap(linesOf), [shown]);
  const patches = useMemo(() => (shown.length === 1 ? patchLines(shown[0].series.noise) : []), [shown]);
  const chart = (title: string, some: readonly Line[]) =>
    some.length > 0 && (
      <Chart
        {...{ title, lines: some, range, x: 'sigma', logX: true, logY: true, smoothing: 0 }}
        onRange={setRange}
      />
    );
  return (
    <>
      {chart('Evaluation: loss by noise level', lines)}
      {chart('Evaluation: loss by noise level and patch side (px)', patches)}
    </>
  );
}

/** On the images that the loss is quoted for and, of a run alone, on training images. */
function linesOf({ run, colour, series: { noise } }: ShownRun, _: number, all: readonly ShownRun[]): Line[] {
  if (noise === null) return [];
  const { sigmas: xs, judged, training, isHeldOut, kimg } = noise;
  const at = `${figure(kimg)} kimg`;
  const what = isHeldOut ? 'held-out images' : 'training images';
  const line = {
    label: all.length === 1 ? `${what}, ${at}` : `${run.id}, ${at}`,
    colour,
    dash: [],
    xs,
    ys: judged,
  };
  if (training === null || all.length > 1) return [line];
  return [line, { ...line, label: `training images, ${at}`, dash: TRAINING_DASH, ys: training }];
}

function patchLines(noise: NoiseLosses | null): Line[] {
  const sizes = Object.entries(noise?.patches ?? {});
  if (noise === null || sizes.length === 0) return [];
  return [...sizes, ['whole images', noise.judged] as const].map(([label, ys], i) => ({
    ...{ label, ys, xs: noise.sigmas, colour: colourOf(i), dash: [] },
  }));
}
