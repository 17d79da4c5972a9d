/** The distances beside their definitions written in NumPy and SciPy, where python3 has them. */
import { spawnSync } from 'node:child_process';
import { expect, it } from 'vitest';
import { FeatureAccumulator, frechetDistance } from '../../src/evaluation/frechet.js';
import { kernelDistance } from '../../src/evaluation/kernel-distance.js';
import { neighbourhoods } from '../../src/evaluation/neighbours.js';
import { normalRows } from '../helpers/features.js';

/** Reads two sets of rows from the input, and prints the figures as JSON. Exit code 9 without the libraries. */
const PEER = `
import json, sys
try:
    import numpy as np
    from scipy.linalg import sqrtm
    from scipy.spatial.distance import cdist
except ImportError:
    sys.exit(9)
x, y = (np.array(rows) for rows in json.load(sys.stdin))
n, d = x.shape
m = len(y)
root = sqrtm(np.cov(x, rowvar=False) @ np.cov(y, rowvar=False)).real
mean = ((x.mean(0) - y.mean(0)) ** 2).sum()
fd = mean + np.trace(np.cov(x, rowvar=False) + np.cov(y, rowvar=False) - 2 * root)
k = lambda a, b: (a @ b.T / d + 1) ** 3
xx, yy = k(x, x), k(y, y)
kid = (xx.sum() - np.trace(xx)) / n / (n - 1) + (yy.sum() - np.trace(yy)) / m / (m - 1) - 2 * k(x, y).mean()
radius = lambda a: np.sort(cdist(a, a), axis=1)[:, 5]
cross, rx, ry = cdist(x, y), radius(x), radius(y)
in_x = cross <= rx[:, None]
in_y = cross <= ry[None, :]
print(json.dumps([fd, kid, in_x.any(0).mean(), in_y.any(1).mean(), in_x.sum(0).mean() / 5, in_x.any(1).mean()]))
`;

it('agree with SciPy', async (context) => {
  const [n, m, d] = [150, 120, 6];
  const [x, y] = [normalRows(n, d, 1), normalRows(m, d, 2).mul(1.5).add(0.4)];
  const rows = (values: Float64Array) =>
    Array.from({ length: values.length / d }, (_, i) => [...values.subarray(i * d, (i + 1) * d)]);
  const input = JSON.stringify([x, y].map((t) => rows(t.toTypedArray() as Float64Array)));
  const python = spawnSync('python3', ['-c', PEER], { input, encoding: 'utf8' });
  if (python.status !== 0) {
    expect(python.error ?? python.status, python.stderr).not.toBe(1);
    context.skip('python3 has no NumPy and SciPy to compare with');
  }
  const statistics = [x, y].map((features) => {
    const sum = new FeatureAccumulator(d);
    sum.add(features);
    return sum.statistics();
  });
  const mean = (values: Float64Array) => values.reduce((sum, v) => sum + v, 0) / values.length;
  const { precision, recall, density, coverage } = await neighbourhoods(x, y);
  const ours = [
    frechetDistance(statistics[0], statistics[1]),
    (await kernelDistance(y, x)).value,
    ...[precision, recall, density, coverage].map(mean),
  ];
  const theirs = JSON.parse(python.stdout) as number[];
  for (const [k, value] of theirs.entries()) expect(ours[k] / value).toBeCloseTo(1, 8);
});
