/** Which of the recorded vectors travel: all kinds, but of the large networks only some. */
import { fileURLToPath } from 'node:url';

/** Files (without `.safetensors`) by folder; null: all of them. */
export const GOLDEN: Readonly<Record<string, readonly string[] | null>> = {
  layers: null,
  networks: [
    ...['song_ddpmpp', 'song_ncsnpp', 'song_ncsnpp_cond', 'song_patches', 'song_one_noise_label'],
    ...['song_label_dropout', 'song_residual_skip', 'adm_patches'],
  ],
  loss: null,
  precond: null,
  samplers: [
    ...['edm_coords', 'edm_cfg', 'edm_cfg_adm_latent', 'edm_mask_pos', 'ablation_extra'],
    ...['precond_iddpm', 'precond_vp', 'precond_edm', 'precond_ve', 't_steps', 'rng_and_output'],
  ],
  training: ['ddpmpp_64', 'ncsnpp_64_cond_augment'],
};

export const GOLDEN_FOLDERS: readonly string[] = Object.keys(GOLDEN);

/** A prepared set of images among the vectors, to train on. */
export const IMAGE_SET = 'dataset/classes_crop.zip';

/** Root of the unpacked archive (or of the repository). */
const ROOT = fileURLToPath(new URL('../../..', import.meta.url));

/** Where the archive has the vectors, and the tests that read them. */
export const PACKED = { golden: `${ROOT}golden`, tests: `${ROOT}golden-tests` } as const;
