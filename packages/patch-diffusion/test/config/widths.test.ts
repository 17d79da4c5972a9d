/** Widths that the options accept are those that the networks can be built with and run. */
import * as torch from '@patch-diffusion/torch';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { resolveTrainOptions, validateAgainstData } from '../../src/config/resolve.js';
import { ARCHITECTURES, createNetwork } from '../../src/networks/index.js';

const data = { height: 16, width: 16, channels: 1, labelDim: 0 };

type Widths = {
  arch: keyof typeof ARCHITECTURES;
  modelChannels: number;
  channelMult: number[];
  side: number;
};

/** The message of the refusal, or null. */
function refusal({ side, ...network }: Widths): string | null {
  try {
    const call = { data: 'x', ...network, numBlocks: 1, attnResolutions: [side] };
    validateAgainstData(resolveTrainOptions({ call }), data);
    return null;
  } catch (error) {
    expect(error).toMatchObject({ name: 'UserError', exitCode: 2 });
    return (error as Error).message;
  }
}

function runs({ arch, modelChannels, channelMult, side }: Widths): boolean {
  const network = createNetwork({
    ...ARCHITECTURES[arch],
    ...{ imgResolution: 16, inChannels: 1, outChannels: 1, modelChannels, channelMult },
    ...{ numBlocks: 1, attnResolutions: [side] },
  });
  try {
    torch.noGrad(() => torch.scope(() => network.forward(torch.zeros([1, 1, 16, 16]), torch.zeros([1]))));
    return true;
  } catch {
    return false;
  } finally {
    network.dispose();
  }
}

const widths = fc.record({
  arch: fc.constantFrom('ddpmpp', 'ncsnpp', 'adm'),
  modelChannels: fc.integer({ min: 4, max: 150 }),
  channelMult: fc.array(fc.integer({ min: 1, max: 3 }), { minLength: 1, maxLength: 3 }),
  side: fc.constantFrom(4, 8, 16),
}) as fc.Arbitrary<Widths>;

describe('widths of a network', () => {
  it('are accepted where it runs, and refused with ones that are', () => {
    fc.assert(
      fc.property(widths, (options) => {
        const message = refusal(options);
        expect(message === null, `${JSON.stringify(options)}: ${message}`).toBe(runs(options));
        const better = /use --model-channels (\d+)(?: or (\d+))?$/.exec(message ?? '')?.slice(1) ?? [];
        if (message !== null) expect(better[0], message).toBeDefined();
        for (const text of better)
          if (text !== undefined) expect(refusal({ ...options, modelChannels: Number(text) })).toBeNull();
      }),
      { numRuns: 150, seed: 1 },
    );
  });

  it.each([
    ['ddpmpp', 48, [1, 2, 2], /144 channels do not make 32 equal groups.*; use --model-channels \d+ or 64$/],
    ['adm', 100, [2], /200 channels do not make/],
  ] as const)('%s of %i channels × %j is refused', (arch, modelChannels, channelMult, message) => {
    expect(refusal({ arch, modelChannels, channelMult: [...channelMult], side: 16 })).toMatch(message);
  });
});
