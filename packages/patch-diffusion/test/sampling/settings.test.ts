/** What `generate` draws with where it is not told. */
import { describe, expect, it } from 'vitest';
import { type GenerateOptionsInput, resolveGenerateOptions } from '../../src/config/generate-options.js';
import type { SnapshotInfo } from '../../src/run/snapshot-info.js';
import { samplerSettings } from '../../src/sampling/settings.js';

/** Sampler, steps and churn for a network whose training recorded `train`. */
function settings(train: object | null, given: GenerateOptionsInput = {}) {
  const options = resolveGenerateOptions({ call: { network: 'n', ...given } });
  const { sampler, numSteps, sChurn } = samplerSettings(options, { train } as SnapshotInfo);
  return [sampler, numSteps, sChurn];
}

describe('the sampler of generate', () => {
  const recorded = { sampler: 'dpmpp-2m-sde', sampleSteps: 15, sampleChurn: 0 };
  const older = { sampleSteps: 24, sampleChurn: 12 };

  it('is the recorded one, with its steps', () => {
    expect(settings(recorded)).toEqual(['dpmpp-2m-sde', 15, 0]);
    expect(settings(recorded, { steps: 30 })).toEqual(['dpmpp-2m-sde', 30, 0]);
  });

  it('is edm, with steps and churn, for runs that recorded no sampler', () => {
    expect(settings(older)).toEqual(['edm', 24, 12]);
  });

  it("is that of EDM's generator for other programs' networks", () => {
    expect(settings(null)).toEqual(['edm', 18, 0]);
  });

  it('leaves recorded steps and churn to the sampler that they were recorded for', () => {
    expect(settings(recorded, { sampler: 'edm' })).toEqual(['edm', 18, 0]);
    expect(settings(older, { sampler: 'dpmpp-2m' })).toEqual(['dpmpp-2m', 18, 0]);
  });

  it('is edm where churn is asked for that the recorded one does not have', () => {
    expect(settings(recorded, { sChurn: 12 })).toEqual(['edm', 18, 12]);
    expect(settings(recorded, { sChurn: 0 })).toEqual(['dpmpp-2m-sde', 15, 0]);
    expect(settings(older, { sChurn: 3 })).toEqual(['edm', 24, 3]);
  });
});
