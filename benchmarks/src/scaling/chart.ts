/** The chart of the simulation: images per second and rank against the number of ranks. */
import { parse, View } from 'vega';
import { compile, type TopLevelSpec } from 'vega-lite';
import type { Policy } from './simulate.js';

export interface Point {
  readonly policy: Policy;
  readonly ranks: number;
  /** Images per second of each rank, as a share of one rank alone. */
  readonly efficiency: number;
}

/** @returns an SVG file */
export async function scalingSvg(points: readonly Point[], title: string): Promise<string> {
  const spec: TopLevelSpec = {
    title,
    width: 560,
    height: 300,
    background: 'white',
    data: { values: [...points] },
    mark: { type: 'line', point: true },
    encoding: {
      x: {
        field: 'ranks',
        type: 'quantitative',
        scale: { type: 'log', base: 2 },
        axis: { title: 'ranks', values: points.map(({ ranks }) => ranks) },
      },
      y: {
        field: 'efficiency',
        type: 'quantitative',
        scale: { domain: [0, 1.05] },
        axis: { title: 'images/s per rank, one rank = 1', format: '.1f' },
      },
      color: { field: 'policy', type: 'nominal', legend: { title: 'patch sizes' } },
    },
  };
  return new View(parse(compile(spec).spec), { renderer: 'none' }).toSVG();
}
