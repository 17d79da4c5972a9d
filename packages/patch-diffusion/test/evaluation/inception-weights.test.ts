/** Names of Inception's weights in NVIDIA's pickle. */
import { expect, it } from 'vitest';
import { nvidiaNames } from '../../src/evaluation/features/inception-detector.js';
import { Inception } from '../../src/networks/inception.js';

/** Units of a block as NVIDIA's programs name them. */
const UNITS: Record<string, string[]> = {
  A: [
    'conv',
    'tower.conv',
    'tower.conv_1',
    'tower_1.conv',
    'tower_1.conv_1',
    'tower_1.conv_2',
    'tower_2.conv',
  ],
  B: ['conv', 'tower.conv', 'tower.conv_1', 'tower.conv_2'],
  C: [
    ...['conv', 'tower.conv', 'tower.conv_1', 'tower.conv_2'],
    ...[
      'tower_1.conv',
      'tower_1.conv_1',
      'tower_1.conv_2',
      'tower_1.conv_3',
      'tower_1.conv_4',
      'tower_2.conv',
    ],
  ],
  D: ['tower.conv', 'tower.conv_1', 'tower_1.conv', 'tower_1.conv_1', 'tower_1.conv_2', 'tower_1.conv_3'],
  E: [
    ...['conv', 'tower_conv', 'tower_mixed_conv', 'tower_mixed_conv_1', 'tower_1_conv', 'tower_1_conv_1'],
    ...['tower_1_mixed_conv', 'tower_1_mixed_conv_1', 'tower_2_conv'],
  ],
};
const KINDS = [...'AAABCCCCDEE'];

it('fill every tensor but the scales of the batch norms, which NVIDIA leaves out', () => {
  const stem = ['conv', 'conv_1', 'conv_2', 'conv_3', 'conv_4'];
  const blocks = KINDS.flatMap((kind, k) => UNITS[kind].map((unit) => `mixed${k ? `_${k}` : ''}.${unit}`));
  const names = [...stem, ...blocks].flatMap((unit) =>
    ['weight', 'beta', 'mean', 'var'].map((tensor) => `layers.${unit}.${tensor}`),
  );
  const found = nvidiaNames([...names, 'output.weight'].map((name) => [name, name]));
  const network = new Inception();
  const own = [...network.stateDict().keys()].filter((name) => !name.endsWith('.bn.weight'));
  expect([...found.keys()].sort()).toEqual(own.sort());
  expect(new Set(found.values()).size).toBe(names.length);
  expect(found.get('Mixed_7b.branch3x3_2b.bn.running_mean')).toBe('layers.mixed_9.tower_mixed_conv_1.mean');
  network.dispose();
});
