import type { Tensor } from '@patch-diffusion/torch';
import * as torch from '@patch-diffusion/torch';
import { expect } from 'vitest';
import { networkFromOfficial } from '../../src/interchange/official-config.js';
import { createNetwork } from '../../src/networks/index.js';
import { type Formula, formulaTensor } from '../helpers/formula.js';
import { describeGolden, expectClose, onDevice, replay } from '../helpers/golden.js';

interface NetworkConfig {
  net: { class: string; kwargs: Record<string, unknown> };
  inputs: string[];
  grads?: Record<string, 'all' | 'none' | string[]>;
  num_params: number;
  buffers?: string[];
  train_tags?: string[];
  formula?: Formula;
}

describeGolden<NetworkConfig>('networks', ['network'], ({ config, tensor, has, group }) => {
  const net = onDevice(createNetwork(networkFromOfficial(config.net.class, config.net.kwargs)));
  expect(net.numParams()).toBe(config.num_params);
  if (config.buffers)
    expect([...net.namedBuffers()].map(([name]) => name).sort()).toEqual([...config.buffers].sort());
  const stored = group('param.');
  if (config.formula) {
    fillByFormula([...net.namedParameters()], config.formula);
    net.loadStateDict(stored, { strict: false });
    const parameters = new Map(net.namedParameters());
    for (const [name, first] of group('check.')) {
      expectClose(parameters.get(name)!.flatten().narrow(0, 0, first.numel), first, 1e-7, 0, `check.${name}`);
    }
  } else {
    net.loadStateDict(stored);
  }

  for (const tag of config.inputs) {
    const at = (kind: string, name: string) => `${kind}.${tag ? `${tag}.` : ''}${name}`;
    const optional = (name: string): Tensor | null => (has(at('in', name)) ? tensor(at('in', name)) : null);
    const wanted = config.grads?.[tag];
    const needsGrad = wanted === 'all' || (Array.isArray(wanted) && wanted.length > 0);
    net.train(config.train_tags?.includes(tag) ?? false);
    net.zeroGrad();
    torch.scope(() => {
      const x = tensor(at('in', 'x')).setRequiresGrad(needsGrad);
      const conditioning = {
        classLabels: optional('class_labels'),
        augmentLabels: optional('augment_labels'),
        random: replay(group(at('in', 'draw.'))),
      };
      const run = () => net.forward(x, tensor(at('in', 'noise_labels')), conditioning);
      const y = needsGrad ? run() : torch.noGrad(run);
      expectClose(y, tensor(at('out', 'y')), 2e-5, 0, at('out', 'y'));
      if (!needsGrad) return;
      y.mul(tensor(at('in', 'probe')))
        .sum()
        .backward();
      const parameters = new Map(net.namedParameters());
      for (const [name, expected] of group(at('grad', ''))) {
        // Without a tag of its own an input set sees those of the others, too.
        if (!/^(in|param)\./.test(name)) continue;
        const source = name === 'in.x' ? x : parameters.get(name.replace(/^param\./, ''));
        expect(source, `grad.${name}`).toBeDefined();
        const grad = source!.grad;
        // A parameter that takes no part in the result has no gradient here and zeros there.
        expectClose(grad ?? torch.zerosLike(expected), expected, 2e-4, 1e-6, `grad.${name}`);
      }
    });
  }
  net.dispose();
});

/** Weights that a formula gives, where storing them would be too large; j counts the sorted names. */
function fillByFormula(parameters: [string, Tensor][], formula: Formula): void {
  const sorted = [...parameters].sort(([a], [b]) => (a < b ? -1 : 1));
  torch.noGrad(() =>
    torch.scope(() => {
      for (const [j, [name, parameter]] of sorted.entries())
        parameter.copy_(formulaTensor(name, j, parameter.shape, formula));
    }),
  );
}
