import { expect, it } from 'vitest';
import { resolveTrainOptions } from '../../src/config/resolve.js';
import type { PrecondSpec } from '../../src/diffusion/precond-spec.js';
import { precondSpec } from '../../src/training/model.js';
import { specDifference } from '../../src/training/spec-difference.js';

const shape = { height: 32, width: 32, channels: 3, labelDim: 0, latents: null, std: null };

function spec(call: object = {}, change: object = {}): PrecondSpec {
  const options = resolveTrainOptions({ call: { data: 'x', preset: 'tiny', cond: 'auto', ...call } });
  return precondSpec(options, { ...shape, ...change });
}

it('is none for the same network, whatever the order of its fields and with defaults written out', () => {
  const saved = spec();
  const reversed = (value: object) => Object.fromEntries(Object.entries(value).reverse());
  const other = { ...reversed({ ...saved, network: reversed(saved.network) }), sigmaData: 0.5 };
  const written = { ...other, image: { width: 32, height: 32 } };
  expect(JSON.stringify(written)).not.toBe(JSON.stringify(saved));
  expect(specDifference(written, saved)).toBeNull();
  const { labelDim: _, ...network } = saved.network;
  expect(specDifference({ ...saved, network: { ...network, implicitMlp: false } }, saved)).toBeNull();
});

it.each([
  [spec({ dropout: 0.1 }), 'dropout 0.1, not none (--dropout)'],
  [spec({ labelDropout: 0.2 }), 'labelDropout 0.2, not none (--label-dropout)'],
  [spec({ channelMult: [1, 2] }), 'channelMult 1,2, not 1,2,2 (--channel-mult)'],
  [spec({ sigmaData: 0.4 }), 'sigmaData 0.4, not 0.5 (--sigma-data)'],
  [spec({ precond: 'edm' }), 'type edm, not pedm (--precond)'],
  [spec({ arch: 'ncsnpp' }), 'embeddingType fourier, not positional (--arch)'],
  [spec({ augment: 0.1 }), 'augmentDim 9, not none (--augment)'],
  [spec({}, { labelDim: 3 }), 'labelDim 3, not none (--cond)'],
  [spec({}, { width: 64 }), 'width 64, not 32 (--resolution)'],
  [{ ...spec(), colour: 'red' }, 'colour red, not none'],
  [null, 'height none, not 32 (--resolution)'],
])('names the field and the option (%#)', (saved, text) => {
  expect(specDifference(saved, spec())).toBe(text);
});
