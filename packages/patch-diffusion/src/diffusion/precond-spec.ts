/** What a denoiser is, as plain data. Types only. */
import type { NetworkSpec } from '../networks/index.js';
import type { Extent } from '../patches/extent.js';

/** The constants of a preconditioner by its name; those left out are the usual ones (noise-levels.ts). */
type PrecondConstants =
  | {
      readonly type: 'vp';
      readonly betaD?: number;
      readonly betaMin?: number;
      readonly M?: number;
      readonly epsilonT?: number;
    }
  | { readonly type: 've'; readonly sigmaMin?: number; readonly sigmaMax?: number }
  | { readonly type: 'iddpm'; readonly C1?: number; readonly C2?: number; readonly M?: number }
  | {
      readonly type: 'edm' | 'pedm';
      readonly sigmaMin?: number;
      readonly sigmaMax?: number | null;
      readonly sigmaData?: number;
    };

/** A preconditioner with its network; plain JSON, embedded in every snapshot. */
export type PrecondSpec = PrecondConstants & {
  readonly network: NetworkSpec;
  /** Extent of the training images where it is not imgResolution². */
  readonly image?: Extent;
};
